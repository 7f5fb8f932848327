import { EXTENT_BLOCKS } from '@ashlar/words';

/** What a copy knows of one block. On disk `corrupt` means that no copy had good bytes of it when it was filled. */
export const BlockState = { absent: 0, written: 1, zero: 2, corrupt: 3 } as const;
export type BlockState = (typeof BlockState)[keyof typeof BlockState];

/**
 * One block in the answer to `compare`, little-endian: u8 state, u8 0, u16 version high, u32 version low, u32 checksum.
 * Version: the sequence number of the record that wrote it; 0 if it is of an older lineage or not known.
 */
export const BLOCK_ENTRY_BYTES = 12;
export const EXTENT_ENTRIES_BYTES = EXTENT_BLOCKS * BLOCK_ENTRY_BYTES;

const HIGH = 0x100000000;

export interface BlockEntry {
  readonly state: BlockState;
  readonly seq: number;
  readonly crc: number;
}

export function setBlockEntry(entries: Uint8Array, i: number, state: BlockState, seq: number, crc: number): void {
  const view = new DataView(entries.buffer, entries.byteOffset + i * BLOCK_ENTRY_BYTES, BLOCK_ENTRY_BYTES);
  view.setUint8(0, state);
  view.setUint16(2, Math.floor(seq / HIGH), true);
  view.setUint32(4, seq >>> 0, true);
  view.setUint32(8, crc, true);
}

export function blockEntry(entries: Uint8Array, i: number): BlockEntry {
  const view = new DataView(entries.buffer, entries.byteOffset + i * BLOCK_ENTRY_BYTES, BLOCK_ENTRY_BYTES);
  return { state: view.getUint8(0) as BlockState, seq: view.getUint16(2, true) * HIGH + view.getUint32(4, true), crc: view.getUint32(8, true) };
}

/**
 * Which blocks of an extent a learner lacks: those whose content differs and which ours did not change after `learnerSeq` (what changed
 * later reaches it as a record). Zero and absent are the same content unless there is a backing.
 */
export function blocksToFill(ours: Uint8Array, theirs: Uint8Array, learnerSeq: number, backed: boolean): number[] {
  const wanted: number[] = [];
  for (let i = 0; i < EXTENT_BLOCKS; i++) {
    const mine = blockEntry(ours, i);
    const other = blockEntry(theirs, i);
    if (mine.seq > learnerSeq) continue;
    const empty = (entry: BlockEntry): boolean => entry.state === BlockState.absent || entry.state === BlockState.zero;
    const same = empty(mine) ? (backed ? other.state === mine.state : empty(other)) : mine.state === other.state && mine.seq === other.seq && mine.crc === other.crc && mine.seq !== 0;
    if (!same) wanted.push(i);
  }
  return wanted;
}
