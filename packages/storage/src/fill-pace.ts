const MIB = 2 ** 20;
/** How often it is looked at how the thread fares. Shorter than that the kernel's figures jump. */
const LOOK_MS = 100;
/**
 * Part of the time for which a thread that could run has no processor. On two cores that are half busy with requests it is a sixth, with their programs on the
 * same machine; when they have no reserve left, and requests become late, it is half.
 */
const CROWDED = 0.32;
/** Small steps near that point: twice as large ones had requests wait behind each wave of fills. */
const SLOWER = 0.88;
const FASTER = 1.05;
/** … and large ones where nobody is in the way. */
const IDLE = 0.05;
const FASTER_IDLE = 1.5;
const RATE_START = 8 * MIB;
const RATE_MAX = 4096 * MIB;
/** However crowded it is, a copy becomes whole. */
const RATE_MIN = 4 * MIB;
/** … and soon, when the volume is a failure away from losing data. */
const RATE_MIN_AT_RISK = 24 * MIB;
/** So much of what could not be sent in time is made up for: a timer comes late by less. */
const BURST_MS = 10;

/**
 * How fast all copies of a server together fill others: as fast as the processors allow without requests being late. What a piece costs is spread over threads, kernel and
 * machines, and cannot be measured where it is sent; that the processors have no reserve left is seen by every thread.
 */
export class FillPace {
  readonly #nowMs: () => number;
  readonly #waitedMs: () => number;
  #rate = RATE_START;
  #dueMs = -Infinity;
  #lookedMs = -Infinity;
  #waitedBefore = 0;

  /** `waitedMs`: for so long has this thread been ready to run without a processor. Always 0 where the kernel does not say. */
  constructor(nowMs: () => number, waitedMs: () => number) {
    this.#nowMs = nowMs;
    this.#waitedMs = waitedMs;
  }

  /** When the next piece may be sent. */
  get dueMs(): number { return this.#dueMs; }

  /** So many bytes were just sent. `atRisk`: the volume has no second copy in sync. */
  filled(bytes: number, atRisk: boolean): void {
    const nowMs = this.#nowMs();
    this.#look(nowMs);
    const rate = Math.max(this.#rate, atRisk ? RATE_MIN_AT_RISK : RATE_MIN);
    this.#dueMs = Math.max(this.#dueMs, nowMs - BURST_MS) + (1000 * bytes) / rate;
  }

  #look(nowMs: number): void {
    const tookMs = nowMs - this.#lookedMs;
    if (tookMs < LOOK_MS) return;
    const waitedMs = this.#waitedMs();
    const part = (waitedMs - this.#waitedBefore) / tookMs;
    this.#lookedMs = nowMs;
    this.#waitedBefore = waitedMs;
    const factor = part > CROWDED ? SLOWER : part > IDLE ? FASTER : FASTER_IDLE;
    this.#rate = Math.min(RATE_MAX, Math.max(RATE_MIN, this.#rate * factor));
  }
}
