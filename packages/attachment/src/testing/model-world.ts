import { Op, Status, type AttachmentSpec, type Frame, type HostMessage, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import { assert, type ServerId } from '@ashlar/words';
import { AttachmentCore } from '../core.ts';
import type { AttachmentClient, AttachmentEffects, Reservation, SendOutcome } from '../effects.ts';
import { nextReservation } from '../reservation.ts';
import { ModelCrash, ModelPrimary } from './model-primary.ts';
import { A, B, C, configurationOf, requestOf, SPEC, type Operation } from './requests.ts';

const SERVERS: readonly ServerId[] = [A, B, C];

/** A message on its way to a server: a copy of the head tells whether the frame was changed after it was sent. */
interface OnTheWay {
  readonly message: SessionMessage;
  readonly head: Uint8Array | null;
}

class Wire {
  readonly toServer: OnTheWay[] = [];
  readonly toHost: SessionReply[] = [];
  up = true;
}

interface Request {
  readonly op: Op;
  readonly value: number;
  /** Records that were known to be committed when it was made. */
  readonly floor: number;
  answered: boolean;
}

/**
 * A host, three servers of which one leads, and the wires between. Steps are chosen by the test; what must always hold is checked as it happens:
 * a write is answered only when it is committed, is in the log once, in the order of its number; a read shows everything answered before it.
 */
export class ModelWorld implements AttachmentEffects {
  nowMs = 1000;
  epoch = 1;
  core: AttachmentCore;
  readonly primaries = new Map<ServerId, ModelPrimary>();
  readonly wires = new Map<ServerId, Wire>();
  readonly requests: Request[] = [];
  leader: ServerId = A;
  #reservation: Reservation = nextReservation(null);
  #timerAtMs = Number.POSITIVE_INFINITY;
  #configurations: number[] = [];
  #leaders = new Map<number, ServerId>();
  #life = 0;
  /** Records known to be committed through answers. */
  #floor = 0;
  #spec: AttachmentSpec;
  asked = 0;

  constructor(ioTimeoutMs: number) {
    this.#spec = { ...SPEC, limits: { ...SPEC.limits, ioTimeoutMs } };
    for (const serverId of SERVERS) {
      const wire = new Wire();
      this.wires.set(serverId, wire);
      this.primaries.set(serverId, new ModelPrimary(serverId, (reply) => { if (wire.up) wire.toHost.push(reply); }, (frame) => this.#poisoned(frame)));
    }
    this.#leaders.set(1, A);
    this.primary(A).lead(1, SPEC.attachNumber, [], 0);
    this.primary(A).commitOne();
    this.core = this.#newCore();
  }

  primary(serverId: ServerId): ModelPrimary { return this.primaries.get(serverId) as ModelPrimary; }
  wire(serverId: ServerId): Wire { return this.wires.get(serverId) as Wire; }
  get leading(): ModelPrimary { return this.primary(this.leader); }

  #newCore(): AttachmentCore {
    this.#life++;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const core = new AttachmentCore(this.#spec, configurationOf(this.epoch, [this.#leaders.get(this.epoch) as ServerId]), this.#reservation);
    core.receive(this.nowMs, { kind: 'start' }, this);
    return core;
  }

  /** Requests that crash whatever copy takes them in hand, and how many they have. */
  readonly poison = new Map<number, number>();

  #poisoned(frame: Frame): boolean {
    if (this.poison.size === 0) return false;
    let poisoned = false;
    for (let i = 0; i < frame.count; i++) {
      if (frame.op(i) !== Op.write) continue;
      const tag = frame.crc(frame.crcIndex(i)) - 1;
      const kills = this.poison.get(tag);
      if (kills === undefined) continue;
      poisoned = true;
      this.poison.set(tag, kills + 1);
      assert(kills < 2, 'a request crashes two copies at most');
    }
    return poisoned;
  }

  // ---- effects

  send(to: ServerId, message: SessionMessage): SendOutcome {
    const wire = this.wire(to);
    if (!wire.up) return 'unreachable';
    if (wire.toServer.length >= 5) return 'busy';
    wire.toServer.push({ message, head: message.kind === 'requests' ? message.frame.head.slice() : null });
    return 'ok';
  }
  tell(message: HostMessage): void {
    if (message.kind === 'ask-configuration') {
      this.asked++;
      this.#configurations.push(this.epoch);
    }
  }
  setTimer(atMs: number): void { this.#timerAtMs = atMs; }
  reserve(reservation: Reservation): void { this.#reservation = reservation; }
  event(): void {}

  // ---- steps

  submit(ops: readonly Op[], poison = false): void {
    if (poison) this.poison.set(this.requests.length, 0);
    const operations: Operation[] = ops.map((op) => {
      const tag = this.requests.length;
      const value = tag + 1;
      this.requests.push({ op, value, floor: this.#floor, answered: false });
      return { op, tag, block: value % 8, blocks: 1 + (value % 3), value };
    });
    const life = this.#life;
    const client: AttachmentClient = { replied: (reply) => { if (life === this.#life) this.#replied(reply); } };
    this.core.receive(this.nowMs, { kind: 'submit', frame: requestOf(operations), client, lease: { release: () => undefined } }, this);
  }

  pass(ms: number): void {
    this.nowMs += ms;
    for (let n = 0; this.#timerAtMs <= this.nowMs; n++) {
      assert(n < 1000, 'timers end');
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      this.core.receive(this.nowMs, { kind: 'timer' }, this);
    }
  }

  toServer(serverId: ServerId, fault: 'none' | 'drop' | 'twice' = 'none'): void {
    const next = this.wire(serverId).toServer.shift();
    if (next === undefined || fault === 'drop') return;
    const { message, head } = next;
    if (message.kind === 'requests') {
      assert(Buffer.from(message.frame.head).equals(Buffer.from(head as Uint8Array)), 'a frame does not change after it was sent');
      assert(message.frame.headIntact, 'a frame is sealed');
    }
    try {
      this.primary(serverId).receive(message);
      if (fault === 'twice') this.primary(serverId).receive(message);
    } catch (error) {
      if (!(error instanceof ModelCrash)) throw error;
      this.crash(serverId);
    }
    this.#checkLog();
  }

  toHost(serverId: ServerId, fault: 'none' | 'drop' | 'twice' = 'none'): void {
    const message = this.wire(serverId).toHost.shift();
    if (message === undefined || fault === 'drop') return;
    this.core.receive(this.nowMs, { kind: 'session', from: serverId, message }, this);
    if (fault === 'twice') this.core.receive(this.nowMs, { kind: 'session', from: serverId, message }, this);
  }

  cut(serverId: ServerId): void {
    const wire = this.wire(serverId);
    if (!wire.up) return;
    wire.up = false;
    wire.toServer.length = 0;
    wire.toHost.length = 0;
    this.primary(serverId).forgetSessions();
    this.core.receive(this.nowMs, { kind: 'link', serverId, up: false }, this);
  }

  /** The copy's actor ends with an exception; what it had in hand is gone. */
  crash(serverId: ServerId): void {
    this.wire(serverId).toServer.length = 0;
    this.primary(serverId).forgetSessions();
    this.core.receive(this.nowMs, { kind: 'link', serverId, up: false, crashed: true }, this);
  }

  mend(serverId: ServerId): void {
    const wire = this.wire(serverId);
    if (wire.up) return;
    wire.up = true;
    this.core.receive(this.nowMs, { kind: 'link', serverId, up: true }, this);
  }

  /** Another (or the same) server leads; of what was not committed some is kept. The host hears of it when `configure` runs. */
  failOver(to: ServerId, kept: number): void {
    const { log, committed } = this.leading;
    const tail = Math.min(log.length - committed, kept);
    this.leading.stepDown();
    this.epoch++;
    this.leader = to;
    this.#leaders.set(this.epoch, to);
    this.primary(to).lead(this.epoch, SPEC.attachNumber, log.slice(0, committed + tail), committed);
    this.#configurations.push(this.epoch);
  }

  configure(): void {
    const epoch = this.#configurations.shift();
    if (epoch === undefined) return;
    this.core.receive(this.nowMs, { kind: 'configuration', configuration: configurationOf(epoch, [this.#leaders.get(epoch) as ServerId]) }, this);
  }

  /** The host's process ends; what its clients had asked has an unknown outcome. */
  restartHost(): void {
    for (const wire of this.wires.values()) {
      wire.toServer.length = 0;
      wire.toHost.length = 0;
    }
    for (const primary of this.primaries.values()) primary.forgetSessions();
    for (const request of this.requests) request.answered = true;
    this.#reservation = nextReservation(this.#reservation);
    this.core = this.#newCore();
  }

  /** Faults stop: everything that was asked must be answered, and soon. */
  settle(): void {
    for (const serverId of SERVERS) this.mend(serverId);
    for (let n = 0; !this.core.idle || n < 5; n++) {
      assert(n < 3000, 'everything is answered once faults have stopped');
      this.configure();
      for (const serverId of SERVERS) {
        while (this.wire(serverId).toServer.length > 0) this.toServer(serverId);
        this.primary(serverId).commitOne();
        while (this.wire(serverId).toHost.length > 0) this.toHost(serverId);
      }
      this.pass(20);
    }
    assert(this.requests.every(({ answered }) => answered), 'every request was answered');
    this.#checkLog();
  }

  #replied(reply: Frame): void {
    const { log, committed } = this.leading;
    for (let k = 0; k < reply.count; k++) {
      const request = this.requests[reply.requestNumber(k)];
      assert(!request.answered, 'a request is answered once');
      assert(request.op === reply.op(k), 'an answer is to what was asked');
      request.answered = true;
      if (reply.status(k) !== Status.ok) {
        assert(this.#spec.limits.ioTimeoutMs > 0 || (this.poison.get(reply.requestNumber(k)) ?? 0) > 0, 'without a time limit only what crashes copies fails');
        continue;
      }
      if (request.op === Op.write) {
        const at = log.findIndex(({ values }) => values.some(({ value }) => value === request.value));
        assert(at >= 0 && at < committed, 'a write is answered when it is committed');
        this.#floor = Math.max(this.#floor, at + 1);
      } else if (request.op === Op.read) {
        const shown = new DataView(reply.payload.buffer).getUint32(reply.payload.byteOffset + reply.payloadAt(k), true);
        assert(shown >= request.floor, 'a read shows what was answered before it was made');
      }
    }
  }

  #checkLog(): void {
    const { log } = this.leading;
    let last = 0;
    const seen = new Set<number>();
    for (const { numbers, values } of log) {
      for (const number of numbers) {
        assert(number > last, 'requests apply in the order of their numbers, once each');
        last = number;
      }
      const here = new Set(values.map(({ value }) => value));
      for (const value of here) {
        assert(value === 0 || !seen.has(value), 'a write is in the log once');
        seen.add(value);
      }
    }
  }
}
