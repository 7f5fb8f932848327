import { assert } from '@ashlar/words';
import { unfilled } from '../wire/envelope.ts';

/**
 * A ring of records between one writing and one reading thread, in shared memory. Neither ever waits for the other.
 *
 *   0    i32 head: bytes read, modulo 2^32     (written by the reader) | i32 records of kind onPort read
 *   64   i32 tail: bytes written, modulo 2^32  (written by the writer)
 *   128  i32 asleep: 1 while the reader wants to be woken
 *   192  i32 full: 1 while the writer wants to be told of room
 *   256  data: u32 length | u32 kind | bytes, at multiples of 8; a record never wraps: length SKIP means "go on at the beginning"
 *
 * Each word has a cache line of its own, because two threads that write to one line take it from each other at every write.
 */
const CONTROL_BYTES = 256;
const HEAD = 0;
const LARGE_READ = 1;
const TAIL = 16;
const ASLEEP = 32;
const FULL = 48;
const RECORD_HEADER_BYTES = 8;
const SKIP = 0xffffffff;
/** Batches that may be in the port and not read yet: one is being read, the next waits. Each may be as large as a link's message. */
const LARGE_MAX = 2;

/** What a record holds: a batch of envelopes, or the notice that the next batch was too large and comes through the port. */
export const RecordKind = { batch: 1, onPort: 2 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export function createRing(capacityBytes: number): SharedArrayBuffer {
  assert(capacityBytes >= 64 && capacityBytes <= 2 ** 30 && (capacityBytes & (capacityBytes - 1)) === 0, 'the capacity of a ring is a power of two');
  return new SharedArrayBuffer(CONTROL_BYTES + capacityBytes);
}

function recordBytes(length: number): number { return (RECORD_HEADER_BYTES + length + 7) & ~7; }

/** The end of the thread that writes. Records become visible at `publish`. */
export class RingWriter {
  readonly capacityBytes: number;
  readonly #control: Int32Array;
  readonly #view: DataView;
  readonly #data: Uint8Array;
  /** Bytes written, published or not. */
  #tail: number;
  #largeWritten: number;

  constructor(buffer: SharedArrayBuffer) {
    this.capacityBytes = buffer.byteLength - CONTROL_BYTES;
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.#view = new DataView(buffer, CONTROL_BYTES);
    this.#data = new Uint8Array(buffer, CONTROL_BYTES);
    this.#tail = Atomics.load(this.#control, TAIL) >>> 0;
    this.#largeWritten = Atomics.load(this.#control, LARGE_READ);
  }

  /** The largest record that surely fits into an empty ring, wherever it begins. */
  get recordBytesMax(): number { return this.capacityBytes / 2 - RECORD_HEADER_BYTES; }

  /** False: there is no room now; nothing was written. */
  write(kind: RecordKind, bytes: Uint8Array): boolean {
    assert(bytes.length <= this.recordBytesMax, 'a record fits into its ring');
    if (kind === RecordKind.onPort && ((this.#largeWritten - Atomics.load(this.#control, LARGE_READ)) | 0) >= LARGE_MAX) return false;
    const needed = recordBytes(bytes.length);
    const at = this.#tail & (this.capacityBytes - 1);
    const untilEnd = this.capacityBytes - at;
    const skipped = needed > untilEnd ? untilEnd : 0;
    const used = (this.#tail - Atomics.load(this.#control, HEAD)) >>> 0;
    if (used + skipped + needed > this.capacityBytes) return false;
    if (skipped > 0) this.#view.setUint32(at, SKIP, true);
    const start = skipped > 0 ? 0 : at;
    this.#view.setUint32(start, bytes.length, true);
    this.#view.setUint32(start + 4, kind, true);
    this.#data.set(bytes, start + RECORD_HEADER_BYTES);
    this.#tail = (this.#tail + skipped + needed) >>> 0;
    if (kind === RecordKind.onPort) this.#largeWritten = (this.#largeWritten + 1) | 0;
    return true;
  }

  /** Shows the reader what was written. True: it sleeps and must be woken, by whoever gets this answer. */
  publish(): boolean {
    Atomics.store(this.#control, TAIL, this.#tail | 0);
    return Atomics.load(this.#control, ASLEEP) === 1 && Atomics.compareExchange(this.#control, ASLEEP, 1, 0) === 1;
  }

  /** Asks to be told of room. Try once more after it: the reader may have made some just before. */
  wantRoom(): void { Atomics.store(this.#control, FULL, 1); }
}

/** The end of the thread that reads. */
export class RingReader {
  readonly #control: Int32Array;
  readonly #view: DataView;
  readonly #data: Uint8Array;
  readonly #capacityBytes: number;
  #head: number;
  #largeRead: number;

  constructor(buffer: SharedArrayBuffer) {
    this.#capacityBytes = buffer.byteLength - CONTROL_BYTES;
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.#view = new DataView(buffer, CONTROL_BYTES);
    this.#data = new Uint8Array(buffer, CONTROL_BYTES);
    this.#head = Atomics.load(this.#control, HEAD) >>> 0;
    this.#largeRead = Atomics.load(this.#control, LARGE_READ);
  }

  get empty(): boolean { return (Atomics.load(this.#control, TAIL) >>> 0) === this.#head; }

  /** The next record, copied out of the ring, because frames in it may live longer than it does; null if there is none. */
  read(): { readonly kind: RecordKind; readonly bytes: Uint8Array } | null {
    if (this.empty) return null;
    let at = this.#head & (this.#capacityBytes - 1);
    let length = this.#view.getUint32(at, true);
    if (length === SKIP) {
      this.#head = (this.#head + this.#capacityBytes - at) >>> 0;
      at = 0;
      length = this.#view.getUint32(0, true);
    }
    assert(at + RECORD_HEADER_BYTES + length <= this.#capacityBytes, 'a record lies within its ring');
    const kind = this.#view.getUint32(at + 4, true) as RecordKind;
    const bytes = unfilled(length);
    bytes.set(this.#data.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length));
    this.#head = (this.#head + recordBytes(length)) >>> 0;
    if (kind === RecordKind.onPort) this.#largeRead = (this.#largeRead + 1) | 0;
    return { kind, bytes };
  }

  /** Gives the room of what was read back. True: the writer waits for it and must be told, by whoever gets this answer. */
  release(): boolean {
    Atomics.store(this.#control, LARGE_READ, this.#largeRead);
    Atomics.store(this.#control, HEAD, this.#head | 0);
    return Atomics.load(this.#control, FULL) === 1 && Atomics.compareExchange(this.#control, FULL, 1, 0) === 1;
  }

  /** From now on the writer wakes this thread. False: something came meanwhile; go on reading. */
  sleep(): boolean {
    Atomics.store(this.#control, ASLEEP, 1);
    if (this.empty) return true;
    // Whoever takes the flag back owns the waking: if the writer was faster, its wake-up is on its way and finds an empty ring.
    Atomics.compareExchange(this.#control, ASLEEP, 1, 0);
    return false;
  }
}
