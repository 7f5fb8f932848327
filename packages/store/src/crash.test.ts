import { Op } from '@ashlar/protocol';
import { expect, it } from 'vitest';
import { Checker, expectationAt } from './testing/crash/check.ts';
import { CrashStates, digestOf } from './testing/crash/states.ts';
import { type Moment, recordCommands, recordWorkload } from './testing/crash/workload.ts';
import type { Command } from './testing/rig.ts';

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

/** A journal of several segments is settled step by step; at each thing that the round waits for, history is given back to the disk and more is written. */
it('gives no segment away before the superblock on the disk says that it is in the extents', () => {
  const write = (block: number): Command => ({ kind: 'append', changes: [{ op: Op.write, offset: block * 4096, length: 5 * 4096, value: 1 + block }] });
  const commands: Command[] = [0, 5, 0, 5, 0, 5].map(write);
  commands.push({ kind: 'sync' }, { kind: 'deliver' }, { kind: 'commit' });
  for (let k = 0; k < 8; k++) commands.push({ kind: 'destage', steps: 100, eager: true, held: true }, { kind: 'shrink' }, write(5), { kind: 'sync' }, { kind: 'deliver' });
  expect(statesFrom(commands)).toBeGreaterThan(300);
}, 60_000);

/** The superblock is saved for another reason at each thing that a round waits for. */
it('lets no round count before it is recorded', () => {
  const write = (block: number, value: number): Command => ({ kind: 'append', changes: [{ op: Op.write, offset: block * 4096, length: 4096, value }] });
  const settled: readonly Command[] = [{ kind: 'sync' }, { kind: 'deliver' }, { kind: 'commit' }];
  const commands: Command[] = [write(0, 1), ...settled, { kind: 'destage', steps: 1000, eager: true }, write(0, 2), write(256, 3), ...settled];
  for (let k = 0; k < 6; k++) commands.push({ kind: 'destage', steps: 100, eager: true, held: true }, { kind: 'save', epoch: 2 + k }, { kind: 'deliver' });
  expect(statesFrom(commands)).toBeGreaterThan(100);
}, 60_000);

/**
 * Opens the copy in all states that a cut may leave from the first destaging on, and gives their number. Workloads show elsewhere what a cut does to a
 * journal that is only written to.
 */
function statesFrom(commands: readonly Command[]): number {
  const workload = recordCommands(commands);
  const checker = new Checker(workload);
  const states = new CrashStates(workload.start, workload.recording);
  const seen = new Set<string>();
  const begin = (workload.moments[commands.findIndex((command) => command.kind === 'destage' && command.held)] as Moment).at;
  while (states.next()) {
    if (states.at < begin) continue;
    const expectation = expectationAt(workload, states.at);
    states.visit((images, survival) => {
      const digest = digestOf(images);
      if (seen.has(digest)) return;
      seen.add(digest);
      expect(checker.problem(images, expectation, 'after-the-cut', false), states.describe(survival)).toBe(null);
    });
  }
  return seen.size;
}
