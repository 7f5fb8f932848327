import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SlabPool } from '@ashlar/protocol';
import { Opcode, unmask, writeHeader, WS_HEADER_BYTES_MAX } from './framing.ts';
import { LinkSocket, type LinkSocketEvents } from './link-socket.ts';

let directory: string;
let path: string;
let server: Server;
const pool = new SlabPool();
const closers: (() => void)[] = [];

/** What one side heard, and a way to wait for more. */
class Heard implements LinkSocketEvents {
  readonly said: string[] = [];
  #look = (): void => {};
  opened(): void { this.#add('opened'); }
  text(bytes: Uint8Array): void { this.#add(`text ${Buffer.from(bytes).toString()}`); }
  binary(bytes: Uint8Array): void { this.#add(`binary ${bytes.length} ${bytes.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7)}`); }
  pong(): void { this.#add('pong'); }
  malformed(reason: string): void { this.#add(`malformed: ${reason}`); }
  closed(): void { this.#add('closed'); }
  #add(what: string): void {
    this.said.push(what);
    this.#look();
  }
  async until(count: number): Promise<void> { while (this.said.length < count) await new Promise<void>((resolve) => { this.#look = resolve; }); }
}

let next = Promise.withResolvers<{ readonly link: LinkSocket; readonly heard: Heard }>();

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ashlar-socket-'));
  path = join(directory, 'x.sock');
  next = Promise.withResolvers();
  server = createServer({ pauseOnConnect: true });
  server.on('connection', (socket) => {
    LinkSocket.accept(socket, pool, (head) => (head.headers.get('authorization') === 'Bearer secret' ? null : '401 Unauthorized'), (link) => {
      const heard = new Heard();
      link.events = heard;
      closers.push(() => link.terminate());
      next.resolve({ link, heard });
    }, () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

async function raw(): Promise<Socket> {
  const socket = connect(path);
  closers.push(() => socket.destroy());
  const answered = once(socket, 'data');
  socket.write('GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n');
  socket.write('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer secret\r\n\r\n');
  // The key and its answer are those of RFC 6455, section 1.3.
  expect(String((await answered)[0])).toContain('Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  return socket;
}

function bytes(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
}

/** A client's frame under a mask that is not 0. */
function masked(opcode: Opcode, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(WS_HEADER_BYTES_MAX + payload.length);
  const start = writeHeader(new DataView(frame.buffer), WS_HEADER_BYTES_MAX, opcode, payload.length, true);
  frame.set([0x12, 0x34, 0x56, 0x78], WS_HEADER_BYTES_MAX - 4);
  frame.set(payload, WS_HEADER_BYTES_MAX);
  unmask(frame.subarray(WS_HEADER_BYTES_MAX), 0x12345678);
  return frame.subarray(start);
}

describe('messages of a link\'s WebSocket', () => {
  it('are read in every length, however they are cut', async () => {
    const socket = await raw();
    const { heard } = await next.promise;
    const expected = new Heard();
    const sent: Uint8Array[] = [];
    [0, 1, 125, 126, 127, 65_535, 65_536, 300_000].forEach((length, seed) => {
      const payload = bytes(length, seed);
      expected.binary(payload);
      sent.push(masked(Opcode.binary, payload));
    });
    sent.push(masked(Opcode.text, Buffer.from('hello')), masked(Opcode.pong, new Uint8Array(0)));
    expected.text(Buffer.from('hello'));
    expected.pong();
    const all = Buffer.concat(sent);
    for (const step of [all.length, 64 * 1024 - 1, 4099]) {
      heard.said.length = 0;
      for (let at = 0; at < all.length; at += step) {
        if (!socket.write(all.subarray(at, at + step))) await once(socket, 'drain');
        await new Promise((resolve) => setImmediate(resolve));
      }
      await heard.until(expected.said.length);
      expect(heard.said).toEqual(expected.said);
    }
    const small = Buffer.concat(sent.slice(0, 4));
    heard.said.length = 0;
    for (let at = 0; at < small.length; at++) {
      socket.write(small.subarray(at, at + 1));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await heard.until(4);
    expect(heard.said).toEqual(expected.said.slice(0, 4));
  });

  it('arrive at its like, both ways', async () => {
    const client = LinkSocket.dial({ path }, { token: 'secret' }, pool);
    const answers = new Heard();
    client.events = answers;
    closers.push(() => client.terminate());
    const { link, heard } = await next.promise;
    await answers.until(1);
    const batch = new Uint8Array(WS_HEADER_BYTES_MAX + 200_000);
    batch.set(bytes(200_000, 6), WS_HEADER_BYTES_MAX);
    const expected = new Heard();
    expected.binary(bytes(200_000, 6));
    for (const [from, to] of [[client, heard], [link, answers]] as const) {
      to.said.length = 0;
      let taken = 0;
      from.sendBinary(batch, new DataView(batch.buffer), batch.length, () => { taken++; });
      await to.until(1);
      expect(to.said).toEqual(expected.said);
      expect(taken).toBe(1);
    }
    link.ping();
    client.close();
    await Promise.all([client.gone, link.gone]);
    expect([answers.said.at(-1), heard.said.at(-1)]).toEqual(['closed', 'closed']);
  });
});
