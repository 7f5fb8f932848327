import { type DiskError, type DiskFile, type Pieces, worse } from '@ashlar/store';
import { EXTENT_BYTES } from '@ashlar/words';

/** One file over several disks: extent by extent in turn. */
export class StripedFile implements DiskFile {
  readonly name: string;
  readonly #files: readonly DiskFile[];

  constructor(name: string, files: readonly DiskFile[]) {
    this.name = name;
    this.#files = files;
  }

  get sizeBytes(): number {
    return this.#files.reduce((size, file, index) => {
      const last = file.sizeBytes - 1;
      return last < 0 ? size : Math.max(size, this.#logical(index, last) + 1);
    }, 0);
  }

  read(into: Uint8Array, position: number): DiskError | null {
    for (let done = 0; done < into.length;) {
      const { file, at, length } = this.#place(position + done, into.length - done);
      const error = file.read(into.subarray(done, done + length), at);
      if (error !== null) return error;
      done += length;
    }
    return null;
  }

  write(buffers: readonly Uint8Array[], position: number, essential: boolean, fresh = false): DiskError | null {
    let at = position;
    let piece: Uint8Array[] = [];
    let pieceAt = position;
    const flush = (): DiskError | null => {
      if (piece.length === 0) return null;
      const { file, at: start } = this.#place(pieceAt, 1);
      const error = file.write(piece, start, essential, fresh);
      piece = [];
      return error;
    };
    for (const buffer of buffers) {
      for (let done = 0; done < buffer.length;) {
        const { length } = this.#place(at, buffer.length - done);
        if (piece.length === 0) pieceAt = at;
        piece.push(buffer.subarray(done, done + length));
        done += length;
        at += length;
        if (at % EXTENT_BYTES !== 0) continue;
        const error = flush();
        if (error !== null) return error;
      }
    }
    return flush();
  }

  writeLater({ memory, table }: Pieces, done: (error: DiskError | null) => void): void {
    const parts = this.#files.map((): number[] => []);
    for (let k = 0; k < table.length; k += 3) {
      const bytes = table[k + 1] as number;
      for (let from = 0; from < bytes;) {
        const { index, at, length } = this.#place((table[k + 2] as number) + from, bytes - from);
        (parts[index] as number[]).push((table[k] as number) + from, length, at);
        from += length;
      }
    }
    const { one, begin } = gather(done);
    parts.forEach((part, index) => {
      if (part.length === 0) return;
      begin();
      (this.#files[index] as DiskFile).writeLater({ memory, table: part }, one);
    });
  }

  readLater(into: Uint8Array, position: number, done: (error: DiskError | null) => void): void {
    const { one, begin } = gather(done);
    for (let from = 0; from < into.length;) {
      const { file, at, length } = this.#place(position + from, into.length - from);
      begin();
      file.readLater(into.subarray(from, from + length), at, one);
      from += length;
    }
  }

  truncate(sizeBytes: number): DiskError | null {
    for (let index = 0; index < this.#files.length; index++) {
      const whole = Math.floor(sizeBytes / EXTENT_BYTES);
      const extents = Math.floor(whole / this.#files.length) + (index < whole % this.#files.length ? 1 : 0);
      const rest = whole % this.#files.length === index ? sizeBytes % EXTENT_BYTES : 0;
      const error = (this.#files[index] as DiskFile).truncate(extents * EXTENT_BYTES + rest);
      if (error !== null) return error;
    }
    return null;
  }

  sync(done: (error: DiskError | null) => void): void {
    let left = this.#files.length;
    let failed: DiskError | null = null;
    for (const file of this.#files) {
      file.sync((error) => {
        failed = worse(failed, error);
        if (--left === 0) done(failed);
      });
    }
  }

  writtenAgain(): void {
    for (const file of this.#files) file.writtenAgain();
  }

  syncNow(): DiskError | null {
    for (const file of this.#files) {
      const error = file.syncNow();
      if (error !== null) return error;
    }
    return null;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  #place(position: number, lengthMax: number): { readonly index: number; readonly file: DiskFile; readonly at: number; readonly length: number } {
    const extent = Math.floor(position / EXTENT_BYTES);
    const within = position - extent * EXTENT_BYTES;
    const index = extent % this.#files.length;
    return { index, file: this.#files[index] as DiskFile, at: Math.floor(extent / this.#files.length) * EXTENT_BYTES + within, length: Math.min(lengthMax, EXTENT_BYTES - within) };
  }

  #logical(index: number, at: number): number {
    const extent = Math.floor(at / EXTENT_BYTES);
    return (extent * this.#files.length + index) * EXTENT_BYTES + (at - extent * EXTENT_BYTES);
  }
}

/** Calls `done` once, when as many have ended as have begun. They end later than they begin, so all have begun by then. */
function gather(done: (error: DiskError | null) => void): { readonly begin: () => void; readonly one: (error: DiskError | null) => void } {
  let left = 0;
  let failed: DiskError | null = null;
  const one = (error: DiskError | null): void => {
    failed ??= error;
    left -= 1;
    if (left === 0) done(failed);
  };
  return { begin: () => { left += 1; }, one };
}
