import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { nextReservation, type Reservation } from '@ashlar/attachment';
import type { AttachmentSpec, Configuration, Usage } from '@ashlar/protocol';
import { assert, AshlarError, type VolumeId } from '@ashlar/words';
import { NO_USAGE } from './usage.ts';

const FILE = 'host.sqlite';
export const HOST_FORMAT = 1;

/** What outlives the host's process, of one attachment. */
export interface SavedAttachment {
  readonly name: string;
  readonly spec: AttachmentSpec;
  /** The newest that was saved; a hint, since a newer one may be known elsewhere. */
  readonly configuration: Configuration;
  readonly reservation: Reservation;
  /** Of the lives before. */
  readonly usage: Usage;
}

/**
 * The host's attachments on disk (docs/formats/host.md). What may never be forgotten (that there is an attachment, the numbers it has used) is on
 * stable storage when the call returns; newer configurations and figures are kept for `saveLater`.
 */
export class HostState {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #saved = new Map<string, SavedAttachment>();
  /** Names of a volume's attachments. */
  readonly #ofVolume = new Map<VolumeId, Set<string>>();
  readonly #dirty = new Set<string>();
  /** Numbers for their next life are reserved already. */
  readonly #begun = new Set<string>();
  readonly #put: StatementSync;

  private constructor(path: string, database: DatabaseSync) {
    this.#path = path;
    this.#database = database;
    database.exec(`
      CREATE TABLE IF NOT EXISTS attachment (name TEXT PRIMARY KEY, spec TEXT NOT NULL, configuration TEXT NOT NULL,
        restart_count INTEGER NOT NULL, session_count INTEGER NOT NULL, usage TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
      PRAGMA user_version = ${HOST_FORMAT};
    `);
    this.#put = database.prepare(`
      INSERT INTO attachment (name, spec, configuration, restart_count, session_count, usage) VALUES (?, ?, ?, ?, ?, ?)
      ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, configuration = excluded.configuration,
        restart_count = excluded.restart_count, session_count = excluded.session_count, usage = excluded.usage
    `);
    for (const row of database.prepare('SELECT * FROM attachment ORDER BY name').all()) {
      const saved = fromRow(row as unknown as Row);
      this.#keep(saved);
    }
  }

  /** The caller holds the directory's lock. Throws `format-unsupported` (nothing was changed) or `corrupt`. */
  static open(directory: string): HostState {
    const path = join(directory, FILE);
    let database: DatabaseSync | null = null;
    try {
      database = new DatabaseSync(path);
      // Before the journal mode is set: that would change the file of a later version, or leave others beside it.
      const { user_version: format } = database.prepare('PRAGMA user_version').get() as { user_version: number };
      if (format > HOST_FORMAT) throw new AshlarError('format-unsupported', `${path} has format ${format}, this version knows ${HOST_FORMAT}`, { path });
      // WAL with FULL: each commit is one append and one fdatasync, and is stable when it returns.
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      return new HostState(path, database);
    } catch (error) {
      database?.close();
      throw asAshlarError(error, path);
    }
  }

  all(): readonly SavedAttachment[] { return [...this.#saved.values()]; }
  get(name: string): SavedAttachment | undefined { return this.#saved.get(name); }
  ofVolume(volumeId: VolumeId): readonly SavedAttachment[] { return [...(this.#ofVolume.get(volumeId) ?? [])].map((name) => this.#known(name)); }

  /** A new attachment, or the same again with other limits, with numbers for its next life. Stable when it returns. */
  attach(name: string, spec: AttachmentSpec, configuration: Configuration): void {
    const known = this.#saved.get(name);
    const same = known?.spec.attachNumber === spec.attachNumber ? known : undefined;
    this.#save({ name, spec, configuration, reservation: nextReservation(same?.reservation ?? null), usage: same?.usage ?? NO_USAGE });
    this.#begun.add(name);
  }

  /** Reserves numbers for the next life of every attachment, in one durable write: the host starts, and there may be a thousand. */
  beginAll(): void {
    this.#together([...this.#saved.values()].map((saved) => ({ ...saved, reservation: nextReservation(saved.reservation) })));
    for (const name of this.#saved.keys()) this.#begun.add(name);
  }

  /** Before a life of the attachment begins. Stable when it returns. */
  beginLife(name: string): SavedAttachment {
    const saved = this.#known(name);
    return this.#begun.delete(name) ? saved : this.#save({ ...saved, reservation: nextReservation(saved.reservation) });
  }

  /** Stable when it returns. */
  reserve(name: string, reservation: Reservation): void {
    this.#save({ ...this.#known(name), reservation });
  }

  /** Stable when it returns. */
  detach(name: string): void {
    this.#change(() => this.#database.prepare('DELETE FROM attachment WHERE name = ?').run(name));
    const { volumeId } = this.#known(name).spec;
    this.#saved.delete(name);
    const names = this.#ofVolume.get(volumeId);
    names?.delete(name);
    if (names?.size === 0) this.#ofVolume.delete(volumeId);
    this.#dirty.delete(name);
    this.#begun.delete(name);
  }

  #keep(saved: SavedAttachment): void {
    const { volumeId } = saved.spec;
    this.#saved.set(saved.name, saved);
    const names = this.#ofVolume.get(volumeId);
    if (names) names.add(saved.name);
    else this.#ofVolume.set(volumeId, new Set([saved.name]));
  }

  /** Kept in memory until `saveLater`. */
  change(name: string, change: Partial<Pick<SavedAttachment, 'spec' | 'configuration' | 'usage'>>): void {
    this.#saved.set(name, { ...this.#known(name), ...change });
    this.#dirty.add(name);
  }

  get dirty(): boolean { return this.#dirty.size > 0; }

  /** Everything that was changed, in one transaction. */
  saveChanged(): void {
    this.#together([...this.#dirty].map((name) => this.#known(name)));
  }

  /** The TCP port that was given out, so that it is the same after a restart; 0: none yet. */
  get tcpPort(): number {
    const row = this.#database.prepare(`SELECT value FROM setting WHERE name = 'tcp-port'`).get() as { value: number } | undefined;
    return row?.value ?? 0;
  }
  set tcpPort(port: number) {
    const statement = this.#database.prepare(`INSERT INTO setting (name, value) VALUES ('tcp-port', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`);
    this.#change(() => statement.run(port));
  }

  /** As a full disk would. */
  limitPagesForTests(pages: number): void {
    this.#database.exec(`PRAGMA max_page_count = ${pages}`);
  }

  close(): void {
    this.saveChanged();
    this.#database.close();
  }

  #known(name: string): SavedAttachment {
    const saved = this.#saved.get(name);
    assert(saved !== undefined, 'the attachment was saved before');
    return saved;
  }

  #save(saved: SavedAttachment): SavedAttachment {
    this.#change(() => this.#write(saved));
    return this.#remember(saved);
  }

  /** All or none, in one durable write. */
  #together(changed: readonly SavedAttachment[]): void {
    if (changed.length === 0) return;
    this.#change(() => {
      this.#database.exec('BEGIN');
      try {
        for (const saved of changed) this.#write(saved);
        this.#database.exec('COMMIT');
      } catch (error) {
        // SQLite has ended the transaction by itself after some errors (a full disk).
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    });
    for (const saved of changed) this.#remember(saved);
  }

  #remember(saved: SavedAttachment): SavedAttachment {
    this.#keep(saved);
    this.#dirty.delete(saved.name);
    return saved;
  }

  #change(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw asAshlarError(error, this.#path);
    }
  }

  #write({ name, spec, configuration, reservation, usage }: SavedAttachment): void {
    this.#put.run(name, JSON.stringify(spec), JSON.stringify(configuration), reservation.restartCount, reservation.sessionCount, JSON.stringify(usage));
  }
}

/** https://www.sqlite.org/rescode.html: the low byte is the primary code. */
const SQLITE_IOERR = 10;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;

function asAshlarError(error: unknown, path: string): unknown {
  if (error instanceof AshlarError) return error;
  switch (((error as { errcode?: number }).errcode ?? 0) & 0xff) {
    case SQLITE_FULL: return new AshlarError('no-space', `${path} cannot be written: the disk is full`, { path, cause: error, retry: 'later' });
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return new AshlarError('io-error', `${path} cannot be read or written`, { path, cause: error });
    default: return new AshlarError('corrupt', `${path} cannot be read`, { path, cause: error });
  }
}

interface Row {
  readonly name: string;
  readonly spec: string;
  readonly configuration: string;
  readonly restart_count: number;
  readonly session_count: number;
  readonly usage: string;
}

function fromRow(row: Row): SavedAttachment {
  return {
    name: row.name, spec: JSON.parse(row.spec) as AttachmentSpec, configuration: JSON.parse(row.configuration) as Configuration,
    reservation: { restartCount: row.restart_count, sessionCount: row.session_count }, usage: JSON.parse(row.usage) as Usage,
  };
}
