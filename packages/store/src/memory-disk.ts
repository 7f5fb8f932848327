import { checksum, type Prng } from '@ashlar/words';
import type { Disk, DiskError, DiskErrorCode, DiskFile, Pieces } from './disk.ts';
import { MemoryFileContent, type MemoryImage } from './memory-file.ts';

/** One call that reached the disk, as the recording and the fault hook see it. */
export type DiskOperation =
  | { readonly kind: 'read' | 'write'; readonly file: string; readonly position: number; readonly lengthBytes: number }
  | { readonly kind: 'truncate'; readonly file: string; readonly sizeBytes: number }
  | { readonly kind: 'create' | 'remove' | 'sync'; readonly file: string }
  | { readonly kind: 'sync-directory' };

/**
 * What may go wrong with one operation. `EIO`, `ENOSPC`: it fails, changing nothing (a failed sync loses what it should have kept; one without room at
 * once, so that what was written is not even read any more).
 * `lost`: a write or sync reports success and did nothing. `misdirected`: a write lands one page further. `flip`: one bit arrives wrong.
 */
export type DiskFault = 'EIO' | 'ENOSPC' | 'lost' | 'misdirected' | 'flip';

/** A change of the medium in the order made, for enumerating crash states. `sync` covers the changes before `begun` of its file. */
export type RecordedChange =
  | { readonly kind: 'write'; readonly file: string; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly file: string; readonly sizeBytes: number }
  | { readonly kind: 'create' | 'remove'; readonly file: string }
  | { readonly kind: 'synced'; readonly file: string; readonly begun: number }
  | { readonly kind: 'directory-synced'; readonly begun: number };

interface DirectoryChange { readonly name: string; readonly content: MemoryFileContent | null }

/** A directory in memory that behaves like a disk with a volatile cache. Deterministic: completions of `sync` wait until they are delivered. */
export class MemoryDisk implements Disk {
  readonly #files = new Map<string, MemoryFileContent>();
  #stableFiles = new Map<string, MemoryFileContent>();
  #directoryChanges: DirectoryChange[] = [];
  readonly #completions: (() => void)[] = [];
  /** Work in the background that is not over, oldest first. */
  readonly #background = new Set<() => void>();
  /** Handles opened before a power cut are dead after it. */
  #life = 0;
  #usedBytes = 0;
  /** Asked before each operation. */
  faults: ((operation: DiskOperation) => DiskFault | null) | null = null;
  /** Set to an array to have every change recorded. */
  recording: RecordedChange[] | null = null;
  /** Bytes of all files together (4 KiB pages that were ever written); writes beyond fail with ENOSPC. */
  capacityBytes = Infinity;
  /** Called when a completion was queued: the simulator then decides when it is delivered. */
  onCompletion: (() => void) | null = null;

  /** A disk that holds exactly these files, all of it stable. */
  static fromImages(images: ReadonlyMap<string, MemoryImage>): MemoryDisk {
    const disk = new MemoryDisk();
    for (const [name, image] of images) disk.#files.set(name, new MemoryFileContent(image.clone()));
    disk.#stableFiles = new Map(disk.#files);
    return disk;
  }

  images(): Map<string, MemoryImage> {
    return new Map([...this.#files].map(([name, content]) => [name, content.current.clone()]));
  }

  list(): readonly string[] {
    return [...this.#files.keys()].sort();
  }

  open(name: string): DiskFile | DiskError {
    const content = this.#files.get(name);
    return content === undefined ? failure('ENOENT', `open ${name}`) : this.#handle(name, content);
  }

  create(name: string): DiskFile | DiskError {
    if (this.#files.has(name)) return failure('EEXIST', `create ${name}`);
    const fault = this.faults?.({ kind: 'create', file: name }) ?? null;
    if (fault === 'EIO' || fault === 'ENOSPC') return failure(fault, `create ${name}`);
    const content = new MemoryFileContent();
    this.#files.set(name, content);
    this.#directoryChanges.push({ name, content });
    this.recording?.push({ kind: 'create', file: name });
    return this.#handle(name, content);
  }

  remove(name: string): DiskError | null {
    const content = this.#files.get(name);
    if (content === undefined) return failure('ENOENT', `remove ${name}`);
    const fault = this.faults?.({ kind: 'remove', file: name }) ?? null;
    if (fault === 'EIO') return failure(fault, `remove ${name}`);
    this.#usedBytes -= content.current.pages.size * 4096;
    this.#files.delete(name);
    this.#directoryChanges.push({ name, content: null });
    this.recording?.push({ kind: 'remove', file: name });
    return null;
  }

  syncDirectory(done: (error: DiskError | null) => void): void {
    const begun = this.#directoryChanges.length;
    const life = this.#life;
    const at = this.recording?.length ?? 0;
    this.#queue(() => {
      if (life !== this.#life) return;
      const fault = this.faults?.({ kind: 'sync-directory' }) ?? null;
      if (fault === 'EIO') {
        done(failure('EIO', 'sync directory'));
        return;
      }
      this.#stabilizeDirectory(begun);
      this.recording?.push({ kind: 'directory-synced', begun: at });
      done(null);
    });
  }

  syncDirectoryNow(): DiskError | null {
    if (this.faults?.({ kind: 'sync-directory' }) === 'EIO') return failure('EIO', 'sync directory');
    this.#stabilizeDirectory(this.#directoryChanges.length);
    this.recording?.push({ kind: 'directory-synced', begun: this.recording.length });
    return null;
  }

  settle(): void {
    for (const finish of this.#background) finish();
  }

  get pendingCompletions(): number {
    return this.#completions.length;
  }

  /**
   * Delivers completions, at most `max`, oldest first unless `pick` (which of so many) says otherwise; those queued meanwhile wait for the next
   * call unless `max` reaches them.
   */
  deliver(max = Infinity, pick: (count: number) => number = () => 0): void {
    for (let i = 0; i < max; i++) {
      const [completion] = this.#completions.splice(this.#completions.length > 1 ? pick(this.#completions.length) : 0, 1);
      if (completion === undefined) return;
      completion();
    }
  }

  /** The machine loses power: each unsynced change survives whole, in 512-byte parts or not at all; open handles are dead. */
  powerCut(prng: Prng): void {
    const entries = new Map(this.#stableFiles);
    for (const { name, content } of this.#directoryChanges) {
      if (prng.chance(0.5)) continue;
      if (content === null) entries.delete(name);
      else entries.set(name, content);
    }
    this.#replace(new Map([...entries].map(([name, content]) => [name, new MemoryFileContent(content.afterPowerCut(prng))])));
  }

  /** The process dies, the machine lives: everything written stays, completions are not delivered any more. */
  processCrash(): void {
    this.#life += 1;
    this.#completions.length = 0;
    this.#background.clear();
  }

  /** Flips one bit on the medium, behind everyone's back. */
  flipBit(name: string, position: number, bit: number): void {
    const content = this.#files.get(name);
    if (content === undefined) return;
    const byte = new Uint8Array(1);
    for (const image of [content.current, content.stable]) {
      const size = image.sizeBytes;
      image.read(byte, position);
      byte[0] = (byte[0] as number) ^ (1 << bit);
      image.write(byte, position);
      image.sizeBytes = size;
    }
  }

  /** A digest of names, lengths and bytes, for counting distinct states. Zero pages do not count. */
  fingerprint(): string {
    let low = 0;
    let high = 0;
    for (const [name, content] of this.#files) {
      const seed = checksum(encodeName(`${name}:${content.current.sizeBytes}`));
      low = (low + mix(seed)) | 0;
      high ^= mix(seed ^ 0x55555555);
      for (const [index, page] of content.current.pages) {
        const digest = pageDigest(page);
        if (digest === 0) continue;
        const mixed = mix(seed ^ Math.imul(index + 1, 0x9e3779b1) ^ mix(digest));
        low = (low + mixed) | 0;
        high = (high ^ Math.imul(mixed, 0x85ebca6b)) | 0;
      }
    }
    return `${(low >>> 0).toString(16)}${(high >>> 0).toString(16).padStart(8, '0')}`;
  }

  #replace(files: Map<string, MemoryFileContent>): void {
    this.#life += 1;
    this.#completions.length = 0;
    this.#background.clear();
    this.#directoryChanges = [];
    this.#files.clear();
    this.#usedBytes = 0;
    for (const [name, content] of files) {
      this.#files.set(name, content);
      this.#usedBytes += content.current.pages.size * 4096;
    }
    this.#stableFiles = new Map(this.#files);
  }

  #stabilizeDirectory(count: number): void {
    for (const { name, content } of this.#directoryChanges.splice(0, count)) {
      if (content === null) this.#stableFiles.delete(name);
      else this.#stableFiles.set(name, content);
    }
  }

  #queue(completion: () => void): void {
    this.#completions.push(completion);
    this.onCompletion?.();
  }

  /** Runs `work` when it is delivered, or before that when somebody waits for it. */
  #later(work: () => void): void {
    const finish = (): void => {
      if (this.#background.delete(finish)) work();
    };
    this.#background.add(finish);
    this.#queue(finish);
  }

  #handle(name: string, content: MemoryFileContent): DiskFile {
    const life = this.#life;
    const alive = (): boolean => life === this.#life;
    let syncFailed: DiskError | null = null;
    const syncNow = (upTo: number, at: number): DiskError | null => {
      if (syncFailed !== null) return syncFailed;
      const fault = this.faults?.({ kind: 'sync', file: name }) ?? null;
      if (fault === 'ENOSPC') this.#drop(content, upTo);
      if (fault === 'EIO' || fault === 'ENOSPC') return (syncFailed = failure(fault, `sync ${name}`));
      if (fault !== 'lost') content.stabilize(upTo);
      this.recording?.push({ kind: 'synced', file: name, begun: at });
      return null;
    };
    const read = (into: Uint8Array, position: number): DiskError | null => {
      const fault = this.faults?.({ kind: 'read', file: name, position, lengthBytes: into.length }) ?? null;
      if (fault === 'EIO' || !alive()) return failure('EIO', `read ${name} at ${position}`);
      content.current.read(into, position);
      if (fault === 'flip' && into.length > 0) into[into.length >> 1] = (into[into.length >> 1] as number) ^ 1;
      return null;
    };
    const write = (buffers: readonly Uint8Array[], position: number): DiskError | null => (alive() ? this.#write(name, content, buffers, position) : failure('EIO', `write ${name}`));
    const writeAll = ({ memory, table }: Pieces, from: number, until: number): DiskError | null => {
      for (let k = 3 * from; k < 3 * until; k += 3) {
        const at = table[k] as number;
        const error = write([memory.subarray(at, at + (table[k + 1] as number))], table[k + 2] as number);
        if (error !== null) return error;
      }
      return null;
    };
    return {
      name,
      get sizeBytes() { return content.current.sizeBytes; },
      read,
      write: (buffers, position) => write(buffers, position),
      writeLater: (pieces, done) => {
        // Some of it happens at once, the rest at its end: what comes in between finds both.
        const count = pieces.table.length / 3;
        const half = count >> 1;
        const early = writeAll(pieces, 0, half);
        this.#later(() => { if (alive()) done(early ?? writeAll(pieces, half, count)); });
      },
      readLater: (into, position, done) => this.#later(() => { if (alive()) done(read(into, position)); }),
      truncate: (sizeBytes) => {
        const fault = this.faults?.({ kind: 'truncate', file: name, sizeBytes }) ?? null;
        if (fault === 'EIO' || !alive()) return failure('EIO', `truncate ${name}`);
        this.#usedBytes -= content.current.pages.size * 4096;
        content.change({ sizeBytes });
        this.#usedBytes += content.current.pages.size * 4096;
        this.recording?.push({ kind: 'truncate', file: name, sizeBytes });
        return null;
      },
      sync: (done) => {
        const upTo = content.changes;
        const at = this.recording?.length ?? 0;
        this.#queue(() => { if (alive()) done(syncNow(upTo, at)); });
      },
      writtenAgain: () => { if (syncFailed?.code === 'ENOSPC') syncFailed = null; },
      syncNow: () => (alive() ? syncNow(content.changes, this.recording?.length ?? 0) : failure('EIO', `sync ${name}`)),
      close: () => undefined,
    };
  }

  #drop(content: MemoryFileContent, upTo: number): void {
    const before = content.current.pages.size;
    content.drop(upTo);
    this.#usedBytes += (content.current.pages.size - before) * 4096;
  }

  #write(name: string, content: MemoryFileContent, buffers: readonly Uint8Array[], position: number): DiskError | null {
    const bytes = joined(buffers);
    const fault = this.faults?.({ kind: 'write', file: name, position, lengthBytes: bytes.length }) ?? null;
    if (fault === 'EIO' || fault === 'ENOSPC') return failure(fault, `write ${name} at ${position}`);
    if (fault === 'lost') return null;
    if (fault === 'flip' && bytes.length > 0) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
    const at = fault === 'misdirected' ? position + 4096 : position;
    if (this.capacityBytes !== Infinity && this.#usedBytes + newPages(content, at, bytes.length) * 4096 > this.capacityBytes) return failure('ENOSPC', `write ${name} at ${position}`);
    const before = content.current.pages.size;
    content.change({ position: at, bytes });
    this.#usedBytes += (content.current.pages.size - before) * 4096;
    this.recording?.push({ kind: 'write', file: name, position: at, bytes });
    return null;
  }
}

function failure(code: DiskErrorCode, message: string): DiskError {
  return { code, message: `${code}: ${message}` };
}

function joined(buffers: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(buffers.reduce((sum, buffer) => sum + buffer.length, 0));
  let at = 0;
  for (const buffer of buffers) {
    bytes.set(buffer, at);
    at += buffer.length;
  }
  return bytes;
}

function newPages(content: MemoryFileContent, position: number, lengthBytes: number): number {
  let count = 0;
  for (let index = Math.floor(position / 4096); index * 4096 < position + lengthBytes; index++) if (!content.current.pages.has(index)) count += 1;
  return count;
}

/** File names are ASCII. */
function encodeName(name: string): Uint8Array {
  return Uint8Array.from(name, (character) => character.charCodeAt(0));
}

const ZERO_PAGE = checksum(new Uint8Array(4096));

function pageDigest(page: Uint8Array): number {
  const digest = checksum(page);
  return digest === ZERO_PAGE ? 0 : digest;
}

function mix(value: number): number {
  let z = Math.imul(value ^ (value >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) | 0;
}
