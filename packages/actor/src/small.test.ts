import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isAddress, nameOf, parseAddress, partyOf } from './address.ts';
import { POISON_SUSPECTS_MAX } from './limits.ts';
import { PoisonLedger } from './poison-ledger.ts';
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

describe('the poison ledger', () => {
  const request = { scope: 'vol-1', requestNumber: 7 };

  test('a request that killed two copies is quarantined', () => {
    const ledger = new PoisonLedger();
    expect(ledger.crashed(request, 'server-1')).toBe('suspect');
    expect(ledger.suspects).toEqual([request]);
    expect(ledger.isQuarantined(request)).toBe(false);
    expect(ledger.crashed(request, 'server-2')).toBe('quarantined');
    expect(ledger.isQuarantined(request)).toBe(true);
    expect(ledger.isQuarantined({ ...request, requestNumber: 8 })).toBe(false);
    expect(ledger.suspects).toEqual([]);
  });

  test('the same copy twice is one victim, and success clears the suspicion', () => {
    const ledger = new PoisonLedger();
    ledger.crashed(request, 'server-1');
    expect(ledger.crashed(request, 'server-1')).toBe('suspect');
    ledger.succeeded(request);
    expect(ledger.suspects).toEqual([]);
    expect(ledger.crashed(request, 'server-2')).toBe('suspect');
  });

  test('a deleted volume is forgotten, and nothing of another', () => {
    const ledger = new PoisonLedger();
    for (const scope of ['vol-1', 'vol-10']) {
      for (const victim of ['a', 'b']) ledger.crashed({ scope, requestNumber: 1 }, victim);
      ledger.crashed({ scope, requestNumber: 2 }, 'a');
    }
    ledger.forget('vol-1');
    expect(ledger.isQuarantined({ scope: 'vol-1', requestNumber: 1 })).toBe(false);
    expect(ledger.isQuarantined({ scope: 'vol-10', requestNumber: 1 })).toBe(true);
    expect(ledger.suspects).toEqual([{ scope: 'vol-10', requestNumber: 2 }]);
  });

  test('suspects are bounded; the oldest goes', () => {
    const ledger = new PoisonLedger();
    for (let i = 0; i <= POISON_SUSPECTS_MAX; i++) ledger.crashed({ scope: 'v', requestNumber: i }, 'a');
    expect(ledger.suspects).toHaveLength(POISON_SUSPECTS_MAX);
    expect(ledger.suspects[0]?.requestNumber).toBe(1);
  });
});
