import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { SlabPool } from '@ashlar/protocol';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LINK_MESSAGE_BYTES_MAX } from '../limits.ts';
import { Opcode, readHeader, unmask, writeHeader, WS_HEADER_BYTES_MAX } from './framing.ts';
import { LinkSocket } from './link-socket.ts';
import { HEAD_BYTES_MAX, upgradeRequest } from './upgrade.ts';

const KEY = 'AAAAAAAAAAAAAAAAAAAAAA==';
const HEAD = Buffer.from(upgradeRequest('localhost', KEY, 'token'));

let server: Server;
let said: string[];
let ended: PromiseWithResolvers<void>;

/** A listening link that writes down what happens to it, until it is gone. */
beforeEach(async () => {
  const pool = new SlabPool();
  server = createServer({ pauseOnConnect: true }, (socket) => {
    const accepted = LinkSocket.accept(socket, pool, (head) => (head.headers.get('authorization') === 'Bearer token' ? null : '401 Unauthorized'), (link) => {
      link.events = {
        opened: () => said.push('opened'),
        text: (bytes) => said.push(`text ${bytes.length}`),
        binary: (bytes) => said.push(`binary ${Buffer.from(bytes).toString('hex')}`),
        pong: () => said.push('pong'),
        malformed: () => { said.push('malformed'); link.terminate(); },
        closed: () => said.push('closed'),
      };
    }, () => said.push('refused'));
    void accepted.gone.then(() => ended.resolve());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
});
afterEach(() => server.close());

function dial(): Socket {
  const { port } = server.address() as { port: number };
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => undefined).resume();
  return socket;
}

/** A client's frame, masked, as another implementation may send it. */
function frame(opcode: number, payload: Uint8Array, mask: number): Buffer {
  const bytes = new Uint8Array(WS_HEADER_BYTES_MAX + payload.length);
  bytes.set(payload, WS_HEADER_BYTES_MAX);
  const view = new DataView(bytes.buffer);
  const at = writeHeader(view, WS_HEADER_BYTES_MAX, opcode as Opcode, payload.length, true);
  view.setUint32(WS_HEADER_BYTES_MAX - 4, mask);
  unmask(bytes.subarray(WS_HEADER_BYTES_MAX), mask);
  return Buffer.from(bytes.subarray(at));
}

/** Written in these pieces, each its own socket write, and ended. */
async function send(bytes: Buffer, cuts: readonly number[]): Promise<void> {
  said = [];
  ended = Promise.withResolvers();
  const socket = dial();
  let from = 0;
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    const to = Math.min(cut, bytes.length);
    await new Promise<void>((resolve) => { socket.write(bytes.subarray(from, to), () => resolve()); });
    from = to;
  }
  socket.end();
  await ended.promise;
}

describe('a link\'s own WebSocket', () => {
  const messages = fc.array(fc.record({ opcode: fc.constantFrom<Opcode>(Opcode.text, Opcode.binary, Opcode.ping, Opcode.pong), payload: fc.uint8Array({ maxLength: 300 }), mask: fc.nat() }), { maxLength: 8 });

  it('hands over what was sent, wherever the stream is cut', async () => {
    await fc.assert(fc.asyncProperty(messages, fc.array(fc.nat({ max: 1500 }), { maxLength: 12 }), async (sent, cuts) => {
      const taken = sent.map(({ opcode, payload, mask }) => ({ opcode, payload: opcode >= Opcode.close ? payload.subarray(0, 125) : payload, mask }));
      await send(Buffer.concat([HEAD, ...taken.map(({ opcode, payload, mask }) => frame(opcode, payload, mask))]), cuts);
      const expected = taken.flatMap(({ opcode, payload }) => {
        if (opcode === Opcode.text) return [`text ${payload.length}`];
        if (opcode === Opcode.binary) return [`binary ${Buffer.from(payload).toString('hex')}`];
        return opcode === Opcode.pong ? ['pong'] : [];
      });
      expect(said).toEqual([...expected, 'closed']);
    }), { numRuns: 40 });
  });

  it('ends with a fault or a closed socket, whatever it is sent, and never otherwise', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), fc.boolean(), async (bytes, upgraded) => {
      await send(Buffer.concat([upgraded ? HEAD : Buffer.alloc(0), bytes]), []);
      expect(said.filter((word) => ['closed', 'refused'].includes(word))).toHaveLength(1);
      expect(['closed', 'refused']).toContain(said.at(-1));
    }), { numRuns: 60 });
  });

  it.each([
    ['a message longer than any', frame(Opcode.binary, new Uint8Array(0), 0), (bytes: Buffer) => Buffer.concat([Buffer.from([0x82, 0xff]), u64(LINK_MESSAGE_BYTES_MAX + 1), bytes.subarray(2, 6)])],
    ['a fragment', frame(Opcode.binary, new Uint8Array(3), 1), (bytes: Buffer) => Buffer.concat([Buffer.from([0x02]), bytes.subarray(1)])],
    ['a continuation', frame(Opcode.binary, new Uint8Array(3), 1), (bytes: Buffer) => Buffer.concat([Buffer.from([0x80]), bytes.subarray(1)])],
    ['an extension bit', frame(Opcode.binary, new Uint8Array(3), 1), (bytes: Buffer) => Buffer.concat([Buffer.from([0xc2]), bytes.subarray(1)])],
    ['no mask', frame(Opcode.binary, new Uint8Array(3), 1), (bytes: Buffer) => Buffer.concat([Buffer.from([0x82, 3]), bytes.subarray(6)])],
    ['a long ping', frame(Opcode.ping, new Uint8Array(126), 1), (bytes: Buffer) => bytes],
  ])('%s is malformed', async (_name, bytes, spoil) => {
    await send(Buffer.concat([HEAD, spoil(bytes)]), []);
    expect(said).toEqual(['malformed', 'closed']);
  });

  it('refuses a head that does not end, a wrong token, and what is no WebSocket', async () => {
    for (const head of [Buffer.alloc(HEAD_BYTES_MAX + 2, 65), Buffer.from(upgradeRequest('localhost', KEY, 'stolen')), Buffer.from('POST / HTTP/1.1\r\n\r\n'), Buffer.from('GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n')]) {
      await send(head, []);
      expect(said).toEqual(['refused']);
    }
  });
});

describe('a frame\'s header', () => {
  it('is read as it was written', () => {
    fc.assert(fc.property(fc.constantFrom(...Object.values(Opcode)), fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.boolean(), (opcode, length, fromClient) => {
      const payloadBytes = opcode >= Opcode.close ? length % 126 : length;
      const bytes = new Uint8Array(WS_HEADER_BYTES_MAX);
      const at = writeHeader(new DataView(bytes.buffer), WS_HEADER_BYTES_MAX, opcode, payloadBytes, fromClient);
      expect(readHeader(bytes, at, WS_HEADER_BYTES_MAX, fromClient)).toEqual({ opcode, headerBytes: WS_HEADER_BYTES_MAX - at, payloadBytes, mask: 0 });
      for (let end = at; end < WS_HEADER_BYTES_MAX; end++) expect(readHeader(bytes, at, end, fromClient)).toBeNull();
    }));
  });
});

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
