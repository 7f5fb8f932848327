import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { isJournal, journalLine } from './log.ts';

let directory: string;
beforeEach(() => { directory = mkdtempSync(join(tmpdir(), 'ashlar-log-')); });
afterEach(() => { rmSync(directory, { recursive: true }); });

/** In a process of its own, because lines are written when it ends. */
function run(file: string, body: string): { readonly exit: number; readonly stderr: string } {
  const script = `import { createLog, isJournal, journalLine } from ${JSON.stringify(new URL('./log.ts', import.meta.url).href)};\nconst log = createLog({ name: 'server-1', file: ${JSON.stringify(file)} });\n${body}`;
  try {
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    return { exit: 0, stderr: '' };
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: Buffer };
    return { exit: status, stderr: stderr.toString() };
  }
}

test('lines are JSON with the name, the request\'s id and the whole error; secrets are masked; only the owner reads them', () => {
  const file = join(directory, 'deep', 'server.log');
  run(file, `
    log.info({ requestId: 7, token: 'S3CRET', peer: { password: 'S3CRET', headers: { authorization: 'S3CRET' } } }, 'a link');
    log.debug({}, 'not at this level');
    log.error({ error: Object.assign(new Error('no room', { cause: new Error('ENOSPC') }), { code: 'no-space' }) }, 'failed');`);
  const text = readFileSync(file, 'utf8');
  expect(text).not.toContain('S3CRET');
  const lines = text.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatchObject({ name: 'server-1', requestId: 7, msg: 'a link', token: '[redacted]', peer: { password: '[redacted]', headers: { authorization: '[redacted]' } } });
  expect(lines[1]).toMatchObject({ msg: 'failed', error: { message: 'no room', code: 'no-space', cause: { message: 'ENOSPC' } } });
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test('a full disk does not end the process', () => {
  const { exit, stderr } = run('/dev/full', `
    for (let i = 0; i < 100; i++) log.info({ i }, 'x'.repeat(1000));
    setTimeout(() => { log.info({}, 'still here'); setTimeout(() => process.exit(42), 20); }, 20);`);
  expect(exit).toBe(42);
  expect(stderr.split('\n').filter((line) => line.includes('the log cannot be written'))).toHaveLength(1);
});

describe('the log under systemd', () => {
  it('goes to the journal where standard error does, and nowhere else', () => {
    const stat = (): { dev: number; ino: number } => ({ dev: 9, ino: 1234 });
    expect(isJournal({ JOURNAL_STREAM: '9:1234' }, stat)).toBe(true);
    // Inherited from a service by a program whose output was sent elsewhere.
    expect(isJournal({ JOURNAL_STREAM: '9:1235' }, stat)).toBe(false);
    expect(isJournal({}, stat)).toBe(false);
  });

  it('has levels that the journal knows', () => {
    expect([20, 30, 40, 50].map((level) => journalLine(`{"level":${level},"msg":"x"}\n`).slice(0, 3))).toEqual(['<7>', '<6>', '<4>', '<3>']);
  });
});
