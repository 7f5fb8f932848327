import { assert } from '@ashlar/words';
import { Frame, type VolumeTag } from '@ashlar/protocol';
import type { Disk, DiskError, DiskFile } from './disk.ts';
import { HISTORY_SMALL_MAX, HISTORY_SMALL_PART, PAGE_BYTES, TILE_BYTES } from './limits.ts';
import type { LogSnapshot, LogTail } from './log-tail.ts';
import {
  type TileTable, tileTable, headMatches, marksBefore, parseRecordHeader, placedPrefix, prefixBytes, recordBytes, RECORD_HEADER_BYTES, sealRecord, type JournalMark,
} from './record.ts';
import { Segment, SEGMENT_HEADER_BYTES, writeSegmentHeader } from './segment.ts';

/** Every so many records their position is remembered, for finding history. */
const MARK_RECORDS = 32;
const PADDING = new Uint8Array(PAGE_BYTES);
/** Where records are read to first: one of a few blocks comes whole with one read. What is taken from it is copied at once. */
const recordStart = new Uint8Array(4 * PAGE_BYTES);
/** Files are named by slot, not by serial number: a file is used again for another segment. */
const NAME = /^journal-([0-9]{4,})$/;

export interface JournalLimits {
  readonly segmentBytes: number;
  readonly bytesMax: number;
}

/** What records have outside the journal: tiles at places of their own. */
export interface RecordTiles {
  /** Fills `into` with a tile. */
  readTile(place: number, into: Uint8Array): DiskError | null;
  sync(done: (error: DiskError | null) => void): void;
  syncNow(): DiskError | null;
}

/** A record as read back; `payloadPosition` is where its payload, without `tiles`, lies in the segment. */
export interface StoredRecord {
  readonly frame: Frame;
  readonly tiles: TileTable;
  readonly position: number;
  readonly payloadPosition: number;
  readonly nextPosition: number;
  readonly durable: JournalMark;
}

export function isJournalName(name: string): boolean {
  return NAME.test(name);
}

/** The segments of one copy: history (in the extents already), what is to be destaged, and the one that is written to. */
export class Journal {
  readonly #disk: Disk;
  readonly #tag: VolumeTag;
  readonly #tiles: RecordTiles;
  readonly limits: JournalLimits;
  /** By serial number, rising, without gaps. */
  readonly segments: Segment[] = [];
  /** The last segment while it may be written to. */
  current: Segment | null = null;
  /** Segments up to this serial are in the extents. */
  destagedSerial: number;
  /** Everything before this place is on stable storage. */
  durable: JournalMark;
  /** Files made so far, and how many of them the directory has on stable storage. */
  directoryChanges = 0;
  #directorySynced = 0;
  restarts: number;
  readonly #life: number;
  #nextSlot = 0;
  #recordsSinceMark = 0;
  readonly #headerBytes = new Uint8Array(RECORD_HEADER_BYTES);
  readonly #header = new DataView(this.#headerBytes.buffer);
  readonly #buffers: Uint8Array[] = [];

  constructor(disk: Disk, tag: VolumeTag, limits: JournalLimits, destagedSerial: number, durable: JournalMark, restarts: number, life: number, tiles: RecordTiles) {
    this.#disk = disk;
    this.#tag = tag;
    this.#tiles = tiles;
    this.limits = limits;
    this.destagedSerial = destagedSerial;
    this.durable = durable;
    this.restarts = restarts;
    this.#life = life;
    for (const name of disk.list()) {
      const match = NAME.exec(name);
      if (match) this.#nextSlot = Math.max(this.#nextSlot, Number(match[1]) + 1);
    }
  }

  get last(): Segment | null { return this.segments[this.segments.length - 1] ?? null; }
  get end(): JournalMark { return this.last?.end ?? { serial: this.destagedSerial, position: 0 }; }
  get totalBytes(): number { return sum(this.segments); }
  get live(): readonly Segment[] { return this.segments.filter((segment) => segment.serial > this.destagedSerial); }

  get liveBytes(): number {
    let bytes = 0;
    for (const segment of this.segments) if (segment.serial > this.destagedSerial) bytes += segment.capacityBytes;
    return bytes;
  }

  /** The lowest beginning counts: what an older segment holds beyond it was cut off. */
  get startSeq(): number {
    let seq = Infinity;
    for (const segment of this.segments) if (segment.startSeq < seq) seq = segment.startSeq;
    return seq;
  }

  /** Bytes of records that the extents do not have yet. */
  get backlogBytes(): number {
    let bytes = 0;
    for (const segment of this.segments) if (segment.serial > this.destagedSerial) bytes += segment.usedBytes - SEGMENT_HEADER_BYTES;
    return bytes;
  }

  /** The oldest live segments that are closed, committed and durable, up to so many bytes. */
  destageable(committedSeq: number, maxBytes: number): Segment[] {
    const segments: Segment[] = [];
    let bytes = 0;
    for (const segment of this.live) {
      bytes += segment.endPosition;
      if (segment === this.current || segment.endSeq > committedSeq || marksBefore(this.durable, segment.end)) break;
      // A segment that was cut off again is not parted from what goes on behind it: the log at a round's end must be one that still counts.
      const parted = segments.length > 0 && segment.startSeq === (segments[segments.length - 1] as Segment).endSeq;
      if (parted && bytes > maxBytes) break;
      segments.push(segment);
    }
    return segments;
  }

  /** The log at the end of a segment, without what was cut off later: the segment behind it may begin on a branch that is dead. Null behind the last one. */
  logAfter(segment: Segment): LogSnapshot | null {
    let log: LogSnapshot | null = null;
    for (const { serial, header } of this.segments) if (serial > segment.serial && (log === null || header.start.seq <= log.seq)) log = header.start;
    return log;
  }

  bySerial(serial: number): Segment | null {
    const first = this.segments[0];
    return first === undefined ? null : (this.segments[serial - first.serial] ?? null);
  }

  /** True if a record of so many bytes has a place, in this segment or in another that may be begun. */
  hasRoom(bytes: number): boolean {
    const record = Math.ceil((bytes + RECORD_HEADER_BYTES) / PAGE_BYTES) * PAGE_BYTES;
    return this.#fitsCurrent(record) || this.#mayBegin(this.#capacityFor(record));
  }

  #fitsCurrent(record: number): boolean {
    return this.current !== null && this.current.usedBytes + record <= this.current.capacityBytes;
  }

  #capacityFor(record: number): number {
    return Math.max(this.limits.segmentBytes, SEGMENT_HEADER_BYTES + record);
  }

  /** One record must always find a place in a journal that holds nothing else. */
  #mayBegin(capacity: number): boolean {
    const live = this.liveBytes;
    return live === 0 || live + capacity <= this.limits.bytesMax;
  }

  /** The oldest segment that there is: records of those before it are gone. */
  get oldestSerial(): number { return this.segments[0]?.serial ?? this.destagedSerial + 1; }

  /** True if this record, `tiles` of it at places of their own, can be appended. */
  takes(frame: Frame, tiles: number): boolean {
    const bytes = recordBytes(frame.head.length, frame.payload.length, tiles) + tiles * TILE_BYTES;
    return this.#fitsCurrent(bytes) || this.#mayBegin(this.#capacityFor(bytes));
  }

  /**
   * Journals one frame with one write; `tiles` of its payload are at their places already. `log`: the log as it is before the frame.
   * The positions of the record and of its payload, `busy`, or an error.
   */
  append(frame: Frame, log: LogTail, tiles: TileTable): { readonly segment: Segment; readonly position: number; readonly payloadPosition: number } | 'busy' | DiskError {
    const count = tiles.length / 2;
    const bytes = recordBytes(frame.head.length, frame.payload.length, count);
    const placed = count * TILE_BYTES;
    if (!this.#fitsCurrent(bytes + placed)) {
      if (!this.#mayBegin(this.#capacityFor(bytes + placed))) return 'busy';
      const error = this.begin(log.snapshot(), this.#capacityFor(bytes + placed));
      if (error !== null) return error;
    }
    const segment = this.current as Segment;
    const at = segment.endPosition;
    const place = { serial: segment.serial, position: at, life: this.#life };
    let prefix: Uint8Array = this.#headerBytes;
    if (count === 0) sealRecord(this.#header, this.#headerBytes, frame, place, this.durable);
    else prefix = placedPrefix(frame, place, this.durable, tiles);
    const used = prefix.length + frame.head.length + frame.payload.length - placed;
    const error = this.#write(segment, prefix, frame, tiles, bytes - used, at);
    if (error !== null) return error;
    segment.writes += 1;
    segment.endPosition = at + bytes;
    segment.placedBytes += placed;
    return { segment, position: at, payloadPosition: at + prefix.length + frame.head.length };
  }

  /** Remembers where a log record lies, now and then. */
  mark(segment: Segment, seq: number, position: number): void {
    if (this.#recordsSinceMark++ % MARK_RECORDS === 0) segment.marks.push(seq, position);
  }

  #write(segment: Segment, prefix: Uint8Array, frame: Frame, tiles: TileTable, padding: number, at: number): DiskError | null {
    const buffers = this.#buffers;
    const { payload } = frame;
    buffers.length = 0;
    buffers.push(prefix, frame.head);
    let from = 0;
    for (let k = 0; k < tiles.length; k += 2) {
      const tile = tiles[k] as number;
      if (tile > from) buffers.push(payload.subarray(from, tile));
      from = tile + TILE_BYTES;
    }
    if (payload.length > from) buffers.push(from === 0 ? payload : payload.subarray(from));
    if (padding > 0) buffers.push(PADDING.subarray(0, padding));
    const error = segment.file.write(buffers, at, false);
    if (error?.code !== 'ENOSPC' || !this.dropHistory()) return error;
    return segment.file.write(buffers, at, false);
  }

  /** Ends the current segment. The next record begins another. */
  close(): void {
    this.current = null;
  }

  /** Begins a segment: in the file of the oldest history if the journal has reached its bound, else in a new one. `essential`: also where the disk is full, but for the reserve. */
  begin(log: LogSnapshot, capacity: number, essential = false): DiskError | null {
    const header = {
      serial: this.end.serial + 1, restarts: this.restarts, life: this.#life, start: log, previousEnd: this.end.position, durable: this.durable,
    };
    let file = this.#recycle(capacity);
    if (file === null) {
      const created = this.#create();
      if ('code' in created) return created;
      file = created;
      this.directoryChanges += 1;
    }
    let error = writeSegmentHeader(file, this.#tag, header, essential);
    if (error?.code === 'ENOSPC' && this.dropHistory()) error = writeSegmentHeader(file, this.#tag, header, essential);
    if (error !== null) {
      this.#discard(file);
      return error;
    }
    const segment = new Segment(file, header, capacity);
    segment.writes += 1;
    this.segments.push(segment);
    this.current = segment;
    this.#recordsSinceMark = 0;
    return null;
  }

  #create(): DiskFile | DiskError {
    const name = `journal-${String(this.#nextSlot++).padStart(4, '0')}`;
    const created = this.#disk.create(name);
    return 'code' in created && created.code === 'ENOSPC' && this.dropHistory() ? this.#disk.create(name) : created;
  }

  #recycle(capacity: number): DiskFile | null {
    const oldest = this.segments[0];
    if (oldest === undefined || oldest.serial > this.destagedSerial || this.totalBytes + capacity <= this.limits.bytesMax) return null;
    // The last one stays: the serial numbers and the end of the journal are known from it.
    if (this.segments.length === 1) return null;
    this.segments.shift();
    if (oldest.capacityBytes === capacity) return oldest.file;
    this.#discard(oldest.file);
    return this.#recycle(capacity);
  }

  #discard(file: DiskFile): void {
    file.close();
    // A file that cannot be removed is only in the way: its segment is known to be destaged, or its header to be invalid.
    this.#disk.remove(file.name);
  }

  /** Gives the files of destaged segments back to the disk. True if there were any. */
  dropHistory(): boolean {
    let dropped = false;
    while (this.segments.length > 1 && (this.segments[0] as Segment).serial <= this.destagedSerial) {
      this.#discard((this.segments.shift() as Segment).file);
      dropped = true;
    }
    return dropped;
  }

  /** Keeps the number of small files of history within its bound: the oldest go, whatever they hold. */
  thinHistory(): void {
    const isSmall = (segment: Segment): boolean => segment.usedBytes < segment.capacityBytes * HISTORY_SMALL_PART;
    let small = this.segments.filter((segment) => segment.serial <= this.destagedSerial && isSmall(segment)).length;
    while (small > HISTORY_SMALL_MAX && this.segments.length > 1) {
      const oldest = this.segments.shift() as Segment;
      if (isSmall(oldest)) small -= 1;
      this.#discard(oldest.file);
    }
  }

  /** Forgets all segments; their serial numbers are not used again. */
  clear(): void {
    const { serial } = this.end;
    for (const segment of this.segments.splice(0)) this.#discard(segment.file);
    this.current = null;
    this.destagedSerial = serial;
    this.durable = { serial, position: 0 };
  }

  /** The record at this place, or null if none is. `stored`: its payload without what lies in tiles. */
  read(segment: Segment, position: number, payload: 'whole' | 'stored' | 'none'): StoredRecord | DiskError | null {
    const start = payload !== 'none' ? recordStart : recordStart.subarray(0, PAGE_BYTES);
    const error = segment.file.read(start, position);
    if (error !== null) return error;
    const header = parseRecordHeader(start, 0, { serial: segment.serial, position, life: segment.header.life });
    if (header === null) return null;
    const prefix = prefixBytes(header.tiles);
    const stored = header.payloadBytes - header.tiles * TILE_BYTES;
    const wanted = prefix - RECORD_HEADER_BYTES + header.headBytes + (payload !== 'none' ? stored : 0);
    const bytes = new Uint8Array(RECORD_HEADER_BYTES + wanted);
    const inStart = Math.min(bytes.length, start.length);
    bytes.set(start.subarray(0, inStart));
    if (bytes.length > inStart) {
      const rest = segment.file.read(bytes.subarray(inStart), position + start.length);
      if (rest !== null) return rest;
    }
    const tiles = tileTable(bytes, header);
    const payloadAt = prefix + header.headBytes;
    const frame = new Frame(bytes.subarray(prefix, payloadAt), bytes.subarray(payloadAt));
    if (tiles === null || !headMatches(frame, header)) return null;
    const failed = payload === 'whole' && tiles.length > 0 ? this.#join(frame, tiles) : null;
    if (failed !== null) return failed.code === 'ENOENT' ? null : failed;
    return {
      frame, tiles, position, payloadPosition: position + payloadAt,
      nextPosition: position + recordBytes(header.headBytes, header.payloadBytes, header.tiles), durable: header.durable,
    };
  }

  /** Puts the payload together again. What lies at the places may be something else by now: the frame's checksums tell. */
  #join(frame: Frame, tiles: TileTable): DiskError | null {
    const whole = new Uint8Array(frame.payloadBytes);
    const stored = frame.payload;
    let to = 0;
    let from = 0;
    for (let k = 0; k < tiles.length; k += 2) {
      const tile = tiles[k] as number;
      whole.set(stored.subarray(from, from + tile - to), to);
      from += tile - to;
      to = tile + TILE_BYTES;
      const error = this.#tiles.readTile(tiles[k + 1] as number, whole.subarray(tile, to));
      if (error !== null) return error;
    }
    whole.set(stored.subarray(from), to);
    frame.payload = whole;
    return null;
  }

  /** Makes what was appended so far stable; the mark in `done` is what was covered. */
  sync(done: (error: DiskError | null) => void): void {
    const covered = this.end;
    const dirty = this.segments.filter((segment) => segment.writes > segment.synced);
    const directory = this.directoryChanges;
    const { restarts } = this;
    let left = dirty.length + 2;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed ??= error;
      left -= 1;
      if (left > 0) return;
      // A log that was restarted meanwhile has nothing to do with what was covered.
      if (failed === null && restarts === this.restarts && marksBefore(this.durable, covered)) this.durable = covered;
      done(failed);
    };
    for (const segment of dirty) {
      const { writes } = segment;
      segment.file.sync((error) => {
        if (error === null) segment.synced = Math.max(segment.synced, writes);
        one(error);
      });
    }
    this.#tiles.sync(one);
    if (directory === this.#directorySynced) return one(null);
    this.#disk.syncDirectory((error) => {
      if (error === null) this.#directorySynced = Math.max(this.#directorySynced, directory);
      one(error);
    });
  }

  /** The same, blocking; also what an unfinished sync was to cover. */
  syncNow(): DiskError | null {
    const unsynced = this.#tiles.syncNow();
    if (unsynced !== null) return unsynced;
    for (const segment of this.segments) {
      if (segment.writes === segment.synced) continue;
      const error = segment.file.syncNow();
      if (error !== null) return error;
      segment.synced = segment.writes;
    }
    const error = this.directoryChanges === this.#directorySynced ? null : this.#disk.syncDirectoryNow();
    if (error !== null) return error;
    this.#directorySynced = this.directoryChanges;
    assert(!marksBefore(this.end, this.durable), 'nothing beyond the end of the journal is durable');
    this.durable = this.end;
    return null;
  }

  closeFiles(): void {
    for (const segment of this.segments) segment.file.close();
    this.current = null;
  }
}

function sum(segments: readonly Segment[]): number {
  let bytes = 0;
  for (const segment of segments) bytes += segment.capacityBytes;
  return bytes;
}
