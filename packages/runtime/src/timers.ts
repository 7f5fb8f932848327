import { DELAY_BOUNDS, Histogram } from '@ashlar/figures';
import { assert } from '@ashlar/words';

/** setTimeout takes 31 bits of milliseconds and fires at once beyond them; what is later is looked at again then. */
const WAIT_MS_MAX = 2 ** 30;
/** Dead timers are cleared out when they are so many, and more than half. */
const DEAD_MIN = 256;

/** One timer of one actor; a moved or cleared one stays in the heap, dead, until its time. */
export interface Timer {
  readonly atMs: number;
  readonly fire: () => void;
  dead: boolean;
}

/** All timers of a thread behind one of Node's, because thousands of idle actors must cost nothing. */
export class Timers {
  #heap: Timer[] = [];
  #pushedSinceSweep = 0;
  /** How late the first of those that were due ran, in seconds: what the thread did instead. */
  readonly delay = new Histogram(DELAY_BOUNDS);
  readonly #nowMs: () => number;
  readonly #wake: (run: () => void) => void;
  #armed: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #armedAtMs = Infinity;

  /** `wake`: runs what is due, as the beginning of a turn. */
  constructor(nowMs: () => number, wake: (run: () => void) => void) {
    this.#nowMs = nowMs;
    this.#wake = wake;
  }

  set(atMs: number, fire: () => void): Timer {
    assert(!Number.isNaN(atMs), 'a timer has a time');
    const timer: Timer = { atMs, fire, dead: false };
    // One that is moved with every request would fill the heap with dead ones for as long as its time is ahead.
    if (++this.#pushedSinceSweep > DEAD_MIN + this.#heap.length / 2) this.#sweep();
    this.#push(timer);
    if (atMs < this.#armedAtMs) this.#arm();
    return timer;
  }

  /** How many are kept, dead ones included. */
  get size(): number { return this.#heap.length; }

  #sweep(): void {
    this.#pushedSinceSweep = 0;
    const alive = this.#heap.filter((timer) => !timer.dead);
    if (alive.length > this.#heap.length / 2) return;
    this.#heap = [];
    for (const timer of alive) this.#push(timer);
  }

  close(): void {
    this.#heap.length = 0;
    this.#disarm();
  }

  #arm(): void {
    this.#disarm();
    while (this.#heap[0]?.dead) this.#pop();
    const first = this.#heap[0];
    if (!first) return;
    this.#armedAtMs = first.atMs;
    const waitMs = first.atMs - this.#nowMs();
    // setTimeout waits for a millisecond at least; what is due now goes behind the sockets that are readable.
    this.#armed = waitMs <= 0 ? setImmediate(() => this.#run()) : setTimeout(() => this.#run(), Math.min(Math.ceil(waitMs), WAIT_MS_MAX));
  }

  #disarm(): void {
    if (this.#armed !== null) {
      clearTimeout(this.#armed as NodeJS.Timeout);
      clearImmediate(this.#armed as NodeJS.Immediate);
    }
    this.#armed = null;
    this.#armedAtMs = Infinity;
  }

  #run(): void {
    this.#armed = null;
    this.#armedAtMs = Infinity;
    const nowMs = this.#nowMs();
    const lateMs = nowMs - (this.#heap[0]?.atMs ?? nowMs);
    if (lateMs > 0) this.delay.record(lateMs / 1000);
    try {
      this.#wake(() => {
        for (let first = this.#heap[0]; first && (first.dead || first.atMs <= nowMs); first = this.#heap[0]) {
          this.#pop();
          if (!first.dead) first.fire();
        }
      });
    } finally {
      this.#arm();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(timer);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent] as Timer;
      if (above.atMs <= timer.atMs) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = timer;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as Timer).atMs < (heap[child] as Timer).atMs) child++;
      const below = heap[child] as Timer;
      if (below.atMs >= last.atMs) break;
      heap[i] = below;
      i = child;
    }
    heap[i] = last;
  }
}
