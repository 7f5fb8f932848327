import { MemoryLedger } from '@ashlar/control/core';
import { Supervisor, type Address, type SupervisorAction, type SupervisorEvent } from '@ashlar/actor';
import { FOUNDING_INCARNATION, memberOf, type CopyFault, type CopyReport, type Keep, type ManagerCommand, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import { BEACON_INTERVAL_MS, BeaconTable, newCopyState, type BeaconEffects, type CopyInput } from '@ashlar/replication';
import type { CopyStore } from '@ashlar/store';
import type { Prng, ServerId, VolumeId } from '@ashlar/words';
import { CopyDriver, type CopyPort } from '@ashlar/storage/copy-driver';
import { HANDOVER_LOOK_MS, HandOver, SYNC_MS_MAX } from '@ashlar/storage/handover';
import { SessionKeys } from '@ashlar/storage/session-keys';
import { COPY_SUPERVISION } from '@ashlar/storage/supervision';
import type { Harm } from '../checks/ghost.ts';
import { EventKind, type Receiver, type SimEvent } from '../engine/scheduler.ts';
import type { Process } from '../engine/process.ts';
import type { Medium } from './media.ts';
import type { ServerMail } from './mail.ts';
import { watchStore } from './watch.ts';
import type { World } from './world.ts';

const STATUS_INTERVAL_MS = 500;
const CRASH = 'crashed';
/** In the stead of a copy that could not be opened. */
const UNOPENED = { lineage: 0, promisedEpoch: 0, incarnation: 0, lostCache: true, complete: false, lastEpoch: 0, lastSeq: 0, attachNumber: 0, asked: 0 } as const;

type Completion = { readonly kind: 'timer'; readonly name: string; readonly token: number } | { readonly kind: 'work' } | { readonly kind: 'run'; readonly run: () => void };

/** An orderly end: null while its copies are synced first. */
interface Leaving {
  handOver: HandOver | null;
  readonly then: () => void;
}

/** A storage server's process with its copy of the volume: the production driver and core over a simulated disk and network. */
export class SimServer implements Receiver {
  readonly name: string;
  readonly serverId: ServerId;
  readonly process: Process;
  readonly medium: Medium;
  /** On the same disk. */
  readonly ledger = new MemoryLedger();
  readonly #stableLedger = new MemoryLedger();
  readonly traceId: number;
  readonly #world: World;
  readonly #prng: Prng;
  #beacons: BeaconTable | null = null;
  driver: CopyDriver | null = null;
  /** Sums over all lives. */
  readonly counts: Record<string, number> = {};
  /** Of the life that crashed last. */
  #lastReport: CopyReport | null = null;
  readonly #timers = new Map<string, number>();
  #sessions = new SessionKeys();
  #greeted = false;
  /** How long a sync takes. */
  syncMs = 0.4;
  slowed = false;
  #token = 0;
  #workDue = false;
  /** The copy's; its state machine is the kernel's own. */
  #supervisor: Supervisor | null = null;
  readonly #supervision: SupervisorEvent[] = [];
  /** Made a moment ago, for its first life. */
  #created: CopyStore | null = null;
  /** It is to end in order, as soon as others have taken over. */
  #leaving: Leaving | null = null;
  /** The copy cannot run, and this is what the manager is told of it. */
  #faulted: CopyReport | null = null;

  constructor(world: World, serverId: ServerId, process: Process, medium: Medium, prng: Prng) {
    this.#world = world;
    this.serverId = serverId;
    this.name = serverId;
    this.process = process;
    this.medium = medium;
    this.#prng = prng;
    this.traceId = process.index;
  }

  get life(): number { return this.process.life; }
  held(nowMs: number): boolean { return this.process.held(nowMs); }
  defer(event: SimEvent): void { this.process.defer(event); }

  // ------------------------------------------------------------------------------------------ lives

  start(): void {
    this.process.up = true;
    this.#beacons = new BeaconTable(this.#prng.next32(), () => this.#setTimer('beacon', this.process.nowMs));
    if (this.medium.holdsCopy) this.#supervise();
    this.#setTimer('status', this.process.nowMs + STATUS_INTERVAL_MS);
  }

  /** First who we are, then how the copy stands. */
  #greet(): void {
    this.#greeted = true;
    const address = `${this.serverId}:0`;
    this.#tellManager({ kind: 'from-server', from: this.serverId, message: { kind: 'server-hello', serverId: this.serverId, pid: this.process.life, instance: this.instance, address, rack: '', siteId: '', disk: 'unknown', build: null, keeps: true, mark: this.ledger.mark } });
    this.#input({ kind: 'manager-up' });
    this.#tellFaulted();
    if (this.#leaving?.handOver) this.#tellLeaving();
  }

  #tellFaulted(): void {
    if (this.#faulted !== null) this.#tellManager({ kind: 'from-copy', from: this.serverId, message: { kind: 'report', copy: this.#faulted } });
  }

  /** Crashed too often: it takes a restart of the process to run this copy again. */
  get gaveUp(): boolean { return this.#faulted?.fault === 'restarts'; }

  get faulted(): boolean { return this.#faulted !== null || (this.driver?.core.durable.fault ?? null) !== null; }

  get instance(): string { return this.#beacons?.instance.toString(36) ?? ''; }

  // ------------------------------------------------------------------------------------------ supervision of the copy

  #supervise(): void {
    this.#faulted = null;
    this.#supervisor = new Supervisor({ ...COPY_SUPERVISION, children: [{ id: 'copy', restart: 'permanent' }] });
    this.#supervision.length = 0;
    this.#tellSupervisor({ kind: 'start' });
  }

  #tellSupervisor(event: SupervisorEvent): void {
    if (this.#supervision.push(event) > 1) return;
    for (let next: SupervisorEvent | undefined = event; next !== undefined; next = this.#supervision[0]) {
      for (const action of this.#supervisor?.step(next, this.process.nowMs) ?? []) this.#carryOut(action);
      this.#supervision.shift();
    }
  }

  #carryOut(action: SupervisorAction): void {
    if (action.kind === 'start-child') {
      const failed = this.#open();
      this.#tellSupervisor(failed === null ? { kind: 'child-started', id: 'copy' } : { kind: 'child-start-failed', id: 'copy', error: failed });
    } else if (action.kind === 'start-failed') this.#fault('corrupt');
    else if (action.kind === 'gave-up') this.#fault(action.error === CRASH ? 'restarts' : 'corrupt');
  }

  /** It stays down; its volume goes on with the others. */
  #fault(fault: CopyFault): void {
    this.#faulted = { ...(this.#lastReport ?? UNOPENED), volumeId: this.#world.volumeId, fault };
    this.#world.event(this.serverId, 'copy-faulted', { fault });
    this.#tellFaulted();
  }

  /** One life of the copy: its files are opened anew, as after a restart of the process. Null, or why it cannot be. */
  #open(): string | null {
    const created = this.#created;
    this.#created = null;
    if (created !== null) {
      this.#begin(created, { lostPower: false, spoiled: false });
      return null;
    }
    const { lostPower, spoiled } = this.medium;
    const opened = this.medium.open(this.#lifeOptions());
    if ('failed' in opened) {
      this.#world.note(this.serverId, 'open-failed', `${opened.failed}: ${opened.detail}`);
      return opened.failed;
    }
    this.#begin(opened.store, { lostPower, spoiled });
    return null;
  }

  #lifeOptions() {
    return this.#world.storeOptions(this.serverId, this.process.machine.bootId, () => this.#wake());
  }

  #begin(store: CopyStore, since: Harm): void {
    const { ghost } = this.#world;
    ghost.opened(this.serverId, {
      incarnation: store.incarnation, lastSeq: store.lastSeq, chain: store.chain, durableSeq: store.durableSeq,
      promisedEpoch: store.state.promisedEpoch, complete: store.state.complete,
    }, since);
    watchStore(store, this.serverId, ghost, () => this.driver?.core.role === 'primary');
    this.driver = new CopyDriver(this.#world.volumeId, this.serverId, store, this.#beacons as BeaconTable, this.#prng.fork(), this.#port());
    this.driver.receive({ kind: 'started' });
    this.#want();
  }

  /** The process is gone: nothing of it happens any more. */
  ended(): void {
    this.#collect();
    this.driver = null;
    this.#supervisor = null;
    this.#faulted = null;
    this.#leaving = null;
    this.#lastReport = null;
    this.#beacons = null;
    this.#sessions = new SessionKeys();
    this.#greeted = false;
    this.#timers.clear();
    this.#workDue = false;
    this.process.end();
    this.medium.processEnded();
  }

  /** In order: files are closed, so that a restart of the machine loses nothing. */
  close(): void {
    this.#tellLeaving();
    this.driver?.close(true);
  }

  /** As before an orderly end of the process: `then` when nobody would miss it any more, if it lives so long. */
  handOver(then: () => void): void {
    if (this.#leaving !== null) return;
    const leaving: Leaving = { handOver: null, then };
    this.#leaving = leaving;
    this.#setTimer('hand-over', this.process.nowMs + (this.#greeted && this.driver !== null ? SYNC_MS_MAX : 0));
    this.driver?.syncAhead(() => {
      if (this.#leaving === leaving && leaving.handOver === null) this.#setTimer('hand-over', this.process.nowMs);
    });
  }

  #lookHandOver(): void {
    if (this.#leaving === null) return;
    if (this.#leaving.handOver === null) {
      this.#leaving.handOver = new HandOver(this.process.nowMs);
      this.#tellLeaving();
    }
    const { driver } = this;
    const copies = driver === null ? [] : [{ missedAs: () => driver.core.missedAs, retire: () => this.#input({ kind: 'retire' }) }];
    if (!this.#greeted || this.#leaving.handOver.look(this.process.nowMs, copies)) return this.#leaving.then();
    this.#setTimer('hand-over', this.process.nowMs + HANDOVER_LOOK_MS);
  }

  #tellLeaving(): void {
    this.#tellManager({ kind: 'from-server', from: this.serverId, message: { kind: 'server-leaving', serverId: this.serverId, reason: 'shutting down' } });
  }

  /** Only the copy's actor crashed: its supervisor opens it again in the same process, unless that was too often. */
  crashCopy(): void {
    if (this.driver === null) return;
    this.#collect();
    this.#lastReport = this.driver.report();
    this.driver = null;
    this.#sessions = new SessionKeys();
    this.#timers.delete('tick');
    this.medium.processEnded();
    this.#world.copyCrashed(this);
    this.#tellSupervisor({ kind: 'child-exited', id: 'copy', reason: 'crashed', error: CRASH });
  }

  #collect(): void {
    const counts = this.driver?.core.counts as unknown as Record<string, number> | undefined;
    for (const name in counts) this.counts[name] = (this.counts[name] ?? 0) + counts[name];
  }

  /** What can be seen of it, for `replay`. */
  view(): Record<string, unknown> {
    const { process, driver } = this;
    if (driver === null) return { up: process.up, life: process.life };
    const { lineage, incarnation, lostCache, lastSeq, lastEpoch, durableSeq, committedSeq, journalStartSeq, fault, session } = driver.store;
    const { durable, follower, leader, grants, saving } = driver.core.state;
    return {
      up: process.up, life: process.life, store: { lineage, incarnation, lostCache, lastSeq, lastEpoch, durableSeq, committedSeq, journalStartSeq, fault, session }, durable, follower,
      leader: leader && { ...leader, required: leader.required.map((peer) => peer.serverId).join(' '), joiner: leader.joiner?.serverId ?? 'none', pending: leader.pending.length }, grants, saving: saving.length,
    };
  }

  totals(): Record<string, number> {
    const totals = { ...this.counts };
    const counts = this.driver?.core.counts as unknown as Record<string, number> | undefined;
    for (const name in counts) totals[name] = (totals[name] ?? 0) + counts[name];
    return totals;
  }

  // ------------------------------------------------------------------------------------------ events

  handle(event: SimEvent): void {
    if (event.kind === EventKind.message) return this.#onMail(event.message as ServerMail);
    const completion = event.message as Completion;
    if (completion.kind === 'run') return completion.run();
    if (completion.kind === 'work') return this.#work();
    if (this.#timers.get(completion.name) === completion.token) this.#onTimer(completion.name);
  }

  #onMail(mail: ServerMail): void {
    switch (mail.kind) {
      case 'peer': return this.#input({ kind: 'peer', from: mail.from, message: mail.message });
      case 'session': return this.#onSession(mail.from, mail.message);
      case 'host-gone':
        for (const key of this.#sessions.ofParty(mail.from)) this.#sessionGone(key);
        return;
      case 'peer-up': return this.#input({ kind: 'peer-up', peer: mail.from });
      case 'manager-link':
        this.#greeted = false;
        if (mail.up) this.#greet();
        return;
      case 'beacon': return this.#beacon(mail);
      case 'command': return this.#command(mail.command);
    }
  }

  #onSession(from: Address, message: SessionMessage): void {
    const key = this.#sessions.keyOf(from, message.sessionId);
    if (this.driver === null) return this.#answer(key, { kind: 'refused', sessionId: key, epoch: 0, reason: 'not-primary' });
    // One attachment has one session at a time.
    if (message.kind === 'open') for (const other of this.#sessions.ofAddress(from)) if (other !== key) this.#sessionGone(other);
    if (message.kind === 'requests' && this.#world.isPoisoned(message.frame)) return this.crashCopy();
    this.#input({ kind: 'session', key, message });
    if (message.kind === 'close') this.#sessions.delete(key);
  }

  #sessionGone(key: number): void {
    this.#sessions.delete(key);
    this.#input({ kind: 'session-gone', key });
  }

  #input(input: CopyInput): void {
    if (this.driver === null) return;
    this.driver.receive(input);
  }

  #beacon(mail: ServerMail & { readonly kind: 'beacon' }): void {
    this.#beacons?.receive(this.process.nowMs, mail.from, mail.message, this.#beaconEffects);
  }

  #command(command: ManagerCommand): void {
    if (command.kind === 'scrub') return this.driver?.scrub();
    if (command.kind === 'fill-rate') return this.driver?.limitFills(command.bytesPerSecond);
    if (command.kind === 'discard') return this.#discard(command.epoch);
    if (command.kind === 'keep') return this.#keep(command.keep);
    if (command.kind === 'ask-ledger') return this.#tellLedger(command.token);
    if (command.kind === 'configure' && this.driver === null && !this.medium.holdsCopy) this.#create(command);
    this.#input({ kind: 'manager', command });
  }

  /** Answered when it is on its disk; until then the power may take it back. */
  #keep(keep: Keep): void {
    const answer = this.ledger.keep(keep);
    this.#world.scheduler.at(this.process.departsMs + this.syncMs, EventKind.completion, this, {
      kind: 'run',
      run: () => {
        this.#stableLedger.become(this.ledger);
        this.#tellManager({ kind: 'from-server', from: this.serverId, message: { kind: 'server-kept', serverId: this.serverId, ...answer, number: keep.number } });
      },
    });
  }

  powerCut(): void { this.ledger.become(this.#stableLedger); }

  wipeLedger(): void {
    this.ledger.become();
    this.#stableLedger.become();
  }

  #tellLedger(token: number): void {
    const report = this.driver?.report() ?? this.#faulted;
    const copies = report === null ? [] : [{ report, configuration: this.driver?.core.durable.configuration ?? null }];
    this.#tellManager({ kind: 'from-server', from: this.serverId, message: this.ledger.told(this.serverId, token, copies) });
  }

  /** A new copy. Only while the volume is created do members hold nothing and lack nothing. */
  #create(command: ManagerCommand & { readonly kind: 'configure' }): void {
    const { configuration } = command;
    const member = memberOf(configuration, this.serverId);
    if (member === undefined && !configuration.learners.includes(this.serverId)) return;
    const founding = command.founding && member?.incarnation === FOUNDING_INCARNATION;
    const store = this.medium.create({
      ...this.#lifeOptions(), sizeBytes: configuration.sizeBytes, lineage: configuration.lineage,
      incarnation: founding ? FOUNDING_INCARNATION : this.#prng.between(2 ** 20, 2 ** 30),
      state: newCopyState(configuration, founding),
    });
    this.#created = store;
    this.#supervise();
  }

  #discard(epoch: number): void {
    const volumeId: VolumeId = this.#world.volumeId;
    const report = this.driver?.state.durable ?? this.#lastReport;
    // One that cannot be opened has promised nobody knows what.
    const kept = report === null ? epoch === 0 && this.#faulted !== null : report.promisedEpoch > epoch;
    if (kept) {
      const copy = this.driver?.report() ?? this.#faulted ?? this.#lastReport;
      if (copy !== null) this.#tellManager({ kind: 'from-copy', from: this.serverId, message: { kind: 'report', copy } });
      return;
    }
    if (this.driver !== null) {
      this.#collect();
      this.driver.close(false);
      this.driver = null;
    }
    if (this.medium.holdsCopy) {
      this.#world.ghost.wiped(this.serverId);
      this.medium.wipe();
    }
    this.#supervisor = null;
    this.#faulted = null;
    this.#lastReport = null;
    this.ledger.records.delete(volumeId);
    this.#tellManager({ kind: 'from-copy', from: this.serverId, message: { kind: 'discarded', volumeId, epoch } });
  }

  // ------------------------------------------------------------------------------------------ timers and work

  #setTimer(name: string, atMs: number): void {
    const token = ++this.#token;
    this.#timers.set(name, token);
    this.#world.scheduler.at(this.process.machine.worldAt(atMs), EventKind.timer, this, { kind: 'timer', name, token });
  }

  #onTimer(name: string): void {
    this.#timers.delete(name);
    const nowMs = this.process.nowMs;
    if (name === 'tick') return this.#input({ kind: 'timer', name });
    if (name === 'hand-over') return this.#lookHandOver();
    if (name === 'beacon') {
      this.#beacons?.tick(nowMs, this.#beaconEffects);
      return this.#keepBeacons();
    }
    this.#setTimer('status', nowMs + STATUS_INTERVAL_MS);
    if (!this.#greeted) return;
    const status = { kind: 'server-status', serverId: this.serverId, capacityBytes: 2 ** 40, usedBytes: 0, copies: this.driver === null ? 0 : 1, requestsPerSecond: 0, directories: [] } as const;
    this.#tellManager({ kind: 'from-server', from: this.serverId, message: status });
  }

  #keepBeacons(): void {
    if (this.#timers.has('beacon') || this.#beacons?.active !== true) return;
    this.#setTimer('beacon', this.process.nowMs + BEACON_INTERVAL_MS);
  }

  #want(): void {
    if (this.#workDue) return;
    this.#workDue = true;
    this.#world.scheduler.at(this.process.departsMs + 0.3, EventKind.completion, this, { kind: 'work' });
  }

  #work(): void {
    this.#workDue = false;
    const outcome = this.driver?.work(this.#prng.chance(0.3), true);
    if (outcome === 'more' || outcome === 'errands') this.#want();
  }

  /** The store says that what it waited for may go on; never inside of its own call. */
  #wake(): void {
    this.#world.scheduler.at(this.process.departsMs, EventKind.completion, this, { kind: 'run', run: () => this.driver?.wake() });
  }

  // ------------------------------------------------------------------------------------------ ports

  #port(): CopyPort {
    const world = this.#world;
    return {
      nowMs: () => this.process.nowMs,
      send: (to, message) => {
        if (message.kind === 'adopt') world.ghost.acts(this.serverId, String(this.life), message.epoch);
        if (message.kind === 'append') world.ghost.acts(this.serverId, String(this.life), message.frame.senderEpoch);
        if (message.kind === 'adopted') world.ghost.promised(this.serverId, message.epoch);
        world.toServer(this.process, this.name, to, { kind: 'peer', from: this.serverId, message });
      },
      answer: (key, reply) => this.#answer(key, reply),
      tell: (message) => this.#tellManager({ kind: 'from-copy', from: this.serverId, message }),
      setTimer: (name, atMs) => this.#setTimer(name, atMs),
      wantWork: () => this.#want(),
      traffic: () => 0,
      event: (name, detail) => world.event(this.serverId, name, detail),
    };
  }

  #answer(key: number, reply: SessionReply): void {
    const session = this.#sessions.get(key);
    if (session === undefined) return;
    this.#world.watchReply(this.serverId, String(this.life), reply);
    this.#world.toHost(this.process, this.name, { kind: 'reply', from: this.serverId, to: session.from, message: { ...reply, sessionId: session.sessionId } });
    if (reply.kind === 'refused') this.#sessions.delete(key);
  }

  #tellManager(mail: Parameters<World['toManager']>[2]): void {
    this.#world.toManager(this.process, this.name, mail);
  }

  readonly #beaconEffects: BeaconEffects = {
    sendBeacon: (to, message) => this.#world.toServer(this.process, this.name, to, { kind: 'beacon', from: this.serverId, message }),
    leaseGranted: (volumeIds) => { if (volumeIds.length > 0) this.#input({ kind: 'lease-granted' }); },
    relationLost: (peer) => this.#input({ kind: 'relation-lost', peer }),
    peerSilent: (peer) => this.#input({ kind: 'peer-silent', peer }),
    committed: (from, point) => this.#input({ kind: 'committed', from, epoch: point.epoch, seq: point.committedSeq }),
  };
}
