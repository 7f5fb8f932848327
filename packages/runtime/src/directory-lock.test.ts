import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorCode } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectoryLock } from './directory-lock.ts';

let directory: string;
beforeEach(() => { directory = mkdtempSync(join(tmpdir(), 'ashlar-lock-')); });
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Another process that takes the lock and says so. */
async function holder(): Promise<ChildProcess> {
  const source = new URL('./directory-lock.ts', import.meta.url).href;
  const child = spawn(process.execPath, ['--input-type=module', '-e', `
    const { DirectoryLock } = await import(${JSON.stringify(source)});
    DirectoryLock.acquire(${JSON.stringify(directory)});
    console.log('held');
    setInterval(() => {}, 1000);
  `], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((done, failed) => {
    child.stdout?.once('data', () => done());
    child.once('exit', () => failed(new Error('the holder ended')));
  });
  return child;
}

function tryLock(path = directory): string {
  try {
    DirectoryLock.acquire(path).release();
    return 'got it';
  } catch (error) {
    return errorCode(error);
  }
}

describe('a directory lock', () => {
  test('has one holder, also within one process', () => {
    const lock = DirectoryLock.acquire(directory);
    expect(tryLock()).toBe('directory-locked');
    lock.release();
    lock.release();
    expect(tryLock()).toBe('got it');
  });

  test('makes the directory', () => {
    expect(tryLock(join(directory, 'a', 'b'))).toBe('got it');
  });

  test('says what is wrong where there can be none', () => {
    const path = join(directory, 'lock-is-a-directory');
    DirectoryLock.acquire(join(path, 'lock')).release();
    expect(tryLock(path)).toBe('io-error');
  });

  test('is kept by a frozen process and freed by a killed one', async () => {
    const child = await holder();
    expect(tryLock()).toBe('directory-locked');
    child.kill('SIGSTOP');
    expect(tryLock()).toBe('directory-locked');
    const ended = new Promise((done) => { child.once('exit', done); });
    child.kill('SIGKILL');
    await ended;
    expect(tryLock()).toBe('got it');
  });
});
