import { openSync, readSync } from 'node:fs';

/** Of this thread: each has modules of its own. -1: the kernel keeps none. */
let fd: number | null = null;
const buffer = Buffer.alloc(128);

/**
 * For how long this thread was ready to run and had no processor, since it began, in milliseconds: the second figure of its schedstat (Linux,
 * Documentation/scheduler/sched-stats), in nanoseconds there. Where the kernel keeps none it is always 0.
 */
export function threadWaitedMs(): number {
  fd ??= opened();
  if (fd < 0) return 0;
  const length = readSync(fd, buffer, 0, buffer.length, 0);
  return Number(buffer.toString('latin1', 0, length).split(' ')[1]) / 1e6;
}

function opened(): number {
  try {
    return openSync('/proc/thread-self/schedstat', 'r');
  } catch {
    return -1;
  }
}
