import { changed, type Configuration, type Usage } from '@ashlar/protocol';
import { assert } from '@ashlar/words';
import type { Transaction, TransactionOutcome } from './metadata-store.ts';
import { completed, type NewEvent, type VolumeRecord } from './records.ts';
import { dropVolume, takeRecord, takeVolume, type Manager, type Volume } from './state.ts';

export type ChangeOutcome = TransactionOutcome['kind'];

/** Runs a transaction; `then` hears its outcome exactly once, unless the manager ends first. */
function transact(m: Manager, transaction: Transaction, then: (outcome: TransactionOutcome) => void): void {
  m.token += 1;
  m.transactions.set(m.token, then);
  m.fx.transact(m.token, transaction);
}

/** Appends events, and records that only this manager writes. Nothing waits for it. */
export function note(m: Manager, events: readonly NewEvent[], puts: Transaction['puts'] = []): void {
  transact(m, { conditions: [], puts, deletes: [], events }, () => undefined);
}

/** Puts a record that only this manager writes. `then` hears whether it is known to be durable. */
export function save(m: Manager, put: Transaction['puts'][number], events: readonly NewEvent[], then: (applied: boolean) => void): void {
  transact(m, { conditions: [], puts: [put], deletes: [], events }, (outcome) => then(outcome.kind === 'applied'));
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
  transact(m, transaction, (outcome) => {
    if (outcome.kind === 'applied') takeVolume(m, v.volumeId, record, outcome.revision);
    settle(m, v, outcome, then);
  });
}

/** Creates a volume's record. */
export function create(m: Manager, record: VolumeRecord, events: readonly NewEvent[], then: (outcome: ChangeOutcome) => void): void {
  const id = record.volumeId;
  const conditions = [{ kind: 'volume', id, revision: 0 }] as const;
  transact(m, { conditions, puts: [{ kind: 'volume', id, value: record }], deletes: [], events }, (outcome) => {
    if (outcome.kind === 'unknown') return readBack(m, () => then('unknown'));
    if (outcome.kind === 'applied') takeVolume(m, id, record, outcome.revision);
    if (outcome.kind === 'conflict') for (const stored of outcome.current) takeRecord(m, stored);
    then(outcome.kind);
  });
}

export function remove(m: Manager, v: Volume, events: readonly NewEvent[]): void {
  v.pending = true;
  const key = { kind: 'volume', id: v.volumeId } as const;
  const deletes = [key, { kind: 'usage', id: v.volumeId } as const];
  transact(m, { conditions: [{ ...key, revision: v.revision }], puts: [], deletes, events }, (outcome) => {
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
