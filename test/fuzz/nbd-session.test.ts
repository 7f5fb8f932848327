import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Frame, FrameKind, Op, type PayloadLease, REPLY_GAP_BYTES, SlabPool, Status } from '@ashlar/protocol';
import { type NbdBackend, NbdExport, type NbdReplies, ServerSession, type SessionPort } from '@ashlar/nbd';
import { Prng } from '@ashlar/words';

const SIZE = 2 ** 20;
const BYTES_MAX = 2 ** 20;

/** Answers at once or later, in any order and grouping, with any status; holds the session to the contract of what it submits. */
class FuzzBackend implements NbdBackend {
  readonly limits = { requestsMax: 32, bytesMax: BYTES_MAX };
  readonly checksums = true;
  readonly #prng: Prng;
  readonly #later: (() => void)[] = [];
  submitted = 0;
  outstandingBytes = 0;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  device() {
    return { sizeBytes: SIZE, readOnly: false, multiConnection: true, description: '' };
  }

  submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    expect(frame.payload.length).toBeLessThanOrEqual(34 * 2 ** 20);
    for (let i = 0; i < frame.count; i++) {
      expect(frame.offsetBytes(i) + frame.lengthBytes(i)).toBeLessThanOrEqual(SIZE);
      if (frame.op(i) === Op.write) expect(frame.bytes(i).length).toBe(frame.lengthBytes(i));
      const held = frame.op(i) === Op.read || frame.op(i) === Op.write ? frame.lengthBytes(i) : 0;
      this.outstandingBytes += held;
    }
    this.submitted += frame.count;
    expect(this.outstandingBytes).toBeLessThanOrEqual(2 * BYTES_MAX);
    const answer = (): void => {
      for (let i = 0; i < frame.count; i++) this.#answer(frame, i, client);
      lease.release();
    };
    if (this.#prng.chance(0.5)) answer();
    else this.#later.push(answer);
  }

  answerSome(): boolean {
    const next = this.#later.splice(this.#prng.below(this.#later.length + 1), 1)[0] ?? this.#later.shift();
    next?.();
    return next !== undefined;
  }

  #answer(frame: Frame, i: number, client: NbdReplies): void {
    const op = frame.op(i);
    const bytes = op === Op.read ? frame.lengthBytes(i) : op === Op.status ? 8 : 0;
    if (op === Op.read || op === Op.write) this.outstandingBytes -= frame.lengthBytes(i);
    const reply = Frame.create(FrameKind.reply, 1, 0, new Uint8Array(bytes === 0 ? 0 : REPLY_GAP_BYTES + bytes));
    reply.setOperation(0, frame.requestNumber(i), op, 0, 0, bytes === 0 ? frame.lengthBytes(i) : bytes, REPLY_GAP_BYTES, 0);
    if (op === Op.status) new DataView(reply.payload.buffer).setUint32(REPLY_GAP_BYTES, frame.lengthBytes(i), true);
    if (this.#prng.chance(0.1)) reply.setStatus(0, this.#prng.pick([Status.ioError, Status.noSpace, Status.notSupported]));
    client.replied(reply);
  }
}

class FuzzPort implements SessionPort {
  session: ServerSession | null = null;
  sentBytes = 0;
  over = false;
  scheduled = false;
  paused = false;
  choked = false;
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }
  write(pieces: readonly Uint8Array[], leases: readonly PayloadLease[]): boolean {
    for (const piece of pieces) this.sentBytes += piece.length;
    for (const lease of leases) lease.release();
    this.choked ||= this.#prng.chance(0.1);
    return !this.choked;
  }
  scheduleTurn(): void { this.scheduled = true; }
  resume(): void {
    expect(this.paused).toBe(true);
    this.paused = false;
  }
  startTls(): void { this.over = true; }
  agreed(): void { /* no deadline here */ }
  end(): void { this.over = true; }
  abort(): void { this.over = true; }
}

interface Outcome {
  readonly port: FuzzPort;
  readonly backend: FuzzBackend;
  readonly allocatedBytes: number;
}

/** Feeds a session with bytes in random pieces, as its socket would. */
function feed(bytes: Uint8Array, seed: number): Outcome {
  const prng = new Prng(seed);
  const backend = new FuzzBackend(prng);
  const port = new FuzzPort(prng);
  const target = new NbdExport('v', backend);
  let allocatedBytes = 0;
  const pool = new SlabPool((size) => {
    allocatedBytes += size;
    return new Uint8Array(size);
  });
  const session = new ServerSession(port, { find: (name) => (name === 'v' || name === '' ? target : undefined), list: () => [target] }, prng.pick(['off', 'offered']), pool);
  port.session = session;
  session.open();
  const settle = (): void => {
    while (port.scheduled || port.choked) {
      if (port.scheduled) {
        port.scheduled = false;
        session.turn();
      } else {
        port.choked = false;
        session.drained();
      }
    }
  };
  settle();
  for (let at = 0; at < bytes.length && !port.over;) {
    if (port.paused) {
      const answered = backend.answerSome();
      settle();
      // A paused session waits for something that can happen.
      expect(answered || !port.paused || port.over).toBe(true);
      continue;
    }
    const room = session.receiveTarget();
    expect(room.length).toBeGreaterThan(0);
    const piece = Math.min(room.length, bytes.length - at, prng.chance(0.3) ? prng.between(1, 40) : prng.between(1, 300_000));
    room.set(bytes.subarray(at, at + piece));
    at += piece;
    session.received(piece);
    if (prng.chance(0.7)) settle();
    if (!session.mayRead()) port.paused = true;
    settle();
  }
  session.ended();
  while (backend.answerSome()) settle();
  settle();
  expect(session.unanswered).toBe(0);
  expect([target.unansweredRequests, target.unansweredBytes, target.settled]).toEqual([0, 0, true]);
  session.closed();
  return { port, backend, allocatedBytes };
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

const anyU32 = fc.oneof(fc.nat(64), fc.nat(0xffffffff), fc.constantFrom(0x7fffffff, 0x80000000, 0xffffffff, 12_288, 16_384));
const option = fc.record({ code: fc.oneof(fc.integer({ min: 0, max: 12 }), anyU32), data: fc.uint8Array({ maxLength: 80 }), lie: fc.option(anyU32, { freq: 8 }) })
  .map(({ code, data, lie }) => Buffer.concat([Buffer.from('IHAVEOPT'), u32(code), u32(lie ?? data.length), data]));
const go = Buffer.concat([Buffer.from('IHAVEOPT'), u32(8), u32(0), Buffer.from('IHAVEOPT'), u32(10), u32(4 + 4 + 1 + 4 + 15), u32(1), Buffer.from('v'), u32(1), u32(15), Buffer.from('base:allocation'), Buffer.from('IHAVEOPT'), u32(7), u32(7), u32(1), Buffer.from('v'), Uint8Array.of(0, 0)]);
const request = fc.record({
  magic: fc.constantFrom(...Array.from({ length: 40 }, () => 0x25609513), 0x25609512), flags: fc.oneof(fc.constantFrom(0, 1, 4, 8), fc.nat(0xffff)), command: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.constantFrom(0, 1), fc.nat(0xffff)),
  offset: fc.oneof(fc.nat(SIZE / 512).map((sector) => BigInt(sector * 512)), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  length: fc.oneof(fc.integer({ min: 1, max: 256 }).map((sectors) => sectors * 512), fc.nat(100_000), anyU32),
}).map(({ magic, flags, command, offset, length }) => {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(magic);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(offset, 16);
  bytes.writeUInt32BE(length, 24);
  // A write's bytes follow as far as a test can afford; a longer one eats what comes behind it.
  return command === 1 ? Buffer.concat([bytes, Buffer.alloc(Math.min(length, 200_000), 0x25)]) : bytes;
});

/** Slabs in powers of two for the bytes that were sent, and a constant: nothing that a length field alone can blow up. */
const allocationMax = (bytes: number): number => 2 ** 20 + 8 * bytes;

const runs = { numRuns: Number(process.env['ASHLAR_FUZZ_RUNS'] ?? 400) };

describe('an NBD session fed with anything', () => {
  it('survives bytes without meaning', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 4000 }), fc.nat(), (bytes, seed) => {
      const { allocatedBytes, port } = feed(bytes, seed);
      expect(allocatedBytes).toBeLessThan(allocationMax(bytes.length));
      expect(port.sentBytes).toBeLessThan(1000 + 100 * bytes.length);
    }), runs);
  });

  it('survives options of every kind', () => {
    fc.assert(fc.property(fc.array(option, { maxLength: 40 }), fc.nat(), (options, seed) => {
      const bytes = Buffer.concat([u32(3), ...options, go]);
      const { allocatedBytes } = feed(bytes, seed);
      expect(allocatedBytes).toBeLessThan(allocationMax(bytes.length));
    }), runs);
  });

  it('answers every request that reaches the backend, whatever comes between', () => {
    fc.assert(fc.property(fc.array(request, { maxLength: 40 }), fc.boolean(), fc.nat(), (requests, structured, seed) => {
      const bytes = Buffer.concat([u32(3), structured ? go : go.subarray(16 + 16 + 28), ...requests]);
      const { allocatedBytes } = feed(bytes, seed);
      // A write within the limit may announce up to 32 MiB: that much is set aside when its header has come, once.
      expect(allocatedBytes).toBeLessThan(allocationMax(bytes.length) + 64 * 2 ** 20);
    }), runs);
  });
});
