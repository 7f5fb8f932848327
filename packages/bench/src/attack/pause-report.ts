import { inMs, percentile } from './describe-run.ts';
import type { Failover } from './pause-run.ts';

/** Load while every processor was busy with something else. */
export interface Calm {
  readonly minutes: number;
  readonly needless: number;
  readonly longestStallMs: number;
}

/** One slice of a run. An infinite stall is kept as null: JSON knows none. */
export interface PauseSlice {
  readonly commit: string;
  readonly seed: number;
  readonly requestsPerSecond: number;
  readonly calm: Calm | null;
  readonly failovers: readonly (Omit<Failover, 'stallMs'> & { readonly stallMs: number | null })[];
  readonly checkedBlocks: number;
  readonly violations: number;
  readonly errors: number;
  readonly difference: string | null;
  readonly broken: string | null;
}

export interface Wanted {
  readonly failovers: number;
  readonly calmMinutes: number;
}

/** Stall that 99 of 100 failovers may not exceed. */
const P99_MS = { kill: 200, freeze: 2000 } as const;
export type By = keyof typeof P99_MS;

const BUCKETS = [50, 100, 150, 200, 300, 500, 1000, 1500, 2000, 5000, Infinity];

const stallsOf = (slices: readonly PauseSlice[]): number[] => slices.flatMap(({ failovers }) => failovers.map(({ stallMs }) => stallMs ?? Infinity));
export const calmMinutes = (slices: readonly PauseSlice[]): number => slices.reduce((sum, { calm }) => sum + (calm?.minutes ?? 0), 0);

/** Nothing is wrong with it, whether or not it is long enough. */
export function isRight(by: By, slices: readonly PauseSlice[]): boolean {
  return percentile(stallsOf(slices), 0.99) <= P99_MS[by]
    && slices.every(({ calm, violations, errors, difference, broken }) => (calm?.needless ?? 0) === 0 && violations === 0 && errors === 0 && difference === null && broken === null);
}

export function isComplete(slices: readonly PauseSlice[], wanted: Wanted): boolean {
  return stallsOf(slices).length >= wanted.failovers && calmMinutes(slices) >= wanted.calmMinutes;
}

export function pauseReport(description: readonly string[], by: By, slices: readonly PauseSlice[], wanted: Wanted, rate: string): string {
  const stalls = stallsOf(slices);
  const failovers = slices.flatMap((slice) => slice.failovers);
  const sum = (of: (slice: PauseSlice) => number): number => slices.reduce((total, slice) => total + of(slice), 0);
  const right = isRight(by, slices);
  const state = !right ? 'FAILED' : isComplete(slices, wanted) ? 'passed' : `right so far (${stalls.length} of ${wanted.failovers} failovers)`;
  const calms = slices.flatMap(({ calm }) => (calm === null ? [] : [calm]));
  return [
    `# The pause of a failover, primary ${by === 'kill' ? 'killed (SIGKILL)' : 'frozen (SIGSTOP)'}${wanted.calmMinutes > 0 ? ', after calm' : ''}: ${state}`, '',
    ...description,
    `- Slices: ${slices.map((slice) => `${slice.failovers.length} failovers${slice.calm === null ? '' : ` after ${slice.calm.minutes.toFixed(1)} min`} at ${slice.commit}, seed ${slice.seed}`).join('; ')}`,
    `- Load: ${(sum((slice) => slice.requestsPerSecond) / Math.max(1, slices.length)).toFixed(0)} requests a second (${rate} asked for), half of them writes of 4 KiB, two copies, three servers, each process of its own`, '',
    '| | |', '|---|---|',
    ...(calms.length === 0 ? [] : [`| with every processor busy otherwise | ${calmMinutes(slices).toFixed(1)} of ${wanted.calmMinutes} min, ${calms.reduce((total, { needless }) => total + needless, 0)} needless failovers, longest stall ${inMs(Math.max(...calms.map(({ longestStallMs }) => longestStallMs)))} |`]),
    `| failovers | ${stalls.length} |`,
    `| stall of the failover, as the client sees it | median ${inMs(percentile(stalls, 0.5))}, p90 ${inMs(percentile(stalls, 0.9))}, p99 ${inMs(percentile(stalls, 0.99))}, most ${inMs(percentile(stalls, 1))} |`,
    `| stall while the old primary came back and joined | median ${inMs(percentile(failovers.map(({ rejoinStallMs }) => rejoinStallMs), 0.5))}, p99 ${inMs(percentile(failovers.map(({ rejoinStallMs }) => rejoinStallMs), 0.99))} |`,
    `| wanted | p99 at most ${P99_MS[by]} ms |`,
    `| all copies in sync again after | median ${inMs(percentile(failovers.map(({ healedMs }) => healedMs), 0.5))} |`,
    `| blocks checked, wrong; requests failed | ${sum((slice) => slice.checkedBlocks)}, ${sum((slice) => slice.violations)}; ${sum((slice) => slice.errors)} |`,
    `| copies at the end of each slice | ${slices.find(({ difference }) => difference !== null)?.difference ?? 'equal'} |`,
    ...slices.flatMap(({ broken }) => (broken === null ? [] : [`| ended early | ${broken} |`])),
    '', '| stall up to | failovers |', '|---|---|',
    ...BUCKETS.map((most, i) => `| ${inMs(most)} | ${stalls.filter((stall) => stall <= most && stall > (BUCKETS[i - 1] ?? -1)).length} |`), '',
  ].join('\n');
}
