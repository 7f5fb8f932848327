import { assert, BLOCK_BYTES, EXTENT_BLOCKS } from '@ashlar/words';
import { Frame, FrameKind } from '@ashlar/protocol';
import { BlockState } from './blocks.ts';
import type { DiskError, Pieces } from './disk.ts';
import type { ExtentPage } from './extent-page.ts';
import type { ExtentStore } from './extents.ts';
import { FILLED, LiveBlocks, STATE_MASK } from './live-blocks.ts';
import { PAGE_BYTES } from './limits.ts';
import { headMatches, parseRecordHeader, recordBytes, RECORD_HEADER_BYTES } from './record.ts';
import { type Segment, SEGMENT_HEADER_BYTES } from './segment.ts';

/**
 * How a step of a round went. `background`: the disk is at work, and the round's `onEnd` says when it is over; `sync`: the caller makes stable what
 * the round wrote; `record`: it names the round in the superblock.
 */
export type RoundStep = 'more' | 'background' | 'sync' | 'record' | DiskError | { readonly corrupt: string };

/** Bytes of the journal that one step walks through. */
const WALK_BYTES = 2 ** 20;
/** Blocks that the disk is given in one go. */
const BATCH_BLOCKS = 4096;

type Begin = (done: (error: DiskError | null) => void) => DiskError | null;

/**
 * One round of destaging: some closed segments, all of it committed and durable, moved to the extents. What is overwritten in place is still
 * in the journal; pages and presence go to slots that the last round does not need; so nothing counts until the superblock names the round.
 * The newest version within the round is looked up in its own records, never in the live index: what is newer there may still be cut off or lost.
 */
export class Round {
  readonly number: number;
  readonly segments: readonly Segment[];
  readonly lastSerial: number;
  readonly #buffer: Uint8Array;
  readonly #extents: ExtentStore;
  readonly #live: LiveBlocks;
  readonly #lineage: number;
  readonly #baseSeq: number;
  readonly #settledSeq: number;
  /** Positions are those in the buffer. */
  readonly #plan = new LiveBlocks();
  readonly #onEnd: () => void;
  /** What is given to the disk next, or is with it: in the buffer, in the order of its places. */
  #table: number[] = [];
  /** The piece that is being extended: where it begins in the buffer, and its blocks. */
  #pieceFrom = 0;
  #pieceBlock = 0;
  #pieceBlocks = 0;
  #batchBlocks = 0;
  /** One past the last block of the data file that the pieces belong to. */
  #fileEnd = 0;
  #work: 'none' | 'begun' | DiskError = 'none';
  /** What the end of the work leads to. */
  #then: () => void = () => undefined;
  #phase: 'read' | 'ranges' | 'blocks' | 'pages' | 'presence' | 'record' = 'read';
  #segmentAt = 0;
  #bufferAt = 0;
  #readTo = 0;
  #walked = SEGMENT_HEADER_BYTES;
  #blocks: Uint32Array = new Uint32Array(0);
  #blockAt = 0;
  #pages: readonly ExtentPage[] = [];
  #pageAt = 0;
  #pageBytes = 0;
  newestSeq = 0;
  destagedBlocks = 0;
  coalescedBlocks = 0;

  /** `baseSeq`: everything up to here is in the extents. `settledSeq`: everything up to here is committed and durable. `onEnd`: work in the background is over. */
  constructor(number: number, segments: readonly Segment[], buffer: Uint8Array, extents: ExtentStore, live: LiveBlocks, lineage: number, baseSeq: number, settledSeq: number, onEnd: () => void) {
    assert(segments.length > 0, 'a round has segments');
    this.number = number;
    this.segments = segments;
    this.lastSerial = (segments[segments.length - 1] as Segment).serial;
    this.#buffer = buffer;
    this.#extents = extents;
    this.#live = live;
    this.#lineage = lineage;
    this.#baseSeq = baseSeq;
    this.#settledSeq = settledSeq;
    this.#onEnd = onEnd;
  }

  /** True while the round needs the buffer. */
  get moving(): boolean { return this.#phase !== 'presence' && this.#phase !== 'record'; }

  step(budgetBlocks: number): RoundStep {
    if (this.#work === 'begun') return 'background';
    if (this.#work !== 'none') {
      const error = this.#work;
      this.#work = 'none';
      return error;
    }
    switch (this.#phase) {
      case 'read': return this.#read();
      case 'ranges': return this.#zeroRanges();
      case 'blocks': return this.#writeBlocks(budgetBlocks);
      case 'pages': return this.#writePages(budgetBlocks);
      case 'presence': {
        const error = this.#extents.savePresence(this.number);
        if (error === null) this.#phase = 'record';
        return error ?? 'sync';
      }
      case 'record': return 'record';
    }
  }

  /** Has the disk work in the background. When that fails, the next step says so, and the one after it begins the same again. */
  #begin(then: () => void, begin: Begin): RoundStep {
    this.#work = 'begun';
    this.#then = then;
    const error = begin((failed) => {
      this.#work = failed ?? 'none';
      if (failed === null) this.#then();
      this.#onEnd();
    });
    if (error === null) return 'background';
    this.#work = 'none';
    return error;
  }

  /** Reads the next segment, then takes in its records piece by piece. */
  #read(): RoundStep {
    const segment = this.segments[this.#segmentAt] as Segment;
    const { endPosition } = segment;
    if (this.#readTo < endPosition) return this.#begin(() => { this.#readTo = endPosition; }, (done) => {
      segment.file.readLater(this.#buffer.subarray(this.#bufferAt, this.#bufferAt + endPosition), 0, done);
      return null;
    });
    const bad = this.#walk(segment);
    if (bad !== null) return bad;
    if (this.#walked < endPosition) return 'more';
    this.#bufferAt += endPosition;
    this.#segmentAt += 1;
    this.#readTo = 0;
    this.#walked = SEGMENT_HEADER_BYTES;
    if (this.#segmentAt === this.segments.length) this.#phase = 'ranges';
    return 'more';
  }

  #walk(segment: Segment): { readonly corrupt: string } | null {
    const stop = Math.min(this.#readTo, this.#walked + WALK_BYTES);
    while (this.#walked < stop) {
      const at = this.#bufferAt + this.#walked;
      const place = { serial: segment.serial, position: this.#walked, life: segment.header.life };
      const header = parseRecordHeader(this.#buffer, at, place);
      if (header === null) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      const next = this.#walked + recordBytes(header.headBytes, header.payloadBytes);
      if (next > this.#readTo) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      const payloadAt = at + RECORD_HEADER_BYTES + header.headBytes;
      const frame = new Frame(this.#buffer.subarray(at + RECORD_HEADER_BYTES, payloadAt), this.#buffer.subarray(payloadAt, payloadAt + header.payloadBytes));
      if (!headMatches(frame, header)) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      this.#plan.apply(frame, segment.serial, payloadAt, segment.endSeq);
      if (frame.kind === FrameKind.fill) for (let i = 0; i < frame.count; i++) this.newestSeq = Math.max(this.newestSeq, Math.min(frame.requestNumber(i), segment.endSeq));
      this.#walked = next;
    }
    return null;
  }

  #zeroRanges(): RoundStep {
    for (const range of this.#plan.ranges.all) {
      for (let extent = range.firstExtent; extent < range.endExtent; extent++) if (!this.#extents.zeroExtent(extent)) return { corrupt: `map of extents at ${extent}` };
    }
    this.#blocks = this.#plan.index.blocksThrough(this.lastSerial);
    this.#phase = 'blocks';
    return 'more';
  }

  #writeBlocks(budgetBlocks: number): RoundStep {
    if (this.#batchBlocks >= BATCH_BLOCKS) return this.#flush();
    const { index } = this.#plan;
    const stop = Math.min(this.#blocks.length, this.#blockAt + budgetBlocks);
    let page: ExtentPage | null = null;
    for (; this.#blockAt < stop; this.#blockAt++) {
      const block = this.#blocks[this.#blockAt] as number;
      const at = this.#plan.find(block);
      if (at < 0 || this.#overwritten(block)) continue;
      const state = (index.state(at) & STATE_MASK) as BlockState;
      const written = state === BlockState.written;
      // Another data file begins: what lies in this one goes first.
      if (written && this.#batchBlocks > 0 && block >= this.#fileEnd) return this.#flush();
      const extent = Math.floor(block / EXTENT_BLOCKS);
      if (page?.extent !== extent) page = this.#extents.pageToChange(extent, this.#lineage, this.#plan.rangeSeq(extent) || this.#baseSeq);
      if (page === null) return { corrupt: `map of extents at ${extent}` };
      page.set(block - extent * EXTENT_BLOCKS, state, index.crc(at), index.seq(at));
      this.destagedBlocks += 1;
      if (written) this.#extend(block, index.position(at));
    }
    if (stop < this.#blocks.length) return 'more';
    if (this.#batchBlocks > 0) return this.#flush();
    this.#plan.clear();
    this.#pages = this.#extents.changedPages;
    this.#phase = 'pages';
    return 'more';
  }

  /** In one record neighbours are one piece of the buffer. */
  #extend(block: number, position: number): void {
    if (this.#batchBlocks === 0) this.#fileEnd = this.#extents.fileEnd(block);
    if (this.#pieceBlocks > 0 && (block !== this.#pieceBlock + this.#pieceBlocks || position !== this.#pieceFrom + this.#pieceBlocks * BLOCK_BYTES)) this.#endPiece();
    if (this.#pieceBlocks === 0) {
      this.#pieceFrom = position;
      this.#pieceBlock = block;
    }
    this.#pieceBlocks += 1;
    this.#batchBlocks += 1;
  }

  #endPiece(): void {
    if (this.#pieceBlocks === 0) return;
    this.#table.push(this.#pieceFrom, this.#pieceBlocks * BLOCK_BYTES, this.#extents.filePosition(this.#pieceBlock));
    this.#pieceBlocks = 0;
  }

  get #pieces(): Pieces { return { memory: this.#buffer, table: this.#table }; }

  #flush(): RoundStep {
    this.#endPiece();
    return this.#begin(() => {
      this.#table = [];
      this.#batchBlocks = 0;
    }, (done) => this.#extents.writeBlocks(this.#fileEnd - 1, this.#pieces, done));
  }

  /** True if a record behind the round, itself committed and durable, has overwritten the block: the journal keeps that one. */
  #overwritten(block: number): boolean {
    const { index } = this.#live;
    const at = index.find(block);
    if (at < 0 || index.serial(at) <= this.lastSerial || (index.state(at) & FILLED) !== 0 || index.seq(at) > this.#settledSeq) return false;
    this.coalescedBlocks += 1;
    return true;
  }

  /** The blocks are written: the buffer takes the pages. */
  #writePages(budgetBlocks: number): RoundStep {
    const buffer = this.#buffer;
    const stop = Math.min(this.#pages.length, this.#pageAt + budgetBlocks);
    for (; this.#pageAt < stop; this.#pageAt++) {
      if (this.#pageBytes + 2 * PAGE_BYTES > buffer.length) return this.#flushPages();
      this.#pageBytes += this.#extents.sealPage(this.#pages[this.#pageAt] as ExtentPage, this.#lineage, this.number, buffer, this.#pageBytes, this.#table);
    }
    if (stop < this.#pages.length) return 'more';
    if (this.#table.length > 0) return this.#flushPages();
    this.#phase = 'presence';
    return 'more';
  }

  #flushPages(): RoundStep {
    return this.#begin(() => {
      this.#table = [];
      this.#pageBytes = 0;
    }, (done) => this.#extents.writePages(this.#pieces, done));
  }
}
