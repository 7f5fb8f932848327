import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { machineReport, holdProcessorsAwake, treeState } from '../site/machine.ts';
import { ROOT } from '../site/site.ts';
import { peersOf, workloadsOf } from './goals.ts';
import { measure, overwrite, type Measurement } from './measure.ts';
import { isArrangement, type BenchOptions, type Comparison } from './options.ts';
import { nowUs, profileReport, type Window } from './profile.ts';
import { loadResults, saveResults, type Results } from './results.ts';
import { ashlar } from './targets/ashlar.ts';
import { memoryServer } from './targets/memory.ts';
import { peer } from './targets/peers.ts';
import type { Running, Target, TargetOptions } from './targets/target.ts';
import { volumes } from './targets/volumes.ts';
import type { Workload } from './workloads.ts';

/** Twice, so that the journal has been through its bound and what is measured later is its steady state. */
const OVERWRITES = 2;

function ours(comparison: Comparison, options: TargetOptions & { readonly env?: Readonly<Record<string, string>> }): Target {
  if (comparison === 'memory') return memoryServer(options);
  if (comparison === 'volumes-100') return volumes({ ...options, volumes: 100 });
  if (comparison === 'volumes-1000') return volumes({ ...options, volumes: 1000 });
  return ashlar({ ...options, arrangement: isArrangement(comparison) ? comparison : 'three-processes', durability: comparison === 'strict' ? 'strict' : 'normal' });
}

interface Slot {
  readonly target: Target;
  readonly running: Running;
}

/** Starts every side; ends those that run again if one does not start. */
async function startAll(targets: readonly Target[], sizeBytes: number): Promise<readonly Slot[]> {
  const slots: Slot[] = [];
  try {
    for (const target of targets) {
      const running = await target.start();
      slots.push({ target, running });
      process.stderr.write(`${target.title}: overwriting\n`);
      await overwrite(running, sizeBytes, OVERWRITES);
    }
    return slots;
  } catch (error) {
    await stopAll(slots);
    throw error;
  }
}

async function stopAll(slots: readonly Slot[]): Promise<void> {
  for (const { running } of slots) await running.stop();
}

/** Measures what is missing of one comparison, and returns its results so far; they are saved after each measurement. */
export async function compare(comparison: Comparison, options: BenchOptions, path: string, directory: string): Promise<Results> {
  const workloads = options.only ?? workloadsOf(comparison);
  const names = options.peers ?? peersOf(comparison);
  const folder = (name: string): TargetOptions => ({ directory: join(directory, comparison, name), sizeBytes: options.sizeBytes });
  const targets = [ours(comparison, folder('ours')), ...names.map((name) => peer(name, folder(name)))];
  let results = begin(comparison, options, path, targets);
  const missing = (round: number, target: Target, workload: Workload): boolean =>
    !results.measurements.some((one) => one.round === round && one.target === target.name && one.workload === workload.name);
  const rounds = Array.from({ length: options.rounds }, (_, i) => i + 1).filter((round) => workloads.some((workload) => targets.some((target) => missing(round, target, workload))));
  if (rounds.length === 0) return results;
  const release = holdProcessorsAwake();
  results = { ...results, processorsHeldAwake: release !== null };
  const slots = await startAll(targets, options.sizeBytes);
  try {
    for (const round of rounds) {
      for (const workload of workloads) {
        // Who goes first changes with the round: the second finds a warmer machine.
        for (const { target, running } of turned(slots, round)) {
          if (!missing(round, target, workload)) continue;
          const one = await measure(running, workload, { round, target: target.name, commit: treeState(ROOT).commit, sizeBytes: options.sizeBytes, seconds: options.seconds });
          results = { ...results, measurements: [...results.measurements, one] };
          saveResults(path, results);
          say(one);
        }
      }
    }
    const notes = await notesOf(slots);
    results = { ...results, notes };
    saveResults(path, results);
  } finally {
    await stopAll(slots);
    release?.();
    const farewells = slots.flatMap(({ target, running }) => {
      const said = running.farewell();
      return said === null ? [] : [`${target.title}: ${said}`];
    });
    results = { ...results, notes: [...results.notes, ...farewells] };
    saveResults(path, results);
    rmSync(join(directory, comparison), { recursive: true, force: true });
  }
  return results;
}

function begin(comparison: Comparison, options: BenchOptions, path: string, targets: readonly Target[]): Results {
  const { code } = treeState(ROOT);
  const titles = Object.fromEntries(targets.map((target) => [target.name, target.title]));
  const command = `pnpm bench ${process.argv.slice(2).join(' ')}`.trim();
  const fresh: Results = {
    arrangement: comparison, code, machine: machineReport(), command, sizeBytes: options.sizeBytes, seconds: options.seconds, processorsHeldAwake: false,
    titles, targets: targets.map((target) => target.name), notes: [], measurements: [],
  };
  const before = options.fresh ? null : loadResults(path);
  if (before === null) return fresh;
  if (before.code !== code || before.sizeBytes !== options.sizeBytes || before.seconds !== options.seconds) {
    process.stderr.write(`${path} is of other code or other settings: starting anew\n`);
    return fresh;
  }
  return { ...fresh, command: before.command, titles: { ...before.titles, ...titles }, targets: [...new Set([...before.targets, ...fresh.targets])], notes: before.notes, measurements: before.measurements };
}

function turned<T>(list: readonly T[], by: number): readonly T[] {
  return list.map((_, i) => list[(i + by) % list.length] as T);
}

async function notesOf(slots: readonly Slot[]): Promise<readonly string[]> {
  const notes: string[] = [];
  for (const { target, running } of slots) {
    for (const note of [await running.note(), await running.verify()]) if (note !== null) notes.push(`${target.title}: ${note}`);
  }
  return notes;
}

function say(one: Measurement): void {
  process.stderr.write(`round ${one.round}  ${one.workload.padEnd(15)} ${one.target.padEnd(15)} ${one.requestsPerSecond.toFixed(0).padStart(8)}/s  ${one.cpuUsPerRequest.toFixed(1).padStart(6)} µs processor  `
    + `p99 ${one.p99Us.toFixed(0).padStart(6)} µs  stolen ${one.stealPercent.toFixed(1)} %  others ${one.othersPercent.toFixed(0)} %\n`);
}

/** One run of each workload on our side alone, with V8's sampling profiler in each of its processes. */
export async function profile(comparison: Comparison, options: BenchOptions, directory: string): Promise<string> {
  const folder = join(directory, 'profiles');
  mkdirSync(folder, { recursive: true });
  const env = { NODE_OPTIONS: `--cpu-prof --cpu-prof-interval=500 --cpu-prof-dir=${folder}` };
  const target = ours(comparison, { directory: join(directory, comparison, 'profiled'), sizeBytes: options.sizeBytes, env });
  const [slot] = await startAll([target], options.sizeBytes);
  const windows: Window[] = [];
  try {
    for (const workload of options.only ?? workloadsOf(comparison)) {
      const fromUs = nowUs();
      const one = await measure((slot as Slot).running, workload, { round: 1, target: target.name, commit: treeState(ROOT).commit, sizeBytes: options.sizeBytes, seconds: options.seconds });
      say(one);
      windows.push({ name: `${workload.title}: ${one.requestsPerSecond.toFixed(0)}/s, ${one.cpuUsPerRequest.toFixed(1)} µs of processor time each`, fromUs, toUs: nowUs() });
    }
  } finally {
    // Node writes the profiles when its processes end.
    await (slot as Slot).running.stop();
  }
  return `# Profile: ${target.title}\n\nCommit ${treeState(ROOT).commit}. Time of each function's own, in percent of the run's length, for each thread that did anything.\n\n${profileReport(folder, windows)}`;
}
