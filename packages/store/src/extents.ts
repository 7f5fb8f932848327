import { BLOCK_BYTES, EXTENT_BYTES } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import { BlockState } from './blocks.ts';
import { type Disk, type DiskError, type DiskFile, type Pieces, worse } from './disk.ts';
import { ExtentPage } from './extent-page.ts';
import { TILE_BYTES, PAGE_BYTES } from './limits.ts';
import { TILE_BLOCKS, EXTENT_TILES, type FreePlace, PLACES_FILE, Places } from './places.ts';
import { markOfPage, pageMark, Presence, PresenceMap, zeroedMark } from './presence.ts';
import type { TileTable } from './record.ts';
import type { PageCache } from './resources.ts';

export const PAGES_FILE = 'extents';
export const PRESENCE_FILE = 'presence';

/** What is known of an extent: its page, or the one thing that holds for all its blocks. */
export type ExtentView = ExtentPage | 'absent' | 'zero' | 'zero-before' | 'corrupt';

/** Writes to a data file that records of the journal need, and how many of them are on stable storage. */
interface RecordWrites { writes: number; synced: number }

/**
 * The settled data: sparse files of places, a page of metadata per extent, and which extents are present. Blocks in the data files are counted from
 * the first place on; a tile at home has the blocks' numbers in the volume.
 */
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
  /** Files of syncs that have not come to their end, each with the number of the newest one. */
  readonly #syncing = new Map<DiskFile, number>();
  readonly #recordWrites = new Map<DiskFile, RecordWrites>();
  readonly places: Places;
  /** Syncs of rounds: an error that one is told may be of what another that began later was told is stable. */
  #syncs = 0;
  /** What a round's sync that is not over yet has lost. */
  #lost: DiskError | null = null;
  #directoryDirty = false;
  /** The newest sync of the directory that is under way; 0: none. */
  #directorySyncing = 0;
  /** A file was made: a record may lie in it before the next round syncs the directory. */
  readonly #made: () => void;
  /** Number of the newest round whose pages count. */
  round: number;

  constructor(disk: Disk, tag: VolumeTag, dataFileBytes: number, cache: PageCache, round: number, generations: readonly number[], restarts: number, made: () => void) {
    this.#disk = disk;
    this.#tag = tag;
    this.#dataFileBytes = dataFileBytes;
    this.#cache = cache;
    this.round = round;
    this.#made = made;
    this.places = new Places(tag);
    this.presence = new PresenceMap(tag, generations, restarts, () => this.#open(PRESENCE_FILE));
  }

  loadPlaces(generation: number, spares: number): void {
    const file = generation === 0 ? null : this.#open(PLACES_FILE);
    this.places.load(file !== null && 'code' in file ? null : file, generation, spares);
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
    if (mark === Presence.zeroBefore || mark >= Presence.zeroBeforeWithPage) return 'zero-before';
    if (mark === Presence.zero || mark >= Presence.zeroWithPage) return 'zero';
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

  /** The slot whose page bears the mark. That in the other slot bears another one (see sealPage), unless it is the same page. */
  #load(extent: number, mark: number): ExtentPage | null {
    const file = this.#open(PAGES_FILE);
    if (file === null || 'code' in file) return null;
    let found: ExtentPage | null = null;
    let other = 0;
    for (let slot = 0; slot < 2; slot++) {
      const page = new ExtentPage(extent, this.#dropped);
      if (file.read(page.bytes, (extent * 2 + slot) * PAGE_BYTES) !== null || !page.intact(this.#tag)) continue;
      if (pageMark(page.generation) !== mark) {
        other = page.generation;
        continue;
      }
      page.slot = slot;
      found = page;
    }
    if (found !== null) found.otherGeneration = other;
    return found;
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
    const mark = this.presence.get(extent);
    if (mark === 'corrupt') return null;
    // What was zeroed as a whole has kept its places, which others must not take for theirs: nor those of a page that is lost.
    const kept = markOfPage(mark) === 0 ? null : this.#load(extent, markOfPage(mark));
    const page = kept ?? new ExtentPage(extent, this.#dropped);
    if (kept === null && mark >= Presence.page) page.losePlaces();
    if (view === 'zero') page.fill(BlockState.zero, zeroSeq);
    if (view === 'zero-before') page.fill(BlockState.zero, 0);
    if (view === 'corrupt') page.fill(BlockState.corrupt, 0);
    this.#keep(page);
    return page;
  }

  /** Of a page that was sealed and is written once more: its bytes, at `at` of the memory, and again in the second half of `bytes` if it takes both slots. */
  copyPage(page: ExtentPage, bytes: number, memory: Uint8Array, at: number): void {
    for (let copied = 0; copied < bytes; copied += PAGE_BYTES) memory.set(page.bytes, at + copied);
  }

  /** Zeroes an extent as a whole. Its tiles keep their places. */
  zeroExtent(extent: number): boolean {
    const page = this.#pages.get(extent);
    if (page !== undefined) {
      page.changed = false;
      this.#changed.delete(page);
      this.#pages.delete(extent);
    }
    const mark = this.presence.get(extent);
    return mark !== 'corrupt' && this.presence.set(extent, zeroedMark(mark));
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
    // Neither the page that stays nor the one that is overwritten has the new mark: a write that the disk loses must not go unnoticed.
    const taken = [page.generation, page.otherGeneration].map((known) => (known === 0 ? 0 : pageMark(known)));
    let generation = round;
    while (taken.includes(pageMark(generation))) generation += 1;
    page.otherGeneration = page.generation;
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
    const file = this.#openOrCreate(PAGES_FILE);
    if ('code' in file) return file;
    this.#dirty.add(file);
    file.writeLater(pieces, done);
    return null;
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

  /** True if it is known, without reading a page, that nothing was ever settled in this tile's home and that nobody else has it. */
  isHomeUnused(tile: number): boolean {
    const extent = Math.floor(tile / EXTENT_TILES);
    const page = this.#pages.get(extent);
    if (page === undefined) {
      const mark = this.presence.get(extent);
      return mark !== 'corrupt' && mark < Presence.page;
    }
    if (page.place(tile % EXTENT_TILES) !== tile) return false;
    for (let k = 0, i = (tile % EXTENT_TILES) * TILE_BLOCKS; k < TILE_BLOCKS; k++) if (page.state(i + k) !== BlockState.absent) return false;
    return true;
  }

  /** Where a block of an extent lies in the data files. */
  blockAt(page: ExtentPage, i: number): number {
    return page.place(Math.floor(i / TILE_BLOCKS)) * TILE_BLOCKS + (i % TILE_BLOCKS);
  }

  /** Reads whole blocks that lie one after another. */
  readBlocks(block: number, into: Uint8Array): DiskError | null {
    const offset = block * BLOCK_BYTES;
    const file = this.#open(this.#dataName(offset));
    if (file === null) return { code: 'ENOENT', message: `${this.#dataName(offset)} is missing` };
    return 'code' in file ? file : file.read(into, offset % this.#dataFileBytes);
  }

  /** Writes whole blocks, in the background: for each data file (by its number) the pieces that go to it, at the places that `filePosition` gives. Null: `done` follows. */
  writeBlocks(memory: Uint8Array, tables: ReadonlyMap<number, readonly number[]>, done: (error: DiskError | null) => void): DiskError | null {
    const files: { readonly file: DiskFile; readonly table: readonly number[] }[] = [];
    for (const [number, table] of tables) {
      const file = this.#openOrCreate(this.#dataName(number * this.#dataFileBytes));
      if ('code' in file) return file;
      files.push({ file, table });
    }
    let left = files.length;
    let failed: DiskError | null = null;
    for (const { file, table } of files) {
      this.#dirty.add(file);
      file.writeLater({ memory, table }, (error) => {
        failed ??= error;
        left -= 1;
        if (left === 0) done(failed);
      });
    }
    return null;
  }

  /** The number of the data file that a block lies in. */
  fileOf(block: number): number {
    return Math.floor((block * BLOCK_BYTES) / this.#dataFileBytes);
  }

  /** Where a block lies in its data file. */
  filePosition(block: number): number {
    return (block * BLOCK_BYTES) % this.#dataFileBytes;
  }

  /** The first block that no run starting at `block` may reach: its data file's end. */
  fileEnd(block: number): number {
    return (this.fileOf(block) + 1) * (this.#dataFileBytes / BLOCK_BYTES);
  }

  /** Writes the tiles of a record to their places; neighbours with one call. They are stable after `syncRecords`. */
  writeTiles(payload: Uint8Array, tiles: TileTable): DiskError | null {
    for (let from = 0; from < tiles.length;) {
      const place = tiles[from + 1] as number;
      const end = this.fileEnd(place * TILE_BLOCKS);
      let next = from;
      const buffers: Uint8Array[] = [];
      // Room that the copy has already is no reason to say that a disk is full.
      const fresh = this.places.isNew(place);
      for (; next < tiles.length && this.places.isNew(tiles[next + 1] as number) === fresh && tiles[next + 1] === place + (next - from) / 2 && (tiles[next + 1] as number) * TILE_BLOCKS < end; next += 2) {
        const at = tiles[next] as number;
        const adjoins = next > from && at === (tiles[next - 2] as number) + TILE_BYTES;
        const first = adjoins ? (buffers.pop() as Uint8Array) : null;
        buffers.push(payload.subarray(first === null ? at : first.byteOffset - payload.byteOffset, at + TILE_BYTES));
      }
      const file = this.#openOrCreate(this.#dataName(place * TILE_BYTES));
      if ('code' in file) return file;
      const error = file.write(buffers, (place * TILE_BYTES) % this.#dataFileBytes, false, fresh);
      if (error !== null) return error;
      this.#written(file);
      from = next;
    }
    return null;
  }

  #written(file: DiskFile): void {
    const known = this.#recordWrites.get(file);
    if (known === undefined) this.#recordWrites.set(file, { writes: 1, synced: 0 });
    else known.writes += 1;
  }

  /** These tiles were found at opening: nobody knows whether they are stable. */
  found(tiles: TileTable): void {
    for (let k = 1; k < tiles.length; k += 2) {
      const file = this.#open(this.#dataName((tiles[k] as number) * TILE_BYTES));
      if (file !== null && !('code' in file)) this.#written(file);
    }
  }

  /** Makes the tiles of records stable. */
  syncRecords(done: (error: DiskError | null) => void): void {
    const dirty = [...this.#recordWrites].filter(([, known]) => known.writes > known.synced);
    let left = dirty.length + 1;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed ??= error;
      left -= 1;
      if (left === 0) done(failed);
    };
    for (const [file, known] of dirty) {
      const { writes } = known;
      file.sync((error) => {
        if (error === null) known.synced = Math.max(known.synced, writes);
        one(error);
      });
    }
    one(null);
  }

  syncRecordsNow(): DiskError | null {
    for (const [file, known] of this.#recordWrites) {
      if (known.writes === known.synced) continue;
      const error = file.syncNow();
      if (error !== null) return error;
      known.synced = known.writes;
    }
    return null;
  }

  savePlaces(round: number, settled: ReadonlySet<number>, released: readonly FreePlace[]): DiskError | null {
    const file = this.#openOrCreate(PLACES_FILE);
    if ('code' in file) return file;
    this.#dirty.add(file);
    return this.places.save(file, round, settled, released);
  }

  /** Makes stable what rounds wrote. ENOSPC: all of it may be gone, and is to be written again; then it can be tried again. */
  sync(done: (error: DiskError | null) => void): void {
    const files = [...this.#dirty];
    const turn = ++this.#syncs;
    this.#dirty.clear();
    for (const file of files) this.#syncing.set(file, turn);
    let left = files.length + 1;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed = worse(failed, error);
      left -= 1;
      if (left > 0) return;
      for (const file of files) if (this.#syncing.get(file) === turn) this.#syncing.delete(file);
      if (turn === this.#directorySyncing) this.#directorySyncing = 0;
      if (turn === this.#syncs) this.#lost = null;
      done(failed);
    };
    for (const file of files) {
      const synced = this.#recordWrites.get(file)?.synced;
      file.sync((error) => one(error?.code === 'ENOSPC' ? this.#roundsFailure(file, error, turn, synced) : error));
    }
    if (!this.#directoryDirty) return one(null);
    this.#directoryDirty = false;
    this.#directorySyncing = turn;
    this.#disk.syncDirectory((error) => one(error === null ? null : final(error)));
  }

  /** A round writes again what it wrote. Nobody does that with what others were, or would be, told is stable: tiles of records, what a later sync covered. */
  #roundsFailure(file: DiskFile, error: DiskError, turn: number, syncedBefore: number | undefined): DiskError {
    const known = this.#recordWrites.get(file);
    if (turn !== this.#syncs || known?.synced !== syncedBefore || (known !== undefined && known.writes > known.synced)) return final(error);
    this.#lost = error;
    file.writtenAgain();
    return error;
  }

  /** The same, blocking; also what an unfinished sync was to cover. */
  syncNow(): DiskError | null {
    if (this.#lost !== null) return this.#lost;
    this.#syncs += 1;
    for (const file of new Set([...this.#dirty, ...this.#syncing.keys()])) {
      const error = file.syncNow();
      if (error !== null) return error;
    }
    const error = this.#directoryDirty || this.#directorySyncing > 0 ? this.#disk.syncDirectoryNow() : null;
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
    this.places.clear();
  }

  closeFiles(): void {
    for (const page of this.#pages.values()) page.changed = false;
    this.#pages.clear();
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
    this.#recordWrites.clear();
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
    this.#made();
    return file;
  }
}

/** It is not tried again. */
function final(error: DiskError): DiskError {
  return { code: 'EIO', message: error.message };
}

/** How many extents a volume of this size has. */
export function extentCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / EXTENT_BYTES);
}
