/** Buckets per doubling: values are told apart to within 3 %. */
const STEPS = 32;
const DOUBLINGS = 40;

export interface LatencySummary {
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

/** Latencies in microseconds, in logarithmic buckets of fixed number. */
export class Histogram {
  readonly #counts = new Float64Array(STEPS * DOUBLINGS);
  #count = 0;
  #sum = 0;
  #max = 0;

  add(latencyMs: number): void {
    const value = Math.max(1, latencyMs * 1000);
    const index = Math.min(this.#counts.length - 1, Math.floor(Math.log2(value) * STEPS));
    this.#counts[index] = (this.#counts[index] as number) + 1;
    this.#count++;
    this.#sum += latencyMs;
    if (latencyMs > this.#max) this.#max = latencyMs;
  }

  addAll(other: Histogram): void {
    other.#counts.forEach((count, i) => {
      this.#counts[i] = (this.#counts[i] as number) + count;
    });
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#max = Math.max(this.#max, other.#max);
  }

  /** What was added since `before`, a copy of this one at an earlier time. Its largest value is known only as that of all. */
  since(before: Histogram): Histogram {
    const part = new Histogram();
    this.#counts.forEach((count, i) => { part.#counts[i] = count - (before.#counts[i] as number); });
    part.#count = this.#count - before.#count;
    part.#sum = this.#sum - before.#sum;
    part.#max = this.#max;
    return part;
  }

  /** Upper end of the bucket in which the percentile lies. */
  percentileMs(percent: number): number {
    const wanted = (this.#count * percent) / 100;
    let seen = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i] as number;
      if (seen >= wanted && seen > 0) return Math.min(2 ** ((i + 1) / STEPS) / 1000, this.#max);
    }
    return this.#max;
  }

  summary(): LatencySummary {
    return {
      count: this.#count, meanMs: this.#count === 0 ? 0 : this.#sum / this.#count, maxMs: this.#max,
      p50Ms: this.percentileMs(50), p90Ms: this.percentileMs(90), p99Ms: this.percentileMs(99), p999Ms: this.percentileMs(99.9),
    };
  }
}
