import { assert } from '@ashlar/words';
import type { PayloadLease } from './frame.ts';

/** A socket read is not asked for with less room than this (or a quarter of the slab): a read of little costs as much as one of much. */
const READ_ROOM_BYTES_MIN = 64 * 1024;
/** Receive memory kept for reuse, per pool. */
const POOLED_BYTES_MAX = 64 * 1024 * 1024;

/** A piece of receive memory. It may be overwritten when no frame over it is leased any more. */
export class Slab implements PayloadLease {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #pool: SlabPool;
  #leases = 0;
  #retired = false;

  constructor(bytes: Uint8Array, pool: SlabPool) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#pool = pool;
  }

  get leased(): boolean {
    return this.#leases > 0;
  }

  lease(): PayloadLease {
    this.#leases++;
    return this;
  }

  release(): void {
    assert(this.#leases > 0, 'a lease is released at most once');
    this.#leases--;
    if (this.#retired && this.#leases === 0) this.#pool.give(this);
  }

  /** Its connection receives elsewhere from now on. */
  retire(): void {
    this.#retired = true;
    if (this.#leases === 0) this.#pool.give(this);
  }

  reuse(): void {
    this.#retired = false;
  }
}

/** Receive memory of all connections of a server, in powers of two. What is never released is simply not seen again. */
export class SlabPool {
  readonly #allocate: (bytes: number) => Uint8Array;
  readonly #free = new Map<number, Slab[]>();
  #freeBytes = 0;

  constructor(allocate: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes)) {
    this.#allocate = allocate;
  }

  /** At least that many bytes, whose contents have no meaning. */
  take(bytesMin: number): Slab {
    const size = 2 ** Math.ceil(Math.log2(bytesMin));
    const slab = this.#free.get(size)?.pop();
    if (!slab) return new Slab(this.#allocate(size), this);
    this.#freeBytes -= size;
    slab.reuse();
    return slab;
  }

  give(slab: Slab): void {
    const size = slab.bytes.length;
    if (this.#freeBytes + size > POOLED_BYTES_MAX) return;
    const free = this.#free.get(size);
    if (free) free.push(slab);
    else this.#free.set(size, [slab]);
    this.#freeBytes += size;
  }
}

/**
 * The bytes that a connection has received and not yet parsed, where the socket read put them. A request that is split
 * over reads is completed in place; only what has arrived of a request at the end of a slab is copied to the next one.
 */
export class ReceiveWindow {
  readonly #pool: SlabPool;
  slab: Slab;
  start = 0;
  end = 0;
  /** Bytes, from `start` on, that the next request takes; 0 where that is not known yet. */
  needed = 0;
  #size: number;
  readonly #sizeMin: number;
  readonly #sizeMax: number;
  #target: Uint8Array | null = null;

  /** Begins with `size` bytes, which do while a client sends little; one that sends more than fits gets from `sizeMin` to `sizeMax`. */
  constructor(pool: SlabPool, size: number, sizeMin: number, sizeMax: number) {
    this.#pool = pool;
    this.#size = size;
    this.#sizeMin = sizeMin;
    this.#sizeMax = sizeMax;
    this.slab = pool.take(size);
  }

  get #roomMin(): number {
    return Math.min(READ_ROOM_BYTES_MIN, this.#size / 4);
  }

  get length(): number {
    return this.end - this.start;
  }

  /** Where the next socket read goes. Call it only when a read is about to begin: it may move what is unparsed. */
  target(): Uint8Array {
    const held = this.end - this.start;
    if (held === 0 && !this.slab.leased && this.end !== 0) {
      // The same, cache-warm bytes again.
      this.start = 0;
      this.end = 0;
      this.#target = null;
    }
    const wanted = Math.max(this.needed - held, this.#roomMin);
    if (this.slab.bytes.length - this.end < wanted) this.#move(held, wanted);
    this.#target ??= this.slab.bytes.subarray(this.end);
    return this.#target;
  }

  filled(bytes: number): void {
    assert(bytes <= this.slab.bytes.length - this.end, 'a read stays within its target');
    // The socket may hold more: larger reads, from the next move on.
    if (bytes === this.#target?.length) this.#size = Math.max(this.#size, this.#sizeMin);
    this.end += bytes;
    this.#target = null;
  }

  close(): void {
    this.slab.retire();
    this.slab = this.#pool.take(1);
    this.start = 0;
    this.end = 0;
  }

  #move(held: number, wanted: number): void {
    // Requests that are split often mean that they are large for this slab: fewer, larger slabs split fewer.
    if (held > this.#roomMin / 4 && this.#size < this.#sizeMax) this.#size *= 2;
    const size = Math.max(this.#size, held + wanted);
    this.#target = null;
    if (!this.slab.leased && size <= this.slab.bytes.length) {
      this.slab.bytes.copyWithin(0, this.start, this.end);
    } else {
      const next = this.#pool.take(size);
      next.bytes.set(this.slab.bytes.subarray(this.start, this.end));
      this.slab.retire();
      this.slab = next;
    }
    this.start = 0;
    this.end = held;
  }
}
