import { FRAME_PAYLOAD_BYTES_MAX, FRAME_REQUESTS_MAX } from '@ashlar/words';

/** Messages that one turn handles before sockets are polled again. At 0.2–1 µs a message and up to 30 µs of work in it, some milliseconds. */
export const TURN_MESSAGES_MAX = 1024;

/** A control message (everything that is not a block frame). The largest, a beacon for 20,000 volumes, is about 1.3 MiB. */
export const COLD_BYTES_MAX = 4 * 2 ** 20;
/** A role's private message, as JSON. */
export const PLAIN_BYTES_MAX = 2 ** 20;
export const PLAIN_DEPTH_MAX = 16;
/** Actors elsewhere that may wait for the end of one actor here. */
export const REMOTE_MONITORS_MAX = 4096;
/** Entries of one list in a control message. Guards against a few bytes that decode to millions of objects. */
export const LIST_MAX = 65_536;
/** A volume's record as a server keeps it: 50 tags of 384 letters, each of which JSON may write as six, and room. */
export const RECORD_TEXT_MAX = 256 * 2 ** 10;
/** Fields of one control message, nested ones included. The largest beacon has about 80,000. */
export const COLD_FIELDS_MAX = 2 ** 18;
/** Parties of one process. */
export const PARTIES_MAX = 1024;
/** Head of the largest frame: 256 operations, and a checksum for each 512-byte piece of the largest payload. */
export const FRAME_HEAD_BYTES_MAX = 104 + FRAME_REQUESTS_MAX * 32 + 4 * (FRAME_PAYLOAD_BYTES_MAX / 512) + 8;
/** One WebSocket message. The largest frame must fit, with its envelope. */
export const LINK_MESSAGE_BYTES_MAX = FRAME_PAYLOAD_BYTES_MAX + FRAME_HEAD_BYTES_MAX + 64 * 2 ** 10;
/** A batch is sent when it has grown to this, before its turn ends. Larger ones only make the receiver join more socket reads. */
export const LINK_BATCH_BYTES_MAX = 256 * 2 ** 10;
/** Bytes that wait in a link before senders get `busy`. One largest frame may be on its way and a second be built. */
export const LINK_BUFFERED_BYTES_MAX = 64 * 2 ** 20;
/** Addresses that a link remembers by number, in each direction. The oldest is renumbered beyond it. */
export const LINK_ADDRESSES_MAX = 65_535;
/** First wait before a link is dialled again, and the longest: a copy that is back waits so long before it can catch up. Doubled in between. */
export const RECONNECT_MS_MIN = 50;
export const RECONNECT_MS_MAX = 250;
/** Before a peer is dialled again that speaks no wire version of ours: that lasts until one of the two is replaced, and each try is a line in both logs. */
export const VERSION_RETRY_MS = 15_000;
/** The first message of a link: 1024 parties of 63 letters, and room. */
export const HELLO_BYTES_MAX = 128 * 2 ** 10;
/** Receive memory of a link at first, and of one that fills that: one read of a unix socket (208 KiB by default) and the rest of a batch fit. */
export const LINK_SLAB_BYTES_FIRST = 64 * 2 ** 10;
export const LINK_SLAB_BYTES_MIN = 512 * 2 ** 10;
/** It grows up to here while it splits messages; larger ones get memory of their own size. */
export const LINK_SLAB_BYTES_MAX = 2 * 2 ** 20;
/** Both ends of a new link must have introduced themselves by then. */
export const HANDSHAKE_MS = 5000;
/** Links that have not introduced themselves yet. */
export const HANDSHAKES_MAX = 64;
/** Connections that have not asked for a link yet. One more, and the oldest is dropped: a flood of silent ones shuts nobody out who asks at once. */
export const ARRIVALS_MAX = 256;
/** How long the other side may take to answer the end of a link: a frozen one must not keep us from ending. */
export const CLOSE_MS = 1000;
/** A link from which nothing came for so long, although it was asked, is taken to be cut. Not for failover, which is the beacons' business. */
export const LINK_SILENT_MS = 10_000;
/** How often a link looks whether anything was heard. */
export const LINK_WATCH_MS = 1000;
/** After so long without a word, not even to a ping, another connection is tried beside it. */
export const LINK_QUIET_MS = 2000;
/** And another one after that: the first request for it may be lost too, and is repeated by the kernel after a second at first, then more and more seldom. */
export const LINK_AFRESH_MS = 2000;

/** A stranger that keeps trying is told of once in so long, and of so many strangers at a time. */
export const REFUSAL_LOG_MS = 60_000;
export const REFUSALS_MAX = 1024;
/** Reasons of one stranger: some name what it says itself, which it can make up anew each time. */
export const REFUSAL_REASONS_MAX = 16;

/** A ring between two threads, in each direction: two of the largest batches that are not sent through the port. A power of two. */
export const RING_BYTES = 4 * 2 ** 20;
/** Bytes that wait for room in a ring before senders get `busy`. As a link's. */
export const THREAD_BUFFERED_BYTES_MAX = 64 * 2 ** 20;
/** Batches that a thread takes from one ring before its sockets are polled. */
export const RING_BATCHES_MAX = 64;
/** Wait before a thread that died is replaced, and the longest, doubled in between; one that lived for THREAD_SETTLED_MS starts over. */
export const THREAD_BACKOFF_MS_MIN = 50;
export const THREAD_BACKOFF_MS_MAX = 5000;
export const THREAD_SETTLED_MS = 10_000;
/** A control call between threads without an answer. A thread that is alive answers between two turns; placing may open files. */
export const CONTROL_CALL_MS = 30_000;
/** How long a thread may take for its orderly end. */
export const THREAD_STOP_MS = 25_000;
/** Jobs that may wait for a bulk worker. */
export const BULK_QUEUE_MAX = 256;
