import { BLOCK_BYTES } from '@ashlar/words';
import { type Frame, FrameKind, Op } from '@ashlar/protocol';
import type { DiskError } from './disk.ts';
import type { ExtentStore } from './extents.ts';
import type { Journal } from './journal.ts';
import { CHUNK_BYTES } from './limits.ts';
import type { LiveBlocks } from './live-blocks.ts';
import { CHUNK_BLOCKS, NO_PLACE } from './places.ts';
import { checksummedBlocks, type ChunkTable, NO_CHUNKS } from './record.ts';

/** A chunk that a write covers whole, and where it begins in the payload. */
interface Whole { readonly chunk: number; readonly position: number }

/** The chunks that a record's writes cover whole. None if the bytes of operations overlap or are not in their order: nobody makes such frames. */
function wholeChunks(frame: Frame): Whole[] {
  const found: Whole[] = [];
  let free = 0;
  for (let i = 0; i < frame.count; i++) {
    const blocks = checksummedBlocks(frame, i);
    if (blocks === 0) continue;
    const at = frame.payloadAt(i);
    if (at < free) return [];
    free = at + blocks * BLOCK_BYTES;
    if (frame.op(i) !== Op.write) continue;
    const offset = frame.offsetBytes(i);
    const end = Math.floor((offset + frame.lengthBytes(i)) / CHUNK_BYTES);
    for (let chunk = Math.ceil(offset / CHUNK_BYTES); chunk < end; chunk++) found.push({ chunk, position: at + chunk * CHUNK_BYTES - offset });
  }
  return found;
}

/**
 * Writes the whole chunks of a log record to free places, before the record itself is appended. The table of what was written: nothing if the disk is
 * full, for the journal has files to use again. Or `busy` if it has no room for the record, or an error.
 */
export function writeChunks(frame: Frame, live: LiveBlocks, extents: ExtentStore, journal: Journal): ChunkTable | 'busy' | DiskError {
  if (frame.kind !== FrameKind.log || frame.payload.length < CHUNK_BYTES) return NO_CHUNKS;
  const whole = wholeChunks(frame);
  if (whole.length === 0) return NO_CHUNKS;
  if (!journal.takes(frame, whole.length)) return 'busy';
  const { oldestSerial } = journal;
  const chunks: number[] = [];
  for (const { chunk, position } of whole) {
    const place = takePlace(chunk, oldestSerial, live, extents);
    if (place === NO_PLACE) break;
    chunks.push(position, place);
  }
  const error = extents.writeChunks(frame.payload, chunks);
  if (error === null) return chunks;
  extents.places.giveBack(chunks);
  return error.code === 'ENOSPC' ? NO_CHUNKS : error;
}

/**
 * A chunk of which nothing was ever written goes to its home: so the data of a volume that is written once lies in the volume's order, and what
 * chunks leave has room on the disk already. Not if the journal has blocks of it: these may be settled there, in place, before this record is.
 */
function takePlace(chunk: number, oldestSerial: number, live: LiveBlocks, extents: ExtentStore): number {
  const { places } = extents;
  if (places.isHeld(chunk) || !extents.isHomeUnused(chunk) || hasBlocks(live, chunk)) return places.take(oldestSerial);
  places.takeHome(chunk);
  return chunk;
}

function hasBlocks(live: LiveBlocks, chunk: number): boolean {
  for (let k = 0; k < CHUNK_BLOCKS; k++) if (live.index.find(chunk * CHUNK_BLOCKS + k) >= 0) return true;
  return false;
}
