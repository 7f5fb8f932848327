import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Prng } from '@ashlar/words';
import { NbdClient, type NbdClientOptions } from './client.ts';

/** Servers that do not keep to the protocol. */
const closers: (() => void)[] = [];

afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

type Script = (socket: Socket, connection: number) => void;

async function hostile(script: Script): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-client-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const sockets = new Set<Socket>();
  let count = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    script(socket, count++);
  }).listen(join(folder, 's'));
  await once(server, 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `nbd+unix:///?socket=${join(folder, 's')}`;
}

async function open(uri: string, options: NbdClientOptions = { reconnectTimeoutMs: 0 }): Promise<NbdClient> {
  const nbd = await NbdClient.connect(uri, options);
  closers.push(() => nbd.destroy());
  return nbd;
}

function u16(...values: readonly number[]): Buffer {
  return Buffer.concat(values.map((value) => Buffer.of(value >> 8, value & 255)));
}

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value >>> 0, i * 4));
  return bytes;
}

const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)]);
const optionReply = (option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer => Buffer.concat([u32(0x0003e889, 0x045565a9, option, type, data.length), data]);
/** Structured replies, base:allocation as number 1, an export of 1 MiB. */
const HANDSHAKE = Buffer.concat([
  GREETING, optionReply(8, 1), optionReply(10, 4, Buffer.concat([u32(1), Buffer.from('base:allocation')])), optionReply(10, 1),
  optionReply(7, 3, Buffer.concat([u16(0), u32(0, 2 ** 20), u16(0xfff)])), optionReply(7, 1),
]);
const chunk = (type: number, cookie: number, data: Buffer, flags = 1, length = data.length): Buffer => Buffer.concat([u32(0x668e33ef), u16(flags, type), u32(0, cookie, length), data]);

/** Answers the first request with these bytes; the client's handshake messages are ignored. */
const answering = (bytes: Buffer): Script => (socket) => {
  socket.write(HANDSHAKE);
  socket.on('data', (data: Buffer) => {
    if (data.indexOf(u32(0x25609513)) >= 0) socket.write(bytes);
  });
};

/** Tells of each request after the handshake: its command and its cookie. */
const serving = (answer: (socket: Socket, command: number, cookie: number) => void, handshake = HANDSHAKE): Script => (socket) => {
  let held = Buffer.alloc(0);
  socket.write(handshake);
  socket.on('data', (data: Buffer) => {
    held = Buffer.concat([held, data]);
    for (let at = held.indexOf(u32(0x25609513)); at >= 0 && held.length - at >= 28; at = held.indexOf(u32(0x25609513))) {
      answer(socket, held.readUInt16BE(at + 6), held.readUInt32BE(at + 12));
      held = held.subarray(at + 28);
    }
  });
};
const done = (cookie: number, error = 0): Buffer => u32(0x67446698, error, 0, cookie);
const bytesAt = (cookie: number, offset: number, bytes: Buffer, flags = 1): Buffer => chunk(1, cookie, Buffer.concat([u32(0, offset), bytes]), flags);

describe('the caller’s memory', () => {
  it('is left alone once a read was given up', async () => {
    const asked = Promise.withResolvers<void>();
    const nbd = await open(await hostile(serving((socket, command, cookie) => {
      if (command === 0) return asked.resolve();
      // All of the read comes late: half as bytes, half as a hole.
      socket.write(Buffer.concat([bytesAt(0, 0, Buffer.alloc(512, 7), 0), chunk(2, 0, Buffer.concat([u32(0, 512), u32(512)])), done(cookie)]));
    })));
    const into = new Uint8Array(1024).fill(1);
    const abort = new AbortController();
    const read = nbd.readInto(0, into, { signal: abort.signal });
    await asked.promise;
    abort.abort();
    await expect(read).rejects.toThrow();
    await nbd.flush();
    expect(into).toEqual(new Uint8Array(1024).fill(1));
  });

  it('is in use until all pieces of a request have ended, also where one fails', async () => {
    const small = Buffer.concat([HANDSHAKE.subarray(0, HANDSHAKE.length - 20), optionReply(7, 3, Buffer.concat([u16(3), u32(512, 512, 512)])), optionReply(7, 1)]);
    for (const command of ['readInto', 'write'] as const) {
      let flushes = 0;
      const nbd = await open(await hostile(serving((socket, asked, cookie) => {
        if (cookie === 0) socket.write(command === 'write' ? done(0, 28) : chunk(0x8001, 0, Buffer.concat([u32(28), u16(0)])));
        if (asked !== 3) return;
        if (++flushes === 3) socket.write(command === 'write' ? done(1) : bytesAt(1, 512, Buffer.alloc(512, 7)));
        socket.write(done(cookie));
      }, small)));
      const memory = new Uint8Array(1024);
      let ended = false;
      const result = nbd[command](0, memory).finally(() => (ended = true));
      const failed = expect(result).rejects.toMatchObject({ errno: 'ENOSPC' });
      await nbd.flush();
      await nbd.flush();
      expect(ended).toBe(false);
      await nbd.flush();
      await failed;
      expect(memory[1023]).toBe(command === 'write' ? 0 : 7);
    }
  });
});

describe('a client that is closed', () => {
  it('twice ends once: what is in flight is answered first', async () => {
    const nbd = await open(await hostile(serving((socket, command) => {
      if (command === 2) socket.end(bytesAt(0, 0, Buffer.alloc(512, 5)));
    })));
    const read = nbd.read(0, 512);
    const closed = Promise.all([nbd.close(), nbd.close()]);
    expect(await read).toEqual(new Uint8Array(512).fill(5));
    await closed;
    await expect(nbd.read(0, 512)).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('a client of a server that breaks the protocol', () => {
  it('gives up in the handshake', async () => {
    const scripts: readonly (readonly [Buffer, string])[] = [
      [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), 'protocol'],
      [Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(0)]), 'protocol'],
      [Buffer.concat([GREETING, Buffer.alloc(20)]), 'protocol'],
      [Buffer.concat([GREETING, optionReply(3, 1)]), 'protocol'],
      [Buffer.concat([GREETING, u32(0x0003e889, 0x045565a9, 8, 1, 0xffffffff)]), 'protocol'],
      [Buffer.concat([GREETING, optionReply(8, 0x80000001), optionReply(7, 1)]), 'protocol'],
      [Buffer.concat([GREETING, optionReply(8, 0x80000001), optionReply(7, 0x80000006)]), 'not-found'],
    ];
    for (const [bytes, code] of scripts) {
      const uri = await hostile((socket) => socket.write(bytes));
      await expect(NbdClient.connect(uri)).rejects.toMatchObject({ code });
    }
    const silent = await hostile((socket) => socket.resume());
    await expect(NbdClient.connect(silent, { connectTimeoutMs: 20 })).rejects.toMatchObject({ code: 'timeout' });
    const closing = await hostile((socket) => socket.end());
    await expect(NbdClient.connect(closing)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('believes no reply that does not fit its request', async () => {
    const offset = u32(0, 4096);
    const replies: Readonly<Record<string, Buffer>> = {
      'no magic number': Buffer.alloc(20),
      'unknown cookie': chunk(1, 9, Buffer.concat([offset, Buffer.alloc(512)])),
      'simple reply to a read': u32(0x67446698, 0, 0, 0),
      'data before the range': chunk(1, 0, Buffer.concat([u32(0, 0), Buffer.alloc(512)])),
      'data beyond the range': chunk(1, 0, Buffer.concat([offset, Buffer.alloc(1024)])),
      'too little data': chunk(1, 0, Buffer.concat([offset, Buffer.alloc(256)])),
      'no data': chunk(1, 0, offset),
      'nothing at all': chunk(0, 0, Buffer.alloc(0)),
      'endless chunk': chunk(0x8001, 0, Buffer.alloc(0), 1, 0xffffffff),
      'short error': chunk(0x8001, 0, Buffer.alloc(3)),
      'empty chunk that is not the last': chunk(0, 0, Buffer.alloc(0), 0),
      'chunk of another command': chunk(5, 0, u32(1, 512, 0)),
      'hole beyond the range': chunk(2, 0, Buffer.concat([offset, u32(4096)])),
    };
    for (const [name, bytes] of Object.entries(replies)) {
      const nbd = await open(await hostile(answering(bytes)));
      await expect(nbd.read(4096, 512), name).rejects.toMatchObject({ code: 'unavailable' });
    }
  });

  it('puts a read together from data and holes in any order, and takes an error at its word', async () => {
    const good = Buffer.concat([chunk(2, 0, Buffer.concat([u32(0, 4096 + 512), u32(512)]), 0), chunk(1, 0, Buffer.concat([u32(0, 4096), Buffer.alloc(512, 7)]), 0), chunk(0, 0, Buffer.alloc(0))]);
    const nbd = await open(await hostile(answering(good)));
    expect(await nbd.read(4096, 1024)).toEqual(new Uint8Array([...Buffer.alloc(512, 7), ...Buffer.alloc(512)]));
    const failing = await open(await hostile(answering(chunk(0x8002, 0, Buffer.concat([u32(28), u16(4), Buffer.from('full'), u32(0, 4096)])))));
    await expect(failing.read(4096, 512)).rejects.toMatchObject({ errno: 'ENOSPC', code: 'no-space' });
  });

  it('asks again on the next connection', async () => {
    const uri = await hostile((socket, connection) => answering(connection === 0 ? Buffer.alloc(20) : chunk(1, 0, Buffer.concat([u32(0, 0), Buffer.alloc(512, 5)])))(socket, connection));
    const nbd = await open(uri, {});
    expect(await nbd.read(0, 512)).toEqual(new Uint8Array(512).fill(5));
    expect(nbd.reconnections).toBe(1);
  });

  it('survives noise', async () => {
    const prng = new Prng(11);
    for (let round = 0; round < 40; round++) {
      const noise = Buffer.from(Array.from({ length: prng.between(1, 200) }, () => prng.below(256)));
      const valid = prng.pick([u32(0x668e33ef), u32(0x67446698), Buffer.alloc(0), chunk(1, 0, Buffer.concat([u32(0, 0), Buffer.alloc(prng.below(600))]), prng.below(2))]);
      const nbd = await open(await hostile((socket) => {
        socket.write(HANDSHAKE);
        socket.on('data', (data: Buffer) => {
          if (data.indexOf(u32(0x25609513)) >= 0) socket.end(Buffer.concat([valid, noise]));
        });
      }));
      const [read] = await Promise.allSettled([nbd.read(0, 512)]);
      expect(read.status).toBe('rejected');
      nbd.destroy();
    }
  });
});
