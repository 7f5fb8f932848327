import { type Frame, isMutation, Op } from '@ashlar/protocol';
import { assert } from '@ashlar/words';

/** One record as a copy holds it. */
export interface ShadowRecord {
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly epoch: number;
  readonly chain: number;
  readonly attachNumber: number;
  readonly sessionCount: number;
  /** A copy of the frame's own bytes would cost too much: operations are taken apart on arrival. */
  readonly operations: readonly ShadowOperation[];
  /** The record that stood before it when it was first appended. The digest is of all that came before, so it has no other. */
  readonly before: ShadowRecord | null;
}

export interface ShadowOperation {
  readonly seq: number;
  readonly requestKey: number;
  readonly op: Op;
  readonly firstSector: number;
  readonly sectors: number;
  /** Writes: the value in each sector. */
  readonly values: Int32Array | null;
}

/** Names a request among all attachments: numbers of different attachments may coincide. */
export function requestKey(attachNumber: number, requestNumber: number): number {
  const key = attachNumber * 2 ** 44 + requestNumber;
  assert(Number.isSafeInteger(key), 'request key within 53 bits');
  return key;
}

/**
 * What the checker knows to be in one copy's journal: grows and shrinks with it, so that asking "is this
 * record in that copy" never reads a disk.
 */
export class ShadowLog {
  baseSeq = 0;
  baseChain = 0;
  /** What the copy was filled with reaches up to this record, though its journal begins after it. */
  base: ShadowRecord | null = null;
  records: ShadowRecord[] = [];

  get lastSeq(): number {
    return this.records.length === 0 ? this.baseSeq : this.records[this.records.length - 1].lastSeq;
  }

  get chain(): number {
    return this.records.length === 0 ? this.baseChain : this.records[this.records.length - 1].chain;
  }

  get last(): ShadowRecord | null {
    return this.records.at(-1) ?? this.base;
  }

  append(record: ShadowRecord): void {
    this.records.push(record);
  }

  truncate(afterSeq: number): void {
    const records = this.records;
    while (records.length > 0 && records[records.length - 1].lastSeq > afterSeq) records.pop();
  }

  restart(seq: number, chain: number, base: ShadowRecord | null): void {
    this.baseSeq = seq;
    this.baseChain = chain;
    this.base = base;
    this.records = [];
  }

  /** What lies below the journal's beginning and after `seq`, oldest first. */
  belowBase(seq: number): ShadowRecord[] {
    const below: ShadowRecord[] = [];
    for (let record = this.base; record !== null && record.firstSeq > seq; record = record.before) below.push(record);
    return below.reverse();
  }

  /** Index of the record that holds `seq`, or -1. */
  indexOf(seq: number): number {
    const records = this.records;
    let low = 0;
    let high = records.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (records[middle].lastSeq < seq) low = middle + 1;
      else if (records[middle].firstSeq > seq) high = middle - 1;
      else return middle;
    }
    return -1;
  }

  /** The digest after `seq`; undefined if `seq` does not end a record here, or lies below what this log still knows. */
  chainAt(seq: number): number | undefined {
    if (seq === this.baseSeq) return this.baseChain;
    const at = this.indexOf(seq);
    if (at < 0 || this.records[at].lastSeq !== seq) return undefined;
    return this.records[at].chain;
  }

  /** Looks at what comes after `afterSeq` only. */
  seqOfRequest(key: number, afterSeq: number): number | undefined {
    for (let record = this.last; record !== null && record.lastSeq > afterSeq; record = record.before) {
      const { operations } = record;
      for (let k = operations.length - 1; k >= 0; k--) if (operations[k].requestKey === key) return operations[k].seq;
    }
    return undefined;
  }
}

/** Takes a log frame apart. `valueAt` reads one sector of it. */
export function shadowRecord(frame: Frame, before: ShadowRecord | null, valueAt: (bytes: Uint8Array, at: number, sector: number) => number): ShadowRecord {
  const operations: ShadowOperation[] = [];
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if (!isMutation(op)) continue;
    const firstSector = Math.floor(frame.offsetBytes(i) / 512);
    const sectors = Math.ceil(frame.lengthBytes(i) / 512);
    let values: Int32Array | null = null;
    if (op === Op.write) {
      const bytes = frame.bytes(i);
      values = new Int32Array(sectors);
      for (let k = 0; k < sectors; k++) values[k] = valueAt(bytes, k * 512, firstSector + k);
    }
    operations.push({ seq: frame.firstSeq + i, requestKey: requestKey(frame.attachNumber, frame.requestNumber(i)), op, firstSector, sectors, values });
  }
  return {
    firstSeq: frame.firstSeq, lastSeq: frame.lastSeq, epoch: frame.epoch, chain: frame.chain,
    attachNumber: frame.attachNumber, sessionCount: frame.sessionCount, operations, before,
  };
}
