import { parseArgs } from 'node:util';
import { MemoryDisk, type RecordedChange } from '../../memory-disk.ts';
import { Checker, expectationAt, type Expectation } from './check.ts';
import { CrashStates, digestOf, type Images } from './states.ts';
import { recordWorkload, type Workload } from './workload.ts';

/**
 * `pnpm crash`: records workloads over a disk in memory, and opens the copy on every state in which a power cut may leave the disk: after each
 * change, with the unsynced ones there, torn, or missing, and again with the recovery itself cut. Ends with 1 at the first states that are wrong.
 */
const { values } = parseArgs({
  options: {
    // The states are the same ones each time, some 200 s of processor time: this only ends what would go on for ever.
    seconds: { type: 'string', default: '900' },
    states: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    commands: { type: 'string', default: '36' },
    base: { type: 'string', default: '1' },
  },
});
const secondsMax = Number(values.seconds);
const wantedStates = Number(values.states);
const VIOLATIONS_MAX = 5;
/** One state in so many is written to and opened again; one in so many has its recovery cut. */
const GO_ON_EVERY = 16;
const CUT_AGAIN_EVERY = 24;

const seen = new Set<string>();
const counts = { workloads: 0, points: 0, states: 0, goneOn: 0, recoveries: 0, recoveryStates: 0 };
const violations: string[] = [];

/** Processor time, not the clock's: the machine may be busy with other things. */
function secondsUsed(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function isOver(): boolean {
  return violations.length >= VIOLATIONS_MAX || (counts.points % 4 === 0 && secondsUsed() > secondsMax);
}

function report(workload: Workload, at: number, problem: string, disk: string): void {
  const command = workload.commands[workload.moments.filter((moment) => moment.at <= at).length - 1];
  violations.push(`workload ${workload.seed} after ${at} changes (around ${JSON.stringify(command)}): ${problem}\n  pnpm crash --seed ${workload.seed} --commands ${values.commands}\n    ${disk}`);
}

function visitState(workload: Workload, checker: Checker, at: number, images: Images, expectation: Expectation, describe: () => string): void {
  if (isOver()) return;
  const digest = digestOf(images);
  if (seen.has(digest)) return;
  seen.add(digest);
  counts.states += 1;
  const goOn = counts.states % GO_ON_EVERY === 0;
  if (goOn) counts.goneOn += 1;
  const problem = checker.problem(images, expectation, 'after-the-cut', goOn);
  if (problem !== null) report(workload, at, problem, describe());
  else if (counts.states % CUT_AGAIN_EVERY === 0) cutRecovery(workload, checker, at, images, expectation);
}

/** Opens once, recording, and looks at every state in which that opening may have been cut. */
function cutRecovery(workload: Workload, checker: Checker, at: number, images: Images, expectation: Expectation): void {
  counts.recoveries += 1;
  const disk = MemoryDisk.fromImages(images);
  const recording: RecordedChange[] = [];
  disk.recording = recording;
  checker.problem(images, expectation, 'after-the-cut', false, disk);
  const states = new CrashStates(images, recording);
  while (states.next()) {
    states.visit((cut, survival) => {
      const digest = digestOf(cut);
      if (isOver() || seen.has(digest)) return;
      seen.add(digest);
      counts.recoveryStates += 1;
      const problem = checker.problem(cut, expectation, 'after-the-second-cut', false);
      if (problem !== null) report(workload, at, `recovery cut after ${states.at} changes: ${problem}`, states.describe(survival));
    });
  }
}

function runWorkload(seed: number): void {
  // Some are long: faults in what is written in turn show only after several rounds of destaging.
  const workload = recordWorkload(seed, Number(values.commands) * (seed % 3 === 0 ? 4 : 1));
  const checker = new Checker(workload);
  const states = new CrashStates(workload.start, workload.recording);
  counts.workloads += 1;
  do {
    counts.points += 1;
    const expectation = expectationAt(workload, states.at);
    states.visit((images, survival) => visitState(workload, checker, states.at, images, expectation, () => states.describe(survival)));
  } while (!isOver() && states.next());
}

if (values.seed !== undefined) runWorkload(Number(values.seed));
else for (let seed = Number(values.base); !isOver() && seen.size < wantedStates; seed++) runWorkload(seed);

console.log(`${seen.size} distinct states (${counts.recoveryStates} of them of ${counts.recoveries} recoveries cut again), ${counts.points} points of ${counts.workloads} workloads, ${counts.goneOn} written to and opened again; ${Math.round(secondsUsed())} s of one core`);
for (const violation of violations) console.error(violation);
if (violations.length > 0) process.exitCode = 1;
else if (values.seed === undefined && seen.size < wantedStates) {
  console.error(`fewer than the ${wantedStates} states wanted in ${secondsMax} s`);
  process.exitCode = 1;
}
