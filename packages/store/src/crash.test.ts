import { expect, it } from 'vitest';
import { Checker, expectationAt } from './testing/crash/check.ts';
import { CrashStates, digestOf } from './testing/crash/states.ts';
import { recordWorkload } from './testing/crash/workload.ts';

/** A taste of `pnpm crash`, in the unit tests: the first two workloads, only every tenth point at which the power fails. */
it.each([1, 2])('opens after a power cut anywhere in workload %i', (seed) => {
  const workload = recordWorkload(seed, 24);
  const checker = new Checker(workload);
  const states = new CrashStates(workload.start, workload.recording);
  const seen = new Set<string>();
  while (states.next()) {
    if (states.at % 10 !== 0) continue;
    const expectation = expectationAt(workload, states.at);
    states.visit((images, survival) => {
      const digest = digestOf(images);
      if (seen.has(digest)) return;
      seen.add(digest);
      expect(checker.problem(images, expectation, 'after-the-cut', seen.size % 8 === 0), states.describe(survival)).toBe(null);
    });
  }
  expect(seen.size).toBeGreaterThan(30);
});
