import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { ActorLog } from '@ashlar/actor';
import type { EventRecord } from '@ashlar/protocol';
import { AshlarError, type VolumeId } from '@ashlar/words';
import {
  assertTransaction, EVENTS_MAX, isOfTheRoster, type AnyStored, type EventQuery, type Key, type MetadataStore, type Put, type StoreChange, type StoreSnapshot, type Transaction, type TransactionOutcome,
} from './core/metadata-store.ts';
import type { NewEvent, RecordKind, VolumeRecord } from './core/records.ts';

/** Raised with every change of the tables below that an older version could not read. */
export const METADATA_FORMAT = 1;
/** Of 'ASHL': a database of somebody else is not taken for ours. */
const APPLICATION_ID = 0x4153484c;
/** Events beyond the bound are removed in lots of so many, so that not every transaction pays for it. */
const PRUNE_EVERY = 256;
/** Nobody waits for an event, and each commit syncs: those that come alone are committed together. */
const EVENTS_MS = 50;

const SCHEMA = `
  CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
  CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
  );
  CREATE INDEX event_of_subject ON event (subject, sequence);
  CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  INSERT INTO counter VALUES ('revision', 0);
`;

export interface SqliteStoreOptions {
  /** The database file; its directory is made if it is not there. Held by one process at a time, by a lock that the caller takes. */
  readonly path: string;
  readonly log: ActorLog;
  readonly eventsMax?: number;
}

interface RecordRow { readonly kind: string; readonly id: string; readonly revision: number; readonly value: string }
interface EventRow { readonly sequence: number; readonly at_ms: number; readonly name: string; readonly subject: string; readonly source: string; readonly reason: string; readonly detail: string }
/** Carried out inside the open SQL transaction; told when that is committed. */
interface Uncommitted { readonly outcome: TransactionOutcome; readonly change: StoreChange | null; readonly done: (outcome: TransactionOutcome) => void }

/**
 * The metadata store of one machine. `synchronous=FULL` in WAL mode: a transaction is on the disk before `applied` is told. What is asked
 * for in one turn of the loop is committed together, with one sync; events alone wait for others for a moment.
 */
export class SqliteStore implements MetadataStore {
  readonly #database: DatabaseSync;
  readonly #log: ActorLog;
  readonly #eventsMax: number;
  readonly #listeners = new Set<(change: StoreChange) => void>();
  readonly #statements: Statements;
  #uncommitted: Uncommitted[] = [];
  #commit: NodeJS.Immediate | null = null;
  #lateCommit: NodeJS.Timeout | null = null;
  /** The open SQL transaction cannot be committed any more. */
  #failed = false;
  #sincePruned = 0;
  #closed = false;

  private constructor(database: DatabaseSync, { log, eventsMax = EVENTS_MAX }: SqliteStoreOptions) {
    this.#database = database;
    this.#log = log;
    this.#eventsMax = eventsMax;
    this.#statements = new Statements(database);
  }

  /** Throws `format-unsupported`, `directory-foreign` or `io-error`; the file was not changed then. */
  static open(options: SqliteStoreOptions): SqliteStore {
    mkdirSync(dirname(options.path), { recursive: true, mode: 0o700 });
    let database: DatabaseSync | null = null;
    try {
      database = new DatabaseSync(options.path);
      prepare(database, options.path);
      chmodSync(options.path, 0o600);
      return new SqliteStore(database, options);
    } catch (error) {
      database?.close();
      if (error instanceof AshlarError) throw error;
      throw new AshlarError('io-error', `the metadata store ${options.path} cannot be opened`, { path: options.path, cause: error });
    }
  }

  /** A transaction that breaks the rules throws here, at its sender, and changes nothing. */
  transact(transaction: Transaction, done: (outcome: TransactionOutcome) => void): void {
    const { conditions, puts, deletes } = transaction;
    if (conditions.length + puts.length + deletes.length > 0) this.#commit ??= setImmediate(() => this.#flush());
    else this.#lateCommit ??= setTimeout(() => this.#flush(), EVENTS_MS);
    this.#uncommitted.push({ ...this.#attempt(() => this.#apply(transaction)), done });
  }

  restore(revision: number, puts: readonly Put[], events: readonly NewEvent[], done: (outcome: TransactionOutcome) => void): void {
    this.#commit ??= setImmediate(() => this.#flush());
    this.#uncommitted.push({ ...this.#attempt(() => this.#restore(revision, puts, events)), done });
  }

  load(done: (snapshot: StoreSnapshot | null) => void): void {
    // What was asked for before is seen.
    this.#flush();
    done(this.#read(() => ({ revision: this.#statements.revision(), records: this.#statements.records() })));
  }

  events(query: EventQuery, done: (events: readonly EventRecord[] | null) => void): void {
    this.#flush();
    done(this.#read(() => this.#statements.events(query)));
  }

  watch(listener: (change: StoreChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#listeners.clear();
    this.#database.close();
  }

  #read<T>(read: () => T): T | null {
    if (this.#closed) return null;
    try {
      return read();
    } catch (error) {
      this.#log.error({ error }, 'the metadata store cannot be read');
      return null;
    }
  }

  #attempt(apply: () => Omit<Uncommitted, 'done'>): Omit<Uncommitted, 'done'> {
    const unknown = { outcome: { kind: 'unknown' }, change: null } as const;
    if (this.#closed || this.#failed) return unknown;
    try {
      if (!this.#database.isTransaction) this.#database.exec('BEGIN IMMEDIATE');
      return apply();
    } catch (error) {
      if ((error as { name?: unknown }).name === 'Defect') throw error;
      this.#fail(error);
      return unknown;
    }
  }

  /** Nothing of the open SQL transaction stays. */
  #fail(error: unknown): void {
    this.#failed = true;
    this.#log.error({ error }, 'the metadata store cannot be written');
    if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
  }

  #flush(): void {
    if (this.#commit) clearImmediate(this.#commit);
    if (this.#lateCommit) clearTimeout(this.#lateCommit);
    this.#commit = null;
    this.#lateCommit = null;
    if (this.#database.isOpen && this.#database.isTransaction) {
      try {
        this.#prune();
        this.#database.exec('COMMIT');
      } catch (error) {
        this.#fail(error);
      }
    }
    const batch = this.#uncommitted;
    const failed = this.#failed;
    this.#uncommitted = [];
    this.#failed = false;
    for (const { outcome, change, done } of batch) {
      if (change && !failed) for (const listener of this.#listeners) listener(change);
      done(failed ? { kind: 'unknown' } : outcome);
    }
  }

  #apply(transaction: Transaction): Omit<Uncommitted, 'done'> {
    const { conditions, puts, deletes, events } = transaction;
    const held = conditions.every((condition) => (this.#statements.record(condition)?.revision ?? 0) === condition.revision);
    if (!held) {
      const current = conditions.map((condition) => this.#statements.record(condition)).filter((stored) => stored !== undefined);
      return { outcome: { kind: 'conflict', current }, change: null };
    }
    assertTransaction(transaction, (id) => this.#volume(id));
    return this.#write(this.#statements.nextRevision(), puts, deletes, events);
  }

  #restore(revision: number, puts: readonly Put[], events: readonly NewEvent[]): Omit<Uncommitted, 'done'> {
    // Made already, by a call whose answer was lost.
    if (revision <= this.#statements.revision()) return { outcome: { kind: 'conflict', current: [] }, change: null };
    this.#statements.setRevision(revision);
    const kept = new Set(puts.map(({ kind, id }) => `${kind}/${id}`));
    const deletes = this.#statements.records().map(({ kind, id }) => ({ kind, id })).filter((key) => !kept.has(`${key.kind}/${key.id}`) && !isOfTheRoster(key));
    return this.#write(revision, puts, deletes, events);
  }

  #write(revision: number, puts: readonly Put[], deletes: readonly Key[], events: readonly NewEvent[]): Omit<Uncommitted, 'done'> {
    for (const { kind, id, value } of puts) this.#statements.put(kind, id, revision, JSON.stringify(value));
    for (const key of deletes) this.#statements.delete(key);
    const appended = events.map((event) => ({ ...event, sequence: this.#statements.append(event) }));
    return { outcome: { kind: 'applied', revision }, change: { revision, puts: puts.map((put) => ({ ...put, revision }) as AnyStored), deletes, events: appended } };
  }

  #volume(id: VolumeId): VolumeRecord | undefined {
    const stored = this.#statements.record({ kind: 'volume', id });
    return stored?.kind === 'volume' ? stored.value : undefined;
  }

  #prune(): void {
    for (const { change } of this.#uncommitted) this.#sincePruned += change?.events.length ?? 0;
    if (this.#sincePruned < Math.min(PRUNE_EVERY, this.#eventsMax)) return;
    this.#sincePruned = 0;
    this.#statements.prune(this.#eventsMax);
  }
}

function prepare(database: DatabaseSync, path: string): void {
  const pragma = (name: string): number => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0] as number;
  const tables = database.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number };
  if (tables.n > 0 && pragma('application_id') !== APPLICATION_ID) throw new AshlarError('directory-foreign', `${path} is a database of another program`, { path });
  const format = pragma('user_version');
  if (tables.n > 0 && format !== METADATA_FORMAT) throw new AshlarError('format-unsupported', `${path} has format ${format}; this version knows ${METADATA_FORMAT}`, { path });
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  if (tables.n === 0) database.exec(`BEGIN; ${SCHEMA} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${METADATA_FORMAT}; COMMIT;`);
}

/** Every SQL text there is. */
class Statements {
  readonly #revision: StatementSync;
  readonly #nextRevision: StatementSync;
  readonly #setRevision: StatementSync;
  readonly #records: StatementSync;
  readonly #record: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #append: StatementSync;
  readonly #oldest: StatementSync;
  readonly #newest: StatementSync;
  readonly #prune: StatementSync;

  constructor(database: DatabaseSync) {
    const where = 'FROM event WHERE sequence > :after AND (:subject IS NULL OR subject = :subject)';
    this.#revision = database.prepare(`SELECT value FROM counter WHERE name = 'revision'`);
    this.#nextRevision = database.prepare(`UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value`);
    this.#setRevision = database.prepare(`UPDATE counter SET value = ? WHERE name = 'revision'`);
    this.#records = database.prepare('SELECT kind, id, revision, value FROM record');
    this.#record = database.prepare('SELECT kind, id, revision, value FROM record WHERE kind = ? AND id = ?');
    this.#put = database.prepare('INSERT INTO record VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, value = excluded.value');
    this.#delete = database.prepare('DELETE FROM record WHERE kind = ? AND id = ?');
    this.#append = database.prepare('INSERT INTO event (at_ms, name, subject, source, reason, detail) VALUES (?, ?, ?, ?, ?, ?)');
    this.#oldest = database.prepare(`SELECT * ${where} ORDER BY sequence LIMIT :max`);
    this.#newest = database.prepare(`SELECT * FROM (SELECT * ${where} ORDER BY sequence DESC LIMIT :max) ORDER BY sequence`);
    this.#prune = database.prepare('DELETE FROM event WHERE sequence <= (SELECT max(sequence) FROM event) - ?');
  }

  revision(): number { return (this.#revision.get() as { value: number }).value; }
  nextRevision(): number { return (this.#nextRevision.get() as { value: number }).value; }
  setRevision(revision: number): void { this.#setRevision.run(revision); }
  records(): AnyStored[] { return (this.#records.all() as unknown as RecordRow[]).map(storedOf); }

  record({ kind, id }: Key): AnyStored | undefined {
    const row = this.#record.get(kind, id) as RecordRow | undefined;
    return row && storedOf(row);
  }

  put(kind: RecordKind, id: string, revision: number, value: string): void { this.#put.run(kind, id, revision, value); }
  delete({ kind, id }: Key): void { this.#delete.run(kind, id); }

  append({ atMs, name, subject, source, reason, detail }: NewEvent): number {
    return Number(this.#append.run(Math.round(atMs), name, subject, source, reason, JSON.stringify(detail)).lastInsertRowid);
  }

  events({ after, max, newest = false, subject }: EventQuery): EventRecord[] {
    const statement = newest ? this.#newest : this.#oldest;
    const rows = statement.all({ after, max, subject: subject ?? null }) as unknown as EventRow[];
    return rows.map(({ at_ms: atMs, detail, ...row }) => ({ ...row, atMs, detail: JSON.parse(detail) as EventRecord['detail'] }));
  }

  prune(eventsMax: number): void { this.#prune.run(eventsMax); }
}

function storedOf({ kind, id, revision, value }: RecordRow): AnyStored {
  return { kind, id, revision, value: JSON.parse(value) as unknown } as AnyStored;
}
