import type { MissedAs } from '@ashlar/replication';

/** How often it is looked at. What it waits for takes a few syncs of a disk. */
export const HANDOVER_LOOK_MS = 20;
/** What copies were given is synced before anybody is told, for no longer than this: whoever stops a server waits. */
export const SYNC_MS_MAX = 1000;
/** A mirror asks again after so long: its primary may have been busy with another change, or be another one now. */
const ASK_MS = 200;
/** Nothing has changed for so long: nobody can take over, or nobody hears us. What is left is then found by its absence, as after a crash. */
const PATIENCE_MS = 3000;
/** With thousands of copies; a supervisor waits for the end of its process for 25 s. */
const HANDOVER_MS_MAX = 15_000;

/** One copy of a server that is about to end. */
export interface HandedCopy {
  missedAs(): MissedAs | null;
  /** Asks its primary to be let go. */
  retire(): void;
}

/**
 * The orderly end of a storage server, before it closes its copies: the system manager, told that the server leaves, makes others primaries, which are given its
 * leases back; its mirrors are let go by their primaries. Programs then wait for nobody. Only says when that is done, or in vain: it decides nothing.
 */
export class HandOver {
  readonly #startedMs: number;
  #left = Infinity;
  #changedMs: number;
  #askedMs = -Infinity;

  constructor(nowMs: number) {
    this.#startedMs = nowMs;
    this.#changedMs = nowMs;
  }

  /** True: there is nothing to wait for any more. */
  look(nowMs: number, copies: Iterable<HandedCopy>): boolean {
    const asks = nowMs - this.#askedMs >= ASK_MS;
    if (asks) this.#askedMs = nowMs;
    let left = 0;
    for (const copy of copies) {
      const as = copy.missedAs();
      // One that led is a mirror for a moment.
      left += as === 'primary' ? 2 : as === 'mirror' ? 1 : 0;
      if (as === 'mirror' && asks) copy.retire();
    }
    if (left < this.#left) {
      this.#left = left;
      this.#changedMs = nowMs;
    }
    return left === 0 || nowMs - this.#changedMs >= PATIENCE_MS || nowMs - this.#startedMs >= HANDOVER_MS_MAX;
  }
}
