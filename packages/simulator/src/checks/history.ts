import { compareGenerations, Op } from '@ashlar/protocol';
import { BACKING_VALUE, GARBAGE, ZERO_VALUE } from '../world/values.ts';
import type { ShadowLog, ShadowOperation, ShadowRecord } from './shadow-log.ts';
import { check } from './violation.ts';

/** Every value that a sector ever had in the committed order, oldest first. */
export interface SectorHistory {
  readonly seqs: number[];
  readonly values: number[];
}

/**
 * The one order of committed writes, as the first primary to answer (or commit) each of them had it. Every other
 * claim about that order is checked against it: a second primary that commits something else breaks invariant 4.
 */
export class History {
  readonly records: ShadowRecord[] = [];
  readonly #sectors = new Map<number, SectorHistory>();
  /** Values whose write is in the order. */
  readonly #ownValues = new Set<number>();
  readonly #seqOfRequest = new Map<number, number>();
  /** Highest request number in the order, by attach number. */
  readonly #newestRequest = new Map<number, number>();
  generation = { attachNumber: 0, count: 0 };
  /** The newest generation to which anything was answered. */
  answeredGeneration = { attachNumber: 0, count: 0 };
  /** Everything up to here was answered, or precedes something that was. */
  answeredSeq = 0;
  /** Everything up to here was promised to survive the loss of power of all. */
  flushedSeq = 0;
  /** Raised when a loss of power of all copies took back writes that had not been flushed. */
  losses = 0;
  /** What a sector holds that nobody has written, zeroed or trimmed. */
  untouched = ZERO_VALUE;
  /** Told how much is left. */
  onLoss: (seq: number) => void = () => undefined;

  get lastSeq(): number {
    return this.records.length === 0 ? 0 : this.records[this.records.length - 1].lastSeq;
  }

  get chain(): number {
    return this.records.length === 0 ? 0 : this.records[this.records.length - 1].chain;
  }

  indexOf(seq: number): number {
    const { records } = this;
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

  seqOfRequest(key: number): number | undefined {
    return this.#seqOfRequest.get(key);
  }

  sector(sector: number): SectorHistory {
    let history = this.#sectors.get(sector);
    if (history === undefined) {
      history = { seqs: [0], values: [this.untouched] };
      this.#sectors.set(sector, history);
    }
    return history;
  }

  /** Sectors that were ever written, trimmed or read. */
  get touched(): Iterable<number> {
    return this.#sectors.keys();
  }

  /** The value of a sector after `seq`. */
  valueAt(sector: number, seq: number): number {
    const history = this.#sectors.get(sector);
    if (history === undefined) return this.untouched;
    let i = history.seqs.length - 1;
    while (i > 0 && history.seqs[i] > seq) i--;
    return history.values[i];
  }

  /** A primary commits through `seq` (which ends one of its records): its log up to there is the order. */
  commit(log: ShadowLog, seq: number, who: string): void {
    this.#mustExtend(log, seq, who);
    // What was prepared when a copy was filled is in no journal of that copy, and is committed by it all the same.
    if (log.baseSeq > this.lastSeq) for (const record of log.belowBase(this.lastSeq)) this.#append(record);
    let at = log.indexOf(this.lastSeq + 1);
    if (at < 0) return;
    for (; at < log.records.length && log.records[at].lastSeq <= seq; at++) this.#append(log.records[at]);
  }

  /** What this log holds below `seq` must be what was committed there, by whomever. */
  #mustExtend(log: ShadowLog, seq: number, who: string): void {
    if (this.records.length === 0) return;
    const last = this.records[Math.min(this.records.length - 1, this.#lastRecordWithin(seq))];
    if (last === undefined) return;
    const chain = log.chainAt(last.lastSeq);
    if (chain === undefined && last.lastSeq < log.baseSeq) return;
    check(chain === last.chain, 'committed-prefix', () =>
      `${who} commits through ${seq}, but at ${last.lastSeq} its log has digest ${chain?.toString(16) ?? 'none'} and the committed order ${last.chain.toString(16)}`);
  }

  #lastRecordWithin(seq: number): number {
    let i = this.records.length - 1;
    while (i >= 0 && this.records[i].lastSeq > seq) i--;
    return i;
  }

  #append(record: ShadowRecord): void {
    check(record.firstSeq === this.lastSeq + 1, 'committed-prefix', () => `record ${record.firstSeq} follows ${this.lastSeq} in the committed order`);
    this.#orderOfSessions(record);
    this.records.push(record);
    for (const operation of record.operations) {
      if (operation.op === Op.session) continue;
      this.#appliedOnce(record, operation);
      this.#apply(operation);
    }
  }

  /** Invariant 13. */
  #orderOfSessions(record: ShadowRecord): void {
    const generation = { attachNumber: record.attachNumber, count: record.sessionCount };
    check(compareGenerations(generation, this.generation) >= 0, 'old-session', () =>
      `seq ${record.firstSeq} of generation ${generation.attachNumber}.${generation.count} was applied after ${this.generation.attachNumber}.${this.generation.count}`);
    check(compareGenerations(generation, this.answeredGeneration) >= 0, 'old-session', () =>
      `seq ${record.firstSeq} of generation ${generation.attachNumber}.${generation.count} was applied after ${this.answeredGeneration.attachNumber}.${this.answeredGeneration.count} was answered`);
    this.generation = generation;
  }

  /** Invariant 6. Request numbers of an attachment rise along the order, so that no retry comes after a later write. */
  #appliedOnce(record: ShadowRecord, operation: ShadowOperation): void {
    const before = this.#seqOfRequest.get(operation.requestKey);
    check(before === undefined, 'applied-once', () => `request ${operation.requestKey % 2 ** 44} was applied at ${before} and again at ${operation.seq}`);
    const newest = this.#newestRequest.get(record.attachNumber) ?? -1;
    check(operation.requestKey > newest, 'applied-once', () => `request ${operation.requestKey % 2 ** 44} was applied at ${operation.seq} after the later request ${newest % 2 ** 44}`);
    this.#seqOfRequest.set(operation.requestKey, operation.seq);
    this.#newestRequest.set(record.attachNumber, operation.requestKey);
  }

  #apply(operation: ShadowOperation): void {
    if (operation.values !== null) return this.#applyWrite(operation, operation.values);
    for (let k = 0; k < operation.sectors; k++) this.#push(operation.firstSector + k, operation.seq, ZERO_VALUE);
  }

  /**
   * The primary completes a write of part of a block to the whole block. Sectors that are not the client's own must
   * carry what they held at that point of the order.
   */
  #applyWrite(operation: ShadowOperation, values: Int32Array): void {
    let own = GARBAGE;
    for (let k = 0; k < operation.sectors; k++) {
      const sector = operation.firstSector + k;
      const value = values[k];
      const history = this.sector(sector);
      const held = history.values[history.values.length - 1];
      if (value === held) continue;
      check(value !== BACKING_VALUE, 'backing-hidden', () => `the write at ${operation.seq} brings the backing back in sector ${sector}, which held ${held}`);
      if (value === ZERO_VALUE && (own === GARBAGE || own === ZERO_VALUE)) own = ZERO_VALUE;
      else if (own === GARBAGE && value !== GARBAGE && !this.#ownValues.has(value)) own = value;
      check(value === own && value !== GARBAGE, 'sectors-kept', () => `the write at ${operation.seq} puts value ${value} into sector ${sector}, which held ${held}; its own value is ${own}`);
      this.#push(sector, operation.seq, value);
    }
    if (own !== ZERO_VALUE) this.#ownValues.add(own);
  }

  #push(sector: number, seq: number, value: number): void {
    const history = this.sector(sector);
    history.seqs.push(seq);
    history.values.push(value);
  }

  #forget(operation: ShadowOperation): void {
    this.#seqOfRequest.delete(operation.requestKey);
    if (operation.values !== null) for (const value of operation.values) this.#ownValues.delete(value);
  }

  /** Everything after `seq` is gone for good: all copies lost their power with it unflushed. */
  lose(seq: number): void {
    this.losses++;
    this.onLoss(seq);
    while (this.records.length > 0 && this.records[this.records.length - 1].lastSeq > seq) {
      for (const operation of (this.records.pop() as ShadowRecord).operations) this.#forget(operation);
    }
    this.answeredSeq = Math.min(this.answeredSeq, seq);
    this.#newestRequest.clear();
    const last = this.records[this.records.length - 1];
    this.generation = last ? { attachNumber: last.attachNumber, count: last.sessionCount } : { attachNumber: 0, count: 0 };
    for (const history of this.#sectors.values()) {
      while (history.seqs[history.seqs.length - 1] > seq) {
        history.seqs.pop();
        history.values.pop();
      }
    }
  }
}
