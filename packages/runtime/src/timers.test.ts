import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Timers, type Timer } from './timers.ts';

describe('timers', () => {
  test('fire in the order of their times, once, unless they were cleared', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.record({ atMs: fc.integer({ min: -5, max: 3 }), cleared: fc.boolean() }), { maxLength: 40 }), async (wanted) => {
      const fired: number[] = [];
      const timers = new Timers(() => performance.now() - begin, (run) => run());
      const begin = performance.now();
      const due = wanted.filter(({ cleared }) => !cleared).length;
      await new Promise<void>((resolve) => {
        const made: Timer[] = wanted.map(({ atMs }) => timers.set(atMs, () => {
          fired.push(atMs);
          if (fired.length === due) resolve();
        }));
        wanted.forEach(({ cleared }, index) => { if (cleared) (made[index] as Timer).dead = true; });
        if (due === 0) resolve();
      });
      expect(fired).toEqual([...wanted.filter(({ cleared }) => !cleared).map(({ atMs }) => atMs)].sort((a, b) => a - b));
      timers.close();
    }), { numRuns: 50 });
  });

  test('one that is moved all the time does not fill the memory', () => {
    const timers = new Timers(() => 0, () => {});
    let last = timers.set(1e9, () => {});
    for (let i = 0; i < 100_000; i++) {
      last.dead = true;
      last = timers.set(1e9 + i, () => {});
    }
    expect(timers.size).toBeLessThan(1000);
    timers.close();
  });

  test('times beyond what setTimeout can count do not fire early', async () => {
    let fired = 0;
    const timers = new Timers(() => 0, (run) => run());
    timers.set(2 ** 33, () => { fired++; });
    timers.set(Infinity, () => { fired++; });
    await new Promise((resolve) => { setTimeout(resolve, 10); });
    expect(fired).toBe(0);
    expect(() => timers.set(NaN, () => {})).toThrow('has a time');
    timers.close();
  });
});
