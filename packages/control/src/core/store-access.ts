import { changed, type Configuration, type Usage } from '@ashlar/protocol';
import { assert } from '@ashlar/words';
import { DELETED_MAX, takeStored, whenKept } from './keeping.ts';
import type { AnyStored, Key, Put, Transaction, TransactionOutcome } from './metadata-store.ts';
import { completed, type NewEvent, type VolumeRecord } from './records.ts';
import { dropVolume, takeRecord, takeVolume, wallMs, type Manager, type Volume } from './state.ts';

export type ChangeOutcome = TransactionOutcome['kind'];

/** Runs a transaction; `then` hears its outcome exactly once, unless the manager ends first. */
export function transactRaw(m: Manager, transaction: Transaction, then: (outcome: TransactionOutcome) => void): void {
  m.token += 1;
  m.transactions.set(m.token, then);
  m.fx.transact(m.token, transaction);
}

/** Replaces the whole store. */
export function restoreRaw(m: Manager, revision: number, puts: readonly Put[], events: readonly NewEvent[], then: (outcome: TransactionOutcome) => void): void {
  m.token += 1;
  m.transactions.set(m.token, then);
  m.fx.restore(m.token, revision, puts, events);
}

/** A decision: `then` hears of it only when it is kept by the servers, so that nobody acts on what a store that is set back would not know any more. */
function decide(m: Manager, transaction: Transaction, then: (outcome: TransactionOutcome) => void): void {
  transactRaw(m, transaction, (outcome) => {
    const found = outcome.kind === 'applied' ? transaction.puts.map((put: Put) => ({ ...put, revision: outcome.revision }) as AnyStored) : outcome.kind === 'conflict' ? outcome.current : [];
    for (const stored of found) takeStored(m, stored);
    const revision = Math.max(0, ...found.filter(({ kind }) => kind === 'volume' || kind === 'deleted').map((stored) => stored.revision));
    if (revision === 0) return then(outcome);
    whenKept(m, revision, () => then(outcome), () => then({ kind: 'unknown' }));
  });
}

/** Appends events, and records that only this manager writes. Nothing waits for it. */
export function note(m: Manager, events: readonly NewEvent[], puts: Transaction['puts'] = []): void {
  transactRaw(m, { conditions: [], puts, deletes: [], events }, () => undefined);
}

/** Puts a record that only this manager writes. `then` hears whether it is known to be durable. */
export function save(m: Manager, put: Transaction['puts'][number], events: readonly NewEvent[], then: (applied: boolean) => void): void {
  keepAnyway(m, { conditions: [], puts: [put], deletes: [], events }, then);
}

/** Of no volume, so that servers keep no more of it than that it was: a store without it is noticed. */
function keepAnyway(m: Manager, transaction: Transaction, then: (applied: boolean) => void): void {
  transactRaw(m, transaction, (outcome) => {
    if (outcome.kind !== 'applied') return then(false);
    m.keeping.newest = Math.max(m.keeping.newest, outcome.revision);
    whenKept(m, outcome.revision, () => then(true), () => then(false));
  });
}

/**
 * Changes a volume's record by compare-and-swap. While it is under way nothing else is decided about the volume; afterwards the view
 * is what the store has, whatever the outcome, and `then` decides anew from that.
 */
export function change(m: Manager, v: Volume, record: VolumeRecord, events: readonly NewEvent[], then: (outcome: ChangeOutcome) => void = () => undefined): void {
  assert(!v.pending && !v.gone, 'one change of a volume at a time');
  v.pending = true;
  const conditions = [{ kind: 'volume', id: v.volumeId, revision: v.revision }] as const;
  const transaction: Transaction = { conditions, puts: [{ kind: 'volume', id: v.volumeId, value: record }], deletes: [], events };
  decide(m, transaction, (outcome) => {
    if (outcome.kind === 'applied') takeVolume(m, v.volumeId, record, outcome.revision);
    settle(m, v, outcome, then);
  });
}

/** Creates a volume's record. */
export function create(m: Manager, record: VolumeRecord, events: readonly NewEvent[], then: (outcome: ChangeOutcome) => void): void {
  const id = record.volumeId;
  const conditions = [{ kind: 'volume', id, revision: 0 }] as const;
  decide(m, { conditions, puts: [{ kind: 'volume', id, value: record }], deletes: [], events }, (outcome) => {
    if (outcome.kind === 'unknown') return readBack(m, () => then('unknown'));
    if (outcome.kind === 'applied') takeVolume(m, id, record, outcome.revision);
    if (outcome.kind === 'conflict') for (const stored of outcome.current) takeRecord(m, stored);
    then(outcome.kind);
  });
}

export function remove(m: Manager, v: Volume, events: readonly NewEvent[]): void {
  v.pending = true;
  const key = { kind: 'volume', id: v.volumeId } as const;
  const deletes: Key[] = [key, { kind: 'usage', id: v.volumeId }];
  const [oldest] = m.keeping.deleted.keys();
  if (oldest !== undefined && m.keeping.deleted.size >= DELETED_MAX) {
    m.keeping.deleted.delete(oldest);
    deletes.push({ kind: 'deleted', id: oldest });
  }
  const puts: Put[] = [{ kind: 'deleted', id: v.volumeId, value: { volumeId: v.volumeId, atMs: wallMs(m) } }];
  decide(m, { conditions: [{ ...key, revision: v.revision }], puts, deletes, events }, (outcome) => {
    if (outcome.kind === 'applied') finishWaiters(m, v);
    settle(m, v, outcome, () => undefined);
  });
}

function finishWaiters(m: Manager, v: Volume): void {
  dropVolume(m, v);
  v.gone = true;
  for (const waiter of v.waiters) m.fx.answer(waiter.requestId, waiter.check(v) ?? { ok: true, value: { volumeId: v.volumeId } });
  v.waiters = [];
}

function settle(m: Manager, v: Volume, outcome: TransactionOutcome, then: (outcome: ChangeOutcome) => void): void {
  if (outcome.kind === 'unknown') {
    // It may have been made: what it was is read back before anything else is decided.
    readBack(m, () => {
      if (v.gone) return finishWaiters(m, v);
      v.pending = false;
      v.retryAtMs = m.nowMs + m.options.repeatMs;
      m.unsettled.add(v.volumeId);
      then('unknown');
    });
    return;
  }
  v.pending = false;
  if (outcome.kind === 'conflict') takeConflict(m, v, outcome.current);
  m.unsettled.add(v.volumeId);
  if (v.gone) m.unsettled.delete(v.volumeId);
  then(outcome.kind);
}

function takeConflict(m: Manager, v: Volume, current: readonly Parameters<typeof takeRecord>[1][]): void {
  if (current.length === 0) return finishWaiters(m, v);
  for (const stored of current) {
    if (stored.kind === 'volume') takeVolume(m, v.volumeId, completed('volume', stored.value), stored.revision, true);
    else takeRecord(m, stored);
  }
}

function readBack(m: Manager, then: () => void): void {
  m.afterLoad.push(then);
  load(m);
}

/** Asks for all that the store has; the tick asks again until it comes. */
export function load(m: Manager): void {
  m.loadAskedMs = m.nowMs;
  m.fx.load();
}

/** The record with a changed configuration: the epoch is raised here and nowhere else. */
export function reconfigured(record: VolumeRecord, change_: Partial<Omit<Configuration, 'volumeId' | 'epoch'>>): VolumeRecord {
  const configuration = changed(record.configuration, change_);
  const involved = [...configuration.members.map((member) => member.serverId), ...configuration.learners];
  const holders = [...new Set([...record.holders, ...involved])];
  return { ...record, configuration, holders };
}

export function sumUsage(a: Usage, b: Usage): Usage {
  return {
    readBytes: a.readBytes + b.readBytes, writeBytes: a.writeBytes + b.writeBytes, readRequests: a.readRequests + b.readRequests, writeRequests: a.writeRequests + b.writeRequests,
    flushRequests: a.flushRequests + b.flushRequests, failedRequests: a.failedRequests + b.failedRequests, longestStallMs: Math.max(a.longestStallMs, b.longestStallMs),
  };
}
