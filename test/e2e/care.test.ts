import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatternWriter } from './support/pattern.ts';
import { Site, type Volume } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-care-'));
const SITE = join(directory, 'site');
const BLOCKS = 512;

let site: Site;
beforeAll(async () => { site = await Site.up(SITE, '--processes', '--servers', '3', '--rebuild-delay', '2s', '--racks', 'a,b,c', '--disk-kinds', 'ssd,ssd,hdd'); });
afterAll(async () => {
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

const holders = (volume: Volume): string[] => volume.copies.map((copy) => copy.serverId).sort();
const primaryOf = (volume: Volume): string => volume.copies.find((copy) => copy.role === 'primary')?.serverId as string;

/** Its copies are on these servers, all in sync, and nobody else has a copy. */
async function settled(volumeId: string, ...servers: readonly string[]): Promise<Volume> {
  return site.until(volumeId, (volume) => volume.health === 'healthy' && String(holders(volume)) === String([...servers].sort()) && volume.copies.every((copy) => copy.state === 'in-sync'), 30_000);
}

describe('a site whose volumes are cared for while they are written', () => {
  it('places them by rack and disk, explains that, and creates nothing when it is only asked', async () => {
    const dry = await site.ask<{ servers: string[]; verdicts: { serverId: string; chosen: boolean; why: string }[] }>('volume', 'create', '--size', '64MiB', '--disk', 'ssd', '--dry-run');
    expect([...dry.servers].sort()).toEqual(['server-1', 'server-2']);
    expect(dry.verdicts.find((verdict) => verdict.serverId === 'server-3')).toMatchObject({ chosen: false, why: 'its disk is hdd, not ssd' });
    expect(await site.ask('volume', 'list')).toEqual([]);
    expect(await site.refused('volume', 'create', '--size', '64MiB', '--disk', 'ssd', '--mirrors', '2')).toEqual([1, 'too-few-servers']);
    const made = await site.ask<Volume & { placement: typeof dry }>('volume', 'create', '--size', '64MiB', '--disk', 'ssd', '--explain');
    expect(holders(made)).toEqual([...made.placement.servers].sort());
    await site.ask('volume', 'delete', made.volumeId);
  });

  let volumeId = '';
  let client: NbdClient;
  let writer: PatternWriter;
  let leaving = '';
  /** What is asked for while the writer goes on must not keep it from going on. */
  const some = async (): Promise<void> => {
    const before = writer.written;
    await expect.poll(() => writer.written > before + 200, { timeout: 30_000, interval: 20 }).toBe(true);
  };

  it('moves a mirror, and the primary', async () => {
    ({ volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB'));
    client = await NbdClient.connect((await site.ask<{ nbd: string }>('volume', 'attach', volumeId)).nbd);
    writer = new PatternWriter(client, BLOCKS);
    writer.start(4);
    await some();
    const first = await site.volume(volumeId);
    const idle = ['server-1', 'server-2', 'server-3'].find((server) => !holders(first).includes(server)) as string;
    const mirror = holders(first).find((server) => server !== primaryOf(first)) as string;
    expect(await site.refused('volume', 'move', volumeId, '--copy', idle, '--to', mirror)).toEqual([1, 'not-found']);
    expect(await site.refused('volume', 'move', volumeId, '--copy', mirror, '--to', primaryOf(first))).toEqual([1, 'in-use']);
    await site.ask('volume', 'move', volumeId, '--copy', mirror, '--to', idle);
    await settled(volumeId, primaryOf(first), idle);
    await some();
    await site.ask('volume', 'move', volumeId, '--copy', primaryOf(first), '--to', mirror);
    expect(primaryOf(await settled(volumeId, mirror, idle))).toBe(mirror);
    await some();
  });

  it('adds a mirror and takes it away', async () => {
    await site.ask('volume', 'modify', volumeId, '--mirrors', '2');
    await settled(volumeId, 'server-1', 'server-2', 'server-3');
    await some();
    await site.ask('volume', 'modify', volumeId, '--mirrors', '1');
    await site.until(volumeId, (volume) => volume.health === 'healthy' && volume.copies.length === 2, 30_000);
    await some();
  });

  it('adds a server, and drains and removes another', async () => {
    expect(await site.ask('server', 'add', '--rack', 'd', '--disk', 'nvme')).toEqual({ serverId: 'server-4' });
    leaving = primaryOf(await site.volume(volumeId));
    expect(await site.refused('server', 'remove', leaving)).toEqual([1, 'in-use']);
    await site.ask('server', 'drain', leaving);
    await expect.poll(async () => (await site.servers()).find((server) => server.serverId === leaving)?.copies, { timeout: 60_000, interval: 100 }).toBe(0);
    await site.ask('server', 'remove', leaving);
    expect((await site.servers()).map((server) => server.serverId)).toEqual(['server-1', 'server-2', 'server-3', 'server-4'].filter((server) => server !== leaving));
    await some();
    const now = await site.volume(volumeId);
    if (!holders(now).includes('server-4')) await site.ask('volume', 'move', volumeId, '--copy', primaryOf(now), '--to', 'server-4');
    await site.until(volumeId, (volume) => volume.health === 'healthy' && holders(volume).includes('server-4') && volume.copies.length === 2, 60_000);
    await some();
  });

  it('has every answered write in each copy, and no request failed', async () => {
    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    const volume = await site.volume(volumeId);
    expect(volume.io['failedRequests']).toBe(0);
    for (const serverId of holders(volume)) {
      const alone = await NbdClient.connect((await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only')).nbd);
      expect(await writer.wrong(alone)).toEqual([]);
      await alone.close();
      await site.ask('volume', 'detach', volumeId, '--copy', serverId);
    }
    await client.close();
  });

  it('has the same servers, where they were, after a restart of everything', async () => {
    await site.end();
    site = await Site.up(SITE, '--processes', '--rebuild-delay', '2s');
    expect((await site.ask<readonly { serverId: string; rack: string; disk: string }[]>('server', 'list')).map(({ serverId, rack, disk }) => `${serverId} ${rack} ${disk}`))
      .toEqual(['server-1 a ssd', 'server-2 b ssd', 'server-3 c hdd', 'server-4 d nvme'].filter((line) => !line.startsWith(leaving)));
    const { attachments } = await site.healthy(volumeId);
    const again = await NbdClient.connect(attachments[0]?.nbd as string);
    expect(await writer.wrong(again)).toEqual([]);
    await again.close();
  });
});

describe('a site in one process', () => {
  it('grows by a server, which can be drained and removed again', async () => {
    const embedded = await Site.up(join(directory, 'embedded'), '--servers', '2');
    try {
      const { volumeId } = await embedded.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
      expect(await embedded.ask('server', 'add')).toEqual({ serverId: 'server-3' });
      await embedded.ask('volume', 'move', volumeId, '--copy', 'server-1', '--to', 'server-3');
      await embedded.until(volumeId, (volume) => volume.health === 'healthy' && String(holders(volume)) === 'server-2,server-3', 30_000);
      await embedded.ask('server', 'drain', 'server-1');
      await embedded.ask('server', 'remove', 'server-1');
      expect((await embedded.servers()).map((server) => server.serverId)).toEqual(['server-2', 'server-3']);
    } finally {
      await embedded.end();
    }
  });
});
