import { nameOf, type Address } from '@ashlar/actor';
import { AttachmentCore, nextReservation, type AttachmentEffects, type AttachmentInput, type Reservation, type SendOutcome } from '@ashlar/attachment';
import type { AttachmentSpec, Configuration, HostCommand, HostMessage, SessionMessage } from '@ashlar/protocol';
import type { HostId, Prng, ServerId } from '@ashlar/words';
import type { Process } from '../engine/process.ts';
import { EventKind, type Receiver, type SimEvent } from '../engine/scheduler.ts';
import type { HostMail } from './mail.ts';
import { SimClient } from './sim-client.ts';
import type { World } from './world.ts';

/** What a host keeps on its disk of one attachment. */
interface Saved {
  readonly spec: AttachmentSpec;
  readonly configuration: Configuration;
  readonly reservation: Reservation;
}

/** One attachment's life: the production core and the programs that use the device. */
export class SimAttachment implements AttachmentEffects {
  readonly spec: AttachmentSpec;
  readonly address: Address;
  readonly core: AttachmentCore;
  readonly clients: SimClient[] = [];
  readonly #host: SimHost;
  #timer = 0;
  ended = false;

  constructor(host: SimHost, name: string, saved: Saved) {
    this.#host = host;
    this.spec = saved.spec;
    this.address = `${host.hostId}/${name}`;
    this.core = new AttachmentCore(saved.spec, saved.configuration, saved.reservation);
  }

  input(input: AttachmentInput): void {
    if (!this.ended) this.core.receive(this.#host.process.nowMs, input, this);
  }

  timer(token: number): void {
    if (token === this.#timer) this.input({ kind: 'timer' });
  }

  stop(): void {
    this.input({ kind: 'detach' });
    this.ended = true;
    for (const client of this.clients) client.stop();
  }

  send(to: ServerId, message: SessionMessage): SendOutcome { return this.#host.sendSession(this.address, to, message); }
  tell(message: HostMessage): void { this.#host.tellManager(message); }
  setTimer(atMs: number): void { this.#host.setTimer(this, atMs, ++this.#timer); }
  reserve(reservation: Reservation): void { this.#host.reserve(this.address, reservation); }
  event(name: string): void { this.#host.event(name); }
}

/** A host's process: node manager and the programs of that machine. */
export class SimHost implements Receiver {
  readonly name: string;
  readonly hostId: HostId;
  readonly process: Process;
  readonly traceId: number;
  readonly attachments = new Map<string, SimAttachment>();
  /** Outlives the process. */
  readonly #saved = new Map<string, Saved>();
  readonly #world: World;
  readonly #prng: Prng;

  constructor(world: World, hostId: HostId, process: Process, prng: Prng) {
    this.#world = world;
    this.hostId = hostId;
    this.name = hostId;
    this.process = process;
    this.#prng = prng;
    this.traceId = process.index;
  }

  get life(): number { return this.process.life; }
  held(nowMs: number): boolean { return this.process.held(nowMs); }
  defer(event: SimEvent): void { this.process.defer(event); }

  start(): void {
    this.process.up = true;
    for (const name of this.#saved.keys()) this.#begin(name);
  }

  ended(): void {
    for (const attachment of this.attachments.values()) {
      attachment.ended = true;
      for (const client of attachment.clients) client.stop();
    }
    this.attachments.clear();
    this.process.end();
  }

  /** What can be seen of it, for `replay`. */
  view(): Record<string, unknown> {
    const attachments = [...this.attachments].map(([name, { core, spec }]) => [name, { phase: core.phase, configuration: core.configuration, attachNumber: spec.attachNumber, sizeBytes: core.sizeBytes }]);
    const saved = [...this.#saved].map(([name, { reservation }]) => [name, reservation]);
    return { up: this.process.up, life: this.process.life, attachments: Object.fromEntries(attachments), saved: Object.fromEntries(saved) };
  }

  handle(event: SimEvent): void {
    if (event.kind === EventKind.message) return this.#onMail(event.message as HostMail);
    const { attachment, token } = event.message as { readonly attachment: SimAttachment; readonly token: number };
    attachment.timer(token);
  }

  #onMail(mail: HostMail): void {
    switch (mail.kind) {
      case 'reply': return this.attachments.get(nameOf(mail.to))?.input({ kind: 'session', from: mail.from, message: mail.message });
      case 'command': return this.#command(mail.command);
      case 'link':
        if (mail.node === 'manager') {
          if (mail.up) this.tellManager({ kind: 'host-hello', hostId: this.hostId, pid: this.process.life, attachments: [...this.#saved.values()].map((saved) => saved.spec), build: null, configurations: [...this.#saved.values()].map((saved) => saved.configuration) });
          return;
        }
        for (const attachment of this.attachments.values()) attachment.input({ kind: 'link', serverId: mail.node as ServerId, up: mail.up, crashed: mail.crashed });
    }
  }

  #command(command: HostCommand): void {
    switch (command.kind) {
      case 'attach': return this.#attach(command.spec, command.configuration);
      case 'detach': {
        const name = attachmentName(command.readOnly);
        this.attachments.get(name)?.stop();
        this.attachments.delete(name);
        this.#saved.delete(name);
        return this.tellManager({ kind: 'detached', volumeId: command.volumeId, readOnly: command.readOnly, copy: command.copy });
      }
      case 'limits':
        for (const attachment of this.attachments.values()) attachment.input({ kind: 'limits', limits: command.limits });
        return;
      case 'configuration':
        for (const [name, attachment] of this.attachments) {
          const { epoch } = attachment.core.configuration;
          attachment.input({ kind: 'configuration', configuration: command.configuration });
          if (command.configuration.epoch > epoch) this.#saved.set(name, { ...this.#saved.get(name) as Saved, configuration: command.configuration });
        }
    }
  }

  #attach(spec: AttachmentSpec, configuration: Configuration): void {
    const name = attachmentName(spec.readOnly);
    const known = this.attachments.get(name);
    if (known?.spec.attachNumber === spec.attachNumber) known.input({ kind: 'configuration', configuration });
    else {
      known?.stop();
      this.#saved.set(name, { spec, configuration, reservation: { restartCount: 0, sessionCount: 0 } });
      this.#begin(name);
    }
    this.tellManager({ kind: 'attached', spec, nbd: `nbd://${this.hostId}/${name}` });
  }

  #begin(name: string): void {
    const known = this.#saved.get(name) as Saved;
    const saved = { ...known, reservation: nextReservation(known.reservation) };
    this.#saved.set(name, saved);
    const attachment = new SimAttachment(this, name, saved);
    this.attachments.set(name, attachment);
    attachment.input({ kind: 'start' });
    for (let k = 0; k < this.#world.plan.clients; k++) attachment.clients.push(new SimClient(this.#world, this, attachment, k, this.#prng.fork()));
  }

  // ---- what attachments ask for

  sendSession(from: Address, to: ServerId, message: SessionMessage): SendOutcome {
    return this.#world.sessionTo(this, from, to, message);
  }

  tellManager(message: HostMessage): void {
    this.#world.toManager(this.process, this.name, { kind: 'from-host', from: this.hostId, message });
  }

  setTimer(attachment: SimAttachment, atMs: number, token: number): void {
    this.#world.scheduler.at(this.process.machine.worldAt(atMs), EventKind.timer, this, { attachment, token });
  }

  reserve(address: Address, reservation: Reservation): void {
    const name = nameOf(address);
    this.#saved.set(name, { ...this.#saved.get(name) as Saved, reservation });
  }

  event(name: string): void { this.#world.event(this.name, name); }
}

/** `attachment/writer` or `attachment/reader`. */
function attachmentName(readOnly: boolean): string {
  return readOnly ? 'attachment/reader' : 'attachment/writer';
}
