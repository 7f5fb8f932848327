import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { AshlarError, type VolumeId } from '@ashlar/words';
import {
  assertTransaction, EVENTS_MAX, type AnyStored, type EventQuery, type EventRecord, type Key, type MetadataStore, type StoreChange, type StoreSnapshot, type Transaction,
  type TransactionOutcome, type VolumeRecord,
} from './core/index.ts';

const FORMAT = 1;
/** Old events are removed after so many new ones, not with each. */
const TRIM_EVERY = 1000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms REAL NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
  CREATE INDEX IF NOT EXISTS events_by_subject ON events (subject, sequence);
`;

interface RecordRow { readonly kind: string; readonly id: string; readonly revision: number; readonly value: string }
interface EventRow { readonly sequence: number; readonly at_ms: number; readonly name: string; readonly subject: string; readonly source: string; readonly reason: string; readonly detail: string }

/** The metadata store in one SQLite file. Every transaction is on stable storage before it is answered (synchronous=FULL). */
export class SqliteStore implements MetadataStore {
  readonly #db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #event: StatementSync;
  readonly #setRevision: StatementSync;
  readonly #listeners = new Set<(change: StoreChange) => void>();
  readonly #eventsMax: number;
  #revision: number;
  #sinceTrim = 0;

  private constructor(db: DatabaseSync, revision: number, eventsMax: number) {
    this.#db = db;
    this.#revision = revision;
    this.#eventsMax = eventsMax;
    this.#get = db.prepare('SELECT kind, id, revision, value FROM records WHERE kind = ? AND id = ?');
    this.#put = db.prepare('INSERT INTO records (kind, id, revision, value) VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, value = excluded.value');
    this.#delete = db.prepare('DELETE FROM records WHERE kind = ? AND id = ?');
    this.#event = db.prepare('INSERT INTO events (at_ms, name, subject, source, reason, detail) VALUES (?, ?, ?, ?, ?, ?)');
    this.#setRevision = db.prepare('UPDATE meta SET revision = ? WHERE id = 1');
  }

  /** Throws `format-unsupported`, `corrupt` or `io-error`. */
  static open(path: string, eventsMax = EVENTS_MAX): SqliteStore {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    let db: DatabaseSync;
    try {
      db = new DatabaseSync(path);
      chmodSync(path, 0o600);
      db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;');
      db.exec(SCHEMA);
      db.prepare('INSERT OR IGNORE INTO meta (id, format, revision) VALUES (1, ?, 0)').run(FORMAT);
    } catch (error) {
      throw new AshlarError('io-error', `the metadata store ${path} cannot be opened`, { path, cause: error });
    }
    const meta = db.prepare('SELECT format, revision FROM meta WHERE id = 1').get() as { format: number; revision: number };
    if (meta.format !== FORMAT) {
      db.close();
      throw new AshlarError('format-unsupported', `the metadata store ${path} has format ${meta.format}; this version knows ${FORMAT}`, { path });
    }
    return new SqliteStore(db, meta.revision, eventsMax);
  }

  transact(transaction: Transaction, done: (outcome: TransactionOutcome) => void): void {
    done(this.#apply(transaction));
  }

  #apply(transaction: Transaction): TransactionOutcome {
    const current = transaction.conditions.map((condition) => this.#read(condition));
    if (!transaction.conditions.every((condition, i) => (current[i]?.revision ?? 0) === condition.revision)) {
      return { kind: 'conflict', current: current.filter((stored) => stored !== undefined) };
    }
    assertTransaction(transaction, (id) => this.#volume(id));
    const revision = this.#revision + 1;
    const puts = transaction.puts.map((put) => ({ ...put, revision }) as AnyStored);
    const events: EventRecord[] = [];
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const put of puts) this.#put.run(put.kind, put.id, revision, JSON.stringify(put.value));
      for (const key of transaction.deletes) this.#delete.run(key.kind, key.id);
      for (const event of transaction.events) {
        const { lastInsertRowid } = this.#event.run(event.atMs, event.name, event.subject, event.source, event.reason, JSON.stringify(event.detail));
        events.push({ ...event, sequence: Number(lastInsertRowid) });
      }
      this.#setRevision.run(revision);
      this.#trim(events.length);
      this.#db.exec('COMMIT');
    } catch (error) {
      // A failed commit may or may not be on the disk: the caller reads back.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw new AshlarError('io-error', 'the metadata store could not be written', { cause: error });
    }
    this.#revision = revision;
    for (const listener of this.#listeners) listener({ revision, puts, deletes: transaction.deletes, events });
    return { kind: 'applied', revision };
  }

  #trim(added: number): void {
    this.#sinceTrim += added;
    if (this.#sinceTrim < TRIM_EVERY) return;
    this.#sinceTrim = 0;
    this.#db.prepare('DELETE FROM events WHERE sequence <= (SELECT MAX(sequence) FROM events) - ?').run(this.#eventsMax);
  }

  #read(key: Key): AnyStored | undefined {
    const row = this.#get.get(key.kind, key.id) as RecordRow | undefined;
    return row === undefined ? undefined : storedOf(row);
  }

  #volume(id: VolumeId): VolumeRecord | undefined {
    const stored = this.#read({ kind: 'volume', id });
    return stored?.kind === 'volume' ? stored.value : undefined;
  }

  load(done: (snapshot: StoreSnapshot | null) => void): void {
    const rows = this.#db.prepare('SELECT kind, id, revision, value FROM records').all() as unknown as RecordRow[];
    done({ revision: this.#revision, records: rows.map(storedOf) });
  }

  events(query: EventQuery, done: (events: readonly EventRecord[] | null) => void): void {
    const order = query.newest === true ? 'DESC' : 'ASC';
    const subject = query.subject ?? null;
    const rows = this.#db.prepare(`SELECT * FROM events WHERE sequence > ? AND (? IS NULL OR subject = ?) ORDER BY sequence ${order} LIMIT ?`)
      .all(query.after, subject, subject, query.max) as unknown as EventRow[];
    if (query.newest === true) rows.reverse();
    done(rows.map(eventOf));
  }

  watch(listener: (change: StoreChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#db.close();
  }
}

function storedOf(row: RecordRow): AnyStored {
  return { kind: row.kind, id: row.id, revision: row.revision, value: JSON.parse(row.value) as unknown } as AnyStored;
}

function eventOf(row: EventRow): EventRecord {
  const { sequence, at_ms: atMs, name, subject, source, reason, detail } = row;
  return { sequence, atMs, name, subject, source, reason, detail: JSON.parse(detail) as EventRecord['detail'] };
}
