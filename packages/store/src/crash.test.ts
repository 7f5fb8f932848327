import { Op } from '@ashlar/protocol';
import { expect, it } from 'vitest';
import { TILE_BYTES } from './index.ts';
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
  commands.push({ kind: 'sync' }, { kind: 'deliver', max: Infinity }, { kind: 'commit' });
  for (let k = 0; k < 8; k++) commands.push({ kind: 'destage', steps: 100, eager: true, ends: 'nothing' }, { kind: 'shrink' }, write(5), { kind: 'sync' }, { kind: 'deliver', max: Infinity });
  expect(statesFrom(commands, 0)).toBeGreaterThan(300);
}, 60_000);

/** Tiles are written again and again while rounds that move them are under way, and history is given back: each place has one owner at each moment. */
it('gives no place away before the superblock on the disk says that its tile has left it', () => {
  const write = (tile: number, value: number): Command => ({ kind: 'append', changes: [{ op: Op.write, offset: tile * TILE_BYTES, length: TILE_BYTES, value }] });
  const settle: readonly Command[] = [{ kind: 'sync' }, { kind: 'deliver', max: Infinity }, { kind: 'commit' }, { kind: 'destage', steps: 1000, eager: true, ends: 'all' }];
  const commands: Command[] = [write(15, 1), write(16, 2), ...settle, { kind: 'shrink' }, write(15, 3), { kind: 'sync' }, { kind: 'deliver', max: Infinity }, { kind: 'commit' }];
  for (let k = 0; k < 6; k++) commands.push({ kind: 'destage', steps: 100, eager: true, ends: 'nothing' }, { kind: 'shrink' }, write(16, 10 + k), { kind: 'sync' }, { kind: 'deliver', max: Infinity });
  expect(statesFrom(commands, 4)).toBeGreaterThan(300);
}, 60_000);

/** The superblock is saved for another reason at each thing that a round waits for. */
it('lets no round count before it is recorded', () => {
  const write = (block: number, value: number): Command => ({ kind: 'append', changes: [{ op: Op.write, offset: block * 4096, length: 4096, value }] });
  const settled: readonly Command[] = [{ kind: 'sync' }, { kind: 'deliver', max: Infinity }, { kind: 'commit' }];
  const commands: Command[] = [write(0, 1), ...settled, { kind: 'destage', steps: 1000, eager: true, ends: 'all' }, write(0, 2), write(256, 3), ...settled];
  for (let k = 0; k < 6; k++) commands.push({ kind: 'destage', steps: 100, eager: true, ends: 'nothing' }, { kind: 'save', epoch: 2 + k }, { kind: 'deliver', max: Infinity });
  expect(statesFrom(commands, 0)).toBeGreaterThan(100);
}, 60_000);

/** Opens the copy on all states from the first held destaging on, and goes on with one in `goOnEvery`. The number of states. */
function statesFrom(commands: readonly Command[], goOnEvery: number): number {
  const workload = recordCommands(commands);
  const checker = new Checker(workload);
  const states = new CrashStates(workload.start, workload.recording);
  const seen = new Set<string>();
  // Workloads show elsewhere what a cut does to a journal that is only written to.
  const begin = (workload.moments[commands.findIndex((command) => command.kind === 'destage' && command.ends === 'nothing')] as Moment).at;
  while (states.next()) {
    if (states.at < begin) continue;
    const expectation = expectationAt(workload, states.at);
    states.visit((images, survival) => {
      const digest = digestOf(images);
      if (seen.has(digest)) return;
      seen.add(digest);
      const goOn = goOnEvery > 0 && seen.size % goOnEvery === 0;
      expect(checker.problem(images, expectation, 'after-the-cut', goOn), states.describe(survival)).toBe(null);
    });
  }
  return seen.size;
}
