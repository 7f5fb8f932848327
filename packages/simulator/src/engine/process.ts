import type { Scheduler, SimEvent } from './scheduler.ts';

/**
 * One machine: a monotonic clock of its own, which may run a little fast or slow and begins anywhere, and power that
 * may fail. What its disk loses then is the disk's business.
 */
export class Machine {
  readonly name: string;
  /** Changes when the machine restarts. */
  bootId = 1;
  /** Seconds of this machine in one second of the world. */
  rate = 1;
  #origin: number;
  #sinceMs = 0;

  constructor(name: string, originMs: number) {
    this.name = name;
    this.#origin = originMs;
  }

  /** This machine's monotonic clock at a time of the world. */
  clock(worldMs: number): number {
    return this.#origin + (worldMs - this.#sinceMs) * this.rate;
  }

  /** When, in the world's time, this machine's clock will show `clockMs`. */
  worldAt(clockMs: number): number {
    return this.#sinceMs + (clockMs - this.#origin) / this.rate;
  }

  changeRate(worldMs: number, rate: number): void {
    this.#origin = this.clock(worldMs);
    this.#sinceMs = worldMs;
    this.rate = rate;
  }

  restart(worldMs: number, originMs: number): void {
    this.bootId++;
    this.#origin = originMs;
    this.#sinceMs = worldMs;
  }
}

/** An operating system process: what it holds in memory ends with its life. */
export class Process {
  readonly name: string;
  readonly index: number;
  readonly machine: Machine;
  life = 1;
  up = false;
  frozenUntilMs = 0;
  /** Its one thread is inside a call until then (a slow disk). */
  busyUntilMs = 0;
  /** Freeze it between what its next message decides and what that sends. */
  freezeNextMs = 0;
  readonly #scheduler: Scheduler;

  constructor(name: string, index: number, machine: Machine, scheduler: Scheduler) {
    this.name = name;
    this.index = index;
    this.machine = machine;
    this.#scheduler = scheduler;
  }

  get nowMs(): number {
    return this.machine.clock(this.#scheduler.nowMs);
  }

  /** Nothing runs here now: frozen, or busy. */
  held(nowMs: number): boolean {
    return this.frozenUntilMs > nowMs || this.busyUntilMs > nowMs;
  }

  defer(event: SimEvent): void {
    this.#scheduler.again(event, Math.max(this.frozenUntilMs, this.busyUntilMs));
  }

  /** When what it sends now leaves it: a freeze or a slow call in the middle of a turn holds it back. */
  get departsMs(): number {
    return Math.max(this.#scheduler.nowMs, this.frozenUntilMs, this.busyUntilMs);
  }

  freeze(untilMs: number): void {
    this.frozenUntilMs = Math.max(this.frozenUntilMs, untilMs);
  }

  busy(durationMs: number): void {
    this.busyUntilMs = Math.max(this.busyUntilMs, this.#scheduler.nowMs) + durationMs;
  }

  end(): void {
    this.life++;
    this.up = false;
    this.frozenUntilMs = 0;
    this.busyUntilMs = 0;
    this.freezeNextMs = 0;
  }
}
