import { blocksTouched, Frame, isMutation, Op } from '@ashlar/protocol';
import { BLOCK_BYTES, checksum } from '@ashlar/words';

export interface ModelBlock {
  /** Null: zeros. */
  readonly bytes: Uint8Array | null;
  readonly seq: number;
  readonly crc: number;
}

export const CRC_OF_ZEROS = checksum(new Uint8Array(BLOCK_BYTES));

export function applyOperation(blocks: Map<number, ModelBlock>, seq: number, offset: number, length: number, bytes: Uint8Array | null): void {
  const first = Math.floor(offset / BLOCK_BYTES);
  const count = blocksTouched(offset, length);
  for (let block = first; block < first + count; block++) {
    const from = Math.max(offset, block * BLOCK_BYTES);
    const until = Math.min(offset + length, (block + 1) * BLOCK_BYTES);
    if (bytes === null && until - from === BLOCK_BYTES) {
      blocks.set(block, { bytes: null, seq, crc: CRC_OF_ZEROS });
      continue;
    }
    const whole = new Uint8Array(BLOCK_BYTES);
    const before = blocks.get(block)?.bytes;
    if (before) whole.set(before);
    if (bytes === null) whole.fill(0, from - block * BLOCK_BYTES, until - block * BLOCK_BYTES);
    else whole.set(bytes.subarray(from - offset, until - offset), from - block * BLOCK_BYTES);
    blocks.set(block, { bytes: whole, seq, crc: checksum(whole) });
  }
}


/** Makes whole blocks of operations on parts of blocks, as a primary's store does before it journals: the frame is changed in place. */
export function completeBlocks(frame: Frame, shown: (block: number) => ModelBlock | undefined): void {
  let partial = false;
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if (isMutation(op) && op !== Op.session && (frame.offsetBytes(i) % BLOCK_BYTES !== 0 || frame.lengthBytes(i) % BLOCK_BYTES !== 0)) partial = true;
  }
  if (!partial) return;
  const scratch = new Map<number, ModelBlock>();
  const parts: { readonly op: Op; readonly offset: number; readonly length: number; readonly bytes: Uint8Array | null }[] = [];
  for (let i = 0; i < frame.count; i++) {
    const offset = frame.offsetBytes(i);
    const length = frame.lengthBytes(i);
    const op = frame.op(i);
    for (let k = 0, block = Math.floor(offset / BLOCK_BYTES); k < blocksTouched(offset, length); k++, block++) {
      if (scratch.has(block)) continue;
      const held = shown(block);
      if (held !== undefined) scratch.set(block, held);
    }
    applyOperation(scratch, 0, offset, length, op === Op.write ? frame.bytes(i) : null);
    const whole = offset % BLOCK_BYTES === 0 && length % BLOCK_BYTES === 0;
    if (whole) parts.push({ op, offset, length, bytes: op === Op.write ? frame.bytes(i) : null });
    else parts.push({ op: Op.write, ...wholeBlocks(scratch, offset, length) });
  }
  rebuild(frame, parts);
}

function wholeBlocks(blocks: ReadonlyMap<number, ModelBlock>, offset: number, length: number): { readonly offset: number; readonly length: number; readonly bytes: Uint8Array } {
  const first = Math.floor(offset / BLOCK_BYTES);
  const count = blocksTouched(offset, length);
  const bytes = new Uint8Array(count * BLOCK_BYTES);
  for (let k = 0; k < count; k++) {
    const held = blocks.get(first + k)?.bytes;
    if (held) bytes.set(held, k * BLOCK_BYTES);
  }
  return { offset: first * BLOCK_BYTES, length: bytes.length, bytes };
}

function rebuild(frame: Frame, parts: readonly { readonly op: Op; readonly offset: number; readonly length: number; readonly bytes: Uint8Array | null }[]): void {
  let bytes = 0;
  for (const part of parts) bytes += part.bytes?.length ?? 0;
  const whole = Frame.create(frame.kind, parts.length, bytes / BLOCK_BYTES, new Uint8Array(bytes));
  whole.head.set(frame.head.subarray(24, HEADER_END), 24);
  let at = 0;
  let crcs = 0;
  parts.forEach((part, i) => {
    whole.setOperation(i, frame.requestNumber(i), part.op, frame.opFlags(i), part.offset, part.length, part.bytes === null ? 0 : at, crcs);
    if (part.bytes === null) return;
    whole.payload.set(part.bytes, at);
    for (let from = 0; from < part.bytes.length; from += BLOCK_BYTES) whole.setCrc(crcs++, checksum(part.bytes.subarray(from, from + BLOCK_BYTES)));
    at += part.bytes.length;
  });
  frame.head = whole.head;
  frame.view = whole.view;
  frame.payload = whole.payload;
}

/** Of a frame's fixed header. */
const HEADER_END = 104;
