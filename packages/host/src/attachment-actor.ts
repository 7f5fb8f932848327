import { partyOf, type Actor, type ActorContext, type Address, type Signal, type StopReason } from '@ashlar/actor';
import {
  AttachmentCore, UNANSWERED_BYTES_MAX, type RequestTotals, type AttachmentClient, type AttachmentEffects, type AttachmentInput, type Reservation, type SendOutcome,
} from '@ashlar/attachment';
import type { NbdBackend, NbdBackendLimits, NbdDevice } from '@ashlar/nbd';
import { Frame, FrameKind, Status, type PayloadLease, type AttachmentSpec, type Configuration, type HostCommand, type HostMessage, type SessionMessage, type SessionReply, type Usage } from '@ashlar/protocol';
import { UNANSWERED_MAX, type ServerId } from '@ashlar/words';
import type { SavedAttachment } from './host-state.ts';
import { addUsage } from './usage.ts';

export type AttachmentMessage = SessionReply | (HostCommand & { readonly kind: 'configuration' | 'limits' });

/** What an attachment asks of the host that it belongs to. */
export interface AttachmentHouse {
  readonly managerAddress: Address;
  readonly totals: RequestTotals;
  /** Stable when it returns. */
  reserve(name: string, reservation: Reservation): void;
  /** Saved within a second. */
  configured(name: string, configuration: Configuration): void;
  /** Its life begins: NBD clients may be sent to it. */
  opened(name: string, attachment: AttachmentActor): void;
  /** Its life ends: its NBD connections are dropped. */
  closed(name: string, attachment: AttachmentActor): void;
}

const TIMER = 'core';

/** One attachment as an actor: the core, its timer, and who is who in its messages; and what stands behind its NBD export. */
export class AttachmentActor implements Actor<AttachmentMessage>, AttachmentEffects, NbdBackend {
  readonly limits: NbdBackendLimits = { requestsMax: UNANSWERED_MAX, bytesMax: UNANSWERED_BYTES_MAX };
  readonly checksums = true;
  readonly spec: AttachmentSpec;
  readonly #name: string;
  readonly #context: ActorContext;
  readonly #house: AttachmentHouse;
  readonly #core: AttachmentCore;
  readonly #before: Usage;
  readonly #copies = new Map<ServerId, Address>();
  readonly #watched = new Set<ServerId>();
  readonly #monitored = new Set<Address>();
  #ended = false;

  constructor(context: ActorContext, saved: SavedAttachment, house: AttachmentHouse) {
    this.#name = saved.name;
    this.spec = saved.spec;
    this.#context = context;
    this.#house = house;
    this.#before = saved.usage;
    this.#core = new AttachmentCore(saved.spec, saved.configuration, saved.reservation, house.totals);
    this.#watch(saved.configuration);
    this.#input({ kind: 'start' });
    house.opened(saved.name, this);
  }

  receive(message: AttachmentMessage | Signal, from: Address): void {
    switch (message.kind) {
      case 'replies':
      case 'opened':
      case 'refused':
      case 'alive':
      case 'resized':
        return this.#input({ kind: 'session', from: partyOf(from) as ServerId, message });
      case 'timer': return this.#input({ kind: 'timer' });
      case 'configuration': return this.#configured(message.configuration);
      case 'limits': return this.#input({ kind: 'limits', limits: message.limits });
      case 'link-up': return this.#input({ kind: 'link', serverId: message.party as ServerId, up: true });
      case 'link-down': return this.#input({ kind: 'link', serverId: message.party as ServerId, up: false });
      case 'down':
        this.#monitored.delete(message.address);
        return this.#input({ kind: 'link', serverId: partyOf(message.address) as ServerId, up: false, crashed: message.reason === 'crashed' });
    }
  }

  get configuration(): Configuration { return this.#core.configuration; }
  /** Over all lives. */
  get usage(): Usage { return addUsage(this.#before, this.#core.usage); }

  inspect(): unknown {
    const { volumeId, readOnly, copy, attachNumber, limits } = this.spec;
    return { volumeId, readOnly, copy, attachNumber, limits, ...this.#core.view() };
  }

  stop(_reason: StopReason): void {
    // Connections first: their clients may come back and ask again, where an I/O error would be final.
    this.#house.closed(this.#name, this);
    this.#ended = true;
    this.#core.receive(this.#context.nowMs(), { kind: 'detach' }, this);
  }

  // ---- NbdBackend

  device(): NbdDevice {
    const { copy, readOnly } = this.spec;
    return {
      sizeBytes: this.#core.sizeBytes, readOnly: readOnly || copy !== null,
      // All connections share one session with one primary, whose flush covers everything answered before it (guarantee G2).
      multiConnection: true,
      description: copy === null ? '' : `the copy on ${copy} alone`,
    };
  }

  submit(frame: Frame, client: AttachmentClient, lease: PayloadLease): void {
    if (this.#ended) {
      lease.release();
      return client.replied(refusal(frame), 'detached');
    }
    try {
      this.#core.receive(this.#context.nowMs(), { kind: 'submit', frame, client, lease }, this);
    } catch (error) {
      // Its supervisor starts another life, whose clients come anew; the answers of this one are lost.
      this.#context.crash(error);
    }
  }

  // ---- AttachmentEffects

  send(to: ServerId, message: SessionMessage): SendOutcome {
    let address = this.#copies.get(to);
    if (address === undefined) {
      address = `${to}/copy/${this.spec.volumeId}`;
      this.#copies.set(to, address);
    }
    const outcome = this.#context.send(address, message);
    if (message.kind === 'open' && outcome === 'ok') this.#monitor(address);
    return outcome;
  }

  tell(message: HostMessage): void {
    // The manager may be away: attached volumes do without it, and what it must know is repeated.
    this.#context.send(this.#house.managerAddress, message);
  }

  setTimer(atMs: number): void {
    this.#context.setTimer(TIMER, atMs);
  }

  reserve(reservation: Reservation): void {
    this.#house.reserve(this.#name, reservation);
  }

  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void {
    this.#context.log.info({ volumeId: this.spec.volumeId, export: this.#name, ...detail }, name);
    // A volume may have several attachments here.
    this.tell({ kind: 'host-event', volumeId: this.spec.volumeId, name, detail: { ...detail, export: this.#name } });
  }

  // ---- parts

  #input(input: AttachmentInput): void {
    this.#core.receive(this.#context.nowMs(), input, this);
  }

  /** The session first, then the disk: a program waits for the one and nobody for the other. */
  #configured(configuration: Configuration): void {
    const { epoch } = this.#core.configuration;
    this.#watch(configuration);
    this.#input({ kind: 'configuration', configuration });
    if (configuration.epoch > epoch) this.#house.configured(this.#name, configuration);
  }

  #watch(configuration: Configuration): void {
    if (this.spec.copy !== null) this.#watchServer(this.spec.copy);
    for (const { serverId } of configuration.members) this.#watchServer(serverId);
  }

  #watchServer(serverId: ServerId): void {
    if (this.#watched.has(serverId)) return;
    this.#watched.add(serverId);
    this.#context.watch(serverId);
  }

  #monitor(address: Address): void {
    if (this.#monitored.has(address)) return;
    this.#monitored.add(address);
    this.#context.monitor(address);
  }
}

function refusal(request: Frame): Frame {
  const reply = Frame.create(FrameKind.reply, request.count, 0);
  for (let i = 0; i < request.count; i++) {
    reply.setOperation(i, request.requestNumber(i), request.op(i), 0, request.offsetBytes(i), request.lengthBytes(i), 0, 0);
    reply.setStatus(i, Status.ioError);
  }
  return reply;
}
