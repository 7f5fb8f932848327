import { assert, BLOCK_BYTES } from '@ashlar/words';
import { type BlockContent, type BlockStamp, decodeBlock, encodeBlock, volumeStamp } from './block.ts';

/** A block that does not hold what it must. */
export interface Violation {
  readonly volume: string;
  readonly block: number;
  /** The oldest generation that may be there: the newest that was answered, or seen. */
  readonly expectedMin: number;
  /** The newest that was sent. */
  readonly expectedMax: number;
  readonly found: string;
}

export interface WriteTicket {
  readonly block: number;
  readonly generations: Uint32Array;
  /** What is to be written. */
  readonly bytes: Buffer;
}

export interface ReadTicket {
  readonly block: number;
  readonly floors: Uint32Array;
  readonly issued: Uint32Array;
}

export interface VerifierOptions {
  /** Any name that tells this volume from others under test. */
  readonly volume: string;
  readonly blocks: number;
  /** Tells this run's blocks from those of earlier ones; not 0. */
  readonly run: number;
  /** True: what was not written in this run is zeros. False: it may hold anything but this run's blocks. */
  readonly fresh: boolean;
}

/**
 * Knows of every block the newest generation that was answered (or read back) and the newest that was sent. A read that finds
 * an older one than the first, a newer one than the second, another block or garbage is a violation. Writes of one block
 * do not overlap in time: their order would be anyone's choice.
 */
export class Verifier {
  readonly blocks: number;
  readonly #volume: string;
  readonly #stamp: BlockStamp;
  readonly #fresh: boolean;
  readonly #floor: Uint32Array;
  readonly #issued: Uint32Array;
  readonly #writing: Uint8Array;

  constructor(options: VerifierOptions) {
    this.blocks = options.blocks;
    this.#volume = options.volume;
    this.#stamp = { run: options.run, volume: volumeStamp(options.volume) };
    this.#fresh = options.fresh;
    this.#floor = new Uint32Array(options.blocks);
    this.#issued = new Uint32Array(options.blocks);
    this.#writing = new Uint8Array(options.blocks);
  }

  /** True if one of the blocks has a write in flight. */
  isWriting(block: number, count: number): boolean {
    for (let i = block; i < block + count; i++) if (this.#writing[i]) return true;
    return false;
  }

  /** The next generation of these blocks, in memory that is given or new. */
  beginWrite(block: number, count: number, bytes: Buffer = Buffer.allocUnsafeSlow(count * BLOCK_BYTES)): WriteTicket {
    assert(!this.isWriting(block, count), 'one write of a block at a time');
    assert(bytes.length === count * BLOCK_BYTES, 'memory for as many blocks');
    const generations = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const generation = (this.#issued[block + i] as number) + 1;
      this.#issued[block + i] = generation;
      generations[i] = generation;
      this.#writing[block + i] = 1;
      encodeBlock(this.#stamp, block + i, generation, bytes, i * BLOCK_BYTES);
    }
    return { block, generations, bytes };
  }

  /** Answered: from now on nothing older may be read. Failed: the blocks hold either the old or the new. */
  endWrite(ticket: WriteTicket, answered: boolean): void {
    ticket.generations.forEach((generation, i) => {
      const block = ticket.block + i;
      this.#writing[block] = 0;
      if (answered) this.#raise(block, generation);
    });
  }

  beginRead(block: number, count: number): ReadTicket {
    return { block, floors: this.#floor.slice(block, block + count), issued: this.#issued.slice(block, block + count) };
  }

  /** What was read, against what was known when the read began. */
  endRead(ticket: ReadTicket, bytes: Uint8Array): readonly Violation[] {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const violations: Violation[] = [];
    ticket.floors.forEach((floor, i) => {
      const block = ticket.block + i;
      const content = decodeBlock(this.#stamp, buffer, i * BLOCK_BYTES);
      const wrong = this.#wrong(content, block, floor, ticket.issued[i] as number);
      if (wrong !== null) violations.push({ volume: this.#volume, block, expectedMin: floor, expectedMax: this.#issued[block] as number, found: wrong });
      else if (content.kind === 'written' && content.run === this.#stamp.run) this.#raise(block, content.generation);
    });
    return violations;
  }

  #wrong(content: BlockContent, block: number, floor: number, issuedAtStart: number): string | null {
    switch (content.kind) {
      case 'zeros':
        return floor === 0 ? null : 'zeros';
      case 'garbage':
        // A write that was in flight during the read may be seen half done: NBD promises no more.
        if (this.#issued[block] !== issuedAtStart || this.#writing[block]) return null;
        // An earlier write that failed may have left the same, but then the block's new content is whole or absent in our volumes.
        return floor === 0 && !this.#fresh && issuedAtStart === 0 ? null : 'garbage';
      case 'written': {
        const { generation } = content;
        if (content.run !== this.#stamp.run) return floor === 0 && !this.#fresh ? null : `generation ${generation} of another run`;
        if (content.foreign) return `generation ${generation} of another volume`;
        if (content.block !== block) return `generation ${generation} of block ${content.block}`;
        return generation >= floor && generation <= (this.#issued[block] as number) ? null : `generation ${generation}`;
      }
    }
  }

  #raise(block: number, generation: number): void {
    if ((this.#floor[block] as number) < generation) this.#floor[block] = generation;
  }
}
