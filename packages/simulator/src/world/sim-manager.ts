import { ManagerCore, type ManagerEffects, type ManagerInput, type ManagerOptions, type MemoryStore, type NewEvent, type Put, type Transaction } from '@ashlar/control/core';
import type { ApiAnswer, ApiCommand, HostCommand, ManagerCommand } from '@ashlar/protocol';
import type { HostId, Prng, ServerId } from '@ashlar/words';
import type { Process } from '../engine/process.ts';
import { EventKind, type Receiver, type SimEvent } from '../engine/scheduler.ts';
import type { ManagerMail } from './mail.ts';
import type { World } from './world.ts';

/** 2026-01-01: where the wall clock begins. */
const WALL_ORIGIN_MS = 1_767_225_600_000;

/** The system manager's process over the metadata store, which outlives it. */
export class SimManager implements Receiver, ManagerEffects {
  readonly name = 'manager';
  readonly traceId: number;
  readonly process: Process;
  /** What somebody did to the machine's wall clock. */
  wallJumpMs = 0;
  core: ManagerCore | null = null;
  readonly #world: World;
  readonly #store: MemoryStore;
  readonly #options: ManagerOptions;
  readonly #prng: Prng;
  readonly #answers = new Map<number, (answer: ApiAnswer) => void>();
  #requestId = 0;
  #tick = 0;

  constructor(world: World, process: Process, store: MemoryStore, options: ManagerOptions, prng: Prng) {
    this.#world = world;
    this.process = process;
    this.#store = store;
    this.#options = options;
    this.#prng = prng;
    this.traceId = process.index;
  }

  get life(): number { return this.process.life; }
  held(nowMs: number): boolean { return this.process.held(nowMs); }
  defer(event: SimEvent): void { this.process.defer(event); }

  start(): void {
    this.process.up = true;
    this.core = new ManagerCore(this.#options, this.#prng.fork(), this.process.nowMs);
    this.core.start(this.process.nowMs, this.#wallMs(), this);
  }

  ended(): void {
    this.core = null;
    this.#answers.clear();
    this.process.end();
  }

  /** What can be seen of it, for `replay`. */
  view(): Record<string, unknown> {
    const state = this.core?.state;
    return { up: this.process.up, life: this.process.life, loaded: state?.loaded, volumes: state?.volumes, servers: state?.servers, unsettled: state?.unsettled };
  }

  handle(event: SimEvent): void {
    if (event.kind === EventKind.message) return this.#onMail(event.message as ManagerMail);
    const { input, token } = event.message as { readonly input: ManagerInput; readonly token: number };
    if (input.kind === 'tick') {
      if (token === this.#tick) this.receive({ kind: 'tick', wallMs: this.#wallMs() });
    } else this.receive(input);
  }

  #onMail(mail: ManagerMail): void {
    if (mail.kind === 'from-copy' && mail.message.kind === 'propose') {
      const { change } = mail.message;
      this.#world.atDecision?.('proposed', change.kind === 'add' ? change.member.serverId : change.serverId);
    }
    this.receive(mail);
  }

  receive(input: ManagerInput): void {
    this.core?.receive(this.process.nowMs, input, this);
  }

  /** From the operator, whose API is in the same process. Nobody answers if it ends first. */
  command(command: ApiCommand, answer: (answer: ApiAnswer) => void): void {
    if (this.core === null) return;
    const requestId = ++this.#requestId;
    this.#answers.set(requestId, answer);
    this.#later({ kind: 'command', requestId, principal: { kind: 'operator' }, command });
  }

  #wallMs(): number { return WALL_ORIGIN_MS + this.process.nowMs + this.wallJumpMs; }

  #later(input: ManagerInput, atMs = this.process.departsMs, token = 0): void {
    this.#world.scheduler.at(atMs, EventKind.completion, this, { input, token });
  }

  // ---- ManagerEffects

  load(): void {
    const { life } = this;
    this.#store.load((snapshot) => { if (life === this.life) this.#later({ kind: 'loaded', snapshot }); });
  }

  transact(token: number, transaction: Transaction): void {
    const { life } = this;
    this.#store.transact(transaction, (outcome) => { if (life === this.life) this.#later({ kind: 'stored', token, outcome }); });
  }

  restore(token: number, revision: number, puts: readonly Put[], events: readonly NewEvent[]): void {
    const { life } = this;
    this.#store.restore(revision, puts, events, (outcome) => { if (life === this.life) this.#later({ kind: 'stored', token, outcome }); });
  }

  toServer(to: ServerId, command: ManagerCommand): void {
    if (command.kind === 'configure') this.#world.ghost.told(command.configuration);
    this.#world.toServer(this.process, this.name, to, { kind: 'command', command });
  }

  toHost(to: HostId, command: HostCommand): void {
    if (command.kind === 'attach' || command.kind === 'configuration') this.#world.ghost.told(command.configuration);
    this.#world.commandHost(this.process, this.name, to, { kind: 'command', command });
  }

  answer(requestId: number, answer: ApiAnswer): void {
    this.#answers.get(requestId)?.(answer);
    this.#answers.delete(requestId);
  }

  setTick(atMs: number): void {
    this.#later({ kind: 'tick', wallMs: 0 }, this.process.machine.worldAt(atMs), ++this.#tick);
  }
}
