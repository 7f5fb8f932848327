/** The checksummed unit, and the unit of presence: 4 KiB. */
export const BLOCK_BYTES = 4096;
/** The smallest unit a client may address. Smaller than a block is merged into one by the primary. */
export const SECTOR_BYTES = 512;
/** One extent: 256 blocks share a metadata page on disk, and are compared and filled together in a rebuild. */
export const EXTENT_BLOCKS = 256;
export const EXTENT_BYTES = EXTENT_BLOCKS * BLOCK_BYTES;
