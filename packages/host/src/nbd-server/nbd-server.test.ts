import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Frame, FrameKind, type PayloadLease, Status } from '@ashlar/protocol';
import type { NbdBackend, NbdReplies } from '@ashlar/nbd';
import { listExports, NbdClient } from '@ashlar/nbd-client';
import { Prng } from '@ashlar/words';
import { MemoryBackend } from './memory-backend.ts';
import { NbdServer, type NbdServerOptions } from './server.ts';

const MIB = 2 ** 20;
const closers: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(backend: NbdBackend, options: NbdServerOptions = {}): Promise<{ server: NbdServer; uri: string; path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-nbd-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const server = new NbdServer(options);
  server.addExport('volume', backend);
  const path = join(folder, 'nbd.sock');
  await server.listen({ path });
  closers.push(() => server.close(0));
  return { server, path, uri: `nbd+unix:///volume?socket=${path}` };
}

async function client(uri: string, options: Parameters<typeof NbdClient.connect>[1] = {}): Promise<NbdClient> {
  const opened = await NbdClient.connect(uri, options);
  closers.push(() => opened.destroy());
  return opened;
}

function pattern(seed: number, bytes: number): Uint8Array {
  const prng = new Prng(seed);
  const words = new Uint32Array(bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = prng.next32();
  return new Uint8Array(words.buffer);
}

/** Holds what it is given, until told. */
class HeldBackend implements NbdBackend {
  readonly inner: MemoryBackend;
  readonly limits;
  readonly checksums = true;
  readonly held: { frame: Frame; client: NbdReplies; lease: PayloadLease }[] = [];
  #wake: (() => void) | null = null;

  constructor(sizeBytes: number, limits = { requestsMax: 1024, bytesMax: 64 * MIB }) {
    this.inner = new MemoryBackend({ sizeBytes });
    this.limits = limits;
  }

  device() {
    return this.inner.device();
  }

  submit(frame: Frame, from: NbdReplies, lease: PayloadLease): void {
    this.held.push({ frame, client: from, lease });
    this.#wake?.();
  }

  get heldRequests(): number {
    return this.held.reduce((sum, { frame }) => sum + frame.count, 0);
  }

  async until(requests: number): Promise<void> {
    while (this.heldRequests < requests) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  answer(): void {
    for (const { frame, client: to, lease } of this.held.splice(0)) this.inner.submit(frame, to, lease);
  }
}

describe('an NBD server and its client', () => {
  it('negotiate, and keep what is written', async () => {
    const { uri } = await serve(new MemoryBackend({ sizeBytes: 64 * MIB }));
    const nbd = await client(uri);
    expect(nbd.info).toMatchObject({ sizeBytes: 64 * MIB, readOnly: false, multiConnection: true, structuredReplies: true, blockBytesMin: 512, blockBytesPreferred: 4096, requestBytesMax: 32 * MIB, allocationContext: 1 });
    const bytes = pattern(1, 3 * MIB);
    await nbd.write(512, bytes);
    expect(Buffer.compare(await nbd.read(512, bytes.length), bytes)).toBe(0);
    await nbd.writeZeroes(4096, 4096, { noHole: true });
    expect((await nbd.read(4096, 4096)).every((byte) => byte === 0)).toBe(true);
    await nbd.trim(MIB, MIB, { fua: true });
    await nbd.flush();
    await nbd.cache(0, MIB);
    const extents = await nbd.blockStatus(0, 4 * MIB);
    expect(extents[0]).toEqual({ offsetBytes: 0, lengthBytes: MIB, hole: false, zero: false });
    await nbd.close();
    await expect(nbd.read(0, 512)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('carry many requests at a time of every size, split over reads in every way', async () => {
    const { uri } = await serve(new MemoryBackend({ sizeBytes: 64 * MIB, checksums: true }));
    const nbd = await client(uri);
    const prng = new Prng(7);
    const twin = new Uint8Array(64 * MIB);
    for (let round = 0; round < 6; round++) {
      const writes: Promise<void>[] = [];
      let at = 0;
      while (at < 48 * MIB && writes.length < 200) {
        const length = 512 * (prng.chance(0.2) ? prng.between(1, 8192) : prng.between(1, 64));
        const bytes = pattern(prng.next32(), length);
        twin.set(bytes, at);
        writes.push(nbd.write(at, bytes));
        at += length + 512 * prng.below(8);
      }
      await Promise.all(writes);
      const pieces = Array.from({ length: 60 }, () => ({ at: 512 * prng.below(90_000), length: 512 * prng.between(1, 4000) }));
      const read = await Promise.all(pieces.map((piece) => nbd.read(piece.at, piece.length)));
      expect(read.every((bytes, i) => Buffer.compare(bytes, twin.subarray(pieces[i]!.at, pieces[i]!.at + pieces[i]!.length)) === 0)).toBe(true);
    }
  });

  it('work over TCP, and list exports', async () => {
    const { server } = await serve(new MemoryBackend({ sizeBytes: MIB }));
    server.addExport('ein Gerät', new MemoryBackend({ sizeBytes: MIB, readOnly: true }));
    const bound = await server.listen({ host: '127.0.0.1', port: 0 });
    const port = 'port' in bound ? bound.port : 0;
    expect((await listExports(`nbd://127.0.0.1:${port}`)).map(({ name }) => name)).toEqual(['volume', 'ein Gerät']);
    const nbd = await client(`nbd://127.0.0.1:${port}/ein%20Ger%C3%A4t`);
    expect(nbd.info.readOnly).toBe(true);
    await expect(nbd.write(0, new Uint8Array(4096))).rejects.toMatchObject({ errno: 'EPERM' });
    await expect(client(`nbd://127.0.0.1:${port}/none`)).rejects.toMatchObject({ code: 'not-found' });
  });

  it('refuse what is not allowed, and go on', async () => {
    const { uri } = await serve(new MemoryBackend({ sizeBytes: MIB }));
    const nbd = await client(uri);
    await expect(nbd.read(MIB - 512, 1024)).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(nbd.write(MIB, new Uint8Array(512))).rejects.toMatchObject({ errno: 'ENOSPC' });
    await expect(nbd.read(100, 512)).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(nbd.write(0, new Uint8Array(100))).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(nbd.writeZeroes(0, 2 * MIB)).rejects.toMatchObject({ errno: 'ENOSPC' });
    await expect(nbd.trim(2 ** 50, 512)).rejects.toMatchObject({ errno: 'EINVAL' });
    // Refused in the middle of a batch: the bytes of the refused write belong to nobody.
    const good = pattern(3, 8192);
    const results = await Promise.allSettled([nbd.write(0, good), nbd.write(MIB - 512, pattern(4, MIB)), nbd.write(8192, good), nbd.read(0, 512)]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(Buffer.compare(await nbd.read(8192, 8192), good)).toBe(0);
  });

  it('give up a request by signal', async () => {
    const backend = new HeldBackend(MIB);
    const { uri } = await serve(backend);
    const nbd = await client(uri);
    const abort = new AbortController();
    const read = nbd.read(0, 4096, { signal: abort.signal });
    await backend.until(1);
    abort.abort();
    await expect(read).rejects.toThrow();
    backend.answer();
    const next = nbd.read(0, 512);
    await backend.until(1);
    backend.answer();
    expect((await next).length).toBe(512);
  });

  it('hold no more than the backend has room for', async () => {
    const backend = new HeldBackend(64 * MIB, { requestsMax: 8, bytesMax: MIB });
    const { uri } = await serve(backend);
    const nbd = await client(uri);
    const small = Array.from({ length: 40 }, (_, i) => nbd.read(i * 4096, 4096));
    await backend.until(8);
    expect(backend.heldRequests).toBe(8);
    let answered = 0;
    const all = Promise.all(small).then(() => (answered = 1));
    while (answered === 0) {
      expect(backend.heldRequests).toBeLessThanOrEqual(8);
      backend.answer();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await all;
    const large = Promise.all(Array.from({ length: 4 }, (_, i) => nbd.read(i * MIB, 600 * 1024)));
    await backend.until(1);
    expect(backend.heldRequests).toBe(1);
    let done = false;
    void large.then(() => (done = true));
    while (!done) {
      backend.answer();
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  it('come back after a lost connection, and lose nothing', async () => {
    const backend = new HeldBackend(MIB);
    const { uri } = await serve(backend);
    const events: string[] = [];
    const nbd = await client(uri, { onDisconnected: () => events.push('lost'), onReconnected: () => events.push('back') });
    const bytes = pattern(9, 4096);
    const write = nbd.write(0, bytes);
    await backend.until(1);
    nbd.breakConnection();
    // The ended connection's request is unanswered: the resent one is not served before it is settled.
    while (!events.includes('back')) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(backend.heldRequests).toBe(1);
    backend.answer();
    await backend.until(1);
    backend.answer();
    await write;
    expect(events).toEqual(['lost', 'back']);
    expect(nbd.reconnections).toBe(1);
  });

  it('share the room of an export that two servers show', async () => {
    const backend = new HeldBackend(MIB, { requestsMax: 3, bytesMax: MIB });
    const first = new NbdServer();
    const second = new NbdServer();
    const shown = first.addExport('volume', backend);
    second.addExport('volume', shown);
    const uris = await Promise.all([first, second].map(async (server) => {
      const bound = await server.listen({ host: '127.0.0.1', port: 0 });
      closers.push(() => server.close(0));
      return `nbd://127.0.0.1:${'port' in bound ? bound.port : 0}/volume`;
    }));
    const [one, two] = [await client(uris[0]!), await client(uris[1]!)];
    const reads = Promise.all([one, two].flatMap((nbd) => Array.from({ length: 4 }, () => nbd.read(0, 4096))));
    let done = false;
    void reads.then(() => (done = true));
    await backend.until(3);
    while (!done) {
      expect(backend.heldRequests).toBeLessThanOrEqual(3);
      backend.answer();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(shown.unansweredRequests).toBe(0);
  });

  it('show a new size at the next connection', async () => {
    const backend = new MemoryBackend({ sizeBytes: MIB });
    const { uri } = await serve(backend);
    const nbd = await client(uri);
    backend.sizeBytes = 2 * MIB;
    await expect(nbd.read(MIB, 512)).rejects.toMatchObject({ errno: 'EINVAL' });
    nbd.breakConnection();
    await expect.poll(() => nbd.sizeBytes).toBe(2 * MIB);
    expect((await nbd.read(MIB, 512)).length).toBe(512);
  });

  it('end in order: what was asked is answered, what comes later is not carried out', async () => {
    const backend = new HeldBackend(MIB);
    const { server, uri } = await serve(backend);
    const nbd = await client(uri, { reconnectTimeoutMs: 0 });
    const early = nbd.write(0, pattern(1, 4096));
    await backend.until(1);
    const gone = server.removeExport('volume');
    await expect(nbd.write(4096, pattern(2, 4096))).rejects.toMatchObject({ errno: 'ESHUTDOWN' });
    backend.answer();
    await early;
    await gone;
    expect(server.connectionCount).toBe(0);
    await expect(client(uri)).rejects.toMatchObject({ code: 'not-found' });
  });

  it('refuse nothing when the server only ends: what was not read is asked of its successor', async () => {
    const backend = new HeldBackend(MIB);
    const { server, uri, path } = await serve(backend);
    const nbd = await client(uri);
    const early = nbd.write(0, pattern(1, 4096));
    await backend.until(1);
    const closed = server.close();
    const late = nbd.write(4096, pattern(2, 4096));
    await new Promise((resolve) => setImmediate(resolve));
    backend.answer();
    await Promise.all([early, closed]);
    const successor = new NbdServer();
    successor.addExport('volume', backend.inner);
    await successor.listen({ path });
    closers.push(() => successor.close(0));
    await late;
    expect(Buffer.compare(await nbd.read(4096, 4096), pattern(2, 4096))).toBe(0);
  });

  it('cut clients that do not finish their handshake', async () => {
    const faults: string[] = [];
    const { path, uri } = await serve(new MemoryBackend({ sizeBytes: MIB }), { handshakeDeadlineMs: 20, onFault: (message) => faults.push(message) });
    const nbd = await client(uri);
    const silent = connect(path);
    await once(silent.resume(), 'close');
    await expect.poll(() => faults).toEqual(['handshake took too long']);
    expect((await nbd.read(0, 512)).length).toBe(512);
  });

  it('turn away clients above the limit', async () => {
    const faults: string[] = [];
    const { uri } = await serve(new MemoryBackend({ sizeBytes: MIB }), { connectionsMax: 2, onFault: (message) => faults.push(message) });
    const two = [await client(uri), await client(uri)];
    await expect(client(uri)).rejects.toThrow();
    expect(faults).toEqual(['too many connections']);
    await two[0]!.close();
    await expect.poll(() => client(uri).then(() => 'in', () => 'out')).toBe('in');
  });

  it('let in who negotiates at once, however many say nothing', async () => {
    const faults: string[] = [];
    const { path, uri } = await serve(new MemoryBackend({ sizeBytes: MIB }), { handshakesMax: 8, onFault: (message) => faults.push(message) });
    const silent = Array.from({ length: 30 }, () => connect(path).on('error', () => undefined).resume());
    await Promise.all(silent.slice(0, 22).map((socket) => once(socket, 'close')));
    const nbd = await client(uri);
    expect((await nbd.read(0, 512)).length).toBe(512);
    expect(new Set(faults)).toEqual(new Set(['too many handshakes at a time']));
    for (const socket of silent) socket.destroy();
  });

  it('pass on errors of the backend', async () => {
    const statuses = [Status.ioError, Status.noSpace, Status.notSupported, Status.invalid, Status.busy];
    const backend = new HeldBackend(MIB);
    const { uri } = await serve(backend);
    const nbd = await client(uri);
    for (const status of statuses) {
      const results = Promise.allSettled([nbd.read(0, 4096), nbd.writeZeroes(0, 4096, { fastZero: true }), nbd.blockStatus(0, 4096)]);
      await backend.until(3);
      for (const { frame, client: to } of backend.held.splice(0)) {
        const reply = Frame.create(FrameKind.reply, frame.count, 0);
        for (let i = 0; i < frame.count; i++) {
          reply.setOperation(i, frame.requestNumber(i), frame.op(i), 0, 0, 0, 0, 0);
          reply.setStatus(i, status);
        }
        to.replied(reply);
      }
      const errno = { [Status.ioError]: 'EIO', [Status.noSpace]: 'ENOSPC', [Status.notSupported]: 'ENOTSUP', [Status.invalid]: 'EINVAL', [Status.busy]: 'EIO' }[status as 1];
      expect((await results).map((result) => (result.status === 'rejected' ? (result.reason as { errno: string }).errno : 'ok'))).toEqual([errno, errno, errno]);
    }
  });
});
