// needs: nbdkit, qemu-nbd, qemu-img
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { listExports, NbdClient, type NbdClientOptions } from '@ashlar/nbd-client';
import { Prng } from '@ashlar/words';
import { afterAll, afterEach, describe, expect, it } from 'vitest';

/** Our NBD client against other people's servers, and ours: each kind of server keeps something back that the protocol lets it. */
const MIB = 2 ** 20;
const SIZE = 16 * MIB;
const OURS = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;

const folder = mkdtempSync(join(tmpdir(), 'ashlar-nbd-client-'));
const running: ChildProcess[] = [];
const clients: NbdClient[] = [];
let count = 0;

interface Served { readonly uri: string; readonly socket: string; readonly server: ChildProcess }

/** Resolves when the socket is there. */
async function serve(command: (socket: string) => readonly string[], name = '', socket = join(folder, `s${count++}`)): Promise<Served> {
  const [file, ...args] = command(socket) as [string, ...string[]];
  rmSync(socket, { force: true });
  const server = spawn(file, args, { stdio: 'ignore' });
  running.push(server);
  const failed = new Promise<never>((_resolve, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`${file} ended with ${code ?? 'a signal'}`)));
  });
  failed.catch(() => undefined);
  while (!existsSync(socket)) await Promise.race([delay(10), failed]);
  return { uri: `nbd+unix:///${name}?socket=${socket}`, socket, server };
}

const nbdkit = (...args: readonly string[]) => (socket: string): readonly string[] => ['nbdkit', '-f', '--exit-with-parent', '-U', socket, ...args];

async function kill(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, 'exit');
  server.kill('SIGKILL');
  await ended;
}

async function connect(uri: string, options?: NbdClientOptions): Promise<NbdClient> {
  const client = await NbdClient.connect(uri, options);
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const server of running.splice(0)) await kill(server);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const image = join(folder, 'image');
const qemu = (socket: string): readonly string[] => {
  execFileSync('qemu-img', ['create', '-q', '-f', 'raw', image, String(SIZE)]);
  return ['qemu-nbd', '-f', 'raw', '-t', '--discard=unmap', '-x', 'disk', '-e', '8', '-k', socket, image];
};

const SERVERS: readonly (readonly [string, (socket: string) => readonly string[], string, Partial<NbdClient['info']>])[] = [
  ['nbdkit', nbdkit('memory', '16M'), '', { structuredReplies: true, canTrim: true, canWriteZeroes: true, canFua: true }],
  ['nbdkit without structured replies', nbdkit('--no-sr', 'memory', '16M'), '', { structuredReplies: false, allocationContext: null }],
  ['nbdkit without write zeroes', nbdkit('--filter=nozero', 'memory', '16M'), '', { canWriteZeroes: false }],
  ['nbdkit that takes requests of 4 to 64 KiB', nbdkit('--filter=blocksize-policy', 'memory', '16M', 'blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=65536', 'blocksize-error-policy=error'), '', { blockBytesMin: 4096, requestBytesMax: 65_536 }],
  ['qemu-nbd', qemu, 'disk', { structuredReplies: true, canTrim: true, readOnly: false }],
  ['our own server', (socket) => [process.execPath, OURS, '--size', String(SIZE), '--socket', socket, '--name', 'vol'], 'vol', { structuredReplies: true, multiConnection: true, blockBytesMin: 512, requestBytesMax: 32 * MIB }],
];

/** Pieces of different blocks, many at a time, against a model in memory. */
async function agrees(nbd: NbdClient, seed: number): Promise<void> {
  const prng = new Prng(seed);
  const model = new Uint8Array(SIZE);
  for (let round = 0; round < 6; round++) {
    const asked: Promise<unknown>[] = [];
    for (let slot = 0; slot < 16; slot++) {
      const at = slot * MIB + prng.below(128) * 4096;
      const length = prng.between(1, 128) * 4096;
      const how = prng.below(nbd.info.canWriteZeroes && nbd.info.canTrim ? 4 : 2);
      if (how < 2) {
        const bytes = new Uint8Array(length).fill(prng.between(1, 255));
        bytes[length - 1] = slot;
        model.set(bytes, at);
        asked.push(nbd.write(at, bytes, { fua: how === 1 && nbd.info.canFua }));
      } else {
        model.fill(0, at, at + length);
        // A trim promises nothing about what is read then; write zeroes does.
        asked.push(how === 2 ? nbd.writeZeroes(at, length) : nbd.trim(at, length).then(() => nbd.writeZeroes(at, length)));
      }
    }
    await Promise.all(asked);
    if (nbd.info.canFlush) await nbd.flush();
    const reads = Array.from({ length: 16 }, (_, slot) => nbd.read(slot * MIB, MIB).then((read) => Buffer.compare(read, model.subarray(slot * MIB, (slot + 1) * MIB))));
    expect(await Promise.all(reads)).toEqual(reads.map(() => 0));
  }
  expect(Buffer.compare(await nbd.read(0, SIZE), model)).toBe(0);
}

describe.each(SERVERS)('the NBD client with %s', (_name, command, exportName, info) => {
  it('finds out what it can do, and reads what it wrote', async () => {
    const { uri } = await serve(command, exportName);
    const nbd = await connect(uri);
    expect(nbd.info).toMatchObject({ sizeBytes: SIZE, ...info });
    await agrees(nbd, 7);
    await nbd.close();
  });

  it('tells what is refused from what is lost, and goes on', async () => {
    const { uri } = await serve(command, exportName);
    const nbd = await connect(uri);
    await expect(nbd.read(SIZE, 4096)).rejects.toMatchObject({ name: 'AshlarError', errno: 'EINVAL' });
    await expect(nbd.write(SIZE - 4096, new Uint8Array(8192))).rejects.toMatchObject({ errno: expect.stringMatching(/^(ENOSPC|EINVAL)$/) as unknown });
    expect((await nbd.read(SIZE - 4096, 4096)).length).toBe(4096);
    expect(nbd.reconnections).toBe(0);
    const abort = AbortSignal.abort();
    await expect(nbd.read(0, 4096, { signal: abort })).rejects.toMatchObject({ name: 'AbortError' });
    expect((await listExports(uri)).map(({ name }) => name)).toContain(exportName);
  });

  it('says where there is nothing, if the server does', async () => {
    const { uri } = await serve(command, exportName);
    const nbd = await connect(uri);
    if (nbd.info.allocationContext === null) return expect(nbd.blockStatus(0, SIZE)).rejects.toMatchObject({ code: 'invalid-argument' });
    await nbd.write(4 * MIB, new Uint8Array(MIB).fill(1));
    const extents = await nbd.blockStatus(0, SIZE);
    expect(extents[0]?.offsetBytes).toBe(0);
    for (const [i, extent] of extents.entries()) if (i > 0) expect(extent.offsetBytes).toBe((extents[i - 1]?.offsetBytes ?? 0) + (extents[i - 1]?.lengthBytes ?? 0));
    for (const { offsetBytes, lengthBytes, zero } of extents) if (zero) expect(offsetBytes + lengthBytes <= 4 * MIB || offsetBytes >= 5 * MIB).toBe(true);
  });
});

describe('the NBD client', () => {
  it('shows a read-only export as one, and takes its refusal', async () => {
    const { uri } = await serve(nbdkit('-r', 'memory', '16M'));
    const nbd = await connect(uri);
    expect(nbd.info.readOnly).toBe(true);
    await expect(nbd.write(0, new Uint8Array(4096))).rejects.toMatchObject({ errno: 'EPERM', code: 'unauthorized' });
  });

  it('tells an error of the disk by its name', async () => {
    const { uri } = await serve(nbdkit('--filter=error', 'memory', '16M', 'error-pwrite=ENOSPC', 'error-pwrite-rate=100%', 'error-pread=EIO', 'error-pread-rate=100%'));
    const nbd = await connect(uri);
    await expect(nbd.write(0, new Uint8Array(4096))).rejects.toMatchObject({ errno: 'ENOSPC', code: 'no-space' });
    await expect(nbd.read(0, 4096)).rejects.toMatchObject({ errno: 'EIO', code: 'io-error' });
    expect(nbd.reconnections).toBe(0);
  });

  it('gives up at the program’s word what a slow server does not answer, and goes on', async () => {
    const { uri } = await serve(nbdkit('--filter=delay', 'memory', '16M', 'rdelay=3'));
    const nbd = await connect(uri);
    const abort = new AbortController();
    const read = nbd.read(0, 4096, { signal: abort.signal });
    await nbd.write(0, new Uint8Array(4096).fill(3));
    abort.abort();
    await expect(read).rejects.toMatchObject({ name: 'AbortError' });
    expect((await nbd.read(0, 4096))[0]).toBe(3);
  });

  it('sends again what a killed server left unanswered, when it is back', async () => {
    const file = join(folder, 'kept');
    writeFileSync(file, new Uint8Array(SIZE));
    const command = nbdkit('--filter=delay', 'file', file, 'wdelay=200ms');
    const first = await serve(command);
    const nbd = await connect(first.uri);
    const disconnected = Promise.withResolvers<void>();
    const again = await connect(first.uri, { onDisconnected: () => disconnected.resolve() });
    const writes = Promise.all(Array.from({ length: 32 }, (_, i) => again.write(i * 4096, new Uint8Array(4096).fill(i + 1))));
    await kill(first.server);
    await disconnected.promise;
    await serve(command, '', first.socket);
    await writes;
    expect(again.reconnections).toBeGreaterThan(0);
    for (let i = 0; i < 32; i++) expect((await nbd.read(i * 4096, 4096)).every((byte) => byte === i + 1)).toBe(true);
  });

  it('fails what is unanswered where it is told not to wait for the server', async () => {
    const { uri, server } = await serve(nbdkit('--filter=delay', 'memory', '16M', 'rdelay=3'));
    const nbd = await connect(uri, { reconnectTimeoutMs: 0 });
    const read = nbd.read(0, 4096);
    const told = expect(read).rejects.toMatchObject({ code: 'unavailable' });
    await kill(server);
    await told;
  });
});
