/** How often the system manager is told the figures of attachments that did something, and is greeted again if it was away. */
export const USAGE_INTERVAL_MS = 1000;
/** While none did anything, their figures are looked at less and less often: to look at two thousand costs some milliseconds. */
export const USAGE_IDLE_INTERVAL_MS = 10_000;
/** What need not be stable at once (newer configurations, figures) is saved this long after it changed: one durable write for all attachments. */
export const SAVE_DELAY_MS = 1000;
/** More restarts of one attachment in this time are too many: it stays down, and the manager is told. */
export const RESTARTS_MAX = 5;
export const RESTARTS_MS = 30_000;
/** An attachment closes its session and drops its connections; nothing of it waits for a disk. */
export const SHUTDOWN_MS = 5000;
/** linux/un.h: sun_path has 108 bytes, one of them the end. */
export const SOCKET_PATH_BYTES_MAX = 107;
/** What was asked before a detach, or before the host ends, is answered within this; then the connections are cut. */
export const DETACH_GRACE_MS = 1000;
export const STOP_GRACE_MS = 2000;
