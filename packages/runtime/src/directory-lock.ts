import { chmodSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { AshlarError } from '@ashlar/words';

const LOCK_FILE = 'lock';

/**
 * One holder a directory, over all processes of the machine. The kernel releases it when the process ends, however it ends, and keeps it while
 * the process is frozen; a pid file does neither. Node has no flock, so it is SQLite's lock on a file of its own, held by an open transaction.
 * Nobody else may open that file: POSIX drops a process's locks when it closes any descriptor of it.
 */
export class DirectoryLock {
  /** Held until released, also if nobody keeps the object. */
  static readonly #held = new Set<DirectoryLock>();
  readonly directory: string;
  readonly #database: DatabaseSync;

  private constructor(directory: string, database: DatabaseSync) {
    this.directory = directory;
    this.#database = database;
  }

  /** Makes the directory (owner only) if it is not there. Throws `directory-locked`. */
  static acquire(directory: string): DirectoryLock {
    const path = resolve(directory);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chmodSync(path, 0o700);
    let database: DatabaseSync | null = null;
    try {
      database = new DatabaseSync(join(path, LOCK_FILE), { timeout: 0 });
      database.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      database?.close();
      if (!isBusy(error)) throw new AshlarError('io-error', `the lock of ${path} cannot be taken`, { path, cause: error });
      throw new AshlarError('directory-locked', `${path} is in use by another process`, { path, cause: error });
    }
    const lock = new DirectoryLock(path, database);
    DirectoryLock.#held.add(lock);
    return lock;
  }

  release(): void {
    if (DirectoryLock.#held.delete(this)) this.#database.close();
  }
}

/** https://www.sqlite.org/rescode.html: SQLITE_BUSY 5, SQLITE_LOCKED 6; the high bytes are details. */
function isBusy(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode ?? 0;
  return (code & 0xff) === 5 || (code & 0xff) === 6;
}
