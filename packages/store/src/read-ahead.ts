import type { DiskError, DiskFile } from './disk.ts';

/** As much as one system call reads for less than a tenth of what a call for each record costs. */
const WINDOW_BYTES = 256 * 1024;
const window = new Uint8Array(WINDOW_BYTES);
/** Whose bytes are in it. */
let owner: ReadAhead | null = null;

/** What records are read from. */
export interface RecordSource {
  read(into: Uint8Array, position: number): DiskError | null;
}

/** A file that is read from one end to the other, in few large pieces, while nobody writes to it. */
export class ReadAhead implements RecordSource {
  readonly #file: DiskFile;
  #from = 0;
  #end = 0;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  read(into: Uint8Array, position: number): DiskError | null {
    if (into.length > WINDOW_BYTES) return this.#file.read(into, position);
    if (owner !== this || position < this.#from || position + into.length > this.#end) {
      owner = null;
      const bytes = Math.min(WINDOW_BYTES, Math.max(into.length, this.#file.sizeBytes - position));
      // A place that cannot be read must not cost what lies before it.
      if (this.#file.read(window.subarray(0, bytes), position) !== null) return this.#file.read(into, position);
      owner = this;
      this.#from = position;
      this.#end = position + bytes;
    }
    into.set(window.subarray(position - this.#from, position - this.#from + into.length));
    return null;
  }
}
