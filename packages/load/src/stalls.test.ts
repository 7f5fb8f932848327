import { expect, it } from 'vitest';
import { StallLog } from './stalls.ts';

it('knows the newest of very many stalls, and the longest of all', () => {
  const log = new StallLog();
  let nowMs = 1000;
  const silence = (ms: number): void => {
    log.began(nowMs);
    nowMs += ms;
    log.ended(nowMs);
  };
  silence(700);
  for (let i = 0; i < 20_000; i++) silence(25);
  const fromMs = nowMs;
  silence(150);
  expect(log.longestBetween(fromMs, nowMs)).toBe(150);
  expect(log.longestMs).toBe(700);
});
