import type { LoadResult } from '@ashlar/load';
import { inMs, percentile } from '../describe-run.ts';
import { SHARES, DIRECTED_LINKS, type Episode, type EpisodeKind } from './episodes.ts';

/** One slice of a run: machines that were started, and what was done to them. */
export interface CutSlice {
  readonly commit: string;
  readonly seed: number;
  readonly seconds: number;
  readonly episodes: readonly Episode[];
  /** `from to` → how often. */
  readonly cuts: Readonly<Record<string, number>>;
  readonly broken: string | null;
  readonly difference: string | null;
  readonly epochs: number;
  /** Whether the comparison of the copies sees bytes that were changed in one; null: not tried. */
  readonly blindness: { readonly what: string; readonly seen: boolean } | null;
  readonly load: Pick<LoadResult, 'requests' | 'checkedBlocks' | 'violationCount' | 'violations' | 'errorCount' | 'errors' | 'reconnections'>;
}

export function isRight({ broken, difference, load, episodes, blindness }: CutSlice): boolean {
  return broken === null && difference === null && load.violationCount === 0 && load.errorCount === 0 && blindness?.seen === true && episodes.every(({ wrong }) => wrong === null);
}

export function cutsOf(slices: readonly CutSlice[]): Map<string, number> {
  const cuts = new Map<string, number>();
  for (const slice of slices) for (const [link, times] of Object.entries(slice.cuts)) cuts.set(link, (cuts.get(link) ?? 0) + times);
  return cuts;
}

export function cutReport(description: readonly string[], slices: readonly CutSlice[], wanted: number, size: string): string {
  const episodes = slices.flatMap((slice) => slice.episodes);
  const sum = (of: (slice: CutSlice) => number): number => slices.reduce((total, slice) => total + of(slice), 0);
  const cuts = cutsOf(slices);
  const uncut = DIRECTED_LINKS.filter((link) => !cuts.has(link.join(' '))).map((link) => link.join(' → '));
  const state = !slices.every(isRight) ? 'FAILED' : episodes.length >= wanted && uncut.length === 0 ? 'passed' : `right so far, ${episodes.length} of ${wanted} episodes`;
  const kinds = Object.keys(SHARES) as EpisodeKind[];
  return [
    `# Machines in network namespaces, their links cut: ${state}`, '',
    ...description,
    `- Slices: ${slices.map((slice) => `${slice.episodes.length} episodes in ${(slice.seconds / 60).toFixed(1)} min at ${slice.commit}, seed ${slice.seed}`).join('; ')}`,
    `- Machines: m (manager), s1, s2, s3 (storage), h1 (host), each a daemon with a configuration file in a network namespace of its own, mutual TLS between them; a volume of ${size}, two copies; a verified load through NBD, half reads, 4k to 64k`, '',
    '| episode | times | longest silence: median, most | all in sync and answered again: median, most | not as it should be |', '|---|---|---|---|---|',
    ...kinds.map((kind) => {
      const ours = episodes.filter((episode) => episode.kind === kind);
      const stalls = ours.map(({ stallMs }) => stallMs);
      const healing = ours.map(({ healedMs }) => healedMs);
      return ours.length === 0 ? `| ${kind} | 0 | | | |` : `| ${kind} | ${ours.length} | ${inMs(percentile(stalls, 0.5))}, ${inMs(percentile(stalls, 1))} | ${inMs(percentile(healing, 0.5))}, ${inMs(percentile(healing, 1))} | ${ours.filter(({ wrong }) => wrong !== null).length} |`;
    }), '',
    '| | |', '|---|---|',
    `| directions of links that were cut | ${DIRECTED_LINKS.length - uncut.length} of ${DIRECTED_LINKS.length}${uncut.length === 0 ? '' : `; not yet ${uncut.join(', ')}`} |`,
    `| requests, epochs | ${sum(({ load }) => load.requests)}, ${sum(({ epochs }) => epochs)} |`,
    `| blocks read and checked; wrong | ${sum(({ load }) => load.checkedBlocks)}; ${sum(({ load }) => load.violationCount)} |`,
    `| requests answered with an error | ${sum(({ load }) => load.errorCount)} |`,
    `| copies at the end of each slice (cmp of each alone) | ${slices.find(({ difference }) => difference !== null)?.difference ?? 'equal'} |`,
    `| bytes changed in one machine's files after it (${slices.map(({ blindness }) => blindness?.what ?? 'not tried').join('; ')}) | ${slices.every(({ blindness }) => blindness?.seen === true) ? 'seen by the same comparison' : 'NOT SEEN'} |`,
    ...slices.flatMap(({ broken }) => (broken === null ? [] : [`| ended early | ${broken} |`])),
    ...episodes.flatMap(({ kind, what, wrong }) => (wrong === null ? [] : [`| ${kind}: ${what} | ${wrong} |`])),
    '',
    ...slices.flatMap(({ load }) => [...load.violations, ...load.errors]).slice(0, 20).map((one) => `    ${JSON.stringify(one)}`),
  ].join('\n');
}
