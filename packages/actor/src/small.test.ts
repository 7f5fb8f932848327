import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isAddress, nameOf, parseAddress, partyOf } from './address.ts';
import { addRestart } from './restart-history.ts';

describe('addresses', () => {
  test('are a party and a name', () => {
    const address = parseAddress('server-1/copy/vol-0123456789abcdef0');
    expect([partyOf(address), nameOf(address)]).toEqual(['server-1', 'copy/vol-0123456789abcdef0']);
  });

  test.each(['', 'server-1', '/x', 'server-1/', 'Server/x', 'server-1/a b', `${'a'.repeat(64)}/x`, `a/${'x'.repeat(192)}`, 'a/x\n'])('%j is none', (text) => {
    expect(isAddress(text)).toBe(false);
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('restart accounting', () => {
  test('is too much exactly when more than `intensity` fell into the period', () => {
    fc.assert(fc.property(fc.array(fc.nat(500), { maxLength: 30 }), fc.nat(5), fc.integer({ min: 1, max: 2000 }), (gapsMs, intensity, periodMs) => {
      let history: readonly number[] = [];
      const all: number[] = [];
      let nowMs = 0;
      for (const gapMs of gapsMs) {
        nowMs += gapMs;
        all.push(nowMs);
        const result = addRestart(history, nowMs, intensity, periodMs);
        history = result.restartsMs;
        expect(result.tooMany).toBe(all.filter((atMs) => nowMs - atMs <= periodMs).length > intensity);
      }
    }));
  });
});
