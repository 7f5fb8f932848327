import type { Volume } from '@ashlar/node-manager';
import { RequestBatch } from '@ashlar/nbd';
import { Op, SlabPool, Status, type Frame, type PayloadLease } from '@ashlar/protocol';
import { assert, Prng } from '@ashlar/words';

export interface Load {
  readonly name: string;
  readonly lengthBytes: number;
  readonly depth: number;
  /** Of 100 requests. */
  readonly writes: number;
}

export const LOADS: readonly Load[] = [
  { name: '4k read, depth 1', lengthBytes: 4096, depth: 1, writes: 0 },
  { name: '4k read, depth 32', lengthBytes: 4096, depth: 32, writes: 0 },
  { name: '4k write, depth 1', lengthBytes: 4096, depth: 1, writes: 100 },
  { name: '4k write, depth 32', lengthBytes: 4096, depth: 32, writes: 100 },
  { name: '4k 70/30, depth 32', lengthBytes: 4096, depth: 32, writes: 30 },
  { name: '128k read, depth 8', lengthBytes: 131_072, depth: 8, writes: 0 },
  { name: '128k write, depth 8', lengthBytes: 131_072, depth: 8, writes: 100 },
];

/** What is read and written: small enough to stay in the page cache on both sides. */
export const WORKING_SET_BYTES = 64 * 2 ** 20;

export interface Answered { readonly answered: number; readonly ms: number }

/** The same places and the same mix on both sides. */
class Choice {
  readonly #prng: Prng;
  readonly #load: Load;

  constructor(load: Load, seed: number) {
    this.#load = load;
    this.#prng = new Prng(seed);
  }

  offset(): number { return this.#prng.below(WORKING_SET_BYTES / this.#load.lengthBytes) * this.#load.lengthBytes; }
  isWrite(): boolean { return this.#load.writes === 100 || (this.#load.writes > 0 && this.#prng.below(100) < this.#load.writes); }
}

/** As a program does it: so many loops, each awaiting one request after the other, in buffers of its own. */
export async function throughPackage(volume: Volume, load: Load, ms: number, seed: number): Promise<Answered> {
  const choice = new Choice(load, seed);
  const beganMs = performance.now();
  const endMs = beganMs + ms;
  let answered = 0;
  const loop = async (): Promise<void> => {
    const buffer = new Uint8Array(load.lengthBytes).fill(7);
    while (performance.now() < endMs) {
      const offset = choice.offset();
      if (choice.isWrite()) await volume.write(offset, buffer);
      else await volume.read(offset, buffer);
      answered++;
    }
  };
  await Promise.all(Array.from({ length: load.depth }, loop));
  return { answered, ms: performance.now() - beganMs };
}

const slabs = new SlabPool();

/**
 * Frames made by hand, given straight to the attachment: no promise, no copy. New requests go out when all answers of the turn are there, as one
 * frame: asked for in the call that brings each answer, a frame of reads and writes, which is answered as two, would fall apart into ever smaller ones.
 */
export class DirectSubmission {
  readonly #port: Volume['port'];
  readonly #batch = new RequestBatch();
  readonly #load: Load;
  readonly #choice: Choice;
  #endMs = 0;
  #unanswered = 0;
  #answered = 0;
  /** Answered and not asked for again yet. */
  #free = 0;
  #done: () => void = () => undefined;
  #failed: (error: unknown) => void = () => undefined;

  constructor(volume: Volume, load: Load, seed: number) {
    this.#port = volume.port;
    this.#load = load;
    this.#choice = new Choice(load, seed);
  }

  async run(ms: number): Promise<Answered> {
    const beganMs = performance.now();
    this.#endMs = beganMs + ms;
    await new Promise<void>((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      this.#free = this.#load.depth;
      this.#askAgain();
    });
    return { answered: this.#answered, ms: performance.now() - beganMs };
  }

  replied(reply: Frame): void {
    const { count } = reply;
    for (let k = 0; k < count; k++) if (reply.status(k) !== Status.ok) this.#failed(new Error(`a request failed with status ${reply.status(k)}`));
    reply.lease?.release();
    this.#answered += count;
    this.#unanswered -= count;
    if (performance.now() >= this.#endMs) {
      if (this.#unanswered + this.#free === 0) this.#done();
      return;
    }
    if (this.#free === 0) process.nextTick(this.#askAgain);
    this.#free += count;
  }

  readonly #askAgain = (): void => {
    const count = this.#free;
    this.#free = 0;
    this.#port.turn(() => this.#ask(count));
  };

  #ask(count: number): void {
    const attachment = this.#port.attachment();
    assert(attachment !== undefined, 'the volume is attached');
    const { lengthBytes } = this.#load;
    let at = 0;
    for (let i = 0; i < count; i++) {
      const write = this.#choice.isWrite();
      this.#batch.add(i, write ? Op.write : Op.read, 0, this.#choice.offset(), lengthBytes, at);
      if (write) at += lengthBytes;
    }
    this.#unanswered += count;
    const slab = slabs.take(Math.max(at, 1));
    const lease: PayloadLease = slab.lease();
    slab.retire();
    attachment.submit(this.#batch.toFrame(slab.bytes, true), this, lease);
  }
}
