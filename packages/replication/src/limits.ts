/** Beacons between two servers. Four are lost before a lease of LEASE_MS runs out. */
export const BEACON_INTERVAL_MS = 200;
/** A read lease, counted from the sending of the beacon. A frozen primary is replaced after SILENT_MS, so the lease costs no further wait. */
export const LEASE_MS = 800;
/** What the holder subtracts for clocks that run at different rates: 1 % of the lease, a hundred times what crystals differ by. */
export const LEASE_MARGIN_MS = 8;
/** A timer that comes so much too late shows that this process did not run: what it did not hear meanwhile is nobody's silence. */
export const LATE_MS = 50;
/** Nothing heard for so long, with something outstanding, is silence. Guarantee G7 gives 2 s for all of detection and promotion. */
export const SILENT_MS = 1000;
/** A copy that answers beacons but makes no progress: its disk may be slow, so it is given longer. */
export const STUCK_MS = 5000;
/** Acknowledgements that take longer than this on average … */
export const SLOW_MS = 250;
/** … for so long make a copy slow. It is reported, stays a member, and leaves when its replacement is in sync. */
export const SLOW_FOR_MS = 10_000;
/** How often a leader with unfinished business looks at it again. */
export const TICK_MS = 50;
/** Unanswered orders (adopt, sync, propose, records) are repeated after this; links lose messages only when they break. */
export const REPEAT_MS = 200;
/** Tries of one request with other copies' blocks before it fails. A mirror may lag behind the version that is asked for. */
export const REPAIR_TRIES_MAX = 6;
/** A bad block that nobody met for so long is taken for a mended one. */
export const MENDED_MS = 10_000;
/** Records sent to a copy and not acknowledged; beyond it a learner is fed from the journal at its own speed. */
export const UNACKNOWLEDGED_MAX = 4096;
/** Batches from the journal on their way to one copy, of at most 2 MiB each: a link holds 64 MiB. With 4, each of small writes, both sides were idle half of the time. */
export const HISTORY_BATCHES_MAX = 16;
/** Extents that are being compared with a learner at one time. Each goes back and forth twice: so many keep both sides and the link at work (8: half of the time nobody was). */
export const COMPARES_MAX = 24;
/** A copy that catches up syncs after so much: a tenth of a second of a disk's work, of which hardly any is left at the end. */
export const SYNC_ALONG_BYTES = 32 * 2 ** 20;
/** Extents named in one list: 4096 extents are 4 GiB of volume in a message of 32 KiB. */
export const EXTENT_LIST_MAX = 4096;
/** Digests of recent records that the leader remembers, to check a joiner's against. */
export const CHAINS_MAX = 1024;
/** Requests that a learner may be behind what was answered when it is let in: four times the usual depth, a fraction of a second. */
export const JOIN_LAG_MAX = 128;
/** For so long one that joins holds up the removal of another. */
export const JOIN_HELD_MS = 1000;
/** One that was let go because nothing came of it is not waited for again before this. */
export const JOIN_AGAIN_MS = 10_000;
/** How long it must have been so near, and not nearer. */
export const JOIN_PATIENCE_MS = 2000;
