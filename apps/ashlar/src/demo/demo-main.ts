/** `pnpm demo`: a volume that outlives its server, on this machine, in under two minutes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import type { VolumeId } from '@ashlar/words';
import { compareCopies } from './compare-copies.ts';
import { DemoSite } from './demo-site.ts';
import { KernelVolume, type DemoVolume } from './demo-volume.ts';
import { ImageVolume } from './image-volume.ts';
import { picture, type Mark } from './picture.ts';
import { means } from './tools.ts';

const SOURCE = join(import.meta.dirname, '../../../..');
/** A fast machine writes 50 MiB a second of files, each synced, for as long as both acts take. */
const SIZE_BYTES = 4 * 2 ** 30;
/** Longer than a killed process takes to be back, on a busy machine too. */
const REBUILD_DELAY_S = 6;
/** How long is written before and after a kill. */
const WRITE_MS = 2500;
const HEALTHY_MS = 40_000;

const startedMs = performance.now();
function say(text: string): void {
  process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);
}

interface Act {
  readonly title: string;
  readonly keepDown: boolean;
}

/** Writes, kills the primary's process in the middle, goes on writing; then everything must be there, and two copies in sync. */
async function act(site: DemoSite, volume: DemoVolume, volumeId: VolumeId, { title, keepDown }: Act, marks: Mark[]): Promise<void> {
  say(title);
  volume.startWriting();
  await delay(WRITE_MS);
  const killed = await site.killPrimary(volumeId, keepDown);
  marks.push({ atMs: killed.atMs, text: `kill -9 ${killed.pid} (${killed.server}, the primary), in the middle of writing` });
  say(`  kill -9 ${killed.pid}: the process of ${killed.server}, which holds the primary, after ${volume.written} files`);
  await delay(WRITE_MS);
  const written = await volume.stopWriting();
  marks.push({ atMs: Date.now(), text: `client: ${written.longestGapMs.toFixed(0)} ms was the longest wait for one file, ${written.usualGapMs.toFixed(0)} ms the usual one` });
  say(`  ${volume.written} files (${(written.bytes / 2 ** 20).toFixed(0)} MiB) written, each synced; the client's longest gap: ${written.longestGapMs.toFixed(0)} ms (usual: ${written.usualGapMs.toFixed(0)} ms)`);
  say(`  every checksum right: ${await volume.check()} files, read back through a new connection, file system checked`);
  const healthy = await site.untilHealthy(volumeId, HEALTHY_MS, keepDown ? killed.server : undefined);
  marks.push({ atMs: Date.now(), text: 'two copies in sync' });
  say(`  two copies in sync: ${inSync(healthy)}`);
}

function inSync(view: VolumeView): string {
  return view.copies.map((copy) => `${copy.serverId} (${copy.role}, ${copy.state})`).join(', ');
}

async function main(): Promise<void> {
  const found = means(say);
  const directory = mkdtempSync(join(tmpdir(), 'ashlar-demo-'));
  const site = await DemoSite.start(join(directory, 'site'), '--servers', '3', '--rebuild-delay', `${REBUILD_DELAY_S}s`);
  let volume: DemoVolume | null = null;
  try {
    const servers = await site.servers();
    say(`Three storage servers and a host, each a process of its own: ${servers.map((server) => `${server.serverId} is ${server.pid}`).join(', ')}`);
    const { volumeId } = await site.ask<VolumeView>({
      kind: 'volume-create', sizeBytes: SIZE_BYTES, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {},
    });
    const { nbd } = await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: false, tcp: false });
    say(`A volume of 4 GiB with a mirror: ${volumeId}, attached as ${nbd}`);
    volume = found.kernel ? new KernelVolume(nbd, directory, SOURCE) : new ImageVolume(nbd, directory, SOURCE, found.ext4);
    if (!found.kernel) say(`Not mounted, since ${found.why}: ${found.ext4 ? 'an ext4 image is' : 'bytes are'} written with our own NBD client`);
    say(`${await volume.fill()} files of this source tree are on ${found.kernel || found.ext4 ? 'its ext4' : 'it'}, through ${volume.client}`);
    const marks: Mark[] = [];
    await act(site, volume, volumeId, { title: 'First act: the primary’s process is killed, comes back, and catches up', keepDown: false }, marks);
    await act(site, volume, volumeId, { title: `Second act: it is killed and stays down; after ${REBUILD_DELAY_S} s a new mirror is built elsewhere`, keepDown: true }, marks);
    await volume.close();
    volume = null;
    await site.ask({ kind: 'volume-detach', volumeId });
    say(await compareCopies(site, await site.volume(volumeId)));
    process.stdout.write(`\n${picture(await site.events(), servers.map((server) => server.serverId), volumeId, marks).join('\n')}\n\n`);
    say('Nothing was lost.');
  } finally {
    await volume?.close().catch((error: unknown) => say(`while cleaning up: ${String(error)}`));
    await site.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  say(`The demo failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
