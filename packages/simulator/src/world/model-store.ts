import { blocksTouched, type EpochStart, Frame, FrameKind, isMutation, type LogPosition, memberOf, Op, type SessionMark } from '@ashlar/protocol';
import {
  BlockState, EXTENT_ENTRIES_BYTES, setBlockEntry, type CopyStore, type CreateOptions, type FillRead, type ReadResult, type ScrubResult, type StatusRange,
  type StoreDone, type StoredState, type StoreFigures, type StoreResult,
} from '@ashlar/store';
import { BLOCK_BYTES, checksum, EXTENT_BLOCKS, type Prng } from '@ashlar/words';
import { completeBlocks, applyOperation, CRC_OF_ZEROS, type ModelBlock } from './model-blocks.ts';
import { diskCall, type MediumFaults } from './medium-faults.ts';

const EMPTY_SESSION: SessionMark = { attachNumber: 0, count: 0, appliedThrough: 0 };

/** What must take time: runs the call later, unless the process has ended by then. */
export type Defer = (run: () => void) => void;

/**
 * A copy without a disk: the contract of CopyStore in as few lines as possible. It is the oracle for the real store, and
 * lets the replication core be simulated several times faster. `powerCut` loses what was not synced.
 */
export class ModelStore implements CopyStore {
  readonly volumeId: CopyStore['volumeId'];
  readonly #self: CreateOptions['serverId'];
  lineage: number;
  incarnation: number;
  lostCache = false;
  fault: CopyStore['fault'] = null;
  committedSeq = 0;
  durableSeq = 0;
  sizeBytes: number;
  readonly figures: StoreFigures = { appendedBytes: 0, destagedBlocks: 0, rounds: 0, coalescedBlocks: 0, journalBytes: 0, backlogBytes: 0, indexEntries: 0, syncs: 0 };

  /** The log below its records. */
  #base: { position: LogPosition; epochStarts: readonly EpochStart[]; session: SessionMark };
  #records: Frame[] = [];
  /** Records kept for history below what is settled. */
  readonly #historyMax: number;
  readonly #backing: CreateOptions['backing'];
  #blocks = new Map<number, ModelBlock>();
  /** As of #settledSeq, without what is newer. */
  #settled = new Map<number, ModelBlock>();
  #settledSeq = 0;
  /** What fills put in place that a cut of the power would lose, and what was there before. */
  #unsyncedFills: FilledBlock[] = [];
  /** Blocks whose settled bytes went bad. */
  readonly #rotten = new Set<number>();
  readonly #faults: MediumFaults;
  #state: StoredState;
  readonly #saving: { readonly state: StoredState; readonly done: StoreDone }[] = [];
  readonly defer: Defer;

  constructor(options: CreateOptions, historyMax: number, defer: Defer, faults: MediumFaults) {
    this.#faults = faults;
    this.#backing = options.backing;
    this.incarnation = options.incarnation;
    this.volumeId = options.volumeId;
    this.#self = options.serverId;
    this.lineage = options.lineage;
    this.sizeBytes = options.sizeBytes;
    this.#state = options.state;
    this.#historyMax = historyMax;
    this.#base = { position: { seq: 0, chain: 0 }, epochStarts: [], session: EMPTY_SESSION };
    this.defer = defer;
  }

  get backed(): boolean { return this.#backing !== undefined; }
  get state(): StoredState { return this.#state; }
  get lastSeq(): number { return this.#records.length > 0 ? this.#records[this.#records.length - 1].lastSeq : this.#base.position.seq; }
  get chain(): number { return this.#records.length > 0 ? this.#records[this.#records.length - 1].chain : this.#base.position.chain; }
  get lastEpoch(): number { return this.#records.length > 0 ? this.#records[this.#records.length - 1].epoch : this.#base.epochStarts.at(-1)?.epoch ?? 0; }
  get journalStartSeq(): number { return this.#records.length > 0 ? this.#records[0].firstSeq - 1 : this.#base.position.seq; }

  get epochStarts(): readonly EpochStart[] {
    const starts = [...this.#base.epochStarts];
    for (const record of this.#records) if (starts.at(-1)?.epoch !== record.epoch) starts.push({ epoch: record.epoch, firstSeq: record.firstSeq });
    return starts;
  }

  get session(): SessionMark {
    const last = this.#records[this.#records.length - 1];
    if (last === undefined) return this.#base.session;
    return { attachNumber: last.attachNumber, count: last.sessionCount, appliedThrough: last.number };
  }

  append(frame: Frame): StoreResult {
    diskCall(this.#faults);
    if (this.fault !== null) return { failed: 'io-error', detail: 'a former fault' };
    if (this.#faults.full) return { failed: 'no-space', detail: 'the disk is full' };
    if (this.#faults.failWrite) {
      this.#faults.failWrite = false;
      this.fault = 'append-failed';
      return { failed: 'io-error', detail: 'the write failed' };
    }
    if (frame.firstSeq !== this.lastSeq + 1) return { failed: 'chain', detail: `record ${frame.firstSeq} after ${this.lastSeq}` };
    if (frame.chain === 0) completeBlocks(frame, (block) => this.#shown(block));
    const chain = chainAfter(this.chain, frame);
    if (frame.chain === 0) {
      frame.chain = chain;
      frame.seal();
    } else if (frame.chain !== chain) return { failed: 'chain', detail: 'another history' };
    const kept = new Frame(frame.head.slice(), frame.payload.slice());
    this.#records.push(kept);
    applyRecord(this.#blocks, kept);
    this.#healed(kept);
    return 'ok';
  }

  sync(done: StoreDone): void {
    diskCall(this.#faults);
    const reached = this.lastSeq;
    const fills = this.#unsyncedFills.length;
    this.defer(() => {
      if (this.#faults.failSync && this.fault === null) {
        this.#faults.failSync = false;
        this.fault = 'sync-failed';
      }
      if (this.fault !== null) return done('sync-failed');
      this.durableSeq = Math.max(this.durableSeq, Math.min(reached, this.lastSeq));
      this.#unsyncedFills.splice(0, fills);
      done(null);
    });
  }

  saveState(state: StoredState, done: StoreDone): void {
    diskCall(this.#faults);
    this.#saving.push({ state, done });
    this.defer(() => this.#saved());
  }

  /** In the order in which they were asked for, whichever takes longer. */
  #saved(): void {
    const { state, done } = this.#saving.shift() as { state: StoredState; done: StoreDone };
    this.#state = state;
    const me = state.configuration === null ? undefined : memberOf(state.configuration, this.#self);
    if (me?.incarnation === this.incarnation) this.lostCache = false;
    done(null);
  }

  /** What was under way ends with the process. */
  processEnded(): void { this.#saving.length = 0; }

  truncate(afterSeq: number): StoreResult {
    diskCall(this.#faults);
    if (afterSeq < this.journalStartSeq || afterSeq < this.#settledSeq) return { failed: 'too-old', detail: `${afterSeq} lies below the journal` };
    while (this.#records.length > 0 && this.#records[this.#records.length - 1].lastSeq > afterSeq) this.#records.pop();
    this.durableSeq = Math.min(this.durableSeq, this.lastSeq);
    this.#rebuild();
    return 'ok';
  }

  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq = -1): StoreResult {
    this.lineage = lineage;
    for (const [block, held] of this.#blocks) if (held.seq > commonSeq) this.#blocks.set(block, { ...held, seq: 0 });
    this.#settled = new Map(this.#blocks);
    this.#settledSeq = position.seq;
    this.#records = [];
    this.#base = { position, epochStarts, session };
    this.durableSeq = position.seq;
    this.committedSeq = 0;
    return 'ok';
  }

  commit(seq: number): void {
    if (seq > this.committedSeq) this.committedSeq = Math.min(seq, this.lastSeq);
  }

  grow(sizeBytes: number): StoreResult {
    this.sizeBytes = Math.max(this.sizeBytes, sizeBytes);
    return 'ok';
  }

  read(offsetBytes: number, lengthBytes: number, into: Uint8Array, intoPosition: number): ReadResult {
    for (let at = offsetBytes; at < offsetBytes + lengthBytes;) {
      const block = Math.floor(at / BLOCK_BYTES);
      if (this.#rotten.has(block)) return { corrupt: [block] };
      const within = at - block * BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, offsetBytes + lengthBytes - at);
      const bytes = this.#shown(block)?.bytes ?? null;
      const to = intoPosition + at - offsetBytes;
      if (bytes === null) into.fill(0, to, to + length);
      else into.set(bytes.subarray(within, within + length), to);
      at += length;
    }
    return 'ok';
  }

  /** What the volume shows there: the block, or the backing's. */
  #shown(block: number): ModelBlock | undefined {
    const held = this.#blocks.get(block);
    if (held !== undefined || this.#backing === undefined) return held;
    const bytes = new Uint8Array(BLOCK_BYTES);
    this.#backing.readBlock(block, bytes);
    return { bytes, seq: 0, crc: checksum(bytes) };
  }

  blockStatus(offsetBytes: number, lengthBytes: number): readonly StatusRange[] {
    const ranges: { lengthBytes: number; state: StatusRange['state'] }[] = [];
    for (let at = offsetBytes; at < offsetBytes + lengthBytes;) {
      const block = Math.floor(at / BLOCK_BYTES);
      const length = Math.min((block + 1) * BLOCK_BYTES, offsetBytes + lengthBytes) - at;
      const held = this.#blocks.get(block);
      const state = held === undefined ? 'absent' : held.bytes === null ? 'zero' : 'written';
      const last = ranges.at(-1);
      if (last?.state === state) last.lengthBytes += length;
      else ranges.push({ lengthBytes: length, state });
      at += length;
    }
    return ranges;
  }

  history(afterSeq: number, recordsMax: number): readonly Frame[] | 'gone' {
    if (afterSeq < this.journalStartSeq) return 'gone';
    return this.#records.filter((record) => record.firstSeq > afterSeq).slice(0, recordsMax).map((record) => new Frame(record.head.slice(), record.payload.slice()));
  }

  listExtents(from: number, max: number): { readonly extents: readonly number[]; readonly end: boolean } {
    const extents = new Set<number>();
    for (const block of this.#blocks.keys()) if (block >= from * EXTENT_BLOCKS) extents.add(Math.floor(block / EXTENT_BLOCKS));
    const list = [...extents].sort((a, b) => a - b).slice(0, max);
    return { extents: list, end: list.length < max };
  }

  extentBlocks(extent: number): Uint8Array {
    const entries = new Uint8Array(EXTENT_ENTRIES_BYTES);
    for (let i = 0; i < EXTENT_BLOCKS; i++) {
      const held = this.#blocks.get(extent * EXTENT_BLOCKS + i);
      if (held === undefined) continue;
      if (this.#rotten.has(extent * EXTENT_BLOCKS + i)) setBlockEntry(entries, i, BlockState.corrupt, held.seq, 0);
      else setBlockEntry(entries, i, held.bytes === null ? BlockState.zero : BlockState.written, held.seq, held.crc);
    }
    return entries;
  }

  readFill(extent: number, blocks: readonly number[]): FillRead {
    const corrupt = blocks.map((i) => extent * EXTENT_BLOCKS + i).filter((block) => this.#rotten.has(block));
    const held = blocks.map((i) => this.#shown(extent * EXTENT_BLOCKS + i));
    const written = held.filter((block, n) => block?.bytes && !this.#rotten.has(extent * EXTENT_BLOCKS + (blocks[n] as number))).length;
    const payload = new Uint8Array(written * BLOCK_BYTES);
    const frame = Frame.create(FrameKind.fill, blocks.length, written, payload);
    frame.firstSeq = this.lastSeq;
    frame.lineage = this.lineage;
    let k = 0;
    blocks.forEach((i, n) => {
      const block = held[n];
      const offset = (extent * EXTENT_BLOCKS + i) * BLOCK_BYTES;
      if (this.#rotten.has(extent * EXTENT_BLOCKS + i)) return frame.setOperation(n, block?.seq ?? 0, Op.lost, 0, offset, BLOCK_BYTES, 0, k);
      if (!block?.bytes) return frame.setOperation(n, block?.seq ?? 0, Op.zero, 0, offset, BLOCK_BYTES, 0, k);
      payload.set(block.bytes, k * BLOCK_BYTES);
      frame.setOperation(n, block.seq, Op.write, 0, offset, BLOCK_BYTES, k * BLOCK_BYTES, k);
      frame.setCrc(k++, block.crc);
    });
    frame.seal();
    return { frame, corrupt };
  }

  applyFill(frame: Frame): StoreResult {
    const kept = new Frame(frame.head.slice(), frame.payload.slice());
    for (const { block, now, lost } of fillsOf(kept)) {
      const held = this.#blocks.get(block);
      const bad = this.#rotten.has(block);
      if (held !== undefined && held.seq > kept.firstSeq && !bad) continue;
      // A block went bad after something newer than this fill was written: the fill's bytes would be older.
      if (bad && held !== undefined && (now?.seq ?? 0) < held.seq) continue;
      this.#unsyncedFills.push({ block, before: held, now, lost });
      put(this.#blocks, block, now);
      put(this.#settled, block, now);
      if (lost) this.#rotten.add(block);
      else this.#rotten.delete(block);
    }
    return 'ok';
  }

  /** Forgets history beyond what is kept; what is committed and durable is settled first. */
  destageStep(): 'idle' | 'more' | 'waiting' {
    const through = Math.min(this.committedSeq, this.durableSeq);
    for (const record of this.#records) {
      if (record.lastSeq > through) break;
      if (record.firstSeq <= this.#settledSeq) continue;
      applyRecord(this.#settled, record);
      this.#settledSeq = record.lastSeq;
    }
    while (this.#records.length > this.#historyMax && this.#records[0].lastSeq <= this.#settledSeq) this.#forgetOldest();
    return 'idle';
  }

  retryRound(): void {}

  #forgetOldest(): void {
    const starts = this.epochStarts;
    const record = this.#records.shift() as Frame;
    this.#base = {
      position: { seq: record.lastSeq, chain: record.chain },
      epochStarts: starts.filter((start) => start.firstSeq <= record.lastSeq),
      session: { attachNumber: record.attachNumber, count: record.sessionCount, appliedThrough: record.number },
    };
  }

  #rebuild(): void {
    this.#blocks = new Map(this.#settled);
    for (const record of this.#records) if (record.firstSeq > this.#settledSeq) applyRecord(this.#blocks, record);
  }

  #healed(record: Frame): void {
    if (this.#rotten.size === 0) return;
    for (let i = 0; i < record.count; i++) {
      if (record.op(i) === Op.session) continue;
      const first = Math.ceil(record.offsetBytes(i) / BLOCK_BYTES);
      const end = Math.floor((record.offsetBytes(i) + record.lengthBytes(i)) / BLOCK_BYTES);
      for (let block = first; block < end; block++) this.#rotten.delete(block);
    }
  }

  /** Spoils a settled block. What the journal still holds is read from there. */
  rot(prng: Prng): boolean {
    const fresh = new Set<number>();
    for (const record of this.#records) for (let i = 0; i < record.count; i++) {
      const first = Math.floor(record.offsetBytes(i) / BLOCK_BYTES);
      for (let k = 0; k < blocksTouched(record.offsetBytes(i), record.lengthBytes(i)); k++) fresh.add(first + k);
    }
    const settled = [...this.#blocks].filter(([block, held]) => held.bytes !== null && !fresh.has(block)).map(([block]) => block);
    if (settled.length === 0) return false;
    this.#rotten.add(prng.pick(settled));
    return true;
  }

  shrinkJournal(): void {}
  hasRoom(): boolean { return true; }
  scrubStep(): ScrubResult { return { checkedBlocks: this.#blocks.size, corrupt: [...this.#rotten], wrapped: true }; }
  close(): StoreResult { return 'ok'; }

  /** The machine lost its power: what was not synced is gone, or a part of it. */
  powerCut(prng: Prng): void {
    this.incarnation++;
    this.lostCache = true;
    const keeps = prng.between(this.durableSeq, this.lastSeq);
    while (this.#records.length > 0 && this.#records[this.#records.length - 1].lastSeq > keeps) this.#records.pop();
    this.committedSeq = Math.min(this.committedSeq, this.lastSeq);
    this.durableSeq = Math.min(this.durableSeq, this.lastSeq);
    // Fills are synced in order; a suffix of what was not is lost.
    const lost = prng.below(this.#unsyncedFills.length + 1);
    for (let n = 0; n < lost; n++) {
      const { block, before, now, lost: wasLost } = this.#unsyncedFills.pop() as FilledBlock;
      if (wasLost) this.#rotten.delete(block);
      if (this.#settled.get(block) === now) put(this.#settled, block, before);
    }
    this.#unsyncedFills = [];
    this.#rebuild();
  }
}

interface FilledBlock {
  readonly block: number;
  readonly before: ModelBlock | undefined;
  readonly now: ModelBlock | undefined;
  readonly lost: boolean;
}

function put(blocks: Map<number, ModelBlock>, block: number, now: ModelBlock | undefined): void {
  if (now === undefined) blocks.delete(block);
  else blocks.set(block, now);
}

function chainAfter(previous: number, frame: Frame): number {
  let chain = checksum(frame.head.subarray(104, 104 + frame.count * 32 + frame.blockCount * 4), previous);
  chain = Math.imul(chain ^ frame.epoch, 0x01000193) ^ frame.firstSeq;
  return (chain >>> 0) || 1;
}

function applyRecord(blocks: Map<number, ModelBlock>, record: Frame): void {
  for (let i = 0; i < record.count; i++) {
    const op = record.op(i);
    if (!isMutation(op) || op === Op.session) continue;
    applyOperation(blocks, record.firstSeq + i, record.offsetBytes(i), record.lengthBytes(i), op === Op.write ? record.bytes(i) : null);
  }
}

function fillsOf(frame: Frame): { readonly block: number; readonly now: ModelBlock; readonly lost: boolean }[] {
  return Array.from({ length: frame.count }, (_, i) => {
    const block = frame.offsetBytes(i) / BLOCK_BYTES;
    const lost = frame.op(i) === Op.lost;
    const now = frame.op(i) === Op.write
      ? { bytes: frame.bytes(i).slice(), seq: frame.requestNumber(i), crc: frame.crc(frame.crcIndex(i)) }
      : { bytes: null, seq: frame.requestNumber(i), crc: lost ? 0 : CRC_OF_ZEROS };
    return { block, now, lost };
  });
}
