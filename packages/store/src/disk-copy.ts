import { memberOf, type CopyFault, type EpochStart, type Frame, FrameKind, type LogPosition, type SessionMark, volumeTag, type VolumeTag } from '@ashlar/protocol';
import { BLOCK_BYTES, EXTENT_BLOCKS, EXTENT_BYTES, type VolumeId } from '@ashlar/words';
import { BlockReader } from './block-reader.ts';
import { BlockState, EXTENT_ENTRIES_BYTES, setBlockEntry } from './blocks.ts';
import { completeFrame, isComplete, touchesParts } from './complete.ts';
import type { CopyStore, ReadResult, ScrubResult, StatusRange, StoredState, StoreDone, StoreFigures, StoreOptions, StoreResult } from './copy-store.ts';
import { Round, type RoundStep } from './destager.ts';
import type { Disk, DiskError } from './disk.ts';
import { ExtentStore, extentCount } from './extents.ts';
import { acceptedPart, fillWellFormed, makeFill, type FillRead } from './fills.ts';
import { readHistory } from './history.ts';
import { Journal, type StoredRecord } from './journal.ts';
import { BACKLOG_PART, INDEX_ENTRIES_MAX, JOURNAL_BYTES_MAX, RANGES_MAX, ROUND_BYTES, SEGMENT_BYTES, TILE_BYTES, UNSYNCED_TILE_BYTES } from './limits.ts';
import { LiveBlocks } from './live-blocks.ts';
import { TILE_BLOCKS } from './places.ts';
import { writeTiles } from './placing.ts';
import { chainAfter, LogTail, type LogSnapshot } from './log-tail.ts';
import { type TileTable, frameFits, type JournalMark, marksBefore, payloadIntact } from './record.ts';
import { DestageBuffer, PageCache } from './resources.ts';
import { type Segment, SEGMENT_HEADER_BYTES } from './segment.ts';
import type { Superblock, SuperblockBody } from './superblock.ts';

/** Pages of a copy that shares no cache. */
const OWN_PAGES = 256;

/** A copy on a disk. What is on the disk and in which order it becomes stable is in docs/formats. */
export class DiskCopy implements CopyStore {
  readonly volumeId: VolumeId;
  readonly #disk: Disk;
  readonly #options: StoreOptions;
  readonly #tag: VolumeTag;
  readonly #superblock: Superblock;
  readonly #body: SuperblockBody;
  readonly journal: Journal;
  readonly extents: ExtentStore;
  readonly live = new LiveBlocks();
  readonly tail: LogTail;
  readonly #reader: BlockReader;
  readonly #buffer: DestageBuffer;
  #state: StoredState;
  #lostCache: boolean;
  #fault: CopyFault | null = null;
  #committedSeq: number;
  #durableSeq: number;
  /** Raised when the log is cut or restarted: a sync that began before says nothing about what came after. */
  #logLife = 0;
  #closed = false;
  #syncing = false;
  #unsyncedTileBytes = 0;
  /** The superblock says, stably, that the journal is durable up to here. */
  #vouched: JournalMark = { serial: 0, position: 0 };
  readonly #syncWaiters: StoreDone[] = [];
  #round: Round | null = null;
  #roundWaits = false;
  /** Numbers what rounds wait for: the end of an earlier wait says nothing about what a round does now. */
  #wait = 0;
  /** The round found no room twice: it waits for `retryRound`. */
  #refused = false;
  /** Syncs of the extents, and with them of tiles, that are under way for rounds. */
  #extentSyncs = 0;
  /** The round is carried to its end at once: nobody is woken for it. */
  #finishing = false;
  #wantsCommit = false;
  #scrubAt = 0;
  /** Records up to here turned out to be unreadable: history begins behind them. */
  #historyFloor = 0;
  readonly #counts = { appendedBytes: 0, destagedBlocks: 0, rounds: 0, coalescedBlocks: 0, syncs: 0 };

  constructor(disk: Disk, options: StoreOptions, superblock: Superblock) {
    const { body } = superblock;
    this.volumeId = options.volumeId;
    this.#disk = disk;
    this.#options = options;
    this.#tag = volumeTag(options.volumeId);
    this.#superblock = superblock;
    this.#body = body;
    const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.journal = new Journal(disk, this.#tag, { segmentBytes, bytesMax: options.journalBytesMax ?? JOURNAL_BYTES_MAX }, body.destagedSerial, body.durable, body.restarts, body.life, {
      readTile: (place, into) => this.extents.readBlocks(place * TILE_BLOCKS, into), sync: (done) => this.extents.syncRecords(done), syncNow: () => this.extents.syncRecordsNow(),
    });
    this.#buffer = options.destageBuffer ?? new DestageBuffer(Math.min(ROUND_BYTES, 2 * segmentBytes));
    this.extents = new ExtentStore(disk, this.#tag, body.dataFileBytes, options.pageCache ?? new PageCache(OWN_PAGES), body.round, body.presenceGenerations, body.restarts, () => { this.journal.directoryChanges += 1; });
    this.extents.loadPlaces(body.placesGeneration, body.sparePlaces);
    this.tail = new LogTail(body.destaged);
    this.live.index.destagedSerial = body.destagedSerial;
    this.#reader = new BlockReader(this.live, this.extents, this.journal, this.#options.backing ?? null);
    this.#state = body.state;
    this.#lostCache = body.lostCache;
    this.#committedSeq = body.committedSeq;
    this.#durableSeq = body.destaged.seq;
  }

  /** Called once by recovery, when the log is as it was found. */
  recovered(fault: CopyFault | null): void {
    this.#fault = fault;
    this.#durableSeq = this.tail.seq;
    this.#committedSeq = Math.min(Math.max(this.#committedSeq, this.#body.destaged.seq), this.tail.seq);
  }

  get lineage(): number { return this.tail.lineage; }
  get incarnation(): number { return this.#body.incarnation; }
  get lostCache(): boolean { return this.#lostCache; }
  get lastSeq(): number { return this.tail.seq; }
  get lastEpoch(): number { return this.tail.epoch; }
  get chain(): number { return this.tail.chain; }
  get durableSeq(): number { return this.#durableSeq; }
  get journalStartSeq(): number { return Math.min(Math.max(this.journal.startSeq, this.#historyFloor), this.tail.seq); }
  get epochStarts(): readonly EpochStart[] { return this.tail.epochStarts; }
  get session(): SessionMark { return this.tail.session; }
  get sizeBytes(): number { return this.#body.sizeBytes; }
  get state(): StoredState { return this.#state; }
  get fault(): CopyFault | null { return this.#fault; }
  get committedSeq(): number { return this.#committedSeq; }
  get backed(): boolean { return this.#options.backing !== undefined; }

  get figures(): StoreFigures {
    return { ...this.#counts, journalBytes: this.journal.totalBytes, backlogBytes: this.journal.backlogBytes, indexEntries: this.live.index.count };
  }

  // ---- The log

  append(frame: Frame, verify = false): StoreResult {
    const refused = this.#refuse(frame, verify);
    if (refused !== null) return refused;
    if (frame.kind !== FrameKind.log || frame.firstSeq !== this.tail.seq + 1 || frame.epoch < this.tail.epoch) {
      return { failed: 'chain', detail: `record ${frame.firstSeq} of epoch ${frame.epoch} after ${this.tail.seq} of epoch ${this.tail.epoch}` };
    }
    const made = frame.chain === 0;
    const bad = made && touchesParts(frame) ? completeFrame(frame, this.#readBlock) : null;
    if (bad !== null) return { failed: 'corrupt-block', block: bad, detail: 'the rest of a partly written block cannot be read' };
    if (!made && (!isComplete(frame) || !frameFits(frame))) return { failed: 'damaged-frame', detail: 'operations do not fit the frame' };
    const chain = chainAfter(this.tail.chain, frame);
    if (!made && frame.chain !== chain) return { failed: 'chain', detail: `record ${frame.firstSeq} follows on another history` };
    if (made) {
      frame.chain = chain;
      frame.durableSeq = this.#durableSeq;
      frame.seal();
    }
    const failed = this.#journal(frame);
    if (failed === null) this.tail.advance(frame, chain);
    return failed ?? 'ok';
  }

  readonly #readBlock = (block: number, into: Uint8Array): boolean => {
    const corrupt: number[] = [];
    this.#reader.read(block * BLOCK_BYTES, BLOCK_BYTES, into, 0, corrupt);
    return corrupt.length === 0;
  };

  #refuse(frame: Frame, verify: boolean): StoreResult | null {
    if (this.#fault !== null || this.#closed) return this.#dead();
    if (frame.lineage !== this.tail.lineage || !frame.hasVolumeTag(this.#tag)) return { failed: 'chain', detail: 'another volume or lineage' };
    if (verify && !(frame.headIntact && frameFits(frame) && payloadIntact(frame))) return { failed: 'damaged-frame', detail: `frame of ${frame.firstSeq}` };
    return null;
  }

  #dead(): StoreResult {
    return { failed: this.#fault === 'sync-failed' ? 'sync-failed' : 'io-error', detail: this.#fault === null ? 'closed' : `after ${this.#fault}` };
  }

  #journal(frame: Frame): StoreResult | null {
    if (!this.hasRoom(0)) return { failed: 'busy', detail: 'too much is to be destaged' };
    const tiles = writeTiles(frame, this.live, this.extents, this.journal);
    const placed = tiles === 'busy' || 'code' in tiles ? tiles : this.#appendRecord(frame, tiles);
    if (placed === 'busy') return { failed: 'busy', detail: 'the journal is full' };
    return placed === null ? null : this.#diskFailed(placed, 'append-failed');
  }

  #appendRecord(frame: Frame, tiles: TileTable): DiskError | 'busy' | null {
    const placed = this.journal.append(frame, this.tail, tiles);
    if (placed === 'busy' || 'code' in placed) {
      this.extents.places.giveBack(tiles);
      return placed;
    }
    const { segment, position, payloadPosition } = placed;
    if (frame.kind === FrameKind.log) {
      segment.endSeq = frame.lastSeq;
      this.journal.mark(segment, frame.firstSeq, position);
    }
    this.#counts.appendedBytes += frame.payload.length;
    this.live.append(frame, segment.serial, payloadPosition, tiles, this.#committedSeq);
    this.#unsyncedTileBytes += (tiles.length / 2) * TILE_BYTES;
    if (this.#unsyncedTileBytes >= UNSYNCED_TILE_BYTES && !this.#syncing) this.sync((failed) => { if (failed !== null) this.#options.wake?.(); });
    return null;
  }

  /** A write that finds no room has changed nothing. A sync that says so has failed like any other. */
  #diskFailed(error: DiskError, fault: CopyFault): StoreResult {
    if (error.code === 'ENOSPC' && fault === 'append-failed') return { failed: 'no-space', detail: error.message };
    this.#fault ??= fault;
    return { failed: fault === 'sync-failed' ? 'sync-failed' : fault === 'corrupt' ? 'corrupt' : 'io-error', detail: error.message };
  }

  hasRoom(bytes: number): boolean {
    return this.live.ranges.count < RANGES_MAX && this.live.index.count < INDEX_ENTRIES_MAX && this.journal.hasRoom(bytes);
  }

  sync(done: StoreDone): void {
    if (this.#fault !== null || this.#closed) return done('sync-failed');
    this.#syncWaiters.push(done);
    if (!this.#syncing) this.#beginSync();
  }

  #beginSync(): void {
    const waiters = this.#syncWaiters.splice(0);
    const life = this.#logLife;
    const reached = this.tail.seq;
    this.#syncing = true;
    this.#unsyncedTileBytes = 0;
    this.#counts.syncs += 1;
    this.journal.sync((error) => {
      if (this.#closed) return;
      this.#syncing = false;
      if (error !== null) {
        // What the page cache holds after a failed sync cannot be told: nothing is retried, whoever waits is told so.
        this.#fault ??= 'sync-failed';
        for (const done of [...waiters, ...this.#syncWaiters.splice(0)]) done('sync-failed');
        return;
      }
      if (life === this.#logLife) this.#durableSeq = Math.max(this.#durableSeq, reached);
      if (this.#syncWaiters.length > 0) this.#beginSync();
      for (const done of waiters) done(null);
    });
  }

  saveState(state: StoredState, done: StoreDone): void {
    if (this.#closed) return done('io-error');
    const me = state.configuration === null ? undefined : memberOf(state.configuration, this.#options.serverId);
    const heals = me?.incarnation === this.#body.incarnation;
    this.#body.state = state;
    if (heals) this.#body.lostCache = false;
    this.#superblock.save((error) => {
      if (this.#closed) return;
      if (error !== null) {
        this.#fault ??= 'sync-failed';
        return done('sync-failed');
      }
      this.#state = state;
      if (heals) this.#lostCache = false;
      done(null);
    });
  }

  truncate(afterSeq: number): StoreResult {
    if (this.#fault !== null || this.#closed) return this.#dead();
    if (afterSeq >= this.tail.seq) return 'ok';
    if (afterSeq < this.#body.destaged.seq || afterSeq < this.journalStartSeq || (this.#round !== null && afterSeq < this.#roundEndSeq())) {
      return { failed: 'too-old', detail: `${afterSeq} lies below what is settled` };
    }
    const log = this.#logAt(afterSeq);
    if (log === null) return { failed: 'chain', detail: `no record ends at ${afterSeq}` };
    this.#logLife += 1;
    this.tail.reset(log);
    this.#durableSeq = Math.min(this.#durableSeq, afterSeq);
    this.#committedSeq = Math.min(this.#committedSeq, afterSeq);
    for (const segment of this.journal.segments) segment.endSeq = Math.min(segment.endSeq, afterSeq);
    // The header of the next segment says where the log was cut; it must not come back with a power cut.
    const error = this.journal.begin(log, this.journal.limits.segmentBytes, true);
    if (error !== null) return this.#cutFailed(error);
    const syncError = this.journal.syncNow();
    if (syncError !== null) return this.#diskFailed(syncError, 'sync-failed');
    // A sync under way may have been told of an error that this one then was not.
    if (!this.#syncing && this.#extentSyncs === 0) this.#durableSeq = this.tail.seq;
    return this.live.cut(afterSeq) ? 'ok' : this.replayLive();
  }

  /** The log was cut in memory and cannot be cut on disk: the copy must not go on with either. */
  #cutFailed(error: DiskError): StoreResult {
    this.#fault ??= 'append-failed';
    return { failed: 'io-error', detail: error.message };
  }

  #roundEndSeq(): number {
    const { segments } = this.#round as Round;
    return (segments[segments.length - 1] as Segment).endSeq;
  }

  /** The log as it was at this record, from what is in the journal; null if it is not the end of a record. */
  #logAt(seq: number): LogSnapshot | null {
    const segment = this.journal.segments.find((candidate) => candidate.startSeq <= seq && seq <= candidate.endSeq);
    if (segment === undefined) return null;
    if (seq === segment.startSeq) return segment.header.start;
    for (let position = segment.positionBefore(seq - 1); position < segment.endPosition;) {
      const record = this.journal.read(segment, position, 'none');
      if (record === null || 'code' in record) return null;
      if (record.frame.kind === FrameKind.log && record.frame.lastSeq >= seq) return record.frame.lastSeq === seq ? this.tail.snapshotAt(record.frame) : null;
      position = record.nextPosition;
    }
    return null;
  }

  /** Reads the index anew from what the journal holds beyond the extents. */
  replayLive(): StoreResult {
    this.live.clear();
    for (const segment of this.journal.live) {
      for (let position = SEGMENT_HEADER_BYTES; position < segment.endPosition;) {
        const record = this.journal.read(segment, position, 'none');
        if (record === null || 'code' in record) return this.#diskFailed({ code: 'EIO', message: `journal segment ${segment.serial} at ${position}` }, 'corrupt');
        this.takeIn(segment, record, segment.endSeq);
        position = record.nextPosition;
      }
    }
    return 'ok';
  }

  /** A record that the journal was found to hold; operations with versions beyond `maxSeq` were cut off. */
  takeIn({ serial }: Segment, { frame, payloadPosition, tiles }: StoredRecord, maxSeq = Infinity): void {
    this.live.apply(frame, serial, payloadPosition, tiles, maxSeq);
    this.extents.places.hold(tiles);
  }

  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq: number): StoreResult {
    if (this.#fault !== null || this.#closed) return this.#dead();
    // Half a round has overwritten blocks of which the log, which is forgotten now, holds the rest. (What a crash has left of a round before
    // shows as corrupt: the copy is incomplete from now on, and the comparison fills such blocks.)
    const unfinished = this.#finishRound();
    if (unfinished !== null) return unfinished;
    const body = this.#body;
    const drops = lineage !== this.tail.lineage || Math.max(body.newestSeq, body.destaged.seq) > commonSeq;
    this.#logLife += 1;
    body.restarts += 1;
    body.round += 1;
    body.lineage = lineage;
    body.destaged = { lineage, seq: position.seq, epoch: epochStarts[epochStarts.length - 1]?.epoch ?? 0, chain: position.chain, epochStarts, session };
    body.destagedSerial = this.journal.end.serial;
    body.destagedEnd = 0;
    body.durable = { serial: body.destagedSerial, position: 0 };
    body.committedSeq = 0;
    body.newestSeq = drops ? 0 : Math.max(body.newestSeq, commonSeq);
    if (drops) body.presenceGenerations = [];
    body.placesGeneration = drops ? 0 : this.extents.places.generation;
    body.sparePlaces = drops ? 0 : this.extents.places.spares;
    const error = this.#superblock.saveNow();
    if (error !== null) return this.#diskFailed(error, 'sync-failed');
    this.journal.clear();
    this.journal.restarts = body.restarts;
    this.live.clear();
    this.live.index.destagedSerial = body.destagedSerial;
    if (drops) this.extents.clear(body.round);
    else {
      this.extents.round = body.round;
      this.extents.places.reset();
    }
    this.extents.presence.restart(body.restarts);
    this.tail.reset(body.destaged);
    this.#historyFloor = 0;
    this.#durableSeq = position.seq;
    this.#committedSeq = 0;
    return 'ok';
  }

  commit(seq: number): void {
    if (seq <= this.#committedSeq) return;
    this.#committedSeq = Math.min(seq, this.tail.seq);
    if (!this.#wantsCommit) return;
    this.#wantsCommit = false;
    this.#options.wake?.();
  }

  grow(sizeBytes: number): StoreResult {
    if (this.#fault !== null || this.#closed) return this.#dead();
    if (sizeBytes <= this.#body.sizeBytes) return 'ok';
    this.#body.sizeBytes = sizeBytes;
    const error = this.#superblock.saveNow();
    return error === null ? 'ok' : this.#diskFailed(error, 'sync-failed');
  }

  // ---- Reading

  read(offsetBytes: number, lengthBytes: number, into: Uint8Array, intoPosition: number): ReadResult {
    const corrupt: number[] = [];
    this.#reader.read(offsetBytes, lengthBytes, into, intoPosition, corrupt);
    return corrupt.length === 0 ? 'ok' : { corrupt };
  }

  blockStatus(offsetBytes: number, lengthBytes: number): readonly StatusRange[] {
    return this.#reader.status(offsetBytes, lengthBytes);
  }

  history(afterSeq: number, recordsMax: number, bytesMax: number): readonly Frame[] | 'gone' {
    if (afterSeq < this.journalStartSeq) return 'gone';
    const found = readHistory(this.journal, afterSeq, this.tail.seq, recordsMax, bytesMax);
    if (typeof found !== 'number') return found;
    // Blocks were settled in a record's tile, or a file that was used again when power went away has its old head. What is announced from now on begins behind it.
    this.#historyFloor = found;
    return 'gone';
  }

  listExtents(from: number, max: number): { readonly extents: readonly number[]; readonly end: boolean } {
    const extents: number[] = [];
    let at = from;
    while (extents.length < max) {
      const extent = this.#nextExtent(at);
      if (extent < 0) return { extents, end: true };
      extents.push(extent);
      at = extent + 1;
    }
    return { extents, end: this.#nextExtent(at) < 0 };
  }

  /**
   * The next extent of which single blocks are held, in the extents or in the journal; -1 if there is none. Over a backing also those that
   * were zeroed as a whole: there they are not what a copy has that holds nothing.
   */
  #nextExtent(from: number): number {
    const { presence } = this.extents;
    const found = [this.backed ? presence.nextHeld(from) : presence.nextWithPage(from), this.live.nextExtent(from), this.backed ? this.live.ranges.nextExtent(from) : -1];
    const next = Math.min(...found.map((extent) => (extent < 0 ? Infinity : extent)));
    return next < extentCount(this.sizeBytes) ? next : -1;
  }

  extentBlocks(extent: number, verify: boolean): Uint8Array {
    const entries = new Uint8Array(EXTENT_ENTRIES_BYTES);
    const bad = new Set(verify ? this.#checkExtent(extent) : []);
    for (let i = 0; i < EXTENT_BLOCKS; i++) {
      const block = extent * EXTENT_BLOCKS + i;
      const state = this.#reader.locate(block);
      setBlockEntry(entries, i, bad.has(block) ? BlockState.corrupt : state, this.#reader.seq, this.#reader.crc);
    }
    return entries;
  }

  #checkExtent(extent: number): readonly number[] {
    const corrupt: number[] = [];
    this.#reader.read(extent * EXTENT_BYTES, EXTENT_BYTES, checkBuffer, 0, corrupt);
    return corrupt;
  }

  readFill(extent: number, blocks: readonly number[]): FillRead {
    return makeFill(this.#reader, this.#tag, this.tail.lineage, this.tail.seq, extent, blocks);
  }

  applyFill(frame: Frame, verify = false): StoreResult {
    const refused = this.#refuse(frame, verify);
    if (refused !== null) return refused;
    if (!fillWellFormed(frame) || !frameFits(frame)) return { failed: 'damaged-frame', detail: 'not a fill' };
    const part = acceptedPart(frame, this.#reader, { lastSeq: this.tail.seq, settledSeq: this.#body.destaged.seq, viewOf: (extent) => this.extents.view(extent), rangeSeqOf: (extent) => this.live.rangeSeq(extent) });
    return (part === null ? null : this.#journal(part)) ?? 'ok';
  }

  // ---- Background work

  destageStep(budgetBlocks: number, eager: boolean): 'idle' | 'more' | 'waiting' {
    if (this.#closed) return 'idle';
    // Also of a faulted copy: its disk may be at work with the buffer still, which may take long.
    if (this.#roundWaits) return 'waiting';
    const outcome = this.#fault === null ? this.#roundStep(budgetBlocks, eager) : 'idle';
    if (this.#fault !== null && this.#round !== null) {
      // It moves nothing any more; other copies wait for the buffer.
      this.#round = null;
      this.#buffer.forget(this);
    }
    return outcome;
  }

  #roundStep(budgetBlocks: number, eager: boolean): 'idle' | 'more' | 'waiting' {
    if (this.#refused) return 'waiting';
    if (this.#round === null) {
      const begun = this.#beginRound(eager);
      if (begun !== 'more') return begun;
    }
    return this.#stepRound(this.#round as unknown as Round, budgetBlocks);
  }

  #beginRound(eager: boolean): 'idle' | 'more' | 'waiting' {
    const { journal } = this;
    const live = journal.live;
    if (live.length === 0 || (!eager && journal.liveBytes < journal.limits.bytesMax * BACKLOG_PART)) return 'idle';
    const oldest = live[0] as Segment;
    if (oldest.endSeq > this.#committedSeq) {
      this.#wantsCommit = true;
      return 'idle';
    }
    if (oldest === journal.current) {
      if (!eager || oldest.endPosition === SEGMENT_HEADER_BYTES) return 'idle';
      journal.close();
    }
    if (marksBefore(journal.durable, oldest.end)) {
      // However it ends: a fault is to be told.
      this.sync(() => this.#options.wake?.());
      return 'waiting';
    }
    const segments = journal.destageable(this.#committedSeq, this.#buffer.maxBytes);
    const bytes = segments.reduce((total, segment) => total + segment.endPosition, 0);
    const buffer = this.#buffer.acquire(this, bytes, () => this.#options.wake?.());
    if (buffer === null) return 'waiting';
    this.#round = new Round(this.#body.round + 1, segments, buffer, this.extents, this.live, this.tail.lineage, this.#body.destaged.seq, Math.min(this.#committedSeq, this.#durableSeq), this.#moved);
    return 'more';
  }

  /** What the disk did for the round in the background is over. */
  readonly #moved = (): void => {
    if (this.#closed || this.#finishing) return;
    this.#roundWaits = false;
    this.#options.wake?.();
  };

  #stepRound(round: Round, budgetBlocks: number): 'idle' | 'more' | 'waiting' {
    if (round.moving) {
      const buffer = this.#buffer.acquire(this, round.bufferBytes, () => this.#options.wake?.());
      if (buffer === null) return 'waiting';
      round.useBuffer(buffer);
    }
    const outcome = round.step(budgetBlocks);
    // Others may move their data while this round waits for its syncs.
    if (!round.moving) this.#buffer.release(this);
    if (outcome === 'vouch' && !marksBefore(this.#vouched, (round.segments[round.segments.length - 1] as Segment).end)) {
      round.vouched();
      return 'more';
    }
    if (outcome === 'more') return 'more';
    if (typeof outcome === 'object') return this.#roundFailed(outcome);
    this.#roundWaits = true;
    if (outcome === 'background') return 'waiting';
    const { durable } = this.journal;
    const wait = ++this.#wait;
    const done = (error: DiskError | null): void => {
      if (this.#closed) return;
      const awaited = this.#round === round && this.#wait === wait;
      if (error?.code === 'ENOSPC' && outcome === 'sync' && awaited && this.#fault === null) return this.#writeAgain(round);
      // Also one of a round that was carried on, or to its end, meanwhile: its own sync may not have been told of it.
      if (error !== null) this.#fault ??= 'sync-failed';
      if (awaited) {
        this.#roundWaits = false;
        if (error === null && outcome !== 'sync') this.#vouched = durable;
        if (error === null && outcome === 'record') this.#settle(round);
        else if (error === null && outcome === 'vouch') round.vouched();
      }
      this.#options.wake?.();
    };
    if (outcome === 'sync') this.#syncExtents(done);
    else {
      if (outcome === 'record') this.#record(round);
      this.#body.durable = durable;
      this.#superblock.save(done);
    }
    return this.#roundWaits ? 'waiting' : 'more';
  }

  /** As after a write that found no room, nobody is woken for it. Twice in a row: history gives way, and it is done once somebody asks, not with each write. */
  #writeAgain(round: Round): void {
    this.#roundWaits = false;
    this.#refused = round.again() > 1;
    if (this.#refused) this.journal.dropHistory();
  }

  retryRound(): void { this.#refused = false; }

  #syncExtents(done: (error: DiskError | null) => void): void {
    this.#extentSyncs++;
    this.extents.sync((error) => {
      this.#extentSyncs--;
      done(error);
    });
  }

  #roundFailed(outcome: Exclude<RoundStep, string>): 'idle' | 'waiting' {
    if ('corrupt' in outcome) {
      this.#fault ??= 'corrupt';
      return 'idle';
    }
    if (outcome.code === 'ENOSPC') {
      // History gives way; then the step is tried again when there is work again.
      this.journal.dropHistory();
      return 'waiting';
    }
    this.#fault ??= 'append-failed';
    return 'idle';
  }

  /** What the round made stable takes effect with the superblock. */
  #record(round: Round): void {
    const body = this.#body;
    const last = round.segments[round.segments.length - 1] as Segment;
    body.destagedSerial = last.serial;
    body.destagedEnd = last.endPosition;
    body.destaged = this.journal.logAfter(last) ?? this.tail.snapshot();
    body.newestSeq = Math.max(body.newestSeq, body.destaged.seq, round.newestSeq);
    body.round = round.number;
    // As it is now: the next round changes the list before it counts, and the superblock may be saved in between for another reason.
    body.presenceGenerations = [...this.extents.presence.generations];
    body.placesGeneration = this.extents.places.generation;
    body.sparePlaces = this.extents.places.spares;
    body.committedSeq = this.#committedSeq;
  }

  #settle(round: Round): void {
    this.journal.destagedSerial = round.lastSerial;
    this.journal.thinHistory();
    this.live.destaged(round.lastSerial, this.#committedSeq);
    this.extents.settled(round.number);
    this.extents.places.settled(round.settledPlaces, round.releasedPlaces);
    this.#counts.rounds++;
    this.#counts.destagedBlocks += round.destagedBlocks;
    this.#counts.coalescedBlocks += round.coalescedBlocks;
    this.#round = null;
    this.#refused = false;
    this.#buffer.release(this);
  }

  /** Carries a round that is under way to its end, blocking. */
  #finishRound(): StoreResult | null {
    const round = this.#round;
    if (round === null) return null;
    this.#finishing = true;
    this.#wait++;
    const failed = this.#finish(round);
    this.#finishing = false;
    this.#roundWaits = false;
    return failed;
  }

  #finish(round: Round): StoreResult | null {
    if (round.moving && !this.#buffer.isOwnedBy(this)) {
      // One that writes everything again has had to let go of the buffer, and cannot wait for it.
      this.#buffer.forget(this);
      round.useBuffer(new Uint8Array(new SharedArrayBuffer(round.bufferBytes)));
    }
    for (;;) {
      const outcome = round.step(EXTENT_BLOCKS);
      if (outcome === 'more') continue;
      if (outcome === 'background') {
        this.#disk.settle();
        continue;
      }
      if (typeof outcome === 'object') {
        this.#roundFailed(outcome);
        return 'corrupt' in outcome ? { failed: 'corrupt', detail: outcome.corrupt } : this.#diskFailed(outcome, 'append-failed');
      }
      // Also before the superblock: the sync that the round was waiting for may not be over.
      const unsynced = this.extents.syncNow();
      if (unsynced !== null) return this.#diskFailed(unsynced, 'sync-failed');
      if (outcome === 'sync') continue;
      if (outcome === 'record') this.#record(round);
      this.#body.durable = this.journal.durable;
      const error = this.#superblock.saveNow();
      if (error !== null) return this.#diskFailed(error, 'sync-failed');
      if (outcome === 'vouch') {
        round.vouched();
        continue;
      }
      this.#settle(round);
      return null;
    }
  }

  shrinkJournal(): void {
    this.journal.dropHistory();
  }

  scrubStep(budgetBlocks: number): ScrubResult {
    const corrupt: number[] = [];
    let checkedBlocks = 0;
    while (checkedBlocks < Math.max(1, budgetBlocks)) {
      const extent = this.#nextExtent(this.#scrubAt);
      if (extent < 0) {
        this.#scrubAt = 0;
        return { checkedBlocks, corrupt, wrapped: true };
      }
      corrupt.push(...this.#checkExtent(extent));
      checkedBlocks += EXTENT_BLOCKS;
      this.#scrubAt = extent + 1;
    }
    return { checkedBlocks, corrupt, wrapped: false };
  }

  // ---- The end

  close(clean: boolean): StoreResult {
    if (this.#closed) return 'ok';
    const result = clean && this.#fault === null ? this.#recordClose() : 'ok';
    this.#closeFiles();
    return result;
  }

  #recordClose(): StoreResult {
    const body = this.#body;
    // A sync under way may have been told of an error that another one then is not: what it says comes too late for us.
    if (this.#syncing || this.#extentSyncs > 0) return 'ok';
    const error = this.journal.syncNow();
    if (error !== null) return this.#diskFailed(error, 'sync-failed');
    body.durable = this.journal.end;
    body.committedSeq = this.#committedSeq;
    body.clean = true;
    const saved = this.#superblock.saveNow();
    return saved === null ? 'ok' : this.#diskFailed(saved, 'sync-failed');
  }

  #closeFiles(): void {
    this.#closed = true;
    // A late write would hit files that another life of this copy has opened.
    this.#disk.settle();
    this.#buffer.forget(this);
    this.journal.closeFiles();
    this.extents.closeFiles();
    this.#superblock.close();
  }
}

const checkBuffer = new Uint8Array(EXTENT_BYTES);
