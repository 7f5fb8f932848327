import { assert, BLOCK_BYTES, checksum, EXTENT_BYTES } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import type { DiskError, DiskFile } from './disk.ts';
import { TILE_BYTES, PAGE_BYTES, SPARE_PLACES_MAX } from './limits.ts';
import type { TileTable } from './record.ts';

/**
 * Where tiles may be written: places of the data files that nobody needs. Every place is a tile's (its page says so), or held by a record of the
 * journal, or in this list. Byte by byte in docs/formats/extents.md.
 */
export const PLACES_FILE = 'places';
export const PLACES_MAGIC = 0x4c485341; // "ASHL"
export const TILE_BLOCKS = TILE_BYTES / BLOCK_BYTES;
export const EXTENT_TILES = EXTENT_BYTES / TILE_BYTES;
/** Spare places begin here; those below are homes, one for each tile of a volume. Far beyond the largest volume: 128 TiB. */
export const FIRST_SPARE = 2 ** 31;
/** Of a tile whose page is lost. */
export const NO_PLACE = -1;
const VERSION = 1;
const HEADER_BYTES = 64;
const ENTRY_BYTES = 8;
const SLOT_BYTES = Math.ceil((HEADER_BYTES + 2 * SPARE_PLACES_MAX * ENTRY_BYTES) / PAGE_BYTES) * PAGE_BYTES;

/** A place that its tile has left. */
export interface FreePlace {
  readonly place: number;
  /** Records of segments up to this one may need what lies there, for history. */
  readonly serial: number;
}

/** The list as a round leaves it. */
interface SavedList {
  readonly free: readonly FreePlace[];
  readonly spares: number;
  readonly slot: number;
  readonly generation: number;
}

export class Places {
  readonly #tag: VolumeTag;
  /** In the order in which they became free. */
  #free: FreePlace[] = [];
  #at = 0;
  /** Spare places made so far. */
  #spares = 0;
  /** Held by records that are not in the extents yet, also by those that were cut off; true if the tile is at home there, which is not for others. */
  readonly #held = new Map<number, boolean>();
  #listed = new Set<number>();
  /** As the superblock names it. */
  #saved: SavedList = { free: [], spares: 0, slot: 1, generation: 0 };
  #saving: SavedList | null = null;

  constructor(tag: VolumeTag) {
    this.#tag = tag;
  }

  /** Generation of the list that counts, 0 if none was ever saved; and the spare places that belong to it. */
  get generation(): number { return (this.#saving ?? this.#saved).generation; }
  get spares(): number { return (this.#saving ?? this.#saved).spares; }

  /**
   * Reads the list that the superblock names. If it is damaged its places are lost to the copy, and new spare ones are made: what nobody lists, nobody
   * takes.
   */
  load(file: DiskFile | null, generation: number, spares: number): void {
    this.#saved = { free: [], spares, slot: 1, generation };
    for (let slot = 0; slot < 2 && generation > 0 && file !== null; slot++) {
      const free = readList(file, slot, this.#tag, generation);
      if (free !== null) this.#saved = { free, spares, slot, generation };
    }
    this.reset();
  }

  /** Back to what is saved: no record of the journal counts any more. */
  reset(): void {
    this.#held.clear();
    this.#free = [...this.#saved.free];
    this.#listed.clear();
    this.#at = 0;
    this.#spares = this.#saved.spares;
    this.#saving = null;
  }

  /** Every extent is forgotten: all tiles are at home, and there are no spare places. */
  clear(): void {
    this.#saved = { free: [], spares: 0, slot: this.#saved.slot, generation: 0 };
    this.reset();
  }

  /** A record of the journal holds these: found at opening. */
  hold(tiles: TileTable): void {
    if (tiles.length > 0 && this.#listed.size === 0) this.#listed = new Set(this.#saved.free.map(({ place }) => place));
    for (let k = 1; k < tiles.length; k += 2) {
      const place = tiles[k] as number;
      if (this.#held.has(place)) continue;
      this.#held.set(place, place < FIRST_SPARE && !this.#listed.has(place));
      if (place >= FIRST_SPARE) this.#spares = Math.max(this.#spares, place - FIRST_SPARE + 1);
    }
  }

  /** All records that were found are held: takes their places out of the list, and into it the spare ones made meanwhile whose records were not found. */
  dropHeld(): void {
    if (this.#held.size > 0) this.#free = this.#free.filter(({ place }) => !this.#held.has(place));
    for (let place = FIRST_SPARE + this.#saved.spares; place < FIRST_SPARE + this.#spares; place++) if (!this.#held.has(place)) this.#free.push({ place, serial: 0 });
    this.#listed.clear();
  }

  isHeld(place: number): boolean { return this.#held.has(place); }

  /** True if others may have the place when the records that hold it are settled and no tile has it. */
  returns(place: number): boolean { return this.#held.get(place) === false; }

  takeHome(tile: number): void {
    assert(!this.#held.has(tile), 'a place is taken once');
    this.#held.set(tile, true);
  }

  /** A place that records of segments before `oldestSerial` needed at most, or a new one. NO_PLACE if there are too many. */
  take(oldestSerial: number): number {
    const first = this.#free[this.#at];
    if (first !== undefined && first.serial < oldestSerial) {
      const { place } = first;
      this.#at += 1;
      if (this.#at > 1024 && this.#at * 2 > this.#free.length) {
        this.#free = this.#free.slice(this.#at);
        this.#at = 0;
      }
      assert(!this.#held.has(place), 'a place is taken once');
      this.#held.set(place, false);
      return place;
    }
    return this.#spares < SPARE_PLACES_MAX ? this.takeNew() : NO_PLACE;
  }

  /** For a tile whose page was lost. */
  takeNew(): number {
    const place = FIRST_SPARE + this.#spares++;
    this.#held.set(place, false);
    return place;
  }

  /** No record came to be with these. */
  giveBack(tiles: TileTable): void {
    for (let k = 1; k < tiles.length; k += 2) {
      const place = tiles[k] as number;
      if (this.returns(place)) this.#free.push({ place, serial: 0 });
      this.#held.delete(place);
    }
  }

  /**
   * Writes the list as it is with a round: without what the round gave to tiles, with what they left. `settled`: all that records of the round held.
   * What records behind the round hold is in it: whether these records are still there shows at opening.
   */
  save(file: DiskFile, round: number, settled: ReadonlySet<number>, released: readonly FreePlace[]): DiskError | null {
    const free: FreePlace[] = [];
    for (const [place, home] of this.#held) if (!home && !settled.has(place)) free.push({ place, serial: 0 });
    free.push(...this.#free.slice(this.#at), ...released);
    assert(free.length <= 2 * SPARE_PLACES_MAX, 'the list fits its slot');
    const slot = 1 - this.#saved.slot;
    const error = file.write([encode(this.#tag, round, free)], slot * SLOT_BYTES, true);
    if (error === null) this.#saving = { free, spares: this.#spares, slot, generation: round };
    return error;
  }

  /** The round counts. */
  settled(settled: ReadonlySet<number>, released: readonly FreePlace[]): void {
    if (this.#saving === null) return;
    this.#saved = this.#saving;
    this.#saving = null;
    for (const place of settled) this.#held.delete(place);
    for (const free of released) this.#free.push(free);
  }
}

function encode(tag: VolumeTag, generation: number, free: readonly FreePlace[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((HEADER_BYTES + free.length * ENTRY_BYTES) / PAGE_BYTES) * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, PLACES_MAGIC, true);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, free.length, true);
  view.setUint32(16, tag.low, true);
  view.setUint32(20, tag.high, true);
  view.setUint32(24, generation, true);
  free.forEach(({ place, serial }, k) => {
    view.setUint32(HEADER_BYTES + k * ENTRY_BYTES, place, true);
    view.setUint32(HEADER_BYTES + k * ENTRY_BYTES + 4, serial, true);
  });
  view.setUint32(4, checksum(bytes.subarray(8, HEADER_BYTES + free.length * ENTRY_BYTES)), true);
  return bytes;
}

function readList(file: DiskFile, slot: number, tag: VolumeTag, generation: number): FreePlace[] | null {
  const head = new Uint8Array(HEADER_BYTES);
  if (file.read(head, slot * SLOT_BYTES) !== null) return null;
  const view = new DataView(head.buffer);
  const count = view.getUint32(12, true);
  if (view.getUint32(0, true) !== PLACES_MAGIC || view.getUint32(8, true) !== VERSION || count > 2 * SPARE_PLACES_MAX) return null;
  if (view.getUint32(16, true) !== tag.low || view.getUint32(20, true) !== tag.high || view.getUint32(24, true) !== generation) return null;
  const bytes = new Uint8Array(HEADER_BYTES + count * ENTRY_BYTES);
  if (file.read(bytes, slot * SLOT_BYTES) !== null || checksum(bytes.subarray(8)) !== view.getUint32(4, true)) return null;
  const entries = new DataView(bytes.buffer, HEADER_BYTES);
  return Array.from({ length: count }, (_, k) => ({ place: entries.getUint32(k * ENTRY_BYTES, true), serial: entries.getUint32(k * ENTRY_BYTES + 4, true) }));
}
