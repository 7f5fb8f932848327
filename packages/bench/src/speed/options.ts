import { parseArgs } from 'node:util';
import { parseSizeBytes } from '@ashlar/words';
import { ARRANGEMENTS, type Arrangement } from './targets/ashlar.ts';
import { PEER_NAMES, type PeerName } from './targets/peers.ts';
import { selectWorkloads, type Workload } from './workloads.ts';

export const COMPARISONS = [...ARRANGEMENTS, 'strict', 'memory', 'volumes-100', 'volumes-1000'] as const;
export type Comparison = (typeof COMPARISONS)[number];

export interface BenchOptions {
  readonly comparisons: readonly Comparison[];
  /** Null: those that each comparison is meant for. */
  readonly peers: readonly PeerName[] | null;
  readonly rounds: number;
  /** Null: those for which a comparison has a goal. */
  readonly only: readonly Workload[] | null;
  readonly seconds: number;
  readonly sizeBytes: number;
  readonly profile: boolean;
  readonly fresh: boolean;
  /** Where volumes and images lie while it runs. */
  readonly directory: string | null;
  /** Where results are kept. */
  readonly results: string | null;
}

export const USAGE = `pnpm bench [${COMPARISONS.join('|')}]…   (default: all of them, one after the other)
  --peers a,b      ${PEER_NAMES.join(', ')}
  --rounds N       in all (default 5): rounds that an earlier run of the same code has measured are not measured again
  --only a,b       workloads (default: all that have a goal)
  --seconds S      a run (default 15)
  --size SIZE      of the volume (default 2GiB)
  --profile        one run of each workload on our side alone, with the functions in which its processes spent their time
  --fresh          forget what earlier runs have measured
  --dir DIR        where volumes lie meanwhile (default: a new folder under the system's temporary folder)
  --results DIR    where results are kept (default: docs/results)`;

/** Throws a RangeError that says what is wrong. */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values, positionals } = parseArgs({
    args: [...argv], allowPositionals: true,
    options: {
      peers: { type: 'string' }, rounds: { type: 'string', default: '5' }, only: { type: 'string' }, seconds: { type: 'string', default: '15' },
      size: { type: 'string', default: '2GiB' }, profile: { type: 'boolean', default: false }, fresh: { type: 'boolean', default: false },
      dir: { type: 'string' }, results: { type: 'string' },
    },
  });
  const list = (text: string | undefined): readonly string[] => (text ?? '').split(',').filter((name) => name !== '');
  const only = list(values.only);
  return {
    comparisons: positionals.length === 0 ? COMPARISONS : positionals.map((name) => oneOf(name, COMPARISONS, 'comparison')),
    peers: values.peers === undefined ? null : list(values.peers).map((name) => oneOf(name, PEER_NAMES, 'peer')),
    rounds: positive(values.rounds, '--rounds'), seconds: positive(values.seconds, '--seconds'), sizeBytes: parseSizeBytes(values.size),
    only: only.length === 0 ? null : selectWorkloads(only),
    profile: values.profile, fresh: values.fresh, directory: values.dir ?? null, results: values.results ?? null,
  };
}

function oneOf<T extends string>(name: string, all: readonly T[], what: string): T {
  const found = all.find((one) => one === name);
  if (found === undefined) throw new RangeError(`no such ${what}: ${name} (there are ${all.join(', ')})`);
  return found;
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new RangeError(`${option} ${text}: not a number above 0`);
  return value;
}

export function isArrangement(comparison: Comparison): comparison is Arrangement {
  return ARRANGEMENTS.some((one) => one === comparison);
}
