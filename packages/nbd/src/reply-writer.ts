import { assert } from '@ashlar/words';
import {
  BASE_ALLOCATION_ID, CHUNK_HEADER_BYTES, DATA_CHUNK_HEADER_BYTES, type NbdError, ReplyFlag, ReplyType, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
} from './constants.ts';
import { CONTROL_BYTES, STATUS_EXTENTS_MAX } from './limits.ts';

/** How a reply's payload is addressed while headers are written into its gaps. */
export interface ReplyMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/**
 * Builds what one turn sends. Small replies are written one after another into control memory; a read's header goes into
 * the gap before its bytes, and bytes that follow each other become one piece.
 */
export class ReplyWriter {
  #control = new Uint8Array(0);
  #view = new DataView(this.#control.buffer);
  #from = 0;
  #to = 0;
  #pieces: Uint8Array[] = [];
  #memory: ReplyMemory | null = null;
  #segmentStart = 0;
  #segmentEnd = 0;

  get empty(): boolean {
    return this.#to === this.#from && this.#pieces.length === 0 && this.#memory === null;
  }

  simple(cookieHigh: number, cookieLow: number, error: NbdError): void {
    const at = this.#room(SIMPLE_REPLY_BYTES);
    writeSimple(this.#view, at, cookieHigh, cookieLow, error);
  }

  errorChunk(cookieHigh: number, cookieLow: number, error: NbdError): void {
    const at = this.#room(CHUNK_HEADER_BYTES + 6);
    writeChunk(this.#view, at, ReplyType.error, cookieHigh, cookieLow, 6);
    this.#view.setUint32(at + CHUNK_HEADER_BYTES, error);
    this.#view.setUint16(at + CHUNK_HEADER_BYTES + 4, 0);
  }

  /** The pairs at `at` are little-endian, as frames have them. `lengthMax`: of the first pair, where only one is wanted. */
  blockStatus(cookieHigh: number, cookieLow: number, memory: ReplyMemory, at: number, pairs: number, lengthMax: number): void {
    const count = Math.min(pairs, STATUS_EXTENTS_MAX);
    const start = this.#room(CHUNK_HEADER_BYTES + 4 + count * 8);
    writeChunk(this.#view, start, ReplyType.blockStatus, cookieHigh, cookieLow, 4 + count * 8);
    this.#view.setUint32(start + CHUNK_HEADER_BYTES, BASE_ALLOCATION_ID);
    let to = start + CHUNK_HEADER_BYTES + 4;
    for (let i = 0; i < count; i++, to += 8) {
      this.#view.setUint32(to, Math.min(memory.view.getUint32(at + i * 8, true), lengthMax));
      this.#view.setUint32(to + 4, memory.view.getUint32(at + i * 8 + 4, true));
    }
  }

  /** Bytes read, with their header in the gap before them. */
  structuredRead(cookieHigh: number, cookieLow: number, offsetHigh: number, offsetLow: number, memory: ReplyMemory, at: number, length: number): void {
    const start = at - DATA_CHUNK_HEADER_BYTES;
    assert(start >= 0, 'a reply leaves a gap before its bytes');
    writeChunk(memory.view, start, ReplyType.offsetData, cookieHigh, cookieLow, 8 + length);
    memory.view.setUint32(start + CHUNK_HEADER_BYTES, offsetHigh);
    memory.view.setUint32(start + CHUNK_HEADER_BYTES + 4, offsetLow);
    this.#segment(memory, start, at + length);
  }

  simpleRead(cookieHigh: number, cookieLow: number, memory: ReplyMemory, at: number, length: number): void {
    const start = at - SIMPLE_REPLY_BYTES;
    assert(start >= 0, 'a reply leaves a gap before its bytes');
    writeSimple(memory.view, start, cookieHigh, cookieLow, 0);
    this.#segment(memory, start, at + length);
  }

  /** What is to be sent, in order; the writer is empty afterwards. */
  take(): readonly Uint8Array[] {
    this.#closeSegment();
    if (this.#to > this.#from) {
      this.#pieces.unshift(this.#control.subarray(this.#from, this.#to));
      this.#from = this.#to;
    }
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  /** Space for a small reply. Control memory is written once: the socket may hold what was sent for long. */
  #room(bytes: number): number {
    if (this.#control.length - this.#to < bytes) {
      // What is full becomes a piece as it is: one turn may refuse thousands of requests, and copying what it has so far would cost the square of that.
      if (this.#to > this.#from) this.#pieces.push(this.#control.subarray(this.#from, this.#to));
      this.#control = new Uint8Array(Math.max(CONTROL_BYTES, bytes));
      this.#view = new DataView(this.#control.buffer);
      this.#from = 0;
      this.#to = 0;
    }
    const at = this.#to;
    this.#to += bytes;
    return at;
  }

  #segment(memory: ReplyMemory, start: number, end: number): void {
    if (this.#memory === memory && this.#segmentEnd === start) {
      this.#segmentEnd = end;
      return;
    }
    this.#closeSegment();
    this.#memory = memory;
    this.#segmentStart = start;
    this.#segmentEnd = end;
  }

  #closeSegment(): void {
    if (this.#memory === null) return;
    this.#pieces.push(this.#memory.bytes.subarray(this.#segmentStart, this.#segmentEnd));
    this.#memory = null;
  }
}

function writeSimple(view: DataView, at: number, cookieHigh: number, cookieLow: number, error: number): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}

/** Every reply of ours is one chunk, so each is the last. */
function writeChunk(view: DataView, at: number, type: number, cookieHigh: number, cookieLow: number, length: number): void {
  view.setUint32(at, STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, ReplyFlag.done);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  view.setUint32(at + 16, length);
}
