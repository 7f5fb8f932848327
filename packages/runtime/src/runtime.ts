import { KERNEL, partyOf, type Actor, type ActorLog, type ActorSpec, type Address, type ChildSpec, type DownReason, type Message, type Party, type SendOutcome, type Signal, type SpawnOutcome, type SupervisorSpec, type TurnStage } from '@ashlar/actor';
import type { Samples } from '@ashlar/figures';
import { AshlarError } from '@ashlar/words';
import type { ActorView, LinkNotice, Runtime, RuntimeOptions, RuntimeView } from './api.ts';
import { Cell, type CellHost } from './cell.ts';
import { collectThread } from './figures.ts';
import { REMOTE_MONITORS_MAX, TURN_MESSAGES_MAX } from './limits.ts';
import { WebSocketLinks, type LinkEnd } from './links.ts';
import { ThreadLinks } from './thread/thread-links.ts';
import { Timers, type Timer } from './timers.ts';
import { Branch, type TreeHost } from './tree.ts';
import type { KernelMessage } from './wire/messages.ts';

/** A child of the root that is an actor gets a supervisor of its own: so many crashes, and it stays down. */
const ROOT_INTENSITY = 10;
const ROOT_PERIOD_MS = 60_000;

export function createRuntime(options: RuntimeOptions): Runtime {
  return new ThreadRuntime(options);
}

/** The runtime of one thread, with what its own pool may do beyond `Runtime`. */
export class ThreadRuntime implements Runtime, CellHost, TreeHost {
  readonly name: string;
  readonly log: ActorLog;
  readonly links: WebSocketLinks;
  /** Rings to the other threads of this process. */
  readonly threads: ThreadLinks;
  readonly #clock: () => number;
  readonly #parties = new Set<Party>();
  readonly #cells = new Map<Address, Cell>();
  readonly #branches = new Map<string, Branch>();
  readonly #branchOf = new WeakMap<Cell, Branch>();
  readonly #timers: Timers;
  readonly #watchers = new Map<Party, Set<Cell>>();
  /** By party and watched address: the actors here that are to hear of its end. A life that asks again waits for the same answer. */
  readonly #remoteMonitors = new Map<Party, Map<Address, Set<Cell>>>();
  readonly #listeners = new Set<(notice: LinkNotice) => void>();
  /** What is to be delivered, in three columns: an object for each would be most of what a message costs. */
  readonly #cellsDue: Cell[] = [];
  readonly #messagesDue: (Message | Signal)[] = [];
  readonly #sendersDue: Address[] = [];
  #head = 0;
  #work: (() => void)[] = [];
  #output: (() => void)[] = [];
  #inTurn = false;
  #scheduled = false;
  #turns = 0;
  #incarnation = 0;
  #messages = 0;

  constructor(options: RuntimeOptions) {
    this.name = options.name;
    this.log = options.log;
    this.#clock = options.clock ?? monotonicMs;
    this.#timers = new Timers(() => this.#clock(), (run) => this.turn(run));
    for (const party of options.parties ?? []) this.#parties.add(party);
    const end: LinkEnd = {
      parties: () => [...this.#parties],
      receive: (to, from, message) => this.#fromLink(to, from, message),
      turn: (work) => this.turn(work),
      atOutput: (callback) => this.atTurnEnd('output', callback),
      notice: (notice, reason) => this.#onLink(notice, reason),
      nextIncarnation: () => ++this.#incarnation,
      log: options.log,
    };
    this.threads = new ThreadLinks(end);
    this.links = new WebSocketLinks(options.token, end, options.trust ?? null);
  }

  nowMs(): number { return this.#clock(); }

  hosts(party: Party): boolean { return this.#parties.has(party); }

  addParty(party: Party): void {
    if (this.#parties.has(party)) return;
    this.#parties.add(party);
    this.#announce();
  }

  /** The party lives elsewhere from now on. Its actors have been stopped. */
  removeParty(party: Party): void {
    if (this.#parties.delete(party)) this.#announce();
  }

  #announce(): void {
    this.links.announce();
    this.threads.announce();
  }

  // ---- turns

  turn(work: () => void): void {
    if (this.#inTurn) return work();
    this.#inTurn = true;
    try {
      work();
    } finally {
      try {
        this.#drain();
      } finally {
        this.#inTurn = false;
      }
    }
  }

  atTurnEnd(stage: TurnStage, callback: () => void): void {
    (stage === 'work' ? this.#work : this.#output).push(callback);
    this.#schedule();
  }

  flushOutput(): void {
    const callbacks = this.#output;
    this.#output = [];
    this.#runAll(callbacks);
  }

  /** A driver's hook that throws is a defect that no supervisor owns: the others are still run, then the thread ends by it. */
  #runAll(callbacks: readonly (() => void)[]): void {
    for (const callback of callbacks) {
      try {
        callback();
      } catch (error) {
        this.log.error({ error }, 'a defect in a hook at the end of a turn');
        setImmediate(() => { throw error; });
      }
    }
  }

  /** Something was queued outside of a turn: one begins when the present callback is done. */
  #schedule(): void {
    if (this.#inTurn || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.turn(() => {});
    });
  }

  /** What was asked for goes out before work that nobody waits for. */
  #drain(): void {
    this.#turns++;
    let left = TURN_MESSAGES_MAX;
    do {
      left = this.#deliverDue(left);
      this.flushOutput();
      const work = this.#work;
      if (work.length > 0) {
        this.#work = [];
        this.#runAll(work);
      }
      if (this.#cellsDue.length === 0 && this.#work.length === 0 && this.#output.length === 0) return;
    } while (left > 0 || this.#cellsDue.length === 0);
    this.flushOutput();
    // Sockets are polled before the rest.
    setImmediate(() => this.turn(() => {}));
  }

  /** Hands over up to `left` messages; how many more it might have been. */
  #deliverDue(left: number): number {
    while (this.#head < this.#cellsDue.length && left > 0) {
      const next = this.#head++;
      left--;
      this.#handle(this.#cellsDue[next] as Cell, this.#messagesDue[next] as Message | Signal, this.#sendersDue[next] as Address);
    }
    // What was delivered is let go: actors that never fall silent would keep all of it.
    if (this.#head === this.#cellsDue.length) {
      this.#cellsDue.length = 0;
      this.#messagesDue.length = 0;
      this.#sendersDue.length = 0;
      this.#head = 0;
      return left;
    }
    this.#cellsDue.splice(0, this.#head);
    this.#messagesDue.splice(0, this.#head);
    this.#sendersDue.splice(0, this.#head);
    this.#head = 0;
    return left;
  }

  #handle(cell: Cell, message: Message | Signal, from: Address): void {
    cell.queued--;
    if (!cell.alive) return;
    cell.received++;
    this.#messages++;
    try {
      (cell.actor as Actor).receive(message, from);
    } catch (error) {
      this.crashed(cell, error);
    }
  }

  // ---- sending

  send(to: Address, message: Message, from: Address = KERNEL): SendOutcome {
    return this.route(to, from, message);
  }

  route(to: Address, from: Address, message: Message): SendOutcome {
    const cell = this.#cells.get(to);
    if (cell) {
      if (cell.queued >= cell.mailboxMax) return 'busy';
      this.deliver(cell, message, from);
      return 'ok';
    }
    const party = partyOf(to);
    if (this.#parties.has(party)) return 'unreachable';
    return this.#sendAway(party, to, from, message);
  }

  #sendAway(party: Party, to: Address, from: Address, message: Message): SendOutcome {
    // Over there a sender must belong to a party of this side: what no actor sent comes from the kernel of one of ours.
    const sender = from === KERNEL ? this.#kernelAddress() : from;
    if (sender === null) return 'unreachable';
    const thread = this.threads.of(party);
    return thread ? thread.send(to, sender, message) : this.links.send(party, to, sender, message);
  }

  #kernelAddress(): Address | null {
    for (const party of this.#parties) return `${party}/kernel`;
    return null;
  }

  deliver(cell: Cell, message: Message | Signal, from: Address): void {
    cell.queued++;
    this.#cellsDue.push(cell);
    this.#messagesDue.push(message);
    this.#sendersDue.push(from);
    this.#schedule();
  }

  #fromLink(to: Address, from: Address, message: Message): boolean {
    const cell = this.#cells.get(to);
    if (message.kind === 'monitor') {
      this.#monitorFor(from, to, cell);
      return true;
    }
    if (!cell || message.kind === 'parties') return true;
    // Only the kernel of the actor that ended may say so, and it says it in that actor's name.
    if (message.kind === 'down' && ((message as KernelMessage & { kind: 'down' }).address !== from || !this.#forgetRemote(cell, from))) return true;
    if (cell.queued >= cell.mailboxMax) return false;
    this.deliver(cell, message, from);
    return true;
  }

  // ---- monitors and links

  monitor(cell: Cell, address: Address): void {
    cell.monitored.add(address);
    const target = this.#cells.get(address);
    if (target) {
      target.monitors.set(cell, (reason) => this.#tellDown(cell, address, reason));
      return;
    }
    const party = partyOf(address);
    if (this.#parties.has(party)) return this.#tellDown(cell, address, 'no-such-actor');
    const monitors = this.#remoteMonitors.get(party) ?? new Map<Address, Set<Cell>>();
    const watchers = monitors.get(address) ?? new Set<Cell>();
    if (watchers.has(cell)) return;
    const request: KernelMessage = { kind: 'monitor' };
    if (this.#sendAway(party, address, cell.self, request) !== 'ok') return this.#tellDown(cell, address, 'unreachable');
    this.#remoteMonitors.set(party, monitors.set(address, watchers.add(cell)));
  }

  #tellDown(cell: Cell, address: Address, reason: DownReason): void {
    cell.monitored.delete(address);
    if (cell.alive) this.deliver(cell, { kind: 'down', address, reason }, KERNEL);
  }

  /** An actor of another process wants to know of the end of one of ours. */
  #monitorFor(watcher: Address, address: Address, cell: Cell | undefined): void {
    const tell = (reason: DownReason): void => {
      const down: KernelMessage = { kind: 'down', address, reason };
      this.#sendAway(partyOf(watcher), watcher, address, down);
    };
    if (cell && cell.monitors.size >= REMOTE_MONITORS_MAX) tell('unreachable');
    else if (cell) cell.monitors.set(watcher, tell);
    else tell('no-such-actor');
  }

  #monitorCount(): number {
    let count = 0;
    for (const monitors of this.#remoteMonitors.values()) for (const watchers of monitors.values()) count += watchers.size;
    return count;
  }

  /** One `down` answers one `monitor`. False if none was asked for, by this life. */
  #forgetRemote(cell: Cell, address: Address): boolean {
    const monitors = this.#remoteMonitors.get(partyOf(address));
    const watchers = monitors?.get(address);
    if (!watchers?.delete(cell)) return false;
    if (watchers.size === 0) monitors?.delete(address);
    return true;
  }

  watch(cell: Cell, party: Party): void {
    if (cell.watched.has(party) || this.#parties.has(party)) return;
    cell.watched.add(party);
    const watchers = this.#watchers.get(party) ?? new Set<Cell>();
    watchers.add(cell);
    this.#watchers.set(party, watchers);
    const incarnation = this.threads.of(party)?.incarnation ?? this.links.incarnationOf(party);
    if (incarnation !== null) this.deliver(cell, { kind: 'link-up', party, incarnation }, KERNEL);
  }

  onLink(listener: (notice: LinkNotice) => void): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  #onLink(notice: LinkNotice, reason: DownReason = 'unreachable'): void {
    const { kind, party, incarnation } = notice;
    this.turn(() => {
      for (const cell of this.#watchers.get(party) ?? []) if (cell.alive) this.deliver(cell, { kind, party, incarnation }, KERNEL);
      if (kind === 'link-down') {
        const monitors = this.#remoteMonitors.get(party) ?? new Map<Address, Set<Cell>>();
        this.#remoteMonitors.delete(party);
        for (const [address, watchers] of monitors) for (const cell of watchers) this.#tellDown(cell, address, reason);
      }
    });
    for (const listener of this.#listeners) listener(notice);
  }

  // ---- the tree

  start(spec: ChildSpec): SpawnOutcome {
    const known = this.#branches.get(spec.id);
    if (known) return 'already-started';
    let outcome: SpawnOutcome = 'started';
    const whole: SupervisorSpec = spec.kind === 'supervisor' ? spec : {
      kind: 'supervisor', id: spec.id, strategy: 'one_for_one', intensity: ROOT_INTENSITY, periodMs: ROOT_PERIOD_MS, pastIntensity: 'fault',
      onCrash: (crash) => this.log.error({ actor: spec.address, error: crash.error }, 'an actor crashed and is restarted'),
      onFault: (fault) => this.log.error({ actor: spec.address, error: fault.error }, 'an actor crashed too often and stays down'),
      children: [spec],
    };
    const branch: Branch = new Branch(whole, `root/${spec.id}`, this, (result) => {
      if (result.kind === 'start-failed') {
        outcome = 'failed';
        this.log.error({ id: spec.id, error: result.error }, 'cannot be started');
      } else if (result.kind === 'gave-up') this.log.error({ id: spec.id, error: result.error }, 'crashed too often and stays down');
      if (result.kind !== 'started') this.#endOf.get(branch)?.();
    });
    this.#branches.set(spec.id, branch);
    this.turn(() => branch.start());
    if ((outcome as SpawnOutcome) === 'failed') this.#branches.delete(spec.id);
    return outcome;
  }

  readonly #endOf = new Map<Branch, () => void>();
  readonly #stopping = new Map<string, Promise<void>>();

  stop(id: string): Promise<void> {
    const branch = this.#branches.get(id);
    if (!branch) return Promise.resolve();
    const stopping = this.#stopping.get(id);
    if (stopping) return stopping;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stopping.set(id, promise);
    this.#endOf.set(branch, () => {
      this.#endOf.delete(branch);
      this.#stopping.delete(id);
      this.#branches.delete(id);
      resolve();
    });
    this.turn(() => branch.shutdown());
    return promise;
  }

  startActor(spec: ActorSpec, path: string, branch: Branch): Cell {
    if (this.#cells.has(spec.address)) throw new AshlarError('already-exists', `${spec.address} is already running`);
    const cell = new Cell(spec, path, this);
    this.#branchOf.set(cell, branch);
    this.#cells.set(spec.address, cell);
    let crash: { readonly error: unknown } | null = null;
    cell.crashedAtStart = (error) => { crash ??= { error }; };
    try {
      cell.actor = spec.start(cell);
      if (crash !== null) throw (crash as { readonly error: unknown }).error;
      cell.crashedAtStart = null;
    } catch (error) {
      this.#forget(cell);
      this.#cleanUp(cell);
      throw error;
    }
    return cell;
  }

  stopActor(cell: Cell, ended: () => void): void {
    let late: Timer | null = null;
    const finish = (): void => {
      if (late) late.dead = true;
      cell.onStopped = null;
      if (!cell.alive) return;
      this.#forget(cell);
      for (const down of cell.monitors.values()) down('stopped');
      ended();
    };
    let answer: 'stopping' | void = undefined;
    try {
      answer = cell.actor?.stop?.('shutdown');
    } catch (error) {
      this.log.error({ actor: cell.self, error }, 'an actor crashed while it stopped');
    }
    if (answer !== 'stopping') return finish();
    cell.onStopped = finish;
    late = this.#timers.set(this.nowMs() + cell.spec.shutdownMs, () => {
      this.log.error({ actor: cell.self, shutdownMs: cell.spec.shutdownMs }, 'an actor did not stop in time and is given up');
      finish();
    });
  }

  /** It threw, or a driver of it found a defect: this life is over. Its supervisor decides what follows. */
  crashed(cell: Cell, error: unknown): void {
    if (!cell.alive) return;
    if (cell.crashedAtStart) return cell.crashedAtStart(error);
    this.#forget(cell);
    this.#cleanUp(cell);
    for (const down of cell.monitors.values()) down('crashed');
    this.#branchOf.get(cell)?.crashed(cell, error);
  }

  /** So that a crashed life holds no files and sockets. */
  #cleanUp(cell: Cell): void {
    try {
      cell.actor?.stop?.('crashed');
    } catch (error) {
      this.log.error({ actor: cell.self, error }, 'an actor crashed again while it was cleaned up');
    }
  }

  #forget(cell: Cell): void {
    cell.end();
    if (this.#cells.get(cell.self) === cell) this.#cells.delete(cell.self);
    for (const party of cell.watched) this.#watchers.get(party)?.delete(cell);
    for (const address of cell.monitored) {
      this.#cells.get(address)?.monitors.delete(cell);
      this.#forgetRemote(cell, address);
    }
  }

  spawn(cell: Cell, spec: ChildSpec): SpawnOutcome { return this.#branchOf.get(cell)?.add(spec) ?? 'failed'; }
  stopSibling(cell: Cell, id: string): void { this.#branchOf.get(cell)?.remove(id); }
  setTimer(atMs: number, fire: () => void): Timer { return this.#timers.set(atMs, fire); }
  reportDefect(error: unknown): void { this.log.error({ error }, 'a defect in a supervisor callback'); }

  // ---- looking at it, and the end

  inspect(): RuntimeView {
    const actors: ActorView[] = [];
    for (const top of this.#branches.values()) {
      for (const { spec, path, cell, branch } of top.actors()) {
        actors.push({
          address: spec.address, path, state: cell === null ? 'faulted' : cell.onStopped ? 'stopping' : 'running', restarts: branch.restarts,
          queued: cell?.queued ?? 0, received: cell?.received ?? 0, detail: cell && detailOf(cell),
        });
      }
    }
    return { name: this.name, parties: [...this.#parties], actors, links: [...this.links.inspect(), ...this.threads.inspect()], turns: this.#turns, messages: this.#messages, monitors: this.#monitorCount() };
  }

  collect(samples: Samples): void {
    collectThread(samples, { name: this.name, messages: this.#messages, delay: this.#timers.delay, links: [...this.links.inspect(), ...this.threads.inspect()] });
  }

  async shutdown(): Promise<void> {
    for (const id of [...this.#branches.keys()].reverse()) await this.stop(id);
    this.turn(() => {});
    await this.links.close();
    this.threads.close();
    this.#timers.close();
  }
}

/** Looking at an actor must not harm it, even where its `inspect` has a defect. */
function detailOf(cell: Cell): unknown {
  try {
    return cell.actor?.inspect();
  } catch (error) {
    return { inspectFailed: String(error) };
  }
}

/** performance.now() counts from the start of the thread. */
const threadStartMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** The same in every thread and process of the machine: CLOCK_MONOTONIC. */
function monotonicMs(): number {
  return threadStartMs + performance.now();
}
