import { randomBytes } from 'node:crypto';
import { Histogram } from '@ashlar/load';
import { NbdClient } from '@ashlar/nbd-client';
import type { LoadFigures } from './fio.ts';
import type { Workload } from './workloads.ts';

const BLOCK = 4096;
/** In flight over all devices. */
const DEPTH = 32;
const OVERWRITE_BYTES = 128 * 1024;
const OVERWRITE_AT_ONCE = 8;

/**
 * One load over many devices: so many requests in flight in all, each to a device and a block of its own choice. fio would take a
 * process for each device. Its own processor time is in the way of the servers', with one device as with a thousand.
 */
export class ManyLoad {
  readonly #clients: readonly NbdClient[];
  readonly #sizeBytes: number;

  private constructor(clients: readonly NbdClient[], sizeBytes: number) {
    this.#clients = clients;
    this.#sizeBytes = sizeBytes;
  }

  /** `sizeBytes`: of each device. */
  static async connect(uris: readonly string[], sizeBytes: number): Promise<ManyLoad> {
    const clients: NbdClient[] = [];
    for (const uri of uris) clients.push(await NbdClient.connect(uri));
    return new ManyLoad(clients, sizeBytes);
  }

  async overwrite(times: number): Promise<void> {
    const bytes = randomBytes(OVERWRITE_BYTES);
    for (let i = 0; i < times; i++) {
      for (const client of this.#clients) {
        let at = 0;
        const write = async (): Promise<void> => {
          while (at < this.#sizeBytes) {
            const from = at;
            at += OVERWRITE_BYTES;
            await client.write(from, bytes.subarray(0, Math.min(OVERWRITE_BYTES, this.#sizeBytes - from)));
          }
        };
        await Promise.all(Array.from({ length: OVERWRITE_AT_ONCE }, write));
      }
      for (const client of this.#clients) await client.flush();
    }
  }

  async run(workload: Workload, seconds: number): Promise<LoadFigures> {
    const { sharedReadPercent } = workload;
    if (sharedReadPercent === null) throw new RangeError(`${workload.name} is not one of the loads that many volumes can share`);
    const latency = new Histogram();
    const cpuBefore = process.cpuUsage();
    const fromMs = performance.now();
    const untilMs = fromMs + seconds * 1000;
    await Promise.all(Array.from({ length: DEPTH }, () => this.#lane(sharedReadPercent, untilMs, latency)));
    const lasted = (performance.now() - fromMs) / 1000;
    const { user, system } = process.cpuUsage(cpuBefore);
    const { count, p50Ms, p99Ms, maxMs } = latency.summary();
    return {
      requests: count, seconds: lasted, requestsPerSecond: count / lasted, bytesPerSecond: (count * BLOCK) / lasted,
      p50Us: p50Ms * 1000, p99Us: p99Ms * 1000, maxUs: maxMs * 1000, cpuSeconds: (user + system) / 1e6,
    };
  }

  /** One request at a time, each to any block of any device. */
  async #lane(readPercent: number, untilMs: number, latency: Histogram): Promise<void> {
    const bytes = randomBytes(BLOCK);
    const blocks = this.#sizeBytes / BLOCK;
    for (let nowMs = performance.now(); nowMs < untilMs;) {
      const client = this.#clients[Math.floor(Math.random() * this.#clients.length)] as NbdClient;
      const at = Math.floor(Math.random() * blocks) * BLOCK;
      await (Math.random() * 100 < readPercent ? client.readInto(at, bytes) : client.write(at, bytes));
      const doneMs = performance.now();
      latency.add(doneMs - nowMs);
      nowMs = doneMs;
    }
  }

  async close(): Promise<void> {
    for (const client of this.#clients) await client.close();
  }
}
