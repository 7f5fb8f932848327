/** An NBD client, or a volume that is attached in this process. */
interface Device {
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;
  write(offsetBytes: number, bytes: Uint8Array): Promise<void>;
}

const BLOCK = 4096;

/** Every block says where it belongs and which generation it is of. */
function block(index: number, generation: number): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 16) {
    bytes.writeBigUInt64LE(BigInt(index), at);
    bytes.writeBigUInt64LE(BigInt(generation) * 0x9e3779b97f4a7c15n & 0xffffffffffffffffn, at + 8);
  }
  return bytes;
}

/** Overwrites blocks round and round with several requests in flight, and knows what was answered. */
export class PatternWriter {
  readonly #client: Device;
  readonly #blocks: number;
  readonly #answered: number[];
  #generation = 0;
  #stopping = false;
  #running: Promise<void>[] = [];
  #written = 0;

  constructor(client: Device, blocks: number) {
    this.#client = client;
    this.#blocks = blocks;
    this.#answered = Array.from({ length: blocks }, () => 0);
  }

  get written(): number { return this.#written; }

  start(depth: number): void {
    this.#stopping = false;
    // Each of them has blocks of its own, so that a block has one request in flight at a time.
    this.#running = Array.from({ length: depth }, (_, first) => this.#run(first, depth));
  }

  async #run(first: number, step: number): Promise<void> {
    for (let index = first; !this.#stopping; index = index + step < this.#blocks ? index + step : first) {
      const generation = ++this.#generation;
      await this.#client.write(index * BLOCK, block(index, generation));
      this.#answered[index] = generation;
      this.#written++;
    }
  }

  /** Rejects if any request failed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  /** Blocks that do not hold the newest answered generation, read through this client. */
  async wrong(client: Device = this.#client): Promise<number[]> {
    const found: number[] = [];
    for (let index = 0; index < this.#blocks; index++) {
      const wanted = this.#answered[index] as number;
      const bytes = await client.read(index * BLOCK, BLOCK);
      const right = wanted === 0 ? Buffer.alloc(BLOCK) : block(index, wanted);
      if (Buffer.compare(bytes, right) !== 0) found.push(index);
    }
    return found;
  }
}
