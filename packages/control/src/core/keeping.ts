import type { Keep, ServerMessage, StoreMark } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import type { AnyStored } from './metadata-store.ts';
import type { VolumeRecord } from './records.ts';
import type { Manager, Server } from './state.ts';

/**
 * What the store has is kept by the servers before anybody acts on it: first the store, then every server's mark (and beside its copies the changed
 * records), then the act. So whatever anybody ever saw of a decision can be noticed to be missing from a store that was lost or set back, and can be
 * put back into it. docs/adr/0019.
 */

/** What is known of a server's ledger, from its hello on. */
export interface Keeper {
  /** It answers `keep`; servers of older versions do not. */
  readonly keeps: boolean;
  mark: StoreMark | null;
  /** It said so in answer to a `keep`, and so has it on its disk. What it said in its hello it may only have heard. */
  stable: boolean;
  /** It could not write the last one. Nobody waits for it until it can. */
  failing: boolean;
  /** Volumes whose record it does not have in the newest form, and deletions that it does not know. */
  readonly records: Set<VolumeId>;
  readonly deleted: Set<VolumeId>;
  underWay: Keep | null;
  sentMs: number;
  /** Since when it owes an answer, on the attentive clock; null: it owes none. */
  owesSinceMs: number | null;
}

interface Waiting {
  readonly revision: number;
  readonly sinceMs: number;
  readonly run: () => void;
  readonly fail: () => void;
}

export interface Keeping {
  /** Of every volume, as the store has it; the view that decisions are made on may be behind it until it is kept. */
  readonly latest: Map<VolumeId, { readonly revision: number; readonly record: VolumeRecord }>;
  /** Completed deletions, in the order of their revisions. */
  readonly deleted: Map<VolumeId, number>;
  /** The newest revision that says more than that something happened. */
  newest: number;
  waiting: Waiting[];
  /** Of the last request to keep something; drawn at first, so that an answer to a former life of the manager is not taken for one to this. */
  number: number;
}

/**
 * When more than half of all servers have it, so much more is waited for the others: one that is frozen and not noticed yet must not hold up a
 * failover of others. Longer than a sync of a busy disk.
 */
const PATIENCE_MS = 200;
/** Of one message: far below what a link carries. */
const RECORDS_MAX = 500;
const LETTERS_MAX = 2 ** 19;
/** Completed deletions remembered. */
export const DELETED_MAX = 10_000;

export function newKeeping(number: number): Keeping {
  return { latest: new Map(), deleted: new Map(), newest: 0, waiting: [], number };
}

export function newKeeper(keeps: boolean, mark: StoreMark | null): Keeper {
  return { keeps, mark, stable: false, failing: false, records: new Set(), deleted: new Set(), underWay: null, sentMs: -Infinity, owesSinceMs: null };
}

/** What the store has: takes in what is newer than what is known. */
export function takeStored(m: Manager, stored: AnyStored): void {
  const { keeping } = m;
  if (stored.kind === 'volume') {
    const id = stored.value.volumeId;
    const known = keeping.latest.get(id);
    if (known !== undefined && known.revision >= stored.revision) return;
    keeping.latest.set(id, { revision: stored.revision, record: stored.value });
    for (const holder of new Set([...stored.value.holders, ...(known?.record.holders ?? [])])) m.servers.get(holder)?.keeper?.records.add(id);
  } else if (stored.kind === 'deleted') {
    const { volumeId } = stored.value;
    if (keeping.deleted.has(volumeId)) return;
    keeping.deleted.set(volumeId, stored.revision);
    keeping.latest.delete(volumeId);
    for (const server of m.servers.values()) server.keeper?.deleted.add(volumeId);
  } else if (stored.kind !== 'origin') return;
  keeping.newest = Math.max(keeping.newest, stored.revision);
}

/** A server said hello: what it lacks. */
export function owe(m: Manager, server: Server, keeper: Keeper): void {
  const { mark } = keeper;
  // Of this cluster, and judged: it has all that was decided up to its mark.
  const through = mark?.cluster === m.origin?.cluster ? (mark?.revision ?? 0) : 0;
  for (const [id, { revision, record }] of m.keeping.latest) if (revision > through && record.holders.includes(server.serverId)) keeper.records.add(id);
  for (const [id, revision] of m.keeping.deleted) if (revision > through) keeper.deleted.add(id);
}

/** Runs when this revision is kept; `fail` instead if the manager is no longer to act. */
export function whenKept(m: Manager, revision: number, run: () => void, fail: () => void): void {
  m.keeping.waiting.push({ revision, sinceMs: m.nowMs, run, fail });
  keepOn(m);
}

/** Sends what servers lack, and runs what waited for what they have. */
export function keepOn(m: Manager): void {
  if (m.standing.state === 'waiting' || m.standing.state === 'refusing') return drop(m);
  for (const server of m.servers.values()) if (server.keeper !== null) send(m, server, server.keeper);
  release(m);
}

function drop(m: Manager): void {
  for (const { fail } of m.keeping.waiting.splice(0)) fail();
}

function release(m: Manager): void {
  for (let some = true; some;) {
    const { all, most } = keptThrough(m);
    const ready: Waiting[] = [];
    const waiting: Waiting[] = [];
    for (const one of m.keeping.waiting) (one.revision <= all || (one.revision <= most && m.nowMs - one.sinceMs >= PATIENCE_MS) ? ready : waiting).push(one);
    m.keeping.waiting = waiting;
    for (const { run } of ready) run();
    some = ready.length > 0 && m.keeping.waiting.length > 0;
  }
}

/** Through which revision every server that is up and can keep it has it, and more than half of all there are. */
function keptThrough(m: Manager): { readonly all: number; readonly most: number } {
  const kept: number[] = [];
  let known = 0;
  let all = Infinity;
  for (const server of m.servers.values()) {
    const { keeper } = server;
    if (server.record === null) continue;
    known++;
    if (keeper === null || !keeper.keeps) continue;
    const through = keptBy(m, keeper);
    kept.push(through);
    if (isUp(server) && !keeper.failing && !isMute(m, keeper)) all = Math.min(all, through);
  }
  kept.sort((a, b) => b - a);
  return { all, most: kept[Math.floor(known / 2)] ?? -1 };
}

/** -1: nothing of what this life of the manager decided. */
function keptBy(m: Manager, { mark, stable }: Keeper): number { return stable && mark?.life === m.life ? mark.revision : -1; }

/** It says that it is there, and answers nothing: like one that is silent. */
function isMute(m: Manager, { owesSinceMs }: Keeper): boolean {
  return owesSinceMs !== null && m.attentiveMs - owesSinceMs >= m.options.silenceAloneMs;
}

/** As last looked at: see watchServers. */
function isUp({ greeted, linked, ended, leaving, lost, wasUp }: Server): boolean {
  return greeted && linked && !ended && !leaving && !lost && wasUp;
}

function send(m: Manager, server: Server, keeper: Keeper): void {
  const { origin, life, keeping, options } = m;
  if (!keeper.keeps || !server.greeted || origin === null) return;
  if ((keeper.underWay !== null || keeper.failing) && m.nowMs - keeper.sentMs < options.repeatMs) return;
  if (keeper.underWay !== null) {
    // The same again: the answer to the first may still be on its way from a slow disk.
    keeper.sentMs = m.nowMs;
    return m.fx.toServer(server.serverId, { kind: 'keep', keep: keeper.underWay });
  }
  if (keptBy(m, keeper) >= keeping.newest && keeper.records.size === 0 && keeper.deleted.size === 0) return;
  const records: Keep['records'][number][] = [];
  let letters = 0;
  for (const volumeId of keeper.records) {
    const latest = keeping.latest.get(volumeId);
    if (latest === undefined) {
      keeper.records.delete(volumeId);
      continue;
    }
    const text = JSON.stringify(latest.record);
    if (records.length > 0 && (records.length >= RECORDS_MAX || letters + text.length > LETTERS_MAX)) break;
    letters += text.length;
    records.push({ volumeId, revision: latest.revision, text });
  }
  const deleted = [...keeper.deleted].slice(0, RECORDS_MAX).map((volumeId) => ({ volumeId, revision: keeping.deleted.get(volumeId) ?? 0 }));
  const whole = records.length === keeper.records.size && deleted.length === keeper.deleted.size;
  // A mark says that everything up to it is there: until the last part it stays what it was.
  const mark = whole ? { cluster: origin.cluster, life, revision: keeping.newest } : keeper.mark ?? { cluster: origin.cluster, life, revision: 0 };
  const servers = [...m.servers.values()].filter(({ record, foreign }) => record !== null && !foreign).map(({ serverId }) => serverId).sort() as ServerId[];
  keeper.underWay = { expected: keeper.mark, mark, servers, records, deleted, number: ++keeping.number };
  keeper.sentMs = m.nowMs;
  keeper.owesSinceMs ??= m.attentiveMs;
  m.fx.toServer(server.serverId, { kind: 'keep', keep: keeper.underWay });
}

/** Its answer. The mark is to be judged in any case: somebody else may have told it something. */
export function onKept(m: Manager, server: Server, { mark, taken, failed, number }: ServerMessage & { readonly kind: 'server-kept' }): void {
  const { keeper } = server;
  const sent = keeper?.underWay ?? null;
  if (keeper === null || sent?.number !== number) return;
  keeper.underWay = null;
  keeper.owesSinceMs = null;
  keeper.failing = failed;
  if (failed) return;
  keeper.mark = mark;
  keeper.stable = taken;
  if (!taken) return;
  for (const { volumeId, revision } of sent.records) if (m.keeping.latest.get(volumeId)?.revision === revision) keeper.records.delete(volumeId);
  for (const { volumeId } of sent.deleted) keeper.deleted.delete(volumeId);
}
