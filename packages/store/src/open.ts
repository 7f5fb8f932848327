import { type CopyFault, FrameKind, volumeTag } from '@ashlar/protocol';
import { assert, EXTENT_BYTES } from '@ashlar/words';
import type { CreateOptions, Opened, StoreOptions } from './copy-store.ts';
import { DiskCopy } from './disk-copy.ts';
import type { Disk, DiskError, DiskFile } from './disk.ts';
import { isJournalName } from './journal.ts';
import { DATA_FILE_BYTES, PAGE_BYTES, TILE_BYTES } from './limits.ts';
import { chainAfter, emptyLog } from './log-tail.ts';
import { marksBefore, NO_TILES, parseRecordHeader, payloadIntact, type JournalMark } from './record.ts';
import { readSegmentHeader, Segment, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment.ts';
import { removeFiles, Superblock, type SuperblockBody } from './superblock.ts';

/** Looked through at a time behind what seems to be a torn tail, and how much without a record ends the search. */
const SCAN_BYTES = 2 ** 18;
const NO_RECORDS_BYTES = 4 * 2 ** 20;

/** Makes a new, empty copy. What an unfinished creation or removal left behind is removed first. */
export function createCopy(disk: Disk, options: CreateOptions): Opened {
  const dataFileBytes = options.dataFileBytes ?? DATA_FILE_BYTES;
  assert(dataFileBytes % EXTENT_BYTES === 0, 'extents do not cross data files');
  const found = Superblock.read(disk, options.volumeId);
  if ('superblock' in found) {
    found.superblock.close();
    return { failed: 'already-exists', detail: `there is a copy of ${options.volumeId} already` };
  }
  if (found.failed !== 'not-found') return { failed: 'already-exists', detail: found.detail };
  const log = emptyLog(options.lineage);
  const body: SuperblockBody = {
    volumeId: options.volumeId, serverId: options.serverId, dataFileBytes, lineage: options.lineage, restarts: 0, life: 1, incarnation: options.incarnation,
    bootId: options.bootId, clean: false, lostCache: false, sizeBytes: options.sizeBytes, state: options.state, destagedSerial: 0, destagedEnd: 0,
    destaged: log, committedSeq: 0, durable: { serial: 0, position: 0 }, opened: { serial: 0, position: 0 }, round: 0, newestSeq: 0, presenceGenerations: [], placesGeneration: 0, sparePlaces: 0,
  };
  // An empty directory needs no sync of its own: what was removed from it is gone for good with the one below.
  const error = disk.list().length === 0 ? null : removeFiles(disk);
  if (error !== null) return failedWith(error);
  const superblock = Superblock.create(disk, body);
  if ('code' in superblock) return failedWith(superblock);
  const directoryError = disk.syncDirectoryNow();
  if (directoryError !== null) return failedWith(directoryError);
  const store = new DiskCopy(disk, options, superblock);
  store.recovered(null);
  return { store };
}

function failedWith(error: DiskError): Opened {
  return { failed: error.code === 'ENOSPC' ? 'no-space' : 'io-error', detail: error.message };
}

/**
 * Opens a copy as it was left. What was durable is there, or `fault` says that it is not; a torn tail that never was durable is left out.
 * Nothing is cut that a mere crash of the process cannot have torn.
 */
export function openCopy(disk: Disk, options: StoreOptions): Opened {
  const found = Superblock.read(disk, options.volumeId);
  if ('failed' in found) return found;
  const { superblock } = found;
  const { body } = superblock;
  const sameBoot = body.bootId === options.bootId;
  if (!body.clean && !sameBoot) {
    // The page cache went with the machine: it must not be taken for the life that was admitted.
    body.lostCache = true;
    body.incarnation += 1;
  }
  body.life += 1;
  const store = new DiskCopy(disk, options, superblock);
  const outcome = new Recovery(disk, store, body, sameBoot && !body.clean).run();
  if (typeof outcome === 'object' && outcome !== null) {
    store.close(false);
    return failedWith(outcome);
  }
  body.clean = false;
  (body as { bootId: string }).bootId = options.bootId;
  if (outcome === null) {
    body.durable = store.journal.end;
    body.opened = store.journal.end;
  }
  const error = superblock.saveNow();
  if (error !== null) {
    store.close(false);
    return failedWith(error);
  }
  store.recovered(outcome);
  return { store };
}

interface Found {
  readonly file: DiskFile;
  readonly header: SegmentHeader;
}

/** Finds the segments, replays what the extents do not have, and decides whether what is missing was ever promised. */
class Recovery {
  readonly #disk: Disk;
  readonly #store: DiskCopy;
  readonly #body: SuperblockBody;
  /** The process died, the machine did not: everything that was written is there. */
  readonly #cacheKept: boolean;
  #durable: JournalMark;
  readonly #useless: DiskFile[] = [];
  /** Segments hold records that were cut off, and what was taken in of them must not count. */
  #hasCuts = false;

  constructor(disk: Disk, store: DiskCopy, body: SuperblockBody, cacheKept: boolean) {
    this.#disk = disk;
    this.#store = store;
    this.#body = body;
    this.#cacheKept = cacheKept;
    this.#durable = body.durable;
  }

  run(): CopyFault | DiskError | null {
    const found = this.#findSegments();
    if (found === null) return { code: 'EIO', message: 'the journal cannot be read' };
    const first = this.#keepHistory(found);
    const whole = this.#replay(found.slice(first));
    if (whole !== null && 'code' in whole) return whole;
    const { end } = this.#store.journal;
    // A damaged segment of history costs nothing: the extents have it.
    applyCuts(this.#store.journal.segments);
    const indexed = this.#hasCuts ? this.#store.replayLive() : 'ok';
    this.#store.extents.places.dropHeld();
    if (whole !== null || indexed !== 'ok' || (this.#durable.serial > this.#body.destagedSerial && marksBefore(end, this.#durable))) return 'corrupt';
    return this.#tidy();
  }

  /** Headers of this log, by serial number, each once; other files of the journal are of no use. Null: one could not be read. */
  #findSegments(): Found[] | null {
    const tag = volumeTag(this.#body.volumeId);
    const found: Found[] = [];
    for (const name of this.#disk.list()) {
      if (!isJournalName(name)) continue;
      const file = this.#disk.open(name);
      if ('code' in file) return null;
      const header = readSegmentHeader(file, tag);
      if (header !== null && 'code' in header) return null;
      if (header === null || header.restarts !== this.#body.restarts) this.#useless.push(file);
      else found.push({ file, header });
    }
    return found.sort((a, b) => a.header.serial - b.header.serial);
  }

  /** Takes in the segments that are in the extents already, as far as they are without gaps. Returns the index of the first one behind them. */
  #keepHistory(found: readonly Found[]): number {
    const { destagedSerial } = this.#body;
    const first = found.findIndex(({ header }) => header.serial > destagedSerial);
    const count = first < 0 ? found.length : first;
    let from = count;
    while (from > 0 && (found[from - 1] as Found).header.serial === destagedSerial - (count - from)) from -= 1;
    for (const { file } of found.slice(0, from)) this.#useless.push(file);
    for (let k = from; k < count; k++) {
      const segment = this.#keep(found[k] as Found);
      const next = found[k + 1];
      const adjoins = segment.serial < destagedSerial && next?.header.serial === segment.serial + 1;
      segment.endPosition = adjoins ? (next as Found).header.previousEnd : this.#body.destagedEnd;
      segment.endSeq = adjoins ? (next as Found).header.start.seq : this.#body.destaged.seq;
    }
    return count;
  }

  #keep({ file, header }: Found): Segment {
    const { journal } = this.#store;
    const segment = new Segment(file, header, Math.max(journal.limits.segmentBytes, file.sizeBytes));
    journal.segments.push(segment);
    return segment;
  }

  /** Null: everything that the segments hold was taken in, up to a torn tail. */
  #replay(found: readonly Found[]): { readonly corrupt: string } | DiskError | null {
    for (const { header } of found) if (marksBefore(this.#durable, header.durable)) this.#durable = header.durable;
    let count = 0;
    while (count < found.length && (found[count] as Found).header.serial === this.#body.destagedSerial + count + 1) count += 1;
    for (let k = 0; k < count; k++) {
      const { header } = found[k] as Found;
      if (!this.#follows(header, found.slice(k + 1, count))) return this.#lost(found, k, k > 0 ? this.#store.journal.end : { serial: header.serial, position: 0 });
      const segment = this.#keep(found[k] as Found);
      const next = k + 1 < count ? (found[k + 1] as Found).header : null;
      const outcome = this.#replaySegment(segment, next?.previousEnd ?? null);
      if (outcome !== null && outcome !== 'torn') return outcome;
      if (outcome === 'torn') return this.#lost(found, k + 1, segment.end);
    }
    for (const { file } of found.slice(count)) this.#useless.push(file);
    // A gap in the serial numbers: a file whose making was not durable, or one that is lost.
    return count < found.length && this.#cacheKept ? { corrupt: `journal segment ${this.#body.destagedSerial + count + 1} is missing` } : null;
  }

  /** The header continues the log as replayed so far, or cuts it. Or it begins on a branch that one of the later ones cuts off. */
  #follows(header: SegmentHeader, later: readonly Found[]): boolean {
    const { tail } = this.#store;
    const { start } = header;
    if (start.lineage !== tail.lineage || start.seq < this.#body.destaged.seq) return false;
    if (start.seq > tail.seq && !later.some((found) => found.header.start.seq <= tail.seq)) return false;
    if (start.seq === tail.seq && start.chain !== tail.chain) return false;
    if (start.seq !== tail.seq) this.#hasCuts = true;
    tail.reset(start);
    return true;
  }

  /** From `place` on the journal is not what was written. Torn, if it never was durable and the cache was lost. */
  #lost(found: readonly Found[], from: number, place: JournalMark): { readonly corrupt: string } | null {
    for (const { file, header } of found.slice(from)) {
      this.#vouchedFrom(file, header, SEGMENT_HEADER_BYTES, file.sizeBytes);
      this.#useless.push(file);
    }
    const hadMore = from < found.length;
    if (marksBefore(place, this.#durable) || (this.#cacheKept && hadMore)) return { corrupt: `journal segment ${place.serial} at ${place.position}` };
    return null;
  }

  #replaySegment(segment: Segment, end: number | null): 'torn' | { readonly corrupt: string } | DiskError | null {
    const { journal, tail } = this.#store;
    segment.endPosition = SEGMENT_HEADER_BYTES;
    // What lies behind the end that an earlier opening found was torn, and stays so: tiles of it may by now have been written again, with the same bytes.
    const { opened } = this.#body;
    const limit = end ?? (segment.serial === opened.serial ? opened.position : segment.file.sizeBytes);
    while (segment.endPosition < limit) {
      const position = segment.endPosition;
      // Blocks that were written later may lie in the tiles of a record that was durable. Where no cache was lost tiles are there whenever their record is: what
      // does not match is the disk's fault, and a block to be mended, not the end of the log.
      const bound = marksBefore({ serial: segment.serial, position }, this.#durable);
      const record = journal.read(segment, position, bound ? 'none' : this.#cacheKept ? 'stored' : 'whole');
      if (record !== null && 'code' in record) return record;
      const isWhole = record !== null && record.nextPosition <= (end ?? Infinity) && (bound || payloadIntact(record.frame, this.#cacheKept ? record.tiles : NO_TILES));
      if (!isWhole) return this.#torn(segment, end, limit);
      const { frame } = record;
      if (frame.kind === FrameKind.log) {
        if (frame.firstSeq !== tail.seq + 1 || chainAfter(tail.chain, frame) !== frame.chain) return this.#torn(segment, end, limit);
        tail.advance(frame, frame.chain);
      }
      if (marksBefore(this.#durable, record.durable)) this.#durable = record.durable;
      if (!this.#body.clean) this.#store.extents.found(record.tiles);
      this.#store.takeIn(segment, record);
      segment.endPosition = record.nextPosition;
      segment.placedBytes += (record.tiles.length / 2) * TILE_BYTES;
      // As it was begun: a record that is larger than a segment has one of its own, as long as the record with its tiles.
      segment.capacityBytes = Math.max(segment.capacityBytes, segment.usedBytes);
      segment.endSeq = tail.seq;
    }
    return null;
  }

  /** Without a segment behind it the end of the written part is a tail like any other, unless whole records follow although no cache was lost. */
  #torn(segment: Segment, end: number | null, limit: number): 'torn' | { readonly corrupt: string } | null {
    this.#vouchedFrom(segment.file, segment.header, segment.endPosition + PAGE_BYTES, limit);
    if (end !== null) return 'torn';
    if (marksBefore(segment.end, this.#durable)) return { corrupt: `journal segment ${segment.serial} at ${segment.endPosition}` };
    const { opened } = this.#body;
    const endedHere = opened.serial === segment.serial && opened.position === segment.endPosition;
    if (this.#cacheKept && !endedHere && this.#recordsBehind(segment)) return { corrupt: `journal segment ${segment.serial} at ${segment.endPosition}` };
    return 'torn';
  }

  /**
   * Records that were written later say how far the journal was stable by then: what is missing before that is no torn tail. Looked for until so much holds none:
   * a file that is used again is full of what it was.
   */
  #vouchedFrom(file: DiskFile, { serial, life }: SegmentHeader, from: number, limit: number): void {
    const end = Math.min(limit, file.sizeBytes);
    let until = from + NO_RECORDS_BYTES;
    for (let start = from; start < Math.min(until, end); start += SCAN_BYTES) {
      const piece = new Uint8Array(Math.min(SCAN_BYTES, end - start));
      if (file.read(piece, start) !== null) continue;
      for (let at = 0; at < piece.length; at += PAGE_BYTES) {
        const record = parseRecordHeader(piece, at, { serial, position: start + at, life });
        if (record === null) continue;
        until = start + at + NO_RECORDS_BYTES;
        if (marksBefore(this.#durable, record.durable)) this.#durable = record.durable;
      }
    }
  }

  #recordsBehind(segment: Segment): boolean {
    const page = new Uint8Array(PAGE_BYTES);
    for (let position = segment.endPosition + PAGE_BYTES; position < segment.file.sizeBytes; position += PAGE_BYTES) {
      if (segment.file.read(page, position) === null && parseRecordHeader(page, 0, { serial: segment.serial, position, life: segment.header.life }) !== null) return true;
    }
    return false;
  }

  /**
   * Makes what was found stable, and removes what is not part of it, before anything new is written. A clean close has synced all of it: two syncs
   * of the disk less for each of thousands of copies, one after the other.
   */
  #tidy(): DiskError | null {
    const { journal } = this.#store;
    if (!this.#body.clean) for (const segment of journal.live) segment.writes += 1;
    if (!this.#body.clean || this.#useless.length > 0) journal.directoryChanges += 1;
    for (const file of this.#useless) {
      file.close();
      const error = this.#disk.remove(file.name);
      if (error !== null) return error;
    }
    journal.durable = { serial: 0, position: 0 };
    return journal.syncNow();
  }
}

/**
 * A segment that begins below the end of the one before it cuts the log; the cut reaches back over as many segments as lie behind it. Only
 * segments that are kept count: one that was lost with the power cut nothing.
 */
function applyCuts(segments: readonly Segment[]): void {
  for (let k = segments.length - 2; k >= 0; k--) {
    const segment = segments[k] as Segment;
    const next = segments[k + 1] as Segment;
    segment.endSeq = Math.min(segment.endSeq, next.startSeq, next.endSeq);
  }
}
