import { createHash } from 'node:crypto';
import { assert, checksum } from '@ashlar/words';

/** What the threads of the bulk pool can do. Each takes plain data and answers plain data. */

export interface ChecksumsJob {
  readonly bytes: Uint8Array;
  readonly blockBytes: number;
}

/** The checksum of each block; the last may be shorter. */
export function checksums({ bytes, blockBytes }: ChecksumsJob): Uint32Array {
  assert(blockBytes > 0, 'blocks have a length');
  const sums = new Uint32Array(Math.ceil(bytes.length / blockBytes));
  for (let i = 0; i < sums.length; i++) sums[i] = checksum(bytes.subarray(i * blockBytes, (i + 1) * blockBytes));
  return sums;
}

export function sha256({ bytes }: { readonly bytes: Uint8Array }): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}
