// needs: strace, unshare, mount, root
/**
 * Bad input and bad days, against a live site: each row with exit code, error code, and the volume's checksum before and after.
 * `pnpm bad-days` keeps the table in docs/results.
 */
import { execFileSync, spawn, type ChildProcess, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, readSync, renameSync, rmSync, statfsSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cli, isAlive, Site, type Volume } from './support/site.ts';
import { Table } from './support/table.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-bad-'));
const SITE = join(directory, 'site');
const OPTIONS = ['--processes', '--servers', '3', '--rebuild-delay', '2s'] as const;
const SIZE_BYTES = 48 * 2 ** 20;
const UNKNOWN = 'vol-0123456789abcdef0';
const table = new Table('Bad input and bad days', ['what', 'exit code', 'error code', 'checksum before', 'after', 'what became of it']);

/** Of the whole table. */
const ROWS = 32;

let site: Site;
let volumeId = '';
let sum = '';

/** Of the whole volume, or of all but one block. */
async function checksum(id = volumeId, of = site, without: number | null = null): Promise<string> {
  const { attachments } = await of.volume(id);
  const client = await NbdClient.connect(attachments[0]?.nbd as string);
  const hash = createHash('sha256');
  const parts = without === null ? [[0, client.sizeBytes]] : [[0, without], [without + 4096, client.sizeBytes]];
  for (const [from, to] of parts as [number, number][]) {
    for (let at = from; at < to; at += 2 ** 22) hash.update(await client.read(at, Math.min(2 ** 22, to - at)));
  }
  await client.close();
  return hash.digest('hex').slice(0, 16);
}

/** New random bytes everywhere, some of them flushed. */
async function rewrite(id = volumeId): Promise<void> {
  const client = await NbdClient.connect((await site.volume(id)).attachments[0]?.nbd as string);
  for (let at = 0; at < client.sizeBytes; at += 2 ** 20) await client.write(at, randomBytes(2 ** 20));
  await client.flush();
  for (let at = 0; at < client.sizeBytes; at += 2 ** 22) await client.write(at, randomBytes(4096));
  await client.close();
}

function row(what: string, code: number | null | '', error: string, before: string, after: string, became: string): void {
  table.add([what, code === '' ? '–' : String(code ?? 'signal'), error === '' ? '–' : error, before, after, became]);
}

async function refusal(what: string, expected: readonly [number, string], ...args: readonly string[]): Promise<void> {
  const [code, error] = await site.refused(...args);
  const after = await checksum();
  row(what, code, String(error), sum, after, 'refused; nothing was changed');
  expect([code, error, after]).toEqual([...expected, sum]);
}

const copyDirectory = (server: string, id = volumeId): string => join(SITE, 'servers', server, 'disk-1', 'copies', id);

/** Files of a copy whose name begins so, the oldest first. */
function filesOf(server: string, prefix: RegExp, id = volumeId): string[] {
  const folder = copyDirectory(server, id);
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => prefix.test(name)).sort().map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
}

function flip(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] = (byte[0] as number) ^ 0x10;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

/** The place of these bytes in the file; -1 if they are not there. */
function find(path: string, bytes: Uint8Array): number {
  return readFileSync(path).indexOf(bytes);
}

async function restart(change: () => void, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
  const pids = (await site.servers()).map((server) => server.pid);
  await site.end(signal);
  await expect.poll(() => pids.some(isAlive), { timeout: 20_000, interval: 50 }).toBe(false);
  change();
  site = await Site.up(SITE, ...OPTIONS);
}

async function eventNames(id = volumeId): Promise<readonly string[]> {
  return (await site.ask<readonly { name: string }[]>('events', '--subject', id, '--max', '10000')).map((event) => event.name);
}

function roleOf(volume: Volume, role: 'primary' | 'mirror'): string {
  return volume.copies.find((copy) => copy.role === role)?.serverId as string;
}

beforeAll(async () => {
  site = await Site.up(SITE, ...OPTIONS);
  ({ volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', `${SIZE_BYTES}B`));
  await site.ask('volume', 'attach', volumeId);
  await rewrite();
  sum = await checksum();
});

afterAll(async () => {
  await site.end();
  table.save('bad-days', [], ROWS);
  rmSync(directory, { recursive: true, force: true });
});

describe('bad input', () => {
  it.each([['0'], ['-1'], ['1000'], ['4KB'], ['99999TiB'], ['1e9'], ['NaN']])('a size of %s', async (size) => refusal(`\`volume create --size ${size}\``, [2, 'invalid-argument'], 'volume', 'create', `--size=${size}`));
  it('more mirrors than servers', async () => refusal('three mirrors on three servers', [1, 'too-few-servers'], 'volume', 'create', '--size', '1GiB', '--mirrors', '3'));
  it('an unknown volume', async () => refusal('an unknown volume id', [1, 'not-found'], 'volume', 'attach', UNKNOWN));
  it('an unknown server', async () => refusal('an unknown server id', [1, 'not-found'], 'server', 'stop', 'server-99'));
  it('a copy that a server does not hold', async () => refusal('one copy alone, of a server that is not there', [1, 'not-found'], 'volume', 'attach', volumeId, '--copy', 'server-99', '--read-only'));
  it('an id that is none', async () => refusal('an id that is none', [2, 'invalid-argument'], 'volume', 'describe', '../../etc/passwd'));
  it('a second writer', async () => refusal('a second writer', [1, 'in-use'], 'volume', 'attach', volumeId));
  it('deleting what is attached', async () => refusal('deleting an attached volume', [1, 'in-use'], 'volume', 'delete', volumeId));
  it('a wrong token', async () => refusal('a wrong token', [1, 'unauthorized'], 'volume', 'list', '--token', 'wrong'));
  it('shrinking', async () => refusal('growing to a smaller size', [2, 'invalid-argument'], 'volume', 'grow', volumeId, '--size', '4KiB'));
  it('a minimum above the copies', async () => refusal('a minimum of three copies of two', [2, 'invalid-argument'], 'volume', 'modify', volumeId, '--min-copies', '3'));

  it('a directory in use', async () => {
    const { code, json } = await cli(['up', '--dir', SITE]);
    const error = (json as { error: { code: string } }).error.code;
    const after = await checksum();
    row('a second `up` on the same directory', code, error, sum, after, 'refused; the first goes on');
    expect([code, error, after]).toEqual([1, 'directory-locked', sum]);
  });

  it('a server’s directory that another site holds', async () => {
    const other = join(directory, 'other');
    mkdirSync(join(other, 'servers', 'server-1'), { recursive: true, mode: 0o700 });
    symlinkSync(join(SITE, 'servers', 'server-1', 'disk-1'), join(other, 'servers', 'server-1', 'disk-1'));
    const { code, json } = await cli(['up', '--dir', other, '--processes', '--servers', '1']);
    const error = (json as { error: { code: string } }).error.code;
    const after = await checksum();
    row('a server’s directory given to two sites', code, error, sum, after, 'refused; the first goes on');
    expect([code, error, after]).toEqual([1, 'directory-locked', sum]);
  });

  it('an NBD client that sends garbage', async () => {
    const path = new URL((await site.volume(volumeId)).attachments[0]?.nbd as string).searchParams.get('socket') as string;
    for (let i = 0; i < 20; i++) {
      const socket = connect(path);
      await new Promise<void>((resolve) => {
        socket.on('error', () => {});
        socket.once('close', () => resolve());
        socket.once('connect', () => socket.end(randomBytes(4096)));
        socket.resume();
      });
    }
    const after = await checksum();
    row('20 NBD clients that send garbage', '', '', sum, after, 'their connections are closed');
    expect(after).toBe(sum);
  });

  it('ten thousand connections', async () => {
    const path = new URL((await site.volume(volumeId)).attachments[0]?.nbd as string).searchParams.get('socket') as string;
    const sockets: Socket[] = [];
    let refused = 0;
    for (let i = 0; i < 10_000; i += 200) {
      await Promise.all(Array.from({ length: 200 }, () => new Promise<void>((resolve) => {
        const socket = connect(path);
        sockets.push(socket);
        socket.once('error', () => { refused++; resolve(); });
        socket.once('close', () => resolve());
        socket.once('data', () => resolve());
      })));
    }
    const open = sockets.filter((socket) => !socket.destroyed).length;
    for (const socket of sockets) socket.destroy();
    const after = await checksum();
    row('10,000 NBD connections at once', '', '', sum, after, `${open} were open at a time, ${10_000 - open} refused or closed (${refused} with an error); I/O goes on`);
    expect(after).toBe(sum);
  });
});

/** Leaves 2 MiB of this file system. */
function fillUp(directory: string, ballast: string): string {
  rmSync(ballast, { force: true });
  const { bavail, bsize } = statfsSync(directory);
  const { status, stderr } = spawnSync('fallocate', ['-l', String(bavail * bsize - 2 ** 21), ballast], { encoding: 'utf8' });
  return status === 0 ? 'full' : stderr;
}

describe('bad days', () => {
  it('both copies killed at once', async () => {
    const before = await site.healthy(volumeId);
    const pids = (await site.servers()).filter((server) => before.copies.some((copy) => copy.serverId === server.serverId)).map((server) => server.pid);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    const after = await checksum();
    await site.healthy(volumeId);
    row('both copies’ processes killed at once', '', '', sum, after, 'I/O waits until one is back; healthy again');
    expect(after).toBe(sum);
  });

  it('a server directory that belongs to another server', async () => {
    await site.end();
    const [one, two] = ['server-1', 'server-2'].map((server) => join(SITE, 'servers', server, 'disk-1')) as [string, string];
    const swap = (): void => {
      renameSync(one, `${one}-away`);
      renameSync(two, one);
      renameSync(`${one}-away`, two);
    };
    swap();
    const { code, json } = await cli(['up', '--dir', SITE, ...OPTIONS]);
    const error = (json as { error: { code: string } }).error.code;
    swap();
    site = await Site.up(SITE, ...OPTIONS);
    const after = await checksum();
    row('server directories exchanged', code, error, sum, after, 'refused; put back, everything is there');
    expect([code, error, after]).toEqual([1, 'directory-foreign', sum]);
  });

  it.each([['in the middle', 50], ['at the end', 99]] as const)('a corrupt journal record %s', async (where, which) => {
    await rewrite();
    const marker = randomBytes(4096);
    await writeRecords(100, which, marker);
    sum = await checksum();
    const mirror = roleOf(await site.healthy(volumeId), 'mirror');
    await restart(() => {
      const found = filesOf(mirror, /^journal/).map((path) => ({ path, at: find(path, marker) })).filter(({ at }) => at >= 0);
      expect(found.length).toBeGreaterThan(0);
      for (const { path, at } of found) flip(path, at + 100);
    }, 'SIGKILL');
    const after = await checksum();
    const volume = await site.healthy(volumeId, 60_000);
    expect(after).toBe(sum);
    await site.ask('volume', 'scrub', volumeId);
    await everyCopyHas(sum);
    row(`one bit of record ${which + 1} of the last 100 in a mirror’s journal flipped (${where}), after SIGKILL of everything`, '', '', sum, after, `every copy right again: ${volume.copies.map((copy) => copy.serverId).join(', ')}`);
  });

  it('a flipped bit in the settled data of the primary: repaired from the mirror', async () => {
    const marker = randomBytes(4096);
    await writeMarker(marker);
    sum = await checksum();
    const primary = roleOf(await site.healthy(volumeId), 'primary');
    // Destaged once the volume is idle.
    await expect.poll(() => settledIn(primary, marker), { timeout: 40_000, interval: 500 }).not.toBeNull();
    const found = settledIn(primary, marker) as { path: string; at: number };
    await restart(() => flip(found.path, found.at + 100));
    // Whoever leads now: every copy must give the right bytes, and the flipped one be repaired.
    const after = await checksum();
    await site.ask('volume', 'scrub', volumeId);
    expect(after).toBe(sum);
    await everyCopyHas(sum);
    row('one bit of settled data flipped in one copy', '', '', sum, after, 'repaired from the other copy; both are right');
  });

  it('a flipped bit in the settled data of both copies: EIO, never wrong bytes', async () => {
    const at = 2 ** 20;
    const { volumeId: id } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '16MiB', '--io-timeout', '5s');
    await site.ask('volume', 'attach', id);
    await rewrite(id);
    const marker = randomBytes(4096);
    await writeMarker(marker, id);
    const [before, rest] = [await checksum(id), await checksum(id, site, at)];
    const servers = (await site.healthy(id)).copies.map((copy) => copy.serverId);
    const settled = (): readonly ReturnType<typeof settledIn>[] => servers.map((server) => settledIn(server, marker, id));
    await expect.poll(() => settled().includes(null), { timeout: 40_000, interval: 500 }).toBe(false);
    const places = settled();
    await restart(() => { for (const place of places) if (place) flip(place.path, place.at + 100); });
    const client = await NbdClient.connect((await site.volume(id)).attachments[0]?.nbd as string);
    const failure = await client.read(at, 4096).then((bytes) => (Buffer.compare(bytes, marker) === 0 ? 'none' : 'wrong bytes'), (error: unknown) => String((error as { errno?: unknown }).errno ?? error));
    const restAfter = await checksum(id, site, at);
    expect([failure, restAfter]).toEqual(['EIO', rest]);
    row('one bit of one block flipped in every copy: that block, and all others', '', failure, rest, restAfter, 'reading that block fails, never wrong bytes; all others are right');
    await client.write(at, marker);
    await client.flush();
    await client.close();
    const after = await checksum(id);
    row('… the same block, written anew', '', '', before, after, 'the volume is right again');
    expect(after).toBe(before);
    await site.ask('volume', 'detach', id);
    await site.ask('volume', 'delete', id);
  });

  it('a machine that restarted: the page cache of both copies is gone', async () => {
    sum = await checksum();
    const pids = (await site.servers()).map((server) => server.pid);
    // Held, so that it starts none of them again; and they, so that none notices that it is gone, and closes its copies cleanly.
    process.kill(site.pid, 'SIGSTOP');
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await site.end('SIGKILL');
    await expect.poll(() => pids.some(isAlive), { timeout: 20_000, interval: 50 }).toBe(false);
    const bootId = join(directory, 'boot-id');
    writeFileSync(bootId, '00000000-1111-2222-3333-444444444444\n');
    site = await Site.upIn(['unshare', '--mount', 'sh', '-c', `mount --bind ${bootId} /proc/sys/kernel/random/boot_id && exec "$@"`, 'sh'], SITE, ...OPTIONS);
    const after = await checksum();
    await site.healthy(volumeId, 60_000);
    const names = await eventNames();
    row('the machine restarted without a clean close', '', '', sum, after, names.includes('recovered-after-cache-loss') ? 'the longest log wins; an event says what may be missing' : 'no recovery was needed');
    expect(after).toBe(sum);
    expect(names).toContain('recovered-after-cache-loss');
    await restart(() => {});
    await site.healthy(volumeId);
  });

  it('a full disk', async () => {
    const small = join(directory, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=800m', 'tmpfs', small]);
    const full = await Site.up(small, '--processes', '--servers', '2');
    try {
      const { volumeId: id } = await full.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--io-timeout', '4s');
      const { nbd } = await full.ask<{ nbd: string }>('volume', 'attach', id);
      const client = await NbdClient.connect(nbd);
      for (let at = 0; at < 2 ** 24; at += 2 ** 20) await client.write(at, randomBytes(2 ** 20));
      await client.flush();
      const before = await checksum(id, full);
      const ballast = join(small, 'ballast');
      // Destaging in the background may take of the room between the look and the file: until both agree.
      await expect.poll(() => fillUp(small, ballast), { timeout: 20_000, interval: 100 }).toBe('full');
      // The same bytes again, so that whatever was taken in leaves the checksum as it is.
      const bytes = await client.read(0, 2 ** 24);
      let failure = 'none';
      for (let i = 0; i < 4 && failure === 'none'; i++) {
        for (let at = 0; at < 2 ** 24 && failure === 'none'; at += 2 ** 20) failure = await client.write(at, bytes.subarray(at, at + 2 ** 20)).then(() => 'none', (error: unknown) => String((error as { errno?: unknown }).errno ?? error));
      }
      // A session needs a journal record before its first answer, so that reads may wait for room as well: never wrong bytes.
      const during = await checksum(id, full).catch((error: unknown) => String((error as { errno?: unknown }).errno ?? error));
      rmSync(ballast);
      await expect.poll(() => client.write(0, bytes.subarray(0, 4096)).then(() => client.flush()).then(() => 'written', String), { timeout: 40_000, interval: 500 }).toBe('written');
      const after = await checksum(id, full);
      await full.healthy(id, 60_000);
      row('a full disk', '', failure, before, after, failure === 'none' ? 'writes waited, and went on' : `I/O fails cleanly after --io-timeout (reads: ${during === before ? 'go on' : during}); with room again it goes on, and the volume is healthy`);
      expect(after).toBe(before);
      expect([before, 'EIO']).toContain(during);
      await client.close();
    } finally {
      await full.end();
      execFileSync('umount', ['-l', small]);
    }
  });

  it('a failed fsync on one copy, then on the last', async () => {
    const { volumeId: id } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '16MiB', '--io-timeout', '5s');
    await site.ask('volume', 'attach', id);
    await rewrite(id);
    const before = await checksum(id);
    const mirror = roleOf(await site.healthy(id), 'mirror');
    let tracer = await failSyncs(mirror);
    const client = await NbdClient.connect((await site.volume(id)).attachments[0]?.nbd as string);
    const bytes = await client.read(0, 4096);
    await client.write(0, bytes);
    await client.flush();
    tracer.kill('SIGTERM');
    const volume = await site.until(id, (now) => !now.copies.some((copy) => copy.serverId === mirror && copy.role !== 'learner' && copy.state === 'in-sync') || now.health === 'healthy', 30_000);
    const after = await checksum(id);
    row('fdatasync fails on one copy', '', '', before, after, `the flush succeeds on the others; the copy leaves and is made anew (${volume.health})`);
    expect(after).toBe(before);
    await site.healthy(id, 60_000);
    await client.close();
    await site.ask('volume', 'detach', id);
    await site.ask('volume', 'delete', id);

    const alone = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '16MiB', '--mirrors', '0', '--io-timeout', '5s');
    await site.ask('volume', 'attach', alone.volumeId);
    await rewrite(alone.volumeId);
    const aloneBefore = await checksum(alone.volumeId);
    tracer = await failSyncs(roleOf(await site.volume(alone.volumeId), 'primary'));
    const last = await NbdClient.connect((await site.volume(alone.volumeId)).attachments[0]?.nbd as string);
    const rewritten = await last.read(0, 4096);
    // A sync of its own may have failed before the write comes: then the write fails already.
    const failure = await last.write(0, rewritten).then(() => last.flush()).then(() => 'none', (error: unknown) => String((error as { code?: unknown }).code ?? error));
    await last.close();
    const aloneAfter = await checksum(alone.volumeId);
    tracer.kill('SIGTERM');
    row('fdatasync fails on the last copy', '', failure, aloneBefore, aloneAfter, `the write or its flush fails; verified reads go on; ${(await site.volume(alone.volumeId)).health}`);
    expect(failure).not.toBe('none');
    expect(aloneAfter).toBe(aloneBefore);
    await site.ask('volume', 'detach', alone.volumeId);
  });
});

// ---- parts

async function sumsOfCopies(): Promise<readonly string[]> {
  const sums: string[] = [];
  for (const { serverId } of (await site.healthy(volumeId, 60_000)).copies) {
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
    const client = await NbdClient.connect(nbd);
    const hash = createHash('sha256');
    try {
      for (let at = 0; at < client.sizeBytes; at += 2 ** 22) hash.update(await client.read(at, Math.min(2 ** 22, client.sizeBytes - at)));
      sums.push(hash.digest('hex').slice(0, 16));
    } catch (error) {
      // One copy alone is not repaired from others: its bad block is an error, never wrong bytes.
      sums.push(String(error));
    }
    await client.close();
    await site.ask('volume', 'detach', volumeId, '--copy', serverId);
  }
  return sums;
}

async function everyCopyHas(wanted: string): Promise<void> {
  await expect.poll(sumsOfCopies, { timeout: 40_000, interval: 1000 }).toEqual([wanted, wanted]);
}

/** Single writes of which one is known; not flushed, so that they are in the journals and nowhere else yet. */
async function writeRecords(count: number, which: number, marker: Uint8Array): Promise<void> {
  const client = await NbdClient.connect((await site.volume(volumeId)).attachments[0]?.nbd as string);
  for (let i = 0; i < count; i++) await client.write(2 ** 21 + i * 2 ** 16, i === which ? marker : randomBytes(4096));
  await client.close();
}

async function writeMarker(marker: Uint8Array, id = volumeId): Promise<void> {
  const client = await NbdClient.connect((await site.volume(id)).attachments[0]?.nbd as string);
  await client.write(2 ** 20, marker);
  await client.flush();
  await client.close();
}

/** Where the copy holds this block as settled data, outside of journal and superblock. */
function settledIn(server: string, block: Uint8Array, id = volumeId): { readonly path: string; readonly at: number } | null {
  for (const path of filesOf(server, /^(?!journal|superblock)/, id)) {
    const at = find(path, block);
    if (at >= 0) return { path, at };
  }
  return null;
}

async function failSyncs(server: string): Promise<ChildProcess> {
  const { pid } = (await site.servers()).find((known) => known.serverId === server) as { pid: number };
  const tracer = spawn('strace', ['-f', '-p', String(pid), '-o', '/dev/null', '-e', 'trace=fdatasync,fsync', '-e', 'inject=fdatasync,fsync:error=EIO'], { stdio: ['ignore', 'ignore', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    tracer.once('exit', (code) => reject(new Error(`strace ended with ${code ?? 'a signal'}`)));
    tracer.stderr?.setEncoding('utf8').on('data', (text: string) => { if (/attached/.test(text)) resolve(); });
  });
  return tracer;
}
