import { nameOf, partyOf, type Address } from '@ashlar/actor';
import { MANAGER_DEFAULTS, MemoryStore, type StoreFate, type StoreSnapshot } from '@ashlar/control/core';
import { isMutation, Op, primaryOf, Status, type ApiCommand, type Frame, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import type { CopyStore } from '@ashlar/store';
import { EXTENT_BLOCKS, EXTENT_BYTES, hostId, Prng, serverId, type HostId, type ServerId, type VolumeId } from '@ashlar/words';
import { ClientHistory, type ClientOp } from '../checks/clients.ts';
import { Ghost } from '../checks/ghost.ts';
import { Violation } from '../checks/violation.ts';
import { describe, digest } from '../engine/describe.ts';
import { difference, viewOf, type StateView } from '../engine/state-view.ts';
import { Links } from '../engine/links.ts';
import { Network } from '../engine/network.ts';
import { Machine, Process } from '../engine/process.ts';
import { EventKind, Scheduler, type Receiver, type SimEvent } from '../engine/scheduler.ts';
import type { Trace } from '../engine/trace.ts';
import type { Plan } from '../plan.ts';
import { subjectOf } from './decisions.ts';
import type { HostMail, ManagerMail, ServerMail } from './mail.ts';
import { DiskMedium } from './disk-medium.ts';
import { ModelMedium, type LifeOptions, type Medium, type MediumPort } from './media.ts';
import { ProcessEnds } from './medium-faults.ts';
import { SimHost } from './sim-host.ts';
import { SimManager } from './sim-manager.ts';
import { SimServer } from './server.ts';
import { BACKING_VALUE, GARBAGE, STAND_IN_BACKING, valueOf, ZERO_VALUE } from './values.ts';

type AnySim = SimServer | SimHost | SimManager;

/** Messages of a host kept to be sent again when they are long out of date. */
const LATE_KEPT = 24;

/** Of the changes of the store, those that somebody keeps a backup of. */
const BACKUPS = 0.2;
const BACKUPS_MAX = 12;

/** Begins a line of a log that tells of a change of state; all others begin with the time. */
export const CHANGE_MARK = '    ';

/** More events at one instant are a loop without end. */
const INSTANT_EVENTS_MAX = 20_000;

/** A whole site: servers, hosts and a manager made of the production cores, over a simulated network, disks and clocks. */
export class World {
  readonly plan: Plan;
  readonly trace: Trace;
  readonly scheduler = new Scheduler();
  readonly network: Network;
  readonly links: Links;
  readonly ghost = new Ghost();
  readonly clients: ClientHistory;
  readonly servers: SimServer[] = [];
  readonly hosts: SimHost[] = [];
  readonly manager: SimManager;
  readonly store: MemoryStore;
  readonly hotBlocks: number[] = [];
  readonly prng: Prng;
  volumeId: VolumeId = '' as VolumeId;
  clientsMayIssue = true;
  storeDown = false;
  /** States of the store that may be put back. */
  readonly backups: StoreSnapshot[] = [];
  /** The store as it was before its newest change of a volume. */
  beforeLast: StoreSnapshot = { revision: 0, records: [] };
  #latest: StoreSnapshot = { revision: 0, records: [] };
  /** Waits for the next decision about the set of copies: asked for, or made. */
  atDecision: ((moment: 'proposed' | 'decided', about: ServerId) => void) | null = null;
  /** Values whose write crashes whatever copy takes it in hand. */
  readonly poison = new Set<number>();
  poisonNext = 0;
  /** The newest write that was answered was asked for at this time. */
  lastWriteAskedMs = -1;
  events = 0;
  blockFrames = 0;
  readonly eventCounts = new Map<string, number>();
  readonly late: { readonly from: Address; readonly message: SessionMessage }[] = [];
  readonly #bySim = new Map<Process, AnySim>();
  readonly #byServer = new Map<ServerId, SimServer>();

  constructor(plan: Plan, trace: Trace) {
    this.plan = plan;
    this.trace = trace;
    const { streams } = plan;
    this.prng = new Prng(streams.cores);
    const processes = this.#makeProcesses();
    this.network = new Network(this.scheduler, new Prng(streams.network), processes.length);
    Object.assign(this.network.faults, plan.network);
    this.links = new Links(processes, this.scheduler, this.network, new Prng(streams.network ^ 0x5bd1e995), (at, about, up) => this.#linkChanged(at, about, up));
    this.clients = new ClientHistory(this.ghost);
    const storePrng = new Prng(streams.store);
    this.store = new MemoryStore({ eventsMax: 1000, fate: () => this.#fate(storePrng), defer: (run) => this.after(0.1 + storePrng.fraction() * 0.5, run) });
    this.store.watch((change) => {
      for (const { name } of change.events) if (name === 'store-behind' || name === 'store-recovered') this.eventCounts.set(name, (this.eventCounts.get(name) ?? 0) + 1);
      if (plan.kinds.has('store-set-back') && this.prng.chance(BACKUPS)) this.#backUp();
      for (const put of change.puts) {
        if (put.kind !== 'volume') continue;
        const { configuration: former } = this.ghost;
        const onOrder = change.events.some((event) => event.name === 'copy-removed' && event.source === 'manager');
        if (onOrder) this.ghost.leftOnOrder(put.value.configuration);
        this.volumeId = put.value.volumeId;
        this.beforeLast = this.#latest;
        this.#latest = this.store.snapshot();
        this.ghost.configured(put.value.configuration);
        if (former !== null && put.value.configuration.epoch > former.epoch) this.atDecision?.('decided', subjectOf(former, put.value.configuration));
      }
    });
    if (plan.backed) this.ghost.history.untouched = BACKING_VALUE;
    this.ghost.verifyContent = (id) => this.contentDiffers(id);
    this.manager = this.#makeSims(processes);
    const blocks = new Prng(streams.clients);
    for (let k = 0; k < plan.hotBlocks; k++) this.hotBlocks.push(blocks.below(plan.extents) * EXTENT_BLOCKS + blocks.below(EXTENT_BLOCKS));
  }

  #backUp(): void {
    const snapshot = this.store.snapshot();
    if (snapshot.records.some((record) => record.kind === 'volume' && record.value.state !== 'creating')) this.backups.push(snapshot);
    if (this.backups.length > BACKUPS_MAX) this.backups.splice(this.prng.below(BACKUPS_MAX), 1);
  }

  #makeProcesses(): Process[] {
    const { plan } = this;
    const names = [...Array.from({ length: plan.servers }, (_, i) => `server-${i + 1}`), ...Array.from({ length: plan.hosts }, (_, i) => `host-${i + 1}`), 'manager'];
    return names.map((name, index) => {
      const machine = new Machine(name, this.prng.between(1_000, 100_000_000));
      machine.rate = 1 + (this.prng.fraction() * 2 - 1) * plan.clockRate;
      return new Process(name, index, machine, this.scheduler);
    });
  }

  #makeSims(processes: readonly Process[]): SimManager {
    const { plan } = this;
    for (const process of processes.slice(0, plan.servers)) {
      const port: MediumPort = { afterSync: (run) => this.#afterSync(server, run) };
      const medium: Medium = plan.realStore
        ? new DiskMedium({ segmentBytes: plan.segmentBytes, journalBytesMax: plan.journalBytes }, port)
        : new ModelMedium(plan.historyRecords, port);
      const server: SimServer = new SimServer(this, serverId(process.name), process, medium, this.prng.fork());
      server.syncMs = plan.syncMs[this.servers.length] as number;
      this.servers.push(server);
      this.#byServer.set(server.serverId, server);
      this.#bySim.set(process, server);
    }
    for (const process of processes.slice(plan.servers, -1)) {
      const host = new SimHost(this, hostId(process.name), process, this.prng.fork());
      this.hosts.push(host);
      this.#bySim.set(process, host);
    }
    const process = processes.at(-1) as Process;
    const options = { ...MANAGER_DEFAULTS, rebuildDelayMs: plan.rebuildDelayMs, learnerPatienceMs: 4_000, commandTimeoutMs: 5_000, expected: this.servers.map(({ serverId: id }) => id) };
    const manager = new SimManager(this, process, this.store, options, this.prng.fork());
    this.#bySim.set(process, manager);
    return manager;
  }

  #fate(prng: Prng): StoreFate {
    const draw = prng.fraction();
    if (this.storeDown) return 'request-lost';
    const { replyLost, requestLost } = this.plan.metadata;
    if (this.healed) return 'answered';
    return draw < replyLost ? 'reply-lost' : draw < replyLost + requestLost ? 'request-lost' : 'answered';
  }

  healed = false;
  #instantMs = -1;
  #instantEvents = 0;

  get sims(): Iterable<AnySim> { return this.#bySim.values(); }
  server(id: ServerId): SimServer { return this.#byServer.get(id) as SimServer; }
  get primary(): SimServer | null { return this.ghost.configuration === null ? null : this.server(primaryOf(this.ghost.configuration)); }

  // ------------------------------------------------------------------------------------------ time

  /** Runs something at a time of the world, whoever lives or not. */
  after(delayMs: number, run: () => void, kind: EventKind = EventKind.completion): void {
    this.scheduler.at(this.scheduler.nowMs + delayMs, kind, this.#self, { run });
  }

  readonly #self: Receiver = {
    name: 'world', traceId: 201, life: 1, held: () => false,
    defer: (event) => this.scheduler.again(event, this.scheduler.nowMs),
    handle: (event) => (event.message as { readonly run: () => void }).run(),
  };

  #afterSync(server: SimServer, run: () => void): void {
    const delay = server.syncMs * (0.5 + this.prng.fraction());
    this.scheduler.at(server.process.departsMs + delay, EventKind.completion, server, { kind: 'run', run });
  }

  /** One event. False when nothing is due before `untilMs`. */
  step(untilMs: number): boolean {
    const event = this.scheduler.next(untilMs);
    if (event === undefined) return false;
    const { to } = event;
    if (event.life !== to.life || (event.link !== null && event.link.life !== event.linkLife)) return true;
    if (to.held(this.scheduler.nowMs)) {
      event.link = null; // it is in the frozen process's socket already
      to.defer(event);
      return true;
    }
    this.#count(event);
    this.#handle(event);
    return true;
  }

  #count(event: SimEvent): void {
    this.events++;
    if (this.scheduler.nowMs === this.#instantMs) {
      if (++this.#instantEvents > INSTANT_EVENTS_MAX) throw new Violation('defect', `time stands still at ${this.#instantMs}: ${event.to.name} ${describe(event.message)}`);
    } else {
      this.#instantMs = this.scheduler.nowMs;
      this.#instantEvents = 0;
    }
    const { message } = event;
    if (event.kind === EventKind.message && carriesFrame(message as ServerMail | HostMail)) this.blockFrames++;
    this.trace.event(event, digest(message));
    if (this.trace.verbose) this.trace.line(`${this.scheduler.nowMs.toFixed(3)} ${event.from || '·'} → ${event.to.name}: ${describe(message)}`);
  }

  #handle(event: SimEvent): void {
    const { to } = event;
    const sim = to instanceof SimServer || to instanceof SimHost || to instanceof SimManager ? to : null;
    if (sim !== null && sim.process.freezeNextMs > 0) {
      sim.process.freeze(this.scheduler.nowMs + sim.process.freezeNextMs);
      sim.process.freezeNextMs = 0;
    }
    try {
      to.handle(event);
    } catch (error) {
      if (error instanceof ProcessEnds && sim !== null) return this.end(sim, error.withPower);
      if (error instanceof Violation) throw error;
      throw new Violation('defect', `${to.name}: ${error instanceof Error ? error.stack ?? error.message : String(error)}`);
    } finally {
      if (this.trace.onLine !== null) for (const changed of sim === null ? this.sims : [sim]) this.#showChanges(changed);
    }
  }

  readonly #views = new Map<AnySim, StateView>();

  /** For `replay`: what the event changed in an actor. */
  #showChanges(sim: AnySim): void {
    const now = viewOf(sim.view());
    for (const line of difference(this.#views.get(sim) ?? new Map(), now)) this.trace.line(`${CHANGE_MARK}${sim.name} ${line}`);
    this.#views.set(sim, now);
  }

  // ------------------------------------------------------------------------------------------ lives

  start(sim: AnySim): void {
    if (sim.process.up) return;
    this.note(sim.name, 'starts', `life ${sim.process.life}`);
    sim.start();
    this.links.processStarted(sim.process);
  }

  /** The process ends; `power`: with its machine, and what its disk had not made stable. */
  end(sim: AnySim, power: boolean): void {
    if (!sim.process.up) return;
    this.note(sim.name, power ? 'loses power' : 'is killed', '');
    const { life } = sim.process;
    if (power && sim instanceof SimServer) this.ghost.powerCut(sim.serverId);
    sim.ended();
    if (power) {
      sim.process.machine.restart(this.scheduler.nowMs, this.prng.between(1_000, 1_000_000));
      if (sim instanceof SimServer) {
        sim.medium.powerCut(this.prng);
        sim.powerCut();
      }
    }
    this.links.processEnded(sim.process, power);
    if (sim instanceof SimServer) Object.assign(sim.medium.faults, { endsIn: 0 });
    if (!power && this.plan.supervised && sim !== this.manager) {
      this.after(1 + this.prng.fraction() * 20, () => this.manager.receive({ kind: 'from-supervisor', message: { kind: 'process-ended', name: sim.name, pid: life, signal: 'SIGKILL', code: null } }));
    }
  }

  /** A copy's actor crashed: whoever has a session with it hears of it. */
  copyCrashed(server: SimServer): void {
    this.note(server.name, 'copy crashed', '');
    for (const host of this.hosts) {
      const mail: HostMail = { kind: 'link', node: server.name, up: false, crashed: true };
      if (host.process.up && this.links.isUp(server.process, host.process)) this.network.send(server.process, server.name, host.process, host, mail, false);
    }
  }

  #linkChanged(at: Process, about: Process, up: boolean): void {
    const sim = this.#bySim.get(at) as AnySim;
    const other = this.#bySim.get(about) as AnySim;
    const mail = linkMail(sim, other, up);
    if (mail !== null) this.scheduler.at(this.scheduler.nowMs, EventKind.message, sim, mail, 'link');
  }

  storeOptions(id: ServerId, bootId: number, wake: () => void): LifeOptions {
    return { volumeId: this.volumeId, serverId: id, bootId: `boot-${bootId}`, wake, ...(this.plan.backed ? { backing: STAND_IN_BACKING } : {}) };
  }

  // ------------------------------------------------------------------------------------------ messages

  toServer(from: Process, fromName: string, to: ServerId, mail: ServerMail): void {
    const server = this.server(to);
    if (from === server.process || this.links.isUp(from, server.process)) this.network.send(from, fromName, server.process, server, mail);
  }

  toManager(from: Process, fromName: string, mail: ManagerMail): void {
    if (this.links.isUp(from, this.manager.process)) this.network.send(from, fromName, this.manager.process, this.manager, mail);
  }

  toHost(from: Process, fromName: string, mail: HostMail & { readonly kind: 'reply' }): void {
    const host = this.#host(partyOf(mail.to));
    if (host !== undefined && this.links.isUp(from, host.process)) this.network.send(from, fromName, host.process, host, mail);
  }

  commandHost(from: Process, fromName: string, to: HostId, mail: HostMail): void {
    const host = this.#host(to);
    if (host !== undefined && this.links.isUp(from, host.process)) this.network.send(from, fromName, host.process, host, mail);
  }

  #host(id: string): SimHost | undefined { return this.hosts.find((host) => host.hostId === id); }

  sessionTo(host: SimHost, from: Address, to: ServerId, message: SessionMessage): 'ok' | 'unreachable' {
    const server = this.server(to);
    if (!this.links.isUp(host.process, server.process)) return 'unreachable';
    if (this.plan.kinds.has('late-session') && nameOf(from) === 'attachment/writer' && (message.kind === 'requests' || message.kind === 'open')) this.#keepLate(from, message);
    this.network.send(host.process, host.name, server.process, server, { kind: 'session', from, message });
    return 'ok';
  }

  #keepLate(from: Address, message: SessionMessage): void {
    if (!this.prng.chance(message.kind === 'open' ? 0.8 : 0.02)) return;
    this.late.push({ from, message });
    if (this.late.length > LATE_KEPT) this.late.splice(this.prng.below(LATE_KEPT), 1);
  }

  command(command: ApiCommand, answered: (ok: boolean) => void = () => undefined): void {
    if (this.manager.process.up) this.manager.command(command, (answer) => answered(answer.ok));
  }

  // ------------------------------------------------------------------------------------------ what is watched

  watchReply(id: ServerId, life: string, reply: SessionReply): void {
    if (reply.kind === 'opened' && reply.epoch > 0) {
      this.ghost.acts(id, life, reply.epoch);
      return;
    }
    if (reply.kind !== 'replies' || reply.frame.epoch === 0) return;
    const { frame } = reply;
    this.ghost.acts(id, life, frame.epoch);
    for (let i = 0; i < frame.count; i++) {
      if (isMutation(frame.op(i)) && frame.status(i) === Status.ok) this.ghost.answered(id, frame.epoch, frame.attachNumber, frame.sessionCount, frame.requestNumber(i));
    }
  }

  isPoisoned(frame: Frame): boolean {
    if (this.poison.size === 0) return false;
    for (let i = 0; i < frame.count; i++) {
      if (frame.op(i) === Op.write && this.poison.has(valueOf(frame.bytes(i), 0, Math.floor(frame.offsetBytes(i) / 512)))) return true;
    }
    return false;
  }

  /** Makes this write the next poisonous one, if one is wanted. */
  maybePoison(value: number): void {
    if (this.poisonNext === 0) return;
    this.poisonNext--;
    this.poison.add(value);
  }

  wrote(op: ClientOp): void {
    this.lastWriteAskedMs = Math.max(this.lastWriteAskedMs, op.invokedMs);
  }

  /** Compares all of a copy with the committed order and what its own log has beyond it. Null: the same. */
  contentDiffers(id: ServerId): string | null {
    const { driver, medium } = this.server(id);
    if (driver === null) return null;
    return medium.unharmed(() => this.#differs(id, driver.store));
  }

  #differs(id: ServerId, store: CopyStore): string | null {
    const { history } = this.ghost;
    const { log } = this.ghost.copy(id);
    const beyond = new Map<number, number>();
    for (const record of [...log.belowBase(history.lastSeq), ...log.records]) {
      if (record.firstSeq <= history.lastSeq) continue;
      for (const operation of record.operations) for (let k = 0; k < operation.sectors; k++) beyond.set(operation.firstSector + k, operation.values?.[k] ?? ZERO_VALUE);
    }
    const bytes = new Uint8Array(4096);
    for (const block of new Set([...history.touched].map((sector) => Math.floor(sector / 8)))) {
      if (store.read(block * 4096, 4096, bytes, 0) !== 'ok') continue; // it knows that this block is bad
      for (let k = 0; k < 8; k++) {
        const sector = block * 8 + k;
        const value = valueOf(bytes, k * 512, sector);
        const expected = beyond.get(sector) ?? history.valueAt(sector, Math.min(history.lastSeq, log.lastSeq));
        if (value !== expected || value === GARBAGE) return `sector ${sector} holds value ${value} instead of ${expected}`;
      }
    }
    return null;
  }

  note(who: string, what: string, detail: string): void {
    if (this.trace.verbose) this.trace.line(`${this.scheduler.nowMs.toFixed(3)} ## ${who} ${what} ${detail}`);
  }

  event(who: string, name: string, detail?: Readonly<Record<string, string | number | boolean>>): void {
    this.eventCounts.set(name, (this.eventCounts.get(name) ?? 0) + 1);
    if (this.trace.verbose) this.note(who, name, detail === undefined ? '' : describe(detail));
  }

  get volumeBytes(): number { return this.plan.extents * EXTENT_BYTES; }
}

function carriesFrame(mail: ServerMail | HostMail): boolean {
  if (mail.kind === 'session') return mail.message.kind === 'requests';
  if (mail.kind === 'reply') return mail.message.kind === 'replies';
  return mail.kind === 'peer' && (mail.message.kind === 'append' || mail.message.kind === 'fill');
}

function linkMail(at: AnySim, about: AnySim, up: boolean): ServerMail | HostMail | ManagerMail | null {
  if (at instanceof SimManager) return { kind: 'link', node: about.name, up };
  if (at instanceof SimHost) return { kind: 'link', node: about.name, up, crashed: false };
  if (about instanceof SimManager) return { kind: 'manager-link', up };
  if (about instanceof SimServer) return up ? { kind: 'peer-up', from: about.serverId } : null;
  return up ? null : { kind: 'host-gone', from: about.hostId };
}
