import { checksum, EXTENT_BLOCKS } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import type { BlockState } from './blocks.ts';
import type { Cached } from './resources.ts';
import { PAGE_BYTES } from './limits.ts';
import { EXTENT_TILES, NO_PLACE } from './places.ts';

/**
 * The metadata of one extent: state, checksum and version of its 256 blocks in one page, bound to its place by the page's own checksum.
 * Two slots on disk per extent are written in turn, so that a torn page never costs the older one. Byte by byte in docs/formats/extents.md.
 */
export const PAGE_MAGIC = 0x50485341; // "ASHP"
const VERSION = 2;
const HIGH = 0x100000000;
const STATES_AT = 64;
const CRCS_WORD = (STATES_AT + EXTENT_BLOCKS) / 4;
const SEQ_LOW_WORD = CRCS_WORD + EXTENT_BLOCKS;
const SEQ_HIGH_HALF = (SEQ_LOW_WORD + EXTENT_BLOCKS) * 2;
const PLACES_WORD = SEQ_LOW_WORD + EXTENT_BLOCKS + EXTENT_BLOCKS / 2;
/** What the page says of a tile that has no place. At home: 0. */
const NOWHERE = 0xffffffff;

export class ExtentPage implements Cached {
  readonly extent: number;
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #dropped: (page: ExtentPage) => void;
  used = true;
  /** Slot that holds this content on disk; -1: none does. */
  slot = -1;
  /** Generation of the page in the other slot; 0: not known. */
  otherGeneration = 0;
  /** What it says was not written to its slot yet, or not synced: the cache must keep it. */
  changed = false;

  constructor(extent: number, dropped: (page: ExtentPage) => void, bytes: Uint8Array = new Uint8Array(PAGE_BYTES)) {
    this.extent = extent;
    this.bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, PAGE_BYTES / 4);
    this.#halves = new Uint16Array(bytes.buffer, bytes.byteOffset, PAGE_BYTES / 2);
    this.#dropped = dropped;
  }

  drop(): void { this.#dropped(this); }

  get generation(): number { return (this.#words[9] as number) * HIGH + (this.#words[8] as number); }
  get lineage(): number { return this.#words[6] as number; }

  state(i: number): BlockState { return this.bytes[STATES_AT + i] as BlockState; }
  crc(i: number): number { return this.#words[CRCS_WORD + i] as number; }
  seq(i: number): number { return (this.#halves[SEQ_HIGH_HALF + i] as number) * HIGH + (this.#words[SEQ_LOW_WORD + i] as number); }

  /** Where a tile (0..15) lies; NO_PLACE if that is lost. */
  place(tile: number): number {
    const word = this.#words[PLACES_WORD + tile] as number;
    return word === 0 ? this.extent * EXTENT_TILES + tile : word === NOWHERE ? NO_PLACE : word - 1;
  }

  setPlace(tile: number, place: number): void {
    this.#words[PLACES_WORD + tile] = place === this.extent * EXTENT_TILES + tile ? 0 : place + 1;
  }

  losePlaces(): void {
    this.#words.fill(NOWHERE, PLACES_WORD, PLACES_WORD + EXTENT_TILES);
  }

  set(i: number, state: BlockState, crc: number, seq: number): void {
    this.bytes[STATES_AT + i] = state;
    this.#words[CRCS_WORD + i] = crc;
    this.#words[SEQ_LOW_WORD + i] = seq >>> 0;
    this.#halves[SEQ_HIGH_HALF + i] = Math.floor(seq / HIGH);
  }

  fill(state: BlockState, seq: number): void {
    for (let i = 0; i < EXTENT_BLOCKS; i++) this.set(i, state, 0, seq);
  }

  /** Versions are compared only within a lineage: those of an older one become "not known". */
  adoptLineage(lineage: number): void {
    if (this.lineage === lineage) return;
    for (let i = 0; i < EXTENT_BLOCKS; i++) this.set(i, this.state(i), this.crc(i), 0);
    this.#words[6] = lineage;
  }

  seal(tag: VolumeTag, lineage: number, generation: number): void {
    this.#words[0] = PAGE_MAGIC;
    this.#words[2] = VERSION;
    this.#words[4] = tag.low;
    this.#words[5] = tag.high;
    this.#words[6] = lineage;
    this.#words[7] = this.extent;
    this.#words[8] = generation >>> 0;
    this.#words[9] = Math.floor(generation / HIGH);
    this.#words[1] = checksum(this.bytes.subarray(8));
  }

  intact(tag: VolumeTag): boolean {
    const words = this.#words;
    return words[0] === PAGE_MAGIC && words[2] === VERSION && words[4] === tag.low && words[5] === tag.high && words[7] === this.extent && words[1] === checksum(this.bytes.subarray(8));
  }
}
