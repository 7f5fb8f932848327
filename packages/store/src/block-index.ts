import { assert, EXTENT_BLOCKS } from '@ashlar/words';

/**
 * Where the newest bytes of each block are that the journal holds and the extents do not have yet: an open-addressing table in one
 * typed array, 32 bytes an entry (one cache line holds two). Entries of destaged segments die by comparison of their segment's serial number
 * and are dropped at the next rehash. Empty: 2 KiB; with a full journal of 4 KiB writes: 8 MiB.
 *
 *   words: block | segment serial | byte position in the segment | checksum | version low | version high (16) + state (8) + used (1) | place + 1 | –
 *
 * The place of the block's tile in the data files, if its bytes are there and not in the segment; else 0.
 */
const STRIDE = 8;
const USED = 0x80000000;
const MIN_CAPACITY = 64;
const HIGH = 0x100000000;
/** Smaller tables are left to the garbage collector. */
const SPARE_WORDS_MIN = 16 * 1024;
/** Spare tables kept for all copies of a thread: two rounds' worth. */
const SPARE_WORDS_MAX = 8 * 2 ** 20;

/**
 * Tables that nobody uses, by their size. A round of destaging makes and drops megabytes of them; without these the garbage collector
 * went over the whole heap four times a second under small writes, for an eighth of the process's time.
 */
const spares = new Map<number, Uint32Array[]>();
let spareWords = 0;

function takeTable(words: number): Uint32Array {
  const spare = spares.get(words)?.pop();
  if (spare === undefined) return new Uint32Array(words);
  spareWords -= words;
  return spare.fill(0);
}

function giveTable(table: Uint32Array): void {
  if (table.length < SPARE_WORDS_MIN || spareWords + table.length > SPARE_WORDS_MAX) return;
  spareWords += table.length;
  const others = spares.get(table.length);
  if (others === undefined) spares.set(table.length, [table]);
  else others.push(table);
}

export class BlockIndex {
  #table: Uint32Array = new Uint32Array(MIN_CAPACITY * STRIDE);
  #mask = MIN_CAPACITY - 1;
  #shift = 32 - 6;
  #count = 0;
  /** Entries of segments up to this serial are dead: the extents have them. */
  destagedSerial = 0;

  /** Entries, the dead included. */
  get count(): number { return this.#count; }

  /** Handle of the block's live entry, or -1. Valid until the next `put`. */
  find(block: number): number {
    if (this.#count === 0) return -1;
    const table = this.#table;
    for (let slot = Math.imul(block, 0x9e3779b1) >>> this.#shift; ; slot = (slot + 1) & this.#mask) {
      const at = slot * STRIDE;
      if (((table[at + 5] as number) & USED) === 0) return -1;
      if (table[at] === block) return (table[at + 1] as number) > this.destagedSerial ? at : -1;
    }
  }

  serial(at: number): number { return this.#table[at + 1] as number; }
  position(at: number): number { return this.#table[at + 2] as number; }
  /** Place of the block's tile; -1 if the bytes are in the segment. */
  place(at: number): number { return (this.#table[at + 6] as number) - 1; }
  crc(at: number): number { return this.#table[at + 3] as number; }
  seq(at: number): number { return ((this.#table[at + 5] as number) & 0xffff) * HIGH + (this.#table[at + 4] as number); }
  state(at: number): number { return ((this.#table[at + 5] as number) >>> 16) & 0xff; }

  put(block: number, serial: number, position: number, crc: number, seq: number, state: number, place = -1): void {
    if ((this.#count + 1) * 5 > (this.#mask + 1) * 3) this.#rehash();
    const table = this.#table;
    let at = 0;
    for (let slot = Math.imul(block, 0x9e3779b1) >>> this.#shift; ; slot = (slot + 1) & this.#mask) {
      at = slot * STRIDE;
      if (((table[at + 5] as number) & USED) === 0) {
        this.#count += 1;
        break;
      }
      if (table[at] === block) break;
    }
    table[at] = block;
    table[at + 1] = serial;
    table[at + 2] = position;
    table[at + 3] = crc;
    table[at + 4] = seq >>> 0;
    table[at + 5] = (USED | (state << 16) | Math.floor(seq / HIGH)) >>> 0;
    table[at + 6] = place + 1;
  }

  /** Copies what there is of the block to six words at `at`; zeros if there is nothing. */
  save(block: number, into: Uint32Array, at: number): void {
    const found = this.find(block);
    for (let word = 0; word < 6; word++) into[at + word] = found < 0 ? 0 : (this.#table[found + 1 + word] as number);
  }

  /** Puts back what `save` found; of nothing, an entry that is dead: no segment has the serial number 0. */
  restore(block: number, from: Uint32Array, at: number): void {
    const flags = from[at + 4] as number;
    this.put(block, from[at] as number, from[at + 1] as number, from[at + 2] as number, (flags & 0xffff) * HIGH + (from[at + 3] as number), (flags >>> 16) & 0xff, (from[at + 5] as number) - 1);
  }

  /** The blocks with live entries in segments up to `serial`, in rising order. */
  blocksThrough(serial: number): Uint32Array {
    const table = this.#table;
    const found = new Uint32Array(this.#count);
    let length = 0;
    for (let at = 0; at < table.length; at += STRIDE) {
      if (((table[at + 5] as number) & USED) === 0) continue;
      const entrySerial = table[at + 1] as number;
      if (entrySerial > this.destagedSerial && entrySerial <= serial) found[length++] = table[at] as number;
    }
    return found.subarray(0, length).sort();
  }

  /** The extents of blocks with live entries. */
  liveExtents(): Set<number> {
    const table = this.#table;
    const extents = new Set<number>();
    for (let at = 0; at < table.length; at += STRIDE) {
      if (((table[at + 5] as number) & USED) !== 0 && (table[at + 1] as number) > this.destagedSerial) extents.add(Math.floor((table[at] as number) / EXTENT_BLOCKS));
    }
    return extents;
  }

  clear(): void {
    if (this.#count === 0 && this.#mask === MIN_CAPACITY - 1) return;
    const old = this.#table;
    this.#allocate(MIN_CAPACITY);
    giveTable(old);
  }

  /** Drops what is dead, and memory that is not needed any more. */
  compact(): void {
    if (this.#count > 0) this.#rehash();
  }

  #rehash(): void {
    const old = this.#table;
    let live = 0;
    for (let at = 0; at < old.length; at += STRIDE) if (((old[at + 5] as number) & USED) !== 0 && (old[at + 1] as number) > this.destagedSerial) live += 1;
    let capacity = MIN_CAPACITY;
    while (capacity * 3 < (live + 1) * 10) capacity *= 2;
    this.#allocate(capacity);
    const table = this.#table;
    for (let from = 0; from < old.length; from += STRIDE) {
      if (((old[from + 5] as number) & USED) === 0 || (old[from + 1] as number) <= this.destagedSerial) continue;
      let slot = Math.imul(old[from] as number, 0x9e3779b1) >>> this.#shift;
      while (((table[slot * STRIDE + 5] as number) & USED) !== 0) slot = (slot + 1) & this.#mask;
      for (let word = 0; word < 7; word++) table[slot * STRIDE + word] = old[from + word] as number;
    }
    this.#count = live;
    giveTable(old);
  }

  #allocate(capacity: number): void {
    assert((capacity & (capacity - 1)) === 0, 'capacity is a power of two');
    this.#table = takeTable(capacity * STRIDE);
    this.#mask = capacity - 1;
    this.#shift = 32 - Math.log2(capacity);
    this.#count = 0;
  }
}
