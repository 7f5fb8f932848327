import { Frame, FrameKind, Op, type PayloadLease, REPLY_GAP_BYTES, Status } from '@ashlar/protocol';
import type { NbdBackend, NbdBackendLimits, NbdDevice, NbdReplies } from '@ashlar/nbd';

const CHUNK_BYTES = 1024 * 1024;
/** Reply memory kept for reuse. */
const POOLED_MAX = 16;

export interface MemoryBackendOptions {
  readonly sizeBytes: number;
  readonly readOnly?: boolean;
  readonly checksums?: boolean;
  readonly limits?: NbdBackendLimits;
}

/** A volume in memory that keeps what is written: for tests, and to measure the NBD server without what usually stands behind it. */
export class MemoryBackend implements NbdBackend {
  readonly limits: NbdBackendLimits;
  readonly checksums: boolean;
  readonly #chunks: (Uint8Array | undefined)[] = [];
  readonly #pool: ReplyBuffer[] = [];
  readonly #readOnly: boolean;
  sizeBytes: number;

  constructor(options: MemoryBackendOptions) {
    this.sizeBytes = options.sizeBytes;
    this.#readOnly = options.readOnly ?? false;
    this.checksums = options.checksums ?? false;
    this.limits = options.limits ?? { requestsMax: 1024, bytesMax: 64 * 1024 * 1024 };
  }

  device(): NbdDevice {
    return { sizeBytes: this.sizeBytes, readOnly: this.#readOnly, multiConnection: true, description: 'memory' };
  }

  submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    const { count } = frame;
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += replyBytes(frame, i);
    const buffer = bytes === 0 ? null : this.#take(bytes);
    const reply = Frame.create(FrameKind.reply, count, 0, buffer?.bytes.subarray(0, bytes));
    let at = 0;
    for (let i = 0; i < count; i++) {
      const op = frame.op(i);
      const mine = replyBytes(frame, i);
      const length = mine === 0 ? frame.lengthBytes(i) : mine - REPLY_GAP_BYTES;
      reply.setOperation(i, frame.requestNumber(i), op, 0, frame.offsetBytes(i), length, mine === 0 ? 0 : at + REPLY_GAP_BYTES, 0);
      reply.setStatus(i, this.#carryOut(frame, i, reply));
      at += mine;
    }
    lease.release();
    reply.lease = buffer;
    client.replied(reply);
  }

  #carryOut(frame: Frame, i: number, reply: Frame): Status {
    const offset = frame.offsetBytes(i);
    const length = frame.lengthBytes(i);
    switch (frame.op(i)) {
      case Op.read:
        this.#read(offset, length, reply.payload, reply.payloadAt(i));
        return Status.ok;
      case Op.write:
        this.#write(offset, length, frame.payload, frame.payloadAt(i));
        return Status.ok;
      case Op.zero:
      case Op.trim:
        this.#zero(offset, length);
        return Status.ok;
      case Op.status:
        this.#status(offset, length, reply, reply.payloadAt(i));
        return Status.ok;
      case Op.flush:
      case Op.cache:
        return Status.ok;
      case Op.session:
      case Op.lost:
        return Status.invalid;
    }
  }

  #read(offset: number, length: number, into: Uint8Array, at: number): void {
    for (let done = 0; done < length;) {
      const start = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - start, length - done);
      const chunk = this.#chunks[Math.floor((offset + done) / CHUNK_BYTES)];
      if (chunk) into.set(chunk.subarray(start, start + bytes), at + done);
      else into.fill(0, at + done, at + done + bytes);
      done += bytes;
    }
  }

  #write(offset: number, length: number, from: Uint8Array, at: number): void {
    for (let done = 0; done < length;) {
      const start = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - start, length - done);
      const index = Math.floor((offset + done) / CHUNK_BYTES);
      const chunk = (this.#chunks[index] ??= new Uint8Array(CHUNK_BYTES));
      chunk.set(from.subarray(at + done, at + done + bytes), start);
      done += bytes;
    }
  }

  #zero(offset: number, length: number): void {
    for (let done = 0; done < length;) {
      const start = (offset + done) % CHUNK_BYTES;
      const bytes = Math.min(CHUNK_BYTES - start, length - done);
      const index = Math.floor((offset + done) / CHUNK_BYTES);
      if (bytes === CHUNK_BYTES) this.#chunks[index] = undefined;
      else this.#chunks[index]?.fill(0, start, start + bytes);
      done += bytes;
    }
  }

  /** One pair: the longest stretch from the start that is of one kind, by chunks. */
  #status(offset: number, length: number, reply: Frame, at: number): void {
    const first = Math.floor(offset / CHUNK_BYTES);
    const last = Math.floor((offset + length - 1) / CHUNK_BYTES);
    const present = this.#chunks[first] !== undefined;
    let index = first + 1;
    while (index <= last && (this.#chunks[index] !== undefined) === present) index++;
    const end = Math.min(index * CHUNK_BYTES, offset + length);
    const view = new DataView(reply.payload.buffer, reply.payload.byteOffset);
    view.setUint32(at, end - offset, true);
    view.setUint32(at + 4, present ? 0 : 3, true);
  }

  #take(bytes: number): ReplyBuffer {
    const pooled = this.#pool.pop();
    if (pooled && pooled.bytes.length >= bytes) return pooled;
    return new ReplyBuffer(2 ** Math.ceil(Math.log2(Math.max(bytes, 65_536))), this.#pool);
  }
}

/** Reply memory that goes back to its pool when the socket has taken it. */
class ReplyBuffer implements PayloadLease {
  readonly bytes: Uint8Array;
  readonly #pool: ReplyBuffer[];

  constructor(bytes: number, pool: ReplyBuffer[]) {
    this.bytes = new Uint8Array(bytes);
    this.#pool = pool;
  }

  release(): void {
    if (this.#pool.length < POOLED_MAX) this.#pool.push(this);
  }
}

function replyBytes(frame: Frame, i: number): number {
  const op = frame.op(i);
  if (op === Op.read) return REPLY_GAP_BYTES + frame.lengthBytes(i);
  return op === Op.status ? REPLY_GAP_BYTES + 8 : 0;
}
