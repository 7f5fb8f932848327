import { describe, expect, test } from 'vitest';
import { commonSeq } from './history.ts';

const at = (...starts: readonly (readonly [number, number])[]) => starts.map(([epoch, firstSeq]) => ({ epoch, firstSeq }));

describe('where two logs part', () => {
  test.each([
    ['the same log', { epochStarts: at([1, 1]), lastSeq: 9 }, { epochStarts: at([1, 1]), lastSeq: 9 }, 9],
    ['one is shorter', { epochStarts: at([1, 1]), lastSeq: 9 }, { epochStarts: at([1, 1]), lastSeq: 4 }, 4],
    ['an empty one', { epochStarts: at([1, 1]), lastSeq: 9 }, { epochStarts: [], lastSeq: 0 }, 0],
    ['a tail of a lost epoch', { epochStarts: at([1, 1], [3, 6]), lastSeq: 9 }, { epochStarts: at([1, 1]), lastSeq: 8 }, 5],
    ['both have a tail of their own', { epochStarts: at([1, 1], [3, 6]), lastSeq: 9 }, { epochStarts: at([1, 1], [2, 5]), lastSeq: 8 }, 4],
    ['the same epoch, but it began elsewhere', { epochStarts: at([2, 1]), lastSeq: 9 }, { epochStarts: at([2, 4]), lastSeq: 8 }, -1],
    ['an empty one that names an epoch', { epochStarts: at([1, 1]), lastSeq: 9 }, { epochStarts: at([1, 1]), lastSeq: 0 }, 0],
    ['nothing is known of one', { epochStarts: at([1, 1]), lastSeq: 9 }, { epochStarts: [], lastSeq: 8 }, -1],
    ['the same epoch, begun at one by one of them', { epochStarts: at([2, 1]), lastSeq: 9 }, { epochStarts: at([2, 2]), lastSeq: 8 }, -1],
    ['the same epoch, begun at one by both', { epochStarts: at([2, 1]), lastSeq: 9 }, { epochStarts: at([2, 1]), lastSeq: 8 }, 8],
    ['no epoch in common, both from the beginning', { epochStarts: at([2, 1]), lastSeq: 9 }, { epochStarts: at([1, 1]), lastSeq: 8 }, 0],
    ['no epoch in common, one begins in the middle', { epochStarts: at([4, 100]), lastSeq: 109 }, { epochStarts: at([1, 1]), lastSeq: 8 }, -1],
    ['no epoch in common, the other begins in the middle', { epochStarts: at([4, 1]), lastSeq: 9 }, { epochStarts: at([1, 50]), lastSeq: 80 }, -1],
  ])('%s', (_, a, b, expected) => {
    expect(commonSeq(a, b)).toBe(expected);
    expect(commonSeq(b, a)).toBe(expected);
  });
});
