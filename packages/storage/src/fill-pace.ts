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
/** However crowded it is, a copy becomes whole. */
const RATE_MIN = 4 * MIB;
/** … and soon, when the volume is a failure away from losing data. */
const RATE_MIN_AT_RISK = 24 * MIB;
/** So much of what could not be sent in time is made up for: a timer comes late by less. */
const BURST_MS = 10;
/** Nothing was sent for so long: what was found out before counts no more. */
const FORGET_MS = 1000;
/** Copies that wait wake at different times, over no more than this. */
const SPREAD_MS = 20;
const GOLDEN = 0.618;

/**
 * How fast all copies of a server together fill others: as fast as the processors allow without requests being late. What a piece costs is spread over threads, kernel and
 * machines, and cannot be measured where it is sent; that the processors have no reserve left is seen by every thread (docs/adr/0022).
 */
export class FillPace {
  readonly #nowMs: () => number;
  readonly #waitedMs: () => number;
  #rate = RATE_START;
  /** When the next piece may be sent, by any copy … */
  #dueMs = -Infinity;
  /** … and by one of a volume at risk, which waits for its like alone, and leaves no debt to others where it is sent faster than they are. */
  #riskDueMs = -Infinity;
  #pieceMs = 0;
  #lookedMs = -Infinity;
  #waitedBefore = 0;
  #sentBytes = 0;
  /** Copies that asked for their turn since the last look, and how many did before it. */
  readonly #asking = new Set<number>();
  #copies = 0;
  #askers = 0;
  #turn = 0;

  /** `waitedMs`: for so long has this thread been ready to run without a processor. Always 0 where the kernel does not say. */
  constructor(nowMs: () => number, waitedMs: () => number) {
    this.#nowMs = nowMs;
    this.#waitedMs = waitedMs;
  }

  /** A number for a copy that fills. */
  newCopy(): number { return ++this.#copies; }

  /** `atRisk`: the volume has no second copy in sync. */
  mayFill(nowMs: number, atRisk: boolean): boolean { return nowMs >= this.#due(atRisk); }

  /** When that copy is to look again whether it may. Not all at one time: only one of them can be the next. */
  lookAgainMs(copy: number, atRisk: boolean): number {
    this.#asking.add(copy);
    const others = Math.max(this.#askers, this.#asking.size) - 1;
    this.#turn = (this.#turn + GOLDEN) % 1;
    return this.#due(atRisk) + this.#turn * Math.min(atRisk ? BURST_MS : SPREAD_MS, others * this.#pieceMs);
  }

  #due(atRisk: boolean): number { return atRisk ? this.#riskDueMs : this.#dueMs; }

  /** So many bytes were just sent. */
  filled(bytes: number, atRisk: boolean): void {
    const nowMs = this.#nowMs();
    this.#sentBytes += bytes;
    this.#look(nowMs);
    this.#pieceMs = (1000 * bytes) / this.#rate;
    if (!atRisk || this.#rate >= RATE_MIN_AT_RISK) this.#dueMs = Math.max(this.#dueMs, nowMs - BURST_MS) + this.#pieceMs;
    if (atRisk) this.#riskDueMs = Math.max(this.#riskDueMs, nowMs - BURST_MS) + (1000 * bytes) / Math.max(this.#rate, RATE_MIN_AT_RISK);
  }

  #look(nowMs: number): void {
    const tookMs = nowMs - this.#lookedMs;
    if (tookMs < LOOK_MS) return;
    const waitedMs = this.#waitedMs();
    const part = (waitedMs - this.#waitedBefore) / tookMs;
    // What is limited by something else says nothing about a higher rate.
    const limits = this.#sentBytes * 2000 >= this.#rate * tookMs;
    if (tookMs >= FORGET_MS) this.#rate = part > CROWDED ? Math.min(this.#rate, RATE_START) : RATE_START;
    else if (part > CROWDED) this.#rate = Math.max(RATE_MIN, this.#rate * SLOWER);
    else if (limits) this.#rate *= part > IDLE ? FASTER : FASTER_IDLE;
    this.#lookedMs = nowMs;
    this.#waitedBefore = waitedMs;
    this.#sentBytes = 0;
    this.#askers = this.#asking.size;
    this.#asking.clear();
  }
}
