/** Shorter silences are not kept. */
const STALL_MS_MIN = 20;
/** The newest so many: what is asked for is a stretch that has just ended. */
const STALLS_MAX = 10_000;

/** A stretch in which requests were in flight and none was answered. Times as performance.now() gives them. */
export interface Stall {
  readonly fromMs: number;
  readonly lengthMs: number;
}

/** The client's view of pauses: how long nothing was answered while something could have been. */
export class StallLog {
  readonly #stalls: Stall[] = [];
  #inFlight = 0;
  /** Since when nothing has been answered while something is in flight. */
  #since = 0;
  #longestMs = 0;

  began(nowMs: number): void {
    if (this.#inFlight++ === 0) this.#since = nowMs;
  }

  ended(nowMs: number): void {
    this.#inFlight--;
    this.#note(nowMs);
    this.#since = nowMs;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get longestMs(): number {
    return this.#longestMs;
  }

  /** Longest stall that overlaps the stretch, one that still lasts included. */
  longestBetween(fromMs: number, toMs: number): number {
    let longest = this.#inFlight > 0 && this.#since < toMs ? Math.max(0, Math.min(toMs, performance.now()) - this.#since) : 0;
    for (const stall of this.#stalls) if (stall.fromMs < toMs && stall.fromMs + stall.lengthMs > fromMs) longest = Math.max(longest, stall.lengthMs);
    return longest;
  }

  get stalls(): readonly Stall[] {
    return this.#stalls;
  }

  #note(nowMs: number): void {
    const lengthMs = nowMs - this.#since;
    if (lengthMs > this.#longestMs) this.#longestMs = lengthMs;
    if (lengthMs < STALL_MS_MIN) return;
    this.#stalls.push({ fromMs: this.#since, lengthMs });
    if (this.#stalls.length > STALLS_MAX) this.#stalls.shift();
  }
}
