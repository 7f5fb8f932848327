import { BLOCK_BYTES } from '@ashlar/words';
import { type Frame, FrameKind, Op } from '@ashlar/protocol';
import type { DiskError } from './disk.ts';
import type { ExtentStore } from './extents.ts';
import type { Journal } from './journal.ts';
import { CHUNK_BYTES } from './limits.ts';
import { NO_PLACE } from './places.ts';
import { checksummedBlocks, type ChunkTable, NO_CHUNKS } from './record.ts';

/** Where the chunks that a record's writes cover whole begin in its payload. None if the bytes of operations overlap or are not in their order: nobody makes such frames. */
function wholeChunks(frame: Frame): number[] {
  const found: number[] = [];
  let end = 0;
  for (let i = 0; i < frame.count; i++) {
    const blocks = checksummedBlocks(frame, i);
    if (blocks === 0) continue;
    const at = frame.payloadAt(i);
    if (at < end) return [];
    end = at + blocks * BLOCK_BYTES;
    if (frame.op(i) !== Op.write) continue;
    const offset = frame.offsetBytes(i);
    const last = offset + frame.lengthBytes(i) - CHUNK_BYTES;
    for (let chunk = Math.ceil(offset / CHUNK_BYTES) * CHUNK_BYTES; chunk <= last; chunk += CHUNK_BYTES) found.push(at + chunk - offset);
  }
  return found;
}

/**
 * Writes the whole chunks of a log record to free places, before the record itself is appended. The table of what was written, `busy` if the journal
 * has no room for the record, or an error, after which nothing is taken.
 */
export function writeChunks(frame: Frame, extents: ExtentStore, journal: Journal): ChunkTable | 'busy' | DiskError {
  if (frame.kind !== FrameKind.log || frame.payload.length < CHUNK_BYTES) return NO_CHUNKS;
  const positions = wholeChunks(frame);
  if (positions.length === 0) return NO_CHUNKS;
  if (!journal.takes(frame, positions.length)) return 'busy';
  const first = tryWrite(frame, positions, extents, journal);
  // History gives way when the disk is full, as for records. The places that it needed are free then.
  return 'code' in first && first.code === 'ENOSPC' && journal.dropHistory() ? tryWrite(frame, positions, extents, journal) : first;
}

function tryWrite(frame: Frame, positions: readonly number[], extents: ExtentStore, journal: Journal): ChunkTable | DiskError {
  const { oldestSerial } = journal;
  const chunks: number[] = [];
  for (const position of positions) {
    const place = extents.places.take(oldestSerial);
    if (place === NO_PLACE) break;
    chunks.push(position, place);
  }
  const error = extents.writeChunks(frame.payload, chunks);
  if (error === null) return chunks;
  extents.places.giveBack(chunks);
  return error;
}
