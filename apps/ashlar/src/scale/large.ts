import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@ashlar/nbd-client';
import { Directories, NodeDisk } from '@ashlar/storage';
import { openCopy } from '@ashlar/store';
import { BLOCK_BYTES, Prng, serverId, volumeId as asVolumeId, VOLUME_BYTES_MAX, type VolumeId } from '@ashlar/words';
import type { Figures } from './figures.ts';
import { siteLayout } from '@ashlar/site';
import { attach, create, dropPageCache, end, GIB, processesOf, processorSeconds, readBytes, secondsSince, start, TIB } from './site.ts';

const DEPTH = 64;
const SEED = 16;
const GOAL_MS = 100;
const CHECKED = 1000;

export interface LargeOptions {
  readonly directory: string;
  readonly heldBytes: number;
}

/** A volume of the largest size that holds 4 KiB at each of many random places: how long its copies take to open. */
export async function large({ directory, heldBytes }: LargeOptions, figures: Figures): Promise<void> {
  const blocks = heldBytes / BLOCK_BYTES;
  const preparedFile = join(directory, 'prepared');
  if (!existsSync(preparedFile)) rmSync(directory, { recursive: true, force: true });
  const volumeId = existsSync(preparedFile) ? asVolumeId(readFileSync(preparedFile, 'utf8').trim()) : await prepare(directory, blocks, preparedFile);
  figures.add('volume', `${VOLUME_BYTES_MAX / TIB} TiB, mirrored, ${heldBytes / GIB} GiB in ${blocks} places of 4 KiB drawn from all of it`);
  figures.add('page cache before each opening', dropPageCache());
  const layout = siteLayout(join(directory, 'site'));
  const openings = ['server-1', 'server-2'].map((name) => opened(layout.serverDirectories(name, 1), name, volumeId));
  const most = Math.max(...openings.map(({ openMs }) => openMs));
  figures.add('opening of each of its copies', openings.map(({ openMs }) => `${openMs.toFixed(1)} ms`).join(' and '), `${GOAL_MS} ms`, most < GOAL_MS);
  figures.add('first read of one of the places after that', openings.map(({ readMs }) => `${readMs.toFixed(1)} ms`).join(' and '));
  figures.add('bytes read from files to open a copy', openings.map(({ bytes }) => `${(bytes / 1024).toFixed(0)} KiB`).join(' and '));
  await served(join(directory, 'site'), volumeId, blocks, figures);
}

async function prepare(directory: string, blocks: number, preparedFile: string): Promise<VolumeId> {
  const site = await start(join(directory, 'site'), '--servers', '2');
  const { volumeId } = await create(site, VOLUME_BYTES_MAX);
  const client = await NbdClient.connect(await attach(site, volumeId));
  const prng = new Prng(SEED);
  const places = Array.from({ length: blocks }, () => placeOf(prng));
  let next = 0;
  const sinceMs = performance.now();
  await Promise.all(Array.from({ length: DEPTH }, async () => {
    while (next < places.length) {
      const at = places[next++] as number;
      await client.write(at, contentOf(at));
    }
  }));
  await client.flush();
  process.stdout.write(`${blocks} places written in ${secondsSince(sinceMs).toFixed(0)} s\n`);
  await client.close();
  await site.ask({ kind: 'volume-detach', volumeId });
  await untilQuiet(site);
  await end(site);
  writeFileSync(preparedFile, `${volumeId}\n`);
  return volumeId;
}

/** The journals' rest is moved to the extents while nothing is asked: until the servers use no processor any more. */
async function untilQuiet(site: Awaited<ReturnType<typeof start>>): Promise<void> {
  const servers = (await processesOf(site)).filter(({ name }) => name.startsWith('server'));
  for (const endMs = performance.now() + 300_000; performance.now() < endMs;) {
    const before = servers.map(({ pid }) => processorSeconds(pid));
    await delay(3000);
    if (servers.every(({ pid }, i) => processorSeconds(pid) - (before[i] as number) < 0.1)) return;
  }
}

function placeOf(prng: Prng): number {
  return Math.floor((prng.next32() / 2 ** 32) * (VOLUME_BYTES_MAX / BLOCK_BYTES)) * BLOCK_BYTES;
}

function contentOf(place: number): Uint8Array {
  return new Uint8Array(new Float64Array(BLOCK_BYTES / 8).fill(place + 1).buffer);
}

/** The store alone, as the server's process opens it. */
function opened(paths: readonly string[], name: string, volumeId: VolumeId): { readonly openMs: number; readonly readMs: number; readonly bytes: number } {
  const server = serverId(name);
  const disk = new NodeDisk(Directories.open(server, paths, (what, error) => { throw new Error(what, { cause: error }); }).copyPaths(volumeId));
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const bytesBefore = readBytes(process.pid);
  const sinceMs = performance.now();
  const copy = openCopy(disk, { volumeId, serverId: server, bootId });
  const openMs = performance.now() - sinceMs;
  const bytes = readBytes(process.pid) - bytesBefore;
  if ('failed' in copy) throw new Error(`the copy on ${name} cannot be opened: ${copy.failed} ${copy.detail}`);
  const at = placeOf(new Prng(SEED));
  const into = new Uint8Array(BLOCK_BYTES);
  const readMs = performance.now();
  if (copy.store.read(at, BLOCK_BYTES, into, 0) !== 'ok' || Buffer.compare(into, contentOf(at)) !== 0) throw new Error(`the copy on ${name} does not hold what was written`);
  const firstMs = performance.now() - readMs;
  copy.store.close(true);
  return { openMs, readMs: firstMs, bytes };
}

async function served(directory: string, volumeId: VolumeId, blocks: number, figures: Figures): Promise<void> {
  const site = await start(directory);
  const sinceMs = performance.now();
  const nbd = await attach(site, volumeId);
  const client = await NbdClient.connect(nbd);
  const prng = new Prng(SEED);
  const places = Array.from({ length: Math.min(CHECKED, blocks) }, () => placeOf(prng));
  const check = async (at: number): Promise<void> => {
    if (Buffer.compare(await client.read(at, BLOCK_BYTES), contentOf(at)) !== 0) throw new Error(`wrong bytes at ${at}`);
  };
  await check(places[0] as number);
  figures.add('after a start of the site: attach, connect and first read', `${(secondsSince(sinceMs) * 1000).toFixed(0)} ms`);
  for (const at of places) await check(at);
  figures.add('places read and compared', String(places.length));
  await client.close();
  await site.ask({ kind: 'volume-detach', volumeId });
  await end(site);
}
