import { assert } from '@ashlar/words';

/** What a histogram says: how many values fell at or below each bound (and, last, above all of them), each counted once, and their sum. */
export interface HistogramValue {
  readonly counts: readonly number[];
  readonly sum: number;
}

/** Counts values by size. Recording allocates nothing. */
export class Histogram {
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  /** Rising. Most values should fall below the first few: they are looked through from the smallest. */
  constructor(bounds: readonly number[]) {
    assert(bounds.every((bound, i) => i === 0 || bound > (bounds[i - 1] as number)), 'bounds rise');
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Where a value belongs: for many values of one size. */
  bucket(value: number): number {
    const { bounds } = this;
    let i = 0;
    while (i < bounds.length && value > (bounds[i] as number)) i++;
    return i;
  }

  record(value: number, bucket = this.bucket(value)): void {
    (this.#counts[bucket] as number)++;
    this.#sum += value;
  }

  get count(): number { return this.#counts.reduce((sum, count) => sum + count, 0); }
  get value(): HistogramValue { return { counts: [...this.#counts], sum: this.#sum }; }
}
