import { BLOCK_BYTES } from '@ashlar/words';
import { type Frame, FrameKind, Op } from '@ashlar/protocol';
import type { DiskError } from './disk.ts';
import type { ExtentStore } from './extents.ts';
import type { Journal } from './journal.ts';
import { TILE_BYTES } from './limits.ts';
import type { LiveBlocks } from './live-blocks.ts';
import { TILE_BLOCKS, NO_PLACE } from './places.ts';
import { checksummedBlocks, type TileTable, NO_TILES } from './record.ts';

/** A tile that a write covers whole, and where it begins in the payload. */
interface Whole { readonly tile: number; readonly position: number }

/** The tiles that a record's writes cover whole. None if the bytes of operations overlap or are not in their order: nobody makes such frames. */
function wholeTiles(frame: Frame): Whole[] {
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
    const end = Math.floor((offset + frame.lengthBytes(i)) / TILE_BYTES);
    for (let tile = Math.ceil(offset / TILE_BYTES); tile < end; tile++) found.push({ tile, position: at + tile * TILE_BYTES - offset });
  }
  return found;
}

/**
 * Writes the whole tiles of a log record to free places, before the record itself is appended. The table of what was written: nothing if the disk is
 * full, for the journal has files to use again. Or `busy` if it has no room for the record, or an error.
 */
export function writeTiles(frame: Frame, live: LiveBlocks, extents: ExtentStore, journal: Journal): TileTable | 'busy' | DiskError {
  if (frame.kind !== FrameKind.log || frame.payload.length < TILE_BYTES) return NO_TILES;
  const whole = wholeTiles(frame);
  if (whole.length === 0) return NO_TILES;
  if (!journal.takes(frame, whole.length)) return 'busy';
  const { oldestSerial } = journal;
  const tiles: number[] = [];
  for (const { tile, position } of whole) {
    const place = takePlace(tile, oldestSerial, live, extents);
    if (place === NO_PLACE) break;
    tiles.push(position, place);
  }
  const error = extents.writeTiles(frame.payload, tiles);
  if (error === null) return tiles;
  extents.places.giveBack(tiles);
  return error.code === 'ENOSPC' ? NO_TILES : error;
}

/**
 * A tile of which nothing was ever written goes to its home: so the data of a volume that is written once lies in the volume's order, and what
 * tiles leave has room on the disk already. Not if the journal has blocks of it: these may be settled there, in place, before this record is.
 */
function takePlace(tile: number, oldestSerial: number, live: LiveBlocks, extents: ExtentStore): number {
  const { places } = extents;
  if (places.isHeld(tile) || !extents.isHomeUnused(tile) || hasBlocks(live, tile)) return places.take(oldestSerial);
  places.takeHome(tile);
  return tile;
}

function hasBlocks(live: LiveBlocks, tile: number): boolean {
  for (let k = 0; k < TILE_BLOCKS; k++) if (live.index.find(tile * TILE_BLOCKS + k) >= 0) return true;
  return false;
}
