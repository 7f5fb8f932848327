import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { shiftedClock, surroundingsOf, UNCHANGED } from './surroundings.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'ashlar-around-')); });
afterEach(() => rmSync(folder, { recursive: true }));

test('a process takes its machine for what it is, unless it is told otherwise', () => {
  expect(surroundingsOf('server-1', {})).toEqual(UNCHANGED);
  expect(surroundingsOf('server-1', { ASHLAR_SURROUNDINGS: '' })).toEqual(UNCHANGED);
  writeFileSync(join(folder, 'server-2.json'), '{"clockShiftMs": 5000, "links": {"manager": "/tmp/m"}}');
  expect(surroundingsOf('server-1', { ASHLAR_SURROUNDINGS: folder })).toEqual(UNCHANGED);
  expect(surroundingsOf('server-2', { ASHLAR_SURROUNDINGS: folder })).toEqual({ clockShiftMs: 5000, bootId: null, links: { manager: '/tmp/m' } });
});

test('a shifted clock is so far from another one', () => {
  const [plain, ahead] = [shiftedClock(0), shiftedClock(3_600_000)];
  const [first, second, third] = [plain(), ahead(), plain()];
  expect(second - 3_600_000).toBeGreaterThanOrEqual(first - 1);
  expect(second - 3_600_000).toBeLessThanOrEqual(third + 1);
});
