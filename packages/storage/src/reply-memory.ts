import { SlabPool, type PayloadLease } from '@ashlar/protocol';

/** Size of one piece: many replies share it. */
const PIECE_BYTES = 2 ** 20;

/** Memory for read replies: cut from large shared pieces, because allocating for each reply costs more than reading it from the page cache. */
export class ReplyMemory {
  readonly #pool = new SlabPool();
  #piece = this.#pool.take(PIECE_BYTES);
  #used = 0;

  /** The lease is to be released when the reply was sent; a reply that is dropped is not seen again. */
  take(bytes: number): { readonly bytes: Uint8Array; readonly lease: PayloadLease } {
    // The same, cache-warm bytes again.
    if (!this.#piece.leased) this.#used = 0;
    if (this.#used + bytes > this.#piece.bytes.length) {
      this.#piece.retire();
      this.#piece = this.#pool.take(Math.max(PIECE_BYTES, bytes));
      this.#used = 0;
    }
    const taken = this.#piece.bytes.subarray(this.#used, this.#used + bytes);
    this.#used = (this.#used + bytes + 7) & ~7;
    return { bytes: taken, lease: this.#piece.lease() };
  }
}
