import { nameOf, partyOf, type Actor, type ActorContext, type Address, type Party, type Signal } from '@ashlar/actor';
import type { ApiAnswer, ApiCommand, HostCommand, HostMessage, ManagerCommand, ManagerMessage, ServerMessage, SupervisorMessage } from '@ashlar/protocol';
import { Prng, type HostId, type ServerId } from '@ashlar/words';
import { ManagerCore, type ManagerEffects, type ManagerOptions, type MetadataStore, type NewEvent, type Principal, type Put, type Transaction } from './core/index.ts';

export const MANAGER_PARTY = 'manager';
export const MANAGER_ADDRESS: Address = 'manager/manager';

/** From the API, which lives in the same thread. */
export interface CommandMessage {
  readonly kind: 'command';
  readonly principal: Principal;
  readonly command: ApiCommand;
  readonly answer: (answer: ApiAnswer) => void;
}

type ManagerActorMessage = ManagerMessage | ServerMessage | HostMessage | SupervisorMessage | CommandMessage;

const SERVER_KINDS: ReadonlySet<string> = new Set<ServerMessage['kind']>(['server-hello', 'server-status', 'server-leaving', 'server-kept', 'server-ledger']);
const COPY_KINDS: ReadonlySet<string> = new Set<ManagerMessage['kind']>(['report', 'propose', 'ask', 'suspect', 'status', 'event', 'discarded']);
const SUPERVISOR_KINDS: ReadonlySet<string> = new Set<SupervisorMessage['kind']>(['process-ended', 'process-started']);

/** The system manager as an actor over its metadata store. */
export class ManagerActor implements Actor<ManagerActorMessage>, ManagerEffects {
  readonly #context: ActorContext;
  readonly #store: MetadataStore;
  readonly #core: ManagerCore;
  readonly #answers = new Map<number, (answer: ApiAnswer) => void>();
  readonly #mayBe: (party: Party, role: 'storage' | 'host') => boolean;
  /** Told once each. */
  readonly #refused = new Set<string>();
  #requestId = 0;
  #stopped = false;

  constructor(context: ActorContext, store: MetadataStore, options: ManagerOptions, seed: number, mayBe: (party: Party, role: 'storage' | 'host') => boolean) {
    this.#context = context;
    this.#mayBe = mayBe;
    this.#store = store;
    this.#core = new ManagerCore(options, new Prng(seed), context.nowMs());
    this.#core.start(context.nowMs(), Date.now(), this);
  }

  receive(message: ManagerActorMessage | Signal, from: Address): void {
    const nowMs = this.#context.nowMs();
    const { kind } = message;
    if (kind === 'timer') return this.#core.receive(nowMs, { kind: 'tick', wallMs: Date.now() }, this);
    if (kind === 'link-up' || kind === 'link-down') return this.#core.receive(nowMs, { kind: 'link', node: message.party, up: kind === 'link-up' }, this);
    if (kind === 'down') return;
    if (kind === 'command') {
      const requestId = ++this.#requestId;
      this.#answers.set(requestId, message.answer);
      return this.#core.receive(nowMs, { kind: 'command', requestId, principal: message.principal, command: message.command }, this);
    }
    if (SUPERVISOR_KINDS.has(kind)) {
      // Only the daemon that started the processes knows of their end; it runs in this process.
      if (partyOf(from) === MANAGER_PARTY) this.#core.receive(nowMs, { kind: 'from-supervisor', message: message as SupervisorMessage }, this);
      return;
    }
    const party = partyOf(from);
    if (!this.#isOf(party, SERVER_KINDS.has(kind) || COPY_KINDS.has(kind) ? 'storage' : 'host')) return;
    if (SERVER_KINDS.has(kind) && nameOf(from) === 'server') {
      this.#context.watch(party);
      return this.#core.receive(nowMs, { kind: 'from-server', from: party as ServerId, message: message as ServerMessage }, this);
    }
    if (COPY_KINDS.has(kind)) return this.#core.receive(nowMs, { kind: 'from-copy', from: party as ServerId, message: message as ManagerMessage }, this);
    this.#context.watch(party);
    this.#core.receive(nowMs, { kind: 'from-host', from: party as HostId, message: message as HostMessage }, this);
  }

  /** The link has made sure that it is this party; that its machine was invited for what it does here, it has not. */
  #isOf(party: Party, role: 'storage' | 'host'): boolean {
    if (this.#mayBe(party, role)) return true;
    const key = `${party} ${role}`;
    if (!this.#refused.has(key)) this.#context.log.warn({ party, role }, 'a machine speaks in a role that it was not invited for; ignored');
    this.#refused.add(key);
    return false;
  }

  inspect(): unknown {
    const { loaded, servers, hosts, volumes, unsettled, transactions } = this.#core.state;
    return { loaded, servers: servers.size, hosts: hosts.size, volumes: volumes.size, unsettled: unsettled.size, transactions: transactions.size };
  }

  stop(): void {
    this.#stopped = true;
    for (const answer of this.#answers.values()) answer({ ok: false, code: 'unavailable', message: 'the system manager is stopping' });
    this.#answers.clear();
  }

  // ---- ManagerEffects. The store may answer before its call returns; the core hears of it afterwards.

  load(): void {
    this.#store.load((snapshot) => this.#later(() => this.#core.receive(this.#context.nowMs(), { kind: 'loaded', snapshot }, this)));
  }

  transact(token: number, transaction: Transaction): void {
    this.#store.transact(transaction, (outcome) => this.#later(() => this.#core.receive(this.#context.nowMs(), { kind: 'stored', token, outcome }, this)));
  }

  restore(token: number, revision: number, puts: readonly Put[], events: readonly NewEvent[]): void {
    this.#store.restore(revision, puts, events, (outcome) => this.#later(() => this.#core.receive(this.#context.nowMs(), { kind: 'stored', token, outcome }, this)));
  }

  #later(run: () => void): void {
    queueMicrotask(() => {
      if (this.#stopped) return;
      try {
        run();
      } catch (error) {
        this.#context.crash(error);
      }
    });
  }

  toServer(to: ServerId, command: ManagerCommand): void { this.#context.send(`${to}/server`, command); }
  toHost(to: HostId, command: HostCommand): void { this.#context.send(`${to}/host`, command); }

  answer(requestId: number, answer: ApiAnswer): void {
    this.#answers.get(requestId)?.(answer);
    this.#answers.delete(requestId);
  }

  setTick(atMs: number): void { this.#context.setTimer('tick', atMs); }
}
