import { setTimeout as delay } from 'node:timers/promises';
import { AshlarError, BLOCK_BYTES, Prng, VOLUME_BYTES_MAX } from '@ashlar/words';
import { Histogram, type LatencySummary } from './histogram.ts';
import type { LoadOptions } from './options.ts';
import type { Stall } from './stalls.ts';
import type { Violation } from './verifier.ts';
import { type RequestError, VolumeLoad } from './volume-load.ts';

/** What the load did, and how it was answered. */
interface Figures {
  readonly seed: number;
  readonly volumes: number;
  /** Of the load itself, without filling and final check. */
  readonly seconds: number;
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  readonly read: LatencySummary;
  readonly write: LatencySummary;
  readonly flush: LatencySummary;
  /** Longest time in which a volume answered nothing while requests were in flight. */
  readonly longestStallMs: number;
  readonly longestStalls: readonly (Stall & { readonly volume: string })[];
}

/** What was wrong; the final check of every block included. */
interface Findings {
  readonly reconnections: number;
  readonly verified: boolean;
  readonly checkedBlocks: number;
  readonly violationCount: number;
  readonly violations: readonly Violation[];
  readonly errorCount: number;
  readonly errors: readonly RequestError[];
}

export interface LoadResult extends Figures, Findings {}

const STALLS_SHOWN = 20;
/** At a high rate, requests that are due are sent in groups: timers have a grain of a millisecond. */
const RATE_TICK_MS = 1;

/** A load that runs until its time is over or it is stopped. */
export class Load {
  readonly #options: LoadOptions;
  readonly #volumes: readonly VolumeLoad[];
  readonly #seed: number;
  readonly #stop = new AbortController();
  #startedMs = 0;
  #endedMs = 0;
  #done: Promise<void> | null = null;

  /** Connects to every target, and fills the volumes if that is asked for. */
  static async open(options: LoadOptions): Promise<Load> {
    const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
    const prng = new Prng(seed);
    const plan = checkedPlan(options);
    const run = (prng.next32() | 1) >>> 0;
    const volumes: VolumeLoad[] = [];
    for (const target of options.targets) volumes.push(await VolumeLoad.open({ ...plan, target, run, prng: prng.fork() }));
    if (options.fill) {
      for (const volume of volumes) {
        await volume.fill();
        volume.resetFigures();
      }
    }
    return new Load(options, volumes, seed);
  }

  private constructor(options: LoadOptions, volumes: readonly VolumeLoad[], seed: number) {
    this.#options = options;
    this.#volumes = volumes;
    this.#seed = seed;
  }

  start(): void {
    if (this.#done) throw new AshlarError('invalid-argument', 'the load runs already');
    this.#startedMs = performance.now();
    const { rate = 0, durationMs, signal } = this.#options;
    const deadlineMs = durationMs === 0 ? Infinity : this.#startedMs + durationMs;
    if (signal?.aborted) this.#stop.abort();
    signal?.addEventListener('abort', () => this.#stop.abort(), { once: true });
    const over = (): boolean => this.#stop.signal.aborted || performance.now() >= deadlineMs;
    this.#done = (rate > 0 ? this.#paced(rate, over) : this.#closed(over)).then(() => {
      this.#endedMs = performance.now();
    });
  }

  /** No new requests; those in flight are waited for by `finish`. */
  stop(): void {
    this.#stop.abort();
  }

  /** Longest time in which a volume answered nothing while requests were in flight, within a stretch of performance.now() time. */
  longestStallMsBetween(fromMs: number, toMs: number): number {
    return Math.max(0, ...this.#volumes.map(({ stalls }) => stalls.longestBetween(fromMs, toMs)));
  }

  /** Requests that have been sent and not answered. */
  get inFlight(): number {
    return this.#volumes.reduce((sum, { stalls }) => sum + stalls.inFlight, 0);
  }

  get violationCount(): number {
    return this.#volumes.reduce((sum, volume) => sum + volume.violationCount, 0);
  }

  get errorCount(): number {
    return this.#volumes.reduce((sum, volume) => sum + volume.errorCount, 0);
  }

  /** Of everything that was answered so far; two of them tell what happened in between (`Histogram.since`). */
  latencies(): { readonly read: Histogram; readonly write: Histogram } {
    const all = { read: new Histogram(), write: new Histogram() };
    for (const { readLatency, writeLatency } of this.#volumes) {
      all.read.addAll(readLatency);
      all.write.addAll(writeLatency);
    }
    return all;
  }

  /** Waits for the end of the load, checks every block, disconnects. */
  async finish(): Promise<LoadResult> {
    await this.#done;
    const figures = this.#figures();
    if (this.#options.verify !== false) for (const volume of this.#volumes) await volume.check();
    await Promise.all(this.#volumes.map((volume) => volume.close()));
    return { ...figures, ...this.#findings() };
  }

  /** Closed loop: each answer makes room for the next request. */
  async #closed(over: () => boolean): Promise<void> {
    const worker = async (volume: VolumeLoad): Promise<void> => {
      while (!over()) await volume.one(performance.now());
    };
    await Promise.all(this.#volumes.flatMap((volume) => Array.from({ length: volume.plan.depth }, () => worker(volume))));
  }

  /** Open loop: requests are due at fixed times, whether earlier ones are answered or not; a stall is then seen by all that were due in it. */
  async #paced(rate: number, over: () => boolean): Promise<void> {
    const running = new Set<Promise<void>>();
    // What is late is only counted, however much it is: requests are due in turns, so each one's time follows from its number.
    const queues = this.#volumes.map(() => ({ inFlight: 0, due: 0, sent: 0 }));
    const fromMs = performance.now();
    const dueMs = (number: number): number => fromMs + (1000 * number) / rate;
    let number = 0;
    const startMore = (k: number): void => {
      const queue = queues[k] as (typeof queues)[number];
      const volume = this.#volumes[k] as VolumeLoad;
      while (queue.inFlight < volume.plan.depth && queue.sent < queue.due && !over()) {
        queue.inFlight++;
        const request = volume.one(dueMs(queue.sent++ * queues.length + k)).then(() => {
          running.delete(request);
          queue.inFlight--;
          startMore(k);
        });
        running.add(request);
      }
    };
    while (!over()) {
      for (const nowMs = performance.now(); dueMs(number) <= nowMs; number++) {
        const k = number % queues.length;
        (queues[k] as (typeof queues)[number]).due++;
        startMore(k);
      }
      await delay(RATE_TICK_MS);
    }
    while (running.size > 0) await Promise.all(running);
  }

  #figures(): Figures {
    const read = new Histogram();
    const write = new Histogram();
    const flush = new Histogram();
    let readBytes = 0;
    let writeBytes = 0;
    for (const volume of this.#volumes) {
      read.addAll(volume.readLatency);
      write.addAll(volume.writeLatency);
      flush.addAll(volume.flushLatency);
      readBytes += volume.readBytes;
      writeBytes += volume.writeBytes;
    }
    const seconds = (this.#endedMs - this.#startedMs) / 1000;
    const requests = read.summary().count + write.summary().count + flush.summary().count;
    const stalls = this.#volumes.flatMap((volume) => volume.stalls.stalls.map((stall) => ({ ...stall, volume: volume.plan.target.volume })));
    return {
      seed: this.#seed, volumes: this.#volumes.length, seconds, requests, requestsPerSecond: requests / seconds,
      readBytesPerSecond: readBytes / seconds, writeBytesPerSecond: writeBytes / seconds,
      read: read.summary(), write: write.summary(), flush: flush.summary(),
      longestStallMs: Math.max(0, ...this.#volumes.map((volume) => volume.stalls.longestMs)),
      longestStalls: stalls.sort((a, b) => b.lengthMs - a.lengthMs).slice(0, STALLS_SHOWN),
    };
  }

  #findings(): Findings {
    const sum = (of: (volume: VolumeLoad) => number): number => this.#volumes.reduce((total, volume) => total + of(volume), 0);
    return {
      reconnections: sum((volume) => volume.reconnections), verified: this.#options.verify !== false, checkedBlocks: sum((volume) => volume.checkedBlocks),
      violationCount: this.violationCount, violations: this.#volumes.flatMap((volume) => volume.violations),
      errorCount: this.errorCount, errors: this.#volumes.flatMap((volume) => volume.errors),
    };
  }
}

/** Runs a load from beginning to end: what `ashlar load` does. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const load = await Load.open(options);
  load.start();
  return load.finish();
}

type Plan = Omit<VolumeLoad['plan'], 'target' | 'run' | 'prng'>;

function checkedPlan(options: LoadOptions): Plan {
  const { bytesMin = BLOCK_BYTES, readPercent = 70, depth = 32, connections = 1, fuaPercent = 0, flushEvery = 0, regionBytes = 0 } = options;
  const bytesMax = options.bytesMax ?? bytesMin;
  const bad = (what: string): never => {
    throw new AshlarError('invalid-argument', what);
  };
  if (options.targets.length === 0) bad('a load needs a volume');
  if (bytesMin < BLOCK_BYTES || bytesMin % BLOCK_BYTES !== 0 || bytesMax % BLOCK_BYTES !== 0 || bytesMax < bytesMin) bad('sizes are multiples of 4 KiB, from the smaller to the larger');
  if (!(readPercent >= 0 && readPercent <= 100 && fuaPercent >= 0 && fuaPercent <= 100)) bad('shares are from 0 to 100');
  if (!(Number.isInteger(depth) && depth > 0 && Number.isInteger(connections) && connections > 0)) bad('depth and connections are whole numbers above 0');
  if (!(regionBytes >= 0 && regionBytes <= VOLUME_BYTES_MAX) || (regionBytes !== 0 && regionBytes < bytesMax)) bad('the region is at least as large as a request');
  return {
    readPercent, depth, connections, fuaPercent, flushEvery, regionBytes, blocksMin: bytesMin / BLOCK_BYTES, blocksMax: bytesMax / BLOCK_BYTES,
    sequential: options.sequential ?? false, verify: options.verify ?? true, fresh: options.fresh ?? false,
    reconnectTimeoutMs: options.reconnectTimeoutMs ?? Infinity, detailsMax: options.detailsMax ?? 100,
    onViolation: options.onViolation ?? (() => undefined),
  };
}
