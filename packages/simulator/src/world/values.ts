import type { Backing } from '@ashlar/store';
import { BLOCK_BYTES, Prng, SECTOR_BYTES } from '@ashlar/words';

/**
 * What clients write. Every write has a value number of its own, and every 512-byte sector of it says which value and
 * which sector it is: bytes in the wrong place, half a write, or an old value cannot pass for anything else.
 *
 *   0  value number   4  sector number   8  ~value number   12  MAGIC   16  filler that depends on the value
 */
const MAGIC = 0x51a7c0de;
const HEADER_BYTES = 16;
const PATTERNS = 16;
export const SECTORS_PER_BLOCK = BLOCK_BYTES / SECTOR_BYTES;

/** What a sector holds that nobody wrote, or that was trimmed or zeroed. */
export const ZERO_VALUE = 0;
/** What every sector of a stand-in backing holds, until it is written, zeroed or trimmed. */
export const BACKING_VALUE = 0x7ffffffe;
/** What a sector holds that is no value at all. */
export const GARBAGE = -1;

const ZEROS = Buffer.alloc(SECTOR_BYTES);
const FILLERS: readonly Buffer[] = makeFillers();

function makeFillers(): Buffer[] {
  const prng = new Prng(0xa51a);
  const fillers: Buffer[] = [];
  for (let k = 0; k < PATTERNS; k++) {
    const filler = Buffer.alloc(SECTOR_BYTES);
    for (let at = 0; at < SECTOR_BYTES; at += 4) filler.writeUInt32LE(prng.next32(), at);
    fillers.push(filler);
  }
  return fillers;
}

/** Fills `bytes`, which begins at sector `firstSector` of the volume, with a value. */
export function stampValue(bytes: Uint8Array, firstSector: number, value: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const filler = FILLERS[value % PATTERNS];
  for (let at = 0, sector = firstSector; at < bytes.length; at += SECTOR_BYTES, sector++) {
    bytes.set(filler, at);
    view.setUint32(at, value, true);
    view.setUint32(at + 4, sector, true);
    view.setUint32(at + 8, ~value >>> 0, true);
    view.setUint32(at + 12, MAGIC, true);
  }
}

/** A disk that a volume is laid over: no block of it is zeros, so that none can pass for trimmed. */
export const STAND_IN_BACKING: Backing = {
  readBlock: (block, into) => {
    stampValue(into, block * SECTORS_PER_BLOCK, BACKING_VALUE);
    return true;
  },
};

/** The value that one sector holds. */
export function valueOf(bytes: Uint8Array, at: number, sector: number): number {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
  const value = buffer.readUInt32LE(0);
  if (value === 0) return buffer.equals(ZEROS) ? ZERO_VALUE : GARBAGE;
  if (buffer.readUInt32LE(4) !== sector || buffer.readUInt32LE(8) !== (~value >>> 0) || buffer.readUInt32LE(12) !== MAGIC) return GARBAGE;
  const filler = FILLERS[value % PATTERNS];
  return filler.compare(buffer, HEADER_BYTES, SECTOR_BYTES, HEADER_BYTES, SECTOR_BYTES) === 0 ? value : GARBAGE;
}
