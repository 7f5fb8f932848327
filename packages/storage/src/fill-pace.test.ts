import { describe, expect, test } from 'vitest';
import { FillPace } from './fill-pace.ts';

const PIECE = 128 * 1024;

/** Sends piece after piece for so long, each when it may be; `crowded`: part of the time for which the thread has no processor. Gives MiB/s of the last second. */
function fillFor(seconds: number, crowded: number, atRisk: boolean): number {
  let nowMs = 0;
  const pace = new FillPace(() => nowMs, () => nowMs * crowded);
  const copy = pace.newCopy();
  let sent = 0;
  while (nowMs < seconds * 1000) {
    while (!pace.mayFill(nowMs, atRisk)) nowMs = Math.max(nowMs + 0.001, pace.lookAgainMs(copy, atRisk));
    if (nowMs >= (seconds - 1) * 1000) sent += PIECE;
    pace.filled(PIECE, atRisk);
  }
  return sent / 2 ** 20;
}

describe('what copies are filled with', () => {
  test('takes whatever the processors have left', () => {
    expect(fillFor(10, 0.1, false)).toBeGreaterThan(500);
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

  test('of a volume at risk does not wait for what others were filled with', () => {
    let nowMs = 0;
    const pace = new FillPace(() => nowMs, () => nowMs * 0.6);
    let atRisk = 0;
    let others = 0;
    for (; nowMs < 10_000; nowMs++) {
      if (pace.mayFill(nowMs, false)) { pace.filled(PIECE, false); others += PIECE; }
      if (pace.mayFill(nowMs, true)) { pace.filled(PIECE, true); atRisk += PIECE; }
    }
    expect(atRisk / 10 / 2 ** 20).toBeGreaterThan(20);
    expect(others / 10 / 2 ** 20).toBeLessThan(10);
    expect(others / 10 / 2 ** 20).toBeGreaterThan(3);
    // Nor do they wait for what it was filled with, when it is no longer.
    expect(pace.mayFill(nowMs + 100, false)).toBe(true);
  });

  test('begins slowly again after a while in which nothing was sent', () => {
    let nowMs = 0;
    const pace = new FillPace(() => nowMs, () => nowMs * 0.01);
    const send = (untilMs: number): number => {
      let sent = 0;
      for (; nowMs < untilMs; nowMs++) while (pace.mayFill(nowMs, false)) { pace.filled(PIECE, false); sent += PIECE; }
      return sent / 2 ** 20;
    };
    send(3000);
    expect(send(3100)).toBeGreaterThan(50);
    nowMs = 10_000;
    expect(send(10_100)).toBeLessThan(60);
    nowMs = 12_000;
    expect(send(12_050)).toBeLessThan(40);
  });

  test('copies that wait for it do not all wake at one time', () => {
    const pace = new FillPace(() => 0, () => 0);
    const copies = Array.from({ length: 50 }, () => pace.newCopy());
    pace.filled(PIECE, false);
    const wakes = new Set(copies.map((copy) => pace.lookAgainMs(copy, false)));
    expect(wakes.size).toBe(50);
    for (const atMs of wakes) expect(atMs).toBeLessThan(60);
  });
});
