import { expect } from 'vitest';
import { Frame, FrameKind, Op, type PayloadLease, REPLY_GAP_BYTES, SlabPool } from '@ashlar/protocol';
import type { NbdBackend, NbdReplies } from '../backend.ts';
import { Option } from '../constants.ts';
import { NbdExport } from '../export.ts';
import type { TlsMode } from '../handshake.ts';
import { ServerSession, type SessionPort } from '../session.ts';
import { encodeUtf8 } from '../text.ts';

export const SIZE = 2 ** 20;

/** Answers reads with one byte value for each block; keeps the frames it was given. */
export class PlainBackend implements NbdBackend {
  limits = { requestsMax: 64, bytesMax: SIZE };
  readonly checksums = true;
  readonly frames: Frame[] = [];
  device() {
    return { sizeBytes: SIZE, readOnly: false, multiConnection: false, description: 'plain' };
  }
  submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    this.frames.push(frame);
    this.reply(frame, client, lease);
  }
  protected reply(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    const payload = new Uint8Array(Array.from({ length: frame.count }, (_, i) => (frame.op(i) === Op.read ? REPLY_GAP_BYTES + frame.lengthBytes(i) : 0)).reduce((a, b) => a + b, 0));
    const reply = Frame.create(FrameKind.reply, frame.count, 0, payload);
    let at = 0;
    for (let i = 0; i < frame.count; i++) {
      const read = frame.op(i) === Op.read;
      reply.setOperation(i, frame.requestNumber(i), frame.op(i), 0, frame.offsetBytes(i), frame.lengthBytes(i), read ? at + REPLY_GAP_BYTES : 0, 0);
      if (read) at += REPLY_GAP_BYTES + frame.lengthBytes(i);
    }
    lease.release();
    client.replied(reply);
  }
}

/** Answers when it is told to. */
export class HeldBackend extends PlainBackend {
  readonly #held: (() => void)[] = [];
  /** First bytes of the writes, in the order in which they came. */
  readonly written: number[] = [];
  constructor(limits: NbdBackend['limits']) {
    super();
    this.limits = limits;
  }
  override submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    for (let i = 0; i < frame.count; i++) this.written.push(frame.bytes(i)[0] ?? -1);
    this.#held.push(() => this.reply(frame, client, lease));
  }
  /** The oldest frame. */
  answer(): void {
    this.#held.shift()?.();
  }
}

export class Wire implements SessionPort {
  readonly session: ServerSession;
  readonly backend: PlainBackend;
  sent: number[] = [];
  readonly writes: number[] = [];
  fault: string | null = null;
  ended = false;
  tls = false;
  /** Whether the client reads; and whether the socket has said that it does not. */
  reads = true;
  full = false;

  constructor(tls: TlsMode = 'off', target = new NbdExport('v', new PlainBackend())) {
    this.backend = target.backend as PlainBackend;
    this.session = new ServerSession(this, { find: (name) => (name === 'v' ? target : undefined), list: () => [target] }, tls, new SlabPool());
    this.session.open();
    expect(this.take().length).toBe(18);
  }
  write(pieces: readonly Uint8Array[], leases: readonly PayloadLease[]): boolean {
    this.writes.push(pieces.length);
    for (const piece of pieces) for (const byte of piece) this.sent.push(byte);
    for (const lease of leases) lease.release();
    this.full ||= !this.reads;
    return this.reads;
  }
  scheduleTurn(): void {
    throw new Error('a backend that answers at once needs no turn');
  }
  resume(): void { this.session.readThrough(); }
  startTls(): void { this.tls = true; }
  agreed(): void { this.writes.length = 0; }
  end(): void { this.ended = true; }
  abort(reason: string): void { this.fault = reason; }

  put(...parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        const target = this.session.receiveTarget();
        const bytes = Math.min(target.length, part.length - at);
        target.set(part.subarray(at, at + bytes));
        at += bytes;
        this.session.received(bytes);
      }
    }
  }
  take(): Buffer {
    return Buffer.from(this.sent.splice(0));
  }
  /** Types of the option replies that were sent. */
  optionReplies(): number[] {
    const bytes = this.take();
    const types: number[] = [];
    for (let at = 0; at < bytes.length; at += 20 + bytes.readUInt32BE(at + 16)) types.push(bytes.readUInt32BE(at + 12));
    return types;
  }
  transmission(): this {
    this.put(FLAGS, option(Option.structuredReply), option(Option.setMetaContext, contexts('v', 'base:allocation')), option(Option.go, info('v')));
    this.take();
    return this;
  }
}

/** One of several connections of an export, read as a socket is: not while it is paused, and turns come later. */
export class SharedWire extends Wire {
  readonly #turns: SharedWire[];
  /** Looks at the socket that were asked for. */
  looks = 0;
  paused = false;

  constructor(target: NbdExport, turns: SharedWire[]) {
    super('off', target);
    this.#turns = turns;
    this.transmission();
  }
  override scheduleTurn(): void { this.#turns.push(this); }
  override resume(): void {
    this.paused = false;
    this.looks++;
  }
  receive(...parts: readonly Uint8Array[]): void {
    expect(this.paused).toBe(false);
    this.put(...parts);
    this.paused = !this.session.mayRead();
  }
  /** The socket was looked at; it brought these. */
  look(...parts: readonly Uint8Array[]): void {
    if (parts.length > 0) this.receive(...parts);
    expect(this.looks).toBeGreaterThan(0);
    this.looks--;
    this.session.readThrough();
  }
}

/** Connections of one export, its backend, and what lets scheduled turns happen. */
export function shared(limits: NbdBackend['limits']) {
  const backend = new HeldBackend(limits);
  const target = new NbdExport('v', backend);
  const turns: SharedWire[] = [];
  const settle = (): void => {
    for (let wire = turns.shift(); wire; wire = turns.shift()) wire.session.turn();
  };
  const answer = (): void => {
    backend.answer();
    settle();
  };
  return { backend, target, turns, wire: () => new SharedWire(target, turns), settle, answer };
}

export const FLAGS = Uint8Array.of(0, 0, 0, 3);

export function option(code: number, data: Uint8Array = new Uint8Array(0), length = data.length): Uint8Array {
  const bytes = Buffer.alloc(16 + data.length);
  bytes.write('IHAVEOPT', 'latin1');
  bytes.writeUInt32BE(code, 8);
  bytes.writeUInt32BE(length, 12);
  bytes.set(data, 16);
  return bytes;
}

export function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value, i * 4));
  return bytes;
}

export function info(name: string, ...infos: readonly number[]): Buffer {
  return Buffer.concat([u32(name.length), encodeUtf8(name), Uint8Array.of(infos.length >> 8, infos.length & 255), ...infos.map((value) => Uint8Array.of(value >> 8, value & 255))]);
}

export function contexts(name: string, ...queries: readonly string[]): Buffer {
  return Buffer.concat([u32(name.length), encodeUtf8(name), u32(queries.length), ...queries.flatMap((query) => [u32(query.length), encodeUtf8(query)])]);
}

export function request(command: number, cookie: number, offset: number, length: number, data: Uint8Array = new Uint8Array(0), flags = 0): Uint8Array {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeUInt32BE(cookie, 12);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return Buffer.concat([bytes, data]);
}
