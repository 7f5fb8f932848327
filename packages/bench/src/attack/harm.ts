import { setTimeout as delay } from 'node:timers/promises';
import type { Prng } from '@ashlar/words';

/** What is done to processes. */
const SINGLE_WAYS = ['kill', 'freeze', 'kill-host', 'kill-several'] as const;
export type SingleWay = (typeof SINGLE_WAYS)[number];

/** `mixed`: another one each time. */
export const WAYS = [...SINGLE_WAYS, 'mixed'] as const;
export type Way = (typeof WAYS)[number];

export function wayOf(way: Way, prng: Prng): SingleWay {
  return way === 'mixed' ? (SINGLE_WAYS[prng.below(SINGLE_WAYS.length)] as SingleWay) : way;
}

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
