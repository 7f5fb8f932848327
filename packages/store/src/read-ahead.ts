import type { DiskError, DiskFile } from './disk.ts';

/** One system call instead of one for each of some thirty records. */
const WINDOW_BYTES = 256 * 1024;
const window = new Uint8Array(WINDOW_BYTES);
/** Whose bytes are in it; 0: nobody's. */
let owner = 0;
let readers = 0;

/** What records are read from. */
export interface RecordSource {
  read(into: Uint8Array, position: number): DiskError | null;
}

/** A file that is read from one end to the other, in few large pieces, while nobody writes to it. */
export class ReadAhead implements RecordSource {
  readonly #file: DiskFile;
  readonly #id = ++readers;
  #from = 0;
  #end = 0;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  read(into: Uint8Array, position: number): DiskError | null {
    if (into.length > WINDOW_BYTES) return this.#file.read(into, position);
    if (owner !== this.#id || position < this.#from || position + into.length > this.#end) {
      owner = 0;
      const bytes = Math.min(WINDOW_BYTES, Math.max(into.length, this.#file.sizeBytes - position));
      // A place that cannot be read must not cost what lies before it.
      if (this.#file.read(window.subarray(0, bytes), position) !== null) return this.#file.read(into, position);
      owner = this.#id;
      this.#from = position;
      this.#end = position + bytes;
    }
    into.set(window.subarray(position - this.#from, position - this.#from + into.length));
    return null;
  }
}
