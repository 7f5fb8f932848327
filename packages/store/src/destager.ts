import { assert, BLOCK_BYTES, EXTENT_BLOCKS } from '@ashlar/words';
import { Frame, FrameKind } from '@ashlar/protocol';
import { BlockState } from './blocks.ts';
import type { DiskError, Pieces } from './disk.ts';
import type { ExtentPage } from './extent-page.ts';
import type { ExtentStore } from './extents.ts';
import { FILLED, LiveBlocks, STATE_MASK } from './live-blocks.ts';
import { TILE_BYTES, PAGE_BYTES } from './limits.ts';
import { TILE_BLOCKS, EXTENT_TILES, type FreePlace, NO_PLACE } from './places.ts';
import { tileTable, headMatches, parseRecordHeader, prefixBytes, recordBytes } from './record.ts';
import { type Segment, SEGMENT_HEADER_BYTES } from './segment.ts';

/**
 * How a step of a round went. `background`: the disk is at work, and the round's `onEnd` says when it is over; `sync`: the caller makes stable what
 * the round wrote; `record`: it names the round in the superblock. `vouch`: it says there how far the journal is durable.
 */
export type RoundStep = 'more' | 'background' | 'vouch' | 'sync' | 'record' | DiskError | { readonly corrupt: string };

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
  #buffer: Uint8Array;
  readonly #extents: ExtentStore;
  readonly #live: LiveBlocks;
  readonly #lineage: number;
  readonly #baseSeq: number;
  readonly #settledSeq: number;
  /** Positions are those in the buffer. */
  readonly #plan = new LiveBlocks();
  readonly #onEnd: () => void;
  /** Pages that are given to the disk next, or are with it: in the buffer, in the order of their places. */
  #table: number[] = [];
  /** Blocks likewise, for each data file. */
  #tables = new Map<number, number[]>();
  /** The piece that is being extended: where it begins in the buffer, where in the data files, and its blocks. */
  #pieceFrom = 0;
  #pieceAt = 0;
  #pieceBlocks = 0;
  #batchBlocks = 0;
  /** The tile whose blocks are being looked at, the place that records of the round gave to it, and whether its page says so. */
  #tile = -1;
  #newPlace = NO_PLACE;
  #placed = false;
  /** Records of the round have tiles elsewhere. */
  #hasTiles = false;
  /** All places that records of the round hold, and those that it gave to tiles without one. They are settled with it. */
  readonly settledPlaces = new Set<number>();
  /** Those that it gave to tiles. */
  readonly #given = new Set<number>();
  readonly #left: number[] = [];
  releasedPlaces: readonly FreePlace[] = [];
  #work: 'none' | 'begun' | DiskError = 'none';
  /** What the end of the work leads to. */
  #then: () => void = () => undefined;
  #phase: 'read' | 'ranges' | 'vouch' | 'blocks' | 'read-again' | 'blocks-again' | 'pages' | 'places' | 'presence' | 'record' = 'read';
  #segmentAt = 0;
  #bufferAt = 0;
  #readTo = 0;
  #walked = SEGMENT_HEADER_BYTES;
  #blocks: Uint32Array = new Uint32Array(0);
  #blockAt = 0;
  #pages: readonly ExtentPage[] = [];
  #pageAt = 0;
  #pageBytes = 0;
  /** What was written, should all of it be written once more: tables of blocks, and for each page its bytes and where it went. */
  readonly #writtenBlocks: ReadonlyMap<number, readonly number[]>[] = [];
  readonly #sealedPages: number[] = [];
  #againAt = 0;
  #refusals = 0;
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

  /** Of the buffer. */
  get bufferBytes(): number { return this.segments.reduce((total, segment) => total + segment.endPosition, 0); }

  /** True while the round needs the buffer. */
  get moving(): boolean { return this.#phase !== 'places' && this.#phase !== 'presence' && this.#phase !== 'record'; }

  /** The sync found no room, and what was written may be gone: it is written again, blocks from the journal, which has them until the round counts. How often by now. */
  again(): number {
    assert(this.#phase === 'record', 'everything was written');
    this.#beginAgain();
    return ++this.#refusals;
  }

  #beginAgain(): void {
    this.#phase = 'read-again';
    this.#bufferAt = 0;
    this.#againAt = 0;
    this.#pageAt = 0;
    this.#pageBytes = 0;
    this.#table = [];
  }

  /** While it is `moving`, before each step. Another than before, which only one that writes everything again is given, has nothing of the round in it. */
  useBuffer(buffer: Uint8Array): void {
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#beginAgain();
  }

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
      case 'vouch': return 'vouch';
      case 'blocks': return this.#writeBlocks(budgetBlocks);
      case 'read-again': return this.#readAgain();
      case 'blocks-again': return this.#writeBlocksAgain();
      case 'pages': return this.#writePages(budgetBlocks);
      case 'places': {
        // Nobody needs what tiles have left, nor what records took that were superseded, or cut off, before they were settled.
        this.releasedPlaces = [...this.#left, ...[...this.settledPlaces].filter((place) => !this.#given.has(place) && this.#extents.places.returns(place))].map((place) => ({ place, serial: this.lastSerial }));
        const error = this.settledPlaces.size === 0 ? null : this.#extents.savePlaces(this.number, this.settledPlaces, this.releasedPlaces);
        if (error === null) this.#phase = 'presence';
        return error ?? 'more';
      }
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
      const next = this.#walked + recordBytes(header.headBytes, header.payloadBytes, header.tiles);
      if (next > this.#readTo) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      const prefix = prefixBytes(header.tiles);
      const payloadAt = at + prefix + header.headBytes;
      const frame = new Frame(this.#buffer.subarray(at + prefix, payloadAt), this.#buffer.subarray(payloadAt, payloadAt + header.payloadBytes - header.tiles * TILE_BYTES));
      const tiles = tileTable(this.#buffer.subarray(at, payloadAt), header);
      if (tiles === null || !headMatches(frame, header)) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
      this.#plan.apply(frame, segment.serial, payloadAt, tiles, segment.endSeq);
      for (let k = 1; k < tiles.length; k += 2) this.settledPlaces.add(tiles[k] as number);
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
    // Blocks may then be written into places that records of the round name: the records must not look torn for it.
    this.#hasTiles = this.settledPlaces.size > 0;
    this.#phase = this.#hasTiles ? 'vouch' : 'blocks';
    return 'more';
  }

  /** The superblock says that the journal is durable up to the round's end at least. */
  vouched(): void {
    if (this.#phase === 'vouch') this.#phase = 'blocks';
  }

  #writeBlocks(budgetBlocks: number): RoundStep {
    if (this.#batchBlocks >= BATCH_BLOCKS) return this.#flush();
    const { index } = this.#plan;
    const stop = Math.min(this.#blocks.length, this.#blockAt + budgetBlocks);
    let page: ExtentPage | null = null;
    for (; this.#blockAt < stop; this.#blockAt++) {
      const block = this.#blocks[this.#blockAt] as number;
      if (Math.floor(block / TILE_BLOCKS) !== this.#tile) this.#enter(Math.floor(block / TILE_BLOCKS));
      const at = this.#plan.find(block);
      // A tile that gets another place leaves nothing behind in the old one: a block passed over would have no bytes.
      if (at < 0 || (this.#newPlace === NO_PLACE && this.#overwritten(block))) continue;
      const extent = Math.floor(block / EXTENT_BLOCKS);
      if (page?.extent !== extent) page = this.#extents.pageToChange(extent, this.#lineage, this.#plan.rangeSeq(extent) || this.#baseSeq);
      if (page === null) return { corrupt: `map of extents at ${extent}` };
      if (!this.#placed) this.#place(page);
      const state = (index.state(at) & STATE_MASK) as BlockState;
      const i = block - extent * EXTENT_BLOCKS;
      page.set(i, state, index.crc(at), index.seq(at));
      this.destagedBlocks += 1;
      if (state === BlockState.written && index.place(at) < 0) this.#extend(this.#extents.blockAt(page, i), index.position(at));
    }
    if (stop < this.#blocks.length) return 'more';
    if (this.#batchBlocks > 0) return this.#flush();
    this.#plan.clear();
    this.#pages = this.#extents.changedPages;
    this.#phase = 'pages';
    return 'more';
  }

  /** Begins with the blocks of a tile: which new place, if any, records of the round gave to it. The last of them covers all its blocks. */
  #enter(tile: number): void {
    const { index } = this.#plan;
    this.#tile = tile;
    this.#placed = false;
    this.#newPlace = NO_PLACE;
    if (!this.#hasTiles) return;
    for (let block = tile * TILE_BLOCKS; block < (tile + 1) * TILE_BLOCKS && this.#newPlace === NO_PLACE; block++) {
      const at = this.#plan.find(block);
      if (at >= 0) this.#newPlace = index.place(at);
    }
  }

  #place(page: ExtentPage): void {
    this.#placed = true;
    const tile = this.#tile % EXTENT_TILES;
    const old = page.place(tile);
    if (this.#newPlace === NO_PLACE && old !== NO_PLACE) return;
    const place = this.#newPlace === NO_PLACE ? this.#extents.places.takeNew() : this.#newPlace;
    page.setPlace(tile, place);
    this.#given.add(place);
    this.settledPlaces.add(place);
    if (old !== NO_PLACE && old !== place) this.#left.push(old);
  }

  /** In one record neighbours are one piece of the buffer. `block`: in the data files. */
  #extend(block: number, position: number): void {
    const adjoins = block === this.#pieceAt + this.#pieceBlocks && position === this.#pieceFrom + this.#pieceBlocks * BLOCK_BYTES;
    if (this.#pieceBlocks > 0 && (!adjoins || this.#extents.fileOf(block) !== this.#extents.fileOf(this.#pieceAt))) this.#endPiece();
    if (this.#pieceBlocks === 0) {
      this.#pieceFrom = position;
      this.#pieceAt = block;
    }
    this.#pieceBlocks += 1;
    this.#batchBlocks += 1;
  }

  #endPiece(): void {
    if (this.#pieceBlocks === 0) return;
    const file = this.#extents.fileOf(this.#pieceAt);
    let table = this.#tables.get(file);
    if (table === undefined) this.#tables.set(file, (table = []));
    table.push(this.#pieceFrom, this.#pieceBlocks * BLOCK_BYTES, this.#extents.filePosition(this.#pieceAt));
    this.#pieceBlocks = 0;
  }

  get #pieces(): Pieces { return { memory: this.#buffer, table: this.#table }; }

  #flush(): RoundStep {
    this.#endPiece();
    return this.#begin(() => {
      this.#writtenBlocks.push(this.#tables);
      this.#tables = new Map();
      this.#batchBlocks = 0;
    }, (done) => this.#extents.writeBlocks(this.#buffer, this.#tables, done));
  }

  /** Segments come to where they were in the buffer. */
  #readAgain(): RoundStep {
    const segment = this.segments[this.#againAt];
    if (segment === undefined) {
      this.#phase = 'blocks-again';
      this.#againAt = 0;
      return 'more';
    }
    const to = this.#bufferAt;
    return this.#begin(() => {
      this.#againAt += 1;
      this.#bufferAt += segment.endPosition;
    }, (done) => {
      segment.file.readLater(this.#buffer.subarray(to, to + segment.endPosition), 0, done);
      return null;
    });
  }

  #writeBlocksAgain(): RoundStep {
    const tables = this.#writtenBlocks[this.#againAt];
    if (tables !== undefined) return this.#begin(() => { this.#againAt += 1; }, (done) => this.#extents.writeBlocks(this.#buffer, tables, done));
    this.#phase = 'pages';
    return 'more';
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
      this.#pageBytes += this.#putPage(this.#pages[this.#pageAt] as ExtentPage, buffer);
    }
    if (stop < this.#pages.length) return 'more';
    if (this.#table.length > 0) return this.#flushPages();
    this.#phase = 'places';
    return 'more';
  }

  /** Adds a page to what is written next. The bytes that it takes of the buffer. */
  #putPage(page: ExtentPage, buffer: Uint8Array): number {
    const at = this.#pageBytes;
    const known = 2 * this.#pageAt;
    if (known === this.#sealedPages.length) {
      const bytes = this.#extents.sealPage(page, this.#lineage, this.number, buffer, at, this.#table);
      this.#sealedPages.push(bytes, this.#table[this.#table.length - 1] as number);
      return bytes;
    }
    const bytes = this.#sealedPages[known] as number;
    this.#extents.copyPage(page, bytes, buffer, at);
    this.#table.push(at, bytes, this.#sealedPages[known + 1] as number);
    return bytes;
  }

  #flushPages(): RoundStep {
    return this.#begin(() => {
      this.#table = [];
      this.#pageBytes = 0;
    }, (done) => this.#extents.writePages(this.#pieces, done));
  }
}
