import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { runLoad, type LoadOptions, type LoadResult, type LoadTarget } from '@ashlar/load';
import { NbdClient } from '@ashlar/nbd-client';
import type { VolumeId } from '@ashlar/words';
import type { DemoSite } from '../demo/demo-site.ts';
import type { Figures } from './figures.ts';
import { attach, create, end, GIB, MIB, secondsSince, start } from './site.ts';

const PIECE_BYTES = 128 * 1024;
const DEPTH = 8;
const LOAD_BYTES = GIB;
const MOST_MS = 10_000;
const MINUTE_MS = 60_000;
/** A rebuild that takes longer than this has failed anyway. */
const REBUILD_MS_MAX = 180_000;
const RATE_GOAL = 0.5;
const P99_GOAL = 3;

/** A third copy of a volume is built while a load at half of what is possible runs on another volume of the same servers. */
export async function rebuild(directory: string, sizeBytes: number, figures: Figures): Promise<void> {
  const site = await start(directory, '--servers', '3');
  const volume = await create(site, sizeBytes);
  const writeRate = await written(await attach(site, volume.volumeId), sizeBytes);
  figures.add(`${sizeBytes / GIB} GiB written sequentially, 128 KiB at a time, ${DEPTH} in flight, flushed at the end`, `${(writeRate / MIB).toFixed(0)} MiB/s`);
  const other = await create(site, LOAD_BYTES);
  const target: LoadTarget = { volume: other.volumeId, uri: await attach(site, other.volumeId) };
  const most = await runLoad({ ...loadOf(target, MOST_MS), fill: true });
  const rate = most.requestsPerSecond / 2;
  figures.add('70/30 load of 4 KiB, 32 in flight: most', `${most.requestsPerSecond.toFixed(0)} a second`);
  const calm = await runLoad({ ...loadOf(target, MINUTE_MS), rate });
  figures.add(`the same at half of that, the minute before: p99 of reads and writes`, `${calm.read.p99Ms.toFixed(2)} and ${calm.write.p99Ms.toFixed(2)} ms (${calm.requestsPerSecond.toFixed(0)} a second)`);
  const stop = new AbortController();
  const during = runLoad({ ...loadOf(target, REBUILD_MS_MAX), rate, signal: stop.signal });
  const sinceMs = performance.now();
  await site.ask({ kind: 'volume-modify', volumeId: volume.volumeId, mirrors: 2 });
  const view = await untilCopies(site, volume.volumeId, 3);
  const rebuildS = secondsSince(sinceMs);
  stop.abort();
  const busy = await during;
  reportRebuild({ view, sizeBytes, rebuildS, writeRate, calm, busy }, figures);
  await end(site);
}

function loadOf(target: LoadTarget, durationMs: number): LoadOptions {
  return { targets: [target], readPercent: 70, depth: 32, durationMs, regionBytes: LOAD_BYTES / 2 };
}

/** Bytes a second, until all of them are on stable storage in both copies. */
async function written(nbd: string, sizeBytes: number): Promise<number> {
  const client = await NbdClient.connect(nbd);
  const bytes = randomBytes(PIECE_BYTES);
  let next = 0;
  const sinceMs = performance.now();
  await Promise.all(Array.from({ length: DEPTH }, async () => {
    while (next < sizeBytes) {
      const at = next;
      next += PIECE_BYTES;
      await client.write(at, bytes);
    }
  }));
  await client.flush();
  const rate = sizeBytes / secondsSince(sinceMs);
  await client.close();
  return rate;
}

async function untilCopies(site: DemoSite, volumeId: VolumeId, copies: number): Promise<VolumeView> {
  for (const endMs = performance.now() + REBUILD_MS_MAX; performance.now() < endMs;) {
    const view = await site.volume(volumeId);
    if (view.copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length === copies) return view;
    await delay(50);
  }
  throw new Error(`there are no ${copies} copies in sync after ${REBUILD_MS_MAX / 1000} s: ${JSON.stringify((await site.volume(volumeId)).copies)}`);
}

interface Rebuilt {
  readonly view: VolumeView;
  readonly sizeBytes: number;
  readonly rebuildS: number;
  readonly writeRate: number;
  readonly calm: LoadResult;
  readonly busy: LoadResult;
}

function reportRebuild({ sizeBytes, rebuildS, writeRate, calm, busy }: Rebuilt, figures: Figures): void {
  const rate = sizeBytes / rebuildS;
  const part = rate / writeRate;
  figures.add('another mirror asked for, built and in sync (what it holds synced), under that load', `${rebuildS.toFixed(1)} s: ${(rate / MIB).toFixed(0)} MiB/s, ${(part * 100).toFixed(0)} % of the rate of writing`, `${RATE_GOAL * 100} %`, part >= RATE_GOAL);
  const times = Math.max(busy.read.p99Ms / calm.read.p99Ms, busy.write.p99Ms / calm.write.p99Ms);
  figures.add('p99 of reads and writes meanwhile', `${busy.read.p99Ms.toFixed(2)} and ${busy.write.p99Ms.toFixed(2)} ms (${busy.requestsPerSecond.toFixed(0)} a second), ${times.toFixed(1)} times that of the minute before`, `${P99_GOAL} times`, times <= P99_GOAL);
  figures.add('blocks of the load that were wrong, requests that failed', `${calm.violationCount + busy.violationCount}, ${calm.errorCount + busy.errorCount}`, '0, 0', calm.violationCount + busy.violationCount + calm.errorCount + busy.errorCount === 0);
}
