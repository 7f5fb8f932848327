import type { Manager, Volume } from './state.ts';

/** Ticks are what asks at least: a turn that came between two of them must not be lost. */
const AT_ONCE_OF_A_SECOND = 0.2;

/** Turns that come at a rate; some of them at once after a time in which nobody took any. */
export class Turns {
  #left = 0;
  #atMs = -Infinity;

  has(nowMs: number, perSecond: number): boolean {
    this.#left = Math.min(perSecond * AT_ONCE_OF_A_SECOND, this.#left + (nowMs - this.#atMs) * perSecond / 1000);
    this.#atMs = nowMs;
    return this.#left >= 1;
  }

  take(): void { this.#left -= 1; }
}

const CHANGES_PER_SECOND = 15;
/** Where there are so many volumes that this would take longer, they go faster. */
const ALL_CHANGED_WITHIN_S = 30;

/**
 * Whether a volume that lost a copy's server is promoted, or lets a mirror go, now. One that somebody uses, or waits for, always does. After the loss of a
 * server with hundreds of copies the rest take turns: all at once they crowd the processors of every server, and what is in use stands still. Attaching one
 * is using it. Those without a primary do not wait behind those that have one.
 */
export function mayChangeNow(m: Manager, { record, waiters }: Volume, turns: Turns): boolean {
  if (record.attachments.length > 0 || record.configuration.learners.length > 0 || waiters.length > 0) return true;
  if (!turns.has(m.nowMs, Math.max(CHANGES_PER_SECOND, m.volumes.size / ALL_CHANGED_WITHIN_S))) return false;
  turns.take();
  return true;
}

const REBUILDS_PER_SECOND = 10;
const ALL_BEGUN_WITHIN_S = 100;

/** Copies that were begun together, with equal shares, end together: each begins with files that are made and synced, and that comes in waves then. */
export function mayBeginRebuild(m: Manager): boolean {
  return m.rebuildsBegun.has(m.nowMs, Math.max(REBUILDS_PER_SECOND, m.volumes.size / ALL_BEGUN_WITHIN_S));
}
