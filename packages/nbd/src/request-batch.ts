import { BLOCK_BYTES, checksum, FRAME_PAYLOAD_BYTES_MAX, FRAME_REQUESTS_MAX } from '@ashlar/words';
import { blocksTouched, Frame, FrameKind, Op, REPLY_GAP_BYTES } from '@ashlar/protocol';

/**
 * Requests found in one stretch of receive memory, until they become one frame. Reused: nothing is allocated per request.
 * Positions of bytes are positions in the slab.
 */
export class RequestBatch {
  count = 0;
  readonly #tags = new Uint32Array(FRAME_REQUESTS_MAX);
  readonly #ops = new Uint8Array(FRAME_REQUESTS_MAX);
  readonly #flags = new Uint8Array(FRAME_REQUESTS_MAX);
  readonly #offsets = new Float64Array(FRAME_REQUESTS_MAX);
  readonly #lengths = new Uint32Array(FRAME_REQUESTS_MAX);
  readonly #dataAt = new Uint32Array(FRAME_REQUESTS_MAX);
  #replyBytes = 0;
  #blocks = 0;
  #dataStart = -1;
  #dataEnd = -1;

  /** Bytes of writes begin and end here in the slab; -1: there are none. */
  get dataStart(): number {
    return this.#dataStart;
  }

  /** False if the frame would pass its limits, or its reply's. An empty batch fits every request. */
  fits(op: Op, lengthBytes: number, dataAt: number): boolean {
    if (this.count === 0) return true;
    if (this.count === FRAME_REQUESTS_MAX) return false;
    if (op === Op.read) return this.#replyBytes + REPLY_GAP_BYTES + lengthBytes <= FRAME_PAYLOAD_BYTES_MAX;
    if (op === Op.write && this.#dataStart >= 0) return dataAt + lengthBytes - this.#dataStart <= FRAME_PAYLOAD_BYTES_MAX;
    return true;
  }

  add(tag: number, op: Op, flags: number, offsetBytes: number, lengthBytes: number, dataAt: number): void {
    const i = this.count++;
    this.#tags[i] = tag;
    this.#ops[i] = op;
    this.#flags[i] = flags;
    this.#offsets[i] = offsetBytes;
    this.#lengths[i] = lengthBytes;
    this.#dataAt[i] = dataAt;
    if (op === Op.read) this.#replyBytes += REPLY_GAP_BYTES + lengthBytes;
    if (op !== Op.write) return;
    this.#blocks += blocksTouched(offsetBytes, lengthBytes);
    if (this.#dataStart < 0) this.#dataStart = dataAt;
    this.#dataEnd = dataAt + lengthBytes;
  }

  /** Everything added so far as one frame over the slab; the batch is empty afterwards. */
  toFrame(slab: Uint8Array, checksums: boolean): Frame {
    const { count } = this;
    const start = this.#dataStart;
    const payload = start < 0 ? undefined : slab.subarray(start, this.#dataEnd);
    const frame = Frame.create(FrameKind.request, count, checksums ? this.#blocks : 0, payload);
    let crcs = 0;
    for (let i = 0; i < count; i++) {
      const op = this.#ops[i] as Op;
      const isWrite = op === Op.write;
      const offset = this.#offsets[i] as number;
      const length = this.#lengths[i] as number;
      const at = isWrite ? (this.#dataAt[i] as number) - start : 0;
      frame.setOperation(i, this.#tags[i] as number, op, this.#flags[i] as number, offset, length, at, crcs);
      if (isWrite && checksums) crcs = fillChecksums(frame, crcs, offset, length, at);
    }
    this.clear();
    return frame;
  }

  clear(): void {
    this.count = 0;
    this.#replyBytes = 0;
    this.#blocks = 0;
    this.#dataStart = -1;
    this.#dataEnd = -1;
  }
}

/** One checksum for each block that the write touches, over the bytes it has in that block. Returns the next free entry. */
function fillChecksums(frame: Frame, first: number, offsetBytes: number, lengthBytes: number, at: number): number {
  const { payload } = frame;
  let k = first;
  let from = at;
  const end = at + lengthBytes;
  let room = BLOCK_BYTES - (offsetBytes % BLOCK_BYTES);
  while (from < end) {
    const to = Math.min(from + room, end);
    frame.setCrc(k++, checksum(payload.subarray(from, to)));
    from = to;
    room = BLOCK_BYTES;
  }
  return k;
}
