import { describe, expect, test } from 'vitest';
import { FillPace } from './fill-pace.ts';

const PIECE = 128 * 1024;

/** Sends piece after piece for so long, each when it may be; `crowded`: part of the time for which the thread has no processor. Gives MiB/s of the last second. */
function fillFor(seconds: number, crowded: number, atRisk: boolean): number {
  let nowMs = 0;
  const pace = new FillPace(() => nowMs, () => nowMs * crowded);
  let sent = 0;
  while (nowMs < seconds * 1000) {
    nowMs = Math.max(nowMs, pace.dueMs);
    if (nowMs >= (seconds - 1) * 1000) sent += PIECE;
    pace.filled(PIECE, atRisk);
  }
  return sent / 2 ** 20;
}

describe('what copies are filled with', () => {
  test('takes whatever the processors have left', () => {
    expect(fillFor(10, 0.1, false)).toBeGreaterThan(1000);
  });

  test('gives way where threads wait for processors, and never ends', () => {
    const rate = fillFor(10, 0.6, false);
    expect(rate).toBeGreaterThan(3);
    expect(rate).toBeLessThan(5);
  });

  test('of a volume at risk goes on at a rate that makes it whole soon', () => {
    const rate = fillFor(10, 0.6, true);
    expect(rate).toBeGreaterThan(22);
    expect(rate).toBeLessThan(26);
  });
});
