import { assert } from '@ashlar/words';

/** The unanswered requests of one connection, by tag: what the answer's header needs. No allocation per request. */
export class Slots {
  #cookieHigh = new Uint32Array(64);
  #cookieLow = new Uint32Array(64);
  #offsetHigh = new Uint32Array(64);
  #offsetLow = new Uint32Array(64);
  #length = new Uint32Array(64);
  /** Op, and REQ_ONE above it; 0: free. */
  #kind = new Uint16Array(64);
  readonly #free: number[] = [];
  #next = 0;
  #used = 0;

  get used(): number {
    return this.#used;
  }

  /** A tag, free until `release`. */
  take(kind: number, cookieHigh: number, cookieLow: number, offsetHigh: number, offsetLow: number, length: number): number {
    assert(kind > 0, 'a slot in use has a kind');
    const tag = this.#free.pop() ?? this.#next++;
    if (tag === this.#kind.length) this.#double();
    this.#cookieHigh[tag] = cookieHigh;
    this.#cookieLow[tag] = cookieLow;
    this.#offsetHigh[tag] = offsetHigh;
    this.#offsetLow[tag] = offsetLow;
    this.#length[tag] = length;
    this.#kind[tag] = kind;
    this.#used++;
    return tag;
  }

  release(tag: number): void {
    assert(this.kind(tag) > 0, 'a request is answered once');
    this.#kind[tag] = 0;
    this.#free.push(tag);
    this.#used--;
  }

  /** 0 if no such request is unanswered. */
  kind(tag: number): number { return this.#kind[tag] ?? 0; }
  cookieHigh(tag: number): number { return this.#cookieHigh[tag] as number; }
  cookieLow(tag: number): number { return this.#cookieLow[tag] as number; }
  offsetHigh(tag: number): number { return this.#offsetHigh[tag] as number; }
  offsetLow(tag: number): number { return this.#offsetLow[tag] as number; }
  length(tag: number): number { return this.#length[tag] as number; }

  #double(): void {
    this.#cookieHigh = doubled(this.#cookieHigh);
    this.#cookieLow = doubled(this.#cookieLow);
    this.#offsetHigh = doubled(this.#offsetHigh);
    this.#offsetLow = doubled(this.#offsetLow);
    this.#length = doubled(this.#length);
    const kinds = new Uint16Array(this.#kind.length * 2);
    kinds.set(this.#kind);
    this.#kind = kinds;
  }
}

function doubled(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
