/** Bytes of one option's data. The longest sensible one names an export (4096 by the protocol) and a handful of meta contexts. */
export const OPTION_BYTES_MAX = 12 * 1024;
/** Longer option data than this is not even skipped: the connection is closed. */
export const OPTION_SKIP_BYTES_MAX = 1024 * 1024;
/** Options in one handshake; libnbd sends about ten. */
export const OPTIONS_MAX = 1024;
/** The protocol's bound on names, descriptions and queries. */
export const NAME_BYTES_MAX = 4096;
/** Meta-context queries in one option; one context is on offer. */
export const QUERIES_MAX = 64;

/** Receive memory of a connection at first: one longest option with its header, or some hundred requests to read. Thousands of idle connections cost little. */
export const SLAB_BYTES_FIRST = 16 * 1024;
/** Receive memory of a client that fills that: one socket read of a unix socket (208 KiB by default) fits. */
export const SLAB_BYTES_MIN = 256 * 1024;
/** It grows up to here while it splits requests; larger requests get memory of their own size. */
export const SLAB_BYTES_MAX = 2 * 1024 * 1024;

/** Pairs in one block status reply; the protocol lets a server answer for less than was asked. */
export const STATUS_EXTENTS_MAX = 4096;
/** Small replies are built in pieces of this size. */
export const CONTROL_BYTES = 64 * 1024;

/** What is advertised: 512-byte requests work, 4 KiB ones work best, and none may be longer than REQUEST_BYTES_MAX. */
export const BLOCK_BYTES_MIN = 512;
export const BLOCK_BYTES_PREFERRED = 4096;

/**
 * A new connection is not served while an older one of the export was left unread and may hold requests in its socket: they are older. When this much
 * has been read from the older one since, whatever its socket held then has come (Linux lets a TCP socket hold 6 MiB by default).
 */
export const SOCKET_HOLDS_BYTES_MAX = 16 * 1024 * 1024;
