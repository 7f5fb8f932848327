import { AshlarError } from '@ashlar/words';
import { Piscina } from 'piscina';
import { BULK_QUEUE_MAX } from '../limits.ts';
import type * as jobs from './bulk-main.ts';

/**
 * Threads for what keeps a processor busy for long and is in nobody's way: the checksums of scrub and rebuild. A call costs 130–220 µs,
 * so give it at least some hundred KiB. Bytes in a SharedArrayBuffer are not copied; they must not change meanwhile.
 */
export interface BulkPool {
  /** CRC-32 of each block; the last may be shorter. Rejects with `busy` when too many jobs wait, `unavailable` when its thread died. */
  checksums(bytes: Uint8Array, blockBytes: number): Promise<Uint32Array>;
  /** SHA-256. Rejects as `checksums`. */
  sha256(bytes: Uint8Array): Promise<Uint8Array>;
  /** Jobs that wait for a thread. */
  readonly waiting: number;
  /** Ends the threads; what was not done is rejected. */
  shutdown(): Promise<void>;
}

export interface BulkPoolOptions {
  /** At most; they are started when there is work, and end when there was none for a while. */
  readonly threads: number;
  readonly queueMax?: number;
}

export function createBulkPool(options: BulkPoolOptions): BulkPool {
  return new PiscinaBulkPool(options);
}

type Jobs = typeof jobs;
/** An idle thread costs some MiB; starting one some 50 ms. */
const IDLE_MS = 30_000;

class PiscinaBulkPool implements BulkPool {
  readonly #pool: Piscina;
  readonly #queueMax: number;
  #ended = false;

  constructor({ threads, queueMax = BULK_QUEUE_MAX }: BulkPoolOptions) {
    this.#queueMax = queueMax;
    this.#pool = new Piscina({ filename: new URL('./bulk-main.ts', import.meta.url).href, minThreads: 0, maxThreads: threads, idleTimeout: IDLE_MS, maxQueue: queueMax + threads });
  }

  get waiting(): number { return this.#pool.queueSize; }
  checksums(bytes: Uint8Array, blockBytes: number): Promise<Uint32Array> { return this.#run('checksums', { bytes, blockBytes }); }
  sha256(bytes: Uint8Array): Promise<Uint8Array> { return this.#run('sha256', { bytes }); }

  async #run<K extends keyof Jobs>(name: K, task: Parameters<Jobs[K]>[0]): Promise<ReturnType<Jobs[K]>> {
    if (this.#ended) throw new AshlarError('unavailable', 'the bulk pool was shut down');
    if (this.#pool.queueSize >= this.#queueMax) throw new AshlarError('busy', `${this.#queueMax} bulk jobs are waiting`, { retry: 'later' });
    try {
      return await (this.#pool.run(task, { name }) as Promise<ReturnType<Jobs[K]>>);
    } catch (error) {
      throw new AshlarError('unavailable', `the bulk job ${name} was not done`, { retry: this.#ended ? 'never' : 'later', cause: error });
    }
  }

  async shutdown(): Promise<void> {
    this.#ended = true;
    await this.#pool.destroy();
  }
}
