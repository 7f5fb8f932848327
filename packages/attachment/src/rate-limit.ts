import type { VolumeLimits } from '@ashlar/protocol';
import { BURST_MS } from './limits.ts';

/**
 * Token buckets for requests and bytes. A frame passes when both are not empty, and may leave them in debt: the average is exact, a frame is
 * never split, and one larger than the bucket still passes.
 */
export class RateLimit {
  readonly #requests: Bucket;
  readonly #bytes: Bucket;

  private constructor(limits: VolumeLimits, nowMs: number) {
    this.#requests = new Bucket(limits.iops, nowMs);
    this.#bytes = new Bucket(limits.bandwidthBytes, nowMs);
  }

  /** Null: no limit. */
  static of(limits: VolumeLimits, nowMs: number): RateLimit | null {
    return limits.iops > 0 || limits.bandwidthBytes > 0 ? new RateLimit(limits, nowMs) : null;
  }

  /** How long the next frame must wait; 0: not at all. */
  waitMs(nowMs: number): number {
    return Math.max(this.#requests.waitMs(nowMs), this.#bytes.waitMs(nowMs));
  }

  spend(requests: number, bytes: number): void {
    this.#requests.spend(requests);
    this.#bytes.spend(bytes);
  }
}

class Bucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  /** `perSecond` 0: no limit. */
  constructor(perSecond: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#burst = Math.max(1, this.#perMs * BURST_MS);
    this.#tokens = this.#burst;
    this.#atMs = nowMs;
  }

  waitMs(nowMs: number): number {
    if (this.#perMs === 0) return 0;
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
    return this.#tokens >= 1 ? 0 : (1 - this.#tokens) / this.#perMs;
  }

  spend(tokens: number): void {
    if (this.#perMs > 0) this.#tokens -= tokens;
  }
}
