import { Prng, volumeId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ScrubTurns } from './scrub-turns.ts';

const DAY = 24 * 3_600_000;
const NOW = 1_800_000_000_000;
const ids = Array.from({ length: 50 }, (_, i) => volumeId(`vol-${String(i).padStart(17, '0')}`));

describe('turns of scrubbing', () => {
  it('reach every copy once in the interval, spread over it, and again in the next', () => {
    const turns = new ScrubTurns(14 * DAY, new Prng(1), new Map());
    const scrubbed = new Map<VolumeId, number[]>();
    const perDay: number[] = [];
    for (let hour = 0; hour < 28 * 24; hour++) {
      const nowMs = NOW + (hour * DAY) / 24;
      const id = turns.next(nowMs, ids);
      if (hour % 24 === 0) perDay.push(0);
      if (id === null) continue;
      perDay[perDay.length - 1]! += 1;
      scrubbed.set(id, [...(scrubbed.get(id) ?? []), nowMs]);
      turns.done(id, nowMs);
    }
    expect(scrubbed.size).toBe(ids.length);
    for (const times of scrubbed.values()) for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(14 * DAY);
    expect([...scrubbed.values()].every((times) => times.length === 2)).toBe(true);
    expect(Math.max(...perDay)).toBeLessThan(ids.length / 2);
  });

  it('go on after a restart where they were', () => {
    const before = new ScrubTurns(14 * DAY, new Prng(1), new Map());
    before.done(ids[0]!, NOW);
    before.done(ids[1]!, NOW - 15 * DAY);
    const after = new ScrubTurns(14 * DAY, new Prng(2), before.record);
    expect(after.next(NOW, [ids[0]!, ids[1]!])).toBe(ids[1]);
    after.done(ids[1]!, NOW);
    expect(after.next(NOW, [ids[0]!, ids[1]!])).toBeNull();
  });

  it('do not end because the clock was set', () => {
    const turns = new ScrubTurns(14 * DAY, new Prng(1), new Map([[ids[0]!, NOW + 365 * DAY]]));
    let reached = false;
    for (let day = 0; day <= 15; day++) reached ||= turns.next(NOW + day * DAY, [ids[0]!]) === ids[0];
    expect(reached).toBe(true);
  });
});
