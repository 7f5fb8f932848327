import { describe, expect, test } from 'vitest';
import { Alone } from './testing/alone.ts';
import { A, B, configurationOf, FRESH } from './testing/group.ts';

describe('a copy that is appointed primary', () => {
  test('leads, when it is the one that was admitted, and whole', () => {
    const p = new Alone(B);
    expect(p.configure(configurationOf([B, A], { epoch: 2 }))).toContainEqual(expect.stringMatching(/^save .*promisedEpoch=2/));
    p.saved();
    expect(p.core.role).toBe('primary');
  });

  test('does not, while data below its log is missing: it promises nothing, and says how it stands', () => {
    const p = new Alone(B, { ...FRESH, complete: false });
    expect(p.configure(configurationOf([B, A], { epoch: 2 }))).toEqual([expect.stringMatching(/^tell report .*promisedEpoch=0 .*complete=false/)]);
    expect(p.core.role).toBe('idle');
  });
});
