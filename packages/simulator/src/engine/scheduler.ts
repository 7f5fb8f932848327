import { assert } from '@ashlar/words';

/** What an event is, for the counts and the trace. */
export const EventKind = { message: 1, timer: 2, completion: 3, client: 4, fault: 5 } as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** Whoever an event is for. An event whose `life` is not the receiver's any more reaches nobody. */
export interface Receiver {
  readonly name: string;
  /** Small number that names the receiver in the trace. */
  readonly traceId: number;
  /** Changes when the process or the actor starts anew. */
  readonly life: number;
  /** True while nothing reaches it; the event is then given to `defer`. */
  held(nowMs: number): boolean;
  defer(event: SimEvent): void;
  handle(event: SimEvent): void;
}

export interface SimEvent {
  atMs: number;
  /** Breaks ties: events of one instant happen in the order in which they were scheduled. */
  order: number;
  kind: EventKind;
  to: Receiver;
  life: number;
  /** It came while its receiver was held. */
  heldBack: boolean;
  from: string;
  message: unknown;
  /** The stream that carries it, and that stream's life when it was sent. */
  link: StreamLife | null;
  linkLife: number;
}

export interface StreamLife {
  readonly life: number;
}

/**
 * The event queue: virtual time jumps from event to event, so that idle time costs nothing.
 * A binary heap on (atMs, order).
 */
export class Scheduler {
  nowMs = 0;
  #order = 0;
  #heap: SimEvent[] = [];

  get pending(): number {
    return this.#heap.length;
  }

  at(atMs: number, kind: EventKind, to: Receiver, message: unknown, from = ''): SimEvent {
    const event: SimEvent = { atMs: atMs < this.nowMs ? this.nowMs : atMs, order: this.#order++, kind, to, life: to.life, heldBack: false, from, message, link: null, linkLife: 0 };
    this.#push(event);
    return event;
  }

  /** Puts an event that is held back into the queue again, behind what came before it: also when its receiver is held for longer than was known then. */
  again(event: SimEvent, atMs: number): void {
    event.atMs = atMs < this.nowMs ? this.nowMs : atMs;
    if (!event.heldBack) event.order = this.#order++;
    event.heldBack = true;
    this.#push(event);
  }

  /** The next event, with the clock moved to it; undefined when nothing is pending or the next is due after `untilMs`. */
  next(untilMs: number): SimEvent | undefined {
    const heap = this.#heap;
    if (heap.length === 0 || heap[0].atMs > untilMs) return undefined;
    const first = heap[0];
    const last = heap.pop() as SimEvent;
    if (heap.length > 0) this.#sink(last);
    assert(first.atMs >= this.nowMs, 'virtual time never goes back');
    this.nowMs = first.atMs;
    return first;
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up];
      if (!before(event, parent)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = event;
  }

  #sink(event: SimEvent): void {
    const heap = this.#heap;
    const size = heap.length;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= size) break;
      if (down + 1 < size && before(heap[down + 1], heap[down])) down++;
      if (!before(heap[down], event)) break;
      heap[at] = heap[down];
      at = down;
    }
    heap[at] = event;
  }
}

function before(a: SimEvent, b: SimEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
