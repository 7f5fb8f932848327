import { readFileSync } from 'node:fs';
import { parseAddress, type Address, type Message } from '@ashlar/actor';
import { Frame, FrameKind, Op, parseFrame, Status } from '@ashlar/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { COLD_BYTES_MAX, LINK_ADDRESSES_MAX, LIST_MAX, PLAIN_BYTES_MAX } from '../limits.ts';
import { ENVELOPE_BYTES, GrowingBatch, WireDecoder, WireEncoder } from './envelope.ts';
import { HOT_CODES } from './frame.ts';
import { COLD_MESSAGES } from './messages.ts';
import { Malformed, type Example } from './shape.ts';

/** Multiplies the runs: FUZZ_EFFORT=20 for a night. */
const EFFORT = Number(process.env['FUZZ_EFFORT'] ?? 1);

const anyWhole = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.constantFrom(-1, 0, Number.MAX_SAFE_INTEGER));
const anyScalar = fc.oneof(fc.string({ maxLength: 50 }), fc.boolean(), fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0));

/** Any value of a shape. */
function valueOf(example: Example): fc.Arbitrary<unknown> {
  switch (example.of) {
    case 'whole': return anyWhole;
    case 'u32': return fc.nat(0xffffffff);
    case 'real': return fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
    case 'flag': return fc.boolean();
    case 'text': return fc.string({ maxLength: 60 });
    case 'bytes': return fc.uint8Array({ maxLength: 200 });
    case 'volume-id': return fc.stringMatching(/^vol-[0-9a-f]{17}$/);
    case 'name': return fc.stringMatching(/^[a-z0-9]{1,20}$/);
    case 'scalars': return fc.dictionary(fc.string({ maxLength: 20 }), anyScalar, { maxKeys: 5, noNullPrototype: true });
    case 'choice': return fc.constantFrom(...example.choices);
    case 'nullable': return fc.option(valueOf(example.item));
    case 'list': return fc.array(valueOf(example.item), { maxLength: 6 });
    case 'record': return fc.record(Object.fromEntries(Object.entries(example.fields).map(([field, inner]) => [field, valueOf(inner)])), { noNullPrototype: true });
  }
}

const anyChange = fc.oneof(
  fc.record({ kind: fc.constant('remove' as const), serverId: fc.constantFrom('server-1', 'server-2') }, { noNullPrototype: true }),
  fc.record({ kind: fc.constant('add' as const), member: fc.record({ serverId: fc.constant('server-3'), incarnation: anyWhole }, { noNullPrototype: true }) }, { noNullPrototype: true }),
);

const anyCold: fc.Arbitrary<Message> = fc.constantFrom(...Object.entries(COLD_MESSAGES)).chain(([kind, { body }]) =>
  fc.tuple(valueOf(body.example), anyChange).map(([fields, change]) => ({ kind, ...(fields as object), ...(kind === 'propose' ? { change } : {}) }) as Message));

const anyFrame: fc.Arbitrary<Frame> = fc.uint8Array({ minLength: 0, maxLength: 2000 }).map((payload) => {
  const frame = Frame.create(FrameKind.log, 2, 2, payload);
  frame.epoch = 7;
  frame.setOperation(0, 1, Op.write, 0, 4096, payload.length, 0, 0);
  frame.setOperation(1, 2, Op.trim, 0, 8192, 4096, 0, 0);
  frame.seal();
  return frame;
});

const anyHot: fc.Arbitrary<Message> = fc.oneof(
  anyFrame.map((frame) => ({ kind: 'append', frame })),
  fc.record({ kind: fc.constant('progress'), epoch: anyWhole, attempt: anyWhole, seq: anyWhole, durableSeq: anyWhole, chain: fc.nat(0xffffffff) }, { noNullPrototype: true }),
  fc.record({ kind: fc.constantFrom('requests', 'replies'), sessionId: anyWhole, frame: anyFrame }, { noNullPrototype: true }),
  fc.record({ kind: fc.constant('fill'), epoch: anyWhole, extent: anyWhole, frame: anyFrame }, { noNullPrototype: true }),
);

const anyPlain: fc.Arbitrary<Message> = fc.record({
  kind: fc.constantFrom('private', 'x-1'), detail: fc.jsonValue({ maxDepth: 6 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown),
}, { noNullPrototype: true });

const anyMessage = fc.oneof(anyCold, anyHot, anyPlain);
const anyAddress = fc.constantFrom<Address>('server-1/a', 'server-1/copy/vol-0123456789abcdef0', 'host-1/attachment/x');

interface Crossed { readonly to: Address; readonly from: Address; readonly message: Message }

function encoded(crossing: readonly Crossed[]): Uint8Array {
  const batch = new GrowingBatch(64);
  const encoder = new WireEncoder();
  for (const { to, from, message } of crossing) encoder.encode(to, from, message, batch);
  return batch.written().slice();
}

/** Frames as bytes, so that messages can be compared. */
function comparable({ to, from, message }: Crossed): unknown {
  const frame = (message as { frame?: Frame }).frame;
  return { to, from, ...message, ...(frame ? { frame: [Buffer.from(frame.head).toString('hex'), Buffer.from(frame.payload).toString('hex')] } : {}) };
}

/** Everything that was delivered, and whether the bytes were refused. Anything else that is thrown fails the test. */
function decoded(bytes: Uint8Array): { readonly crossed: Crossed[]; readonly malformed: boolean } {
  const crossed: Crossed[] = [];
  try {
    new WireDecoder().decode(bytes, (to, from, message) => crossed.push({ to, from, message }));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { crossed, malformed: true };
  }
  return { crossed, malformed: false };
}

function assertSane({ crossed }: { readonly crossed: readonly Crossed[] }): void {
  for (const { to, from, message } of crossed) {
    parseAddress(to);
    parseAddress(from);
    expect(['timer', 'link-up', 'link-down']).not.toContain(message.kind);
    const frame = (message as { frame?: Frame }).frame;
    if (frame instanceof Frame) expect(parseFrame(new Uint8Array(Buffer.concat([frame.head, frame.payload])))).toBeInstanceOf(Frame);
  }
}

describe('the wire', () => {
  test('the page on the format names every message with its code', () => {
    const page = readFileSync(new URL('../../../../docs/formats/wire.md', import.meta.url), 'utf8');
    const codes = [...Object.entries(COLD_MESSAGES).map(([kind, { code }]) => [kind, code] as const), ...Object.entries(HOT_CODES)];
    expect(codes.filter(([kind, code]) => !page.includes(`| ${code} | \`${kind}\` |`))).toEqual([]);
    expect(new Set(codes.map(([, code]) => code)).size).toBe(codes.length);
  });

  test('a request to write has its bytes, whatever status it claims; an answer that failed has none', () => {
    const made = (kind: FrameKind, op: Op): Uint8Array => {
      const frame = Frame.create(kind, 1, 1, new Uint8Array(512));
      frame.setOperation(0, 1, op, 0, 0, 4096, 512, 0);
      frame.setStatus(0, Status.ioError);
      frame.seal();
      return new Uint8Array(Buffer.concat([frame.head, frame.payload]));
    };
    expect(parseFrame(made(FrameKind.request, Op.write))).toEqual({ malformed: 'operation beyond the payload' });
    expect(parseFrame(made(FrameKind.reply, Op.read))).toBeInstanceOf(Frame);
  });

  test('every message comes out as it went in', () => {
    fc.assert(fc.property(fc.array(fc.record({ to: anyAddress, from: anyAddress, message: anyMessage }), { maxLength: 8 }), (crossing) => {
      const { crossed, malformed } = decoded(encoded(crossing));
      expect(malformed).toBe(false);
      expect(crossed.map(comparable)).toEqual(crossing.map(comparable));
    }), { numRuns: 300 * EFFORT });
  });

  test('each kind of message was among them', () => {
    for (const [kind, { body }] of Object.entries(COLD_MESSAGES)) {
      for (const fields of fc.sample(valueOf(body.example), 20)) {
        const message = { kind, ...(fields as object), ...(kind === 'propose' ? { change: fc.sample(anyChange, 1)[0] } : {}) } as Message;
        expect(decoded(encoded([{ to: 'server-1/a', from: 'server-1/a', message }])).crossed[0]?.message).toEqual(message);
      }
    }
  });

  test('any bytes are delivered or refused, nothing else', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assertSane(decoded(bytes))), { numRuns: 3000 * EFFORT });
  });

  test('any bytes behind a right envelope, too', () => {
    const codes = [1, 2, ...Object.values(COLD_MESSAGES).map((cold) => cold.code), 16, 17, 18, 19, 20, 99, 65_535];
    fc.assert(fc.property(fc.constantFrom(...codes), fc.uint8Array({ maxLength: 400 }), (code, body) => {
      const known = encoded([{ to: 'server-1/a', from: 'server-1/b', message: { kind: 'private' } }]);
      const bytes = new Uint8Array(known.length + ENVELOPE_BYTES + body.length);
      bytes.set(known);
      const view = new DataView(bytes.buffer);
      view.setUint32(known.length, body.length, true);
      view.setUint16(known.length + 4, code, true);
      view.setUint16(known.length + 8, 1, true);
      bytes.set(body, known.length + ENVELOPE_BYTES);
      assertSane(decoded(bytes));
    }), { numRuns: 5000 * EFFORT });
  });

  test('real batches with some bytes changed, cut or doubled, too', () => {
    const damage = fc.oneof(
      fc.record({ do: fc.constant('set' as const), at: fc.nat(5000), value: fc.nat(255) }), fc.record({ do: fc.constant('cut' as const), at: fc.nat(5000), value: fc.nat(255) }),
      fc.record({ do: fc.constant('double' as const), at: fc.nat(5000), value: fc.nat(255) }),
    );
    fc.assert(fc.property(fc.array(fc.record({ to: anyAddress, from: anyAddress, message: anyMessage }), { minLength: 1, maxLength: 5 }), fc.array(damage, { minLength: 1, maxLength: 4 }), (crossing, damages) => {
      let bytes = encoded(crossing);
      for (const { do: what, at, value } of damages) {
        const place = at % (bytes.length + 1);
        if (what === 'set' && place < bytes.length) bytes[place] = value;
        else if (what === 'cut') bytes = Uint8Array.from([...bytes.subarray(0, place), ...bytes.subarray(place + value)]);
        else if (what === 'double') bytes = Uint8Array.from([...bytes.subarray(0, place), ...bytes.subarray(Math.max(0, place - value))]);
      }
      assertSane(decoded(bytes));
    }), { numRuns: 700 * EFFORT });
  });

  test('few bytes never become many objects', () => {
    // A beacon of nothing but empty commit points: two bytes each.
    const entries = LIST_MAX + 1;
    const body = new Uint8Array(entries * 2);
    for (let i = 0; i < entries; i++) body[i * 2] = (5 << 3) | 2;
    expect(decoded(coldEnvelope(COLD_MESSAGES.beacon.code, body)).malformed).toBe(true);
    // Nested ones count as well: members of one configuration.
    const members = new Uint8Array(COLD_BYTES_MAX - 10);
    for (let i = 0; i + 1 < members.length; i += 2) members[i] = (4 << 3) | 2;
    const wrapped = new Uint8Array(COLD_BYTES_MAX);
    wrapped.set([(1 << 3) | 2, (members.length & 0x7f) | 0x80, ((members.length >> 7) & 0x7f) | 0x80, ((members.length >> 14) & 0x7f) | 0x80, members.length >> 21]);
    wrapped.set(members, 5);
    const before = process.memoryUsage().heapUsed;
    expect(decoded(coldEnvelope(COLD_MESSAGES.configuration.code, wrapped.subarray(0, 5 + members.length))).malformed).toBe(true);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(64 * 2 ** 20);
    expect(decoded(coldEnvelope(COLD_MESSAGES.configuration.code, new Uint8Array(COLD_BYTES_MAX + 1))).malformed).toBe(true);
    expect(decoded(coldEnvelope(COLD_MESSAGES.configuration.code, new Uint8Array(COLD_BYTES_MAX).fill(0x0b))).malformed).toBe(true);
    expect(decoded(coldEnvelope(2, new Uint8Array(PLAIN_BYTES_MAX + 1).fill(0x20))).malformed).toBe(true);
    expect(decoded(coldEnvelope(2, new Uint8Array(PLAIN_BYTES_MAX).fill(0x5b))).malformed).toBe(true);
  });

  test('private messages hold only what JSON keeps, and cannot pose as others', () => {
    const refused = [{ kind: 'x', bytes: new Uint8Array(1) }, { kind: 'x', date: new Date(0) }, { kind: 'x', call: () => {} }, { kind: 'x', nan: NaN }, { kind: 'X y' }] as unknown as Message[];
    for (const message of refused) expect(() => encoded([{ to: 'server-1/a', from: 'server-1/a', message }])).toThrow('cross');
    for (const kind of ['timer', 'link-up', 'link-down', 'down', 'append', 'adopt', 'toString x']) {
      expect(decoded(coldEnvelope(2, new TextEncoder().encode(JSON.stringify({ kind })))).malformed).toBe(true);
    }
    const inherited = decoded(coldEnvelope(2, new TextEncoder().encode('{"kind":"constructor","__proto__":{"x":1}}'))).crossed[0]?.message;
    expect((inherited as unknown as { x?: number }).x).toBeUndefined();
  });

  test('a sender that the peer does not host is refused', () => {
    const bytes = encoded([{ to: 'server-1/a', from: 'host-1/attachment/x', message: { kind: 'private' } }]);
    expect(() => new WireDecoder((address) => address.startsWith('server-')).decode(bytes, () => {})).toThrow(Malformed);
  });

  test('addresses are renumbered when there are too many, and nobody gets another\'s messages', () => {
    const encoder = new WireEncoder();
    const decoder = new WireDecoder();
    const batch = new GrowingBatch(2 ** 16);
    let seen = 0;
    const cross = (to: Address, from: Address): void => {
      batch.at = 0;
      encoder.encode(to, from, { kind: 'private' }, batch);
      decoder.decode(batch.written(), (gotTo, gotFrom) => {
        expect([gotTo, gotFrom]).toEqual([to, from]);
        seen++;
      });
    };
    cross('server-1/first', 'host-1/0');
    for (let i = 1; i < LINK_ADDRESSES_MAX - 1; i++) cross('server-1/first', `host-1/${i}`);
    // All numbers are given out: the next sender takes the number of the receiver.
    for (let i = 0; i < 5; i++) cross('server-1/first', `host-2/${i}`);
    expect(seen).toBe(LINK_ADDRESSES_MAX + 4);
  });
});

/** A body behind an envelope from server-1/a to itself. */
function coldEnvelope(code: number, body: Uint8Array): Uint8Array {
  const known = encoded([{ to: 'server-1/a', from: 'server-1/a', message: { kind: 'private' } }]);
  const address = known.subarray(0, ENVELOPE_BYTES + 'server-1/a'.length);
  const bytes = new Uint8Array(address.length + ENVELOPE_BYTES + body.length);
  bytes.set(address);
  const view = new DataView(bytes.buffer);
  view.setUint32(address.length, body.length, true);
  view.setUint16(address.length + 4, code, true);
  bytes.set(body, address.length + ENVELOPE_BYTES);
  return bytes;
}
