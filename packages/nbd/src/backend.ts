import type { Frame, PayloadLease } from '@ashlar/protocol';

/** What one export shows to its clients. Read anew for each connection: a volume that grew shows its new size at the next one. */
export interface NbdDevice {
  /** A multiple of 512. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Several connections see each other's answered writes, and a flush on one covers the writes answered on all (NBD_FLAG_CAN_MULTI_CONN). */
  readonly multiConnection: boolean;
  /** For people, in export lists; may be empty. */
  readonly description: string;
}

/** How much of one export may be unanswered at a time, over all its connections. Above it, sockets are not read from. */
export interface NbdBackendLimits {
  readonly requestsMax: number;
  /** Bytes of unanswered writes and reads. One request always passes when nothing else is unanswered, whatever its size. */
  readonly bytesMax: number;
}

/**
 * What stands behind an NBD export: the node manager's attachment of a volume, or a memory. One backend serves all
 * connections of its export; server and backend live in one thread and call each other directly.
 */
export interface NbdBackend {
  readonly limits: NbdBackendLimits;
  /** True: the checksum table of each request frame is filled in (docs/formats/frame.md). False spares that time for a backend that ignores it. */
  readonly checksums: boolean;
  device(): NbdDevice;

  /**
   * Takes a frame of requests (kind `request`, at most FRAME_REQUESTS_MAX operations, at most FRAME_PAYLOAD_BYTES_MAX of payload, and at
   * most that much to be read). Operations are read, write, zero, trim, flush, cache and status, in the order in which the
   * client sent them; offsets and lengths are multiples of 512 and lie inside `device().sizeBytes` as it was when the client connected;
   * a read-only device gets no changes. Nothing but count, operations, checksums and payload is set, and the head is not sealed.
   *
   * `requestNumber(i)` is a tag of the client's, below 2^32. The backend may number the operations of the frame as it likes (the
   * frame is its own now), but every operation is answered exactly once, under its tag, by `client.replied`; also synchronously.
   *
   * The payload is a region of a receive buffer, with protocol headers between the operations' bytes. It stays as it is until
   * `lease.release()`; afterwards it is overwritten.
   *
   * Never throws for what a client did.
   */
  submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void;
}

/** One connection, as the backend sees it. Stays valid after the connection has ended: late answers are dropped. */
export interface NbdReplies {
  /**
   * Takes a frame of replies (kind `reply`) to requests of this client, of one or several of its frames, in any order; it is the client's from now on.
   * Of each operation are read: `requestNumber` (the tag), `op`, `status`, and with status ok
   * - of a read: `payloadAt` and `lengthBytes` (what was asked for), with REPLY_GAP_BYTES before its bytes that are the client's to
   *   overwrite. Reads laid out as [gap | bytes][gap | bytes]… in the order of the operations leave with one socket write.
   * - of a status: pairs of little-endian u32 (length in bytes, 1: hole | 2: reads as zeros) at `payloadAt`, `lengthBytes` long in all,
   *   covering the range asked for from its start, all of it or at least the first pair.
   * The payload is sent from where it lies: it must not change before the socket has taken it. Whoever would use that memory again
   * sets the frame's lease, which is released when it may; without one it is left to the garbage collector.
   */
  replied(reply: Frame): void;
}
