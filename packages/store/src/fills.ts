import { BLOCK_BYTES, checksum, EXTENT_BLOCKS } from '@ashlar/words';
import { Frame, FrameKind, Op, SlabPool, type VolumeTag } from '@ashlar/protocol';
import type { BlockReader } from './block-reader.ts';
import { BlockState } from './blocks.ts';
import type { ExtentView } from './extents.ts';

export interface FillRead {
  /** One write, zero or (for a block whose bytes are bad) lost for each block, with its version as request number. */
  readonly frame: Frame;
  readonly corrupt: readonly number[];
}

/** Of fills that were sent: a megabyte of new memory for each would cost more than reading it. */
const memory = new SlabPool();

/**
 * The blocks (0..255) of an extent as they are now. What is absent here shows the backing, and is sent as bytes: it is asked for only where the other
 * copy holds something that this one does not. The frame's lease is to be released when it was sent; one that is dropped is not seen again.
 */
export function makeFill(reader: BlockReader, tag: VolumeTag, lineage: number, lastSeq: number, extent: number, blocks: readonly number[]): FillRead {
  const first = extent * EXTENT_BLOCKS;
  const written = blocks.filter((i) => reader.hasBytes(first + i)).length;
  const slab = memory.take(Math.max(1, written) * BLOCK_BYTES);
  const frame = Frame.create(FrameKind.fill, blocks.length, written, slab.bytes.subarray(0, written * BLOCK_BYTES));
  frame.lease = slab.lease();
  slab.retire();
  frame.setVolumeTag(tag);
  frame.lineage = lineage;
  frame.firstSeq = lastSeq;
  const corrupt = readRuns(reader, first, blocks, frame.payload);
  let slot = 0;
  let k = 0;
  blocks.forEach((i, n) => {
    const block = first + i;
    const hasBytes = reader.hasBytes(block);
    const { state, seq, crc } = reader;
    const bad = corrupt.includes(block);
    const op = bad ? Op.lost : hasBytes ? Op.write : Op.zero;
    const at = slot * BLOCK_BYTES;
    frame.setOperation(n, seq, op, 0, block * BLOCK_BYTES, BLOCK_BYTES, op === Op.write ? at : 0, k);
    if (op === Op.write) frame.setCrc(k++, state === BlockState.written ? crc : checksum(frame.payload.subarray(at, at + BLOCK_BYTES)));
    if (hasBytes) slot += 1;
  });
  frame.seal();
  return { frame, corrupt };
}

/** Reads the blocks that have bytes end to end, neighbours with one call. Returns those whose bytes are bad, or were known to be. */
function readRuns(reader: BlockReader, first: number, blocks: readonly number[], into: Uint8Array): number[] {
  const corrupt: number[] = [];
  let slot = 0;
  for (let n = 0; n < blocks.length;) {
    const block = first + (blocks[n] as number);
    const hasBytes = reader.hasBytes(block);
    if (reader.state === BlockState.corrupt) corrupt.push(block);
    n += 1;
    if (!hasBytes) continue;
    let count = 1;
    while (n < blocks.length && first + (blocks[n] as number) === block + count && reader.hasBytes(block + count)) {
      count += 1;
      n += 1;
    }
    reader.read(block * BLOCK_BYTES, count * BLOCK_BYTES, into, slot * BLOCK_BYTES, corrupt);
    slot += count;
  }
  return corrupt;
}

/** What the rule of fills needs to know besides the block itself. */
export interface FillView {
  readonly lastSeq: number;
  /** Up to here everything is in the extents. */
  readonly settledSeq: number;
  viewOf(extent: number): ExtentView;
  rangeSeqOf(extent: number): number;
}

/**
 * The part of a fill that applies, as a frame of its own, or null if none does. A block takes it if it is absent, or not newer than the fill.
 * A block of which not even the version is known was not newer than what is settled. Versions that our log does not reach yet come by the log.
 */
export function acceptedPart(frame: Frame, reader: BlockReader, view: FillView): Frame | null {
  const accepted: number[] = [];
  let crcs = 0;
  for (let i = 0; i < frame.count; i++) {
    if (!accepts(frame, i, reader, view)) continue;
    accepted.push(i);
    if (frame.op(i) === Op.write) crcs += 1;
  }
  if (accepted.length === 0) return null;
  const part = Frame.create(FrameKind.fill, accepted.length, crcs, frame.payload);
  part.head.set(frame.head.subarray(24, 104), 24);
  let k = 0;
  accepted.forEach((i, n) => {
    const write = frame.op(i) === Op.write;
    part.setOperation(n, frame.requestNumber(i), frame.op(i), 0, frame.offsetBytes(i), BLOCK_BYTES, write ? frame.payloadAt(i) : 0, k);
    if (write) part.setCrc(k++, frame.crc(frame.crcIndex(i)));
  });
  part.seal();
  return part;
}

function accepts(frame: Frame, i: number, reader: BlockReader, view: FillView): boolean {
  const version = frame.requestNumber(i);
  if (version > view.lastSeq) return false;
  const block = frame.offsetBytes(i) / BLOCK_BYTES;
  const state = reader.locate(block);
  // The range of the same log that zeroed it is newer than what is offered: a fill of another history, or a mistaken one.
  if (version < view.rangeSeqOf(Math.floor(block / EXTENT_BLOCKS))) return false;
  if (state === BlockState.absent) return true;
  if (state === BlockState.corrupt) return frame.firstSeq >= view.settledSeq;
  // Zeroed as a whole extent since the log began: the version is not kept, but it is not newer than what is settled.
  if (state === BlockState.zero && reader.seq === 0 && view.viewOf(Math.floor(block / EXTENT_BLOCKS)) === 'zero') return frame.firstSeq >= view.settledSeq;
  return reader.seq <= frame.firstSeq;
}

/** True if every operation of a fill is one whole block within the volume. */
export function fillWellFormed(frame: Frame): boolean {
  if (frame.kind !== FrameKind.fill) return false;
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    if ((op !== Op.write && op !== Op.zero && op !== Op.lost) || frame.lengthBytes(i) !== BLOCK_BYTES || frame.offsetBytes(i) % BLOCK_BYTES !== 0) return false;
  }
  return true;
}
