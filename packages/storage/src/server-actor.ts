import type { Actor, ActorContext, Address, Signal, StopReason } from '@ashlar/actor';
import { KERNEL, partyOf } from '@ashlar/actor';
import type { Build, DeletedVolume, DirectoryHealth, DiskKind, HeldCopy, Keep, KeptRecord, ManagerCommand, ManagerMessage, ServerMessage, StoreMark } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import { HANDOVER_LOOK_MS, HandOver, SYNC_MS_MAX, type HandedCopy } from './handover.ts';
import { ledgerParts } from './ledger-parts.ts';
import type { KeepAnswer } from './ledger.ts';

/** How often a server tells the manager how full it is; also the pace at which a new manager is noticed. */
export const SERVER_STATUS_INTERVAL_MS = 500;
/** What a server's load is averaged over. */
const LOAD_SECONDS = 5;
/** Requests a second from which on scheduled scrubs pause: a hundredth of what a server of two slow cores answers. */
const PATROL_RATE_MAX = 200;
const HANDOVER_TIMER = 'hand-over';

/** From the process that hosts the server: end in order. `done` is called when nobody would miss it any more, or nothing can be done about it. */
export interface HandOverMessage {
  readonly kind: 'hand-over';
  readonly done: () => void;
}

/** What the server actor asks of the node that owns the disks. */
export interface CopyHouse {
  /** The copy's actor runs here, or is started now because the configuration gives this server a role; false if it gives none. */
  ensure(command: ManagerCommand & { readonly kind: 'configure' }): boolean;
  address(volumeId: VolumeId): Address;
  volumeIds(): Iterable<VolumeId>;
  copies(): Iterable<HandedCopy>;
  /** What all copies have been given so far is made stable; `done` also where that fails, but not if a copy is closed meanwhile. */
  sync(done: () => void): void;
  /** Removes the files, and calls `done` when they cannot come back; not if the copy has promised a later epoch than `epoch`, and stays. */
  discard(volumeId: VolumeId, epoch: number, done: () => void): void;
  space(): { readonly capacityBytes: number; readonly usedBytes: number; readonly copies: number };
  /** The server ends in order. */
  ends(): void;
  /** How its directories are, as its copies met them. */
  directories(): readonly DirectoryHealth[];
  /** Requests and records that its copies were sent so far. */
  requests(): number;
  /** Goes on with the scrub whose turn it is. */
  patrol(): void;
  /** Copies that could not be opened, told to the manager in their stead. */
  reportFaulted(): void;
  /** What is kept for the system manager; see ledger.ts. */
  readonly ledger: KeptHere;
  /** Every copy, running or not. */
  heldCopies(): readonly HeldCopy[];
}

export interface KeptHere {
  readonly mark: StoreMark | null;
  readonly servers: readonly ServerId[];
  records(): readonly KeptRecord[];
  deleted(): readonly DeletedVolume[];
  keep(keep: Keep, done: (answer: KeepAnswer) => void): void;
}

export interface ServerIdentity {
  readonly serverId: ServerId;
  readonly instance: string;
  readonly address: string;
  readonly pid: number;
  readonly rack: string;
  readonly siteId: string;
  readonly disk: DiskKind;
  readonly build: Build;
}

/** Speaks with the system manager for the server as a whole. */
export class ServerActor implements Actor<ManagerCommand | HandOverMessage> {
  readonly #context: ActorContext;
  readonly #identity: ServerIdentity;
  readonly #manager: Address;
  readonly #house: CopyHouse;
  /** The manager has been greeted in its present life. */
  #greeted = false;
  #stopped = false;
  #requestsSeen = 0;
  #requestsMs = 0;
  #requestsPerSecond = 0;
  /** It is to end. */
  #leaving: { readonly handOver: HandOver; readonly done: () => void } | null = null;
  #beginHandOver: (() => void) | null = null;

  constructor(context: ActorContext, identity: ServerIdentity, manager: Address, house: CopyHouse) {
    this.#context = context;
    this.#identity = identity;
    this.#manager = manager;
    this.#house = house;
    context.watch(partyOf(manager));
    this.#tick();
  }

  receive(message: ManagerCommand | HandOverMessage | Signal, from: Address): void {
    switch (message.kind) {
      case 'timer': return message.name === HANDOVER_TIMER ? this.#lookHandOver() : this.#tick();
      case 'hand-over':
        if (from === KERNEL) this.#handOver(message.done);
        return;
      case 'link-up': return this.#greet();
      case 'link-down':
      case 'down':
        this.#greeted = false;
        return;
      case 'configure':
        if (this.#isManager(from) && this.#house.ensure(message)) this.#context.send(this.#house.address(message.configuration.volumeId), message);
        return;
      case 'scrub':
      case 'fill-rate':
      case 'member-ended':
      case 'ask-report':
        if (this.#isManager(from)) this.#context.send(this.#house.address(message.volumeId), message);
        return;
      case 'discard':
        if (this.#isManager(from)) this.#house.discard(message.volumeId, message.epoch, () => this.#tellDiscarded(message.volumeId, message.epoch));
        return;
      case 'keep':
        if (this.#isManager(from)) this.#house.ledger.keep(message.keep, (answer) => this.#tellKept(answer, message.keep.number));
        return;
      case 'ask-ledger':
        if (this.#isManager(from)) this.#tellLedger(message.token);
        return;
    }
  }

  inspect(): unknown {
    return { ...this.#identity, greeted: this.#greeted, ...this.#house.space() };
  }

  stop(reason: StopReason): void {
    this.#stopped = true;
    if (reason === 'shutdown') this.#house.ends();
    this.#tellLeaving();
  }

  /** Cutting off what was under way ends with a sync of this thread, for which all its volumes wait: little is left for it. */
  #handOver(done: () => void): void {
    let begun = false;
    this.#beginHandOver = () => {
      if (begun) return;
      begun = true;
      this.#context.clearTimer(HANDOVER_TIMER);
      this.#leaving = { handOver: new HandOver(this.#context.nowMs()), done };
      if (this.#greeted) this.#tellLeaving();
      this.#lookHandOver();
    };
    if (!this.#greeted) return this.#beginHandOver();
    this.#context.setTimer(HANDOVER_TIMER, this.#context.nowMs() + SYNC_MS_MAX);
    this.#house.sync(this.#beginHandOver);
  }

  /** Without a system manager nobody can take over anything. */
  #lookHandOver(): void {
    if (this.#leaving === null) return this.#beginHandOver?.();
    const { handOver, done } = this.#leaving;
    const nowMs = this.#context.nowMs();
    if (!this.#greeted || handOver.look(nowMs, this.#house.copies())) return done();
    this.#context.setTimer(HANDOVER_TIMER, nowMs + HANDOVER_LOOK_MS);
  }

  #tellLeaving(): void {
    this.#tell({ kind: 'server-leaving', serverId: this.#identity.serverId, reason: 'shutting down' });
  }

  #isManager(from: Address): boolean {
    if (from === this.#manager) return true;
    this.#context.log.warn({ from }, 'a command came from something that is not the system manager; ignored');
    return false;
  }

  #tick(): void {
    this.#context.setTimer('status', this.#context.nowMs() + SERVER_STATUS_INTERVAL_MS);
    if (!this.#greeted) this.#greet();
    this.#measure();
    this.#tellStatus();
  }

  /** Averaged over some seconds: what a placement is decided by must not be the load of one moment. */
  #measure(): void {
    const nowMs = this.#context.nowMs();
    const requests = this.#house.requests();
    const seconds = (nowMs - this.#requestsMs) / 1000;
    if (this.#requestsMs > 0 && seconds > 0) {
      const rate = (requests - this.#requestsSeen) / seconds;
      // Not under load: whoever waits for this thread would notice.
      if (rate < PATROL_RATE_MAX) this.#house.patrol();
      this.#requestsPerSecond += (rate - this.#requestsPerSecond) * Math.min(1, seconds / LOAD_SECONDS);
    }
    this.#requestsSeen = requests;
    this.#requestsMs = nowMs;
  }

  #tellStatus(): void {
    if (this.#greeted) this.#tell({ kind: 'server-status', serverId: this.#identity.serverId, ...this.#house.space(), requestsPerSecond: this.#requestsPerSecond, directories: this.#house.directories() });
  }

  /** First who we are, then how each copy stands. */
  #greet(): void {
    this.#greeted = this.#tell({ kind: 'server-hello', ...this.#identity, keeps: true, mark: this.#house.ledger.mark });
    if (!this.#greeted) return;
    this.#context.monitor(this.#manager);
    for (const volumeId of this.#house.volumeIds()) this.#context.send(this.#house.address(volumeId), { kind: 'manager-up' } as const);
    this.#house.reportFaulted();
    // A system manager that was restarted meanwhile must not give it roles.
    if (this.#leaving !== null) this.#tellLeaving();
  }

  #tellDiscarded(volumeId: VolumeId, epoch: number): void {
    if (this.#stopped) return;
    // Whoever is told that a volume is deleted must not be shown its copies after that.
    this.#tellStatus();
    const gone: ManagerMessage = { kind: 'discarded', volumeId, epoch };
    this.#context.send(this.#manager, gone);
  }

  #tellKept(answer: KeepAnswer, number: number): void {
    if (!this.#stopped) this.#tell({ kind: 'server-kept', serverId: this.#identity.serverId, ...answer, number });
  }

  #tellLedger(token: number): void {
    const { serverId } = this.#identity;
    const { ledger } = this.#house;
    const { mark, servers } = ledger;
    for (const part of ledgerParts(ledger.records(), ledger.deleted(), this.#house.heldCopies())) this.#tell({ kind: 'server-ledger', serverId, token, mark, servers, ...part });
  }

  #tell(message: ServerMessage): boolean {
    return this.#context.send(this.#manager, message) === 'ok';
  }
}
