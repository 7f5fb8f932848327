import { Fifo } from './fifo.ts';
import type { Flight } from './flight.ts';
import type { RateLimit } from './rate-limit.ts';

/**
 * Everything that is unanswered, in the order in which it was submitted: on its way in the present session, then waiting for a session (or for
 * room in the link), then held back by the rate limit.
 */
export class Outbox {
  /** By frame number; in the order of sending. */
  readonly inFlight = new Map<number, Flight>();
  #queue = new Fifo<Flight>();
  readonly #held = new Fifo<Flight>();

  get idle(): boolean { return this.inFlight.size === 0 && this.#queue.length === 0 && this.#held.length === 0; }
  get queued(): number { return this.#queue.length; }
  get held(): number { return this.#held.length; }
  get first(): Flight | undefined { return this.#queue.first; }

  push(flight: Flight): void { this.#queue.push(flight); }
  shift(): void { this.#queue.shift(); }

  /** The session is over: what was on its way comes first in the next one. */
  recall(): void {
    if (this.inFlight.size === 0) return;
    this.#queue = new Fifo([...this.inFlight.values(), ...this.#queue]);
    this.inFlight.clear();
  }

  /** It has more to send, one after the other. */
  recallOne(number: number, flight: Flight): void {
    this.inFlight.delete(number);
    this.#queue = new Fifo([flight, ...this.#queue]);
  }

  hold(flight: Flight): void { this.#held.push(flight); }

  /** The next that the rate limit lets through now, or how long it must wait. */
  release(rate: RateLimit | null, nowMs: number): Flight | number {
    const next = this.#held.first;
    if (next === undefined) return 0;
    const waitMs = rate?.waitMs(nowMs) ?? 0;
    if (waitMs > 0) return waitMs;
    this.#held.shift();
    rate?.spend(next.count, next.bytes());
    return next;
  }

  /** Takes out what began before this time. Starts are in the order of the lists. */
  *takeOlder(untilMs: number): Generator<Flight> {
    for (const [number, flight] of this.inFlight) {
      if (flight.startMs > untilMs) return;
      this.inFlight.delete(number);
      yield flight;
    }
    for (let next = this.#queue.first; next !== undefined && next.startMs <= untilMs; next = this.#queue.first) {
      this.#queue.shift();
      yield next;
    }
  }

  takeAll(): Flight[] {
    const all = [...this.inFlight.values(), ...this.#queue, ...this.#held];
    this.inFlight.clear();
    this.#queue = new Fifo();
    while (this.#held.shift() !== undefined);
    return all;
  }
}
