import { blocksTouched, Frame, FRAME_HEADER_BYTES, FrameKind, Op, type PayloadLease, type Status } from '@ashlar/protocol';
import type { AttachmentClient } from './effects.ts';
import { FLIGHTS_POOLED_MAX } from './limits.ts';

const ANSWERED = -1;
const NO_FRAME = new Frame(new Uint8Array(FRAME_HEADER_BYTES));
const NO_CLIENT: AttachmentClient = { replied: () => undefined };
const NO_LEASE: PayloadLease = { release: () => undefined };

/** One frame of requests on its way, and which of them are unanswered. */
export class Flight {
  /** As the client made it, under our numbers. Sent as it is the first time; later a frame of what is unanswered is sent. */
  frame = NO_FRAME;
  client = NO_CLIENT;
  lease = NO_LEASE;
  /** Number of the client's first operation; the others follow without gaps. */
  firstNumber = 0;
  count = 0;
  /** Operations not answered yet. */
  left = 0;
  /** When it could have been sent at the earliest: the time that a rate limit holds it back is no stall. */
  startMs = 0;
  /** When it was sent in the present session. */
  sentMs = 0;
  /** Some primary has it, or had it. */
  sent = false;
  /** A copy crashed while it had this in hand: its operations are sent one by one from then on, so that a second crash shows which it was. */
  suspect = false;
  /** Nobody but the primary of the present session, and mirrors that have answered, can still read the payload. */
  clean = true;
  /** The client's tag of each operation; ANSWERED. */
  tags = new Float64Array(8);

  begin(frame: Frame, client: AttachmentClient, lease: PayloadLease, firstNumber: number): void {
    const { count } = frame;
    if (this.tags.length < count) this.tags = new Float64Array(2 ** Math.ceil(Math.log2(count)));
    this.frame = frame;
    this.client = client;
    this.lease = lease;
    this.firstNumber = firstNumber;
    this.count = count;
    this.left = count;
    this.sent = false;
    this.suspect = false;
    this.clean = true;
    const { tags } = this;
    for (let i = 0; i < count; i++) {
      tags[i] = frame.requestNumber(i);
      frame.setRequestNumber(i, firstNumber + i);
    }
  }

  /** Takes the tag of an operation that is answered now; -1 if it is none of ours, or was answered before. */
  answer(requestNumber: number): number {
    const i = requestNumber - this.firstNumber;
    if (!(i >= 0 && i < this.count)) return ANSWERED;
    const tag = this.tags[i];
    if (tag !== ANSWERED) {
      this.tags[i] = ANSWERED;
      this.left--;
    }
    return tag;
  }

  bytes(): number {
    let bytes = 0;
    for (let i = 0; i < this.frame.count; i++) {
      const op = this.frame.op(i);
      if (op === Op.read || op === Op.write) bytes += this.frame.lengthBytes(i);
    }
    return bytes;
  }

  /**
   * A frame of what is still unanswered, in the old order under the old numbers; of a suspect only its first operation. A new head, because
   * whoever got the old one may still read it.
   */
  again(): Frame {
    const old = this.frame;
    const kept: number[] = [];
    let blocks = 0;
    for (let k = 0; k < old.count && (!this.suspect || kept.length === 0); k++) {
      if (this.tags[old.requestNumber(k) - this.firstNumber] === ANSWERED) continue;
      kept.push(k);
      if (old.op(k) === Op.write) blocks += tableEntries(old, k);
    }
    const frame = Frame.create(FrameKind.request, kept.length, blocks, old.payload);
    let crcs = 0;
    kept.forEach((k, i) => {
      const write = old.op(k) === Op.write;
      frame.setOperation(i, old.requestNumber(k), old.op(k), old.opFlags(k), old.offsetBytes(k), old.lengthBytes(k), old.payloadAt(k), write ? crcs : 0);
      if (!write) return;
      const entries = tableEntries(old, k);
      for (let b = 0; b < entries; b++) frame.setCrc(crcs++, old.crc(old.crcIndex(k) + b));
    });
    return frame;
  }

  /** A reply to everything unanswered, or the first so many operations of it, which is then answered. Null if nothing is. */
  fail(status: Status, most = this.left): Frame | null {
    if (most === 0) return null;
    const { frame } = this;
    const reply = Frame.create(FrameKind.reply, most, 0);
    let n = 0;
    for (let k = 0; k < frame.count && n < most; k++) {
      const tag = this.answer(frame.requestNumber(k));
      if (tag === ANSWERED) continue;
      reply.setOperation(n, tag, frame.op(k), 0, frame.offsetBytes(k), frame.lengthBytes(k), 0, 0);
      reply.setStatus(n++, status);
    }
    return reply;
  }
}

function tableEntries(frame: Frame, k: number): number {
  return blocksTouched(frame.offsetBytes(k), frame.lengthBytes(k));
}

/** Finished flights, used again: a frame costs no allocation here. */
export class FlightPool {
  readonly #free: Flight[] = [];

  take(frame: Frame, client: AttachmentClient, lease: PayloadLease, firstNumber: number): Flight {
    const flight = this.#free.pop() ?? new Flight();
    flight.begin(frame, client, lease, firstNumber);
    return flight;
  }

  /** Must have been taken out of every list: replies that come later find it nowhere. */
  give(flight: Flight): void {
    flight.frame = NO_FRAME;
    flight.client = NO_CLIENT;
    flight.lease = NO_LEASE;
    if (this.#free.length < FLIGHTS_POOLED_MAX) this.#free.push(flight);
  }
}
