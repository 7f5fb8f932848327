/** Pairs of a place and a segment's serial number, first in, first out; eight bytes each, because thousands of copies may have thousands of them. */
export class PlaceQueue {
  #pairs: Uint32Array;
  #from = 0;
  #end: number;

  /** `pairs`: what is in it to begin with, from now on its own. */
  constructor(pairs: Uint32Array = new Uint32Array(0)) {
    this.#pairs = pairs;
    this.#end = pairs.length / 2;
  }

  get length(): number { return this.#end - this.#from; }
  /** The k-th from the front. */
  place(k: number): number { return this.#pairs[2 * (this.#from + k)] as number; }
  serial(k: number): number { return this.#pairs[2 * (this.#from + k) + 1] as number; }

  push(place: number, serial: number): void {
    if (2 * this.#end === this.#pairs.length) {
      const pairs = new Uint32Array(Math.max(32, 4 * this.length));
      pairs.set(this.#pairs.subarray(2 * this.#from, 2 * this.#end));
      this.#end = this.length;
      this.#from = 0;
      this.#pairs = pairs;
    }
    this.#pairs[2 * this.#end] = place;
    this.#pairs[2 * this.#end + 1] = serial;
    this.#end += 1;
  }

  /** Takes the first away. */
  shift(): void {
    this.#from += 1;
  }

  copy(): PlaceQueue {
    return new PlaceQueue(this.#pairs.slice(2 * this.#from, 2 * this.#end));
  }
}
