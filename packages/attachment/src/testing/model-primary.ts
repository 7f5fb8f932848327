import { compareGenerations, isMutation, Op, Status, type Frame, type SessionGeneration, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { blocksOf, replyOf } from './requests.ts';

/** One record of the volume's log: a session's beginning, or the writes of one frame. */
export interface ModelRecord {
  readonly generation: SessionGeneration;
  readonly numbers: readonly number[];
  /** By number: what was written where. */
  readonly values: readonly { readonly block: number; readonly value: number }[];
}

interface Session {
  readonly generation: SessionGeneration;
  nextFrame: number;
  appliedThrough: number;
  open: boolean;
}

export class ModelCrash extends Error {}

/**
 * What a primary does with sessions (packages/replication/src/sessions.ts), over a log in memory that is committed when the test says so.
 * Everything it answers goes through `say`.
 */
export class ModelPrimary {
  readonly serverId: ServerId;
  /** 0: it leads nothing. */
  epoch = 0;
  serving = false;
  attachNumber = 0;
  log: ModelRecord[] = [];
  committed = 0;
  /** True: carrying out this frame crashes the copy. */
  readonly #crashes: (frame: Frame) => boolean;
  readonly #say: (reply: SessionReply) => void;
  readonly #sessions = new Map<number, Session>();
  readonly #opens = new Map<number, SessionMessage & { readonly kind: 'open' }>();
  #answers: { readonly at: number; readonly answer: () => void }[] = [];

  constructor(serverId: ServerId, say: (reply: SessionReply) => void, crashes: (frame: Frame) => boolean) {
    this.serverId = serverId;
    this.#crashes = crashes;
    this.#say = say;
  }

  /** What it held before it led is settled first. */
  lead(epoch: number, attachNumber: number, log: ModelRecord[], committed: number): void {
    this.epoch = epoch;
    this.attachNumber = attachNumber;
    this.log = log;
    this.committed = committed;
    this.serving = false;
  }

  stepDown(): void {
    for (const key of [...this.#sessions.keys(), ...this.#opens.keys()]) this.#refuse(key, 'not-serving');
    this.forgetSessions();
    this.epoch = 0;
  }

  /** The link broke, or it was restarted. */
  forgetSessions(): void {
    this.#sessions.clear();
    this.#opens.clear();
    this.#answers = [];
  }

  /** One more record is on every copy; in the beginning that settles the tail. */
  commitOne(): void {
    if (this.epoch === 0) return;
    if (this.committed < this.log.length) this.committed++;
    if (!this.serving && this.committed === this.log.length) {
      this.serving = true;
      const opens = [...this.#opens];
      this.#opens.clear();
      for (const [key, message] of opens) this.#open(key, message);
    }
    const due = this.#answers.filter(({ at }) => at <= this.committed);
    this.#answers = this.#answers.filter(({ at }) => at > this.committed);
    for (const { answer } of due) answer();
  }

  receive(message: SessionMessage): void {
    const key = message.sessionId;
    if (this.epoch === 0) return this.#say({ kind: 'refused', sessionId: key, epoch: 0, reason: 'not-primary' });
    switch (message.kind) {
      case 'open': return this.#open(key, message);
      case 'requests': return this.#requests(key, message.frame);
      case 'close':
        this.#sessions.delete(key);
        this.#opens.delete(key);
        return;
      case 'probe':
        if (!this.#sessions.has(key) && !this.#opens.has(key)) return this.#refuse(key, 'gap');
        return this.#say({ kind: 'alive', sessionId: key, epoch: this.epoch, sentAtMs: message.sentAtMs });
    }
  }

  #refuse(key: number, reason: 'not-primary' | 'not-serving' | 'old-session' | 'old-attach' | 'gap'): void {
    this.#sessions.delete(key);
    this.#say({ kind: 'refused', sessionId: key, epoch: this.epoch, reason });
  }

  #newest(): SessionGeneration {
    return this.log.reduce<SessionGeneration>((newest, { generation }) => (compareGenerations(generation, newest) > 0 ? generation : newest), { attachNumber: 0, count: 0 });
  }

  #open(key: number, message: SessionMessage & { readonly kind: 'open' }): void {
    if (message.epoch !== this.epoch) return this.#refuse(key, 'not-primary');
    if (!this.serving) {
      this.#opens.set(key, message);
      return;
    }
    if (message.generation.attachNumber < this.attachNumber) return this.#refuse(key, 'old-attach');
    const order = compareGenerations(message.generation, this.#newest());
    const known = this.#sessions.get(key);
    if (order === 0 && known) {
      if (known.open) this.#opened(key, known);
      return;
    }
    if (order <= 0) return this.#refuse(key, 'old-session');
    for (const other of this.#sessions.keys()) this.#refuse(other, 'old-session');
    const session: Session = { generation: message.generation, nextFrame: 1, appliedThrough: this.#appliedThrough(message.generation.attachNumber), open: false };
    this.#sessions.set(key, session);
    this.log.push({ generation: message.generation, numbers: [], values: [] });
    this.#answers.push({
      at: this.log.length, answer: () => {
        if (this.#sessions.get(key) !== session) return;
        session.open = true;
        this.#opened(key, session);
      },
    });
  }

  #appliedThrough(attachNumber: number): number {
    return this.log.reduce((highest, { generation, numbers }) => (generation.attachNumber === attachNumber ? Math.max(highest, ...numbers) : highest), 0);
  }

  #opened(key: number, session: Session): void {
    this.#say({ kind: 'opened', sessionId: key, epoch: this.epoch, generation: session.generation, sizeBytes: 2 ** 30, appliedThrough: session.appliedThrough });
  }

  #requests(key: number, frame: Frame): void {
    const session = this.#sessions.get(key);
    if (!session?.open) return this.#refuse(key, 'gap');
    if (frame.epoch !== this.epoch || frame.attachNumber !== session.generation.attachNumber || frame.sessionCount !== session.generation.count) return;
    if (frame.number < session.nextFrame) return;
    if (frame.number > session.nextFrame) return this.#refuse(key, 'gap');
    session.nextFrame++;
    if (this.#crashes(frame)) throw new ModelCrash();
    const done: number[] = [];
    const writes: number[] = [];
    for (let i = 0; i < frame.count; i++) {
      const op = frame.op(i);
      if (op === Op.read || op === Op.flush) this.#later(key, session, frame, [i]);
      else if (isMutation(op) && frame.requestNumber(i) > session.appliedThrough) writes.push(i);
      else done.push(i);
    }
    if (done.length > 0) this.#reply(key, frame, done);
    if (writes.length === 0) return;
    this.log.push({
      generation: session.generation, numbers: writes.map((i) => frame.requestNumber(i)),
      values: writes.flatMap((i) => Array.from({ length: blocksOf(frame, i) }, (_, b) => ({ block: frame.offsetBytes(i) / 4096 + b, value: frame.op(i) === Op.write ? frame.crc(frame.crcIndex(i) + b) : 0 }))),
    });
    this.#later(key, session, frame, writes);
  }

  /** Answered when everything that is in the log now is committed. */
  #later(key: number, session: Session, frame: Frame, indexes: readonly number[]): void {
    const answer = (): void => { if (this.#sessions.get(key) === session) this.#reply(key, frame, indexes); };
    if (this.committed === this.log.length) answer();
    else this.#answers.push({ at: this.log.length, answer });
  }

  #reply(key: number, frame: Frame, indexes: readonly number[]): void {
    const reply = replyOf(frame, indexes, Status.ok, this.epoch);
    // A read shows how far the log was committed.
    for (let k = 0; k < reply.count; k++) if (reply.op(k) === Op.read) new DataView(reply.payload.buffer).setUint32(reply.payload.byteOffset + reply.payloadAt(k), this.committed, true);
    this.#say({ kind: 'replies', sessionId: key, frame: reply });
  }
}
