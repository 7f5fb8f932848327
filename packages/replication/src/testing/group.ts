import { blocksTouched, changed, Frame, FrameKind, memberOf, Op, OpFlag, type BeaconMessage, type Configuration, type CopyMessage, type ManagerMessage } from '@ashlar/protocol';
import { BLOCK_BYTES, serverId, volumeId, type ServerId } from '@ashlar/words';
import { BEACON_INTERVAL_MS, type BeaconEffects } from '../beacon.ts';
import type { DurableState } from '../effects.ts';
import { FakeCopy, FakeLog } from './fake-copy.ts';

export const VOLUME = volumeId('vol-0123456789abcdef0');
export const A = serverId('server-a');
export const B = serverId('server-b');
export const C = serverId('server-c');

export function configurationOf(members: readonly ServerId[], more: Partial<Configuration> = {}): Configuration {
  return {
    volumeId: VOLUME, lineage: 1, epoch: 1, members: members.map((id) => ({ serverId: id, incarnation: 1 })), learners: [], attachNumber: 1, sizeBytes: 2 ** 30,
    minCopies: 1, copiesWanted: Math.max(2, members.length), durability: 'normal', ...more,
  };
}

export const FRESH: DurableState = { promisedEpoch: 0, configuration: null, complete: true, fault: null };

/** Some copies of one volume, a network between them that loses nothing unless told to, and a store that takes every proposal. */
export class Group {
  nowMs = 1000;
  readonly copies = new Map<ServerId, FakeCopy>();
  readonly cut = new Set<string>();
  readonly down = new Set<ServerId>();
  /** Copies that the system manager does not reach, nor they it. */
  readonly deaf = new Set<ServerId>();
  /** Says which messages are late; they lie in `late` until the test delivers them. */
  holds: (from: ServerId, to: ServerId, message: CopyMessage | BeaconMessage) => boolean = () => false;
  readonly late: { readonly from: ServerId; readonly to: ServerId; readonly message: CopyMessage | BeaconMessage }[] = [];
  configuration: Configuration;
  /** Proposals are carried out at once; otherwise the test does it. */
  takesProposals = true;
  /** Messages seen on the way, by kind. */
  readonly seen: string[] = [];
  #lives = 1;

  constructor(configuration: Configuration, ids: readonly ServerId[] = [A, B, C]) {
    this.configuration = configuration;
    for (const id of ids) this.#add(id, memberOf(configuration, id) ? FRESH : { ...FRESH, complete: false }, new FakeLog(), memberOf(configuration, id) ? 1 : 77);
  }

  get a(): FakeCopy { return this.copy(A); }
  get b(): FakeCopy { return this.copy(B); }
  get c(): FakeCopy { return this.copy(C); }
  copy(id: ServerId): FakeCopy { return this.copies.get(id) as FakeCopy; }

  #add(id: ServerId, durable: DurableState, log: FakeLog, incarnation = log.incarnation): FakeCopy {
    log.incarnation = incarnation;
    const copy = new FakeCopy(id, VOLUME, durable, () => this.nowMs, log, ++this.#lives);
    this.copies.set(id, copy);
    copy.receive({ kind: 'started' });
    return copy;
  }

  /** The process ends and starts again; the machine keeps its cache. */
  restart(id: ServerId): FakeCopy {
    const { saved, log } = this.copy(id);
    const copy = this.#add(id, saved, log);
    for (const other of this.copies.values()) if (other !== copy) other.receive({ kind: 'peer-up', peer: id });
    return copy;
  }

  /** The machine loses its power, and what was not on its disk; it comes back as another incarnation. */
  cutPower(id: ServerId): FakeCopy {
    this.copy(id).log.losePower();
    return this.restart(id);
  }

  /** Nothing is held any more, and what was held arrives now. */
  deliverLate(): this {
    this.holds = () => false;
    for (const { from, to, message } of this.late.splice(0)) {
      const target = this.copy(to);
      if (message.kind === 'beacon' || message.kind === 'grant') target.beacons.receive(this.nowMs, from, message, this.#beaconEffects(target));
      else target.from(from, message);
    }
    return this.settle();
  }

  #reaches(from: ServerId, to: ServerId, message: CopyMessage | BeaconMessage): boolean {
    if (!this.copies.has(to) || this.down.has(to) || this.cut.has(`${from}>${to}`)) return false;
    if (!this.holds(from, to, message)) return true;
    // As it was sent: what its sender keeps a hold of may change.
    this.late.push({ from, to, message: message.kind === 'grant' ? structuredClone(message) : message });
    return false;
  }

  start(): this {
    this.push();
    return this.settle();
  }

  push(predecessorEnded = false): void {
    for (const copy of this.copies.values()) if (!this.down.has(copy.self) && !this.deaf.has(copy.self)) copy.configure(this.configuration, predecessorEnded);
  }

  change(change: Partial<Omit<Configuration, 'volumeId' | 'epoch'>>, predecessorEnded = false): this {
    this.configuration = changed(this.configuration, change);
    this.push(predecessorEnded);
    return this;
  }

  promote(id: ServerId, predecessorEnded = true): this {
    const members = [...this.configuration.members.filter((m) => m.serverId === id), ...this.configuration.members.filter((m) => m.serverId !== id)];
    return this.change({ members }, predecessorEnded);
  }

  /** Delivers everything that is under way, until nothing is. */
  settle(): this {
    for (let round = 0; round < 10_000; round++) if (!this.#step()) return this;
    throw new Error(`no quiet after 10,000 rounds; last: ${this.seen.slice(-10).join(' ')}`);
  }

  #step(): boolean {
    let moved = false;
    for (const copy of this.copies.values()) {
      if (this.down.has(copy.self)) {
        copy.sent.length = 0;
        copy.pendingInputs.length = 0;
        continue;
      }
      for (const input of copy.pendingInputs.splice(0)) {
        input();
        moved = true;
      }
      for (const { to, message } of copy.sent.splice(0)) {
        moved = true;
        this.seen.push(`${copy.self}>${to}:${message.kind}`);
        if (this.#reaches(copy.self, to, message)) this.copy(to).from(copy.self, message);
      }
      if (this.takesProposals && !this.deaf.has(copy.self)) for (const message of copy.tells.splice(0)) moved = this.decide(message) || moved;
    }
    return moved;
  }

  /** The store takes a proposal, unless it has moved on since; true if it did. */
  decide(message: ManagerMessage): boolean {
    if (message.kind !== 'propose' || message.baseEpoch !== this.configuration.epoch) return false;
    const { change } = message;
    const { members, learners } = this.configuration;
    if (change.kind === 'remove') this.change({ members: members.filter((m) => m.serverId !== change.serverId), learners: [...learners] });
    else {
      this.change({
        members: [...members.filter((m) => m.serverId !== change.member.serverId), change.member], learners: learners.filter((id) => id !== change.member.serverId),
      });
    }
    return true;
  }

  /** Time passes: beacons, ticks, and what follows from them. */
  run(ms: number): this {
    const end = this.nowMs + ms;
    let beaconMs = this.nowMs;
    while (this.nowMs < end) {
      this.nowMs += 10;
      if (this.nowMs >= beaconMs) {
        beaconMs += BEACON_INTERVAL_MS;
        for (const copy of this.copies.values()) if (!this.down.has(copy.self)) copy.beacons.tick(this.nowMs, this.#beaconEffects(copy));
      }
      for (const copy of this.copies.values()) if (!this.down.has(copy.self) && copy.timerAtMs !== null && copy.timerAtMs <= this.nowMs) copy.tick();
      this.settle();
    }
    return this;
  }

  #beaconEffects(copy: FakeCopy): BeaconEffects {
    return {
      sendBeacon: (to, message) => {
        const target = this.copy(to);
        if (this.#reaches(copy.self, to, message)) target.beacons.receive(this.nowMs, copy.self, message, this.#beaconEffects(target));
      },
      leaseGranted: () => copy.receive({ kind: 'lease-granted' }),
      relationLost: (peer) => copy.receive({ kind: 'relation-lost', peer }),
      peerSilent: (peer) => copy.receive({ kind: 'peer-silent', peer }),
      committed: (from, point) => copy.receive({ kind: 'committed', from, epoch: point.epoch, seq: point.committedSeq }),
    };
  }
}

/** Request number, kind, block. A block and a half is a block's bytes that begin in the middle of it. */
export type Operation = readonly [number, 'read' | 'write' | 'fua' | 'flush' | 'trim' | 'cache' | 'status', number?];

export function requestFrame(of: { epoch: number; attachNumber: number; count: number; number: number }, operations: readonly Operation[]): Frame {
  const written = operations.filter(([, kind]) => kind === 'write' || kind === 'fua');
  const crcs = written.reduce((sum, [, , block = 0]) => sum + blocksTouched(block * BLOCK_BYTES, BLOCK_BYTES), 0);
  const frame = Frame.create(FrameKind.request, operations.length, crcs, new Uint8Array(written.length * BLOCK_BYTES));
  frame.epoch = of.epoch;
  frame.attachNumber = of.attachNumber;
  frame.sessionCount = of.count;
  frame.number = of.number;
  let k = 0;
  let crc = 0;
  operations.forEach(([number, kind, block = 0], i) => {
    const writes = kind === 'write' || kind === 'fua';
    const op = writes ? Op.write : kind === 'read' ? Op.read : kind === 'flush' ? Op.flush : kind === 'trim' ? Op.trim : kind === 'cache' ? Op.cache : Op.status;
    frame.setOperation(i, number, op, kind === 'fua' ? OpFlag.fua : 0, block * BLOCK_BYTES, kind === 'flush' ? 0 : BLOCK_BYTES, writes ? k++ * BLOCK_BYTES : 0, writes ? crc : 0);
    if (writes) for (let b = 0; b < blocksTouched(block * BLOCK_BYTES, BLOCK_BYTES); b++) frame.setCrc(crc++, 1000 * number + b);
  });
  frame.seal();
  return frame;
}

/** A client's session with one copy. */
export class Client {
  readonly key: number;
  readonly copy: FakeCopy;
  readonly count: number;
  readonly attachNumber: number;
  epoch: number;
  number = 0;

  constructor(copy: FakeCopy, epoch: number, key = 1, count = 1, attachNumber = 1) {
    this.copy = copy;
    this.epoch = epoch;
    this.key = key;
    this.count = count;
    this.attachNumber = attachNumber;
  }

  open(readOnly = false): this {
    this.copy.receive({ kind: 'session', key: this.key, message: { kind: 'open', sessionId: this.key, epoch: this.epoch, generation: { attachNumber: this.attachNumber, count: this.count }, readOnly } });
    return this;
  }

  request(...operations: readonly Operation[]): Frame {
    const frame = requestFrame({ epoch: this.epoch, attachNumber: this.attachNumber, count: this.count, number: ++this.number }, operations);
    this.send(frame);
    return frame;
  }

  send(frame: Frame): void {
    this.copy.receive({ kind: 'session', key: this.key, message: { kind: 'requests', sessionId: this.key, frame } });
  }

  get answered(): number[] { return this.copy.replied.filter((reply) => reply.key === this.key && reply.status === 0).map((reply) => reply.number); }
  get failed(): number[] { return this.copy.replied.filter((reply) => reply.key === this.key && reply.status !== 0).map((reply) => reply.number); }
  /** What this read showed: the number of the write that it found; undefined while it is not answered. */
  shown(number: number): number | undefined { return this.copy.readings.find((reading) => reading.key === this.key && reading.number === number)?.shows; }
  get answers(): string[] { return this.copy.answers.filter((answer) => answer.key === this.key).map(({ reply }) => (reply.kind === 'refused' ? `refused:${reply.reason}` : reply.kind)); }
}
