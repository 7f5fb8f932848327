import type { Actor, ActorContext, Address, Signal } from '@ashlar/actor';
import { partyOf } from '@ashlar/actor';
import type { DeletedVolume, HeldCopy, Keep, KeptRecord, ManagerCommand, ManagerMessage, ServerMessage, StoreMark } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import { ledgerParts } from './ledger-parts.ts';
import type { KeepAnswer } from './ledger.ts';

/** How often a server tells the manager how full it is; also the pace at which a new manager is noticed. */
export const SERVER_STATUS_INTERVAL_MS = 500;

/** What the server actor asks of the node that owns the disks. */
export interface CopyHouse {
  /** The copy's actor runs here, or is started now because the configuration gives this server a role; false if it gives none. */
  ensure(command: ManagerCommand & { readonly kind: 'configure' }): boolean;
  address(volumeId: VolumeId): Address;
  volumeIds(): Iterable<VolumeId>;
  /** Removes the files; false if the copy has promised a later epoch than `epoch`, and stays. */
  discard(volumeId: VolumeId, epoch: number): boolean;
  space(): { readonly capacityBytes: number; readonly usedBytes: number; readonly copies: number };
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
}

/** Speaks with the system manager for the server as a whole. */
export class ServerActor implements Actor<ManagerCommand> {
  readonly #context: ActorContext;
  readonly #identity: ServerIdentity;
  readonly #manager: Address;
  readonly #house: CopyHouse;
  /** The manager has been greeted in its present life. */
  #greeted = false;
  #stopped = false;

  constructor(context: ActorContext, identity: ServerIdentity, manager: Address, house: CopyHouse) {
    this.#context = context;
    this.#identity = identity;
    this.#manager = manager;
    this.#house = house;
    context.watch(partyOf(manager));
    this.#tick();
  }

  receive(message: ManagerCommand | Signal, from: Address): void {
    switch (message.kind) {
      case 'timer': return this.#tick();
      case 'link-up': return this.#greet();
      case 'link-down':
      case 'down':
        this.#greeted = false;
        return;
      case 'configure':
        if (this.#isManager(from) && this.#house.ensure(message)) this.#context.send(this.#house.address(message.configuration.volumeId), message);
        return;
      case 'scrub':
      case 'member-ended':
      case 'ask-report':
        if (this.#isManager(from)) this.#context.send(this.#house.address(message.volumeId), message);
        return;
      case 'discard':
        if (this.#isManager(from) && this.#house.discard(message.volumeId, message.epoch)) {
          // Whoever is told that a volume is deleted must not be shown its copies after that.
          this.#tellStatus();
          const gone: ManagerMessage = { kind: 'discarded', volumeId: message.volumeId, epoch: message.epoch };
          this.#context.send(this.#manager, gone);
        }
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

  stop(): void {
    this.#stopped = true;
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
    this.#tellStatus();
  }

  #tellStatus(): void {
    if (this.#greeted) this.#tell({ kind: 'server-status', serverId: this.#identity.serverId, ...this.#house.space() });
  }

  /** First who we are, then how each copy stands. */
  #greet(): void {
    const { serverId, pid, instance, address } = this.#identity;
    this.#greeted = this.#tell({ kind: 'server-hello', serverId, pid, instance, address, keeps: true, mark: this.#house.ledger.mark });
    if (!this.#greeted) return;
    this.#context.monitor(this.#manager);
    for (const volumeId of this.#house.volumeIds()) this.#context.send(this.#house.address(volumeId), { kind: 'manager-up' } as const);
    this.#house.reportFaulted();
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
