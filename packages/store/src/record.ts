import { BLOCK_BYTES, checksum } from '@ashlar/words';
import { blocksTouched, type Frame, FRAME_HEADER_BYTES, FrameKind, Op, OPERATION_BYTES, frameHeadBytes } from '@ashlar/protocol';
import { TILE_BYTES, PAGE_BYTES } from './limits.ts';

/**
 * One record of the journal: a header that binds it to its place, then the frame's head and payload, padded to a whole page. Tiles of the payload that
 * were written to places of their own are left out; a table behind the header says where they are. Byte by byte in docs/formats/journal.md.
 */
export const RECORD_MAGIC = 0x52485341; // "ASHR"
/** The header is longer by 8 bytes, and the table follows. */
export const PLACED_RECORD_MAGIC = 0x54485341; // "ASHT"
export const RECORD_HEADER_BYTES = 40;
export const PLACED_HEADER_BYTES = 48;
const TABLE_ENTRY_BYTES = 8;

/** Pairs: where a tile begins in the payload, and its place; in the order of the payload. Tiles do not overlap. */
export type TileTable = readonly number[];
export const NO_TILES: TileTable = [];

/** A place in the journal: a segment's serial number and a byte position in it. */
export interface JournalMark {
  readonly serial: number;
  readonly position: number;
}

/** Where a record was written, and in which life of the copy (from one opening to the next). */
export interface RecordPlace extends JournalMark {
  readonly life: number;
}

export function marksBefore(a: JournalMark, b: JournalMark): boolean {
  return a.serial < b.serial || (a.serial === b.serial && a.position < b.position);
}

/** Bytes before the frame's head. */
export function prefixBytes(tiles: number): number {
  return tiles === 0 ? RECORD_HEADER_BYTES : PLACED_HEADER_BYTES + tiles * TABLE_ENTRY_BYTES;
}

/** Bytes that a frame takes in a segment's file. */
export function recordBytes(headBytes: number, payloadBytes: number, tiles = 0): number {
  return Math.ceil((prefixBytes(tiles) + headBytes + payloadBytes - tiles * TILE_BYTES) / PAGE_BYTES) * PAGE_BYTES;
}

/** What lies at `at` of the payload lies so much earlier in the record, because of the tiles that are left out before it. */
export function leftOutBefore(tiles: TileTable, at: number): number {
  let bytes = 0;
  for (let k = 0; k < tiles.length && (tiles[k] as number) < at; k += 2) bytes += TILE_BYTES;
  return bytes;
}

/** The header and the table of a record with tiles at places. */
export function placedPrefix(frame: Frame, at: RecordPlace, durable: JournalMark, tiles: TileTable): Uint8Array {
  const count = tiles.length / 2;
  const bytes = new Uint8Array(prefixBytes(count));
  const view = new DataView(bytes.buffer);
  for (let k = 0; k < tiles.length; k++) view.setUint32(PLACED_HEADER_BYTES + k * 4, tiles[k] as number, true);
  view.setUint32(40, count, true);
  view.setUint32(44, checksum(bytes.subarray(PLACED_HEADER_BYTES)), true);
  fillHeader(view, frame, at, durable, PLACED_RECORD_MAGIC);
  view.setUint32(4, checksum(bytes.subarray(8, PLACED_HEADER_BYTES)), true);
  return bytes;
}

/** The table of a record, or null if it is not the one that the header names. `bytes` begins with the record. */
export function tileTable(bytes: Uint8Array, header: RecordHeader): TileTable | null {
  if (header.tiles === 0) return NO_TILES;
  const end = prefixBytes(header.tiles);
  if (end > bytes.length || checksum(bytes.subarray(PLACED_HEADER_BYTES, end)) !== header.tableChecksum) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + PLACED_HEADER_BYTES);
  return Array.from({ length: 2 * header.tiles }, (_, k) => view.getUint32(k * 4, true));
}

export function sealRecord(header: DataView, bytes: Uint8Array, frame: Frame, at: RecordPlace, durable: JournalMark): void {
  fillHeader(header, frame, at, durable, RECORD_MAGIC);
  header.setUint32(4, checksum(bytes.subarray(8, RECORD_HEADER_BYTES)), true);
}

function fillHeader(header: DataView, frame: Frame, at: RecordPlace, durable: JournalMark, magic: number): void {
  header.setUint32(0, magic, true);
  header.setUint32(8, at.serial, true);
  header.setUint32(12, at.position, true);
  header.setUint32(16, frame.head.length, true);
  header.setUint32(20, frame.payload.length, true);
  header.setUint32(24, frame.view.getUint32(4, true), true);
  header.setUint32(28, durable.serial, true);
  header.setUint32(32, durable.position, true);
  header.setUint32(36, at.life, true);
}

export interface RecordHeader {
  /** Tiles at places of their own. */
  readonly tiles: number;
  readonly tableChecksum: number;
  readonly headBytes: number;
  readonly payloadBytes: number;
  readonly frameChecksum: number;
  readonly durable: JournalMark;
}

/**
 * The header at `at` of `bytes` if it is one that was written to this place in this life. A power cut may lose a segment's header and leave its
 * records; the next life then uses the serial number again, perhaps in the same file, and they must not be taken for its own.
 */
export function parseRecordHeader(bytes: Uint8Array, at: number, place: RecordPlace): RecordHeader | null {
  if (at + RECORD_HEADER_BYTES > bytes.length) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const placed = view.getUint32(0, true) === PLACED_RECORD_MAGIC;
  if ((!placed && view.getUint32(0, true) !== RECORD_MAGIC) || view.getUint32(8, true) !== place.serial || view.getUint32(12, true) !== place.position || view.getUint32(36, true) !== place.life) return null;
  const headerBytes = placed ? PLACED_HEADER_BYTES : RECORD_HEADER_BYTES;
  if (at + headerBytes > bytes.length || view.getUint32(4, true) !== checksum(bytes.subarray(at + 8, at + headerBytes))) return null;
  const header: RecordHeader = {
    tiles: placed ? view.getUint32(40, true) : 0, tableChecksum: placed ? view.getUint32(44, true) : 0, headBytes: view.getUint32(16, true), payloadBytes: view.getUint32(20, true), frameChecksum: view.getUint32(24, true),
    durable: { serial: view.getUint32(28, true), position: view.getUint32(32, true) },
  };
  return header.headBytes >= FRAME_HEADER_BYTES && header.tiles * TILE_BYTES <= header.payloadBytes ? header : null;
}

/** True if the head is the one that the record's header names, whole and consistent. */
export function headMatches(frame: Frame, header: RecordHeader): boolean {
  return frame.view.getUint32(4, true) === header.frameChecksum && frame.headIntact && frame.payloadBytes === header.payloadBytes
    && frameHeadBytes(frame.count, frame.blockCount) === header.headBytes && fits(frame);
}

/** Nothing that the frame's operations name lies beyond its payload or its checksums. */
function fits(frame: Frame): boolean {
  if (frame.kind !== FrameKind.log && frame.kind !== FrameKind.fill) return false;
  for (let i = 0; i < frame.count; i++) {
    const blocks = checksummedBlocks(frame, i);
    if (blocks === 0) continue;
    const bytes = frame.op(i) === Op.write ? frame.lengthBytes(i) : blocks * BLOCK_BYTES;
    if (frame.payloadAt(i) + bytes > frame.payloadBytes || frame.crcIndex(i) + blocks > frame.blockCount) return false;
  }
  return FRAME_HEADER_BYTES + frame.count * OPERATION_BYTES + frame.blockCount * 4 <= frame.head.length;
}

export { fits as frameFits };

/** Blocks of an operation that have bytes and checksums in the record: all of a write's, the partly zeroed ones of a zero's. */
export function checksummedBlocks(frame: Frame, i: number): number {
  if (frame.op(i) === Op.write) return blocksTouched(frame.offsetBytes(i), frame.lengthBytes(i));
  return frame.op(i) === Op.zero ? edgeBlocks(frame.offsetBytes(i), frame.lengthBytes(i)).length : 0;
}

/** The blocks of which a range covers only a part: none, the first, the last or both. */
export function edgeBlocks(offsetBytes: number, lengthBytes: number): number[] {
  if (lengthBytes === 0) return [];
  const end = offsetBytes + lengthBytes;
  const first = Math.floor(offsetBytes / BLOCK_BYTES);
  const last = Math.floor((end - 1) / BLOCK_BYTES);
  const edges: number[] = [];
  if (offsetBytes % BLOCK_BYTES !== 0 || (first === last && end % BLOCK_BYTES !== 0)) edges.push(first);
  if (last !== first && end % BLOCK_BYTES !== 0) edges.push(last);
  return edges;
}

/** True if every byte that the frame's operations carry matches its checksum; of a payload without its `leftOut` tiles, every byte that is left. */
export function payloadIntact(frame: Frame, leftOut: TileTable = NO_TILES): boolean {
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    const blocks = checksummedBlocks(frame, i);
    const offset = op === Op.write ? frame.offsetBytes(i) : 0;
    const end = offset + (op === Op.write ? frame.lengthBytes(i) : blocks * BLOCK_BYTES);
    let at = frame.payloadAt(i);
    let from = offset;
    let tile = 0;
    for (let k = 0; k < blocks; k++) {
      const until = Math.min(end, (Math.floor(from / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      while (tile < leftOut.length && (leftOut[tile] as number) + TILE_BYTES <= at) tile += 2;
      const stored = at - (tile / 2) * TILE_BYTES;
      const isLeftOut = tile < leftOut.length && (leftOut[tile] as number) <= at;
      if (!isLeftOut && checksum(frame.payload.subarray(stored, stored + until - from)) !== frame.crc(frame.crcIndex(i) + k)) return false;
      at += until - from;
      from = until;
    }
  }
  return true;
}
