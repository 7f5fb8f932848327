import { Frame } from '@ashlar/protocol';
import type { Prng } from '@ashlar/words';
import type { Process } from './process.ts';
import { EventKind, type Receiver, type Scheduler, type SimEvent } from './scheduler.ts';

/** How a link treats what it carries. Rates are per message. */
export interface LinkFaults {
  drop: number;
  duplicate: number;
  /** Share of messages that overtake others. Without it a link keeps their order, as a stream does. */
  reorder: number;
  /** Share of messages that take up to `delayMs` longer; in order, so they hold up what follows. */
  delay: number;
  delayMs: number;
}

/** One direction between two processes. */
export interface Link {
  /** Nothing passes until then: it is lost, as when a stream breaks. */
  cutUntilMs: number;
  lastArrivalMs: number;
  /** What was under way when a stream broke does not arrive. */
  life: number;
}

export interface NetworkCounts {
  sent: number;
  dropped: number;
  duplicated: number;
  reordered: number;
  delayed: number;
  cut: number;
}

/** Carries messages between processes. Each direction of each pair is a link of its own, so cuts may be one-way. */
export class Network {
  readonly faults: LinkFaults = { drop: 0, duplicate: 0, reorder: 0, delay: 0, delayMs: 0 };
  readonly counts: NetworkCounts = { sent: 0, dropped: 0, duplicated: 0, reordered: 0, delayed: 0, cut: 0 };
  readonly #links: Link[] = [];
  readonly #size: number;
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  latencyMs = 0.08;
  onLoss: (from: Process, to: Process, jitter: number) => void = () => undefined;

  constructor(scheduler: Scheduler, prng: Prng, processes: number) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#size = processes;
    for (let i = 0; i < processes * processes; i++) this.#links.push({ cutUntilMs: 0, lastArrivalMs: 0, life: 1 });
  }

  /** From one actor to another. Within a process nothing is lost, and order is kept. */
  send(from: Process, fromName: string, toProcess: Process, to: Receiver, message: unknown, faulty = true): void {
    const departs = from.departsMs;
    if (from === toProcess) {
      this.#scheduler.at(departs, EventKind.message, to, message, fromName);
      return;
    }
    const link = this.#links[from.index * this.#size + toProcess.index];
    this.counts.sent++;
    // Always two draws for a message, so that switching a kind of fault off does not shift what happens to the next one.
    const fate = this.#prng.fraction();
    const jitter = this.#prng.fraction();
    if (link.cutUntilMs > departs) {
      this.counts.cut++;
      return;
    }
    const { faults } = this;
    if (faulty && fate < faults.drop) {
      // A stream that loses something breaks, and both ends learn it in a while.
      this.counts.dropped++;
      this.onLoss(from, toProcess, jitter);
      return;
    }
    const travelled = copyOf(message);
    const arrives = this.#arrival(link, departs, faulty ? fate : 1, jitter);
    carry(this.#scheduler.at(arrives, EventKind.message, to, travelled, fromName), link);
    if (faulty && fate > 1 - faults.duplicate) {
      this.counts.duplicated++;
      carry(this.#scheduler.at(arrives + jitter * 30, EventKind.message, to, copyOf(message), fromName), link);
    }
  }

  #arrival(link: Link, departs: number, fate: number, jitter: number): number {
    const { faults } = this;
    let arrives = departs + this.latencyMs * (0.5 + jitter);
    let at = faults.drop;
    if (fate >= at && fate < at + faults.reorder) {
      this.counts.reordered++;
      return arrives + jitter * 20;
    }
    at += faults.reorder;
    if (fate >= at && fate < at + faults.delay) {
      this.counts.delayed++;
      arrives += jitter * faults.delayMs;
    }
    if (arrives <= link.lastArrivalMs) arrives = link.lastArrivalMs;
    link.lastArrivalMs = arrives;
    return arrives;
  }

  cut(from: Process, to: Process, untilMs: number): void {
    const link = this.#links[from.index * this.#size + to.index];
    link.cutUntilMs = Math.max(link.cutUntilMs, untilMs);
  }

  endStream(a: Process, b: Process): void {
    this.#links[a.index * this.#size + b.index].life++;
    this.#links[b.index * this.#size + a.index].life++;
  }

  isCut(from: Process, to: Process): boolean {
    return this.#links[from.index * this.#size + to.index].cutUntilMs > this.#scheduler.nowMs;
  }

  /** Ends every cut and every fault: the world is kind from now on. */
  heal(): void {
    for (const link of this.#links) link.cutUntilMs = 0;
    Object.assign(this.faults, { drop: 0, duplicate: 0, reorder: 0, delay: 0 });
  }
}

function carry(event: SimEvent, link: Link): void {
  event.link = link;
  event.linkLife = link.life;
}

/** What arrives is a copy, as from any wire: the sender goes on to use its buffers. */
function copyOf(message: unknown): unknown {
  if (message === null || typeof message !== 'object') return message;
  let copy: Record<string, unknown> | undefined;
  const fields = message as Record<string, unknown>;
  for (const name in fields) {
    const value = fields[name];
    if (typeof value !== 'object' || value === null) continue;
    if (value instanceof Frame) {
      copy ??= { ...fields };
      copy[name] = new Frame(value.head.slice(), value.payload.slice());
    } else if (value instanceof Uint8Array) {
      copy ??= { ...fields };
      copy[name] = value.slice();
    } else if ('kind' in value) {
      const inner = copyOf(value);
      if (inner === value) continue;
      copy ??= { ...fields };
      copy[name] = inner;
    }
  }
  return copy ?? message;
}
