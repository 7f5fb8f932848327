import { setTimeout as delay } from 'node:timers/promises';
import type { EventRecord, Report, VolumeView } from '@ashlar/client';
import { NbdClient } from '@ashlar/nbd-client';
import { Prng, volumeId, type ServerId } from '@ashlar/words';
import type { Site } from '../site/site.ts';

const PIECE_BYTES = 128 * 1024;
const POLL_MS = 500;
/** Volumes looked at in turn: attaching one is a change of its record, which costs every server a sync. */
const LOOKED_AT_PER_SECOND = 10;
/** Attachments made at a time: each is a process of nobody else, but sockets and syncs of a host. */
const AT_ONCE = 8;
const REBUILT_MS_MAX = 3_600_000;

/** Whole bytes of a piece are this: a volume and a place in it tell them apart from all others. */
function piece(volume: number, index: number): Buffer {
  const bytes = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < PIECE_BYTES; at += 16) {
    bytes.writeUInt32LE(volume, at);
    bytes.writeUInt32LE(index, at + 4);
    bytes.writeUInt32LE(at, at + 8);
    bytes.writeUInt32LE(0x41534852, at + 12);
  }
  return bytes;
}

async function eachOf<T>(items: readonly T[], run: (item: T, index: number) => Promise<void>, atOnce = AT_ONCE): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, async () => {
    while (next < items.length) {
      const index = next++;
      await run(items[index] as T, index);
    }
  }));
}

/** Small volumes, written whole, each third one with two mirrors: so that there is an order in which to rebuild. Detached, as most volumes are. */
export async function prepare(site: Site, count: number, writtenBytes: number): Promise<string[]> {
  const volumes: string[] = Array.from({ length: count });
  await eachOf(volumes, async (_none, i) => {
    const limits = { ioTimeoutMs: 300_000, iops: 0, bandwidthBytes: 0, priority: 5 };
    const view = (await site.call({ kind: 'volume-create', sizeBytes: writtenBytes, mirrors: i % 3 === 0 ? 2 : 1, minCopies: 1, durability: 'normal', limits, tags: {} })) as VolumeView;
    volumes[i] = view.volumeId;
    await attached(site, view.volumeId, false, async (client) => {
      for (let at = 0; at < writtenBytes; at += PIECE_BYTES) await client.write(at, piece(i, at / PIECE_BYTES));
      await client.flush();
    });
  });
  return volumes;
}

async function attached(site: Site, id: string, readOnly: boolean, run: (client: NbdClient) => Promise<void>): Promise<void> {
  const { nbd } = (await site.call({ kind: 'volume-attach', volumeId: volumeId(id), readOnly, tcp: false })) as { readonly nbd: string };
  const client = await NbdClient.connect(nbd);
  try {
    await run(client);
  } finally {
    await client.close();
    await site.call({ kind: 'volume-detach', volumeId: volumeId(id) });
  }
}

/**
 * Which volumes have wrong bytes, or cannot be read. `a-piece`: one of each, one volume after the other at a steady rate, so that the looking is not a load
 * of its own beside the one that is measured.
 */
export async function unreadable(site: Site, volumes: readonly { readonly id: string; readonly index: number }[], writtenBytes: number, what: 'all' | 'a-piece'): Promise<string[]> {
  const bad: string[] = [];
  const fromMs = performance.now();
  await eachOf(volumes, async ({ id, index }, turn) => {
    if (what === 'a-piece') await delay(Math.max(0, fromMs + turn * 1000 / LOOKED_AT_PER_SECOND - performance.now()));
    try {
      await attached(site, id, true, async (client) => {
        const first = what === 'all' ? 0 : (index % (writtenBytes / PIECE_BYTES)) * PIECE_BYTES;
        for (let at = first; at < (what === 'all' ? writtenBytes : first + PIECE_BYTES); at += PIECE_BYTES) if (piece(index, at / PIECE_BYTES).compare(await client.read(at, PIECE_BYTES)) !== 0) bad.push(`${id}: wrong bytes at ${at}`);
      });
    } catch (error) {
      bad.push(`${id}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }, what === 'all' ? AT_ONCE : 1);
  return bad;
}

export interface Loss {
  readonly servers: readonly ServerId[];
  /** Volumes none of whose copies are left. */
  readonly gone: readonly string[];
  /** By volume: the copies that it has left. */
  readonly left: ReadonlyMap<string, number>;
  /** By volume that has a copy left: the copies that it lost. */
  readonly lost: ReadonlyMap<string, number>;
}

/** Two servers that hold no copy of these volumes together, so that the load on them can go on. */
export async function chooseLoss(site: Site, volumes: readonly string[], kept: readonly string[], seed: number): Promise<Loss> {
  const copies = new Map<string, readonly ServerId[]>();
  for (const view of (await site.call({ kind: 'volume-list' })) as readonly VolumeView[]) copies.set(view.volumeId, view.copies.map((copy) => copy.serverId));
  const names = (await site.servers()).map((server) => server.serverId);
  const pairs = names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b]));
  const possible = pairs.filter((pair) => kept.every((id) => (copies.get(id) ?? []).some((server) => !pair.includes(server))));
  const servers = new Prng(seed).pick(possible) as readonly ServerId[];
  const left = new Map(volumes.map((id) => [id, (copies.get(id) ?? []).filter((server) => !servers.includes(server)).length]));
  const lost = new Map(volumes.filter((id) => left.get(id) !== 0).map((id) => [id, (copies.get(id)?.length ?? 0) - (left.get(id) ?? 0)]));
  return { servers, gone: volumes.filter((id) => left.get(id) === 0), left, lost };
}

/** Both at once, by SIGKILL, and gone for good. */
export async function lose(site: Site, { servers }: Loss): Promise<void> {
  await Promise.all(servers.map((id) => site.call({ kind: 'server-stop', serverId: id, kill: true })));
  await Promise.all(servers.map((id) => site.call({ kind: 'server-lost', serverId: id })));
}

/** Until every volume that can be is whole; how long that took since then. */
export async function rebuilt(site: Site, gone: ReadonlySet<string>, fromMs: number): Promise<number> {
  for (;;) {
    const report = (await site.call({ kind: 'report' })) as Report;
    const missing = report.volumes.filter((volume) => !gone.has(volume.volumeId) && (volume.health !== 'healthy' || volume.copiesInSync < volume.copiesWanted));
    if (missing.length === 0) return (performance.now() - fromMs) / 1000;
    if (performance.now() - fromMs > REBUILT_MS_MAX) throw new Error(`${missing.length} volumes are not whole after ${REBUILT_MS_MAX / 1000} s`);
    await delay(POLL_MS);
  }
}

export interface Order {
  /** Bytes that new copies were filled with. */
  readonly movedBytes: number;
  /** Volumes with more copies left whose rebuild began before that of one with fewer, both waiting. */
  readonly overtakings: number;
  readonly begun: number;
}

/** What the events say of the order in which rebuilds began, and of what they moved. */
export function orderOf(events: readonly EventRecord[], loss: Loss, fromSequence: number): Order {
  const since = events.filter((event) => event.sequence > fromSequence);
  const movedBytes = since.filter((event) => event.name === 'copy-filled').reduce((sum, event) => sum + Number(event.detail['filledBytes']), 0);
  const begun = since.filter((event) => event.name === 'learner-added' && (loss.left.get(event.subject) ?? 0) > 0);
  const begins = new Set(begun.map((event) => event.subject));
  // One whose primary was lost can be filled from nowhere until another serves.
  const unready = new Set(since.filter((event) => event.name === 'promoted').map((event) => event.subject));
  const copies = new Map(loss.left);
  const waiting = new Set([...loss.left].filter(([id, left]) => left === 1 && begins.has(id) && !unready.has(id)).map(([id]) => id));
  // A server that is away and not given up may be back in seconds: what it had copies of does not wait yet.
  const notGivenUp = new Set<string>(loss.servers);
  let overtakings = 0;
  for (const { name, subject } of since) {
    if (name === 'server-lost') notGivenUp.delete(subject);
    if (name === 'serving' && unready.delete(subject) && copies.get(subject) === 1 && begins.has(subject)) waiting.add(subject);
    if (name !== 'learner-added' || !copies.has(subject) || copies.get(subject) === 0) continue;
    if ((copies.get(subject) ?? 0) > 1 && waiting.size > 0 && notGivenUp.size === 0) overtakings++;
    waiting.delete(subject);
    copies.set(subject, (copies.get(subject) ?? 0) + 1);
  }
  return { movedBytes, overtakings, begun: begun.length };
}
