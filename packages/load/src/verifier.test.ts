import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES } from '@ashlar/words';
import { Verifier } from './verifier.ts';

const make = (fresh = true, volume = 'vol', run = 7): Verifier => new Verifier({ volume, blocks: 64, run, fresh });
const zeros = (count: number): Buffer => Buffer.alloc(count * BLOCK_BYTES);

describe('the verifier', () => {
  it('takes the newest answered generation, and one that is in flight', () => {
    const verifier = make();
    const first = verifier.beginWrite(3, 2);
    verifier.endWrite(first, true);
    const second = verifier.beginWrite(3, 2);
    expect(verifier.endRead(verifier.beginRead(3, 2), first.bytes)).toEqual([]);
    expect(verifier.endRead(verifier.beginRead(3, 2), second.bytes)).toEqual([]);
    verifier.endWrite(second, true);
    expect(verifier.endRead(verifier.beginRead(3, 2), second.bytes)).toEqual([]);
  });

  it('finds an older generation than the newest answered', () => {
    const verifier = make();
    const first = verifier.beginWrite(0, 1);
    verifier.endWrite(first, true);
    verifier.endWrite(verifier.beginWrite(0, 1), true);
    expect(verifier.endRead(verifier.beginRead(0, 1), first.bytes)).toEqual([{ volume: 'vol', block: 0, expectedMin: 2, expectedMax: 2, found: 'generation 1' }]);
  });

  it('lets a read that began before an answer see what was there then', () => {
    const verifier = make();
    const first = verifier.beginWrite(0, 1);
    verifier.endWrite(first, true);
    const read = verifier.beginRead(0, 1);
    verifier.endWrite(verifier.beginWrite(0, 1), true);
    expect(verifier.endRead(read, first.bytes)).toEqual([]);
  });

  it('finds that a failed write, once seen, is gone again', () => {
    const verifier = make();
    const first = verifier.beginWrite(0, 1);
    verifier.endWrite(first, true);
    const second = verifier.beginWrite(0, 1);
    verifier.endWrite(second, false);
    expect(verifier.endRead(verifier.beginRead(0, 1), first.bytes)).toEqual([]);
    expect(verifier.endRead(verifier.beginRead(0, 1), second.bytes)).toEqual([]);
    expect(verifier.endRead(verifier.beginRead(0, 1), first.bytes)).toHaveLength(1);
  });

  it('finds lost writes, garbage, other blocks, other volumes and other runs', () => {
    const verifier = make();
    const ticket = verifier.beginWrite(5, 1);
    verifier.endWrite(ticket, true);
    const found = (bytes: Buffer): string | undefined => verifier.endRead(verifier.beginRead(5, 1), bytes)[0]?.found;
    expect(found(zeros(1))).toBe('zeros');
    const flipped = Buffer.from(ticket.bytes);
    flipped[4000]! ^= 1;
    expect(found(flipped)).toBe('garbage');
    expect(found(Buffer.from(flipped).fill(0, 0, 4))).toBe('garbage');
    expect(found(make().beginWrite(6, 1).bytes)).toBe('generation 1 of block 6');
    expect(found(make(true, 'other').beginWrite(5, 1).bytes)).toBe('generation 1 of another volume');
    expect(found(make(true, 'vol', 8).beginWrite(5, 1).bytes)).toBe('generation 1 of another run');
  });

  it('allows anything where nothing is known, unless the volume is new', () => {
    const foreign = make(true, 'vol', 9).beginWrite(2, 1).bytes;
    const known = make(false);
    expect(known.endRead(known.beginRead(2, 1), foreign)).toEqual([]);
    expect(known.endRead(known.beginRead(2, 1), Buffer.alloc(BLOCK_BYTES, 1))).toEqual([]);
    const fresh = make(true);
    expect(fresh.endRead(fresh.beginRead(2, 1), zeros(1))).toEqual([]);
    expect(fresh.endRead(fresh.beginRead(2, 1), foreign)).toHaveLength(1);
    expect(fresh.endRead(fresh.beginRead(2, 1), Buffer.alloc(BLOCK_BYTES, 1))).toHaveLength(1);
  });

  it('finds a generation that was never sent', () => {
    const other = make();
    other.endWrite(other.beginWrite(1, 1), true);
    const ahead = other.beginWrite(1, 1).bytes;
    const verifier = make();
    verifier.endWrite(verifier.beginWrite(1, 1), true);
    expect(verifier.endRead(verifier.beginRead(1, 1), ahead)).toHaveLength(1);
  });
});
