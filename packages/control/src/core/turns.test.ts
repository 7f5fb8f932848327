import { describe, expect, it } from 'vitest';
import { Turns } from './turns.ts';

function takenWithin(turns: Turns, ms: number, perSecond: number, everyMs: number): number {
  let taken = 0;
  for (let nowMs = 0; nowMs < ms; nowMs += everyMs) {
    while (turns.has(nowMs, perSecond)) {
      turns.take();
      taken++;
    }
  }
  return taken;
}

describe('turns', () => {
  it.each([[10, 100], [15, 10], [400, 100]])('come at %i a second, whoever asks each %i ms', (perSecond, everyMs) => {
    const taken = takenWithin(new Turns(), 10_000, perSecond, everyMs);
    expect(taken / (10 * perSecond)).toBeGreaterThan(0.97);
    expect(taken / (10 * perSecond)).toBeLessThan(1.05);
  });

  it('of a quiet time are not kept', () => {
    const turns = new Turns();
    turns.has(0, 10);
    turns.take();
    expect(takenWithin(turns, 1, 10, 1)).toBe(1);
    expect(turns.has(3_600_000, 10)).toBe(true);
    turns.take();
    turns.take();
    expect(turns.has(3_600_001, 10)).toBe(false);
  });
});
