import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ActorLog } from '@ashlar/actor';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { ChildArgument } from './child-messages.ts';
import { ChildProcesses } from './child-processes.ts';

const log: ActorLog = { debug() {}, info() {}, warn() {}, error() {} };
const module = fileURLToPath(new URL('./testing/fake-child-main.ts', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'ashlar-children-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Ended { readonly name: string; readonly pid: number; readonly signal: string | null; readonly code: number | null }

let all: ChildProcesses | null = null;
afterEach(() => all?.stop());

function children(frozenKillAfterMs = 0, more: { readonly execPath?: string; readonly codeCache?: string; readonly log?: ActorLog } = {}): { readonly children: ChildProcesses; readonly started: { pid: number }[]; readonly ended: Ended[]; readonly next: () => Promise<void> } {
  const started: { pid: number }[] = [];
  const ended: Ended[] = [];
  const waiting: (() => void)[] = [];
  const happened = (): void => { for (const resolve of waiting.splice(0)) resolve(); };
  all = new ChildProcesses({
    module: () => module, log, frozenKillAfterMs, ...more,
    onStarted: (_name, pid) => { started.push({ pid }); happened(); },
    onEnded: (name, pid, signal, code) => { ended.push({ name, pid, signal, code }); happened(); },
    onRefused: () => happened(),
  });
  return { children: all, started, ended, next: () => new Promise((resolve) => { waiting.push(resolve); }) };
}

let count = 0;
const argument = (linkToken = ''): ChildArgument => ({
  name: `child-${++count}`, logFile: join(directory, `child-${count}`), linkToken, managerAddress: 'manager/manager', listen: null, connect: [], servers: [], hosts: [],
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie that its parent has not reaped yet is not alive.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('ChildProcesses', () => {
  it('has what children run compiled beforehand, or says that it could not', async () => {
    const codeCache = join(directory, 'code-cache');
    await children(0, { codeCache }).children.prepare();
    expect(readdirSync(codeCache, { recursive: true }).length).toBeGreaterThan(1);
    const warnings: string[] = [];
    await children(0, { codeCache, execPath: join(directory, 'missing'), log: { ...log, warn: (_detail, message) => { warnings.push(message); } } }).children.prepare();
    expect(warnings).toEqual([expect.stringContaining('could not be compiled beforehand')]);
  });

  it('starts again what was killed, after telling that it was reaped', async () => {
    const { children: processes, started, ended, next } = children();
    const spec = argument();
    await processes.start(spec);
    const first = processes.pid(spec.name) as number;
    process.kill(first, 'SIGKILL');
    while (started.length < 2) await next();
    expect(ended).toEqual([{ name: spec.name, pid: first, signal: 'SIGKILL', code: null }]);
    expect(processes.pid(spec.name)).not.toBe(first);
  });

  it('tries again what the kernel could not start', async () => {
    const execPath = join(directory, 'node-later');
    // Said before the next try is even planned.
    const { children: processes, started } = children(0, { execPath, log: { ...log, error: () => { if (!existsSync(execPath)) symlinkSync(process.execPath, execPath); } } });
    const spec = argument();
    await processes.start(spec);
    expect(started).toEqual([{ pid: processes.pid(spec.name) }]);
  });

  it('tells why a child refuses', async () => {
    const { children: processes } = children();
    await expect(processes.start(argument('refuse'))).rejects.toMatchObject({ code: 'directory-foreign', message: 'not mine' });
  });

  it('kills one that answers nothing for too long, and replaces it', async () => {
    const { children: processes, ended, next } = children(1000);
    const spec = argument('silent');
    await processes.start(spec);
    while (ended.length < 1) await next();
    expect(ended[0]).toMatchObject({ name: spec.name, signal: 'SIGKILL' });
  });

  it('leaves one down that is held, in order or by force, and starts it on demand', async () => {
    const { children: processes, ended, started } = children();
    const spec = argument();
    await processes.start(spec);
    await processes.hold(spec.name);
    expect(ended.at(-1)).toMatchObject({ code: 0, signal: null });
    expect(processes.pid(spec.name)).toBeNull();
    await processes.resume(spec.name);
    expect(started).toHaveLength(2);
    await processes.hold(spec.name, true);
    expect(ended.at(-1)).toMatchObject({ signal: 'SIGKILL' });
    expect(started).toHaveLength(2);
    await processes.resume(spec.name);
    expect(started).toHaveLength(3);
  });

  it('ends its children with itself, however that happens', async () => {
    const spec = argument();
    const script = `
      import { ChildProcesses } from ${JSON.stringify(new URL('./child-processes.ts', import.meta.url).href)};
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const nothing = () => {};
      const children = new ChildProcesses({ module: () => ${JSON.stringify(module)}, log, frozenKillAfterMs: 0, onStarted: nothing, onEnded: nothing, onRefused: nothing });
      await children.start(${JSON.stringify(spec)});
      process.kill(process.pid, 'SIGKILL');
    `;
    const parentModule = join(directory, 'parent.mjs');
    writeFileSync(parentModule, script);
    const parent = spawn(process.execPath, [parentModule], { stdio: ['ignore', 'ignore', 'inherit'] });
    await new Promise((resolve) => parent.once('exit', resolve));
    expect(existsSync(spec.logFile)).toBe(true);
    const pid = Number(readFileSync(spec.logFile, 'utf8').trim());
    await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
  });
});
