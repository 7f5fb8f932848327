import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { BLOCK_BYTES, errorCode, type Prng } from '@ashlar/words';
import { NbdClient, NbdRequestError } from '@ashlar/nbd-client';
import { Histogram } from './histogram.ts';
import type { LoadTarget } from './options.ts';
import { StallLog } from './stalls.ts';
import { Verifier, type Violation } from './verifier.ts';

/** What one volume is put under; all given. */
export interface VolumePlan {
  readonly target: LoadTarget;
  readonly readPercent: number;
  readonly blocksMin: number;
  readonly blocksMax: number;
  readonly depth: number;
  readonly regionBytes: number;
  readonly connections: number;
  readonly flushEvery: number;
  readonly fuaPercent: number;
  readonly sequential: boolean;
  readonly verify: boolean;
  readonly fresh: boolean;
  readonly reconnectTimeoutMs: number;
  readonly run: number;
  readonly prng: Prng;
  readonly detailsMax: number;
  readonly onViolation: (violation: Violation) => void;
}

export interface RequestError {
  readonly volume: string;
  readonly request: string;
  readonly code: string;
}

/** Blocks per request when the region is filled or checked. */
const SWEEP_BLOCKS = 128 * 1024 / BLOCK_BYTES;
const SWEEP_DEPTH = 16;
const ERROR_PAUSE_MS = 10;
/** Draws of a range before a turn is waited for: with most of a small region being written, none may be free. */
const DRAWS_MAX = 64;

/** Load on one volume: draws requests, sends them, checks what comes back, and keeps the figures. */
export class VolumeLoad {
  stalls = new StallLog();
  readLatency = new Histogram();
  writeLatency = new Histogram();
  flushLatency = new Histogram();
  readonly violations: Violation[] = [];
  readonly errors: RequestError[] = [];
  violationCount = 0;
  errorCount = 0;
  readBytes = 0;
  writeBytes = 0;
  reconnections = 0;
  checkedBlocks = 0;
  readonly #plan: VolumePlan;
  readonly #clients: NbdClient[];
  readonly #blocks: number;
  readonly #verifier: Verifier | null;
  readonly #sample: Buffer;
  readonly #memory = new Map<number, Buffer[]>();
  #next = 0;
  #writes = 0;
  #turn = 0;

  static async open(plan: VolumePlan): Promise<VolumeLoad> {
    const clients: NbdClient[] = [];
    for (let i = 0; i < plan.connections; i++) clients.push(await NbdClient.connect(plan.target.uri, { reconnectTimeoutMs: plan.reconnectTimeoutMs }));
    return new VolumeLoad(plan, clients);
  }

  private constructor(plan: VolumePlan, clients: NbdClient[]) {
    this.#plan = plan;
    this.#clients = clients;
    const sizeBytes = (clients[0] as NbdClient).sizeBytes;
    this.#blocks = Math.floor((plan.regionBytes === 0 ? sizeBytes : Math.min(sizeBytes, plan.regionBytes)) / BLOCK_BYTES);
    this.#verifier = plan.verify ? new Verifier({ volume: plan.target.volume, blocks: this.#blocks, run: plan.run, fresh: plan.fresh }) : null;
    this.#sample = Buffer.alloc(plan.blocksMax * BLOCK_BYTES, 0xa7);
  }

  /** Carries out one request that was due at `dueMs`. Never rejects: what goes wrong is counted. */
  async one(dueMs: number): Promise<void> {
    const { plan } = this;
    const { prng } = plan;
    if (plan.flushEvery > 0 && this.#writes >= plan.flushEvery) {
      this.#writes = 0;
      return this.#timed('flush', dueMs, this.flushLatency, () => this.#client().flush());
    }
    const reads = prng.below(100) < plan.readPercent;
    let range = this.#draw();
    while (range === null) {
      await nextTurn();
      range = this.#draw();
    }
    return reads ? this.#read(range.block, range.count, dueMs) : this.#write(range.block, range.count, dueMs, prng.below(100) < plan.fuaPercent);
  }

  get plan(): VolumePlan {
    return this.#plan;
  }

  /** Nothing is in flight; figures start from here. Findings stay. */
  resetFigures(): void {
    this.stalls = new StallLog();
    this.readLatency = new Histogram();
    this.writeLatency = new Histogram();
    this.flushLatency = new Histogram();
    this.readBytes = 0;
    this.writeBytes = 0;
  }

  /** Writes every block of the region once. */
  async fill(): Promise<void> {
    await this.#sweep((block, count) => this.#write(block, count, performance.now(), false));
  }

  /** Reads and checks every block of the region. */
  async check(): Promise<void> {
    await this.#sweep((block, count) => this.#read(block, count, performance.now()));
  }

  async close(): Promise<void> {
    this.reconnections = this.#clients.reduce((sum, client) => sum + client.reconnections, 0);
    for (const client of this.#clients) {
      if (client.connected) await client.close();
      else client.destroy();
    }
  }

  async #sweep(visit: (block: number, count: number) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < this.#blocks) {
        const block = next;
        next += SWEEP_BLOCKS;
        await visit(block, Math.min(SWEEP_BLOCKS, this.#blocks - block));
      }
    };
    await Promise.all(Array.from({ length: SWEEP_DEPTH }, worker));
  }

  /**
   * A range without a write in flight: the order of two would be anyone's choice, and a read of one might see half of it. Null if none was
   * found: look again when something has been answered. To be used before anything is waited for.
   */
  #draw(): { readonly block: number; readonly count: number } | null {
    for (let draws = 0; draws < DRAWS_MAX; draws++) {
      const count = this.#count();
      const block = this.#place(count);
      if (!this.#verifier?.isWriting(block, count)) return { block, count };
    }
    return null;
  }

  #count(): number {
    const { blocksMin, blocksMax, prng } = this.#plan;
    if (blocksMin === blocksMax) return Math.min(blocksMin, this.#blocks);
    const low = Math.log2(blocksMin);
    const count = Math.round(2 ** (low + prng.fraction() * (Math.log2(blocksMax + 0.49) - low)));
    return Math.min(Math.max(blocksMin, Math.min(blocksMax, count)), this.#blocks);
  }

  #place(count: number): number {
    if (!this.#plan.sequential) return this.#plan.prng.below(this.#blocks - count + 1);
    if (this.#next + count > this.#blocks) this.#next = 0;
    const block = this.#next;
    this.#next += count;
    return block;
  }

  #client(): NbdClient {
    return this.#clients[this.#turn++ % this.#clients.length] as NbdClient;
  }

  #read(block: number, count: number, dueMs: number): Promise<void> {
    const ticket = this.#verifier?.beginRead(block, count);
    return this.#timed('read', dueMs, this.readLatency, async () => {
      const bytes = this.#take(count);
      await this.#client().readInto(block * BLOCK_BYTES, bytes);
      this.readBytes += bytes.length;
      this.checkedBlocks += count;
      if (ticket) this.#violated(this.#verifier?.endRead(ticket, bytes) ?? []);
      this.#give(bytes);
    });
  }

  async #write(block: number, count: number, dueMs: number, fua: boolean): Promise<void> {
    const ticket = this.#verifier?.beginWrite(block, count, this.#take(count));
    let answered = false;
    this.#writes++;
    await this.#timed('write', dueMs, this.writeLatency, async () => {
      await this.#client().write(block * BLOCK_BYTES, ticket?.bytes ?? this.#sample.subarray(0, count * BLOCK_BYTES), { fua });
      answered = true;
      this.writeBytes += count * BLOCK_BYTES;
    });
    if (!ticket) return;
    this.#verifier?.endWrite(ticket, answered);
    // What failed may still be on its way to a socket.
    if (answered) this.#give(ticket.bytes);
  }

  /** Memory of so many blocks; used again, so that collecting garbage does not look like a stall of the volume. */
  #take(count: number): Buffer {
    return this.#memory.get(count)?.pop() ?? Buffer.allocUnsafeSlow(count * BLOCK_BYTES);
  }

  #give(bytes: Buffer): void {
    const count = bytes.length / BLOCK_BYTES;
    const free = this.#memory.get(count);
    if (free) free.push(bytes);
    else this.#memory.set(count, [bytes]);
  }

  async #timed(request: string, dueMs: number, latency: Histogram, carryOut: () => Promise<void>): Promise<void> {
    this.stalls.began(performance.now());
    try {
      await carryOut();
      latency.add(performance.now() - dueMs);
    } catch (error) {
      this.errorCount++;
      const code = error instanceof NbdRequestError ? error.errno : errorCode(error);
      if (this.errors.length < this.#plan.detailsMax) this.errors.push({ volume: this.#plan.target.volume, request, code });
      // A device that fails everything at once is not asked without a pause.
      await delay(ERROR_PAUSE_MS);
    } finally {
      this.stalls.ended(performance.now());
    }
  }

  #violated(violations: readonly Violation[]): void {
    for (const violation of violations) {
      this.violationCount++;
      if (this.violations.length < this.#plan.detailsMax) this.violations.push(violation);
      this.#plan.onViolation(violation);
    }
  }
}
