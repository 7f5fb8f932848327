import type {
  Actor, ActorContext, ActorLog, ActorSpec, Address, ChildSpec, Message, Party, SendOutcome, Signal, SpawnOutcome, TurnStage,
} from '@ashlar/actor';
import { MAILBOX_MAX } from '@ashlar/actor';
import type { Timer } from './timers.ts';

/** What a cell asks of the runtime that hosts it. */
export interface CellHost {
  readonly log: ActorLog;
  nowMs(): number;
  route(to: Address, from: Address, message: Message): SendOutcome;
  setTimer(atMs: number, fire: () => void): Timer;
  deliver(cell: Cell, message: Message | Signal, from: Address): void;
  atTurnEnd(stage: TurnStage, callback: () => void): void;
  monitor(cell: Cell, address: Address): void;
  watch(cell: Cell, party: Party): void;
  spawn(cell: Cell, spec: ChildSpec): SpawnOutcome;
  stopSibling(cell: Cell, id: string): void;
  crashed(cell: Cell, error: unknown): void;
}

/** One life of an actor. A restart makes another; what was sent to the former is gone with it. */
export class Cell implements ActorContext {
  readonly spec: ActorSpec;
  readonly self: Address;
  readonly path: string;
  readonly mailboxMax: number;
  /** Who is told of its end: a life of an actor here, or the address of one elsewhere; each once, however often it asks. */
  readonly monitors = new Map<Cell | Address, (reason: 'stopped' | 'crashed') => void>();
  readonly watched = new Set<Party>();
  /** Of whose end it is to be told: forgotten with it. */
  readonly monitored = new Set<Address>();
  readonly #host: CellHost;
  readonly #timers = new Map<string, Timer>();
  actor: Actor | null = null;
  alive = true;
  queued = 0;
  received = 0;
  /** Set while the actor is being made: a crash then is a start that failed. */
  crashedAtStart: ((error: unknown) => void) | null = null;
  /** Set while an orderly stop waits for I/O. */
  onStopped: (() => void) | null = null;

  constructor(spec: ActorSpec, path: string, host: CellHost) {
    this.spec = spec;
    this.self = spec.address;
    this.path = path;
    this.mailboxMax = spec.mailboxMax ?? MAILBOX_MAX;
    this.#host = host;
  }

  get log(): ActorLog { return this.#host.log; }
  nowMs(): number { return this.#host.nowMs(); }
  send(to: Address, message: Message): SendOutcome { return this.alive ? this.#host.route(to, this.self, message) : 'unreachable'; }

  setTimer(name: string, atMs: number): void {
    if (!this.alive) return;
    this.clearTimer(name);
    this.#timers.set(name, this.#host.setTimer(atMs, () => {
      this.#timers.delete(name);
      this.#host.deliver(this, { kind: 'timer', name }, '-/kernel');
    }));
  }

  clearTimer(name: string): void {
    const timer = this.#timers.get(name);
    if (!timer) return;
    timer.dead = true;
    this.#timers.delete(name);
  }

  monitor(address: Address): void { if (this.alive) this.#host.monitor(this, address); }
  watch(party: Party): void { if (this.alive) this.#host.watch(this, party); }
  spawn(spec: ChildSpec): SpawnOutcome { return this.alive ? this.#host.spawn(this, spec) : 'failed'; }
  stopChild(id: string): void { if (this.alive) this.#host.stopSibling(this, id); }
  atTurnEnd(stage: TurnStage, callback: () => void): void { this.#host.atTurnEnd(stage, () => { if (this.alive) this.#guarded(callback); }); }
  stopped(): void { this.onStopped?.(); }
  crash(error: unknown): void { if (this.alive) this.#host.crashed(this, error); }

  /** A turn-end callback is the actor's code too: what it throws is the actor's crash. */
  #guarded(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      this.crash(error);
    }
  }

  /** Nothing reaches it any more. */
  end(): void {
    this.alive = false;
    for (const timer of this.#timers.values()) timer.dead = true;
    this.#timers.clear();
  }
}
