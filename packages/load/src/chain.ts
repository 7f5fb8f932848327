import { BLOCK_BYTES, checksum } from '@ashlar/words';

/**
 * A chain of records, each written only after its predecessor was answered, round and round in blocks of its own. It sees what the
 * verifier of single blocks cannot: that of two writes, one after the other, only the later is there.
 *   0 magic u32 | 4 checksum of bytes 8..4096 u32 | 8 run u32 | 12 lane u32 | 16 number u64 | 24 checksum of the predecessor u32 | 28 filling
 */
const MAGIC = 0x4e484341; // "ACHN"
const FILLING_AT = 28;

export interface ChainRecord {
  readonly number: number;
  readonly sum: number;
  readonly previousSum: number;
}

export class Chain {
  readonly slots: number;
  readonly #run: number;
  readonly #lane: number;
  /** Of the last record that was made. */
  #number = 0;
  #sum = 0;
  /** The last that was answered. */
  #answered = 0;

  /** `run` tells it from the records of earlier runs; not 0. */
  constructor(run: number, lane: number, slots: number) {
    this.#run = run;
    this.#lane = lane;
    this.slots = slots;
  }

  get length(): number { return this.#answered; }

  /** Makes the next record; to be written to its slot until that is answered. */
  next(): { readonly slot: number; readonly bytes: Buffer } {
    const bytes = Buffer.alloc(BLOCK_BYTES);
    const number = ++this.#number;
    bytes.fill(number & 0xff, FILLING_AT);
    bytes.writeUInt32LE(MAGIC, 0);
    bytes.writeUInt32LE(this.#run, 8);
    bytes.writeUInt32LE(this.#lane, 12);
    bytes.writeBigUInt64LE(BigInt(number), 16);
    bytes.writeUInt32LE(this.#sum, 24);
    this.#sum = checksum(bytes.subarray(8));
    bytes.writeUInt32LE(this.#sum, 4);
    return { slot: number % this.slots, bytes };
  }

  answered(): void { this.#answered = this.#number; }

  /**
   * What is wrong with the lane as it was read while nothing was written to it; null if it is a chain without a gap, from as far back as
   * there is room up to the last record answered, or the one after it.
   */
  flaw(bytes: Buffer): string | null {
    const found: (ChainRecord | null)[] = [];
    for (let slot = 0; slot < this.slots; slot++) {
      const content = this.#decode(bytes.subarray(slot * BLOCK_BYTES, (slot + 1) * BLOCK_BYTES));
      if (typeof content === 'string') return `slot ${slot} holds ${content}`;
      if (content !== null && content.number % this.slots !== slot) return `slot ${slot} holds record ${content.number}`;
      found.push(content);
    }
    const newest = Math.max(0, ...found.map((record) => record?.number ?? 0));
    if (newest < this.#answered || newest > this.#number) return `the newest record is ${newest}; ${this.#answered} was answered and ${this.#number} was sent`;
    for (let number = newest; number > Math.max(0, newest - this.slots); number--) {
      const record = found[number % this.slots] ?? null;
      if (record?.number !== number) return `record ${newest} is there, and in the place of record ${number} is ${record === null ? 'nothing' : `record ${record.number}`}`;
      const before = number - 1 > Math.max(0, newest - this.slots) ? (found[(number - 1) % this.slots] ?? null) : null;
      if (before !== null && before.number === number - 1 && before.sum !== record.previousSum) return `record ${number} was made after another record ${number - 1} than the one that is there`;
    }
    return null;
  }

  #decode(block: Buffer): ChainRecord | string | null {
    if (block.readUInt32LE(0) !== MAGIC) return block.every((byte) => byte === 0) ? null : 'garbage';
    const sum = block.readUInt32LE(4);
    if (sum !== checksum(block.subarray(8))) return 'a damaged record';
    if (block.readUInt32LE(8) !== this.#run) return 'a record of another run';
    if (block.readUInt32LE(12) !== this.#lane) return 'a record of another lane';
    return { number: Number(block.readBigUInt64LE(16)), sum, previousSum: block.readUInt32LE(24) };
  }
}
