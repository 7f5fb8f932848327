/** Memory that the copies of one thread share, so that thousands of idle ones cost next to nothing. */

/** A page that the cache may drop. */
export interface Cached {
  used: boolean;
  drop(): void;
}

/** Bounds the number of metadata pages in memory; second chance (clock) instead of a list in order of use, which would cost on every read. */
export class PageCache {
  readonly #pages: (Cached | undefined)[] = [];
  readonly #max: number;
  #hand = 0;

  constructor(max: number) {
    this.#max = max;
  }

  add(page: Cached): void {
    if (this.#pages.length < this.#max) {
      this.#pages.push(page);
      return;
    }
    for (;;) {
      const at = this.#hand;
      this.#hand = (at + 1) % this.#max;
      const candidate = this.#pages[at];
      if (candidate?.used) {
        candidate.used = false;
        continue;
      }
      candidate?.drop();
      this.#pages[at] = page;
      return;
    }
  }
}

/** Journal bytes of the one round of destaging that moves data at a time in this thread. Shared memory: the disk may read and write it from another thread. */
export class DestageBuffer {
  /** What a round should stay within; a segment with one very large record may need more. */
  readonly maxBytes: number;
  #bytes: Uint8Array | null = null;
  #owner: object | null = null;
  readonly #waiting: { readonly owner: object; readonly wake: () => void }[] = [];

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** The memory, or null while another copy has it; `wake` is then called when it is free. */
  acquire(owner: object, bytes: number, wake: () => void): Uint8Array | null {
    if (this.#owner === null || this.#owner === owner) {
      this.#owner = owner;
      if (this.#bytes === null || this.#bytes.length < bytes) this.#bytes = new Uint8Array(new SharedArrayBuffer(Math.max(bytes, this.maxBytes)));
      return this.#bytes;
    }
    if (!this.#waiting.some((waiter) => waiter.owner === owner)) this.#waiting.push({ owner, wake });
    return null;
  }

  isOwnedBy(owner: object): boolean { return this.#owner === owner; }

  release(owner: object): void {
    if (this.#owner !== owner) return;
    this.#owner = null;
    this.#waiting.shift()?.wake();
  }

  /** A copy that closes no longer waits, and what it held is free. */
  forget(owner: object): void {
    const at = this.#waiting.findIndex((waiter) => waiter.owner === owner);
    if (at >= 0) this.#waiting.splice(at, 1);
    this.release(owner);
  }
}
