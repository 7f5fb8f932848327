import type { ActorLog } from '@ashlar/actor';
import type { Credentials, MachineIdentity } from '@ashlar/identity';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Renewal } from './renewal.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const CREDENTIALS: Credentials = { key: '', cert: '', ca: '' };
let lines: string[];
let asked: number;
let answers: boolean;
let renewal: Renewal;

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
  [lines, asked, answers] = [[], 0, true];
});
afterEach(() => {
  renewal.stop();
  vi.useRealTimers();
});

/** Of a certificate that lasts a week from now on, as does each new one. */
function began(): void {
  const log = { info: (_fields: object, text: string) => { lines.push(text); }, warn: (_fields: object, text: string) => { lines.push(text); } } as unknown as ActorLog;
  const dates = { renewAtMs: Date.now() + 3.5 * DAY_MS, expiresAtMs: Date.now() + 7 * DAY_MS };
  renewal = new Renewal(dates as MachineIdentity, () => {
    asked++;
    return answers ? Promise.resolve(CREDENTIALS) : Promise.reject(new Error('no manager answers'));
  }, log, () => Object.assign(dates, { renewAtMs: Date.now() + 3.5 * DAY_MS, expiresAtMs: Date.now() + 7 * DAY_MS }));
}

describe('a certificate is renewed', () => {
  test('when half of its life is over, and again', async () => {
    began();
    await vi.advanceTimersByTimeAsync(3.4 * DAY_MS);
    expect(asked).toBe(0);
    await vi.advanceTimersByTimeAsync(0.2 * DAY_MS);
    expect(asked).toBe(1);
    await vi.advanceTimersByTimeAsync(3.5 * DAY_MS);
    expect(asked).toBe(2);
  });

  test('before it runs out also where the clock was set forward, or the machine has slept', async () => {
    began();
    // Timers go on as if nothing had happened.
    vi.setSystemTime(Date.now() + 6 * DAY_MS);
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    expect(lines).toEqual(['the certificate of this machine was renewed']);
  });

  test('after more and more tries while nobody answers, and without a flood of them when it has run out', async () => {
    began();
    answers = false;
    await vi.advanceTimersByTimeAsync(7 * DAY_MS);
    expect(asked).toBeGreaterThan(100);
    const before = asked;
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    expect(asked - before).toBeLessThanOrEqual(61);
    expect(lines.at(-1)).toMatch(/^the certificate of this machine has expired/);
    answers = true;
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    expect(lines.at(-1)).toBe('the certificate of this machine was renewed');
  });
});
