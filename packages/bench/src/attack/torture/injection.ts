import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

/** Calls that fail, and how. The store writes with `pwrite64` and `pwritev`, which no socket uses. */
export const DISK_FAULTS = {
  'full-disk': { calls: 'pwrite64,pwritev,pwritev2,fallocate,ftruncate', error: 'ENOSPC' },
  'failing-disk': { calls: 'fdatasync,fsync', error: 'EIO' },
} as const;
export type DiskFault = keyof typeof DISK_FAULTS;

const ATTACH_MS = 10_000;
const POLL_MS = 10;

/**
 * Lets these calls of a process fail, by strace, until one has and a while longer. Returns how many failed: 0 if it made none in time.
 */
export async function failCalls(pid: number, fault: DiskFault, { longestMs, afterFirstMs }: { readonly longestMs: number; readonly afterFirstMs: number }): Promise<number> {
  const { calls, error } = DISK_FAULTS[fault];
  const tracer = spawn('strace', ['-f', '-p', String(pid), '-e', `trace=${calls}`, '-e', `inject=${calls}:error=${error}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(tracer, 'exit');
  let failed = 0;
  let attached = false;
  createInterface({ input: tracer.stderr }).on('line', (line) => {
    if (line.includes('attached')) attached = true;
    if (line.includes('INJECTED')) failed++;
  });
  try {
    await until(() => attached || tracer.exitCode !== null, ATTACH_MS);
    await until(() => failed > 0 || tracer.exitCode !== null, longestMs);
    if (failed > 0) await delay(afterFirstMs);
  } finally {
    // SIGINT: it lets go of the process, which goes on.
    tracer.kill('SIGINT');
    await ended;
  }
  return failed;
}

async function until(condition: () => boolean, forMs: number): Promise<void> {
  const endMs = performance.now() + forMs;
  while (!condition() && performance.now() < endMs) await delay(POLL_MS);
}
