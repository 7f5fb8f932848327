/** Clients at a time, over all exports of a server. Each costs 16 KiB of receive memory when idle; more are closed before they are greeted. 1,000 volumes with four connections each fit. */
export const CONNECTIONS_MAX = 4096;
/** From connecting to the first request. Negotiation takes milliseconds; TLS on a slow link, seconds. */
export const HANDSHAKE_DEADLINE_MS = 15_000;
/** Replies that a client has not taken yet. Above it nothing more is read from that client. */
export const WRITE_QUEUE_BYTES_MAX = 4 * 1024 * 1024;
/** How long a closing connection may take to take its last bytes. */
export const LINGER_MS = 5_000;
/** How long unanswered requests may hold up an orderly shutdown. */
export const SHUTDOWN_GRACE_MS = 5_000;
/**
 * Connections in the handshake at a time; one more, and the oldest of them is closed: a flood of silent connections then shuts nobody out who negotiates
 * at once. More than the backlog, so that none is closed in the turn in which it was accepted.
 */
export const HANDSHAKES_MAX = 2048;
export const BACKLOG = 1024;
/** Silence on a TCP connection after which the kernel asks whether the other side is still there. */
export const KEEPALIVE_MS = 60_000;
