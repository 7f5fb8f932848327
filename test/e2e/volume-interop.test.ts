// needs: fio, nbdinfo, nbdcopy, qemu-io, qemu-img, python3:nbd, nbdfuse, mkfs.ext4, losetup, qemu-system-x86_64, busybox, cpio, depmod, apt-get, gcc, make, /dev/fuse, root
/**
 * Other people's NBD clients on real, mirrored volumes: in one process, and with each server and the host in a process of its own.
 * `pnpm interop` keeps the table in docs/results.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clean, DEVICE_BYTES, deviceSum, fioOnOneAndFour, makeImage, MIB, nbdcopyBothWays, plainClients, qemuImg, qemuIo, fileSystem, run, sha256, takeCommands, type Evidence } from './nbd-clients.ts';
import { debianSource } from './support/debian-source.ts';
import { buildGuest, diskThroughQemu, guest, guestFileSystem, guestSums } from './support/guest.ts';
import { Site } from './support/site.ts';
import { Table } from './support/table.ts';

/** Small, in C, needs nothing but a compiler, and its build compresses samples and compares what comes back. */
const SOURCE = 'bzip2';
const PACKAGES = new URL('../../packages', import.meta.url).pathname;

const shared = mkdtempSync(join(tmpdir(), 'ashlar-interop-'));
const image = join(shared, 'image');
const table = new Table('Interop', ['volume', 'what', 'commands: exit codes', 'SHA-256 from the volume', 'of the local twin', '`fsck.ext4 -fn`', 'copies, each alone'], 2);
let tarball = '';
/** Nine in each arrangement. */
const ROWS = 18;
/** Guests under emulation and the building of a source tree take minutes: in both arrangements only where the table is kept. */
const WHOLE = (process.env['ASHLAR_RESULTS'] ?? '') !== '';

beforeAll(async () => {
  makeImage(image);
  await buildGuest(shared);
  tarball = await debianSource(SOURCE, shared);
  takeCommands();
}, 180_000);

afterAll(async () => {
  const version = async (command: string, pattern: RegExp): Promise<string> => pattern.exec(await run(command, '--version'))?.[0] ?? command;
  table.save('interop', [
    `node ${process.version}`, await version('nbdinfo', /libnbd \S+/), await version('qemu-img', /qemu-img version \S+/), await version('fio', /fio-\S+/), await version('nbdfuse', /nbdfuse \S+/),
  ], ROWS);
  rmSync(shared, { recursive: true, force: true });
});

async function newVolume(site: Site, size: string, ...how: readonly string[]): Promise<{ readonly volumeId: string; readonly uri: string }> {
  const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', size);
  const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, ...how);
  return { volumeId, uri: nbd };
}

/** What both copies hold, each read by itself. */
async function copiesOf(site: Site, volumeId: string): Promise<string> {
  const { copies } = await site.healthy(volumeId, 60_000);
  const sums: string[] = [];
  for (const { serverId } of copies) {
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
    sums.push(await deviceSum(nbd));
    await site.ask('volume', 'detach', volumeId, '--copy', serverId);
  }
  expect([copies.length, new Set(sums).size]).toEqual([2, 1]);
  return sums[0] as string;
}

/** `a 0, a 0, b 0` as `a 0 ×2, b 0`. */
function counted(commands: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const command of commands) counts.set(command, (counts.get(command) ?? 0) + 1);
  return [...counts].map(([command, count]) => (count === 1 ? command : `${command} ×${count}`)).join(', ');
}

describe.each([{ name: 'in one process', args: [] }, { name: 'in several processes', args: ['--processes'] }])('a volume $name', ({ name, args }) => {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-volume-'));
  let site: Site;

  beforeAll(async () => { site = await Site.up(join(folder, 'site'), ...args); });

  afterAll(async () => {
    expect(await site.end()).toBe(0);
    rmSync(folder, { recursive: true, force: true });
  });

  /** A row of the table. The copies are read in the end, which must agree; their detached volume goes. */
  async function row(what: string, volumeId: string, evidence: Evidence | null): Promise<void> {
    const commands = counted(takeCommands());
    const short = (sum: string | undefined): string => sum?.slice(0, 16) ?? '';
    const alone = await copiesOf(site, volumeId);
    takeCommands();
    table.add([name, what, commands, short(evidence?.volume), short(evidence?.twin), evidence?.fsck ?? '', `${short(alone)} both`]);
  }

  it('tells nbdinfo what it can do', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    const info = JSON.parse(await run('nbdinfo', '--json', uri)) as { exports: Record<string, unknown>[] };
    expect(info.exports[0]).toMatchObject({ 'export-name': volumeId, 'export-size': DEVICE_BYTES, 'block_size_minimum': 512, 'block_size_preferred': 4096, 'can_multi_conn': true, 'can_fua': true, 'can_fast_zero': true });
    await row('`nbdinfo`', volumeId, null);
  });

  it('keeps what nbdcopy writes and gives it back, the same on both copies', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    const evidence = await nbdcopyBothWays(uri, uri, image, join(folder, 'back'));
    await row('`nbdcopy` both ways', volumeId, evidence);
    expect(await copiesOf(site, volumeId)).toBe(await sha256(image));
  });

  it('is a disk for qemu-img: convert, compare, map', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    await row('`qemu-img convert`, `compare`, `map` (with a hole of 16 MiB)', volumeId, await qemuImg(uri, image));
  });

  it('does what qemu-io asks', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    await row('`qemu-io` with discard, zero, FUA, parts of blocks, requests in flight', volumeId, await qemuIo(uri, join(folder, 'qemu-io-twin')));
  });

  it('passes fio’s own verification, on one connection and on four', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    await row('`fio` on four connections beside a local file, then verifying on one and on four', volumeId, await fioOnOneAndFour(uri, join(folder, 'fio-twin')));
  });

  it('serves clients without structured replies', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    await plainClients(uri);
    await row('libnbd without structured replies, old handshakes', volumeId, null);
  });

  if (args.length > 0 || WHOLE) {
    it('holds a file system, on which a source tree is unpacked and built', async () => {
      const mounts = join(folder, 'filesystem');
      mkdirSync(mounts);
      const { volumeId, uri } = await newVolume(site, '128MiB');
      await row(`nbdfuse, loop, \`mkfs.ext4\`: files changed, deleted, trimmed; ${SOURCE} unpacked and built`, volumeId, await fileSystem(uri, 128 * MIB, mounts, PACKAGES, tarball));
    });

    it('is the disk of a Linux guest by the kernel’s own client', async () => {
      const { volumeId, uri } = await newVolume(site, '128MiB', '--tcp');
      const { port } = new URL(uri);
      const found = guestSums(await guest(shared, `set -e; nbd-client 10.0.2.2 ${port} /dev/nbd0 -N ${volumeId}; ${guestFileSystem('/dev/nbd0')}; nbd-client -d /dev/nbd0`));
      await guestRow('a Linux guest: its kernel’s NBD client, `mkfs.ext4`, files', volumeId, uri, found);
    });

    it('is the disk of a Linux guest through QEMU, whose client comes back', async () => {
      const { volumeId, uri } = await newVolume(site, '128MiB');
      const processes = args.length > 0;
      const busy = 'i=0; while [ $i -lt 6 ]; do i=$((i+1)); echo harm $i; dd if=/dev/urandom of=/dev/vda bs=64k count=256 seek=$((i*64)) conv=fsync 2>/dev/null; done';
      const harms: Promise<void>[] = [];
      const onLine = (line: string): void => {
        const at = /^harm (\d)/.exec(line)?.[1];
        if (processes && at !== undefined) harms.push(harm(Number(at), volumeId));
      };
      const found = guestSums(await guest(shared, `set -e; ${busy}; ${guestFileSystem('/dev/vda')}`, diskThroughQemu(new URL(uri).searchParams.get('socket') as string, volumeId), onLine));
      await Promise.all(harms);
      expect(harms.length).toBe(processes ? 6 : 0);
      await guestRow(`a Linux guest whose disk it is through QEMU${processes ? ', while the host’s and the primary’s process are killed three times each' : ''}`, volumeId, uri, found);
    });
  }

  /** Every other time what QEMU is connected to, else what serves the volume. */
  async function harm(at: number, volumeId: string): Promise<void> {
    const pid = at % 2 === 0 ? (await site.primary(volumeId)).pid : (await site.ask<readonly { pid: number }[]>('host', 'list'))[0]?.pid;
    process.kill(pid as number, 'SIGKILL');
  }

  async function guestRow(what: string, volumeId: string, uri: string, found: ReturnType<typeof guestSums>): Promise<void> {
    expect(found.twin).toMatch(/^[0-9a-f]{64}$/);
    expect(found.volume).toBe(found.twin);
    const disk = join(folder, 'guest-disk');
    await run('nbdcopy', uri, disk);
    const fsck = clean(await run('fsck.ext4', '-fn', disk));
    await row(what, volumeId, { volume: found.volume as string, twin: found.twin as string, fsck: `${fsck} (in the guest, too)` });
  }
});
