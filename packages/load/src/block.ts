import { BLOCK_BYTES, checksum, Prng } from '@ashlar/words';

/**
 * What a verified block of 4 KiB holds, little-endian:
 *   0 magic u32 | 4 checksum of bytes 8..4096 u32 | 8 run u32 | 12 generation u32 | 16 block number u64 | 24 volume u64 | 32 filling
 * The filling depends on block and generation, so that a block put together from two is seen even where the checksum is not looked at.
 */
const MAGIC = 0x4c564641; // "AFVL"
const HEADER_BYTES = 32;
const FILLING_BYTES = 64 * 1024;
/** So many different fillings; the step between them is coprime to most periods. */
const FILLINGS = 4001;
const FILLING_STEP = 12;

const FILLING = filling();

function filling(): Uint8Array {
  const prng = new Prng(0xa5);
  const words = new Uint32Array(FILLING_BYTES / 4);
  for (let i = 0; i < words.length; i++) words[i] = prng.next32();
  return new Uint8Array(words.buffer);
}

/** Two 32-bit halves that stand for a volume's name. */
export interface VolumeStamp {
  readonly low: number;
  readonly high: number;
}

export function volumeStamp(name: string): VolumeStamp {
  const bytes = Buffer.from(name);
  return { low: checksum(bytes), high: checksum(bytes, 0x5bd1e995) };
}

export interface BlockStamp {
  readonly run: number;
  readonly volume: VolumeStamp;
}

/** Writes the block into `into` at `at`. */
export function encodeBlock(stamp: BlockStamp, block: number, generation: number, into: Buffer, at: number): void {
  const start = (((block * 31 + generation * 17) % FILLINGS) * FILLING_STEP) >>> 0;
  into.set(FILLING.subarray(start, start + BLOCK_BYTES - HEADER_BYTES), at + HEADER_BYTES);
  into.writeUInt32LE(MAGIC, at);
  into.writeUInt32LE(stamp.run, at + 8);
  into.writeUInt32LE(generation, at + 12);
  into.writeUInt32LE(block >>> 0, at + 16);
  into.writeUInt32LE(Math.floor(block / 2 ** 32), at + 20);
  into.writeUInt32LE(stamp.volume.low, at + 24);
  into.writeUInt32LE(stamp.volume.high, at + 28);
  into.writeUInt32LE(checksum(into.subarray(at + 8, at + BLOCK_BYTES)), at + 4);
}

export type BlockContent =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'written'; readonly run: number; readonly generation: number; readonly block: number; readonly foreign: boolean }
  /** Neither zeros nor a block of ours as a whole. */
  | { readonly kind: 'garbage' };

const ZEROS: BlockContent = { kind: 'zeros' };
const GARBAGE: BlockContent = { kind: 'garbage' };
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

export function decodeBlock(stamp: BlockStamp, bytes: Buffer, at: number): BlockContent {
  if (bytes.readUInt32LE(at) !== MAGIC) return bytes.compare(ZERO_BLOCK, 0, BLOCK_BYTES, at, at + BLOCK_BYTES) === 0 ? ZEROS : GARBAGE;
  if (bytes.readUInt32LE(at + 4) !== checksum(bytes.subarray(at + 8, at + BLOCK_BYTES))) return GARBAGE;
  return {
    kind: 'written', run: bytes.readUInt32LE(at + 8), generation: bytes.readUInt32LE(at + 12),
    block: bytes.readUInt32LE(at + 20) * 2 ** 32 + bytes.readUInt32LE(at + 16),
    foreign: bytes.readUInt32LE(at + 24) !== stamp.volume.low || bytes.readUInt32LE(at + 28) !== stamp.volume.high,
  };
}
