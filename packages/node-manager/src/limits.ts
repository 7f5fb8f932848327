/**
 * Requests of one volume that may wait for room: together with those under way (UNANSWERED_MAX, UNANSWERED_BYTES_MAX) all that a program can have
 * unanswered. A waiting request holds a record and the program's own buffer, no copy. One more is refused with `busy`.
 */
export const WAITING_MAX = 16 * 1024;
/** A longer read or write is sent as several requests: 8 of them fill the room there is (32 MiB). */
export const PIECE_BYTES_MAX = 4 * 2 ** 20;
/** Of what carries no bytes (trim, write zeroes); the length of one request has 32 bits. */
export const RANGE_BYTES_MAX = 2 ** 30;
/** An attached volume is usable, a started node manager known, within this; longer than a failover, and than a restart of the system manager. */
export const READY_MS = 30_000;
export const READY_POLL_MS = 20;
/** The system manager answers within 30 s, also what waits for others. What it has not answered after so long it never will. */
export const ANSWER_MS = 60_000;
/** What is under way when a node manager is closed is waited for so long, then given up. */
export const CLOSE_GRACE_MS = 5000;
/** How often it is looked whether the site has servers that are not linked yet. */
export const SERVERS_LOOK_MS = 5000;
