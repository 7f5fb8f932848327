import { BLOCK_BYTES, EXTENT_BLOCKS } from '@ashlar/words';
import { FrameKind, Op, type Frame } from '@ashlar/protocol';
import { BlockIndex } from './block-index.ts';
import { BlockState } from './blocks.ts';
import { TILE_BYTES, RANGE_BLOCKS_MIN } from './limits.ts';
import { type TileTable, edgeBlocks, leftOutBefore } from './record.ts';
import { Undo } from './undo.ts';
import { ZeroRanges } from './zero-ranges.ts';

/** Bit in an entry's state: the block came by a fill, whose version says nothing about whether its record is durable. */
export const FILLED = 4;
export const STATE_MASK = 3;

/** What records say about blocks: the index of single blocks, and the ranges that were zeroed as whole extents. */
export class LiveBlocks {
  readonly index = new BlockIndex();
  readonly ranges = new ZeroRanges();
  readonly #undo = new Undo();
  #extents = new Set<number>();
  #sorted: readonly number[] | null = [];
  /** The set still has extents of which nothing is left. */
  #stale = false;

  /** The block's entry in the index if it is newer than every range over it; -1 if there is none, or a range is newer (see rangeSeq). */
  find(block: number): number {
    const at = this.index.find(block);
    if (at < 0 || this.ranges.count === 0) return at;
    return this.index.seq(at) < this.ranges.seqOf(Math.floor(block / EXTENT_BLOCKS)) ? -1 : at;
  }

  /** The version at which a range zeroed this extent; 0 if none did. */
  rangeSeq(extent: number): number {
    return this.ranges.count === 0 ? 0 : this.ranges.seqOf(extent);
  }

  /** Takes in a record that is appended. It may be cut off again, unlike those up to `committedSeq`. */
  append(frame: Frame, serial: number, payloadAt: number, tiles: TileTable, committedSeq: number): void {
    if (!onlyWrites(frame)) this.#undo.forget();
    else {
      for (let i = 0; i < frame.count; i++) {
        if (frame.op(i) === Op.write) this.#undo.remember(this.index, frame.firstSeq, frame.lastSeq, frame.offsetBytes(i) / BLOCK_BYTES, frame.lengthBytes(i) / BLOCK_BYTES, committedSeq);
      }
    }
    this.apply(frame, serial, payloadAt, tiles, Infinity);
  }

  /** Takes back the records behind this one. False: not all of them are remembered, and nothing was changed. */
  cut(afterSeq: number): boolean {
    if (!this.#undo.cut(this.index, afterSeq)) return false;
    this.#stale = true;
    this.#sorted = null;
    return true;
  }

  /** Takes in one record. `payloadAt`: position of its payload's first byte; `tiles` of it lie elsewhere. Operations with versions beyond `maxSeq` were cut off. */
  apply(frame: Frame, serial: number, payloadAt: number, tiles: TileTable, maxSeq: number): void {
    const fill = frame.kind === FrameKind.fill;
    const flag = fill ? FILLED : 0;
    for (let i = 0; i < frame.count; i++) {
      const seq = fill ? frame.requestNumber(i) : frame.firstSeq + i;
      if (seq > maxSeq) continue;
      const op = frame.op(i);
      if (op === Op.write) this.#write(frame, i, serial, payloadAt, tiles, seq, flag);
      else if (op === Op.zero || op === Op.trim) this.#zero(frame, i, serial, payloadAt - leftOutBefore(tiles, frame.payloadAt(i)), seq, flag);
      else if (op === Op.lost) this.#put(frame.offsetBytes(i) / BLOCK_BYTES, serial, seq, BlockState.corrupt | flag);
    }
  }

  #write(frame: Frame, i: number, serial: number, payloadAt: number, tiles: TileTable, seq: number, flag: number): void {
    const first = frame.offsetBytes(i) / BLOCK_BYTES;
    const count = frame.lengthBytes(i) / BLOCK_BYTES;
    const at = frame.payloadAt(i);
    const crcs = frame.crcIndex(i);
    // The first tile that does not lie before the block, and what is left out before it.
    let next = 0;
    let position = payloadAt + at;
    for (let k = 0; k < count; k++) {
      const from = at + k * BLOCK_BYTES;
      for (; next < tiles.length && (tiles[next] as number) + TILE_BYTES <= from; next += 2) position -= TILE_BYTES;
      const placed = next < tiles.length && (tiles[next] as number) <= from;
      this.index.put(first + k, serial, placed ? 0 : position + k * BLOCK_BYTES, frame.crc(crcs + k), seq, BlockState.written | flag, placed ? (tiles[next + 1] as number) : -1);
    }
    this.#touch(first, count);
  }

  #zero(frame: Frame, i: number, serial: number, payloadAt: number, seq: number, flag: number): void {
    const offset = frame.offsetBytes(i);
    const length = frame.lengthBytes(i);
    const edges = frame.op(i) === Op.zero ? edgeBlocks(offset, length) : [];
    edges.forEach((block, k) => {
      this.index.put(block, serial, payloadAt + frame.payloadAt(i) + k * BLOCK_BYTES, frame.crc(frame.crcIndex(i) + k), seq, BlockState.written | flag);
      this.#touch(block, 1);
    });
    const first = Math.ceil(offset / BLOCK_BYTES);
    const end = Math.floor((offset + length) / BLOCK_BYTES);
    if (end - first < RANGE_BLOCKS_MIN) return this.#zeroBlocks(first, end, serial, seq, flag);
    const firstExtent = Math.ceil(first / EXTENT_BLOCKS);
    const endExtent = Math.floor(end / EXTENT_BLOCKS);
    this.ranges.add({ firstExtent, endExtent, seq, serial });
    this.#zeroBlocks(first, firstExtent * EXTENT_BLOCKS, serial, seq, flag);
    this.#zeroBlocks(endExtent * EXTENT_BLOCKS, end, serial, seq, flag);
  }

  #zeroBlocks(first: number, end: number, serial: number, seq: number, flag: number): void {
    for (let block = first; block < end; block++) this.#put(block, serial, seq, BlockState.zero | flag);
  }

  /** A block without bytes. */
  #put(block: number, serial: number, seq: number, state: number): void {
    this.index.put(block, serial, 0, 0, seq, state);
    this.#touch(block, 1);
  }

  #touch(first: number, count: number): void {
    for (let extent = Math.floor(first / EXTENT_BLOCKS); extent * EXTENT_BLOCKS < first + count; extent++) {
      if (this.#extents.has(extent)) continue;
      this.#extents.add(extent);
      this.#sorted = null;
    }
  }

  /** The first extent at or after `from` of which the journal holds single blocks; -1 if there is none. */
  nextExtent(from: number): number {
    if (this.#stale) {
      // Only when somebody asks: a pass over the whole index after each round would hold up requests.
      this.#extents = this.index.liveExtents();
      this.#stale = false;
      this.#sorted = null;
    }
    this.#sorted ??= [...this.#extents].sort((a, b) => a - b);
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as number) < from) low = middle + 1;
      else high = middle;
    }
    return this.#sorted[low] ?? -1;
  }

  /** The extents have everything up to this segment. Records up to `committedSeq` are not cut off any more. */
  destaged(serial: number, committedSeq: number): void {
    this.#undo.trim(committedSeq);
    this.index.destagedSerial = serial;
    this.index.compact();
    this.ranges.dropThrough(serial);
    this.#stale = true;
    this.#sorted = null;
  }

  clear(): void {
    this.#undo.forget();
    this.index.clear();
    this.ranges.clear();
    this.#extents.clear();
    this.#stale = false;
    this.#sorted = null;
  }
}

/** Zeroes change ranges too, and fills are not in the order of the log. */
function onlyWrites(frame: Frame): boolean {
  if (frame.kind !== FrameKind.log) return false;
  for (let i = 0; i < frame.count; i++) if (frame.op(i) !== Op.write && frame.op(i) !== Op.session) return false;
  return true;
}
