import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PartedSite } from './support/parted.ts';
import { PatternWriter } from './support/pattern.ts';

const BLOCKS = 512;
const STORE = ['metadata.sqlite', 'metadata.sqlite-wal', 'metadata.sqlite-shm'];

interface Recovery { readonly applied: boolean; readonly volumes: readonly { readonly volumeId: string; readonly outcome: string }[]; readonly blocked: readonly string[] }

const directory = mkdtempSync(join(tmpdir(), 'ashlar-recovery-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function copyStore(from: string, to: string): void {
  for (const name of STORE) {
    rmSync(join(to, name), { force: true });
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
  }
}

describe.each(['lost', 'yesterday’s'] as const)('a metadata store that is %s', (kind) => {
  const root = join(directory, kind === 'lost' ? 'lost' : 'old');
  let site: PartedSite;
  let volumeId = '';
  let writer: PatternWriter;
  let client: NbdClient;

  /** The load goes on through what happens. */
  async function writesOn(): Promise<void> {
    const before = writer.written;
    await expect.poll(() => writer.written > before + 200, { timeout: 30_000, interval: 20 }).toBe(true);
  }

  beforeAll(async () => {
    site = await PartedSite.start(root, 3);
    await site.manager.answered(['server', 'list'], (servers) => (servers as readonly { state: string }[]).filter(({ state }) => state === 'up').length === 3);
  });
  afterAll(() => site.stop());

  it('is noticed, and refused with the reason, while I/O goes on', async () => {
    ({ volumeId } = await site.manager.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1', '--tag', 'team=blue'));
    const { volumeId: deleted } = await site.manager.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    const { nbd } = await site.manager.ask<{ nbd: string }>('volume', 'attach', volumeId);
    client = await NbdClient.connect(nbd);
    writer = new PatternWriter(client, BLOCKS);
    writer.start(4);
    await writesOn();
    // A backup of a manager that does not run, as a file system's snapshot would hold it.
    await site.endManager('SIGKILL');
    copyStore(site.managerDirectory, directory);
    await site.startManager();
    // Nothing of the volume in use changes after it: by its copies alone nobody could tell. A manager that has just started refuses it until it has heard the servers.
    await site.manager.answered(['volume', 'delete', deleted], () => true);
    await site.endManager('SIGKILL');
    if (kind === 'lost') for (const name of STORE) rmSync(join(site.managerDirectory, name), { force: true });
    else copyStore(directory, site.managerDirectory);
    await site.startManager();

    const known = (await site.manager.answered(['server', 'list'], (servers) => (servers as unknown[]).length === 3)).errors;
    expect(known).toContain(kind === 'lost' ? 'the metadata store is lost' : 'the metadata store is an old one');
    expect(known).toContain('ashlar recover');
    for (const command of [['volume', 'list'], ['volume', 'describe', volumeId], ['volume', 'create', '--size', '1GiB'], ['volume', 'delete', volumeId], ['volume', 'failover', volumeId]]) {
      expect(await site.manager.refused(...command)).toEqual([1, 'store-behind']);
    }
    expect((await site.manager.ask<readonly { name: string }[]>('events')).some((event) => event.name === 'store-behind')).toBe(true);
    await writesOn();
    expect(await site.manager.ask<Recovery>('recover', '--dry-run')).toMatchObject({ applied: false, blocked: [] });
    expect(await site.manager.refused('volume', 'list')).toEqual([1, 'store-behind']);
  });

  it('is rebuilt by `ashlar recover` under I/O, and failover, creation and deletion work on it', async () => {
    const { applied, volumes } = await site.manager.ask<Recovery>('recover');
    expect(applied).toBe(true);
    expect(volumes.filter(({ outcome }) => outcome === 'restored').map((volume) => volume.volumeId)).toEqual([volumeId]);
    expect(await site.manager.healthy(volumeId)).toMatchObject({ state: 'in-use', tags: { team: 'blue' } });
    await writesOn();

    const before = await site.manager.primary(volumeId);
    await site.kill(before.serverId);
    await writesOn();
    expect((await site.manager.primary(volumeId)).serverId).not.toBe(before.serverId);
    await site.startChild(before.serverId);
    await site.manager.healthy(volumeId);

    const { volumeId: made } = await site.manager.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    await site.manager.ask('volume', 'delete', made);
    expect(await site.manager.refused('recover')).toEqual([2, 'invalid-argument']);
    await site.endManager('SIGKILL');
    await site.startManager();
    await site.manager.answered(['volume', 'list'], (found) => (found as unknown[] | null)?.length === 1);

    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    await client.close();
    await site.manager.healthy(volumeId);
    for (const { serverId } of (await site.manager.volume(volumeId)).copies) {
      const { nbd } = await site.manager.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
      const alone = await NbdClient.connect(nbd);
      expect(await writer.wrong(alone)).toEqual([]);
      await alone.close();
    }
  });
});
