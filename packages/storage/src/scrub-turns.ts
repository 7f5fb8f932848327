import type { Prng, VolumeId } from '@ashlar/words';

/** Every copy is read and checked once in so long. A disk's latent errors are found before its mirror is needed: vendors advise one to four weeks. */
export const SCRUB_INTERVAL_MS = 14 * 24 * 3_600_000;

/** Whose turn it is to be scrubbed: one copy at a time, the one that waits longest. Times are wall clock, so that they mean something after a restart. */
export class ScrubTurns {
  readonly #intervalMs: number;
  readonly #prng: Prng;
  readonly #doneMs: Map<VolumeId, number>;

  constructor(intervalMs: number, prng: Prng, doneMs: ReadonlyMap<VolumeId, number>) {
    this.#intervalMs = intervalMs;
    this.#prng = prng;
    this.#doneMs = new Map(doneMs);
  }

  /** The copy that is due, of those that there are; null: none is. What was never seen gets a turn somewhere in the interval, or all would come at once. */
  next(nowMs: number, volumeIds: Iterable<VolumeId>): VolumeId | null {
    let longest: VolumeId | null = null;
    let sinceMs = nowMs - this.#intervalMs;
    for (const id of volumeIds) {
      let doneMs = this.#doneMs.get(id);
      // Nor is a clock that was set back to keep a copy from its turn.
      if (doneMs === undefined || doneMs > nowMs) {
        doneMs = nowMs - this.#prng.fraction() * this.#intervalMs;
        this.#doneMs.set(id, doneMs);
      }
      if (doneMs > sinceMs) continue;
      sinceMs = doneMs;
      longest = id;
    }
    return longest;
  }

  done(id: VolumeId, nowMs: number): void { this.#doneMs.set(id, nowMs); }
  forget(id: VolumeId): void { this.#doneMs.delete(id); }

  /** When each was last scrubbed, to be kept. */
  get record(): ReadonlyMap<VolumeId, number> { return this.#doneMs; }
}
