import type { MissedAs } from '@ashlar/replication';
import { describe, expect, test } from 'vitest';
import { HANDOVER_LOOK_MS, HandOver, type HandedCopy } from './handover.ts';

class Copy implements HandedCopy {
  as: MissedAs | null;
  asked = 0;
  constructor(as: MissedAs | null) { this.as = as; }
  missedAs(): MissedAs | null { return this.as; }
  retire(): void { this.asked++; }
}

/** When it is over, if nothing more happens; null: not within a minute. */
function endsAfterMs(handOver: HandOver, copies: readonly Copy[], fromMs = 0): number | null {
  for (let nowMs = fromMs; nowMs < fromMs + 60_000; nowMs += HANDOVER_LOOK_MS) if (handOver.look(nowMs, copies)) return nowMs;
  return null;
}

describe('handing over', () => {
  test('waits for nothing where nobody would miss anything', () => {
    expect(new HandOver(0).look(0, [])).toBe(true);
    expect(new HandOver(0).look(0, [new Copy(null)])).toBe(true);
  });

  test('a primary is waited for until it leads no more, and as a mirror until it is let go', () => {
    const copy = new Copy('primary');
    const handOver = new HandOver(0);
    expect(handOver.look(0, [copy])).toBe(false);
    expect(copy.asked).toBe(0);
    copy.as = 'mirror';
    expect(handOver.look(500, [copy])).toBe(false);
    expect(copy.asked).toBe(1);
    copy.as = null;
    expect(handOver.look(520, [copy])).toBe(true);
  });

  test('a mirror asks again and again, but not at each look', () => {
    const copy = new Copy('mirror');
    const handOver = new HandOver(0);
    for (let nowMs = 0; nowMs < 1000; nowMs += HANDOVER_LOOK_MS) handOver.look(nowMs, [copy]);
    expect(copy.asked).toBe(5);
  });

  test('is given up when nothing has changed for 3 s, and after 15 s in any case', () => {
    expect(endsAfterMs(new HandOver(0), [new Copy('primary'), new Copy(null)])).toBe(3000);
    const copies = Array.from({ length: 100 }, () => new Copy('primary'));
    const handOver = new HandOver(0);
    let nowMs = 0;
    for (const copy of copies) {
      if (handOver.look(nowMs, copies)) break;
      copy.as = null;
      nowMs += 500;
    }
    expect(nowMs).toBe(15_000);
    expect(copies.filter((copy) => copy.as === null)).toHaveLength(30);
  });
});
