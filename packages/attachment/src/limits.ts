/** Guarantee G7 gives 2 s for all of detection and promotion after a freeze; half of it is for detection. */
export const SILENT_MS = 1000;
/** How often silence is reported again. The manager takes a complaint for 1500 ms. */
export const SILENT_REPEAT_MS = 500;
/** How often a primary is asked whether it is there, when nothing was heard of it and requests came lately. */
export const PROBE_MS = 250;
/**
 * Without a request for so long, it is asked only so often: thousands of idle attachments must cost next to nothing (0.05 ms a probe in both
 * processes together). The first request finds a silent primary as fast as ever. Those of one host whose time comes within the same `slotMs` are asked in
 * one turn: waking up costs more than asking. At worst all thousands come within one second; then a slot takes a few milliseconds.
 */
export const PROBE_SLOWER = [
  { idleMs: 60_000, everyMs: 30_000, slotMs: 100 },
  { idleMs: 5000, everyMs: 1000, slotMs: 10 },
] as const;
/** An `open` without an answer is sent again after this. */
export const REPEAT_MS = 200;
/** The configuration is asked for at most this often. */
export const ASK_MS = 200;
/** Wait before a refused session is opened again: a new primary may hear of its role a moment after us, so at first not long. Doubled in between. */
export const REOPEN_MS_MIN = 5;
export const REOPEN_MS_MAX = 250;
/** For so long after a new configuration the wait stays short: guarantee G7 gives 200 ms for all of a failover. */
export const REOPEN_SOON_FOR_MS = 1000;
export const REOPEN_SOON_MS = 20;
/**
 * A primary that is there but leaves a request unanswered for so long may have lost it (a link loses messages when it breaks): everything is
 * sent again in a new session. Longer than it takes to remove a silent mirror; doubled each time, because it may as well just be stalled.
 */
export const RESEND_MS_MIN = 2000;
export const RESEND_MS_MAX = 32_000;
/** A full link or mailbox is tried again after this. */
export const BUSY_RETRY_MS = 2;
/** A timer that comes so much too late shows that we did not run: what we did not hear meanwhile is no silence of the primary. */
export const LATE_MS = 100;
/** Session counts made durable at a time: one durable write for so many reconnects. */
export const SESSIONS_RESERVED = 1024;
/** Request numbers of one reservation: they lie above restartCount * 2^32. */
export const REQUESTS_PER_RESTART = 2 ** 32;
/** What a limited attachment that was idle may do at once, in milliseconds of its rate. */
export const BURST_MS = 100;
/** Bytes of unanswered requests of one attachment. One largest request is 32 MiB. */
export const UNANSWERED_BYTES_MAX = 32 * 2 ** 20;
/** Records of finished frames that are kept for the next ones. */
export const FLIGHTS_POOLED_MAX = 256;
