import { BLOCK_BYTES, EXTENT_BYTES } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import { BlockState } from './blocks.ts';
import type { Disk, DiskError, DiskFile, Pieces } from './disk.ts';
import { ExtentPage } from './extent-page.ts';
import { PAGE_BYTES } from './limits.ts';
import { pageMark, Presence, PresenceMap } from './presence.ts';
import type { PageCache } from './resources.ts';

export const PAGES_FILE = 'extents';
export const PRESENCE_FILE = 'presence';

/** What is known of an extent: its page, or the one thing that holds for all its blocks. */
export type ExtentView = ExtentPage | 'absent' | 'zero' | 'zero-before' | 'corrupt';

/** The settled data: sparse files addressed by volume offset, a page of metadata per extent, and which extents are present. */
export class ExtentStore {
  readonly #disk: Disk;
  readonly #tag: VolumeTag;
  readonly #dataFileBytes: number;
  readonly #cache: PageCache;
  readonly presence: PresenceMap;
  readonly #pages = new Map<number, ExtentPage>();
  readonly #changed = new Set<ExtentPage>();
  readonly #files = new Map<string, DiskFile>();
  readonly #dirty = new Set<DiskFile>();
  /** Files of syncs that have not come to their end. */
  readonly #syncing = new Set<DiskFile>();
  #directoryDirty = false;
  #directorySyncing = false;
  /** Number of the newest round whose pages count. */
  round: number;

  constructor(disk: Disk, tag: VolumeTag, dataFileBytes: number, cache: PageCache, round: number, generations: readonly number[], restarts: number) {
    this.#disk = disk;
    this.#tag = tag;
    this.#dataFileBytes = dataFileBytes;
    this.#cache = cache;
    this.round = round;
    this.presence = new PresenceMap(tag, generations, restarts, () => this.#open(PRESENCE_FILE));
  }

  /** What is known of this extent. A page that cannot be read makes all its blocks corrupt. */
  view(extent: number): ExtentView {
    const loaded = this.#pages.get(extent);
    if (loaded !== undefined) {
      loaded.used = true;
      return loaded;
    }
    const mark = this.presence.get(extent);
    if (mark === 'corrupt') return 'corrupt';
    if (mark === Presence.absent) return 'absent';
    if (mark === Presence.zero) return 'zero';
    if (mark === Presence.zeroBefore) return 'zero-before';
    const page = this.#load(extent, mark);
    if (page === null) return 'corrupt';
    this.#keep(page);
    return page;
  }

  #keep(page: ExtentPage): void {
    this.#pages.set(page.extent, page);
    this.#cache.add(page);
  }

  readonly #dropped = (page: ExtentPage): void => {
    // A changed page stays until it is saved; it is offered to the cache again then.
    if (!page.changed && this.#pages.get(page.extent) === page) this.#pages.delete(page.extent);
  };

  /**
   * The slot whose page belongs to the mark. A page of a round that did not come to its end may carry the same mark as a settled one
   * 252 rounds older; the settled one counts (a round never gives a page the mark of the slot it leaves, see savePage).
   */
  #load(extent: number, mark: number): ExtentPage | null {
    const file = this.#open(PAGES_FILE);
    if (file === null || 'code' in file) return null;
    let best: ExtentPage | null = null;
    for (let slot = 0; slot < 2; slot++) {
      const page = new ExtentPage(extent, this.#dropped);
      if (file.read(page.bytes, (extent * 2 + slot) * PAGE_BYTES) !== null) continue;
      if (!page.intact(this.#tag) || pageMark(page.generation) !== mark || (best !== null && best.generation < page.generation)) continue;
      page.slot = slot;
      best = page;
    }
    return best;
  }

  /**
   * The extent's page, to be changed; made if there is none. Null: the map of extents is damaged there, nothing can be kept.
   * `zeroSeq`: the version of blocks that were zeroed as a whole extent, or the newest that it can be.
   */
  pageToChange(extent: number, lineage: number, zeroSeq: number): ExtentPage | null {
    const view = this.view(extent);
    const page = view instanceof ExtentPage ? view : this.#fresh(extent, view, zeroSeq);
    if (page === null) return null;
    page.adoptLineage(lineage);
    if (!page.changed) {
      page.changed = true;
      this.#changed.add(page);
    }
    return page;
  }

  #fresh(extent: number, view: 'absent' | 'zero' | 'zero-before' | 'corrupt', zeroSeq: number): ExtentPage | null {
    if (this.presence.get(extent) === 'corrupt') return null;
    const page = new ExtentPage(extent, this.#dropped);
    if (view === 'zero') page.fill(BlockState.zero, zeroSeq);
    if (view === 'zero-before') page.fill(BlockState.zero, 0);
    if (view === 'corrupt') page.fill(BlockState.corrupt, 0);
    this.#keep(page);
    return page;
  }

  /** Zeroes an extent as a whole. */
  zeroExtent(extent: number): boolean {
    const page = this.#pages.get(extent);
    if (page !== undefined) {
      page.changed = false;
      this.#changed.delete(page);
      this.#pages.delete(extent);
    }
    return this.presence.set(extent, Presence.zero);
  }

  get changedPages(): readonly ExtentPage[] {
    return [...this.#changed].sort((a, b) => a.extent - b.extent);
  }

  /**
   * Seals a changed page for the slot that the older rounds do not need, and adds it to what `writePages` is to write: its bytes go to `at` of the
   * memory, where there is room for two pages. The bytes that it took.
   */
  sealPage(page: ExtentPage, lineage: number, round: number, memory: Uint8Array, at: number, table: number[]): number {
    const slot = page.slot === 0 ? 1 : 0;
    const generation = page.generation !== 0 && pageMark(page.generation) === pageMark(round) ? round - 1 : round;
    page.seal(this.#tag, lineage, generation);
    memory.set(page.bytes, at);
    // A new page takes both slots: what an earlier life of the extent left in the other one could bear the same mark.
    const fresh = page.slot < 0;
    if (fresh) memory.set(page.bytes, at + PAGE_BYTES);
    page.slot = slot;
    this.presence.set(page.extent, pageMark(generation));
    const bytes = fresh ? 2 * PAGE_BYTES : PAGE_BYTES;
    table.push(at, bytes, (page.extent * 2 + (fresh ? 0 : slot)) * PAGE_BYTES);
    return bytes;
  }

  writePages(pieces: Pieces, done: (error: DiskError | null) => void): DiskError | null {
    return this.#writeLater(PAGES_FILE, pieces, done);
  }

  savePresence(round: number): DiskError | null {
    const file = this.#openOrCreate(PRESENCE_FILE);
    if ('code' in file) return file;
    this.#dirty.add(file);
    return this.presence.write(file, round);
  }

  /** The round is recorded: what it wrote may leave memory. */
  settled(round: number): void {
    this.round = round;
    for (const page of this.#changed) {
      page.changed = false;
      this.#cache.add(page);
    }
    this.#changed.clear();
  }

  /** Reads whole blocks that lie one after another. */
  readBlocks(block: number, into: Uint8Array): DiskError | null {
    const offset = block * BLOCK_BYTES;
    const file = this.#open(this.#dataName(offset));
    if (file === null) return { code: 'ENOENT', message: `${this.#dataName(offset)} is missing` };
    return 'code' in file ? file : file.read(into, offset % this.#dataFileBytes);
  }

  /** Writes whole blocks, in the background, all to the data file of `block`, at the places that `filePosition` gives. Null: `done` follows. */
  writeBlocks(block: number, pieces: Pieces, done: (error: DiskError | null) => void): DiskError | null {
    return this.#writeLater(this.#dataName(block * BLOCK_BYTES), pieces, done);
  }

  /** Where a block lies in its data file. */
  filePosition(block: number): number {
    return (block * BLOCK_BYTES) % this.#dataFileBytes;
  }

  #writeLater(name: string, pieces: Pieces, done: (error: DiskError | null) => void): DiskError | null {
    const file = this.#openOrCreate(name);
    if ('code' in file) return file;
    this.#dirty.add(file);
    file.writeLater(pieces, done);
    return null;
  }

  /** The first block that no run starting at `block` may reach: its data file's end. */
  fileEnd(block: number): number {
    return (Math.floor((block * BLOCK_BYTES) / this.#dataFileBytes) + 1) * (this.#dataFileBytes / BLOCK_BYTES);
  }

  sync(done: (error: DiskError | null) => void): void {
    const files = [...this.#dirty];
    this.#dirty.clear();
    for (const file of files) this.#syncing.add(file);
    let left = files.length + 1;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed ??= error;
      left -= 1;
      if (left > 0) return;
      for (const file of files) this.#syncing.delete(file);
      this.#directorySyncing = false;
      done(failed);
    };
    for (const file of files) file.sync(one);
    if (!this.#directoryDirty) return one(null);
    this.#directoryDirty = false;
    this.#directorySyncing = true;
    this.#disk.syncDirectory(one);
  }

  /** The same, blocking; also what an unfinished sync was to cover. */
  syncNow(): DiskError | null {
    for (const file of new Set([...this.#dirty, ...this.#syncing])) {
      const error = file.syncNow();
      if (error !== null) return error;
    }
    const error = this.#directoryDirty || this.#directorySyncing ? this.#disk.syncDirectoryNow() : null;
    if (error !== null) return error;
    this.#dirty.clear();
    this.#directoryDirty = false;
    return null;
  }

  /** Forgets every extent. The caller saves the empty map of presence. */
  clear(round: number): void {
    for (const page of this.#pages.values()) page.changed = false;
    this.#pages.clear();
    this.#changed.clear();
    this.round = round;
    this.presence.reload([]);
  }

  closeFiles(): void {
    for (const page of this.#pages.values()) page.changed = false;
    this.#pages.clear();
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  #dataName(offsetBytes: number): string {
    return `data-${String(Math.floor(offsetBytes / this.#dataFileBytes)).padStart(4, '0')}`;
  }

  #open(name: string): DiskFile | DiskError | null {
    const known = this.#files.get(name);
    if (known !== undefined) return known;
    const file = this.#disk.open(name);
    if ('code' in file) return file.code === 'ENOENT' ? null : file;
    this.#files.set(name, file);
    return file;
  }

  #openOrCreate(name: string): DiskFile | DiskError {
    const opened = this.#open(name);
    if (opened !== null) return opened;
    const file = this.#disk.create(name);
    if ('code' in file) return file;
    this.#files.set(name, file);
    this.#directoryDirty = true;
    return file;
  }
}

/** How many extents a volume of this size has. */
export function extentCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / EXTENT_BYTES);
}
