// needs: tar
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClusterStatus, EventRecord, VolumeView } from '@ashlar/client';
import { Load } from '@ashlar/load';
import { BUILD_VERSION, serverId } from '@ashlar/words';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { earlierBuild, THIS_BUILD } from './support/builds.ts';
import { MixedSite } from './support/mixed-site.ts';

const SIZE = 16 * 2 ** 20;
const RATE = 200;
const SERVERS = ['server-1', 'server-2', 'server-3'];
const LIMITS = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };

const directory = mkdtempSync(join(tmpdir(), 'ashlar-upgrade-'));
let earlier: string;
beforeAll(() => { earlier = earlierBuild('0.1', join(directory, 'build')); });
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** One after the other, each as soon as no volume would have to wait for it: the command says `busy` until then. */
async function restartAll(site: MixedSite, module: string): Promise<void> {
  for (const name of SERVERS) {
    site.modules.set(name, module);
    await site.ask({ kind: 'server-restart', serverId: serverId(name), anyway: false });
  }
}

function versions({ processes }: ClusterStatus): Readonly<Record<string, string | null>> {
  return Object.fromEntries(processes.map(({ name, build }) => [name, build?.version ?? null]));
}

/** Why primaries were replaced and mirrors let go, since an event. */
function reasons(events: readonly EventRecord[], after: number): string[] {
  const told = events.filter((event) => event.sequence > after && (event.name === 'promoted' || event.name === 'copy-removed'));
  return [...new Set(told.map((event) => event.reason.replace(/^server-\d: /, '')))].sort();
}

/** The order of docs/runbooks/upgrade.md: the system manager first, which is of this build here, then the storage servers, then the hosts. */
it('every process is replaced by a later build under verified load, and by the same again, without an error', async () => {
  const modules = new Map([...SERVERS, 'host-1'].map((name) => [name, earlier]));
  const site = await MixedSite.start({ directory: join(directory, 'site'), servers: 3, rebuildDelayMs: 30_000 }, modules);
  let load: Load | null = null;
  try {
    const targets: { volume: VolumeView['volumeId']; uri: string }[] = [];
    for (const mirrors of [1, 1, 2]) {
      const { volumeId: volume } = await site.ask<VolumeView>({ kind: 'volume-create', sizeBytes: SIZE, mirrors, minCopies: 1, durability: 'normal', limits: LIMITS, tags: {} });
      targets.push({ volume, uri: (await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId: volume, readOnly: false, tcp: false })).nbd });
    }
    load = await Load.open({ targets, durationMs: 0, rate: RATE, depth: 8, readPercent: 50, bytesMax: 64 * 1024, flushEvery: 50, fresh: true, seed: 11 });
    load.start();
    const status = (): Promise<ClusterStatus> => site.ask<ClusterStatus>({ kind: 'cluster-status' });
    expect(versions(await status())).toEqual({ 'manager': BUILD_VERSION, 'server-1': null, 'server-2': null, 'server-3': null, 'host-1': null });

    await restartAll(site, THIS_BUILD);
    const halfWay = await status();
    expect(versions(halfWay)).toEqual({ 'manager': BUILD_VERSION, 'server-1': BUILD_VERSION, 'server-2': BUILD_VERSION, 'server-3': BUILD_VERSION, 'host-1': null });
    expect(halfWay.upgradeUnfinished).toBe(true);
    for (const { volume } of targets) await site.healthy(volume);

    // From here on every server hands over before it ends: nobody is taken out because it is missed.
    const { sequence } = (await site.events()).at(-1) as EventRecord;
    await restartAll(site, THIS_BUILD);
    for (const { volume } of targets) await site.healthy(volume);
    expect(reasons(await site.events(), sequence)).toEqual(['its server is shutting down']);

    // Programs on a host lose their connection for a moment, and come again.
    modules.set('host-1', THIS_BUILD);
    const host = (await status()).processes.find(({ name }) => name === 'host-1');
    process.kill(host?.pid as number, 'SIGTERM');
    await expect.poll(async () => (await status()).upgradeUnfinished, { timeout: 30_000, interval: 100 }).toBe(false);

    load.stop();
    const result = await load.finish();
    load = null;
    expect(result).toMatchObject({ violationCount: 0, violations: [], errorCount: 0, errors: [] });
    expect(result.requests).toBeGreaterThan(500);
    for (const { volume } of targets) expect(new Set(await site.copies(volume, SIZE)).size).toBe(1);
    expect(await status()).toMatchObject({ volumes: 3, healthyVolumes: 3 });
  } finally {
    load?.stop();
    await load?.finish();
    await site.stop();
  }
}, 300_000);
