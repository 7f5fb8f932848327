import { appendFileSync, existsSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { NbdClient } from '@ashlar/nbd-client';
import { checksum, serverId, type VolumeId } from '@ashlar/words';
import type { DemoSite } from '../demo/demo-site.ts';
import type { Figures } from './figures.ts';
import { attach, create, dropPageCache, end, GIB, inParallel, memoryMiB, MIB, processesOf, processorSeconds, readBytes, secondsSince, start, TIB } from './site.ts';

/** Volumes worked on at a time: as one operator's script would. */
const WIDTH = 8;
const PIECE_BYTES = 128 * 1024;
const IDLE_MS = 20_000;
/** After the last write its copies still destage what the journals hold. */
const SETTLE_MS = 15_000;
/** Attachments are asked for less and less, and what they did is saved once a minute: after two minutes without a request all is quiet. */
const IDLE_SETTLE_MS = 130_000;
const START_GOAL_S = 10;
const ANSWER_GOAL_S = 30;
const MEMORY_GOAL_MIB = 1024;
const IDLE_GOAL_PERCENT = 2;
/** A volume's bytes are in two copies, in each in the journal and in the extents, with a little around them. */
const DISK_PART = 4.4;

export interface ManyOptions {
  /** Kept from one run to the next: what was prepared is not prepared again. */
  readonly directory: string;
  readonly volumes: number;
  readonly heldBytes: number;
  /** Preparing ends after so long, and goes on in the next run. */
  readonly prepareMs: number;
}

/** Thousands of volumes with data on two servers: false if there was no time to prepare all of them. */
export async function many(options: ManyOptions, figures: Figures): Promise<boolean> {
  const volumes = await prepare(options, figures);
  if (volumes === null) return false;
  figures.add('page cache before the start', dropPageCache());
  const startedMs = performance.now();
  const site = await start(join(options.directory, 'site'));
  const readyS = secondsSince(startedMs);
  figures.add(`started again: the whole site, two servers of ${volumes.length} copies each, host and manager up`, `${readyS.toFixed(1)} s`);
  const processes = await processesOf(site);
  const servers = processes.filter(({ name }) => name.startsWith('server'));
  const read = servers.map(({ pid }) => readBytes(pid) / volumes.length / 1024);
  figures.add('read by a server until it was up, its program included', `${Math.max(...read).toFixed(0)} KiB a copy`);
  const answered = await answers(site, startedMs);
  figures.add('each volume had answered a read (of what was written) and a write', `${answered.toFixed(1)} s after the start`, `${ANSWER_GOAL_S} s`, answered < ANSWER_GOAL_S);
  const memory = servers.map(({ pid }) => memoryMiB(pid));
  const most = Math.max(...memory.map(({ peak }) => peak));
  figures.add('resident memory of the servers, most until then', memory.map(({ peak }) => `${peak.toFixed(0)} MiB`).join(' and '), `${MEMORY_GOAL_MIB} MiB`, most < MEMORY_GOAL_MIB);
  await idle(processes, figures);
  await startOne(site, volumes.length, figures);
  await end(site);
  return true;
}

/** One server process, while the others serve: until it has opened every copy and is heard by the manager. */
async function startOne(site: DemoSite, copies: number, figures: Figures): Promise<void> {
  const id = serverId('server-2');
  await site.ask({ kind: 'server-stop', serverId: id });
  const dropped = dropPageCache();
  const startedMs = performance.now();
  await site.ask({ kind: 'server-start', serverId: id });
  while ((await site.servers()).find((server) => server.serverId === id)?.state !== 'up') await delay(20);
  const seconds = secondsSince(startedMs);
  figures.add(`one server process of ${copies} copies started again (page cache ${dropped}), beside the others at work`, `${seconds.toFixed(1)} s`, `${START_GOAL_S} s`, seconds < START_GOAL_S);
}

async function prepare({ directory, volumes, heldBytes, prepareMs }: ManyOptions, figures: Figures): Promise<readonly VolumeId[] | null> {
  const listFile = join(directory, 'prepared');
  const wanted = `${heldBytes}\n`;
  if (existsSync(listFile) && !readFileSync(listFile, 'utf8').startsWith(wanted)) rmSync(directory, { recursive: true, force: true });
  const site = await start(join(directory, 'site'), '--servers', '2');
  if (!existsSync(listFile)) writeFileSync(listFile, wanted);
  const held = new Set(readFileSync(listFile, 'utf8').trim().split('\n').slice(1));
  const left = volumes - held.size;
  const room = statfsSync(directory);
  if (room.bavail * room.bsize < left * heldBytes * DISK_PART + 4 * GIB) throw new Error(`${left} volumes need ${Math.ceil((left * heldBytes * DISK_PART) / GIB)} GiB in ${directory}`);
  const deadlineMs = performance.now() + prepareMs;
  const sinceMs = performance.now();
  const unused = (await site.ask<readonly VolumeView[]>({ kind: 'volume-list' })).filter((view) => !held.has(view.volumeId));
  const before = held.size;
  await inParallel(WIDTH, Array.from({ length: Math.max(0, left) }, (_, i) => unused[i]), async (known) => {
    if (performance.now() >= deadlineMs) return;
    const volumeId = known?.volumeId ?? (await create(site, TIB)).volumeId;
    const nbd = known?.attachments[0]?.nbd ?? await attach(site, volumeId);
    await hold(nbd, volumeId, heldBytes);
    held.add(volumeId);
    appendFileSync(listFile, `${volumeId}\n`);
  });
  const tookS = secondsSince(sinceMs);
  if (held.size > before) {
    process.stdout.write(`${held.size - before} volumes made, attached and written in ${tookS.toFixed(0)} s\n`);
    if (held.size >= volumes) await delay(SETTLE_MS);
  }
  await end(site);
  if (held.size < volumes) {
    process.stdout.write(`${held.size} of ${volumes} volumes are prepared; run this again\n`);
    return null;
  }
  figures.add('mirrored volumes of 1 TiB, attached', `${held.size}, each holding ${heldBytes / MIB} MiB in ${heldBytes / PIECE_BYTES} places of the whole volume`);
  if (held.size > before) figures.add('made, attached and written', `${held.size - before} of them in ${tookS.toFixed(0)} s`);
  return [...held] as VolumeId[];
}

/** Pieces of its own bytes at places far apart. */
async function hold(nbd: string, volumeId: VolumeId, heldBytes: number): Promise<void> {
  const client = await NbdClient.connect(nbd);
  const pieces = heldBytes / PIECE_BYTES;
  const bytes = bytesOf(volumeId, PIECE_BYTES);
  await Promise.all(Array.from({ length: pieces }, (_, i) => client.write(placeOf(i, pieces), bytes)));
  await client.flush();
  await client.close();
}

function placeOf(piece: number, pieces: number): number {
  return Math.floor((piece / pieces) * 1023) * GIB;
}

/** Different in each volume: an answer from another volume is noticed. */
function bytesOf(volumeId: VolumeId, length: number): Uint8Array {
  const words = new Uint32Array(length / 4);
  let state = checksum(Buffer.from(volumeId)) | 1;
  for (let i = 0; i < words.length; i++) {
    state = Math.imul(state, 1_664_525) + 1_013_904_223;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Seconds from the start to the last answer. */
async function answers(site: DemoSite, startedMs: number): Promise<number> {
  const views = await site.ask<readonly VolumeView[]>({ kind: 'volume-list' });
  await inParallel(WIDTH, views, async ({ volumeId, attachments }) => {
    const client = await NbdClient.connect(attachments[0]?.nbd as string);
    const expected = bytesOf(volumeId, 4096);
    if (Buffer.compare(await client.read(0, 4096), expected) !== 0) throw new Error(`${volumeId} holds something else`);
    await client.write(placeOf(1, 2) + PIECE_BYTES, expected);
    await client.close();
  });
  return secondsSince(startedMs);
}

async function idle(processes: Awaited<ReturnType<typeof processesOf>>, figures: Figures): Promise<void> {
  await delay(IDLE_SETTLE_MS);
  const before = processes.map(({ pid }) => processorSeconds(pid));
  await delay(IDLE_MS);
  const used = processes.map(({ name, pid }, i) => ({ name, percent: ((processorSeconds(pid) - (before[i] as number)) / (IDLE_MS / 1000)) * 100 }));
  const sum = used.reduce((total, { percent }) => total + percent, 0);
  figures.add(`all idle for more than two minutes, over ${IDLE_MS / 1000} s: processor time of all processes`, `${sum.toFixed(1)} % of a core (${used.map(({ name, percent }) => `${name} ${percent.toFixed(1)}`).join(', ')})`, `${IDLE_GOAL_PERCENT} %`, sum < IDLE_GOAL_PERCENT);
}
