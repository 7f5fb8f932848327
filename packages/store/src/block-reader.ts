import { BLOCK_BYTES, checksum, EXTENT_BLOCKS } from '@ashlar/words';
import { BlockState } from './blocks.ts';
import type { Backing, StatusRange } from './copy-store.ts';
import type { DiskError } from './disk.ts';
import { ExtentPage } from './extent-page.ts';
import type { ExtentStore } from './extents.ts';
import type { Journal } from './journal.ts';
import { type LiveBlocks, STATE_MASK } from './live-blocks.ts';
import { TILE_BLOCKS } from './places.ts';
import type { Segment } from './segment.ts';

/** Where a run of blocks lies: one after another in a segment, or in a data file. */
interface Run {
  segment: Segment | null;
  /** Byte position in the segment, or number of the first block in the data files. */
  at: number;
  block: number;
  count: number;
  crcs: number[];
}

/** Reads blocks as of the newest record: journal first, then the extents; neighbours with one call; each checked. */
export class BlockReader {
  readonly #live: LiveBlocks;
  readonly #extents: ExtentStore;
  readonly #journal: Journal;
  readonly #backing: Backing | null;
  readonly #scratch = new Uint8Array(BLOCK_BYTES);
  readonly #run: Run = { segment: null, at: 0, block: 0, count: 0, crcs: [] };
  /** Of the block that `locate` was last asked for. */
  state: BlockState = BlockState.absent;
  seq = 0;
  crc = 0;
  #segment: Segment | null = null;
  #position = 0;

  constructor(live: LiveBlocks, extents: ExtentStore, journal: Journal, backing: Backing | null) {
    this.#live = live;
    this.#backing = backing;
    this.#extents = extents;
    this.#journal = journal;
  }

  /** Finds out state, version, checksum and place of a block, without reading it. */
  locate(block: number): BlockState {
    const live = this.#live;
    const at = live.find(block);
    this.crc = 0;
    if (at >= 0) {
      this.state = (live.index.state(at) & STATE_MASK) as BlockState;
      this.seq = live.index.seq(at);
      this.crc = live.index.crc(at);
      const place = live.index.place(at);
      this.#segment = place < 0 ? this.#journal.bySerial(live.index.serial(at)) : null;
      this.#position = place < 0 ? live.index.position(at) : place * TILE_BLOCKS + (block % TILE_BLOCKS);
      return this.state;
    }
    const extent = Math.floor(block / EXTENT_BLOCKS);
    this.seq = live.rangeSeq(extent);
    if (this.seq > 0) return (this.state = BlockState.zero);
    const view = this.#extents.view(extent);
    this.#segment = null;
    if (!(view instanceof ExtentPage)) return (this.state = view === 'absent' ? BlockState.absent : view === 'corrupt' ? BlockState.corrupt : BlockState.zero);
    const i = block - extent * EXTENT_BLOCKS;
    this.seq = view.seq(i);
    this.crc = view.crc(i);
    this.#position = this.#extents.blockAt(view, i);
    return (this.state = view.state(i));
  }

  /** What is known of a range, neighbours of one kind together. */
  status(offsetBytes: number, lengthBytes: number): readonly StatusRange[] {
    const ranges: { lengthBytes: number; state: StatusRange['state'] }[] = [];
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end;) {
      const block = Math.floor(at / BLOCK_BYTES);
      const found = this.locate(block);
      const state = found === BlockState.absent ? 'absent' : found === BlockState.zero ? 'zero' : 'written';
      const length = Math.min((block + 1) * BLOCK_BYTES, end) - at;
      const last = ranges[ranges.length - 1];
      if (last?.state === state) last.lengthBytes += length;
      else ranges.push({ lengthBytes: length, state });
      at += length;
    }
    return ranges;
  }

  /** Locates the block; true if it has bytes of its own, or shows those of the backing. */
  hasBytes(block: number): boolean {
    const state = this.locate(block);
    return state === BlockState.written || (state === BlockState.absent && this.#backing !== null);
  }

  /** Blocks whose bytes cannot be had are added to `corrupt`. */
  read(offsetBytes: number, lengthBytes: number, into: Uint8Array, intoPosition: number, corrupt: number[]): void {
    const end = offsetBytes + lengthBytes;
    let at = offsetBytes;
    if (at % BLOCK_BYTES !== 0) at = this.#readPart(at, Math.min(end, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES), into, intoPosition, corrupt);
    const wholeEnd = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
    if (at < wholeEnd) this.#readWhole(at / BLOCK_BYTES, wholeEnd / BLOCK_BYTES, into, intoPosition + at - offsetBytes, corrupt);
    if (wholeEnd >= at && wholeEnd < end) this.#readPart(wholeEnd, end, into, intoPosition + wholeEnd - offsetBytes, corrupt);
  }

  #readPart(from: number, until: number, into: Uint8Array, position: number, corrupt: number[]): number {
    const block = Math.floor(from / BLOCK_BYTES);
    this.#readWhole(block, block + 1, this.#scratch, 0, corrupt);
    into.set(this.#scratch.subarray(from - block * BLOCK_BYTES, until - block * BLOCK_BYTES), position);
    return until;
  }

  #readWhole(first: number, end: number, into: Uint8Array, position: number, corrupt: number[]): void {
    const run = this.#run;
    run.count = 0;
    for (let block = first; block < end; block++) {
      const state = this.locate(block);
      const to = position + (block - first) * BLOCK_BYTES;
      if (state === BlockState.written) {
        if (!this.#extends(run)) this.#flush(run, first, into, position, corrupt);
        this.#join(run, block);
        continue;
      }
      this.#flush(run, first, into, position, corrupt);
      if (state === BlockState.absent && this.#backing !== null) {
        if (!this.#backing.readBlock(block, into.subarray(to, to + BLOCK_BYTES))) corrupt.push(block);
        continue;
      }
      into.fill(0, to, to + BLOCK_BYTES);
      if (state === BlockState.corrupt) corrupt.push(block);
    }
    this.#flush(run, first, into, position, corrupt);
  }

  /** True if the located block lies right behind the run. */
  #extends(run: Run): boolean {
    if (run.count === 0 || run.segment !== this.#segment) return false;
    if (run.segment !== null) return run.at + run.count * BLOCK_BYTES === this.#position;
    return run.at + run.count === this.#position && this.#position < this.#extents.fileEnd(run.at);
  }

  #join(run: Run, block: number): void {
    if (run.count === 0) {
      run.segment = this.#segment;
      run.at = this.#position;
      run.block = block;
    }
    run.crcs[run.count] = this.crc;
    run.count += 1;
  }

  #flush(run: Run, first: number, into: Uint8Array, position: number, corrupt: number[]): void {
    if (run.count === 0) return;
    const from = position + (run.block - first) * BLOCK_BYTES;
    const bytes = into.subarray(from, from + run.count * BLOCK_BYTES);
    const error = this.#fetch(run.segment, run.at, 0, bytes);
    for (let k = 0; k < run.count; k++) {
      // After an error on many blocks at once each is tried alone: one bad sector must not cost its neighbours.
      const one = bytes.subarray(k * BLOCK_BYTES, (k + 1) * BLOCK_BYTES);
      const failed = error !== null && (run.count === 1 || this.#fetch(run.segment, run.at, k, one) !== null);
      if (failed || checksum(one) !== run.crcs[k]) corrupt.push(run.block + k);
    }
    run.count = 0;
  }

  /** Reads from the `k`th block of a run on. */
  #fetch(segment: Segment | null, at: number, k: number, into: Uint8Array): DiskError | null {
    return segment === null ? this.#extents.readBlocks(at + k, into) : segment.file.read(into, at + k * BLOCK_BYTES);
  }
}
