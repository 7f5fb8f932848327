import { checksum } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import { decodeJson, encodeJson } from './ascii.ts';
import type { DiskError, DiskFile } from './disk.ts';
import type { LogSnapshot } from './log-tail.ts';
import type { JournalMark } from './record.ts';

/** The head of a segment, twice: a flipped bit must not cost the records behind it. Byte by byte in docs/formats/journal.md. */
export const SEGMENT_MAGIC = 0x4a485341; // "ASHJ"
const VERSION = 1;
const FIXED_BYTES = 32;
/** 128 epochs with their first sequence numbers in JSON are at most 7 KiB. */
const REPLICA_BYTES = 8192;
export const SEGMENT_HEADER_BYTES = 2 * REPLICA_BYTES;

export interface SegmentHeader {
  readonly serial: number;
  /** Restarts of the log; segments of an earlier count are of a log that was forgotten. */
  readonly restarts: number;
  /** Openings of the copy; a segment is written in one of them only. */
  readonly life: number;
  /** The log at the segment's beginning. Lower than the end of the segment before it: what lies between was cut off. */
  readonly start: LogSnapshot;
  /** Where the segment before this one ends; what its file holds beyond was never part of the log. */
  readonly previousEnd: number;
  readonly durable: JournalMark;
}

export class Segment {
  readonly file: DiskFile;
  readonly header: SegmentHeader;
  /** Bytes that the segment takes of the journal's bound. */
  capacityBytes: number;
  endPosition = SEGMENT_HEADER_BYTES;
  /** Bytes of its records that lie at places of their own; they count as if they were in the file. */
  placedBytes = 0;
  /** The last sequence number that is still part of the log. */
  endSeq: number;
  /** Pairs (sequence number, position) of some records, rising, so that history need not be searched from the start. */
  readonly marks: number[] = [];
  /** Writes made, and how many of them are on stable storage. */
  writes = 0;
  synced = 0;

  constructor(file: DiskFile, header: SegmentHeader, capacityBytes: number) {
    this.file = file;
    this.header = header;
    this.capacityBytes = capacityBytes;
    this.endSeq = header.start.seq;
  }

  get serial(): number { return this.header.serial; }
  get startSeq(): number { return this.header.start.seq; }
  /** Bytes of its records, wherever they lie. */
  get usedBytes(): number { return this.endPosition + this.placedBytes; }
  get end(): JournalMark { return { serial: this.serial, position: this.endPosition }; }

  /** A position at which the search for the record after `seq` may begin. */
  positionBefore(seq: number): number {
    let found = SEGMENT_HEADER_BYTES;
    for (let k = 0; k < this.marks.length && (this.marks[k] as number) <= seq + 1; k += 2) found = this.marks[k + 1] as number;
    return found;
  }
}

export function writeSegmentHeader(file: DiskFile, tag: VolumeTag, header: SegmentHeader, essential: boolean): DiskError | null {
  const json = encodeJson(header);
  const bytes = new Uint8Array(REPLICA_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SEGMENT_MAGIC, true);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, json.length, true);
  view.setUint32(16, tag.low, true);
  view.setUint32(20, tag.high, true);
  view.setUint32(24, header.serial, true);
  bytes.set(json, FIXED_BYTES);
  view.setUint32(4, checksum(bytes.subarray(8)), true);
  return file.write([bytes, bytes], 0, essential);
}

export function readSegmentHeader(file: DiskFile, tag: VolumeTag): SegmentHeader | DiskError | null {
  const bytes = new Uint8Array(REPLICA_BYTES);
  for (let replica = 0; replica < 2; replica++) {
    const error = file.read(bytes, replica * REPLICA_BYTES);
    if (error !== null) return error;
    const view = new DataView(bytes.buffer);
    if (view.getUint32(0, true) !== SEGMENT_MAGIC || view.getUint32(4, true) !== checksum(bytes.subarray(8))) continue;
    if (view.getUint32(8, true) !== VERSION || view.getUint32(16, true) !== tag.low || view.getUint32(20, true) !== tag.high) continue;
    return decodeJson(bytes.subarray(FIXED_BYTES, FIXED_BYTES + view.getUint32(12, true))) as SegmentHeader;
  }
  return null;
}
