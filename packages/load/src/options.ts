import type { Violation } from './verifier.ts';

/** One volume under load. */
export interface LoadTarget {
  /** NBD URI. */
  readonly uri: string;
  /** Name in results, and in the blocks. */
  readonly volume: string;
}

export interface LoadOptions {
  readonly targets: readonly LoadTarget[];
  /** Share of reads among reads and writes, 0 to 100 (default 70). */
  readonly readPercent?: number;
  /** Sizes of requests: multiples of 4 KiB, drawn evenly over the doublings between them (default 4 KiB to 4 KiB). */
  readonly bytesMin?: number;
  readonly bytesMax?: number;
  /** Requests in flight for each volume (default 32). */
  readonly depth?: number;
  /** Requests a second over all volumes; latency then counts from when a request was due. 0 (default): as fast as they are answered. */
  readonly rate?: number;
  /** 0: until `stop`. */
  readonly durationMs: number;
  /** Bytes from the start of each volume that are used (default: all). */
  readonly regionBytes?: number;
  readonly connections?: number;
  /** Every so many writes one flush (default 0: none). */
  readonly flushEvery?: number;
  /** Share of writes with FUA, 0 to 100 (default 0). */
  readonly fuaPercent?: number;
  readonly sequential?: boolean;
  /** Every block carries its generation, every read is checked, and at the end all blocks are (default true). */
  readonly verify?: boolean;
  /** The volumes are new: what was not written reads as zeros (default false). */
  readonly fresh?: boolean;
  /** Write the whole region once before the load begins (default false). */
  readonly fill?: boolean;
  /** How long a lost connection is tried for (default: for ever). */
  readonly reconnectTimeoutMs?: number;
  readonly seed?: number;
  /** A run with many violations or errors keeps the first of each (default 100). */
  readonly detailsMax?: number;
  readonly onViolation?: (violation: Violation) => void;
  readonly signal?: AbortSignal;
}
