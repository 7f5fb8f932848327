import { randomBytes, randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, statfsSync, writeFileSync } from 'node:fs';
import { open, readdir, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { sealJson, unsealJson } from '@ashlar/runtime';
import { AshlarError, type ServerId, type VolumeId } from '@ashlar/words';

const IDENTITY_FILE = 'server.json';
const COPIES = 'copies';
const SCRUBS_FILE = 'scrubs.json';
export const DIRECTORY_FORMAT = 1;
const VOLUME_DIRECTORY = /^vol-[0-9a-f]{17}$/;
/** Of copies that were removed, until their bytes are given back. */
const GONE = 'gone-';
const PIECE_BYTES = 4 * 2 ** 20;
/** What stat counts in. */
const STAT_BLOCK_BYTES = 512;

/** Written once into each directory of a server, so that none is ever taken for another's. docs/formats/directories.md */
interface Identity {
  readonly format: typeof DIRECTORY_FORMAT;
  readonly serverId: string;
  /** Names the set of directories: they belong together. */
  readonly setId: string;
  readonly index: number;
  readonly count: number;
}

const IDENTITY_KEYS = ['format', 'serverId', 'setId', 'index', 'count'] as const satisfies readonly (keyof Identity)[];

/** The directories (one a disk) that hold a server's copies. */
export class Directories {
  readonly paths: readonly string[];
  readonly #onProblem: (what: string, error: unknown) => void;
  #lastSync: Promise<void> = Promise.resolve();
  #nextSync: Promise<void> | null = null;
  #emptying: Promise<void> = Promise.resolve();
  #ending = false;

  private constructor(paths: readonly string[], onProblem: (what: string, error: unknown) => void) {
    this.paths = paths;
    this.#onProblem = onProblem;
    // What the process before did not come to.
    this.#giveBack(Promise.resolve(paths.flatMap((path) => namesIn(path).filter((name) => name.startsWith(GONE)).map((name) => join(path, COPIES, name)))));
  }

  /**
   * Checks that all of them belong to this server, in this order, or claims them if all are empty.
   * Throws `directory-foreign`, `format-unsupported` or `io-error`; nothing was changed then. `onProblem`: what is left of a removed copy could not be removed.
   */
  static open(serverId: ServerId, paths: readonly string[], onProblem: (what: string, error: unknown) => void): Directories {
    const found = paths.map((path) => readIdentity(path));
    const first = found.find((identity) => identity !== null);
    if (first === undefined) {
      const setId = randomUUID();
      paths.forEach((path, index) => claim(path, { format: DIRECTORY_FORMAT, serverId, setId, index, count: paths.length }));
      return new Directories(paths, onProblem);
    }
    // A first start that was ended between two directories has left some of them unclaimed; nothing was stored then.
    const unused = paths.every((path) => namesIn(path).length === 0);
    found.forEach((identity, index) => {
      const path = paths[index] as string;
      if (identity === null && unused && first.serverId === serverId && first.count === paths.length) return claim(path, { ...first, index });
      if (identity === null) throw new AshlarError('directory-foreign', `${path} is empty, but ${first.serverId} has used ${first.count === 1 ? 'a directory' : `${first.count} directories`} before: is a disk not mounted?`, { path });
      if (identity.serverId !== serverId) throw new AshlarError('directory-foreign', `${path} belongs to ${identity.serverId}, not to ${serverId}`, { path });
      if (identity.setId !== first.setId || identity.index !== index || identity.count !== paths.length) {
        throw new AshlarError('directory-foreign', `${path} is directory ${identity.index + 1} of ${identity.count} of a set; it was given as ${index + 1} of ${paths.length}`, { path });
      }
    });
    return new Directories(paths, onProblem);
  }

  volumeIds(): VolumeId[] {
    const names = new Set<string>();
    for (const path of this.paths) for (const name of namesIn(path)) if (VOLUME_DIRECTORY.test(name)) names.add(name);
    return [...names].sort() as VolumeId[];
  }

  /** When each copy was last scrubbed. What is missing or damaged is only scrubbed sooner than it need be. */
  scrubbed(): ReadonlyMap<VolumeId, number> {
    const path = join(this.paths[0] as string, SCRUBS_FILE);
    if (!existsSync(path)) return new Map();
    const found = unsealJson(readFileSync(path, 'utf8'), ['format', 'doneMs']);
    if (found?.['format'] !== 1) return new Map();
    return new Map(Object.entries(found['doneMs'] as Record<VolumeId, number>) as [VolumeId, number][]);
  }

  keepScrubbed(doneMs: ReadonlyMap<VolumeId, number>): void {
    const path = join(this.paths[0] as string, SCRUBS_FILE);
    // Not synced: a turn that is forgotten comes again.
    writeFileSync(`${path}.new`, sealJson({ format: 1, doneMs: Object.fromEntries(doneMs) }), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** One directory a disk for the files of this copy, made if they are not there. */
  copyPaths(volumeId: VolumeId): string[] {
    return this.paths.map((path) => {
      const directory = join(path, COPIES, volumeId);
      if (!existsSync(directory)) {
        mkdirSync(directory, { mode: 0o700 });
        syncDirectory(join(path, COPIES));
      }
      return directory;
    });
  }

  /** True if there is anything of this copy. */
  holds(volumeId: VolumeId): boolean {
    return this.paths.some((path) => existsSync(join(path, COPIES, volumeId)));
  }

  /**
   * Removes what is left of a copy: its name is free at once, `done` is called when it cannot come back, and its bytes are given back behind that. Nothing of it
   * is waited for here: to unlink a file of which much is still being written back takes seconds, in which this thread would serve nobody.
   */
  remove(volumeId: VolumeId, done: () => void = () => undefined): void {
    // No longer than what they are named now: the name must fit into a directory on a full disk.
    const name = `${GONE}${randomBytes(8).toString('hex')}`;
    const gone: string[] = [];
    for (const path of this.paths) {
      if (!existsSync(join(path, COPIES, volumeId))) continue;
      renameSync(join(path, COPIES, volumeId), join(path, COPIES, name));
      gone.push(join(path, COPIES, name));
    }
    const removed = this.#syncCopies().then(() => true, (error: unknown) => {
      this.#onProblem(volumeId, error);
      return false;
    });
    void removed.then((is) => is && done()).catch((error: unknown) => this.#onProblem(`${volumeId}: removed, but nobody was told`, error));
    this.#giveBack(removed.then((is) => (is ? gone : [])));
  }

  /** One at a time; whoever renames meanwhile is covered by the next. */
  #syncCopies(): Promise<void> {
    this.#nextSync ??= this.#lastSync.catch(() => undefined).then(async () => {
      this.#nextSync = null;
      for (const path of this.paths) await syncDirectoryLater(join(path, COPIES));
    });
    this.#lastSync = this.#nextSync;
    return this.#nextSync;
  }

  /** One after the other: syncs need the same pool of threads. What cannot be removed, or not yet when the server ends, is left to its next start. */
  #giveBack(gone: Promise<readonly string[]>): void {
    this.#emptying = Promise.all([this.#emptying, gone]).then(async ([, paths]) => {
      for (const path of paths) await this.#giveBackOne(path).catch((error: unknown) => this.#onProblem(path, error));
    });
  }

  /** Piece by piece: a file system that gives back a quarter of a gigabyte in one go has writes to other files wait for it. */
  async #giveBackOne(path: string): Promise<void> {
    for (const name of await readdir(path)) {
      const { size, blocks } = await stat(join(path, name));
      const pieceBytes = Math.ceil(size / Math.max(1, (blocks * STAT_BLOCK_BYTES) / PIECE_BYTES));
      for (let left = size - pieceBytes; left > 0 && !this.#ending; left -= pieceBytes) await truncate(join(path, name), left);
      if (this.#ending) return;
    }
    await rm(path, { recursive: true, force: true });
  }

  /** The server ends: what is still to be given back is left to its next start. */
  end(): void { this.#ending = true; }

  /** Everything that was removed is given back to the disks. */
  emptied(): Promise<void> { return this.#emptying; }

  space(): { capacityBytes: number; usedBytes: number } {
    let capacityBytes = 0;
    let usedBytes = 0;
    for (const path of this.paths) {
      const stat = statfsSync(path);
      capacityBytes += stat.blocks * stat.bsize;
      usedBytes += (stat.blocks - stat.bavail) * stat.bsize;
    }
    return { capacityBytes, usedBytes };
  }
}

function namesIn(path: string): readonly string[] {
  return existsSync(join(path, COPIES)) ? readdirSync(join(path, COPIES)) : [];
}

function readIdentity(path: string): Identity | null {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const file = join(path, IDENTITY_FILE);
  if (!existsSync(file)) {
    const others = readdirSync(path).filter((name) => name !== 'lost+found' && name !== COPIES && !name.startsWith(IDENTITY_FILE) && !name.startsWith('lock'));
    if (others.length > 0) throw new AshlarError('directory-foreign', `${path} holds other files (${others.slice(0, 3).join(', ')})`, { path });
    return null;
  }
  // What an intact file says was checked before it was written.
  const identity = unsealJson(readFileSync(file, 'utf8'), IDENTITY_KEYS) as Identity | null;
  if (identity === null) throw new AshlarError('directory-foreign', `${file} is damaged: it does not say any more whose directory this is`, { path });
  if (identity.format !== DIRECTORY_FORMAT) throw new AshlarError('format-unsupported', `${file} has format ${String(identity.format)}; this version knows ${DIRECTORY_FORMAT}`, { path });
  return identity;
}

/** First complete under another name, then renamed: an identity is there whole or not at all. */
function claim(path: string, identity: Identity): void {
  mkdirSync(join(path, COPIES), { recursive: true, mode: 0o700 });
  const temporary = join(path, `${IDENTITY_FILE}.new`);
  writeFileSync(temporary, sealJson(identity), { mode: 0o600, flush: true });
  renameSync(temporary, join(path, IDENTITY_FILE));
  syncDirectory(path);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

async function syncDirectoryLater(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
