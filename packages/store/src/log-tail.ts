import { checksum } from '@ashlar/words';
import { FRAME_HEADER_BYTES, OPERATION_BYTES, type EpochStart, type Frame, type SessionMark } from '@ashlar/protocol';
import { EPOCH_STARTS_MAX } from './limits.ts';

/** Everything a log must remember about what lies before a position: enough to go on from there without the records themselves. */
export interface LogSnapshot {
  readonly lineage: number;
  /** The last record. */
  readonly seq: number;
  readonly epoch: number;
  readonly chain: number;
  readonly epochStarts: readonly EpochStart[];
  readonly session: SessionMark;
}

export const NO_SESSION: SessionMark = { attachNumber: 0, count: 0, appliedThrough: 0 };

export function emptyLog(lineage: number): LogSnapshot {
  return { lineage, seq: 0, epoch: 0, chain: 1, epochStarts: [], session: NO_SESSION };
}

/** The end of the log, moved on by each record. */
export class LogTail {
  lineage = 0;
  seq = 0;
  epoch = 0;
  chain = 0;
  epochStarts: readonly EpochStart[] = [];
  #attachNumber = 0;
  #sessionCount = 0;
  #appliedThrough = 0;

  constructor(start: LogSnapshot) {
    this.reset(start);
  }

  reset(start: LogSnapshot): void {
    this.lineage = start.lineage;
    this.seq = start.seq;
    this.epoch = start.epoch;
    this.chain = start.chain;
    this.epochStarts = start.epochStarts;
    this.#attachNumber = start.session.attachNumber;
    this.#sessionCount = start.session.count;
    this.#appliedThrough = start.session.appliedThrough;
  }

  get session(): SessionMark {
    return { attachNumber: this.#attachNumber, count: this.#sessionCount, appliedThrough: this.#appliedThrough };
  }

  snapshot(): LogSnapshot {
    return { lineage: this.lineage, seq: this.seq, epoch: this.epoch, chain: this.chain, epochStarts: this.epochStarts, session: this.session };
  }

  /** As it was after this record of it. */
  snapshotAt(frame: Frame): LogSnapshot {
    const { lastSeq, epoch, chain, attachNumber, sessionCount, number } = frame;
    const epochStarts = this.epochStarts.filter(({ firstSeq }) => firstSeq <= lastSeq);
    return { lineage: this.lineage, seq: lastSeq, epoch, chain, epochStarts, session: { attachNumber, count: sessionCount, appliedThrough: number } };
  }

  advance(frame: Frame, chain: number): void {
    const epoch = frame.epoch;
    if (epoch !== this.epoch) {
      this.epochStarts = [...this.epochStarts.slice(1 - EPOCH_STARTS_MAX), { epoch, firstSeq: frame.firstSeq }];
      this.epoch = epoch;
    }
    this.seq = frame.lastSeq;
    this.chain = chain;
    this.#attachNumber = frame.attachNumber;
    this.#sessionCount = frame.sessionCount;
    this.#appliedThrough = frame.number;
  }
}

let scratch = new Uint8Array(16 * 1024);

/**
 * The digest of the log after this frame: over the digest before it and everything in the frame's head that is the same on every copy
 * (payload positions, the sender's epoch, commit and durable points and the trace id are not). Never 0: that means "not computed yet".
 */
export function chainAfter(previous: number, frame: Frame): number {
  const bodyBytes = frame.count * OPERATION_BYTES + frame.blockCount * 4;
  if (scratch.length < 64 + bodyBytes) scratch = new Uint8Array(2 * (64 + bodyBytes));
  const view = new DataView(scratch.buffer);
  view.setUint32(0, previous, true);
  view.setUint32(4, frame.count, true);
  // Volume tag, epoch, first sequence number, lineage, session generation (24..60) and the highest request number (64..72).
  scratch.set(frame.head.subarray(24, 60), 8);
  scratch.set(frame.head.subarray(64, 72), 44);
  scratch.set(frame.head.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + bodyBytes), 52);
  for (let i = 0, at = 52 + 20; i < frame.count; i++, at += OPERATION_BYTES) view.setUint32(at, 0, true);
  return checksum(scratch.subarray(0, 52 + bodyBytes)) || 1;
}
