import type { EventRecord } from '@ashlar/protocol';
import { assert, type VolumeId } from '@ashlar/words';
import type { NewEvent, RecordKind, RecordTypes, VolumeRecord } from './records.ts';

export interface Stored<K extends RecordKind> {
  readonly kind: K;
  readonly id: string;
  /** Revision of the transaction that wrote it. */
  readonly revision: number;
  readonly value: RecordTypes[K];
}
export type AnyStored = { readonly [K in RecordKind]: Stored<K> }[RecordKind];
export type Put = { readonly [K in RecordKind]: { readonly kind: K; readonly id: string; readonly value: RecordTypes[K] } }[RecordKind];

export interface Key {
  readonly kind: RecordKind;
  readonly id: string;
}

/** The record must still be the one of this revision; 0: it must not exist. */
export interface Condition extends Key {
  readonly revision: number;
}

/** All of it or nothing. Every volume that is put or deleted must be named in a condition. */
export interface Transaction {
  readonly conditions: readonly Condition[];
  readonly puts: readonly Put[];
  readonly deletes: readonly Key[];
  readonly events: readonly NewEvent[];
}

export type TransactionOutcome =
  /** It is durable. */
  | { readonly kind: 'applied'; readonly revision: number }
  /** A condition did not hold; nothing was changed. The records that the conditions name, as they are; one that is missing here does not exist. */
  | { readonly kind: 'conflict'; readonly current: readonly AnyStored[] }
  /** No reply. It was applied, or was not, or still may be: read it back, and decide by compare-and-swap only. */
  | { readonly kind: 'unknown' };

export interface StoreSnapshot {
  readonly revision: number;
  readonly records: readonly AnyStored[];
}

export interface EventQuery {
  /** Events with a higher sequence. */
  readonly after: number;
  readonly max: number;
  /** Only the newest `max` of them. */
  readonly newest?: boolean;
  readonly subject?: string;
}

/** Told after a transaction was applied, in the order of revisions. A deleted record comes with value null. */
export interface StoreChange {
  readonly revision: number;
  readonly puts: readonly AnyStored[];
  readonly deletes: readonly Key[];
  readonly events: readonly EventRecord[];
}

/**
 * The metadata store. Contract, checked by the conformance suite (metadata-store-suite.ts):
 * - a transaction is atomic, durable before `applied` is told, and serializable by its conditions;
 * - revisions rise; a record carries the revision of the transaction that wrote it;
 * - a volume's configuration changes only together with its epoch, which rises by exactly one;
 * - `done` is called exactly once, maybe before the call returns, maybe never if the process ends first.
 */
export interface MetadataStore {
  transact(transaction: Transaction, done: (outcome: TransactionOutcome) => void): void;
  /** Everything, as of one revision. Null: no reply. */
  load(done: (snapshot: StoreSnapshot | null) => void): void;
  /**
   * All records are replaced by these, of this revision; a conflict if it is not above every one before. What `ashlar recover` does, and nothing else.
   * Who belongs to the cluster stays as it is: the machine of the manager keeps that beside the store, and takes what is newer.
   */
  restore(revision: number, puts: readonly Put[], events: readonly NewEvent[], done: (outcome: TransactionOutcome) => void): void;
  events(query: EventQuery, done: (events: readonly EventRecord[] | null) => void): void;
  /** Returns what ends it. */
  watch(listener: (change: StoreChange) => void): () => void;
  close(): void;
}

/** Events kept; the oldest go first. 100,000 take about 30 MiB in SQLite. */
export const EVENTS_MAX = 100_000;

const OF_THE_ROSTER: ReadonlySet<RecordKind> = new Set(['cluster', 'machine', 'invite']);

/** True for what a restoration leaves alone. */
export function isOfTheRoster({ kind }: Key): boolean { return OF_THE_ROSTER.has(kind); }

/** A transaction that breaks the store's own rules is a defect of its sender, whatever the conditions say. */
export function assertTransaction(transaction: Transaction, volumeBefore: (id: VolumeId) => VolumeRecord | undefined): void {
  const conditioned = new Set(transaction.conditions.map((condition) => `${condition.kind}/${condition.id}`));
  for (const key of [...transaction.puts, ...transaction.deletes]) {
    assert(key.kind !== 'volume' || conditioned.has(`volume/${key.id}`), `volume ${key.id} is changed without a condition`);
  }
  for (const put of transaction.puts) {
    if (put.kind === 'volume') assertVolumeChange(volumeBefore(put.value.volumeId), put.value);
  }
}

function assertVolumeChange(before: VolumeRecord | undefined, after: VolumeRecord): void {
  assert(after.configuration.members.length > 0, 'a configuration without members');
  if (before === undefined) {
    assert(after.configuration.epoch === 1, 'a volume begins with epoch 1');
    return;
  }
  const same = JSON.stringify(before.configuration) === JSON.stringify(after.configuration);
  const raised = after.configuration.epoch === before.configuration.epoch + 1;
  assert(same || raised, `epoch ${before.configuration.epoch} → ${after.configuration.epoch}: every change of a configuration raises the epoch by one`);
  assert(after.configuration.attachNumber >= before.configuration.attachNumber, 'the attach number never goes back');
}
