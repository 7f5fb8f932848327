import { describe, expect, it } from 'vitest';
import { Frame, FrameKind, Op, type PayloadLease, REPLY_GAP_BYTES, SlabPool } from '@ashlar/protocol';
import type { NbdBackend, NbdReplies } from './backend.ts';
import { Command, CommandFlag, NbdError, Option, OptionReply } from './constants.ts';
import { NbdExport } from './export.ts';
import type { TlsMode } from './handshake.ts';
import { SLAB_BYTES_FIRST, SOCKET_HOLDS_BYTES_MAX } from './limits.ts';
import { ServerSession, type SessionPort } from './session.ts';
import { encodeUtf8 } from './text.ts';

const SIZE = 2 ** 20;

/** Answers reads with one byte value for each block; keeps the frames it was given. */
class PlainBackend implements NbdBackend {
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
class HeldBackend extends PlainBackend {
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

class Wire implements SessionPort {
  readonly session: ServerSession;
  readonly backend: PlainBackend;
  sent: number[] = [];
  readonly writes: number[] = [];
  fault: string | null = null;
  ended = false;
  tls = false;

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
    return true;
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
class SharedWire extends Wire {
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
function shared(limits: NbdBackend['limits']) {
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
  return { backend, wire: () => new SharedWire(target, turns), settle, answer };
}

const FLAGS = Uint8Array.of(0, 0, 0, 3);

function option(code: number, data: Uint8Array = new Uint8Array(0), length = data.length): Uint8Array {
  const bytes = Buffer.alloc(16 + data.length);
  bytes.write('IHAVEOPT', 'latin1');
  bytes.writeUInt32BE(code, 8);
  bytes.writeUInt32BE(length, 12);
  bytes.set(data, 16);
  return bytes;
}

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value, i * 4));
  return bytes;
}

function info(name: string, ...infos: readonly number[]): Buffer {
  return Buffer.concat([u32(name.length), encodeUtf8(name), Uint8Array.of(infos.length >> 8, infos.length & 255), ...infos.map((value) => Uint8Array.of(value >> 8, value & 255))]);
}

function contexts(name: string, ...queries: readonly string[]): Buffer {
  return Buffer.concat([u32(name.length), encodeUtf8(name), u32(queries.length), ...queries.flatMap((query) => [u32(query.length), encodeUtf8(query)])]);
}

function request(command: number, cookie: number, offset: number, length: number, data: Uint8Array = new Uint8Array(0), flags = 0): Uint8Array {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeUInt32BE(cookie, 12);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return Buffer.concat([bytes, data]);
}

const { ack, info: infoReply, metaContext, server } = OptionReply;

describe('the handshake', () => {
  it('lists, describes, and lets in', () => {
    const wire = new Wire();
    wire.put(FLAGS, option(Option.list), option(Option.info, info('v', 1, 2, 3)), option(Option.structuredReply), option(Option.setMetaContext, contexts('v', 'base:allocation', 'qemu:x')));
    expect(wire.optionReplies()).toEqual([server, ack, infoReply, infoReply, infoReply, infoReply, ack, ack, metaContext, ack]);
    wire.put(option(Option.go, info('v')));
    expect(wire.optionReplies()).toEqual([infoReply, infoReply, ack]);
    expect(wire.session.target?.name).toBe('v');
  });

  it('takes the old way in', () => {
    for (const [flags, bytes] of [[1, 134], [3, 10]] as const) {
      const wire = new Wire();
      wire.put(u32(flags), option(Option.exportName, encodeUtf8('v')));
      expect(wire.take().length).toBe(bytes);
    }
  });

  it('refuses with the protocol’s own errors, and goes on', () => {
    const wire = new Wire();
    const cases: readonly (readonly [Uint8Array, number])[] = [
      [option(99), OptionReply.errUnsupported],
      [option(Option.list, Uint8Array.of(1)), OptionReply.errInvalid],
      [option(Option.go, info('nobody')), OptionReply.errUnknown],
      [option(Option.go, Uint8Array.of(1, 2)), OptionReply.errInvalid],
      [option(Option.go, Buffer.concat([u32(0xffffffff), info('v')])), OptionReply.errInvalid],
      [option(Option.go, Buffer.concat([info('v'), Uint8Array.of(0)])), OptionReply.errInvalid],
      [option(Option.setMetaContext, contexts('v', 'base:allocation')), OptionReply.errInvalid],
      [option(Option.startTls), OptionReply.errPolicy],
      [option(Option.structuredReply, Uint8Array.of(1)), OptionReply.errInvalid],
      [option(Option.list, new Uint8Array(100_000)), OptionReply.errTooBig],
      [option(Option.structuredReply), ack],
      [option(Option.listMetaContext, contexts('v')), metaContext],
      [option(Option.setMetaContext, contexts('nobody', 'base:allocation')), OptionReply.errUnknown],
      [option(Option.setMetaContext, u32(1)), OptionReply.errInvalid],
      [option(Option.setMetaContext, Buffer.concat([u32(0, 1, 0xffffffff)])), OptionReply.errInvalid],
      [option(Option.setMetaContext, Buffer.concat([u32(0, 0xffffffff)])), OptionReply.errInvalid],
      [option(Option.abort), ack],
    ];
    wire.put(FLAGS);
    for (const [bytes, expected] of cases) {
      wire.put(bytes);
      expect(wire.optionReplies()[0]).toBe(expected);
    }
    expect(wire.ended).toBe(true);
    expect(wire.fault).toBe(null);
  });

  it('ends where there is no answer', () => {
    const cases: readonly (readonly Uint8Array[])[] = [
      [u32(0)], [u32(0x80000003)], [FLAGS, new Uint8Array(16)], [FLAGS, option(Option.exportName, encodeUtf8('nobody'))],
      [FLAGS, option(Option.list, new Uint8Array(0), 0xffffffff)], [FLAGS, ...Array.from({ length: 1100 }, () => option(99))],
    ];
    for (const parts of cases) {
      const wire = new Wire();
      wire.put(...parts);
      expect(wire.fault).not.toBe(null);
    }
  });

  it('asks for TLS where it is required, and trusts nothing that came before it', () => {
    const wire = new Wire('required');
    wire.put(FLAGS, option(Option.list), option(Option.structuredReply));
    expect(wire.optionReplies()).toEqual([OptionReply.errTlsRequired, OptionReply.errTlsRequired]);
    wire.put(option(Option.startTls));
    expect(wire.tls).toBe(true);
    wire.session.secured();
    wire.take();
    wire.put(option(Option.setMetaContext, contexts('v', 'base:allocation')), option(Option.startTls), option(Option.go, info('v')));
    expect(wire.optionReplies()).toEqual([OptionReply.errInvalid, OptionReply.errInvalid, infoReply, infoReply, ack]);
    const injected = new Wire('offered');
    injected.put(FLAGS, Buffer.concat([option(Option.startTls), option(Option.list)]));
    expect(injected.fault).toMatch(/STARTTLS/);
  });

  it('believes nothing that came in the clear with STARTTLS, wherever the receive memory ends', () => {
    const wire = new Wire('offered');
    // The first receive memory, filled up to its last byte.
    const start = Buffer.concat([FLAGS, option(99, new Uint8Array(8166)), option(99, new Uint8Array(8166)), option(Option.startTls)]);
    expect(start.length).toBe(SLAB_BYTES_FIRST);
    wire.put(Buffer.concat([start, option(Option.go, info('v'))]));
    expect(wire.fault).toMatch(/STARTTLS/);
    wire.take();
    wire.session.secured();
    wire.put(option(Option.list));
    expect(wire.take().length).toBe(0);
    expect(wire.session.target).toBe(null);
  });

  it('forgets meta contexts of another export', () => {
    const wire = new Wire();
    wire.put(FLAGS, option(Option.structuredReply), option(Option.setMetaContext, contexts('v', 'base:allocation')), option(Option.setMetaContext, contexts('v')), option(Option.go, info('v')));
    wire.take();
    wire.put(request(Command.blockStatus, 1, 0, 4096));
    expect(wire.take().readUInt32BE(20)).toBe(NbdError.invalid);
  });
});

describe('requests', () => {
  it('of one read become one frame, and their replies one write', () => {
    const wire = new Wire().transmission();
    const data = new Uint8Array(4096).fill(7);
    wire.put(Buffer.concat([
      request(Command.write, 1, 8192, 4096, data, CommandFlag.fua), request(Command.read, 2, 0, 1024), request(Command.write, 3, 512, 1024, data.subarray(0, 1024)),
      request(Command.flush, 4, 0, 0), request(Command.writeZeroes, 5, 0, 65536, undefined, CommandFlag.noHole | CommandFlag.fastZero), request(Command.read, 6, 4096, 512),
    ]));
    const { frames } = wire.backend;
    expect(frames.length).toBe(1);
    const [frame] = frames;
    expect(Array.from({ length: frame!.count }, (_, i) => frame!.op(i))).toEqual([Op.write, Op.read, Op.write, Op.flush, Op.zero, Op.read]);
    expect([frame!.opFlags(0), frame!.opFlags(4)]).toEqual([1, 6]);
    expect(frame!.bytes(2)).toEqual(data.subarray(0, 1024));
    expect(frame!.payload.length).toBe(4096 + 28 + 28 + 1024);
    expect(wire.writes).toEqual([2]);
    const replies = wire.take();
    expect(replies.length).toBe(4 * 16 + 28 + 1024 + 28 + 512);
  });

  it('whose first bytes come alone are completed in place', () => {
    const wire = new Wire().transmission();
    const bytes = request(Command.write, 1, 0, 65536, new Uint8Array(65536).fill(3));
    for (const byte of bytes.subarray(0, 60)) wire.put(Uint8Array.of(byte));
    expect(wire.backend.frames.length).toBe(0);
    wire.put(bytes.subarray(60, 5000), bytes.subarray(5000));
    expect(wire.backend.frames[0]?.bytes(0).every((byte) => byte === 3)).toBe(true);
    expect(wire.take().readUInt32BE(4)).toBe(0);
  });

  it('that break the rules are refused one by one', () => {
    const wire = new Wire().transmission();
    const cases: readonly (readonly [Uint8Array, number])[] = [
      [request(9, 1, 0, 512), NbdError.invalid],
      [request(Command.flush, 1, 0, 0, undefined, CommandFlag.df), NbdError.invalid],
      [request(Command.trim, 1, 0, 0), NbdError.invalid],
      [request(Command.trim, 1, 1, 512), NbdError.invalid],
      [request(Command.write, 1, SIZE, 512, new Uint8Array(512)), NbdError.noSpace],
      [request(Command.cache, 1, 2 ** 53 - 1, 0xfffffe00), NbdError.invalid],
      [request(Command.writeZeroes, 1, SIZE - 512, 1024), NbdError.noSpace],
    ];
    for (const [bytes, error] of cases) {
      wire.put(bytes);
      expect(wire.take().readUInt32BE(4)).toBe(error);
    }
    expect(wire.backend.frames.length).toBe(0);
    wire.put(request(Command.read, 1, 0, 2 ** 31));
    expect(wire.take().readUInt32BE(20)).toBe(NbdError.invalid);
  });

  it('are not carried out for a refused write’s bytes, however long it is', () => {
    const wire = new Wire().transmission();
    wire.put(request(Command.write, 1, 0, 40 * 2 ** 20));
    for (let i = 0; i < 40; i++) wire.put(new Uint8Array(2 ** 20).fill(0x25));
    expect(wire.take().readUInt32BE(4)).toBe(NbdError.invalid);
    wire.put(request(Command.read, 2, 0, 512));
    expect(wire.backend.frames.length).toBe(1);
    expect(wire.take().length).toBe(28 + 512);
  });

  it('end with the connection at the first without its magic number', () => {
    const wire = new Wire().transmission();
    wire.put(request(Command.read, 1, 0, 512), new Uint8Array(28));
    expect(wire.fault).toMatch(/magic/);
    expect(wire.take().length).toBe(28 + 512);
  });

  it('are answered before an orderly end', () => {
    const wire = new Wire().transmission();
    wire.put(Buffer.concat([request(Command.read, 1, 0, 512), request(Command.disconnect, 2, 0, 0), request(Command.read, 3, 0, 512)]));
    expect(wire.take().length).toBe(28 + 512);
    expect(wire.ended).toBe(true);
    expect(wire.backend.frames.length).toBe(1);
  });
});

const write = (value: number, length = 4096): Uint8Array => request(Command.write, value, 0, length, new Uint8Array(length).fill(value));

describe('connections of one export', () => {
  const room = { requestsMax: 64, bytesMax: 65536 };

  it('are served in the order in which they began to wait, however large their requests are', () => {
    const { backend, wire, answer } = shared(room);
    const busy = [wire(), wire()];
    const large = wire();
    for (const each of busy) each.receive(write(1));
    large.receive(write(2, room.bytesMax));
    for (let round = 0; round < 8; round++) {
      answer();
      for (const each of busy) if (each.take().length > 0) each.receive(write(3));
    }
    expect(large.take().length).toBe(16);
    // Those who came while the large one waited go on behind it.
    expect(backend.written.slice(0, 5)).toEqual([1, 1, 2, 3, 3]);
  });

  it('let the next in line go first when one is served in part', () => {
    const { backend, wire, answer } = shared({ requestsMax: 1, bytesMax: 65536 });
    const [first, second] = [wire(), wire()];
    first.receive(write(1), write(2), write(3));
    second.receive(write(4), write(5));
    for (let i = 0; i < 5; i++) answer();
    expect(backend.written).toEqual([1, 2, 4, 3, 5]);
    expect([first.take().length, second.take().length]).toEqual([48, 32]);
  });

  it('do not wait for one that is gone', () => {
    for (const go of [(one: Wire) => one.session.closed(), (one: Wire) => one.session.ended()]) {
      const { backend, wire, settle, answer } = shared(room);
      const [busy, large, small, next, last] = [wire(), wire(), wire(), wire(), wire()];
      busy.receive(write(1));
      large.receive(write(2, room.bytesMax));
      small.receive(write(3));
      expect(backend.written).toEqual([1]);
      go(large);
      settle();
      expect(backend.written).toEqual([1, 3]);
      // Told that there is room, and gone before its turn.
      next.receive(write(4, room.bytesMax));
      last.receive(write(5));
      backend.answer();
      backend.answer();
      go(next);
      settle();
      expect(backend.written).toEqual([1, 3, 5]);
      answer();
      expect(last.take().length).toBe(16);
    }
  });

  it('do not wait for one that is refused, or breaks the rules, when its turn has come', () => {
    for (const part of [request(Command.read, 9, 1, 512), new Uint8Array(28)]) {
      const { backend, wire, answer } = shared(room);
      const [busy, large, small] = [wire(), wire(), wire()];
      busy.receive(write(1));
      large.receive(write(2, room.bytesMax), part);
      small.receive(write(3));
      answer();
      expect(backend.written).toEqual([1, 2]);
      answer();
      expect(backend.written).toEqual([1, 2, 3]);
    }
  });

  /** An older connection that was left unread, and reads on now; a newer one whose request waits for that. */
  function elderAndHeir() {
    const { backend, wire, settle, answer } = shared({ requestsMax: 1, bytesMax: 65536 });
    const elder = wire();
    elder.receive(write(1), write(2));
    expect(elder.paused).toBe(true);
    const heir = wire();
    answer();
    answer();
    expect([elder.paused, elder.looks]).toEqual([false, 1]);
    heir.receive(write(9));
    return { backend, elder, heir, settle, answer };
  }

  it('are not served before an older one was read until nothing came', () => {
    const { backend, elder, settle, answer } = elderAndHeir();
    elder.look(write(3));
    settle();
    answer();
    expect(backend.written).toEqual([1, 2, 3]);
    elder.look(write(4));
    settle();
    answer();
    expect(backend.written).toEqual([1, 2, 3, 4]);
    elder.look();
    settle();
    expect(backend.written).toEqual([1, 2, 3, 4, 9]);
  });

  it('take no look at an older one for another that began later', () => {
    const { backend, elder, settle, answer } = elderAndHeir();
    // Left unread again before the look has ended, and read on.
    elder.receive(write(3), write(4));
    expect(elder.paused).toBe(true);
    answer();
    answer();
    expect([elder.paused, elder.looks]).toEqual([false, 2]);
    elder.look();
    settle();
    elder.look(write(5));
    settle();
    answer();
    elder.look();
    settle();
    expect(backend.written).toEqual([1, 2, 3, 4, 5, 9]);
  });

  it('do not wait for an older one that never stops sending', () => {
    const { backend, elder, settle } = elderAndHeir();
    // Refused, and skipped as it comes.
    elder.receive(request(Command.write, 7, 0, 2 * SOCKET_HOLDS_BYTES_MAX));
    const more = new Uint8Array(2 ** 20);
    for (let bytes = 0; bytes < SOCKET_HOLDS_BYTES_MAX; bytes += more.length) {
      expect(backend.written).toEqual([1, 2]);
      elder.look(more);
      settle();
    }
    expect(backend.written).toEqual([1, 2, 9]);
  });
});
