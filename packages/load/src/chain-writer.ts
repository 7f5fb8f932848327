import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@ashlar/nbd-client';
import { BLOCK_BYTES, errorCode } from '@ashlar/words';
import { Chain } from './chain.ts';
import type { LoadTarget } from './options.ts';

export interface ChainOptions {
  readonly target: LoadTarget;
  /** Not 0; tells the records from those of earlier runs. */
  readonly run: number;
  /** Chains written side by side, each in its own part of the volume. */
  readonly lanes?: number;
  /** How long a lost connection is tried for (default: for ever). */
  readonly reconnectTimeoutMs?: number;
}

export interface ChainFindings {
  readonly records: number;
  /** Times that a whole lane was read back and followed from its newest record. */
  readonly checks: number;
  readonly checkedBytes: number;
  readonly errors: readonly string[];
  readonly flaws: readonly string[];
}

const SLOTS_MAX = 1024;
/** Coprime to the slots, so that a lane is checked at every phase of its round. */
const CHECK_EVERY = 777;
const FLUSH_EVERY = 50;
const READ_BYTES = 128 * 1024;
const ERROR_PAUSE_MS = 50;
const KEPT_MAX = 20;

/** Writes chains of dependent records until it is told to stop, and follows them back now and then. */
export class ChainWriter {
  readonly #client: NbdClient;
  readonly #lanes: readonly Chain[];
  readonly #errors: string[] = [];
  readonly #flaws: string[] = [];
  readonly #done: Promise<void>;
  #checks = 0;
  #stopping = false;

  private constructor(client: NbdClient, lanes: readonly Chain[]) {
    this.#client = client;
    this.#lanes = lanes;
    this.#done = Promise.all(lanes.map((lane, i) => this.#write(lane, i))).then(() => undefined);
  }

  static async start({ target, run, lanes = 4, reconnectTimeoutMs = Infinity }: ChainOptions): Promise<ChainWriter> {
    const client = await NbdClient.connect(target.uri, { reconnectTimeoutMs });
    const slots = Math.min(SLOTS_MAX, Math.floor(client.sizeBytes / BLOCK_BYTES / lanes));
    return new ChainWriter(client, Array.from({ length: lanes }, (_, lane) => new Chain(run, lane, slots)));
  }

  get flawCount(): number { return this.#flaws.length; }

  /** Ends the chains, follows each to its end, and disconnects. */
  async finish(): Promise<ChainFindings> {
    this.#stopping = true;
    await this.#done;
    for (const [i, lane] of this.#lanes.entries()) await this.#check(lane, i);
    await this.#client.close();
    return {
      records: this.#lanes.reduce((sum, lane) => sum + lane.length, 0), checks: this.#checks, checkedBytes: this.#checks * (this.#lanes[0]?.slots ?? 0) * BLOCK_BYTES,
      errors: this.#errors, flaws: this.#flaws,
    };
  }

  async #write(lane: Chain, index: number): Promise<void> {
    while (!this.#stopping) {
      const { slot, bytes } = lane.next();
      await this.#until(() => this.#client.write(this.#at(lane, index, slot), bytes));
      lane.answered();
      if (lane.length % FLUSH_EVERY === 0) await this.#until(() => this.#client.flush());
      if (lane.length % CHECK_EVERY === 0) await this.#check(lane, index);
    }
  }

  #at(lane: Chain, index: number, slot: number): number {
    return (index * lane.slots + slot) * BLOCK_BYTES;
  }

  /** A record that failed is there or not; its successor waits until it is. */
  async #until(request: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await request();
      } catch (error) {
        if (this.#errors.length < KEPT_MAX) this.#errors.push(errorCode(error));
        await delay(ERROR_PAUSE_MS);
      }
    }
  }

  async #check(lane: Chain, index: number): Promise<void> {
    const bytes = Buffer.alloc(lane.slots * BLOCK_BYTES);
    for (let at = 0; at < bytes.length; at += READ_BYTES) {
      await this.#until(() => this.#client.readInto(this.#at(lane, index, 0) + at, bytes.subarray(at, Math.min(at + READ_BYTES, bytes.length))));
    }
    this.#checks++;
    const flaw = lane.flaw(bytes);
    if (flaw !== null && this.#flaws.length < KEPT_MAX) this.#flaws.push(`lane ${index}: ${flaw}`);
  }
}
