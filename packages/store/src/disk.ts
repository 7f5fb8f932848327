/**
 * The port between a copy and the disk below it: a flat directory of files. Calls are synchronous except `sync`, because a cached
 * 4 KiB read or write costs less than handing it to another thread, and except what destaging does in bulk, which nobody waits for (ADR 0004, 0011). Errors are returned, never thrown.
 * Drivers: NodeDisk (packages/storage), MemoryDisk (here, for the simulator and the crash enumerator).
 */
export type DiskErrorCode = 'EIO' | 'ENOSPC' | 'ENOENT' | 'EEXIST';

export interface DiskError {
  readonly code: DiskErrorCode;
  readonly message: string;
}

/** Of two outcomes the one that counts: a disk without room may be tried again, any other failure not. */
export function worse(one: DiskError | null, other: DiskError | null): DiskError | null {
  return one === null || (one.code === 'ENOSPC' && other !== null) ? other : one;
}

/** Pieces of one memory and where in a file they go. Thousands at a time: three numbers each (where it begins in memory, bytes, position) instead of objects. */
export interface Pieces {
  readonly memory: Uint8Array;
  readonly table: readonly number[];
}

export interface DiskFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills `into` from `position`; bytes beyond the end of the file read as zeros. Null, or why nothing can be said about the bytes. */
  read(into: Uint8Array, position: number): DiskError | null;
  /**
   * Writes the buffers one after another at `position`: all of them, or an error, after which any part may have been written.
   * `essential`: frees space or keeps a promise (destaging, trims, cuts, superblocks); a driver may use a reserve for it when the disk is full.
   * `fresh`: it may lie in a hole of the file, so that it needs room though the file does not grow.
   */
  write(buffers: readonly Uint8Array[], position: number, essential: boolean, fresh?: boolean): DiskError | null;
  /**
   * The same for many pieces, in the background where the driver has one: `done` is called later, never before this returns. Until then the bytes
   * belong to the driver, what a read or a power cut finds at these places may be old or new, piece by piece, and a sync covers none of it.
   * Always essential. After an error any part may have been written.
   */
  writeLater(pieces: Pieces, done: (error: DiskError | null) => void): void;
  /** `read` in the background, by the same rules. */
  readLater(into: Uint8Array, position: number, done: (error: DiskError | null) => void): void;
  truncate(sizeBytes: number): DiskError | null;
  /**
   * fdatasync, with the size: covers every write that returned before the call. Once one of a file has failed, those that end later fail too: the
   * system tells of a failed write once, and of a second sync that all is well.
   */
  sync(done: (error: DiskError | null) => void): void;
  /**
   * After a sync that found no room (ENOSPC), whose `done` calls this: later ones count again. The caller has everything that was written since the
   * last good one, and writes it again: what the system still has of it cannot be told.
   */
  writtenAgain(): void;
  /** The same, blocking: at opening and closing, and where an order must be durable before the turn goes on. */
  syncNow(): DiskError | null;
  close(): void;
}

export interface Disk {
  list(): readonly string[];
  /** Opens a file; ENOENT if it is not there. */
  open(name: string): DiskFile | DiskError;
  /** Makes a new, empty file; EEXIST if it is there. It survives a power cut only after syncDirectory. */
  create(name: string): DiskFile | DiskError;
  remove(name: string): DiskError | null;
  syncDirectory(done: (error: DiskError | null) => void): void;
  syncDirectoryNow(): DiskError | null;
  /** Blocks until everything that was begun in the background is over, and has called its `done`. To be called before files are closed. */
  settle(): void;
}
