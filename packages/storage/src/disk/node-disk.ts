import { closeSync, constants, existsSync, fdatasync, fsync, fsyncSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readdirSync, readSync, statfsSync, unlinkSync, writeSync, writevSync } from 'node:fs';
import { join } from 'node:path';
import type { Disk, DiskError, DiskErrorCode, DiskFile, Pieces } from '@ashlar/store';
import { assert } from '@ashlar/words';
import { Background, type BackgroundFailure } from './background.ts';
import { StripedFile } from './striped-file.ts';

/** Free space that only writes which free space or keep promises may use: destaging and trims go on when a disk is full. */
const RESERVE_BYTES = 64 * 2 ** 20;
/** On a small disk the reserve is this part of it. */
const RESERVE_PART = 1 / 20;
/** After so many bytes of growth the free space is asked for again. statfs costs 2 µs. */
const ASK_EVERY_BYTES = 2 ** 20;
const STRIPED = /^data-/;

/** The directories (one a disk) of one copy, as the store sees them: one flat directory. Data files are striped over all by extent, the rest lies in the first. */
export class NodeDisk implements Disk {
  readonly #paths: readonly string[];
  readonly #space: Space[];
  /** Jobs in the background. */
  background = 0;

  constructor(paths: readonly string[]) {
    assert(paths.length > 0, 'a copy has at least one directory');
    this.#paths = paths;
    this.#space = paths.map((path) => new Space(path));
  }

  list(): readonly string[] {
    return [...new Set(this.#paths.flatMap((path) => (existsSync(path) ? readdirSync(path) : [])))].sort();
  }

  open(name: string): DiskFile | DiskError {
    // Parts that are missing although others are there were not made before a crash, or are lost: checksums tell which.
    const exists = this.#indexesOf(name).some((at) => existsSync(join(this.#paths[at] as string, name)));
    return exists ? this.#file(name, constants.O_RDWR | constants.O_CREAT) : { code: 'ENOENT', message: `${name} is not there` };
  }

  create(name: string): DiskFile | DiskError {
    return this.#file(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
  }

  #file(name: string, flags: number): DiskFile | DiskError {
    const parts: NodeFile[] = [];
    for (const at of this.#indexesOf(name)) {
      try {
        parts.push(new NodeFile(name, openSync(join(this.#paths[at] as string, name), flags, 0o600), this.#space[at] as Space, this));
      } catch (error) {
        for (const part of parts) part.close();
        return diskError(error);
      }
    }
    return parts.length === 1 ? (parts[0] as NodeFile) : new StripedFile(name, parts);
  }

  remove(name: string): DiskError | null {
    const errors = this.#indexesOf(name).map((at) => attempt(() => unlinkSync(join(this.#paths[at] as string, name))));
    const failed = errors.find((error) => error !== null && error.code !== 'ENOENT') ?? null;
    return failed ?? (errors.includes(null) ? null : (errors[0] as DiskError));
  }

  syncDirectory(done: (error: DiskError | null) => void): void {
    let left = this.#paths.length;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed ??= error;
      left -= 1;
      if (left === 0) done(failed);
    };
    for (const path of this.#paths) syncPath(path, one);
  }

  syncDirectoryNow(): DiskError | null {
    for (const path of this.#paths) {
      const error = attempt(() => {
        const fd = openSync(path, 'r');
        try {
          fsyncSync(fd);
        } finally {
          closeSync(fd);
        }
      });
      if (error !== null) return error;
    }
    return null;
  }

  settle(): void {
    if (this.background > 0) Background.ofThread.settle(this);
    assert(this.background === 0, 'everything has ended');
  }

  #indexesOf(name: string): readonly number[] {
    return STRIPED.test(name) ? this.#paths.map((_, at) => at) : [0];
  }
}

function syncPath(path: string, done: (error: DiskError | null) => void): void {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    done(diskError(error));
    return;
  }
  fsync(fd, (error) => {
    closeSync(fd);
    done(error ? diskError(error) : null);
  });
}

/** What a disk has free, asked for now and then. Each copy has its own; they see the same disk. */
class Space {
  readonly #path: string;
  #untilAsked = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** False if a file may not grow by so many bytes without touching the reserve. */
  mayGrow(bytes: number): boolean {
    this.#untilAsked -= bytes;
    if (this.#untilAsked > 0) return true;
    const stat = statfsSync(this.#path);
    const reserve = Math.min(RESERVE_BYTES, stat.blocks * stat.bsize * RESERVE_PART);
    const free = stat.bavail * stat.bsize - reserve;
    if (free < bytes) {
      this.#untilAsked = 0;
      return false;
    }
    this.#untilAsked = Math.min(ASK_EVERY_BYTES, free);
    return true;
  }
}

class NodeFile implements DiskFile {
  readonly name: string;
  readonly #fd: number;
  readonly #space: Space;
  readonly #disk: NodeDisk;
  #sizeBytes: number;
  /** A sync in the thread pool: the descriptor must not be closed, and used again for another file, under it. */
  #syncing = false;
  /** For the next sync. Linux tells of a failed write once for each descriptor: of two syncs at a time one would be told that all is well. */
  #syncWaiters: ((error: DiskError | null) => void)[] = [];
  /** A sync failed: what the page cache holds since then is not to be trusted. */
  #syncFailed: DiskError | null = null;
  #jobs = 0;
  #closed = false;

  constructor(name: string, fd: number, space: Space, disk: NodeDisk) {
    this.name = name;
    this.#fd = fd;
    this.#space = space;
    this.#disk = disk;
    this.#sizeBytes = fstatSync(fd).size;
  }

  get sizeBytes(): number { return this.#sizeBytes; }

  read(into: Uint8Array, position: number): DiskError | null {
    if (this.#closed) return { code: 'EIO', message: `read ${this.name}: closed` };
    try {
      let done = 0;
      while (done < into.length) {
        const count = readSync(this.#fd, into, done, into.length - done, position + done);
        if (count === 0) break;
        done += count;
      }
      if (done < into.length) into.fill(0, done);
      return null;
    } catch (error) {
      return diskError(error);
    }
  }

  write(buffers: readonly Uint8Array[], position: number, essential: boolean, fresh = false): DiskError | null {
    if (this.#closed) return { code: 'EIO', message: `write ${this.name}: closed` };
    let total = 0;
    for (const buffer of buffers) total += buffer.length;
    const growth = position + total - this.#sizeBytes;
    try {
      const needed = fresh ? total : growth;
      if (!essential && needed > 0 && !this.#space.mayGrow(needed)) return { code: 'ENOSPC', message: `write ${this.name}: only the reserve is left` };
      this.#writeAll(buffers, position, total);
      if (growth > 0) this.#sizeBytes = position + total;
      return null;
    } catch (error) {
      this.#sizeBytes = Math.max(this.#sizeBytes, fstatSync(this.#fd).size);
      return diskError(error);
    }
  }

  #writeAll(buffers: readonly Uint8Array[], position: number, total: number): void {
    // One buffer alone costs a third less this way.
    let written = buffers.length === 1 ? writeSync(this.#fd, buffers[0] as Uint8Array, 0, total, position) : writevSync(this.#fd, buffers as Uint8Array[], position);
    // A write may take less than all: at 2 GiB, or when a disk is about to be full.
    while (written < total) {
      const count = writevSync(this.#fd, behind(buffers, written), position + written);
      if (count === 0) throw Object.assign(new Error(`write ${this.name}: nothing was written`), { code: 'EIO' });
      written += count;
    }
  }

  writeLater(pieces: Pieces, done: (error: DiskError | null) => void): void {
    const { table } = pieces;
    let end = 0;
    for (let k = 0; k < table.length; k += 3) end = Math.max(end, (table[k + 1] as number) + (table[k + 2] as number));
    this.#background('write', pieces, (error) => {
      this.#sizeBytes = Math.max(this.#sizeBytes, error === null ? end : fstatSync(this.#fd).size);
      done(error);
    });
  }

  readLater(into: Uint8Array, position: number, done: (error: DiskError | null) => void): void {
    this.#background('read', { memory: into, table: [0, into.length, position] }, done);
  }

  #background(kind: 'read' | 'write', pieces: Pieces, done: (error: DiskError | null) => void): void {
    assert(!this.#closed && pieces.table.length > 0, 'an open file has something to do');
    this.#disk.background += 1;
    this.#jobs += 1;
    Background.ofThread.begin(this.#disk, { kind, fd: this.#fd, memory: pieces.memory, table: Float64Array.from(pieces.table) }, (failure) => {
      this.#disk.background -= 1;
      this.#jobs -= 1;
      done(failure === null ? null : backgroundError(failure));
    });
  }

  truncate(sizeBytes: number): DiskError | null {
    const error = attempt(() => ftruncateSync(this.#fd, sizeBytes));
    if (error === null) this.#sizeBytes = sizeBytes;
    return error;
  }

  sync(done: (error: DiskError | null) => void): void {
    const error = this.#cannotSync();
    if (error !== null) return done(error);
    this.#syncWaiters.push(done);
    if (!this.#syncing) this.#beginSync();
  }

  #beginSync(): void {
    const waiters = this.#syncWaiters;
    this.#syncWaiters = [];
    this.#syncing = true;
    fdatasync(this.#fd, (error) => {
      this.#syncing = false;
      if (error) this.#syncFailed ??= diskError(error);
      if (this.#closed) closeSync(this.#fd);
      for (const done of waiters) done(this.#syncFailed);
      const failed = this.#cannotSync();
      if (failed !== null) for (const done of this.#syncWaiters.splice(0)) done(failed);
      else if (this.#syncWaiters.length > 0 && !this.#syncing) this.#beginSync();
    });
  }

  syncNow(): DiskError | null {
    const error = this.#cannotSync();
    if (error !== null) return error;
    this.#syncFailed = attempt(() => fdatasyncSync(this.#fd));
    return this.#syncFailed;
  }

  #cannotSync(): DiskError | null {
    return this.#closed ? { code: 'EIO', message: `sync ${this.name}: closed` } : this.#syncFailed;
  }

  close(): void {
    if (this.#closed) return;
    assert(this.#jobs === 0, 'the disk was settled');
    this.#closed = true;
    if (!this.#syncing) closeSync(this.#fd);
  }
}

/** The rest of the buffers after so many bytes. */
function behind(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = bytes;
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(skip === 0 ? buffer : buffer.subarray(skip));
    skip = Math.max(0, skip - buffer.length);
  }
  return rest;
}

function attempt(run: () => void): DiskError | null {
  try {
    run();
    return null;
  } catch (error) {
    return diskError(error);
  }
}

/** Quotas and file size limits are a full disk to us; everything that is not known is a failure of the disk. */
const CODES: Readonly<Record<string, DiskErrorCode>> = { ENOSPC: 'ENOSPC', EDQUOT: 'ENOSPC', EFBIG: 'ENOSPC', ENOENT: 'ENOENT', EEXIST: 'EEXIST' };

function backgroundError({ code, message }: BackgroundFailure): DiskError {
  return { code: CODES[code] ?? 'EIO', message };
}

function diskError(error: unknown): DiskError {
  const { code, message } = error as { code?: string; message?: string };
  return { code: CODES[code ?? ''] ?? 'EIO', message: message ?? String(error) };
}
