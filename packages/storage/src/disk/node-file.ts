import { closeSync, constants, fdatasync, fdatasyncSync, fstatSync, ftruncateSync, readSync, statfsSync, writeSync, writevSync } from 'node:fs';
import { type DiskError, type DiskFile, type Pieces, worse } from '@ashlar/store';
import { assert } from '@ashlar/words';
import { Background, type BackgroundDone, type BackgroundFailure } from './background.ts';
import { Descriptors, type Holder } from './descriptors.ts';
import { attempt, diskError } from './disk-errors.ts';
import type { Gauge } from './gauge.ts';

/** Free space that only writes which free space or keep promises may use: destaging and trims go on when a disk is full. */
const RESERVE_BYTES = 64 * 2 ** 20;
/** On a small disk the reserve is this part of it. */
const RESERVE_PART = 1 / 20;
/** After so many bytes of growth the free space is asked for again. statfs costs 2 µs. */
const ASK_EVERY_BYTES = 2 ** 20;

/** What a disk has free, asked for now and then. Each copy has its own; they see the same disk. */
export class Space {
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

/** Its jobs in the background can be waited for together. */
export interface JobOwner {
  background: number;
}

/** One file of a copy on one disk. Its descriptor may be closed while nobody needs it. */
export class NodeFile implements DiskFile, Holder {
  readonly name: string;
  readonly #path: string;
  /** -1 while it is given away. */
  #fd: number;
  usedAt = 0;
  /** Writes begun (in the background: ended), and those that a sync has covered. */
  #writes = 0;
  #synced = 0;
  readonly #space: Space;
  readonly #disk: JobOwner;
  readonly #gauge: Gauge;
  #sizeBytes: number;
  /** A sync in the thread pool: the descriptor must not be closed, and used again for another file, under it. */
  #syncing = false;
  /** For the next sync. Linux tells of a failed write once for each descriptor: of two syncs at a time one would be told that all is well. */
  #syncWaiters: ((error: DiskError | null) => void)[] = [];
  /** A sync failed: what the page cache holds since then is not to be trusted. */
  #syncFailed: DiskError | null = null;
  #jobs = 0;
  #closed = false;

  /** Throws what the system says when it cannot be opened. */
  constructor(name: string, path: string, flags: number, space: Space, disk: JobOwner, gauge: Gauge) {
    this.name = name;
    this.#path = path;
    this.#fd = Descriptors.ofThread.open(path, flags);
    this.#space = space;
    this.#disk = disk;
    this.#gauge = gauge;
    this.#sizeBytes = fstatSync(this.#fd).size;
    this.usedAt = Descriptors.ofThread.tick();
    Descriptors.ofThread.add(this);
  }

  get idle(): boolean { return this.#jobs === 0 && !this.#syncing && this.#writes === this.#synced; }

  release(): boolean {
    if (this.#jobs > 0 || this.#syncing || (!this.idle && this.syncNow() !== null)) return false;
    closeSync(this.#fd);
    this.#fd = -1;
    return true;
  }

  #descriptor(): number {
    this.usedAt = Descriptors.ofThread.tick();
    if (this.#fd < 0) {
      this.#fd = Descriptors.ofThread.open(this.#path, constants.O_RDWR);
      Descriptors.ofThread.add(this);
    }
    return this.#fd;
  }

  get sizeBytes(): number { return this.#sizeBytes; }

  read(into: Uint8Array, position: number): DiskError | null {
    if (this.#closed) return { code: 'EIO', message: `read ${this.name}: closed` };
    try {
      const fd = this.#descriptor();
      let done = 0;
      while (done < into.length) {
        const count = readSync(fd, into, done, into.length - done, position + done);
        if (count === 0) break;
        done += count;
      }
      if (done < into.length) into.fill(0, done);
      return null;
    } catch (error) {
      return this.#failure(error);
    }
  }

  /** Of the disk: it is counted. */
  #failure(error: unknown): DiskError {
    const failed = diskError(error);
    this.#gauge.failed(failed);
    return failed;
  }

  write(buffers: readonly Uint8Array[], position: number, essential: boolean, fresh = false): DiskError | null {
    if (this.#closed) return { code: 'EIO', message: `write ${this.name}: closed` };
    let total = 0;
    for (const buffer of buffers) total += buffer.length;
    const growth = position + total - this.#sizeBytes;
    try {
      const needed = fresh ? total : growth;
      if (!essential && needed > 0 && !this.#space.mayGrow(needed)) return { code: 'ENOSPC', message: `write ${this.name}: only the reserve is left` };
      this.#writes += 1;
      this.#writeAll(this.#descriptor(), buffers, position, total);
      if (growth > 0) this.#sizeBytes = position + total;
      return null;
    } catch (error) {
      this.#measure();
      return this.#failure(error);
    }
  }

  /** After a failed write nobody knows how far it came. */
  #measure(): void {
    if (this.#fd >= 0) this.#sizeBytes = Math.max(this.#sizeBytes, fstatSync(this.#fd).size);
  }

  #writeAll(fd: number, buffers: readonly Uint8Array[], position: number, total: number): void {
    // One buffer alone costs a third less this way.
    let written = buffers.length === 1 ? writeSync(fd, buffers[0] as Uint8Array, 0, total, position) : writevSync(fd, buffers as Uint8Array[], position);
    // A write may take less than all: at 2 GiB, or when a disk is about to be full.
    while (written < total) {
      const count = writevSync(fd, behind(buffers, written), position + written);
      if (count === 0) throw Object.assign(new Error(`write ${this.name}: nothing was written`), { code: 'EIO' });
      written += count;
    }
  }

  writeLater(pieces: Pieces, done: (error: DiskError | null) => void): void {
    const { table } = pieces;
    let end = 0;
    for (let k = 0; k < table.length; k += 3) end = Math.max(end, (table[k + 1] as number) + (table[k + 2] as number));
    this.#background('write', pieces, (error) => {
      // Not before: a sync that ends earlier covers none of it.
      this.#writes += 1;
      if (error === null) this.#sizeBytes = Math.max(this.#sizeBytes, end);
      else this.#measure();
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
    const ended: BackgroundDone = (failure) => {
      this.#disk.background -= 1;
      this.#jobs -= 1;
      done(failure === null ? null : this.#failure(failure));
    };
    let fd: number;
    try {
      fd = this.#descriptor();
    } catch (error) {
      return Background.ofThread.fail(this.#disk, error as BackgroundFailure, ended);
    }
    Background.ofThread.begin(this.#disk, { kind, fd, memory: pieces.memory, table: Float64Array.from(pieces.table) }, ended);
  }

  truncate(sizeBytes: number): DiskError | null {
    this.#writes += 1;
    const error = attempt(() => ftruncateSync(this.#descriptor(), sizeBytes));
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
    const writes = this.#writes;
    let fd: number;
    try {
      fd = this.#descriptor();
    } catch (error) {
      for (const done of waiters) done(diskError(error));
      return;
    }
    this.#syncing = true;
    const beganMs = performance.now();
    fdatasync(fd, (error) => {
      this.#syncing = false;
      if (error) this.#failSync(diskError(error));
      else {
        this.#synced = Math.max(this.#synced, writes);
        this.#gauge.synced(performance.now() - beganMs);
      }
      if (this.#closed) closeSync(fd);
      // One of them may say that it writes everything again; the others have not.
      const outcome = this.#syncFailed;
      for (const done of waiters) done(outcome);
      const failed = this.#cannotSync();
      if (failed !== null) for (const done of this.#syncWaiters.splice(0)) done(failed);
      else if (this.#syncWaiters.length > 0 && !this.#syncing) this.#beginSync();
    });
  }

  syncNow(): DiskError | null {
    const error = this.#cannotSync();
    if (error !== null) return error;
    const writes = this.#writes;
    const beganMs = performance.now();
    const failed = attempt(() => fdatasyncSync(this.#descriptor()));
    if (failed !== null) this.#failSync(failed);
    else {
      this.#synced = writes;
      this.#gauge.synced(performance.now() - beganMs);
    }
    return this.#syncFailed;
  }

  writtenAgain(): void {
    if (this.#syncFailed?.code === 'ENOSPC') this.#syncFailed = null;
  }

  #failSync(error: DiskError): void {
    this.#syncFailed = worse(this.#syncFailed, error);
    this.#gauge.syncFailed(error);
  }

  #cannotSync(): DiskError | null {
    return this.#closed ? { code: 'EIO', message: `sync ${this.name}: closed` } : this.#syncFailed;
  }

  close(): void {
    if (this.#closed) return;
    assert(this.#jobs === 0, 'the disk was settled');
    this.#closed = true;
    Descriptors.ofThread.delete(this);
    if (!this.#syncing && this.#fd >= 0) closeSync(this.#fd);
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
