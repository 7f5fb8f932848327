import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export interface ServerProcess {
  readonly pid: number;
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;

/** Starts a server and waits until its unix socket takes connections. */
export async function startServer(command: string, args: readonly string[], socket: string, env: Readonly<Record<string, string>> = {}): Promise<ServerProcess> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => { errors = (errors + text).slice(-8000); });
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${command} ended with ${code ?? 'a signal'} before it was ready: ${errors.trim()}`)));
  });
  // Stopping it later is an exit, too; nobody waits for this promise then.
  failed.catch(() => undefined);
  await Promise.race([untilConnectable(socket), failed]);
  return { pid: child.pid as number, stop: () => endProcess(child) };
}

async function untilConnectable(socket: string): Promise<void> {
  const giveUpAt = performance.now() + READY_TIMEOUT_MS;
  while (!(existsSync(socket) && (await connectable(socket)))) {
    if (performance.now() > giveUpAt) throw new Error(`nothing listens on ${socket}`);
    await delay(20);
  }
}

function connectable(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}

/** Asks a process to end; kills it if it does not. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}
