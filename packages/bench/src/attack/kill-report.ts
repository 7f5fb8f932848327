import type { LoadResult } from '@ashlar/load';
import { inMs, percentile } from './describe-run.ts';
import type { FioFindings } from './fio-verifier.ts';
import type { Way } from './harm.ts';
import type { Harm } from './kill-run.ts';

/** One slice of a run: a site, a volume, and what was done to them. */
export interface KillSlice {
  readonly commit: string;
  readonly seed: number;
  readonly seconds: number;
  readonly harms: readonly Harm[];
  /** Why it ended early, or null. */
  readonly broken: string | null;
  readonly load: Pick<LoadResult, 'requests' | 'checkedBlocks' | 'violationCount' | 'violations' | 'errorCount' | 'errors' | 'reconnections'>;
  readonly difference: string | null;
  /** Null where fio took no part. */
  readonly fio: FioFindings | null;
  readonly blindness: { readonly what: string; readonly seen: boolean } | null;
  readonly epochs: number;
}

export function isRight(slice: KillSlice): boolean {
  const { broken, difference, load, fio, blindness } = slice;
  return broken === null && difference === null && load.violationCount === 0 && load.errorCount === 0 && (fio?.failure ?? null) === null && blindness?.seen === true;
}

export function countedHarms(slices: readonly KillSlice[]): readonly Harm[] {
  return slices.flatMap(({ harms }) => harms.filter((harm) => harm.counts));
}

const TITLES: Readonly<Record<Way, string>> = {
  'kill': 'Servers killed under load (SIGKILL)',
  'freeze': 'Servers frozen under load (SIGSTOP, SIGCONT)',
  'kill-host': "The host's process killed under load",
  'kill-several': 'Several processes killed at once under load',
  'mixed': 'Processes killed and frozen under load, one way after the other',
};

export function killReport(description: readonly string[], way: Way, sizeBytes: number, slices: readonly KillSlice[], wanted: number): string {
  const counting = countedHarms(slices);
  const roles = [...new Set(counting.map(({ role }) => role))].sort().map((role) => `${counting.filter((harm) => harm.role === role).length} ${role}`);
  const stalls = counting.map(({ stallMs }) => stallMs);
  const healing = counting.map(({ healedMs }) => healedMs);
  const sum = (of: (slice: KillSlice) => number): number => slices.reduce((total, slice) => total + of(slice), 0);
  const rounds = slices.flatMap(({ fio }) => (fio === null ? [] : [fio]));
  const blind = slices.filter(({ blindness }) => blindness?.seen !== true).length;
  const state = !slices.every(isRight) ? 'FAILED' : counting.length >= wanted ? 'passed' : `right so far, ${counting.length} of ${wanted}`;
  return [
    `# ${TITLES[way]}: ${state}`, '',
    ...description,
    `- Slices: ${slices.map((slice) => `${countedHarms([slice]).length} in ${(slice.seconds / 60).toFixed(1)} min at ${slice.commit}, seed ${slice.seed}`).join('; ')}`,
    `- Volume: ${sizeBytes / 2 ** 30} GiB, two copies, three servers, each process of its own; queue depth 32, 4k to 128k, half reads, a flush every 100 writes`, '',
    '| | |', '|---|---|',
    `| processes harmed that held an in-sync copy (or the attachment) with requests in flight | ${counting.length} (${roles.join(', ')}) |`,
    ...(way === 'mixed' ? [`| ways | ${[...new Set(counting.map((harm) => harm.way))].sort().map((one) => `${one} ${counting.filter((harm) => harm.way === one).length}`).join(', ')} |`] : []),
    `| signals that did not count | ${sum(({ harms }) => harms.length) - counting.length} |`,
    `| length of the run | ${(sum(({ seconds }) => seconds) / 60).toFixed(1)} min, ${sum(({ load }) => load.requests)} requests, ${sum(({ epochs }) => epochs)} epochs |`,
    `| longest silence the client saw after a harm | median ${inMs(percentile(stalls, 0.5))}, p99 ${inMs(percentile(stalls, 0.99))}, most ${inMs(percentile(stalls, 1))} |`,
    `| from a harm until all copies were in sync | median ${inMs(percentile(healing, 0.5))}, most ${inMs(percentile(healing, 1))} |`,
    `| blocks read and checked | ${sum(({ load }) => load.checkedBlocks)} |`,
    `| wrong blocks | ${sum(({ load }) => load.violationCount)} |`,
    `| requests answered with an error | ${sum(({ load }) => load.errorCount)} |`,
    `| connections lost and made again | ${sum(({ load }) => load.reconnections)} |`,
    ...(rounds.length === 0 ? [] : [`| fio on a volume of its own (4k, crc32c, every round 6 times its region) | ${rounds.reduce((total, fio) => total + fio.rounds, 0)} rounds, ${rounds.find(({ failure }) => failure !== null)?.failure ?? 'no error'} |`]),
    `| copies at the end of each slice (cmp of each alone) | ${slices.find(({ difference }) => difference !== null)?.difference ?? 'equal'} |`,
    `| bytes flipped in one copy's files (${slices.map(({ blindness }) => blindness?.what ?? 'not tried').join('; ')}) | ${blind === 0 ? 'seen by the same comparison' : `NOT SEEN in ${blind}`} |`,
    ...slices.flatMap(({ broken }) => (broken === null ? [] : [`| ended early | ${broken} |`])),
    '',
    ...slices.flatMap(({ load }) => [...load.violations, ...load.errors]).slice(0, 20).map((one) => `    ${JSON.stringify(one)}`),
  ].join('\n');
}
