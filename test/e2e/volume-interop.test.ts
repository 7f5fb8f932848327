// needs: fio, nbdinfo, nbdcopy, qemu-io, qemu-img, python3:nbd, nbdfuse, mkfs.ext4, losetup, /dev/fuse, root
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEVICE_BYTES, fioOnOneAndFour, makeImage, MIB, nbdcopyBothWays, plainClients, qemuImg, qemuIo, fileSystem, run, sha256 } from './nbd-clients.ts';
import { Site } from './support/site.ts';

async function newVolume(site: Site, size: string): Promise<{ readonly volumeId: string; readonly uri: string }> {
  const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', size);
  const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId);
  return { volumeId, uri: nbd };
}

/** Other people's NBD clients on real, mirrored volumes: in one process, and with each server and the host in a process of its own. */
describe.each([{ name: 'in one process', args: [] }, { name: 'in several processes', args: ['--processes'] }])('a volume $name', ({ args }) => {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-volume-'));
  const image = join(folder, 'image');
  let site: Site;

  beforeAll(async () => {
    makeImage(image);
    site = await Site.up(join(folder, 'site'), ...args);
  });

  afterAll(async () => {
    expect(await site.end()).toBe(0);
    rmSync(folder, { recursive: true, force: true });
  });

  it('tells nbdinfo what it can do', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    const info = JSON.parse(await run('nbdinfo', '--json', uri)) as { exports: Record<string, unknown>[] };
    expect(info.exports[0]).toMatchObject({ 'export-name': volumeId, 'export-size': DEVICE_BYTES, 'block_size_minimum': 512, 'block_size_preferred': 4096, 'can_multi_conn': true, 'can_fua': true, 'can_fast_zero': true });
  });

  it('keeps what nbdcopy writes and gives it back, the same on both copies', async () => {
    const { volumeId, uri } = await newVolume(site, '64MiB');
    await nbdcopyBothWays(uri, uri, image, join(folder, 'back'));
    const { copies } = await site.volume(volumeId);
    expect(copies.length).toBe(2);
    for (const { serverId } of copies) {
      const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
      const copy = join(folder, `copy-${serverId}`);
      await run('nbdcopy', nbd, copy);
      expect(await sha256(copy)).toBe(await sha256(image));
    }
  });

  it('is a disk for qemu-img: convert, compare, map', async () => {
    await qemuImg((await newVolume(site, '64MiB')).uri, image);
  });

  it('does what qemu-io asks', async () => {
    await qemuIo((await newVolume(site, '64MiB')).uri);
  });

  it('passes fio’s own verification, on one connection and on four', async () => {
    await fioOnOneAndFour((await newVolume(site, '64MiB')).uri);
  });

  it('serves clients without structured replies', async () => {
    await plainClients((await newVolume(site, '64MiB')).uri);
  });

  it('holds a file system', async () => {
    const mounts = join(folder, 'filesystem');
    mkdirSync(mounts);
    await fileSystem((await newVolume(site, '128MiB')).uri, 128 * MIB, mounts, new URL('../../packages', import.meta.url).pathname);
  });
});
