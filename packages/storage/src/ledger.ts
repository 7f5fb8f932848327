import { closeSync, existsSync, fdatasync, fdatasyncSync, fsyncSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { markAfter, mayKeep, type DeletedVolume, type Keep, type KeptRecord, type StoreMark } from '@ashlar/protocol';
import { AshlarError, type ServerId, type VolumeId } from '@ashlar/words';

const FILE = 'ledger.sqlite';
const FORMAT = 1;
/** Deleted volumes remembered, the newest. A copy of one that comes to light after so many other deletions is shown as unknown. */
const DELETED_MAX = 10_000;
/** Those beyond are removed in lots of so many: to find them takes 6 ms, in which this thread serves nobody. */
const PRUNE_EVERY = 256;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS record (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID, STRICT;
  CREATE TABLE IF NOT EXISTS deleted (id TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID, STRICT;
  CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
  PRAGMA user_version = ${FORMAT};
`;

export interface KeepAnswer {
  /** On stable storage now. */
  readonly mark: StoreMark | null;
  readonly taken: boolean;
  readonly failed: boolean;
}

interface Row { readonly id: string; readonly revision: number; readonly text: string }
/** Written, and told when it is stable. */
interface Unstable { readonly mark: StoreMark; readonly done: (answer: KeepAnswer) => void }
type SyncFile = (fd: number, done: (error: Error | null) => void) => void;

/**
 * What a server keeps for the system manager beside its copies (docs/formats/ledger.md): the records of the volumes that it holds copies of, the
 * mark of the metadata store, and which volumes were deleted. One file for all copies, so that a decision costs one sync whatever it concerns, and
 * the opening of copies costs none; and that sync is not waited for by the thread, which serves requests.
 */
export class ServerLedger {
  readonly #database: DatabaseSync;
  /** SQLite's log: there from the first access until the database is closed. Open from the beginning, so that no failed write of it is missed. */
  readonly #log: number;
  readonly #syncLog: SyncFile;
  readonly #upsert: StatementSync;
  readonly #forget: StatementSync;
  readonly #forgetOlder: StatementSync;
  readonly #bury: StatementSync;
  readonly #prune: StatementSync;
  readonly #set: StatementSync;
  /** Written, perhaps not stable yet. */
  #written: StoreMark | null;
  #stable: StoreMark | null;
  /** Since the sync under way began: the next one covers them. */
  #unstable: Unstable[] = [];
  #syncing = false;
  #deletedSincePruned = PRUNE_EVERY;
  /** A failed write is final: what was taken for stable before a second try may be gone. */
  #failed = false;
  #closed = false;

  private constructor(path: string, database: DatabaseSync, syncLog: SyncFile) {
    this.#database = database;
    this.#syncLog = syncLog;
    this.#log = openSync(`${path}-wal`, 'r');
    this.#upsert = database.prepare('INSERT INTO record VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, text = excluded.text WHERE excluded.revision >= revision');
    this.#forget = database.prepare('DELETE FROM record WHERE id = ?');
    this.#forgetOlder = database.prepare('DELETE FROM record WHERE id = ? AND revision < ?');
    this.#bury = database.prepare('INSERT INTO deleted VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision');
    this.#prune = database.prepare('DELETE FROM deleted WHERE id IN (SELECT id FROM deleted ORDER BY revision DESC LIMIT -1 OFFSET ?)');
    this.#set = database.prepare('INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value');
    this.#written = this.#setting<StoreMark>('mark');
    this.#stable = this.#written;
    try {
      // An earlier life may have ended before its last sync.
      fdatasyncSync(this.#log);
    } catch {
      this.#failed = true;
    }
  }

  /** Throws `format-unsupported` if a later version has written it. Changes nothing. */
  static check(directory: string): void {
    const path = join(directory, FILE);
    if (!existsSync(path)) return;
    let database: DatabaseSync | null = null;
    try {
      database = new DatabaseSync(path, { readOnly: true });
      checkFormat(database, path);
    } catch (error) {
      // What cannot be read at all is told by `open`.
      if (error instanceof AshlarError) throw error;
    } finally {
      database?.close();
    }
  }

  /** The caller holds the directory's lock. Throws `format-unsupported` (nothing was changed) or `corrupt`. */
  static open(directory: string, syncLog: SyncFile = fdatasync): ServerLedger {
    const path = join(directory, FILE);
    let database: DatabaseSync | null = null;
    try {
      database = new DatabaseSync(path);
      // Without SQLite's shared memory, for which a full disk has no room: a server must start there.
      database.exec('PRAGMA locking_mode = EXCLUSIVE');
      const format = checkFormat(database, path);
      // NORMAL: SQLite syncs its log when it moves it into the database; each commit is synced by us, without the thread waiting.
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
      if (format < FORMAT) database.exec(SCHEMA);
      const ledger = new ServerLedger(path, database, syncLog);
      syncDirectory(directory);
      return ledger;
    } catch (error) {
      database?.close();
      if (error instanceof AshlarError) throw error;
      throw new AshlarError('corrupt', `${path} cannot be read`, { path, cause: error });
    }
  }

  /** What was heard last: a new manager is to know of it even if the power may still take it back. */
  get mark(): StoreMark | null { return this.#written; }
  get servers(): readonly ServerId[] { return this.#setting<ServerId[]>('servers') ?? []; }

  records(): KeptRecord[] {
    const rows = this.#database.prepare('SELECT id, revision, text FROM record ORDER BY id').all() as unknown as Row[];
    return rows.map(({ id, revision, text }) => ({ volumeId: id as VolumeId, revision, text }));
  }

  deleted(): DeletedVolume[] {
    const rows = this.#database.prepare('SELECT id, revision FROM deleted ORDER BY id').all() as unknown as Row[];
    return rows.map(({ id, revision }) => ({ volumeId: id as VolumeId, revision }));
  }

  /** `done` is called when it is on stable storage, or refused, or cannot be written. */
  keep(keep: Keep, done: (answer: KeepAnswer) => void): void {
    if (this.#failed || this.#closed) return done({ mark: this.#stable, taken: false, failed: true });
    if (!mayKeep(this.#written, keep)) return done({ mark: this.#written, taken: false, failed: false });
    const mark = markAfter(this.#written, keep);
    try {
      this.#write(keep, mark);
    } catch {
      // A full disk, mostly: nothing was changed, and the next may find room.
      return done({ mark: this.#stable, taken: false, failed: true });
    }
    this.#written = mark;
    this.#unstable.push({ mark, done });
    this.#sync();
  }

  /** Its copy was removed. Not synced: a record without a copy means nothing. */
  forget(volumeId: VolumeId): void {
    if (this.#failed || this.#closed) return;
    try {
      this.#forget.run(volumeId);
    } catch {
      // Stays until the next one is kept or forgotten; see above.
    }
  }

  close(): void {
    this.#closed = true;
    if (!this.#syncing) closeSync(this.#log);
    this.#database.close();
  }

  /** One at a time: Linux tells of a failed write once for each descriptor, and only one of two syncs would hear of it. */
  #sync(): void {
    if (this.#syncing || this.#unstable.length === 0) return;
    this.#syncing = true;
    const covered = this.#unstable.splice(0);
    this.#syncLog(this.#log, (error) => {
      this.#syncing = false;
      if (this.#closed) closeSync(this.#log);
      if (error !== null || this.#closed) return this.#fail(covered);
      for (const { mark, done } of covered) {
        this.#stable = mark;
        done({ mark, taken: true, failed: false });
      }
      this.#sync();
    });
  }

  #fail(covered: readonly Unstable[]): void {
    this.#failed = true;
    for (const { done } of [...covered, ...this.#unstable.splice(0)]) done({ mark: this.#stable, taken: false, failed: true });
  }

  #write({ servers, records, deleted }: Keep, mark: StoreMark): void {
    this.#database.exec('BEGIN');
    try {
      // Of another life or cluster than what is here: its revisions say nothing about those.
      for (const { volumeId, revision, text } of records) {
        if (this.#written?.cluster !== mark.cluster) this.#forget.run(volumeId);
        this.#upsert.run(volumeId, revision, text);
      }
      for (const { volumeId, revision } of deleted) {
        this.#bury.run(volumeId, revision);
        // Its last record came after its copy was removed.
        this.#forgetOlder.run(volumeId, revision);
      }
      this.#pruneDeleted(deleted.length);
      this.#set.run('mark', JSON.stringify(mark));
      const known = JSON.stringify(servers);
      if (JSON.stringify(this.servers) !== known) this.#set.run('servers', known);
      this.#database.exec('COMMIT');
    } catch (error) {
      // SQLite has ended the transaction by itself after some errors (a full disk).
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #pruneDeleted(more: number): void {
    if (more === 0) return;
    this.#deletedSincePruned += more;
    if (this.#deletedSincePruned < PRUNE_EVERY) return;
    this.#deletedSincePruned = 0;
    this.#prune.run(DELETED_MAX);
  }

  #setting<T>(name: string): T | null {
    const row = this.#database.prepare('SELECT value FROM setting WHERE name = ?').get(name) as { value: string } | undefined;
    return row === undefined ? null : (JSON.parse(row.value) as T);
  }
}

function checkFormat(database: DatabaseSync, path: string): number {
  const { user_version: format } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (format > FORMAT) throw new AshlarError('format-unsupported', `${path} has format ${format}, this version knows ${FORMAT}`, { path });
  return format;
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
