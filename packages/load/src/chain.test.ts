import { BLOCK_BYTES } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { Chain } from './chain.ts';

const SLOTS = 8;

/** A lane in memory, and what was written to it. */
function written(records: number, lost: (number: number) => boolean = () => false): { readonly chain: Chain; readonly disk: Buffer } {
  const chain = new Chain(7, 1, SLOTS);
  const disk = Buffer.alloc(SLOTS * BLOCK_BYTES);
  for (let number = 1; number <= records; number++) {
    const { slot, bytes } = chain.next();
    if (!lost(number)) bytes.copy(disk, slot * BLOCK_BYTES);
    chain.answered();
  }
  return { chain, disk };
}

describe('a chain of dependent records', () => {
  it.each([0, 1, 5, 8, 9, 30])('of %i records has no flaw', (records) => {
    const { chain, disk } = written(records);
    expect(chain.flaw(disk)).toBeNull();
  });

  it('may end with a record that was sent and not answered', () => {
    const { chain, disk } = written(20);
    const { slot, bytes } = chain.next();
    expect(chain.flaw(disk)).toBeNull();
    bytes.copy(disk, slot * BLOCK_BYTES);
    expect(chain.flaw(disk)).toBeNull();
  });

  it.each([13, 16, 19])('without record %i of 20 has a gap', (missing) => {
    const { chain, disk } = written(20, (number) => number === missing);
    expect(chain.flaw(disk)).toContain(`in the place of record ${missing} is record ${missing - SLOTS}`);
  });

  it('without its newest answered record is short', () => {
    const { chain, disk } = written(20, (number) => number === 20);
    expect(chain.flaw(disk)).toBe('the newest record is 19; 20 was answered and 20 was sent');
  });

  it('sees a record of another history', () => {
    const { chain, disk } = written(20);
    const other = new Chain(7, 1, SLOTS);
    other.next();
    for (let number = 2; number <= 18; number++) {
      const { slot, bytes } = other.next();
      if (number < 18) continue;
      bytes.writeUInt32LE(1, 24);
      bytes.copy(disk, slot * BLOCK_BYTES);
    }
    expect(chain.flaw(disk)).toBe('slot 2 holds a damaged record');
  });

  it('sees changed bytes, and a record in another place', () => {
    const { chain, disk } = written(20);
    const moved = Buffer.from(disk);
    disk.copy(moved, 0, BLOCK_BYTES, 2 * BLOCK_BYTES);
    expect(chain.flaw(moved)).toBe('slot 0 holds record 17');
    disk.writeUInt8(1, 3 * BLOCK_BYTES + 100);
    expect(chain.flaw(disk)).toBe('slot 3 holds a damaged record');
  });
});
