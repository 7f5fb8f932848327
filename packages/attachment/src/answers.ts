import { Frame, FrameKind, Op, Status, type Usage } from '@ashlar/protocol';
import { FRAME_REQUESTS_MAX } from '@ashlar/words';
import type { Flight } from './flight.ts';
import type { RequestTotals } from './totals.ts';

/** Tags of the reply in hand. */
const tags = new Float64Array(FRAME_REQUESTS_MAX);

/** Figures of one attachment since it began. */
export class Figures {
  readBytes = 0;
  writeBytes = 0;
  readRequests = 0;
  writeRequests = 0;
  flushRequests = 0;
  failedRequests = 0;
  longestStallMs = 0;

  usage(): Usage {
    const { readBytes, writeBytes, readRequests, writeRequests, flushRequests, failedRequests, longestStallMs } = this;
    return { readBytes, writeBytes, readRequests, writeRequests, flushRequests, failedRequests, longestStallMs };
  }

  count(op: Op, status: Status, lengthBytes: number): void {
    if (status !== Status.ok) {
      this.failedRequests++;
      return;
    }
    switch (op) {
      case Op.read:
        this.readRequests++;
        this.readBytes += lengthBytes;
        return;
      case Op.write:
        this.writeBytes += lengthBytes;
        this.writeRequests++;
        return;
      case Op.zero:
      case Op.trim:
        this.writeRequests++;
        return;
      case Op.flush:
        this.flushRequests++;
        return;
      default:
    }
  }
}

/**
 * Turns a primary's reply into the client's: request numbers become tags. In place where every operation is still waited for; else a new frame
 * of those that are (a request that was given up, or answered before, is not answered again). Null if nothing is left. `seconds`: since it was asked.
 */
export function toClient(reply: Frame, flight: Flight, figures: Figures, totals: RequestTotals, seconds: number, ownCopy: boolean): Frame | null {
  const { count } = reply;
  const bucket = totals.bucket(seconds);
  let wanted = 0;
  for (let k = 0; k < count; k++) {
    const tag = flight.answer(reply.requestNumber(k));
    tags[k] = tag;
    if (tag < 0) continue;
    wanted++;
    if (ownCopy) forgive(reply, k);
    const status = reply.status(k);
    if (status !== Status.ok) flight.clean = false;
    figures.count(reply.op(k), status, reply.lengthBytes(k));
    totals.count(reply.op(k), status, reply.lengthBytes(k), seconds, bucket);
  }
  if (wanted === 0) return null;
  if (wanted < count) return selected(reply, wanted);
  for (let k = 0; k < count; k++) reply.setRequestNumber(k, tags[k]);
  return reply;
}

/** A single copy that is shown for comparing knows only reads; a flush or prefetch of it has nothing to do. */
function forgive(reply: Frame, k: number): void {
  const op = reply.op(k);
  if ((op === Op.flush || op === Op.cache) && reply.status(k) === Status.invalid) reply.setStatus(k, Status.ok);
}

function selected(reply: Frame, wanted: number): Frame {
  const frame = Frame.create(FrameKind.reply, wanted, 0, reply.payload);
  frame.lease = reply.lease;
  for (let k = 0, n = 0; k < reply.count; k++) {
    if (tags[k] < 0) continue;
    frame.setOperation(n, tags[k], reply.op(k), 0, reply.offsetBytes(k), reply.lengthBytes(k), reply.payloadAt(k), 0);
    frame.setStatus(n++, reply.status(k));
  }
  return frame;
}
