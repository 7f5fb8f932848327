import { Op, type AttachmentSpec, type Configuration, type Frame, type HostMessage, type RefusalReason, type SessionMessage, type SessionReply, type Status } from '@ashlar/protocol';
import { assert, type ServerId } from '@ashlar/words';
import { AttachmentCore } from '../core.ts';
import type { AttachmentEffects, AttachmentInput, Reservation, SendOutcome } from '../effects.ts';
import { nextReservation } from '../reservation.ts';
import { A, allOf, configurationOf, replyOf, requestOf, SPEC, TestClient, TestLease, type Operation } from './requests.ts';

/** One core, with its effects written down; the test plays the primary. */
export class Rig implements AttachmentEffects {
  nowMs = 1000;
  readonly core: AttachmentCore;
  readonly sent: { readonly to: ServerId; readonly message: SessionMessage }[] = [];
  readonly told: HostMessage[] = [];
  readonly events: { readonly name: string; readonly detail: Readonly<Record<string, string | number | boolean>> }[] = [];
  readonly reserved: Reservation[] = [];
  readonly client = new TestClient();
  readonly lease = new TestLease();
  outcome: SendOutcome = 'ok';
  timerAtMs = Number.POSITIVE_INFINITY;

  constructor(spec: Partial<AttachmentSpec> = {}, configuration: Configuration = configurationOf(5), reservation = nextReservation(null), numbered = 0) {
    this.core = new AttachmentCore({ ...SPEC, ...spec }, configuration, reservation, undefined, numbered);
  }

  // ---- effects

  send(to: ServerId, message: SessionMessage): SendOutcome {
    if (this.outcome === 'ok') this.sent.push({ to, message });
    return this.outcome;
  }
  tell(message: HostMessage): void { this.told.push(message); }
  setTimer(atMs: number): void { this.timerAtMs = atMs; }
  reserve(reservation: Reservation): void { this.reserved.push(reservation); }
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void { this.events.push({ name, detail }); }

  // ---- the test's side

  input(input: AttachmentInput): this {
    this.core.receive(this.nowMs, input, this);
    return this;
  }

  /** Lets time pass, with the timers that fall due. */
  pass(ms: number): this {
    const untilMs = this.nowMs + ms;
    for (let n = 0; this.timerAtMs <= untilMs; n++) {
      if (n > 100_000) throw new Error('timers without end');
      this.nowMs = Math.max(this.nowMs, this.timerAtMs);
      this.timerAtMs = Number.POSITIVE_INFINITY;
      this.input({ kind: 'timer' });
    }
    this.nowMs = untilMs;
    return this;
  }

  start(): this { return this.input({ kind: 'start' }); }

  /** Starts, and has the session opened. */
  open(): this { return this.start().opened(); }

  submit(...operations: Operation[]): this { return this.submitTo(this.client, ...operations); }
  submitTo(client: TestClient, ...operations: Operation[]): this {
    return this.input({ kind: 'submit', frame: requestOf(operations), client, lease: this.lease });
  }
  write(tag: number, block = 0): this { return this.submit({ op: Op.write, tag, block, value: tag }); }
  read(tag: number, block = 0): this { return this.submit({ op: Op.read, tag, block }); }

  opens(): (SessionMessage & { readonly kind: 'open' })[] { return this.#of('open'); }
  probes(): (SessionMessage & { readonly kind: 'probe' })[] { return this.#of('probe'); }
  requests(): Frame[] { return this.#of('requests').map(({ frame }) => frame); }
  get lastOpen(): SessionMessage & { readonly kind: 'open' } { return last(this.opens()); }
  get lastTo(): ServerId { return last(this.sent).to; }

  hear(message: SessionReply, from?: ServerId): this {
    const to = from ?? last(this.sent.filter(({ message: { kind } }) => kind === 'open')).to;
    return this.input({ kind: 'session', from: to, message });
  }
  opened(more: Partial<SessionReply & { readonly kind: 'opened' }> = {}): this {
    const { sessionId, epoch, generation } = this.lastOpen;
    return this.hear({ kind: 'opened', sessionId, epoch, generation, sizeBytes: 2 ** 30, appliedThrough: 0, ...more });
  }
  refuse(reason: RefusalReason): this {
    return this.hear({ kind: 'refused', sessionId: this.lastOpen.sessionId, epoch: this.lastOpen.epoch, reason });
  }
  alive(): this {
    return this.hear({ kind: 'alive', sessionId: this.lastOpen.sessionId, epoch: this.lastOpen.epoch, sentAtMs: this.nowMs });
  }
  reply(request: Frame, indexes = allOf(request), status?: Status): this {
    return this.hear({ kind: 'replies', sessionId: request.sessionCount, frame: replyOf(request, indexes, status) });
  }
  link(up: boolean, serverId: ServerId = A): this { return this.input({ kind: 'link', serverId, up }); }
  crash(serverId: ServerId = A): this { return this.input({ kind: 'link', serverId, up: false, crashed: true }); }
  configure(configuration: Configuration): this { return this.input({ kind: 'configuration', configuration }); }

  answered(): number[] { return [...this.client.answers.keys()]; }
  eventNames(): string[] { return this.events.map(({ name }) => name); }

  #of<K extends SessionMessage['kind']>(kind: K): Extract<SessionMessage, { kind: K }>[] {
    return this.sent.map(({ message }) => message).filter((message): message is Extract<SessionMessage, { kind: K }> => message.kind === kind);
  }
}

function last<T>(list: readonly T[]): T {
  const item = list.at(-1);
  assert(item !== undefined, 'there is one');
  return item;
}
