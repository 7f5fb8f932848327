import { inMs, percentile } from '../describe-run.ts';
import { SHARES, type Episode, type EpisodeKind } from './episodes.ts';
import type { CutDone } from './torture-run.ts';

/** One slice of a run: what was done, what it did, and what was found. */
export interface TortureSlice {
  readonly commit: string;
  readonly seed: number;
  readonly command: string;
  readonly seconds: number;
  readonly episodes: readonly Episode[];
  readonly cuts: readonly CutDone[];
  readonly promotions: number;
  readonly epochs: number;
  readonly requests: number;
  readonly reconnections: number;
  readonly longestStallsMs: readonly number[];
  readonly checkedBytes: { readonly blocks: number; readonly chain: number; readonly fio: number; readonly compared: number };
  readonly chainRecords: number;
  /** Each a line; none is wanted. */
  readonly violations: readonly string[];
}

export const WANTED = { hits: 300, cuts: 50, 'full-disk': 10, 'failing-disk': 10 } as const;

export interface Totals {
  readonly seconds: number;
  readonly hits: number;
  readonly hostHits: number;
  readonly cuts: number;
  readonly violations: readonly string[];
  readonly byKind: ReadonlyMap<EpisodeKind, readonly Episode[]>;
}

export function totals(slices: readonly TortureSlice[]): Totals {
  const episodes = slices.flatMap((slice) => slice.episodes);
  return {
    seconds: slices.reduce((sum, slice) => sum + slice.seconds, 0), hits: episodes.reduce((sum, { hits }) => sum + hits, 0), hostHits: episodes.reduce((sum, { hostHits }) => sum + hostHits, 0),
    cuts: slices.reduce((sum, slice) => sum + slice.cuts.length, 0), violations: slices.flatMap((slice) => slice.violations),
    byKind: new Map((Object.keys(SHARES) as EpisodeKind[]).map((kind) => [kind, episodes.filter((one) => one.kind === kind)])),
  };
}

/** An episode with a disk that was never asked for the failing call is none. */
export function diskEpisodes(all: Totals, kind: 'full-disk' | 'failing-disk'): number {
  return (all.byKind.get(kind) ?? []).filter(({ injected }) => injected > 0).length;
}

export function reached(all: Totals, minutes: number): boolean {
  return all.violations.length === 0 && all.seconds >= minutes * 60 && all.hits >= WANTED.hits && all.cuts >= WANTED.cuts
    && diskEpisodes(all, 'full-disk') >= WANTED['full-disk'] && diskEpisodes(all, 'failing-disk') >= WANTED['failing-disk'];
}

export function tortureReport(description: readonly string[], code: string, slices: readonly TortureSlice[], minutes: number): string {
  const all = totals(slices);
  const state = all.violations.length > 0 ? 'FAILED' : reached(all, minutes) ? 'passed' : `no violation so far, ${(all.seconds / 60).toFixed(1)} of ${minutes} minutes`;
  const sum = (of: (slice: TortureSlice) => number): number => slices.reduce((total, slice) => total + of(slice), 0);
  const mib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const links = new Map<string, number>();
  for (const { how } of slices.flatMap(({ cuts }) => cuts)) links.set(how, (links.get(how) ?? 0) + 1);
  const longest = slices.flatMap(({ longestStallsMs }) => longestStallsMs).sort((a, b) => b - a).slice(0, 10);
  return [
    `# Torture of real processes: ${state}`, '',
    ...description,
    `- Slices: ${slices.map(({ commit, seed, seconds }) => `${(seconds / 60).toFixed(1)} min at ${commit}, seed ${seed}`).join('; ')} (code ${code})`,
    '- Three servers and a host, each process of its own, every link through a proxy of ours; three volumes of two copies: one under our verifier of blocks and generations, one under a writer of dependent records, one under fio behind nbdkit\'s retry filter', '',
    '| | | wanted |', '|---|---|---|',
    `| length | ${(all.seconds / 60).toFixed(1)} min | ${minutes} |`,
    `| kills and freezes of a process that held an in-sync copy, with requests in flight | ${all.hits} | ${WANTED.hits} |`,
    `| the same of the host's process | ${all.hostHits} | |`,
    `| links cut | ${all.cuts} (${[...links].map(([how, count]) => `${how} ${count}`).join(', ')}) | ${WANTED.cuts} |`,
    `| episodes of a full disk (ENOSPC) | ${diskEpisodes(all, 'full-disk')} | ${WANTED['full-disk']} |`,
    `| episodes of a failing disk (EIO of fdatasync) | ${diskEpisodes(all, 'failing-disk')} | ${WANTED['failing-disk']} |`,
    `| failovers; epochs | ${sum((slice) => slice.promotions)}; ${sum((slice) => slice.epochs)} | |`,
    `| longest stalls of the client | ${longest.map(inMs).join(', ')} | |`,
    `| requests; connections made again; records of the chain | ${sum((slice) => slice.requests)}; ${sum((slice) => slice.reconnections)}; ${sum((slice) => slice.chainRecords)} | |`,
    `| bytes verified: blocks and generations, chain, fio, copies compared at the end of each slice | ${mib(sum((slice) => slice.checkedBytes.blocks))}, ${mib(sum((slice) => slice.checkedBytes.chain))}, ${mib(sum((slice) => slice.checkedBytes.fio))}, ${mib(sum((slice) => slice.checkedBytes.compared))} | |`,
    `| violations (wrong blocks, gaps in the chain, fio's errors, requests that failed, copies that differ, anything stuck) | ${all.violations.length} | 0 |`, '',
    '| what was done | times | hits | stall median, most | whole again after: median, most | struck again before that |', '|---|---|---|---|---|---|',
    ...[...all.byKind].map(([kind, episodes]) => {
      const healed = episodes.flatMap(({ healedMs }) => (healedMs === null ? [] : [healedMs]));
      const stalls = episodes.map(({ stallMs }) => stallMs);
      return `| ${kind} | ${episodes.length} | ${episodes.reduce((count, { hits, hostHits }) => count + hits + hostHits, 0)} | ${inMs(percentile(stalls, 0.5))}, ${inMs(percentile(stalls, 1))} | ${inMs(percentile(healed, 0.5))}, ${inMs(percentile(healed, 1))} | ${episodes.length - healed.length} |`;
    }), '',
    ...all.violations.slice(0, 20).map((line) => `    ${line}`), '',
  ].join('\n');
}
