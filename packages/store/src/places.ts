import { assert, BLOCK_BYTES, checksum, EXTENT_BYTES } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import type { DiskError, DiskFile } from './disk.ts';
import { TILE_BYTES, PAGE_BYTES, SPARE_PLACES_MAX } from './limits.ts';
import { PlaceQueue } from './place-queue.ts';
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
  readonly free: PlaceQueue;
  readonly spares: number;
  readonly slot: number;
  readonly generation: number;
}

export class Places {
  readonly #tag: VolumeTag;
  /** In the order in which they became free. */
  #free = new PlaceQueue();
  /** Free, and no record ever needed what lies there. */
  #ready: number[] = [];
  /** Spare places made so far. */
  #spares = 0;
  /** Held by records that are not in the extents yet, also by those that were cut off; true if the tile is at home there, which is not for others. */
  readonly #held = new Map<number, boolean>();
  #listed = new Set<number>();
  /** As the superblock names it. */
  #saved: SavedList = { free: new PlaceQueue(), spares: 0, slot: 1, generation: 0 };
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
    this.#saved = { free: new PlaceQueue(), spares, slot: 1, generation };
    for (let slot = 0; slot < 2 && generation > 0 && file !== null; slot++) {
      const free = readList(file, slot, this.#tag, generation);
      if (free !== null) this.#saved = { free, spares, slot, generation };
    }
    this.reset();
  }

  /** Back to what is saved: no record of the journal counts any more. */
  reset(): void {
    this.#held.clear();
    this.#free = this.#saved.free.copy();
    this.#ready = [];
    this.#listed.clear();
    this.#spares = this.#saved.spares;
    this.#saving = null;
  }

  /** Every extent is forgotten: all tiles are at home, and there are no spare places. */
  clear(): void {
    this.#saved = { free: new PlaceQueue(), spares: 0, slot: this.#saved.slot, generation: 0 };
    this.reset();
  }

  /** A record of the journal holds these: found at opening. */
  hold(tiles: TileTable): void {
    for (let k = 1; k < tiles.length; k += 2) {
      const place = tiles[k] as number;
      if (this.#held.has(place)) continue;
      if (this.#listed.size === 0) for (let i = 0; i < this.#saved.free.length; i++) this.#listed.add(this.#saved.free.place(i));
      this.#held.set(place, place < FIRST_SPARE && !this.#listed.has(place));
      if (place >= FIRST_SPARE) this.#spares = Math.max(this.#spares, place - FIRST_SPARE + 1);
    }
  }

  /** All records that were found are held: takes their places out of the list, and into it the spare ones made meanwhile whose records were not found. */
  dropHeld(): void {
    const all = this.#free;
    this.#free = new PlaceQueue();
    for (let k = 0; k < all.length; k++) if (!this.#held.has(all.place(k))) this.#free.push(all.place(k), all.serial(k));
    for (let place = FIRST_SPARE + this.#saved.spares; place < FIRST_SPARE + this.#spares; place++) if (!this.#held.has(place)) this.#ready.push(place);
    this.#listed.clear();
  }

  isHeld(place: number): boolean { return this.#held.has(place); }

  /** True if the disk may have to find room for it. */
  isNew(place: number): boolean { return place < FIRST_SPARE ? this.#held.get(place) === true : place - FIRST_SPARE >= this.#saved.spares; }

  /** True if others may have the place when the records that hold it are settled and no tile has it. */
  returns(place: number): boolean { return this.#held.get(place) === false; }

  takeHome(tile: number): void {
    assert(!this.#held.has(tile), 'a place is taken once');
    this.#held.set(tile, true);
  }

  /** A place that records of segments before `oldestSerial` needed at most, or a new one. NO_PLACE if there are too many. */
  take(oldestSerial: number): number {
    const place = this.#takeFree(oldestSerial);
    if (place === NO_PLACE) return this.#spares < SPARE_PLACES_MAX ? this.takeNew() : NO_PLACE;
    assert(!this.#held.has(place), 'a place is taken once');
    this.#held.set(place, false);
    return place;
  }

  #takeFree(oldestSerial: number): number {
    const ready = this.#ready.pop();
    if (ready !== undefined) return ready;
    if (this.#free.length === 0 || this.#free.serial(0) >= oldestSerial) return NO_PLACE;
    const place = this.#free.place(0);
    this.#free.shift();
    return place;
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
      if (this.returns(place)) this.#ready.push(place);
      this.#held.delete(place);
    }
  }

  /**
   * Writes the list as it is with a round: without what the round gave to tiles, with what they left. `settled`: all that records of the round held.
   * What records behind the round hold is in it: whether these records are still there shows at opening.
   */
  save(file: DiskFile, round: number, settled: ReadonlySet<number>, released: readonly FreePlace[]): DiskError | null {
    const free = new PlaceQueue();
    for (const [place, home] of this.#held) if (!home && !settled.has(place)) free.push(place, 0);
    for (const place of this.#ready) free.push(place, 0);
    for (let k = 0; k < this.#free.length; k++) free.push(this.#free.place(k), this.#free.serial(k));
    for (const { place, serial } of released) free.push(place, serial);
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
    for (const { place, serial } of released) this.#free.push(place, serial);
  }
}

function encode(tag: VolumeTag, generation: number, free: PlaceQueue): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((HEADER_BYTES + free.length * ENTRY_BYTES) / PAGE_BYTES) * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, PLACES_MAGIC, true);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, free.length, true);
  view.setUint32(16, tag.low, true);
  view.setUint32(20, tag.high, true);
  view.setUint32(24, generation, true);
  for (let k = 0; k < free.length; k++) {
    view.setUint32(HEADER_BYTES + k * ENTRY_BYTES, free.place(k), true);
    view.setUint32(HEADER_BYTES + k * ENTRY_BYTES + 4, free.serial(k), true);
  }
  view.setUint32(4, checksum(bytes.subarray(8, HEADER_BYTES + free.length * ENTRY_BYTES)), true);
  return bytes;
}

function readList(file: DiskFile, slot: number, tag: VolumeTag, generation: number): PlaceQueue | null {
  const head = new Uint8Array(HEADER_BYTES);
  if (file.read(head, slot * SLOT_BYTES) !== null) return null;
  const view = new DataView(head.buffer);
  const count = view.getUint32(12, true);
  if (view.getUint32(0, true) !== PLACES_MAGIC || view.getUint32(8, true) !== VERSION || count > 2 * SPARE_PLACES_MAX) return null;
  if (view.getUint32(16, true) !== tag.low || view.getUint32(20, true) !== tag.high || view.getUint32(24, true) !== generation) return null;
  const bytes = new Uint8Array(HEADER_BYTES + count * ENTRY_BYTES);
  if (file.read(bytes, slot * SLOT_BYTES) !== null || checksum(bytes.subarray(8)) !== view.getUint32(4, true)) return null;
  const entries = new DataView(bytes.buffer, HEADER_BYTES);
  return new PlaceQueue(Uint32Array.from({ length: 2 * count }, (_, k) => entries.getUint32(k * 4, true)));
}
