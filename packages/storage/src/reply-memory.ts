/** Size of one piece: many replies share it, and it is freed as a whole when the last of them was sent. */
const PIECE_BYTES = 2 ** 20;

/** Memory for read replies: cut from large shared pieces, because allocating for each reply costs more than reading it from the page cache. */
export class ReplyMemory {
  #piece: Uint8Array = new Uint8Array(0);
  #used = 0;

  take(bytes: number): Uint8Array {
    if (bytes > PIECE_BYTES / 4) return new Uint8Array(bytes);
    if (this.#used + bytes > this.#piece.length) {
      this.#piece = new Uint8Array(new SharedArrayBuffer(PIECE_BYTES));
      this.#used = 0;
    }
    const taken = this.#piece.subarray(this.#used, this.#used + bytes);
    this.#used = (this.#used + bytes + 7) & ~7;
    return taken;
  }
}
