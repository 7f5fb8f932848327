import { assert, BLOCK_BYTES, EXTENT_BLOCKS } from '@ashlar/words';
import { Frame, FrameKind } from '@ashlar/protocol';
import { BlockState } from './blocks.ts';
import type { DiskError } from './disk.ts';
import type { ExtentPage } from './extent-page.ts';
import type { ExtentStore } from './extents.ts';
import { FILLED, LiveBlocks, STATE_MASK } from './live-blocks.ts';
import { headMatches, parseRecordHeader, recordBytes, RECORD_HEADER_BYTES } from './record.ts';
import { type Segment, SEGMENT_HEADER_BYTES } from './segment.ts';

/** How a step of a round went. `sync`: the caller makes stable what the round wrote; `record`: it names the round in the superblock. */
export type RoundStep = 'more' | 'sync' | 'record' | DiskError | { readonly corrupt: string };

/** Bytes of the journal that one step reads. */
const READ_BYTES = 2 ** 20;
/** Neighbouring blocks that one write takes. */
const RUN_BLOCKS = 256;

/** Neighbouring blocks that are written with one call. */
interface Run {
  block: number;
  count: number;
  /** One past the last block that its file has. */
  endBlock: number;
  /** Place of its first block in the plan. */
  planned: number;
  /** The piece of the buffer that is being extended. */
  from: number;
  to: number;
  readonly pieces: Uint8Array[];
}

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
  readonly #run: Run = { block: 0, count: 0, endBlock: 0, planned: 0, from: 0, to: 0, pieces: [] };
  #phase: 'read' | 'ranges' | 'blocks' | 'pages' | 'presence' | 'record' = 'read';
  #segmentAt = 0;
  #bufferAt = 0;
  #readTo = 0;
  #walked = SEGMENT_HEADER_BYTES;
  #blocks: Uint32Array = new Uint32Array(0);
  #blockAt = 0;
  #pages: readonly ExtentPage[] = [];
  #pageAt = 0;
  newestSeq = 0;
  destagedBlocks = 0;
  coalescedBlocks = 0;

  /** `baseSeq`: everything up to here is in the extents. `settledSeq`: everything up to here is committed and durable. */
  constructor(number: number, segments: readonly Segment[], buffer: Uint8Array, extents: ExtentStore, live: LiveBlocks, lineage: number, baseSeq: number, settledSeq: number) {
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
  }

  step(budgetBlocks: number): RoundStep {
    switch (this.#phase) {
      case 'read': return this.#read();
      case 'ranges': return this.#zeroRanges();
      case 'blocks': return this.#writeBlocks(budgetBlocks);
      case 'pages': return this.#writePages(budgetBlocks);
      case 'presence': {
        this.#phase = 'record';
        return this.#extents.savePresence(this.number) ?? 'sync';
      }
      case 'record': return 'record';
    }
  }

  /** Reads a piece of the next segment and takes in the records that are complete. */
  #read(): RoundStep {
    const segment = this.segments[this.#segmentAt] as Segment;
    const length = Math.min(READ_BYTES, segment.endPosition - this.#readTo);
    if (length > 0) {
      const error = segment.file.read(this.#buffer.subarray(this.#bufferAt + this.#readTo, this.#bufferAt + this.#readTo + length), this.#readTo);
      if (error !== null) return error;
      this.#readTo += length;
    }
    const bad = this.#walk(segment);
    if (bad !== null) return bad;
    if (this.#readTo < segment.endPosition) return 'more';
    if (this.#walked !== segment.endPosition) return { corrupt: `journal segment ${segment.serial} at ${this.#walked}` };
    this.#bufferAt += segment.endPosition;
    this.#segmentAt += 1;
    this.#readTo = 0;
    this.#walked = SEGMENT_HEADER_BYTES;
    if (this.#segmentAt === this.segments.length) this.#phase = 'ranges';
    return 'more';
  }

  #walk(segment: Segment): { readonly corrupt: string } | null {
    while (this.#walked < this.#readTo) {
      const at = this.#bufferAt + this.#walked;
      const place = { serial: segment.serial, position: this.#walked, life: segment.header.life };
      const header = parseRecordHeader(this.#buffer, at, place);
      if (header === null) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      const next = this.#walked + recordBytes(header.headBytes, header.payloadBytes);
      if (next > this.#readTo) return null;
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
    const { index } = this.#plan;
    const stop = Math.min(this.#blocks.length, this.#blockAt + budgetBlocks);
    const run = this.#run;
    run.count = 0;
    let page: ExtentPage | null = null;
    for (let k = this.#blockAt; k < stop; k++) {
      const block = this.#blocks[k] as number;
      const at = this.#plan.find(block);
      if (at < 0 || this.#overwritten(block)) continue;
      const extent = Math.floor(block / EXTENT_BLOCKS);
      if (page?.extent !== extent) page = this.#extents.pageToChange(extent, this.#lineage, this.#plan.rangeSeq(extent) || this.#baseSeq);
      if (page === null) return { corrupt: `map of extents at ${extent}` };
      const state = (index.state(at) & STATE_MASK) as BlockState;
      page.set(block - extent * EXTENT_BLOCKS, state, index.crc(at), index.seq(at));
      this.destagedBlocks += 1;
      if (state !== BlockState.written) continue;
      if (run.count > 0 && (block !== run.block + run.count || run.count === RUN_BLOCKS || block === run.endBlock)) {
        const error = this.#flush(run);
        if (error !== null) return error;
      }
      if (run.count === 0) this.#begin(run, block, k, index.position(at));
      this.#extend(run, index.position(at));
    }
    const error = this.#flush(run);
    if (error !== null) return error;
    this.#blockAt = stop;
    if (stop < this.#blocks.length) return 'more';
    this.#pages = this.#extents.changedPages;
    this.#phase = 'pages';
    return 'more';
  }

  #begin(run: Run, block: number, planned: number, position: number): void {
    run.block = block;
    run.planned = planned;
    run.endBlock = this.#extents.fileEnd(block);
    run.from = position;
    run.to = position;
    run.pieces.length = 0;
  }

  /** In one record neighbours are one piece of the buffer. */
  #extend(run: Run, position: number): void {
    if (position !== run.to) {
      run.pieces.push(this.#buffer.subarray(run.from, run.to));
      run.from = position;
    }
    run.to = position + BLOCK_BYTES;
    run.count += 1;
  }

  #flush(run: Run): DiskError | null {
    if (run.count === 0) return null;
    run.pieces.push(this.#buffer.subarray(run.from, run.to));
    run.count = 0;
    const error = this.#extents.writeBlocks(run.block, run.pieces);
    // The next step begins again with the blocks that could not be written.
    if (error !== null) this.#blockAt = run.planned;
    return error;
  }

  /** True if a record behind the round, itself committed and durable, has overwritten the block: the journal keeps that one. */
  #overwritten(block: number): boolean {
    const { index } = this.#live;
    const at = index.find(block);
    if (at < 0 || index.serial(at) <= this.lastSerial || (index.state(at) & FILLED) !== 0 || index.seq(at) > this.#settledSeq) return false;
    this.coalescedBlocks += 1;
    return true;
  }

  #writePages(budgetBlocks: number): RoundStep {
    const stop = Math.min(this.#pages.length, this.#pageAt + budgetBlocks);
    for (; this.#pageAt < stop; this.#pageAt++) {
      const error = this.#extents.savePage(this.#pages[this.#pageAt] as ExtentPage, this.#lineage, this.number);
      if (error !== null) return error;
    }
    if (stop < this.#pages.length) return 'more';
    this.#phase = 'presence';
    return 'more';
  }
}
