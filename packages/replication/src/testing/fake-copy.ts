import {
  FrameKind, Frame, Op, type Configuration, type CopyMessage, type EpochStart, type LogPosition, type ManagerMessage, type SessionMark, type SessionReply,
} from '@ashlar/protocol';
import { BLOCK_BYTES, checksum, Prng, type ServerId, type VolumeId } from '@ashlar/words';
import { BeaconTable } from '../beacon.ts';
import { CopyCore } from '../copy.ts';
import type { DurableState, Effects, GrantedRead, LogView } from '../effects.ts';
import type { CopyInput } from '../state.ts';

/** A log of whole frames in memory; what a power cut would lose is what lies after `durableSeq`. */
export class FakeLog implements LogView {
  lineage = 1;
  incarnation = 1;
  lostCache = false;
  frames: Frame[] = [];
  base: { position: LogPosition; epochStarts: readonly EpochStart[]; session: SessionMark } = { position: { seq: 0, chain: 0 }, epochStarts: [], session: { attachNumber: 0, count: 0, appliedThrough: 0 } };
  durableSeq = 0;
  /** Records up to here are no longer in the journal. */
  trimmedSeq = 0;
  sizeBytes = 2 ** 30;
  readonly extents = new Set<number>();
  /** Of those, the ones that a power cut would leave. */
  durableExtents: readonly number[] = [];

  get lastSeq(): number { return this.frames.at(-1)?.lastSeq ?? this.base.position.seq; }
  get lastEpoch(): number { return this.frames.at(-1)?.epoch ?? this.base.epochStarts.at(-1)?.epoch ?? 0; }
  get chain(): number { return this.frames.at(-1)?.chain ?? this.base.position.chain; }
  get journalStartSeq(): number { return Math.max(this.base.position.seq, this.trimmedSeq); }
  get epochStarts(): readonly EpochStart[] {
    const starts = [...this.base.epochStarts];
    for (const frame of this.frames) if (frame.epoch !== starts.at(-1)?.epoch) starts.push({ epoch: frame.epoch, firstSeq: frame.firstSeq });
    return starts;
  }
  get session(): SessionMark {
    const last = this.frames.at(-1);
    return last ? { attachNumber: last.attachNumber, count: last.sessionCount, appliedThrough: last.number } : this.base.session;
  }

  append(frame: Frame): void {
    if (frame.kind !== FrameKind.log || frame.firstSeq !== this.lastSeq + 1) throw new Error(`record ${frame.firstSeq} on a log that ends at ${this.lastSeq}`);
    if (frame.chain === 0) {
      frame.chain = checksum(new TextEncoder().encode(`${this.chain} ${frame.epoch} ${frame.firstSeq} ${frame.number}`)) || 1;
      frame.durableSeq = this.durableSeq;
      frame.seal();
    }
    this.frames.push(frame);
  }

  truncate(afterSeq: number): void {
    this.frames = this.frames.filter((frame) => frame.lastSeq <= afterSeq);
    this.durableSeq = Math.min(this.durableSeq, this.lastSeq);
  }

  restart(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark): void {
    this.lineage = lineage;
    this.frames = [];
    this.base = { position, epochStarts, session };
    this.durableSeq = position.seq;
  }

  synced(): void {
    this.durableSeq = this.lastSeq;
    this.durableExtents = [...this.extents];
  }

  /** The page cache is gone, and the machine comes back as another incarnation. */
  losePower(): void {
    this.truncate(this.durableSeq);
    this.extents.clear();
    for (const extent of this.durableExtents) this.extents.add(extent);
    this.incarnation += 1;
    this.lostCache = true;
  }

  /** Number of the newest request that wrote this block; 0: none did. It stands for the block's bytes. */
  shows(block: number): number {
    for (const frame of this.frames.toReversed()) {
      for (let i = frame.count - 1; i >= 0; i--) if (frame.op(i) === Op.write && frame.offsetBytes(i) === block * BLOCK_BYTES) return frame.requestNumber(i);
    }
    return 0;
  }

  listExtents(from: number, max: number): { readonly extents: readonly number[]; readonly end: boolean } {
    const held = [...this.extents].filter((extent) => extent >= from).sort((a, b) => a - b);
    return { extents: held.slice(0, max), end: held.length <= max };
  }
}

export interface Sent { readonly to: ServerId; readonly message: CopyMessage }
/** Reads whose bytes are read, and which may have to wait for a commit. */
interface Reading { readonly reads: readonly GrantedRead[]; readonly epoch: number; readonly untilSeq: number; readonly shows: readonly number[] }
export interface Answered { readonly key: number; readonly reply: SessionReply }

/** One core with everything that it asks for written down. Syncs and saves end when the test says so, or at once. */
export class FakeCopy implements Effects {
  readonly self: ServerId;
  readonly log: FakeLog;
  readonly beacons: BeaconTable;
  core: CopyCore;
  now: () => number;
  readonly sent: Sent[] = [];
  readonly answers: Answered[] = [];
  readonly tells: ManagerMessage[] = [];
  readonly events: { name: string; detail: Readonly<Record<string, string | number | boolean>> }[] = [];
  readonly granted: GrantedRead[] = [];
  readonly replied: { key: number; number: number; status: number; epoch: number }[] = [];
  /** What each answered read showed, as `shows` says. */
  readonly readings: { key: number; number: number; shows: number }[] = [];
  readonly commits: number[] = [];
  timerAtMs: number | null = null;
  syncs = 0;
  saved: DurableState;
  readonly saves: { token: number; state: DurableState }[] = [];
  /** Completions are delivered by hand. */
  manual = false;
  failAppend: 'no-space' | 'append-failed' | null = null;

  constructor(self: ServerId, volumeId: VolumeId, durable: DurableState, now: () => number, log = new FakeLog(), instance = 1) {
    this.self = self;
    this.log = log;
    this.now = now;
    this.saved = durable;
    this.beacons = new BeaconTable(instance);
    this.core = new CopyCore(volumeId, self, log, durable, this.beacons, new Prng(instance * 1000 + self.length));
  }

  receive(input: CopyInput): void {
    this.core.receive(this.now(), input, this);
  }

  from(peer: ServerId, message: CopyMessage): void { this.receive({ kind: 'peer', from: peer, message }); }
  configure(configuration: Configuration, predecessorEnded = false): void {
    this.receive({ kind: 'manager', command: { kind: 'configure', configuration, predecessorEnded, founding: false } });
  }
  tick(): void {
    this.timerAtMs = null;
    this.receive({ kind: 'timer', name: 'tick' });
  }

  endSync(): void {
    this.syncs--;
    this.log.synced();
    this.receive({ kind: 'synced' });
  }

  endSave(): void {
    const { token, state } = this.saves.shift() as { token: number; state: DurableState };
    this.saved = state;
    this.receive({ kind: 'saved', token });
  }

  // ---- Effects

  append(frame: Frame): void {
    if (this.failAppend) return this.later({ kind: 'store-failed', fault: this.failAppend });
    this.log.append(frame);
  }

  sync(): void {
    this.syncs++;
    if (!this.manual) this.pendingInputs.push(() => this.endSync());
  }

  save(state: DurableState, token: number): void {
    this.saves.push({ token, state });
    if (!this.manual) this.pendingInputs.push(() => this.endSave());
  }

  /** What a driver would deliver after the present turn. */
  readonly pendingInputs: (() => void)[] = [];
  later(input: CopyInput): void { this.pendingInputs.push(() => this.receive(input)); }

  truncate(afterSeq: number): void {
    this.log.truncate(afterSeq);
  }

  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark): void {
    this.log.restart(lineage, position, epochStarts, session);
  }

  commit(seq: number): void {
    this.commits.push(seq);
    for (const held of this.heldReads.splice(0)) {
      if (held.untilSeq <= seq) this.#answer(held);
      else this.heldReads.push(held);
    }
  }

  readonly heldReads: Reading[] = [];
  dropReads(): void { this.heldReads.length = 0; }
  grow(sizeBytes: number): void { this.log.sizeBytes = sizeBytes; }
  send(to: ServerId, message: CopyMessage): void { this.sent.push({ to, message }); }

  sendHistory(to: ServerId, senderEpoch: number, committedSeq: number, afterSeq: number): void {
    let throughSeq = afterSeq;
    for (const frame of this.log.frames) {
      if (frame.lastSeq <= afterSeq) continue;
      const copy = new Frame(frame.head.slice(), frame.payload);
      copy.senderEpoch = senderEpoch;
      copy.committedSeq = committedSeq;
      copy.seal();
      this.send(to, { kind: 'append', frame: copy });
      throughSeq = frame.lastSeq;
    }
    this.later({ kind: 'history-sent', to, throughSeq });
  }

  fill(frame: Frame): void { this.log.extents.add(Math.floor(frame.offsetBytes(0) / 2 ** 20)); }

  sendFill(to: ServerId, epoch: number, extent: number): void { this.send(to, { kind: 'fill', epoch, extent, frame: fillOf(extent) }); }

  sendCompared(to: ServerId, epoch: number, attempt: number, extent: number): void {
    this.send(to, { kind: 'compared', epoch, attempt, extent, seq: this.log.lastSeq, blocks: new Uint8Array([this.log.extents.has(extent) ? 1 : 0]) });
  }

  compareExtent(to: ServerId, epoch: number, extent: number, _learnerSeq: number, blocks: Uint8Array): void {
    const differing = this.log.extents.has(extent) && blocks[0] !== 1 ? 1 : 0;
    if (differing > 0) this.sendFill(to, epoch, extent);
    this.later({ kind: 'extent-compared', to, extent, differing, pieces: differing });
  }

  reply(key: number, epoch: number, frame: Frame, indexes: readonly number[], status: number): void {
    for (const i of indexes) this.replied.push({ key, number: frame.requestNumber(i), status, epoch });
  }
  read(reads: readonly GrantedRead[], epoch: number, untilSeq: number): void {
    this.granted.push(...reads);
    const reading = { reads, epoch, untilSeq, shows: reads.map(({ frame, index }) => this.log.shows(Math.floor(frame.offsetBytes(index) / BLOCK_BYTES))) };
    if (untilSeq > 0) this.heldReads.push(reading);
    else this.#answer(reading);
  }

  #answer({ reads, epoch, shows }: Reading): void {
    reads.forEach(({ sessionId, frame, index }, k) => {
      const number = frame.requestNumber(index);
      this.replied.push({ key: sessionId, number, status: 0, epoch });
      this.readings.push({ key: sessionId, number, shows: shows[k] as number });
    });
  }
  answer(key: number, reply: SessionReply): void { this.answers.push({ key, reply }); }
  tell(message: ManagerMessage): void { this.tells.push(message); }
  setTimer(_name: 'tick', atMs: number): void { this.timerAtMs = atMs; }
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void { this.events.push({ name, detail }); }
}

function fillOf(extent: number): Frame {
  const frame = Frame.create(FrameKind.fill, 1, 0);
  frame.setOperation(0, 1, 3, 0, extent * 2 ** 20, 4096, 0, 0);
  frame.seal();
  return frame;
}

