/** Bounds of the on-disk copy. */

/** One journal segment. 16 MiB: a round of destaging covers two, a trimmed volume keeps one. */
export const SEGMENT_BYTES = 16 * 2 ** 20;
/** Journal of one volume, history kept for catch-up included. */
export const JOURNAL_BYTES_MAX = 512 * 2 ** 20;
/**
 * Segments of history that hold less than a part of what they could. A volume that is written now and then closes one with each round of destaging, and an
 * opening reads the header of each: with 32, two thousand copies took 20 to 30 s with a cold page cache. A mirror that was away for more rounds than that is compared.
 */
export const HISTORY_SMALL_MAX = 12;
export const HISTORY_SMALL_PART = 1 / 8;
/** Records begin at multiples of a page: an append into a page that is not cached would have to read it first (37 µs instead of 2). */
export const PAGE_BYTES = 4096;
/** One data file. ext4 allows 16 TiB, other file systems less; a terabyte is copied and checked in reasonable time. */
export const DATA_FILE_BYTES = 2 ** 40;
/** Extents whose metadata is kept in memory, by all the copies of one thread together: 64 MiB, which is the metadata of 16 GiB of data. */
export const PAGE_CACHE_PAGES = 16_384;
/** Journal bytes one round of destaging reads into memory, shared by the copies of one thread. */
export const ROUND_BYTES = 32 * 2 ** 20;
/** Without `eager`, destaging begins when this part of the journal is in use: more of it overwrites what it holds, less of it is read at opening. */
export const BACKLOG_PART = 1 / 4;
/** Zeroing or trimming more than this is remembered as a range of extents instead of block by block. */
export const RANGE_BLOCKS_MIN = 1024;
/** Ranges remembered before destaging must catch up: each lookup passes over all of them. One frame may go past it by FRAME_REQUESTS_MAX. */
export const RANGES_MAX = 256;
/** Blocks that the journal may hold in memory's index before destaging must catch up: 32 MiB. Zeroes of many small ranges cost no room in the journal. */
export const INDEX_ENTRIES_MAX = 2 ** 20;
/** First sequence numbers of epochs kept. A copy that was away for more epochs than that is compared extent by extent. */
export const EPOCH_STARTS_MAX = 128;
/** A whole one of these in a write is written once, at a place of its own (docs/adr/0012). What common programs write at once; 16 of them fit in an extent's page. */
export const TILE_BYTES = 64 * 1024;
/** Spare places of one copy, a list of them that fits its slot: as many as a journal of 4 GiB needs. What goes beyond is written to the journal. */
export const SPARE_PLACES_MAX = 65_536;
/** So many bytes of tiles are written before they are made stable without anybody asking: a disk is to be busy before destaging waits for it. */
export const UNSYNCED_TILE_BYTES = 16 * 2 ** 20;
