import { Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { BlockIndex } from './block-index.ts';
import { Undo } from './undo.ts';

const BLOCKS = 300;
const SEGMENT_SEQS = 50;

/** An index with the records that went into it, and what it looked like after each that may be cut off. */
class Written {
  readonly index = new BlockIndex();
  readonly undo = new Undo();
  readonly #prng: Prng;
  readonly #origin: number;
  /** By the last sequence number of a record: what the index had then. */
  readonly #seen = new Map<number, string[]>();
  seq: number;
  committed: number;

  constructor(prng: Prng, origin: number) {
    this.#prng = prng;
    this.#origin = origin;
    this.seq = origin;
    this.committed = origin;
    this.#seen.set(origin, this.view());
  }

  view(): string[] {
    const { index } = this;
    return Array.from({ length: BLOCKS }, (_, block) => {
      const at = index.find(block);
      return at < 0 ? '-' : [index.serial(at), index.position(at), index.place(at), index.crc(at), index.seq(at), index.state(at)].join(' ');
    });
  }

  /** One record. */
  write(operations: number, blocks: number): void {
    const prng = this.#prng;
    const firstSeq = this.seq + 1;
    this.seq += operations;
    for (let i = 0; i < operations; i++) {
      const first = prng.below(BLOCKS - blocks + 1);
      this.undo.remember(this.index, firstSeq, this.seq, first, blocks, this.committed);
      for (let k = 0; k < blocks; k++) this.index.put(first + k, this.#serialOf(firstSeq), prng.below(2 ** 31), prng.next32(), firstSeq + i, 1 + prng.below(7), prng.below(2) === 0 ? -1 : prng.below(2 ** 31));
    }
    this.#seen.set(this.seq, this.view());
  }

  #serialOf(seq: number): number { return 1 + Math.floor((seq - this.#origin) / SEGMENT_SEQS); }

  commit(): void { this.committed = this.anEnd(); }

  /** Segments that are committed through. */
  destage(): void {
    this.index.destagedSerial = this.#serialOf(this.committed) - 1;
    this.index.compact();
    this.undo.trim(this.committed);
  }

  /** The end of a record that may be cut behind. */
  anEnd(): number {
    const ends = [...this.#seen.keys()].filter((end) => end >= this.committed);
    return ends[this.#prng.below(ends.length)] as number;
  }

  cut(to: number): boolean {
    if (!this.undo.cut(this.index, to)) return false;
    this.seq = to;
    for (const end of [...this.#seen.keys()]) if (end > to) this.#seen.delete(end);
    return true;
  }

  /** What was seen after this record, without what was destaged since. */
  seenAt(end: number): string[] {
    return (this.#seen.get(end) as string[]).map((entry) => (Number(entry.split(' ')[0]) > this.index.destagedSerial ? entry : '-'));
  }
}

describe('undo', () => {
  it('gives back what an index had before the records that are cut off, whatever was committed and destaged meanwhile', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const prng = new Prng(seed);
      // Far beyond 2^32 as well, where a sequence number takes two words.
      const written = new Written(prng, seed % 2 === 0 ? 0 : 2 ** 40);
      for (let step = 0; step < 500; step++) {
        const choice = prng.below(20);
        if (choice < 15) written.write(1 + prng.below(3), 1 + prng.below(4));
        else if (choice < 17) written.commit();
        else if (choice < 18) written.destage();
        else {
          const to = written.anEnd();
          if (to === written.seq) continue;
          expect(written.cut(to), `seed ${seed}, step ${step}: what is not committed is remembered`).toBe(true);
          expect(written.view(), `seed ${seed}, step ${step}`).toEqual(written.seenAt(to));
        }
      }
    }
  });

  it('does not take back what it does not remember', () => {
    const written = new Written(new Prng(1), 0);
    written.write(3, 1);
    written.undo.forget();
    written.write(1, 1);
    expect(written.cut(2)).toBe(false);
    // One record that changes more blocks than are remembered: its first blocks are as lost as its last ones.
    written.write(100, 60);
    const before = written.view();
    expect(written.cut(4)).toBe(false);
    expect(written.view()).toEqual(before);
    written.write(1, 1);
    expect(written.cut(104)).toBe(true);
    expect(written.view()).toEqual(before);
  });
});
