import type { EventRecord } from '@ashlar/protocol';
import type { VolumeId } from '@ashlar/words';
import {
  assertTransaction, EVENTS_MAX, isOfTheRoster, type AnyStored, type EventQuery, type Key, type MetadataStore, type Put, type StoreChange, type StoreSnapshot, type Transaction, type TransactionOutcome,
} from './metadata-store.ts';
import type { NewEvent, VolumeRecord } from './records.ts';

/** What becomes of one call: carried out and answered; carried out and the answer lost; lost before it arrived. */
export type StoreFate = 'answered' | 'reply-lost' | 'request-lost';

export interface MemoryStoreOptions {
  readonly eventsMax?: number;
  /** Asked once a call. */
  readonly fate?: () => StoreFate;
  /** Runs the call now or later (a simulated network); the default runs it at once. */
  readonly defer?: (run: () => void) => void;
}

const keyOf = (key: Key): string => `${key.kind}/${key.id}`;

/** The store in memory, for tests and the simulator. It outlives the manager that uses it. */
export class MemoryStore implements MetadataStore {
  readonly #records = new Map<string, AnyStored>();
  readonly #listeners = new Set<(change: StoreChange) => void>();
  readonly #options: MemoryStoreOptions;
  #events: EventRecord[] = [];
  #sequence = 0;
  #revision = 0;

  constructor(options: MemoryStoreOptions = {}) {
    this.#options = options;
  }

  transact(transaction: Transaction, done: (outcome: TransactionOutcome) => void): void {
    this.#call(() => this.apply(transaction), { kind: 'unknown' }, done);
  }

  load(done: (snapshot: StoreSnapshot | null) => void): void {
    this.#call(() => this.snapshot(), null, done);
  }

  restore(revision: number, puts: readonly Put[], events: readonly NewEvent[], done: (outcome: TransactionOutcome) => void): void {
    this.#call(() => this.#restore(revision, puts, events), { kind: 'unknown' }, done);
  }

  events(query: EventQuery, done: (events: readonly EventRecord[] | null) => void): void {
    this.#call(() => this.#select(query), null, done);
  }

  watch(listener: (change: StoreChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
  }

  snapshot(): StoreSnapshot {
    return { revision: this.#revision, records: [...this.#records.values()] };
  }

  volume(id: VolumeId): VolumeRecord | undefined {
    const stored = this.#records.get(`volume/${id}`);
    return stored?.kind === 'volume' ? stored.value : undefined;
  }

  /** Goes back to an older state, as when an old backup was restored. */
  rollBack(snapshot: StoreSnapshot): void {
    this.#records.clear();
    for (const stored of snapshot.records) this.#records.set(keyOf(stored), stored);
    this.#revision = snapshot.revision;
  }

  apply(transaction: Transaction): TransactionOutcome {
    const held = transaction.conditions.every((condition) => (this.#records.get(keyOf(condition))?.revision ?? 0) === condition.revision);
    if (!held) return { kind: 'conflict', current: this.#current(transaction) };
    assertTransaction(transaction, (id) => this.volume(id));
    return this.#write(this.#revision + 1, transaction.puts, transaction.deletes, transaction.events);
  }

  #restore(revision: number, puts: readonly Put[], events: readonly NewEvent[]): TransactionOutcome {
    // Made already, by a call whose answer was lost.
    if (revision <= this.#revision) return { kind: 'conflict', current: [] };
    const deletes = [...this.#records.values()].map(({ kind, id }) => ({ kind, id })).filter((key) => !isOfTheRoster(key) && !puts.some((put) => keyOf(put) === keyOf(key)));
    return this.#write(revision, puts, deletes, events);
  }

  #write(revision: number, changed: readonly Put[], deletes: readonly Key[], told: readonly NewEvent[]): TransactionOutcome {
    this.#revision = revision;
    const puts = changed.map((put) => ({ ...put, revision }) as AnyStored);
    for (const put of puts) this.#records.set(keyOf(put), put);
    for (const key of deletes) this.#records.delete(keyOf(key));
    const events = told.map((event) => ({ ...event, sequence: (this.#sequence += 1) }));
    this.#events.push(...events);
    const eventsMax = this.#options.eventsMax ?? EVENTS_MAX;
    if (this.#events.length > eventsMax) this.#events = this.#events.slice(-eventsMax);
    for (const listener of this.#listeners) listener({ revision, puts, deletes, events });
    return { kind: 'applied', revision };
  }

  #current(transaction: Transaction): readonly AnyStored[] {
    return transaction.conditions.map((condition) => this.#records.get(keyOf(condition))).filter((stored) => stored !== undefined);
  }

  #select(query: EventQuery): readonly EventRecord[] {
    const matching = this.#events.filter((event) => event.sequence > query.after && (query.subject === undefined || event.subject === query.subject));
    return query.newest === true ? matching.slice(-query.max) : matching.slice(0, query.max);
  }

  #call<T>(carryOut: () => T, lost: T, done: (result: T) => void): void {
    const defer = this.#options.defer ?? ((run: () => void): void => run());
    defer(() => {
      const fate = this.#options.fate?.() ?? 'answered';
      const result = fate === 'request-lost' ? lost : carryOut();
      defer(() => done(fate === 'answered' ? result : lost));
    });
  }
}
