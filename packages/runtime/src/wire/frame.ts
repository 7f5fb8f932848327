import { parseFrame, type Frame, type Slab } from '@ashlar/protocol';
import type { HotKind, WireMessage } from './messages.ts';
import { Malformed } from './shape.ts';

/**
 * The messages of the block path, in a fixed layout: no protobuf, no objects but the message and its frame.
 * After the envelope (envelope.ts), little-endian; whole numbers are float64, which is exact for safe integers.
 *
 *   append     frame
 *   progress   epoch f64 | attempt f64 | seq f64 | durableSeq f64 | chain u32
 *   requests   sessionId f64 | frame
 *   replies    sessionId f64 | frame
 *   fill       epoch f64 | extent f64 | frame
 */
export type HotMessage = Extract<WireMessage, { kind: HotKind }>;

export const HOT_CODES: { readonly [K in HotKind]: number } = { append: 16, progress: 17, requests: 18, replies: 19, fill: 20 };

const PROGRESS_BYTES = 36;

/** A switch, because a look-up by name costs more than the rest of a small message's header. */
export function isHot(kind: string): kind is HotKind {
  switch (kind) {
    case 'append': case 'progress': case 'requests': case 'replies': case 'fill': return true;
    default: return false;
  }
}

export function hotBytes(message: HotMessage): number {
  switch (message.kind) {
    case 'append': return frameBytes(message.frame);
    case 'progress': return PROGRESS_BYTES;
    case 'requests': case 'replies': return 8 + frameBytes(message.frame);
    case 'fill': return 16 + frameBytes(message.frame);
    default: return message satisfies never;
  }
}

/** Writes the body at `at`; `hotBytes` bytes must be free there. */
export function encodeHot(message: HotMessage, target: Uint8Array, view: DataView, at: number): void {
  switch (message.kind) {
    case 'append': return putFrame(message.frame, target, at);
    case 'progress':
      view.setFloat64(at, message.epoch, true);
      view.setFloat64(at + 8, message.attempt, true);
      view.setFloat64(at + 16, message.seq, true);
      view.setFloat64(at + 24, message.durableSeq, true);
      view.setUint32(at + 32, message.chain, true);
      return;
    case 'requests': case 'replies':
      view.setFloat64(at, message.sessionId, true);
      return putFrame(message.frame, target, at + 8);
    case 'fill':
      view.setFloat64(at, message.epoch, true);
      view.setFloat64(at + 8, message.extent, true);
      return putFrame(message.frame, target, at + 16);
    default: return message satisfies never;
  }
}

/** The message whose body is bytes[at, end). Its frame is a view of `bytes`; if they lie in `memory`, the payload only, under a lease. Throws Malformed. */
export function decodeHot(code: number, bytes: Uint8Array, view: DataView, at: number, end: number, memory: Slab | null): HotMessage | undefined {
  switch (code) {
    case HOT_CODES.append: return { kind: 'append', frame: takeFrame(bytes, at, end, memory) };
    case HOT_CODES.progress:
      if (end - at !== PROGRESS_BYTES) throw new Malformed('progress of a wrong length');
      return { kind: 'progress', epoch: takeWhole(view, at), attempt: takeWhole(view, at + 8), seq: takeWhole(view, at + 16), durableSeq: takeWhole(view, at + 24), chain: view.getUint32(at + 32, true) };
    case HOT_CODES.requests: return { kind: 'requests', sessionId: takeNumberBefore(view, at, end, 8), frame: takeFrame(bytes, at + 8, end, memory) };
    case HOT_CODES.replies: return { kind: 'replies', sessionId: takeNumberBefore(view, at, end, 8), frame: takeFrame(bytes, at + 8, end, memory) };
    case HOT_CODES.fill: return { kind: 'fill', epoch: takeNumberBefore(view, at, end, 16), extent: takeWhole(view, at + 8), frame: takeFrame(bytes, at + 16, end, memory) };
    default: return undefined;
  }
}

function frameBytes(frame: Frame): number { return frame.head.length + frame.payload.length; }

function putFrame(frame: Frame, target: Uint8Array, at: number): void {
  target.set(frame.head, at);
  if (frame.payload.length > 0) target.set(frame.payload, at + frame.head.length);
}

function takeFrame(bytes: Uint8Array, at: number, end: number, memory: Slab | null): Frame {
  const frame = parseFrame(bytes.subarray(at, end));
  if ('malformed' in frame) throw new Malformed(frame.malformed);
  if (memory === null) return frame;
  // Heads are read as long as an operation is unanswered, payloads only until they are written somewhere.
  frame.ownHead();
  if (frame.payload.length > 0) frame.lease = memory.lease();
  return frame;
}

function takeNumberBefore(view: DataView, at: number, end: number, fixedBytes: number): number {
  if (end - at < fixedBytes) throw new Malformed('a message shorter than its fixed part');
  return takeWhole(view, at);
}

function takeWhole(view: DataView, at: number): number {
  const value = view.getFloat64(at, true);
  if (!Number.isSafeInteger(value)) throw new Malformed('not a whole number');
  return value + 0;
}
