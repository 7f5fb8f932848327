import type { Prng } from '@ashlar/words';
import type { Network } from './network.ts';
import type { Process } from './process.ts';
import { EventKind, type Receiver, type Scheduler, type SimEvent } from './scheduler.ts';

/** Told to a process: its link to another one opened or closed. */
export type LinkNotice = (at: Process, about: Process, up: boolean) => void;

/** How long a stream that lost something goes on before both ends know. */
const LOSS_NOTICED_MS = 300;

/**
 * Streams between processes. What a stream carries arrives in order or the stream breaks; both ends learn of a break, at once when a
 * process ended, after a while when the line is silent, and open another stream when they can.
 */
export class Links implements Receiver {
  readonly name = 'links';
  readonly traceId = 200;
  readonly life = 1;
  readonly #up: boolean[];
  /** Ends of processes that the other side has not learned of. */
  readonly #unnoticed = new Set<number>();
  readonly #processes: readonly Process[];
  readonly #scheduler: Scheduler;
  readonly #network: Network;
  readonly #prng: Prng;
  readonly #notice: LinkNotice;

  constructor(processes: readonly Process[], scheduler: Scheduler, network: Network, prng: Prng, notice: LinkNotice) {
    this.#processes = processes;
    this.#up = processes.flatMap(() => processes.map(() => false));
    this.#scheduler = scheduler;
    this.#network = network;
    this.#prng = prng;
    this.#notice = notice;
    network.onLoss = (from, to, jitter) => this.#after(jitter * LOSS_NOTICED_MS, () => this.reset(from, to));
  }

  held(): boolean { return false; }
  defer(event: SimEvent): void { this.#scheduler.again(event, this.#scheduler.nowMs); }
  handle(event: SimEvent): void { (event.message as { readonly run: () => void }).run(); }

  isUp(a: Process, b: Process): boolean { return this.#up[a.index * this.#processes.length + b.index]; }

  processStarted(process: Process): void {
    for (const other of this.#processes) if (other !== process) this.#connectSoon(process, other, 1);
  }

  /** `silent`: no stream was closed in order, the machine is just gone. */
  processEnded(process: Process, silent: boolean): void {
    for (const other of this.#processes) {
      if (other === process || !this.isUp(process, other)) continue;
      this.#set(process, other, false);
      this.#network.endStream(process, other);
      this.#unnoticed.add(this.#key(other, process));
      this.#after(silent ? 300 + this.#prng.fraction() * 2500 : this.#prng.fraction() * 3, () => this.#noticeEnd(other, process));
    }
  }

  /** A new stream from a process tells that the old one is over, too. */
  #noticeEnd(other: Process, ended: Process): void {
    if (this.#unnoticed.delete(this.#key(other, ended)) && other.up) this.#notice(other, ended, false);
  }

  #key(a: Process, b: Process): number { return a.index * this.#processes.length + b.index; }

  /** Nothing passes from one to the other until then. Keepalives notice it after a while, if it lasts. */
  cut(from: Process, to: Process, forMs: number): void {
    this.#network.cut(from, to, this.#scheduler.nowMs + forMs);
    this.#after(400 + this.#prng.fraction() * 2000, () => { if (this.#network.isCut(from, to)) this.#break(from, to); });
    // What was lost meanwhile broke the stream, whether noticed before or not.
    this.#after(forMs, () => {
      this.#break(from, to);
      this.#connectSoon(from, to, 5);
    });
  }

  /** The stream breaks, and another is opened soon. */
  reset(a: Process, b: Process): void {
    this.#break(a, b);
    this.#connectSoon(a, b, 20);
  }

  #break(a: Process, b: Process): void {
    if (!this.isUp(a, b)) return;
    this.#set(a, b, false);
    this.#network.endStream(a, b);
    if (a.up) this.#notice(a, b, false);
    if (b.up) this.#notice(b, a, false);
  }

  #connectSoon(a: Process, b: Process, withinMs: number): void {
    this.#after(0.2 + this.#prng.fraction() * withinMs, () => this.#connect(a, b));
  }

  #connect(a: Process, b: Process): void {
    if (!a.up || !b.up || this.isUp(a, b)) return;
    if (this.#network.isCut(a, b) || this.#network.isCut(b, a)) return;
    this.#noticeEnd(a, b);
    this.#noticeEnd(b, a);
    this.#set(a, b, true);
    this.#notice(a, b, true);
    this.#notice(b, a, true);
  }

  #set(a: Process, b: Process, up: boolean): void {
    const size = this.#processes.length;
    this.#up[a.index * size + b.index] = up;
    this.#up[b.index * size + a.index] = up;
  }

  /** Every cut ends now. */
  heal(): void {
    this.#network.heal();
    for (const a of this.#processes) for (const b of this.#processes) if (a.index < b.index) this.#connectSoon(a, b, 5);
  }

  #after(delayMs: number, run: () => void): void {
    this.#scheduler.at(this.#scheduler.nowMs + delayMs, EventKind.completion, this, { run });
  }
}
