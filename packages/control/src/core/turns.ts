import type { Manager, Volume } from './state.ts';

/** Turns that come at a rate; some of them at once after a time in which nobody took any. */
export class Turns {
  #left = 0;
  #atMs = -Infinity;

  has(nowMs: number, perSecond: number, atOnce: number): boolean {
    this.#left = Math.min(atOnce, this.#left + (nowMs - this.#atMs) * perSecond / 1000);
    this.#atMs = nowMs;
    return this.#left >= 1;
  }

  take(): void { this.#left -= 1; }
}

const CHANGES_PER_SECOND = 25;
/** Where there are so many volumes that this would take longer, they go faster. */
const ALL_CHANGED_WITHIN_S = 20;
const CHANGES_AT_ONCE = 5;

/**
 * Whether a volume that lost a copy's server gets its next epoch now. One that somebody uses, or waits for, always does. After the loss of a server with
 * hundreds of copies the rest take turns: all at once they crowd the processors of every server, and what is in use stands still. Attaching one is using it.
 */
export function mayChangeNow(m: Manager, { record, waiters }: Volume): boolean {
  if (record.attachments.length > 0 || record.configuration.learners.length > 0 || waiters.length > 0) return true;
  if (!m.changes.has(m.nowMs, Math.max(CHANGES_PER_SECOND, m.volumes.size / ALL_CHANGED_WITHIN_S), CHANGES_AT_ONCE)) return false;
  m.changes.take();
  return true;
}

const REBUILDS_PER_SECOND = 10;
const ALL_BEGUN_WITHIN_S = 100;
const REBUILDS_AT_ONCE = 2;

/** Copies that were begun together, with equal shares, end together: each begins with files that are made and synced, and that comes in waves then. */
export function mayBeginRebuild(m: Manager): boolean {
  return m.rebuildsBegun.has(m.nowMs, Math.max(REBUILDS_PER_SECOND, m.volumes.size / ALL_BEGUN_WITHIN_S), REBUILDS_AT_ONCE);
}
