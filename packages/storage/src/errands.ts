import type { ServerId } from '@ashlar/words';
import type { FillPace } from './fill-pace.ts';

/** A piece of what a copy that catches up is sent. It is left out if it is no longer `wanted`: by another role, or another answer of that copy. */
interface Errand {
  readonly to: ServerId;
  /** A piece of the journal: of those, what is asked for later takes the place of what waits. */
  readonly history: boolean;
  readonly wanted: () => boolean;
  /** Waits for room at that copy; those behind it may go first until then. */
  readonly fills: boolean;
  readonly run: () => void;
}

/**
 * While there are requests, so many times as long as it took is left to them after each. With two or three, a load of another volume at half of what is
 * possible falls behind while a copy is rebuilt (2 cores).
 */
const REST = 5;
/** A volume with one copy in sync is a failure away from losing data: with 5, comparing 4 GiB beside a load at full rate took up to a minute. */
const REST_AT_RISK = 1;

/** So much of what could not be sent in time is made up for: a timer comes late by less. */
const FILL_BURST_MS = 100;

/** What copies that catch up are sent: one piece a step, so that requests do not wait behind all of it. */
export class Errands {
  readonly #nowMs: () => number;
  readonly #traffic: () => number;
  readonly #roomFor: (to: ServerId) => boolean;
  readonly #pace: FillPace;
  readonly #turnOf: number;
  #waiting: Errand[] = [];
  #trafficSeen = 0;
  /** What is left to requests ends then. */
  #restMs = 0;
  /** What fills may take, bytes a second; 0: no limit. */
  #fillRate = 0;
  #fillsDueMs = -Infinity;
  /** What is added meanwhile waits for the next step, which comes in any case. */
  running = false;

  /** `traffic`: requests and records that the server was sent so far. `roomFor`: whether one more fill may be on its way to that copy. `pace`: of all fills of the server. */
  constructor(nowMs: () => number, traffic: () => number, roomFor: (to: ServerId) => boolean, pace: FillPace) {
    this.#nowMs = nowMs;
    this.#traffic = traffic;
    this.#roomFor = roomFor;
    this.#pace = pace;
    this.#turnOf = pace.newCopy();
  }

  /** Whether there is one that waits for nothing but its time. */
  get any(): boolean { return this.#next(true) >= 0; }

  /** When the next one is to be looked for. `atRisk`: the volume has no second copy in sync. */
  dueMs(atRisk: boolean): number {
    const fillsOnly = this.#waiting.every(({ fills }) => fills);
    return fillsOnly ? Math.max(this.#restMs, this.#fillsDueMs, this.#pace.lookAgainMs(this.#turnOf, atRisk)) : this.#restMs;
  }

  /** Said again and again while it fills: what was sent before is still paid for, at the new rate. Nothing was saved up before: many that begin would take more than all of it. */
  limitFills(bytesPerSecond: number): void {
    const owedBytes = this.#fillRate * Math.max(0, this.#fillsDueMs - this.#nowMs());
    this.#fillRate = bytesPerSecond;
    this.#fillsDueMs = bytesPerSecond > 0 ? this.#nowMs() + owedBytes / bytesPerSecond : -Infinity;
  }

  /** So many bytes were just sent as fills. */
  filled(bytes: number, atRisk: boolean): void {
    this.#pace.filled(bytes, atRisk);
    if (this.#fillRate > 0) this.#fillsDueMs = Math.max(this.#fillsDueMs, this.#nowMs() - FILL_BURST_MS) + (1000 * bytes) / this.#fillRate;
  }

  #next(fillsToo: boolean): number {
    const room = new Map<ServerId, boolean>();
    return this.#waiting.findIndex(({ fills, to }) => {
      if (!fills) return true;
      if (!fillsToo) return false;
      const known = room.get(to) ?? this.#roomFor(to);
      room.set(to, known);
      return known;
    });
  }

  add(errand: Errand): void {
    if (errand.history) this.#waiting = this.#waiting.filter(({ history, to }) => !history || to !== errand.to);
    this.#waiting.push(errand);
  }

  /** Runs the next one that is still wanted, if it is time. `atRisk`: the volume has no second copy in sync. */
  step(atRisk: boolean): void {
    const beganMs = this.#nowMs();
    if (beganMs < this.#restMs) return;
    this.#waiting = this.#waiting.filter(({ wanted }) => wanted());
    const at = this.#next(beganMs >= this.#fillsDueMs && this.#pace.mayFill(beganMs, atRisk));
    if (at < 0) return;
    const [next] = this.#waiting.splice(at, 1) as [Errand];
    this.running = true;
    try {
      next.run();
    } finally {
      this.running = false;
    }
    const endedMs = this.#nowMs();
    const traffic = this.#traffic();
    this.#restMs = traffic === this.#trafficSeen ? endedMs : endedMs + (atRisk ? REST_AT_RISK : REST) * (endedMs - beganMs);
    this.#trafficSeen = traffic;
  }
}
