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

/** The same of a fill, each of whose operations is one block: neighbours in the volume that are neighbours in the payload. */
function filledTiles(frame: Frame): Whole[] {
  const found: Whole[] = [];
  let run = 0;
  let free = 0;
  for (let i = 0; i < frame.count; i++) {
    if (frame.op(i) !== Op.write) {
      run = 0;
      continue;
    }
    const offset = frame.offsetBytes(i);
    const at = frame.payloadAt(i);
    if (at < free) return [];
    const follows = run > 0 && at === free && offset === frame.offsetBytes(i - 1) + BLOCK_BYTES;
    free = at + BLOCK_BYTES;
    run = offset % TILE_BYTES === 0 ? 1 : follows ? run + 1 : 0;
    if (run === TILE_BLOCKS) found.push({ tile: Math.floor(offset / TILE_BYTES), position: free - TILE_BYTES });
  }
  return found;
}

/**
 * Writes the whole tiles of a record to free places, before the record itself is appended. The table of what was written: nothing if the disk is
 * full, for the journal has files to use again. Or `busy` if it has no room for the record, or an error.
 */
export function writeTiles(frame: Frame, live: LiveBlocks, extents: ExtentStore, journal: Journal): TileTable | 'busy' | DiskError {
  if (frame.payload.length < TILE_BYTES) return NO_TILES;
  // Of a fill the versions beyond a later cut of the log are dropped, and what was there before counts again: it is placed only where there was nothing.
  const whole = frame.kind === FrameKind.log ? wholeTiles(frame) : filledTiles(frame).filter(({ tile }) => isUntouched(tile, live, extents));
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
 * tiles leave has room on the disk already.
 */
function takePlace(tile: number, oldestSerial: number, live: LiveBlocks, extents: ExtentStore): number {
  const { places } = extents;
  if (!isUntouched(tile, live, extents)) return places.take(oldestSerial);
  places.takeHome(tile);
  return tile;
}

/** Nothing was ever written there. What the journal has of it counts: it may be settled at home, in place, before a record that comes now. */
function isUntouched(tile: number, live: LiveBlocks, extents: ExtentStore): boolean {
  if (extents.places.isHeld(tile) || !extents.isHomeUnused(tile)) return false;
  for (let k = 0; k < TILE_BLOCKS; k++) if (live.index.find(tile * TILE_BLOCKS + k) >= 0) return false;
  return true;
}
