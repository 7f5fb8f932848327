// needs: tar
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CopyView, VolumeView } from '@ashlar/client';
import { Load } from '@ashlar/load';
import { serverId } from '@ashlar/words';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { earlierBuild, THIS_BUILD } from './support/builds.ts';
import { MixedSite } from './support/mixed-site.ts';

const SIZE = 16 * 2 ** 20;
/** Long enough for thousands of verified requests at each step, and no more than two cores can do besides. */
const RATE = 200;
const THIRD = serverId('server-3');

const directory = mkdtempSync(join(tmpdir(), 'ashlar-versions-'));
let earlier: string;
beforeAll(() => { earlier = earlierBuild('0.1', join(directory, 'build')); });
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function copyIn(volume: VolumeView, role: CopyView['role']): CopyView['serverId'] {
  return (volume.copies.find((copy) => copy.role === role) as CopyView).serverId;
}

const LIMITS = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };

/** The earlier build speaks wire version 1 alone, this one 1 and 2. */
describe.each([
  ['the first primary and the host of this build', 0],
  ['the first primary and the host of version 0.1', 1],
] as const)('servers of two builds, %s', (_name, turn) => {
  it('replicate both ways: writes, failover, catch-up, rebuild', async () => {
    const builds = [THIS_BUILD, earlier];
    const build = (k: number): string => builds[(k + turn) % 2] as string;
    const modules = new Map([['server-1', build(0)], ['server-2', build(1)], ['server-3', build(0)], ['host-1', build(0)]]);
    const site = await MixedSite.start({ directory: join(directory, `site-${turn}`), servers: 3, rebuildDelayMs: 2000 }, modules);
    let load: Load | null = null;
    try {
      // So that the two copies are on the other two, which are of different builds.
      await site.ask({ kind: 'server-stop', serverId: THIRD });
      const { volumeId } = await site.ask<VolumeView>({ kind: 'volume-create', sizeBytes: SIZE, mirrors: 1, minCopies: 1, durability: 'normal', limits: LIMITS, tags: {} });
      const { nbd } = await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: false, tcp: false });
      load = await Load.open({ targets: [{ uri: nbd, volume: volumeId }], durationMs: 0, rate: RATE, depth: 8, readPercent: 50, bytesMax: 64 * 1024, flushEvery: 50, fresh: true, seed: 7 });
      load.start();

      const first = await site.healthy(volumeId);
      const [primary, mirror] = [copyIn(first, 'primary'), copyIn(first, 'mirror')];
      expect(modules.get(primary)).not.toBe(modules.get(mirror));

      // Failover on order, and back by a kill: either build leads, either follows and catches up.
      await site.ask({ kind: 'volume-failover', volumeId, to: mirror });
      expect(copyIn(await site.healthy(volumeId), 'primary')).toBe(mirror);
      await site.ask({ kind: 'server-stop', serverId: mirror, kill: true });
      await site.until(volumeId, (volume) => copyIn(volume, 'primary') === primary && volume.health === 'degraded');
      await site.ask({ kind: 'server-start', serverId: mirror });
      await site.healthy(volumeId);
      await site.ask({ kind: 'server-start', serverId: THIRD });
      await site.ask({ kind: 'server-stop', serverId: primary });
      await site.until(volumeId, (volume) => copyIn(volume, 'primary') === mirror);
      // The other is away for so long that its copy is built anew, on the third server.
      const rebuilt = await site.until(volumeId, (volume) => volume.health === 'healthy' && volume.copies.some((copy) => copy.serverId === THIRD));
      expect(copyIn(rebuilt, 'primary')).toBe(mirror);
      await site.ask({ kind: 'server-start', serverId: primary });

      load.stop();
      const result = await load.finish();
      load = null;
      expect(result).toMatchObject({ violationCount: 0, violations: [], errorCount: 0, errors: [] });
      expect(result.requests).toBeGreaterThan(500);
      expect((await site.events()).filter((event) => event.subject === volumeId).map((event) => event.name)).toEqual(expect.arrayContaining(['promoted', 'learner-added']));
      expect(new Set(await site.copies(volumeId, SIZE)).size).toBe(1);
    } finally {
      load?.stop();
      await load?.finish();
      await site.stop();
    }
  }, 300_000);
});

it('a system manager of version 0.1 has servers and a host of this build, and hears of their orderly ends', async () => {
  const tree = join(directory, 'manager-build');
  writeFileSync(earlierBuild('0.1', tree), `import ${JSON.stringify(THIS_BUILD)};\n`);
  const site = await MixedSite.startOf(join(tree, 'packages/site/src/index.ts'), { directory: join(directory, 'site-old-manager'), servers: 3, rebuildDelayMs: 30_000 });
  let load: Load | null = null;
  try {
    const { volumeId } = await site.ask<VolumeView>({ kind: 'volume-create', sizeBytes: SIZE, mirrors: 1, minCopies: 1, durability: 'normal', limits: LIMITS, tags: {} });
    const { nbd } = await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: false, tcp: false });
    load = await Load.open({ targets: [{ uri: nbd, volume: volumeId }], durationMs: 0, rate: RATE, depth: 8, readPercent: 50, flushEvery: 50, fresh: true, seed: 9 });
    load.start();
    for (const role of ['primary', 'mirror'] as const) {
      const serverId_ = copyIn(await site.healthy(volumeId), role);
      await site.ask({ kind: 'server-stop', serverId: serverId_ });
      await site.ask({ kind: 'server-start', serverId: serverId_ });
    }
    await site.healthy(volumeId);
    load.stop();
    const result = await load.finish();
    load = null;
    expect(result).toMatchObject({ violationCount: 0, violations: [], errorCount: 0, errors: [] });
    const why = (await site.events()).filter((event) => event.name === 'promoted' || event.name === 'copy-removed').map((event) => event.reason.replace(/^server-\d: /, ''));
    expect([...new Set(why)]).toEqual(['its server is shutting down']);
    expect(new Set(await site.copies(volumeId, SIZE)).size).toBe(1);
  } finally {
    load?.stop();
    await load?.finish();
    await site.stop();
  }
}, 300_000);
