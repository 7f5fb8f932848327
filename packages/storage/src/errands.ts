import type { ServerId } from '@ashlar/words';

/** A piece of what a copy that catches up is sent. It is left out if it is no longer `wanted`: by another role, or another answer of that copy. */
interface Errand {
  readonly to: ServerId;
  /** A piece of the journal: of those, what is asked for later takes the place of what waits. */
  readonly history: boolean;
  readonly wanted: () => boolean;
  readonly run: () => void;
}

/**
 * While there are requests, so many times as long as it took is left to them after each. With twice, a rebuild ran at 112 % of the rate of writing, and a
 * load of another volume at half of what is possible got half of that (2 cores); 50 % is what a rebuild is to have.
 */
const REST = 5;

/** What copies that catch up are sent: one piece a step, so that requests do not wait behind all of it. */
export class Errands {
  readonly #nowMs: () => number;
  readonly #traffic: () => number;
  #waiting: Errand[] = [];
  #trafficSeen = 0;
  /** When the next one is due. */
  dueMs = 0;
  /** What is added meanwhile waits for the next step, which comes in any case. */
  running = false;

  /** `traffic`: requests and records that the server was sent so far. */
  constructor(nowMs: () => number, traffic: () => number) {
    this.#nowMs = nowMs;
    this.#traffic = traffic;
  }

  get any(): boolean { return this.#waiting.length > 0; }

  add(errand: Errand): void {
    if (errand.history) this.#waiting = this.#waiting.filter(({ history, to }) => !history || to !== errand.to);
    this.#waiting.push(errand);
  }

  /** Runs the next one that is still wanted, if it is time. */
  step(): void {
    const beganMs = this.#nowMs();
    if (beganMs < this.dueMs) return;
    let next = this.#waiting.shift();
    while (next && !next.wanted()) next = this.#waiting.shift();
    if (!next) return;
    this.running = true;
    try {
      next.run();
    } finally {
      this.running = false;
    }
    const endedMs = this.#nowMs();
    const traffic = this.#traffic();
    this.dueMs = traffic === this.#trafficSeen ? endedMs : endedMs + REST * (endedMs - beganMs);
    this.#trafficSeen = traffic;
  }
}
