import { assert, BLOCK_BYTES, checksum, FRAME_PAYLOAD_BYTES_MAX, FRAME_REQUESTS_MAX, type VolumeId } from '@ashlar/words';

/**
 * A block frame: the one layout in which requests, log records and replies travel between node manager, primary
 * and mirrors, and in which a log record lies in a journal. It is built once, near the client, and its bytes are
 * then sent and written as they are. All integers little-endian; byte by byte in docs/formats/frame.md.
 *
 *   head     104-byte header | 32 bytes per operation | 4-byte checksum per block | zeros up to a multiple of 8
 *   payload  one blob; each operation says where its bytes begin. Bytes between operations have no meaning
 *            (a receive buffer is passed on whole, client headers included).
 *
 * A reply leaves REPLY_GAP_BYTES before each operation's bytes, in which the NBD server writes its own reply header.
 */
export const FRAME_MAGIC = 0x46485341; // "ASHF"
export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 104;
export const OPERATION_BYTES = 32;
/** 28: an NBD structured reply's header with the offset of its bytes. So the replies of one frame, headers filled in, lie end to end and leave with one socket write. */
export const REPLY_GAP_BYTES = 28;

export const FrameKind = { request: 1, log: 2, reply: 3, fill: 4 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** `lost` is in fills only: a block of which no copy has good bytes. It is bad on whoever is filled as well, so that it is never taken for zeros. */
export const Op = { read: 1, write: 2, zero: 3, trim: 4, flush: 5, cache: 6, session: 7, status: 8, lost: 9 } as const;
export type Op = (typeof Op)[keyof typeof Op];

export const OpFlag = { fua: 1, noHole: 2, fastZero: 4 } as const;

/** Outcome of one operation in a reply. */
export const Status = { ok: 0, ioError: 1, noSpace: 2, invalid: 3, notSupported: 4, busy: 5 } as const;
export type Status = (typeof Status)[keyof typeof Status];

const HIGH = 0x100000000;

export function blocksTouched(offsetBytes: number, lengthBytes: number): number {
  if (lengthBytes === 0) return 0;
  return Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_BYTES) - Math.floor(offsetBytes / BLOCK_BYTES) + 1;
}

export function frameHeadBytes(count: number, blockCount: number): number {
  return (FRAME_HEADER_BYTES + count * OPERATION_BYTES + blockCount * 4 + 7) & ~7;
}

const EMPTY = new Uint8Array(0);

/** The right to read a frame's payload where it lies. */
export interface PayloadLease {
  /**
   * Nobody reads the payload of this frame any more; of a request frame: every operation is answered, it is in the journal and with (or
   * copied for) every mirror, and will not be sent again. At most once. Not calling it is safe and costs speed: the memory is then left to the garbage collector.
   */
  release(): void;
}

/** The low 64 bits of a volume id, as two 32-bit halves. */
export interface VolumeTag {
  readonly low: number;
  readonly high: number;
}

export function volumeTag(volumeId: VolumeId): VolumeTag {
  return { high: parseInt(volumeId.slice(-16, -8), 16), low: parseInt(volumeId.slice(-8), 16) };
}

export class Frame {
  head: Uint8Array;
  view: DataView;
  payload: Uint8Array;
  /**
   * Of a payload in memory that is used again (a link's receive memory, that of read replies): whoever takes the frame last releases it. The head
   * is never part of it. Null: the payload belongs to whom it always did.
   */
  lease: PayloadLease | null = null;

  constructor(head: Uint8Array, payload: Uint8Array = EMPTY) {
    this.head = head;
    this.view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    this.payload = payload;
  }

  static create(kind: FrameKind, count: number, blockCount: number, payload: Uint8Array = EMPTY): Frame {
    assert(count <= FRAME_REQUESTS_MAX && payload.length <= FRAME_PAYLOAD_BYTES_MAX, 'frame within its limits');
    const frame = new Frame(headMemory(frameHeadBytes(count, blockCount)), payload);
    const { view } = frame;
    view.setUint32(0, FRAME_MAGIC, true);
    view.setUint16(8, FRAME_VERSION, true);
    view.setUint8(10, kind);
    view.setUint32(12, count, true);
    view.setUint32(16, blockCount, true);
    view.setUint32(20, payload.length, true);
    return frame;
  }

  /** Copies the head out of memory that is about to be used again. */
  ownHead(): void {
    const head = headMemory(this.head.length);
    head.set(this.head);
    this.head = head;
    this.view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  }

  get kind(): FrameKind { return this.view.getUint8(10) as FrameKind; }
  get count(): number { return this.view.getUint32(12, true); }
  get blockCount(): number { return this.view.getUint32(16, true); }
  get payloadBytes(): number { return this.view.getUint32(20, true); }

  /** Low 64 bits of the volume id: binds the frame to its volume on disk and on the wire. */
  setVolumeTag(tag: VolumeTag): void {
    this.view.setUint32(24, tag.low, true);
    this.view.setUint32(28, tag.high, true);
  }
  hasVolumeTag(tag: VolumeTag): boolean {
    return this.view.getUint32(24, true) === tag.low && this.view.getUint32(28, true) === tag.high;
  }

  /** Log: the epoch in which the record was made. Request and reply: the epoch of the primary that is meant or answers. */
  get epoch(): number { return this.#u64(32); }
  set epoch(value: number) { this.#setU64(32, value); }
  /** Log: sequence number of operation 0; operation i has firstSeq + i. Fill: the position at which the source was read. */
  get firstSeq(): number { return this.#u64(40); }
  set firstSeq(value: number) { this.#setU64(40, value); }
  get lastSeq(): number { return this.firstSeq + this.count - 1; }
  get lineage(): number { return this.view.getUint32(48, true); }
  set lineage(value: number) { this.view.setUint32(48, value, true); }
  get attachNumber(): number { return this.view.getUint32(52, true); }
  set attachNumber(value: number) { this.view.setUint32(52, value, true); }
  get sessionCount(): number { return this.view.getUint32(56, true); }
  set sessionCount(value: number) { this.view.setUint32(56, value, true); }
  /** Log: running digest of the whole log up to and including this frame. */
  get chain(): number { return this.view.getUint32(60, true); }
  set chain(value: number) { this.view.setUint32(60, value, true); }
  /** Request and reply: number of the frame within its session. Log: highest request number applied, this frame included. */
  get number(): number { return this.#u64(64); }
  set number(value: number) { this.#setU64(64, value); }
  /** Log: the commit point that the primary knew when it sent the frame. */
  get committedSeq(): number { return this.#u64(72); }
  set committedSeq(value: number) { this.#setU64(72, value); }
  /** Log, in a journal: everything up to here was on stable storage when the frame was appended. */
  get durableSeq(): number { return this.#u64(80); }
  set durableSeq(value: number) { this.#setU64(80, value); }
  /** Follows the request through logs and events. */
  get traceId(): number { return this.#u64(88); }
  set traceId(value: number) { this.#setU64(88, value); }
  /** Log, between copies: the epoch of the primary that sends it, which is later than `epoch` when history is sent again. */
  get senderEpoch(): number { return this.#u64(96); }
  set senderEpoch(value: number) { this.#setU64(96, value); }

  requestNumber(i: number): number { return this.#u64(this.#at(i)); }
  setRequestNumber(i: number, requestNumber: number): void { this.#setU64(this.#at(i), requestNumber); }
  offsetBytes(i: number): number { return this.#u64(this.#at(i) + 8); }
  lengthBytes(i: number): number { return this.view.getUint32(this.#at(i) + 16, true); }
  /** Where operation i's bytes begin in the payload. */
  payloadAt(i: number): number { return this.view.getUint32(this.#at(i) + 20, true); }
  crcIndex(i: number): number { return this.view.getUint32(this.#at(i) + 24, true); }
  op(i: number): Op { return this.view.getUint8(this.#at(i) + 28) as Op; }
  opFlags(i: number): number { return this.view.getUint8(this.#at(i) + 29); }
  status(i: number): Status { return this.view.getUint16(this.#at(i) + 30, true) as Status; }
  setStatus(i: number, status: Status): void { this.view.setUint16(this.#at(i) + 30, status, true); }
  setPayloadAt(i: number, position: number): void { this.view.setUint32(this.#at(i) + 20, position, true); }

  setOperation(i: number, requestNumber: number, op: Op, flags: number, offsetBytes: number, lengthBytes: number, payloadAt: number, crcIndex: number): void {
    const at = this.#at(i);
    this.#setU64(at, requestNumber);
    this.#setU64(at + 8, offsetBytes);
    this.view.setUint32(at + 16, lengthBytes, true);
    this.view.setUint32(at + 20, payloadAt, true);
    this.view.setUint32(at + 24, crcIndex, true);
    this.view.setUint8(at + 28, op);
    this.view.setUint8(at + 29, flags);
    this.view.setUint16(at + 30, 0, true);
  }

  /** Checksum of entry k of the table; operation i's blocks are entries crcIndex(i), crcIndex(i)+1, … */
  crc(k: number): number { return this.view.getUint32(FRAME_HEADER_BYTES + this.count * OPERATION_BYTES + k * 4, true); }
  setCrc(k: number, value: number): void { this.view.setUint32(FRAME_HEADER_BYTES + this.count * OPERATION_BYTES + k * 4, value, true); }

  /** Operation i's bytes. */
  bytes(i: number): Uint8Array {
    const at = this.payloadAt(i);
    return this.payload.subarray(at, at + this.lengthBytes(i));
  }

  /** Seals the head. Call after the last change; the payload is covered by the table's checksums. */
  seal(): void {
    this.view.setUint32(4, checksum(this.head.subarray(8)), true);
  }

  get headIntact(): boolean {
    return this.view.getUint32(4, true) === checksum(this.head.subarray(8));
  }

  #at(i: number): number { return FRAME_HEADER_BYTES + i * OPERATION_BYTES; }
  #u64(at: number): number { return this.view.getUint32(at + 4, true) * HIGH + this.view.getUint32(at, true); }
  #setU64(at: number, value: number): void {
    this.view.setUint32(at, value >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(value / HIGH), true);
  }
}

/** Heads are cut from pieces of this size: an allocation for each costs as much as the rest of its making, and its freeing more. */
const HEADS_BYTES = 64 * 1024;
let heads = EMPTY;
let headsUsed = 0;

/** Zeroed memory for a head. A piece is freed as a whole when none of its heads is in use; nothing of it is used twice. */
function headMemory(bytes: number): Uint8Array {
  if (bytes > HEADS_BYTES / 8) return new Uint8Array(bytes);
  if (headsUsed + bytes > heads.length) {
    heads = new Uint8Array(HEADS_BYTES);
    headsUsed = 0;
  }
  const head = heads.subarray(headsUsed, headsUsed + bytes);
  headsUsed += (bytes + 7) & ~7;
  return head;
}

/** True if the operation changes the volume, and so takes a sequence number. */
export function isMutation(op: Op): boolean {
  return op === Op.write || op === Op.zero || op === Op.trim || op === Op.session;
}

/**
 * Takes a frame apart that came from outside this process: bytes → frame, or a reason to close the link.
 * Checks every field that anything later indexes with; the frame's bytes are then trusted.
 */
export function parseFrame(bytes: Uint8Array): Frame | { readonly malformed: string } {
  if (bytes.length < FRAME_HEADER_BYTES) return { malformed: `${bytes.length} bytes are too few for a frame header` };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== FRAME_MAGIC) return { malformed: 'wrong magic number' };
  if (view.getUint16(8, true) !== FRAME_VERSION) return { malformed: `frame version ${view.getUint16(8, true)}` };
  const kind = view.getUint8(10);
  const count = view.getUint32(12, true);
  const blockCount = view.getUint32(16, true);
  const payloadBytes = view.getUint32(20, true);
  if (kind < 1 || kind > 4) return { malformed: `frame kind ${kind}` };
  if (count > FRAME_REQUESTS_MAX) return { malformed: `${count} operations in one frame` };
  if (payloadBytes > FRAME_PAYLOAD_BYTES_MAX) return { malformed: `payload of ${payloadBytes} bytes` };
  if (blockCount > FRAME_PAYLOAD_BYTES_MAX / SECTOR_MIN) return { malformed: `${blockCount} blocks in one frame` };
  const headBytes = frameHeadBytes(count, blockCount);
  if (bytes.length !== headBytes + payloadBytes) return { malformed: `${bytes.length} bytes instead of ${headBytes + payloadBytes}` };
  const frame = new Frame(bytes.subarray(0, headBytes), bytes.subarray(headBytes));
  if (!frame.headIntact) return { malformed: 'head checksum' };
  for (let i = 0; i < count; i++) {
    const op = frame.op(i);
    if (op < 1 || op > Op.lost || (op === Op.lost) && kind !== FrameKind.fill) return { malformed: `operation ${op}` };
    const carriesBytes = kind === FrameKind.reply ? (op === Op.read || op === Op.status) && frame.status(i) === Status.ok : op === Op.write;
    if (carriesBytes && frame.payloadAt(i) + frame.lengthBytes(i) > payloadBytes) return { malformed: 'operation beyond the payload' };
    if (kind !== FrameKind.reply && op === Op.write && frame.crcIndex(i) + blocksTouched(frame.offsetBytes(i), frame.lengthBytes(i)) > blockCount) return { malformed: 'operation beyond the checksum table' };
    if (kind === FrameKind.reply && op === Op.read && frame.status(i) === Status.ok && frame.payloadAt(i) < REPLY_GAP_BYTES) return { malformed: 'no gap before the bytes of a reply' };
  }
  return frame;
}

/** 512-byte pieces: the most checksums a payload can need. */
const SECTOR_MIN = 512;
