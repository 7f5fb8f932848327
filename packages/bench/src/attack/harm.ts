import { setTimeout as delay } from 'node:timers/promises';

export const WAYS = ['kill', 'freeze', 'kill-host', 'kill-several'] as const;
export type Way = (typeof WAYS)[number];

/** True if the process was there to take the signal. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Stops a process for a while, then lets it go on with all it was about to do. */
export async function freeze(pid: number, forMs: number): Promise<boolean> {
  if (!signal(pid, 'SIGSTOP')) return false;
  await delay(forMs);
  signal(pid, 'SIGCONT');
  return true;
}
