import { FOUNDING_INCARNATION, Frame, Status, type Configuration, type CopyMessage, type CopyReport, type CopyStatus, type EpochStart, type LogPosition, type ManagerMessage, type SessionMark, type SessionReply } from '@ashlar/protocol';
import { Prng, type ServerId } from '@ashlar/words';
import type { Given, Leases } from '../beacon.ts';
import { CopyCore } from '../copy.ts';
import type { DurableState, Effects, GrantedRead } from '../effects.ts';
import type { CopyInput } from '../state.ts';
import { FakeLog } from './fake-copy.ts';
import { FRESH, requestFrame, VOLUME, type Operation } from './group.ts';

/** Leases that the test gives and takes, and what the core asked of them, written down. */
class FakeLeases implements Leases {
  readonly instance = 7;
  untilMs = Infinity;
  /** Who grants nothing. */
  readonly none = new Set<ServerId>();
  readonly heard = new Map<ServerId, number>();
  given: Given | null = null;
  readonly #note: (line: string) => void;

  constructor(note: (line: string) => void) {
    this.#note = note;
  }

  establish(peer: ServerId, _volumeId: unknown, epoch: number, instance: number, nowMs: number): void { this.#note(`lease: establish ${short(peer)} ${epoch} ${instance} ${nowMs}`); }
  leaseUntilMs(peer: ServerId): number { return this.none.has(peer) ? 0 : this.untilMs; }
  end(): void { this.#note('lease: end'); }
  committed(_volumeId: unknown, epoch: number, seq: number): void { this.#note(`lease: committed ${epoch} ${seq}`); }
  heardAtMs(peer: ServerId): number { return this.heard.get(peer) ?? 0; }
  wait(): void { this.#note('lease: wait'); }
  promise(_volumeId: unknown, epoch: number, leader: ServerId | null): Given | null {
    this.#note(`lease: promise ${epoch} ${leader === null ? '-' : short(leader)}`);
    return this.given;
  }
}

/** Attempts are 901, 902, … */
class Counting extends Prng {
  #last = 900;
  override next32(): number { return ++this.#last; }
}

/**
 * One core alone: the test is its network, its disk and its clock. Each input answers with everything that the core asked for, in order, a line each,
 * so that a test says exactly what one message does, and nothing else.
 */
export class Alone implements Effects {
  readonly self: ServerId;
  readonly log: FakeLog;
  readonly leases: FakeLeases;
  readonly core: CopyCore;
  nowMs = 10_000;
  #lines: string[] = [];
  #tokens: number[] = [];

  constructor(self: ServerId, durable: DurableState = FRESH, log = new FakeLog()) {
    this.self = self;
    this.log = log;
    this.leases = new FakeLeases((line) => this.#lines.push(line));
    this.core = new CopyCore(VOLUME, self, log, durable, this.leases, new Counting(1));
  }

  do(input: CopyInput): string[] {
    this.#lines = [];
    this.core.receive(this.nowMs, input, this);
    return this.#lines;
  }

  from(from: ServerId, message: CopyMessage): string[] { return this.do({ kind: 'peer', from, message }); }
  /** After this time, the timer. */
  tick(ms = 0): string[] {
    this.nowMs += ms;
    return this.do({ kind: 'timer', name: 'tick' });
  }
  configure(configuration: Configuration, predecessorEnded = false): string[] {
    return this.do({ kind: 'manager', command: { kind: 'configure', configuration, predecessorEnded, founding: false } });
  }
  /** The oldest save that is under way is stable. */
  saved(): string[] { return this.do({ kind: 'saved', token: this.#tokens.shift() ?? 0 }); }
  synced(durableSeq = this.log.lastSeq): string[] {
    this.log.durableSeq = durableSeq;
    return this.do({ kind: 'synced' });
  }

  // ---- as a primary

  leads(configuration: Configuration): string[] {
    this.configure(configuration);
    return this.saved();
  }
  adopted(peer: ServerId, more: Partial<CopyMessage & { kind: 'adopted' }> = {}): string[] {
    const { lastSeq, epochStarts } = this.log;
    return this.from(peer, {
      kind: 'adopted', epoch: this.core.durable.promisedEpoch, attempt: 50, instance: 60, incarnation: FOUNDING_INCARNATION, lineage: 1, lastSeq, durableSeq: 0,
      epochStarts, complete: true, ...more,
    });
  }
  progress(peer: ServerId, seq = this.log.lastSeq, durableSeq = 0, more: Partial<CopyMessage & { kind: 'progress' }> = {}): string[] {
    const chain = this.log.frames.find((frame) => frame.lastSeq === seq)?.chain ?? this.log.base.position.chain;
    return this.from(peer, { kind: 'progress', epoch: this.core.durable.promisedEpoch, attempt: 50, seq, durableSeq, chain, ...more });
  }
  /** Everybody follows, nothing is outstanding, and a session is open with key 1. */
  serves(configuration: Configuration): this {
    this.leads(configuration);
    const mirrors = configuration.members.filter(({ serverId }) => serverId !== this.self);
    for (const { serverId } of mirrors) {
      this.adopted(serverId);
      this.progress(serverId);
    }
    this.open(1, 1);
    for (const { serverId } of mirrors) this.progress(serverId);
    return this;
  }
  open(key: number, count: number, more: { attachNumber?: number; readOnly?: boolean; epoch?: number } = {}): string[] {
    const { attachNumber = 1, readOnly = false, epoch = this.core.durable.promisedEpoch } = more;
    return this.do({ kind: 'session', key, message: { kind: 'open', sessionId: key, epoch, generation: { attachNumber, count }, readOnly } });
  }
  readonly #frames = new Map<number, number>();
  /** In the session with this key, whose generation counts as the key does unless told otherwise. */
  request(key: number, operations: readonly Operation[], more: { attachNumber?: number; count?: number; number?: number; epoch?: number } = {}): string[] {
    const number = more.number ?? (this.#frames.get(key) ?? 0) + 1;
    this.#frames.set(key, number);
    const frame = requestFrame({ epoch: more.epoch ?? this.core.durable.promisedEpoch, attachNumber: more.attachNumber ?? 1, count: more.count ?? key, number }, operations);
    return this.sends(key, frame);
  }
  sends(key: number, frame: Frame): string[] { return this.do({ kind: 'session', key, message: { kind: 'requests', sessionId: key, frame } }); }

  // ---- Effects

  failAppend = false;
  granted: GrantedRead[] = [];
  #say(line: string): void { this.#lines.push(line); }

  append(frame: Frame): void {
    this.#say(`append ${said(frame)}`);
    if (!this.failAppend) this.log.append(frame);
  }
  sync(): void { this.#say('sync'); }
  save(state: DurableState, token: number): void {
    this.#tokens.push(token);
    this.#say(`save ${token} ${said({ ...state, configuration: state.configuration?.epoch ?? 0 })}`);
  }
  truncate(afterSeq: number): void {
    this.#say(`truncate ${afterSeq}`);
    this.log.truncate(afterSeq);
  }
  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq: number): void {
    this.#say(`restart-log ${lineage} ${said(position)} ${said(epochStarts)} ${said(session)} ${commonSeq}`);
    this.log.restart(lineage, position, epochStarts, session);
  }
  commit(seq: number): void { this.#say(`commit ${seq}`); }
  grow(sizeBytes: number): void {
    this.#say(`grow ${sizeBytes}`);
    this.log.sizeBytes = sizeBytes;
  }
  send(to: ServerId, message: CopyMessage): void { this.#say(`${short(to)} < ${said(message)}`); }
  sendHistory(to: ServerId, senderEpoch: number, committedSeq: number, afterSeq: number): void { this.#say(`${short(to)} < history ${senderEpoch} ${committedSeq} after ${afterSeq}`); }
  fill(frame: Frame): void { this.#say(`fill ${said(frame)}`); }
  sendFill(to: ServerId, epoch: number, extent: number): void { this.#say(`${short(to)} < extent ${epoch} ${extent}`); }
  sendCompared(to: ServerId, epoch: number, attempt: number, extent: number): void { this.#say(`${short(to)} < compared ${epoch} ${attempt} ${extent}`); }
  compareExtent(to: ServerId, epoch: number, extent: number, learnerSeq: number, blocks: Uint8Array, asLost: boolean): void {
    this.#say(`compare with ${short(to)} ${epoch} ${extent} ${learnerSeq} ${blocks.length}${asLost ? ', bad blocks as lost' : ''}`);
  }
  reply(key: number, epoch: number, frame: Frame, indexes: readonly number[], status: number): void {
    const name = Object.entries(Status).find(([, value]) => value === status)?.[0];
    this.#say(`reply ${key} ${epoch} [${indexes.map((i) => frame.requestNumber(i)).join(' ')}] ${name}`);
  }
  read(reads: readonly GrantedRead[], epoch: number, untilSeq: number): void {
    this.granted.push(...reads);
    this.#say(`read ${epoch} [${reads.map(({ sessionId, frame, index }) => `${sessionId}:${frame.requestNumber(index)}`).join(' ')}] until ${untilSeq}`);
  }
  dropReads(): void { this.#say('drop reads'); }
  answer(key: number, reply: SessionReply): void { this.#say(`answer ${key} ${said(reply)}`); }
  tell(message: ManagerMessage): void {
    if (message.kind === 'status') this.#say(`tell status ${message.epoch} ${message.serving ? 'serving' : 'not serving'}: ${message.copies.map(stands).join(', ')}`);
    else if (message.kind === 'report') this.#say(`tell report ${reported(message.copy)}`);
    else this.#say(`tell ${said(message)}`);
  }
  setTimer(name: string, atMs: number): void { this.#say(`timer ${name} +${atMs - this.nowMs}`); }
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void { this.#say(`event ${name} ${said(detail)}`); }
}

function short(id: ServerId): string { return id.replace('server-', ''); }

/** What the tests look at; further fields of these two change nothing here. */
function stands({ serverId, state, movedBytes, remainingBytes }: CopyStatus): string {
  return `${short(serverId)} ${state}${movedBytes + remainingBytes > 0 ? ` (moved ${movedBytes}, remaining ${remainingBytes})` : ''}`;
}
function reported({ lineage, promisedEpoch, incarnation, lostCache, complete, lastEpoch, lastSeq, fault, attachNumber, asked }: CopyReport): string {
  return said({ lineage, promisedEpoch, incarnation, lostCache, complete, lastEpoch, lastSeq, fault, attachNumber, asked });
}

/** A message in one line, without the volume's id, which is always the same. */
function said(value: unknown): string {
  if (value instanceof Frame) return `${value.firstSeq}-${value.lastSeq} epoch=${value.epoch} sender=${value.senderEpoch} committed=${value.committedSeq} number=${value.number}`;
  if (Array.isArray(value)) return `[${value.map(said).join(' ')}]`;
  if (typeof value === 'string') return short(value as ServerId);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const { kind, volumeId: _, configuration, ...rest } = value as Record<string, unknown>;
  const words = Object.entries(rest).map(([key, part]) => `${key}=${typeof part === 'object' && part !== null && !Array.isArray(part) && !(part instanceof Frame) ? `{${said(part)}}` : said(part)}`);
  if (typeof configuration === 'object' && configuration !== null) words.push(`configuration=${(configuration as Configuration).epoch}`);
  else if (configuration !== undefined) words.push(`configuration=${JSON.stringify(configuration)}`);
  return [...(typeof kind === 'string' ? [kind] : []), ...words].join(' ');
}
