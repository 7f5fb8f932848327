import type { BlockIndex } from './block-index.ts';

/** Words of an entry: the record's last sequence number (low, high), the block, and what the index had of it. */
const STRIDE = 9;
const ENTRIES_MIN = 64;
/** Blocks of 16 MiB under way. With more than that, records are cut off the slow way. */
const ENTRIES_MAX = 4096;
const HIGH = 0x100000000;

/**
 * What records that may yet be cut off have overwritten in the index. A primary that is replaced cuts what it had under way, while its successor and
 * programs wait for it: reading its journal anew took 70 ms.
 */
export class Undo {
  #words = new Uint32Array(0);
  #length = 0;
  /** The log can be cut at this sequence number, or behind it; not known yet before the first record. */
  #reach = Infinity;

  /** A record that changes these blocks is about to be taken in; those up to `committedSeq` are not cut off any more. */
  remember(index: BlockIndex, firstSeq: number, lastSeq: number, firstBlock: number, blocks: number, committedSeq: number): void {
    if (this.#reach === Infinity) this.#reach = firstSeq - 1;
    for (let k = 0; k < blocks; k++) {
      if (this.#length === this.#words.length && !this.#makeRoom(committedSeq)) {
        this.forget();
        this.#reach = lastSeq;
        return;
      }
      const words = this.#words;
      const at = this.#length;
      words[at] = lastSeq >>> 0;
      words[at + 1] = Math.floor(lastSeq / HIGH);
      words[at + 2] = firstBlock + k;
      index.save(firstBlock + k, words, at + 3);
      this.#length += STRIDE;
    }
  }

  /** Takes back what records behind this one changed. False, and nothing was changed: they are not all remembered. */
  cut(index: BlockIndex, afterSeq: number): boolean {
    if (afterSeq < this.#reach) return false;
    while (this.#length > 0 && this.#lastSeq(this.#length - STRIDE) > afterSeq) {
      this.#length -= STRIDE;
      index.restore(this.#words[this.#length + 2] as number, this.#words, this.#length + 3);
    }
    return true;
  }

  /** Gives its memory back if none of it is needed: thousands of copies are idle. */
  trim(committedSeq: number): void {
    if (this.#length === 0 || this.#lastSeq(this.#length - STRIDE) <= committedSeq) this.forget();
  }

  /** Records so far cannot be taken back from here. */
  forget(): void {
    this.#words = new Uint32Array(0);
    this.#length = 0;
    this.#reach = Infinity;
  }

  #lastSeq(at: number): number { return (this.#words[at + 1] as number) * HIGH + (this.#words[at] as number); }

  #makeRoom(committedSeq: number): boolean {
    let dropped = 0;
    for (; dropped < this.#length && this.#lastSeq(dropped) <= committedSeq; dropped += STRIDE) this.#reach = Math.max(this.#reach, this.#lastSeq(dropped));
    const left = this.#words.subarray(dropped, this.#length);
    // At the bound a little room is enough, or it would all be forgotten where most is under way.
    const isFull = this.#words.length === ENTRIES_MAX * STRIDE;
    if (isFull && left.length * 8 > this.#words.length * 7) return false;
    const wanted = Math.max(ENTRIES_MIN * STRIDE, !isFull && left.length * 2 > this.#words.length ? this.#words.length * 2 : this.#words.length);
    if (wanted === this.#words.length) this.#words.copyWithin(0, dropped, this.#length);
    else {
      this.#words = new Uint32Array(wanted);
      this.#words.set(left);
    }
    this.#length = left.length;
    return true;
  }
}
