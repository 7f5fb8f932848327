import {
  Frame, FrameKind, Op, REPLY_GAP_BYTES, isMutation,
  type Status, type CopyFault, type CopyMessage, type CopyReport, type EpochStart, type LogPosition, type ManagerMessage, type SessionMark, type SessionReply,
} from '@ashlar/protocol';
import { CopyCore, copiesInSync, type Copy, type CopyInput, type DurableState, type Effects, type GrantedRead, type Leases, type OpenExtent, type TimerName } from '@ashlar/replication';
import { BlockState, TILE_BYTES, blockEntry, blocksToFill, type CopyStore, type StoreFailure, type StoreResult } from '@ashlar/store';
import { BLOCK_BYTES, EXTENT_BLOCKS, EXTENT_BYTES, Defect, type Prng, type ServerId, type VolumeId } from '@ashlar/words';
import { Errands } from './errands.ts';
import { FillPace } from './fill-pace.ts';
import { ReplyMemory } from './reply-memory.ts';

/** How a copy reaches the rest of the world: actors in production, the simulated network in the simulator. */
export interface CopyPort {
  nowMs(): number;
  send(to: ServerId, message: CopyMessage): void;
  answer(key: number, reply: SessionReply): void;
  tell(message: ManagerMessage): void;
  setTimer(name: TimerName, atMs: number): void;
  /** `work` has something to do: call it soon, and again as long as it answers `more`. */
  wantWork(): void;
  /** Requests and records that this server, with all its copies, was sent so far. */
  traffic(): number;
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void;
}

/** What was moved and found, for the operator. */
export interface DriverCounts {
  rebuildSentBytes: number;
  repairSentBytes: number;
  /** Taken in by fills, whatever for. */
  filledBytes: number;
  /** Times that blocks of an extent were found not to match their checksums. */
  checksumErrors: number;
  scrubbedBlocks: number;
  scrubs: number;
}

/** Records of history sent in one go, and their bytes: about two milliseconds of a mirror's journal. */
const HISTORY_RECORDS_MAX = 64;
const HISTORY_BYTES_MAX = 2 * 2 ** 20;
/** Blocks destaged in one step: under a millisecond, so that requests do not wait long behind it. */
const DESTAGE_BLOCKS = 128;
/**
 * Blocks of an extent sent in one go, 128 KiB: a quarter of a millisecond to read, half of one to take in. As long as a whole extent was sent at once,
 * requests waited 2 ms behind it here and 4 ms there. Two of the store's tiles, each of which is written once if it comes whole.
 */
const PIECE_BLOCKS = 32;
/**
 * Pieces on their way to a copy that is filled: whatever is asked of its server waits behind them, each for the third of a millisecond or more that it takes to write.
 */
const FILLS_MAX = 2;
const FILLS_MAX_AT_RISK = 16;
const TILE_BLOCKS = TILE_BYTES / BLOCK_BYTES;
/** Inputs that may wait while the journal is full. The windows of all sessions and peers together stay far below it. */
const HELD_MAX = 65_536;

/**
 * Carries out what the replication core asks for on a copy's store. Has no clock, threads or sockets of its own: the simulator
 * runs the same code over a disk in memory.
 */
export class CopyDriver implements Effects {
  readonly core: CopyCore;
  readonly store: CopyStore;
  readonly counts: DriverCounts = { rebuildSentBytes: 0, repairSentBytes: 0, filledBytes: 0, checksumErrors: 0, scrubbedBlocks: 0, scrubs: 0 };
  readonly #port: CopyPort;
  readonly #inbox: CopyInput[] = [];
  readonly #held: CopyInput[] = [];
  /** How many of those are of a session or a peer. */
  readonly #heldOf = new Map<number | ServerId, number>();
  readonly #replies: ReplyMemory;
  /** Bytes that were read with records in them that are not committed yet. */
  #uncommitted: { readonly untilSeq: number; readonly key: number; readonly reply: Frame }[] = [];
  readonly #errands: Errands;
  /** Answers of learners for which fills were sent. */
  #filling: Answer[] = [];
  #running = false;
  /** Set by an effect that failed: the later ones of the same turn must not happen. */
  #failed = false;
  #closed = false;
  /** The core knows of the store's fault. */
  #faultTold = false;
  #scrubbing = false;
  readonly volumeId: VolumeId;

  constructor(volumeId: VolumeId, self: ServerId, store: CopyStore, leases: Leases, prng: Prng, port: CopyPort, replies: ReplyMemory = new ReplyMemory(), pace: FillPace = new FillPace(() => port.nowMs(), () => 0)) {
    this.volumeId = volumeId;
    this.store = store;
    this.#port = port;
    this.#errands = new Errands(() => port.nowMs(), () => port.traffic(), (to) => this.#roomFor(to), pace);
    this.#replies = replies;
    const durable: DurableState = store.fault && !store.state.fault ? { ...store.state, fault: store.fault } : store.state;
    this.#faultTold = store.fault !== null;
    this.core = new CopyCore(volumeId, self, store, durable, leases, prng);
  }

  get state(): Readonly<Copy> { return this.core.state; }
  report(): CopyReport { return this.core.report(); }

  receive(input: CopyInput): void {
    if (this.#closed) return;
    if (this.#mustWait(input)) {
      if (this.#held.length >= HELD_MAX) throw new Defect('inputs held for a full journal are bounded by their senders');
      this.#hold(input);
      this.#port.wantWork();
      return;
    }
    this.#inbox.push(input);
    this.#run();
    // There is room for more.
    if (input.kind === 'peer' && input.message.kind === 'filled') this.#port.wantWork();
  }

  /** Something that the store waited for has happened. */
  wake(): void {
    if (this.#closed) return;
    this.#tellFault();
    this.#releaseHeld();
    this.#port.wantWork();
  }

  /** When the next errand is due. */
  get errandDueMs(): number { return this.#errands.dueMs(this.#atRisk); }

  /**
   * A bounded piece of background work: destaging, what others are sent, scrubbing. `look`: true now and then, not for each write: then
   * destaging that found no room tries again. `errands`: call it again at `errandDueMs`.
   */
  work(idle: boolean, look: boolean): 'idle' | 'more' | 'waiting' | 'errands' {
    if (this.#closed) return 'idle';
    const eager = idle || this.#held.length > 0;
    if (eager && look) this.store.retryRound();
    const outcome = this.store.destageStep(DESTAGE_BLOCKS, eager);
    this.#tellFault();
    this.#releaseHeld();
    this.#errands.step(this.#atRisk);
    if (this.#errands.any) return outcome === 'more' ? 'more' : 'errands';
    if (outcome === 'idle' && this.#scrubbing) return this.#scrubStep();
    return outcome;
  }

  /** Of what this copy sends as fills, bytes a second; 0: no limit. */
  limitFills(bytesPerSecond: number): void {
    this.#errands.limitFills(bytesPerSecond);
    this.#port.wantWork();
  }

  scrub(): void {
    this.#scrubbing = true;
    this.#port.wantWork();
  }

  close(clean: boolean): void {
    this.#closed = true;
    this.store.close(clean);
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let next = this.#inbox.shift(); next && !this.#closed; next = this.#inbox.shift()) {
        this.#failed = false;
        this.core.receive(this.#port.nowMs(), next, this);
      }
    } finally {
      this.#running = false;
    }
  }

  /**
   * What brings records waits while the journal has no room, and so does what comes behind it of the same session or peer, so that the order
   * stays. Nobody else: room comes only with what mirrors acknowledge, and may need a newer primary.
   */
  #mustWait(input: CopyInput): boolean {
    if (input.kind !== 'peer' && input.kind !== 'session') return false;
    if (input.kind === 'peer' && ANSWERS.has(input.message.kind)) return false;
    if (input.kind === 'peer' && input.message.kind === 'adopt') {
      // A primary begins anew with us, and sends again what we do not have: what waits of it may wait for the very commit that it brings.
      this.#dropHeld(input.from);
      return false;
    }
    return this.#heldOf.has(sourceOf(input)) || this.#lacksRoom(input);
  }

  /** A copy that was restarted writes nothing before it follows again: its answer to a record is how its primary learns that it must be told to. */
  #lacksRoom(input: CopyInput): boolean {
    const frame = frameOf(input);
    if (frame === null || this.store.fault || (!this.state.leader && !this.state.follower?.following)) return false;
    return !this.store.hasRoom(frame.head.length + frame.payload.length + RECORD_SLACK_BYTES);
  }

  #hold(input: CopyInput): void {
    const source = sourceOf(input);
    this.#held.push(ownBytes(input));
    this.#heldOf.set(source, (this.#heldOf.get(source) ?? 0) + 1);
  }

  #dropHeld(source: number | ServerId): void {
    if (!this.#heldOf.delete(source)) return;
    const kept = this.#held.filter((input) => sourceOf(input) !== source);
    this.#held.splice(0, this.#held.length, ...kept);
  }

  #releaseHeld(): void {
    while (this.#held.length > 0 && !this.#closed) {
      const next = this.#held[0] as CopyInput;
      if (this.#lacksRoom(next)) return;
      this.#held.shift();
      const source = sourceOf(next);
      const left = (this.#heldOf.get(source) ?? 1) - 1;
      if (left > 0) this.#heldOf.set(source, left);
      else this.#heldOf.delete(source);
      this.#inbox.push(next);
      this.#run();
    }
  }

  #errand(to: ServerId, history: boolean, wanted: () => boolean, run: () => void, fills = false): void {
    const begin = (): void => {
      this.#failed = false;
      run();
    };
    this.#errands.add({ to, history, wanted: () => !this.#closed && wanted(), fills, run: begin });
    if (!this.#errands.running) this.#port.wantWork();
  }

  /** What failed in the background has no effect that failed with it. */
  #tellFault(): void {
    const { fault } = this.store;
    if (fault !== null && !this.#faultTold) this.#later(this.#failure(fault));
  }

  #failure(fault: CopyFault): CopyInput {
    this.#faultTold ||= this.store.fault === fault;
    return { kind: 'store-failed', fault };
  }

  #later(input: CopyInput): void {
    this.#inbox.push(input);
    this.#run();
  }

  #fail(fault: CopyFault): void {
    this.#failed = true;
    this.#inbox.unshift(this.#failure(fault));
    // The round that is given up has the buffer of all copies.
    this.#port.wantWork();
  }

  #outcome(result: StoreResult): boolean {
    if (result === 'ok') return true;
    this.#port.event('store-failed', { failed: result.failed, detail: result.detail });
    this.#fail(faultOf(result.failed));
    return false;
  }

  // ---- Effects, in the order of the interface

  append(frame: Frame): void {
    if (this.#failed) return;
    const result = this.store.append(frame);
    if (result !== 'ok' && result.failed === 'corrupt-block') {
      this.#failed = true;
      this.#inbox.unshift({ kind: 'append-corrupt', block: result.block });
    } else if (this.#outcome(result)) this.#port.wantWork();
  }

  /** Done even when an effect before it failed: it promises nothing, and the core waits for its end before it asks for another. */
  sync(): void {
    this.store.sync((failed) => {
      if (this.#closed) return;
      this.#later(failed ? this.#failure(faultOf(failed)) : { kind: 'synced' });
    });
  }

  /** What the copy was given so far is made stable, without the core's asking; a failure is its fault all the same. `then`: when that is over, however it ended. */
  syncAhead(then: () => void): void {
    if (this.#closed) return then();
    this.store.sync((failed) => {
      if (failed && !this.#closed) this.#later(this.#failure(faultOf(failed)));
      then();
    });
  }

  save(state: DurableState, token: number): void {
    if (this.#failed) return;
    this.store.saveState(state, (failed) => {
      if (this.#closed) return;
      this.#later(failed ? this.#failure(faultOf(failed)) : { kind: 'saved', token });
    });
  }

  truncate(afterSeq: number): void {
    if (!this.#failed) this.#outcome(this.store.truncate(afterSeq));
  }

  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq: number): void {
    if (!this.#failed) this.#outcome(this.store.restartLog(lineage, position, epochStarts, session, commonSeq));
  }

  commit(seq: number): void {
    if (this.#failed) return;
    this.store.commit(seq);
    if (this.#uncommitted.length > 0) this.#answerReads(seq);
  }

  grow(sizeBytes: number): void {
    if (!this.#failed) this.#outcome(this.store.grow(sizeBytes));
  }

  send(to: ServerId, message: CopyMessage): void {
    if (!this.#failed) this.#port.send(to, message);
  }

  /** Also after an effect that failed: the core waits for its end in any case. */
  sendHistory(to: ServerId, senderEpoch: number, committedSeq: number, afterSeq: number): void {
    const { leader } = this.state;
    this.#errand(to, true, () => this.state.leader === leader, () => this.#sendHistory(to, senderEpoch, committedSeq, afterSeq));
  }

  #sendHistory(to: ServerId, senderEpoch: number, committedSeq: number, afterSeq: number): void {
    const frames = this.store.history(afterSeq, HISTORY_RECORDS_MAX, HISTORY_BYTES_MAX);
    let throughSeq = afterSeq;
    if (frames !== 'gone') {
      for (const frame of frames) {
        frame.senderEpoch = senderEpoch;
        frame.committedSeq = committedSeq;
        frame.seal();
        throughSeq = frame.lastSeq;
        this.#port.send(to, { kind: 'append', frame });
      }
    }
    this.#later({ kind: 'history-sent', to, throughSeq });
  }

  fill(frame: Frame): void {
    if (!this.#failed && this.#outcome(this.store.applyFill(frame, true))) this.counts.filledBytes += frame.payload.length;
  }

  sendFill(to: ServerId, epoch: number, extent: number): void {
    if (this.#failed) return;
    const entries = this.store.extentBlocks(extent, true);
    const good: number[] = [];
    for (let i = 0; i < EXTENT_BLOCKS; i++) {
      const { state } = blockEntry(entries, i);
      if (state === BlockState.written || state === BlockState.zero) good.push(i);
    }
    this.#sendFill(to, epoch, extent, good);
  }

  #sendFill(to: ServerId, epoch: number, extent: number, blocks: readonly number[]): void {
    const { frame, corrupt } = this.store.readFill(extent, blocks);
    if (corrupt.length === 0) {
      this.counts.repairSentBytes += frame.payload.length;
      return this.#port.send(to, { kind: 'fill', epoch, extent, frame });
    }
    frame.lease?.release();
    this.#tellCorrupt(extent, corrupt);
    const good = blocks.filter((i) => !corrupt.includes(extent * EXTENT_BLOCKS + i));
    if (good.length > 0) this.#sendFill(to, epoch, extent, good);
  }

  #tellCorrupt(extent: number, corrupt: readonly number[]): void {
    this.#sayCorrupt(extent, corrupt.length);
    this.#later({ kind: 'corrupt-found', extent });
  }

  #sayCorrupt(extent: number, blocks: number): void {
    this.counts.checksumErrors++;
    this.#port.event('blocks-corrupt', { extent, blocks });
  }

  sendCompared(to: ServerId, epoch: number, attempt: number, extent: number): void {
    if (this.#failed) return;
    const { follower } = this.state;
    this.#errand(to, false, () => this.state.follower === follower, () => this.#sendCompared(to, epoch, attempt, extent));
  }

  #sendCompared(to: ServerId, epoch: number, attempt: number, extent: number): void {
    this.#port.send(to, { kind: 'compared', epoch, attempt, extent, seq: this.store.lastSeq, blocks: this.store.extentBlocks(extent, true) });
  }

  compareExtent(to: ServerId, epoch: number, extent: number, learnerSeq: number, theirs: Uint8Array, spreadLost: boolean): void {
    if (this.#failed) return;
    const open = this.#openExtent(to, extent);
    if (open === null) return;
    const answer: Answer = { to, epoch, extent, open, learnerSeq, theirs, spreadLost, differing: 0, pieces: 0, bad: [] };
    this.#errandFor(answer, () => this.#compareExtent(answer));
  }

  #errandFor(answer: Answer, run: () => void, fills = false): void {
    this.#errand(answer.to, false, () => this.#underWay(answer), run, fills);
  }

  /** A learner that was asked again, or has begun anew, may hold less than what is compared here. */
  #underWay({ to, extent, open }: Answer): boolean { return this.#openExtent(to, extent) === open; }

  #openExtent(to: ServerId, extent: number): OpenExtent | null { return this.state.leader?.peers.get(to)?.comparison?.open.get(extent) ?? null; }

  #compareExtent(answer: Answer): void {
    const { extent, theirs, learnerSeq } = answer;
    const pieces = piecesOf(blocksToFill(this.store.extentBlocks(extent, false), theirs, learnerSeq, this.store.backed));
    if (pieces.length === 0) return this.#compared(answer);
    this.#filling.push(answer);
    this.#sendPieces(answer, pieces);
  }

  #sendPieces(answer: Answer, [blocks = [], ...more]: readonly (readonly number[])[]): void {
    this.#errandFor(answer, () => {
      answer.differing += this.#sendPiece(answer, blocks);
      if (more.length === 0) this.#compared(answer);
      else this.#sendPieces(answer, more);
    }, true);
  }

  /** What a server is asked for meanwhile waits behind all the fills that are on their way to it. */
  #roomFor(to: ServerId): boolean {
    this.#filling = this.#filling.filter((answer) => this.#underWay(answer));
    const sent = this.#filling.reduce((sum, answer) => sum + (answer.to === to ? Math.max(0, answer.pieces - answer.open.filled) : 0), 0);
    return sent < (this.#atRisk ? FILLS_MAX_AT_RISK : FILLS_MAX);
  }

  /** A member that is itself being compared is no second copy. */
  get #atRisk(): boolean { return this.state.leader !== null && copiesInSync(this.state.leader) === 1; }

  #compared({ to, extent, spreadLost, differing, pieces, bad }: Answer): void {
    if (bad.length > 0 && !spreadLost) this.#tellCorrupt(extent, bad);
    this.#later({ kind: 'extent-compared', to, extent, differing, pieces });
  }

  /**
   * Answers how many blocks differ. What changed since the learner's answer does not: it comes as a record, and nothing that is newer than that answer may
   * come by a fill, because what the learner waits for before it is whole is that so much is committed. If nobody has good bytes of what is bad here
   * (`spreadLost`), it is to be bad there too, and what is so already does not differ.
   */
  #sendPiece(answer: Answer, blocks: readonly number[]): number {
    const { to, epoch, extent, learnerSeq, theirs, spreadLost } = answer;
    const { frame, corrupt } = this.store.readFill(extent, blocks);
    const bad = (i: number): boolean => corrupt.includes(extent * EXTENT_BLOCKS + i);
    const differing = blocks.filter((i, n) => frame.requestNumber(n) <= learnerSeq && !(spreadLost && bad(i) && blockEntry(theirs, i).state === BlockState.corrupt));
    const sent = spreadLost ? differing : differing.filter((i) => !bad(i));
    answer.bad.push(...corrupt);
    if (sent.length === blocks.length) {
      this.#errands.filled(frame.payload.length, this.#atRisk);
      this.counts.rebuildSentBytes += frame.payload.length;
      this.#port.send(to, { kind: 'fill', epoch, extent, frame });
      answer.pieces += 1;
      return differing.length;
    }
    frame.lease?.release();
    if (sent.length > 0) this.#sendPiece(answer, sent);
    return differing.length;
  }

  reply(key: number, epoch: number, request: Frame, indexes: readonly number[], status: number): void {
    if (this.#failed) return;
    const reply = replyTo(request, epoch, indexes.length);
    for (let k = 0; k < indexes.length; k++) {
      const i = indexes[k] as number;
      reply.setOperation(k, request.requestNumber(i), request.op(i), 0, request.offsetBytes(i), request.lengthBytes(i), 0, 0);
      reply.setStatus(k, status as Status);
    }
    reply.seal();
    this.#port.answer(key, { kind: 'replies', sessionId: key, frame: reply });
  }

  read(reads: readonly GrantedRead[], epoch: number, untilSeq: number): void {
    if (this.#failed) return;
    let from = 0;
    for (let to = 1; to <= reads.length; to++) {
      const first = reads[from] as GrantedRead;
      if (to < reads.length && (reads[to] as GrantedRead).frame === first.frame) continue;
      this.#readOf(first.frame, reads.slice(from, to), epoch, untilSeq);
      from = to;
    }
  }

  /** Answers reads of one request frame with one reply: [gap | bytes][gap | bytes]… */
  #readOf(request: Frame, reads: readonly GrantedRead[], epoch: number, untilSeq: number): void {
    const status = new Map<GrantedRead, Uint8Array>();
    let bytes = 0;
    for (const read of reads) {
      if (request.op(read.index) === Op.status) status.set(read, this.#status(request, read.index));
      bytes += REPLY_GAP_BYTES + (status.get(read)?.length ?? request.lengthBytes(read.index));
    }
    const { bytes: payload, lease } = this.#replies.take(bytes);
    const good: GrantedRead[] = [];
    const at: number[] = [];
    let position = 0;
    for (const read of reads) {
      const answer = status.get(read);
      const start = position + REPLY_GAP_BYTES;
      if (answer) payload.set(answer, start);
      else {
        const result = this.store.read(request.offsetBytes(read.index), request.lengthBytes(read.index), payload, start);
        if (result !== 'ok') {
          const extent = Math.floor(((result.corrupt[0] as number) * BLOCK_BYTES) / EXTENT_BYTES);
          this.#sayCorrupt(extent, result.corrupt.length);
          this.#inbox.push({ kind: 'read-corrupt', read, extent });
          continue;
        }
      }
      good.push(read);
      at.push(start);
      position = start + (answer?.length ?? request.lengthBytes(read.index));
    }
    if (good.length === 0) return lease.release();
    const reply = replyTo(request, epoch, good.length, payload.subarray(0, position));
    reply.lease = lease;
    for (let k = 0; k < good.length; k++) {
      const { index } = good[k] as GrantedRead;
      const length = status.get(good[k] as GrantedRead)?.length ?? request.lengthBytes(index);
      reply.setOperation(k, request.requestNumber(index), request.op(index), 0, request.offsetBytes(index), length, at[k] as number, 0);
    }
    reply.seal();
    const key = (good[0] as GrantedRead).sessionId;
    if (untilSeq > 0) this.#uncommitted.push({ untilSeq, key, reply });
    else this.#port.answer(key, { kind: 'replies', sessionId: key, frame: reply });
  }

  dropReads(): void { this.#uncommitted = []; }

  #answerReads(seq: number): void {
    const ready = this.#uncommitted.filter(({ untilSeq }) => untilSeq <= seq);
    if (ready.length === 0) return;
    this.#uncommitted = this.#uncommitted.filter(({ untilSeq }) => untilSeq > seq);
    for (const { key, reply } of ready) this.#port.answer(key, { kind: 'replies', sessionId: key, frame: reply });
  }

  /** Pairs of u32: length and NBD's base:allocation flags (1: hole, 2: reads as zeros). */
  #status(request: Frame, index: number): Uint8Array {
    const ranges = this.store.blockStatus(request.offsetBytes(index), request.lengthBytes(index));
    const answer = new Uint8Array(ranges.length * 8);
    const view = new DataView(answer.buffer);
    ranges.forEach((range, k) => {
      view.setUint32(k * 8, range.lengthBytes, true);
      view.setUint32(k * 8 + 4, range.state === 'written' || (range.state === 'absent' && this.store.backed) ? 0 : 3, true);
    });
    return answer;
  }

  answer(key: number, reply: SessionReply): void {
    if (!this.#failed) this.#port.answer(key, reply);
  }

  /** A status is told once for each change, and depends on nothing that can fail. */
  tell(message: ManagerMessage): void {
    if (!this.#failed || message.kind === 'status') this.#port.tell(message);
  }

  /** Set even when an effect before it failed, for the same reason: the core sets no other before this one has come. */
  setTimer(name: TimerName, atMs: number): void {
    this.#port.setTimer(name, atMs);
  }

  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void {
    if (!this.#failed) this.#port.event(name, detail);
  }

  /** A piece of a scrub that nobody asked for. True: the whole copy was read since it began. */
  patrol(): boolean {
    if (this.#closed || this.store.fault !== null) return true;
    return this.#scrubPiece();
  }

  #scrubStep(): 'idle' | 'more' {
    if (!this.#scrubPiece()) return 'more';
    this.#scrubbing = false;
    return 'idle';
  }

  #scrubPiece(): boolean {
    const result = this.store.scrubStep(EXTENT_BLOCKS);
    this.counts.scrubbedBlocks += result.checkedBlocks;
    const extents = new Set(result.corrupt.map((block) => Math.floor(block / EXTENT_BLOCKS)));
    for (const extent of extents) {
      this.#sayCorrupt(extent, result.corrupt.length);
      this.#later({ kind: 'corrupt-found', extent });
    }
    if (!result.wrapped) return false;
    this.counts.scrubs++;
    this.#port.event('scrub-done', { volumeId: this.volumeId });
    return true;
  }
}

/** A learner's answer to `compare`, and what has been sent for it. */
interface Answer {
  readonly to: ServerId;
  readonly epoch: number;
  readonly extent: number;
  readonly open: OpenExtent;
  readonly learnerSeq: number;
  readonly theirs: Uint8Array;
  readonly spreadLost: boolean;
  differing: number;
  pieces: number;
  /** Blocks of ours that were found bad. */
  readonly bad: number[];
}

/** Of these blocks (0..255, rising), so many at a time; none of the store's tiles is parted. */
function piecesOf(blocks: readonly number[]): number[][] {
  const pieces: number[][] = [];
  for (let from = 0; from < blocks.length;) {
    const tile = Math.floor((blocks[from] as number) / TILE_BLOCKS);
    let to = from + 1;
    while (to < blocks.length && Math.floor((blocks[to] as number) / TILE_BLOCKS) === tile) to += 1;
    const last = pieces.at(-1);
    if (last && last.length + to - from <= PIECE_BLOCKS) last.push(...blocks.slice(from, to));
    else pieces.push(blocks.slice(from, to));
    from = to;
  }
  return pieces;
}

/** A record's head may be larger than its request's, and is padded. */
const RECORD_SLACK_BYTES = 16_384;

/** A mirror's answers to its primary: no order among them and what brings records. */
const ANSWERS: ReadonlySet<CopyMessage['kind']> = new Set(['adopted', 'progress', 'gap', 'fenced', 'leaving', 'extents', 'compared', 'filled', 'completed']);

function sourceOf(input: CopyInput): number | ServerId {
  if (input.kind === 'peer') return input.from;
  return input.kind === 'session' ? input.key : -1;
}

function frameOf(input: CopyInput): Frame | null {
  if (input.kind === 'peer') return input.message.kind === 'append' || input.message.kind === 'fill' ? input.message.frame : null;
  if (input.kind === 'session' && input.message.kind === 'requests') return changes(input.message.frame) ? input.message.frame : null;
  return null;
}

/** What waits must not change meanwhile: its bytes lie in a receive buffer, which is used again as soon as nobody is known to need them. */
function ownBytes(input: CopyInput): CopyInput {
  const frame = frameOf(input);
  if (frame === null) return input;
  const own = new Frame(frame.head.slice(), frame.payload.slice());
  if (input.kind === 'peer' && input.message.kind === 'append') return { ...input, message: { ...input.message, frame: own } };
  if (input.kind === 'peer' && input.message.kind === 'fill') return { ...input, message: { ...input.message, frame: own } };
  if (input.kind === 'session' && input.message.kind === 'requests') return { ...input, message: { ...input.message, frame: own } };
  return input;
}

function changes(frame: Frame): boolean {
  for (let i = 0; i < frame.count; i++) if (isMutation(frame.op(i))) return true;
  return false;
}

function replyTo(request: Frame, epoch: number, count: number, payload?: Uint8Array): Frame {
  const reply = Frame.create(FrameKind.reply, count, 0, payload);
  reply.epoch = epoch;
  reply.attachNumber = request.attachNumber;
  reply.sessionCount = request.sessionCount;
  reply.number = request.number;
  reply.traceId = request.traceId;
  return reply;
}

/** `busy` is temporary: the request comes again. */
function faultOf(failed: StoreFailure): CopyFault {
  switch (failed) {
    case 'busy':
    case 'no-space':
    case 'corrupt-block':
    case 'damaged-frame':
      return 'no-space';
    case 'io-error':
      return 'append-failed';
    case 'sync-failed':
      return 'sync-failed';
    case 'corrupt':
    case 'chain':
    case 'too-old':
      return 'corrupt';
  }
}
