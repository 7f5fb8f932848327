import { BLOCK_BYTES, checksum } from '@ashlar/words';
import { Frame, FRAME_HEADER_BYTES, frameHeadBytes, Op, OPERATION_BYTES } from '@ashlar/protocol';
import { edgeBlocks } from './record.ts';

/** Fills `into` with the block as it is before the frame; false if its bytes are corrupt. */
export type ReadBlock = (block: number, into: Uint8Array) => boolean;

/** True if some operation touches only a part of a block, so that the rest has to be read first. */
export function touchesParts(frame: Frame): boolean {
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if (op !== Op.write && op !== Op.zero && op !== Op.trim) continue;
    if (frame.offsetBytes(i) % BLOCK_BYTES !== 0 || frame.lengthBytes(i) % BLOCK_BYTES !== 0) return true;
  }
  return false;
}

/** Records of others are complete already; only a zero may touch parts of blocks, and then carries them. */
export function isComplete(frame: Frame): boolean {
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if ((op === Op.write || op === Op.trim) && (frame.offsetBytes(i) % BLOCK_BYTES !== 0 || frame.lengthBytes(i) % BLOCK_BYTES !== 0)) return false;
  }
  return true;
}

/**
 * Completes a primary's record: afterwards each write covers whole blocks; a zero that covers parts of blocks carries those blocks whole, as they
 * become; a trim is shortened to the blocks that it covers whole. So that copies apply the same bytes without reading. The frame gets a new head and payload.
 * Returns null, or the block that must be read and is corrupt; the frame is then as it was.
 */
export function completeFrame(frame: Frame, read: ReadBlock): number | null {
  const { count } = frame;
  const completed: (Map<number, Uint8Array> | undefined)[] = [];
  for (let i = 0; i < count; i++) {
    const op = frame.op(i);
    if (op !== Op.write && op !== Op.zero) continue;
    const edges = edgeBlocks(frame.offsetBytes(i), frame.lengthBytes(i));
    if (edges.length === 0) continue;
    const blocks = new Map<number, Uint8Array>();
    for (const block of edges) {
      const bytes = new Uint8Array(BLOCK_BYTES);
      if (!overlay(frame, completed, i, block, bytes) && !read(block, bytes)) return block;
      applyPart(frame, i, block, bytes);
      blocks.set(block, bytes);
    }
    completed[i] = blocks;
  }
  rebuild(frame, completed);
  return null;
}

/** The block as an earlier operation of the same frame left it; false if none touched it. */
function overlay(frame: Frame, completed: readonly (Map<number, Uint8Array> | undefined)[], before: number, block: number, into: Uint8Array): boolean {
  for (let i = before - 1; i >= 0; i--) {
    const bytes = completed[i]?.get(block);
    if (bytes !== undefined) {
      into.set(bytes);
      return true;
    }
    const from = block * BLOCK_BYTES - frame.offsetBytes(i);
    if (from < 0 || from + BLOCK_BYTES > frame.lengthBytes(i)) continue;
    const op = frame.op(i);
    if (op === Op.write) {
      into.set(frame.bytes(i).subarray(from, from + BLOCK_BYTES));
      return true;
    }
    // All of `into` is zeros already.
    if (op === Op.zero || op === Op.trim) return true;
  }
  return false;
}

function applyPart(frame: Frame, i: number, block: number, bytes: Uint8Array): void {
  const offset = frame.offsetBytes(i);
  const start = block * BLOCK_BYTES;
  const from = Math.max(offset, start);
  const until = Math.min(offset + frame.lengthBytes(i), start + BLOCK_BYTES);
  if (frame.op(i) === Op.write) bytes.set(frame.bytes(i).subarray(from - offset, until - offset), from - start);
  else bytes.fill(0, from - start, until - start);
}

/**
 * The new payload has the bytes of the operations end to end and nothing else: a largest write that touches parts of two blocks must still be a
 * frame that mirrors take.
 */
function rebuild(frame: Frame, completed: readonly (Map<number, Uint8Array> | undefined)[]): void {
  let bytes = 0;
  let crcs = frame.blockCount;
  for (let i = 0; i < frame.count; i++) {
    const edges = completed[i]?.size ?? 0;
    if (frame.op(i) === Op.write) bytes += wholeBytes(frame, i);
    else bytes += edges * BLOCK_BYTES;
    if (frame.op(i) === Op.zero) crcs += edges;
  }
  const payload = new Uint8Array(bytes);
  const head = new Uint8Array(frameHeadBytes(frame.count, crcs));
  head.set(frame.head.subarray(0, FRAME_HEADER_BYTES + frame.count * OPERATION_BYTES + frame.blockCount * 4));
  const made = new Frame(head, payload);
  made.view.setUint32(16, crcs, true);
  made.view.setUint32(20, payload.length, true);
  let at = 0;
  let crc = frame.blockCount;
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if (op === Op.trim) shorten(made, i);
    else if (op === Op.write) at = placeWrite(frame, made, i, completed[i] ?? NONE, at);
    else if (completed[i] !== undefined) {
      made.setOperation(i, frame.requestNumber(i), op, frame.opFlags(i), frame.offsetBytes(i), frame.lengthBytes(i), at, crc);
      for (const edge of (completed[i] as Map<number, Uint8Array>).values()) {
        payload.set(edge, at);
        made.setCrc(crc++, checksum(edge));
        at += BLOCK_BYTES;
      }
    }
  }
  frame.head = made.head;
  frame.view = made.view;
  frame.payload = payload;
}

const NONE: ReadonlyMap<number, Uint8Array> = new Map();

function placeWrite(frame: Frame, made: Frame, i: number, blocks: ReadonlyMap<number, Uint8Array>, at: number): number {
  const offset = frame.offsetBytes(i);
  const first = Math.floor(offset / BLOCK_BYTES);
  const whole = wholeBytes(frame, i);
  made.payload.set(frame.bytes(i), at + offset - first * BLOCK_BYTES);
  for (const [block, bytes] of blocks) {
    made.payload.set(bytes, at + (block - first) * BLOCK_BYTES);
    made.setCrc(frame.crcIndex(i) + block - first, checksum(bytes));
  }
  made.setOperation(i, frame.requestNumber(i), Op.write, frame.opFlags(i), first * BLOCK_BYTES, whole, at, frame.crcIndex(i));
  return at + whole;
}

function wholeBytes(frame: Frame, i: number): number {
  const offset = frame.offsetBytes(i);
  return (Math.ceil((offset + frame.lengthBytes(i)) / BLOCK_BYTES) - Math.floor(offset / BLOCK_BYTES)) * BLOCK_BYTES;
}

/** A trim is advice: parts of blocks keep their bytes. */
function shorten(frame: Frame, i: number): void {
  const first = Math.ceil(frame.offsetBytes(i) / BLOCK_BYTES);
  const end = Math.floor((frame.offsetBytes(i) + frame.lengthBytes(i)) / BLOCK_BYTES);
  frame.setOperation(i, frame.requestNumber(i), Op.trim, frame.opFlags(i), first * BLOCK_BYTES, Math.max(0, end - first) * BLOCK_BYTES, 0, 0);
}
