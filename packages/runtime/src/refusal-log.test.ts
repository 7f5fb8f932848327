import { expect, test } from 'vitest';
import type { ActorLog } from '@ashlar/actor';
import { REFUSAL_LOG_MS, REFUSAL_REASONS_MAX, REFUSALS_MAX } from './limits.ts';
import { RefusalLog } from './refusal-log.ts';

test('a stranger that makes up a new reason each time gets some lines, and hides nobody', () => {
  const lines: string[] = [];
  const log = { warn: (_fields: object, text: string) => { lines.push(text); } } as unknown as ActorLog;
  let nowMs = 0;
  const refusals = new RefusalLog(log, () => nowMs);
  refusals.refuse('10.0.0.8', 'it showed no certificate');
  for (let i = 0; i < 5000; i++) refusals.refuse('10.0.0.9', `the certificate of machine x${i} is not of this cluster`);
  expect(lines).toHaveLength(1 + REFUSAL_REASONS_MAX + 1);
  expect(lines.at(-1)).toBe('refused: again and again, each time for another reason');
  refusals.refuse('10.0.0.8', 'it showed no certificate');
  expect(lines).toHaveLength(1 + REFUSAL_REASONS_MAX + 1);
  nowMs = REFUSAL_LOG_MS;
  refusals.refuse('10.0.0.9', 'the certificate of machine y is not of this cluster');
  expect(lines.at(-1)).toBe('refused: the certificate of machine y is not of this cluster');
});

test('each stranger gets a line, and another one after a while with how often it came', () => {
  const lines: string[] = [];
  const log = { warn: (fields: object, text: string) => { lines.push(`${JSON.stringify(fields)} ${text}`); } } as unknown as ActorLog;
  let nowMs = 0;
  const refusals = new RefusalLog(log, () => nowMs);
  for (let i = 0; i < 5; i++) refusals.refuse('10.0.0.9', 'it showed no certificate');
  refusals.refuse('10.0.0.8', 'it showed no certificate');
  refusals.refuse('10.0.0.9', 'machine s1 was removed from the cluster');
  expect(lines).toEqual(['{"remote":"10.0.0.9"} refused: it showed no certificate', '{"remote":"10.0.0.8"} refused: it showed no certificate', '{"remote":"10.0.0.9"} refused: machine s1 was removed from the cluster']);
  nowMs = REFUSAL_LOG_MS;
  refusals.refuse('10.0.0.9', 'it showed no certificate');
  expect(lines.at(-1)).toBe('{"remote":"10.0.0.9","alsoRefused":4} refused: it showed no certificate');
  // However many there are, what is remembered of them is bounded: the oldest is told of again.
  for (let i = 0; i < REFUSALS_MAX; i++) refusals.refuse(`10.1.0.${i}`, 'x');
  const before = lines.length;
  refusals.refuse('10.0.0.9', 'it showed no certificate');
  expect(lines.length).toBe(before + 1);
});
