/** What was taken is kept in the array up to here, so that what is behind is not moved for each. */
const TAKEN_KEPT_MAX = 1024;

/** A queue whose taking does not move what is behind. One that never runs empty (requests held back by a rate limit) stays as large as what is in it. */
export class Fifo<T> {
  #items: T[];
  #head = 0;

  constructor(items: T[] = []) {
    this.#items = items;
  }

  get length(): number { return this.#items.length - this.#head; }
  get first(): T | undefined { return this.#items[this.#head]; }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head];
    if (++this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
    } else if (this.#head >= TAKEN_KEPT_MAX && this.#head * 2 >= this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i];
  }
}
