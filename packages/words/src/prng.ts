import { assert } from './assert.ts';

/** xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32. Deterministic; not for secrets. */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.#a = next() ^ Math.floor(seed / 0x100000000);
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1;
  }

  /** Uniform in [0, 2^32). */
  next32(): number {
    const x = Math.imul(this.#b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** Uniform in [0, 1). */
  fraction(): number {
    return this.next32() / 0x100000000;
  }

  /** Uniform whole number in [0, bound). */
  below(bound: number): number {
    assert(bound > 0, 'below() takes a positive bound');
    return Math.floor(this.fraction() * bound);
  }

  /** Uniform whole number in [low, high], both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** An independent stream, so that drawing more numbers here does not shift the numbers there. */
  fork(): Prng {
    return new Prng(this.next32());
  }
}
