import type { LoadResult } from '@ashlar/load';
import { inMs, percentile } from './describe-run.ts';
import type { FioFindings } from './fio-verifier.ts';
import type { Way } from './harm.ts';
import type { Harm } from './kill-run.ts';

interface KillResult {
  readonly description: readonly string[];
  readonly way: Way;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly harms: readonly Harm[];
  /** Why the run ended early, or null. */
  readonly broken: string | null;
  readonly load: LoadResult;
  readonly difference: string | null;
  /** Null where fio took no part. */
  readonly fio: FioFindings | null;
  readonly blindness: { readonly what: string; readonly seen: boolean } | null;
  readonly epochs: number;
  readonly passed: boolean;
}

const TITLES: Readonly<Record<Way, string>> = {
  'kill': 'Servers killed under load (SIGKILL)',
  'freeze': 'Servers frozen under load (SIGSTOP, SIGCONT)',
  'kill-host': "The host's process killed under load",
  'kill-several': 'Several processes killed at once under load',
  'mixed': 'Processes killed and frozen under load, one way after the other',
};

export function killReport(result: KillResult): string {
  const counting = result.harms.filter((harm) => harm.counts);
  const roles = [...new Set(counting.map(({ role }) => role))].sort().map((role) => `${counting.filter((harm) => harm.role === role).length} ${role}`);
  const stalls = counting.map(({ stallMs }) => stallMs);
  const healing = counting.map(({ healedMs }) => healedMs);
  const { load } = result;
  return [
    `# ${TITLES[result.way]}: ${result.passed ? 'passed' : 'FAILED'}`, '',
    ...result.description,
    `- Volume: ${result.sizeBytes / 2 ** 30} GiB, two copies, three servers, each process of its own; queue depth 32, 4k to 128k, half reads, a flush every 100 writes`, '',
    '| | |', '|---|---|',
    `| processes harmed that held an in-sync copy (or the attachment) with requests in flight | ${counting.length} (${roles.join(', ')}) |`,
    ...(result.way === 'mixed' ? [`| ways | ${[...new Set(counting.map(({ way }) => way))].sort().map((way) => `${way} ${counting.filter((harm) => harm.way === way).length}`).join(', ')} |`] : []),
    `| signals that did not count | ${result.harms.length - counting.length} |`,
    `| length of the run | ${(result.seconds / 60).toFixed(1)} min, ${load.requests} requests, ${result.epochs} epochs |`,
    `| longest silence the client saw after a harm | median ${inMs(percentile(stalls, 0.5))}, p99 ${inMs(percentile(stalls, 0.99))}, most ${inMs(percentile(stalls, 1))} |`,
    `| from a harm until all copies were in sync | median ${inMs(percentile(healing, 0.5))}, most ${inMs(percentile(healing, 1))} |`,
    `| blocks read and checked | ${load.checkedBlocks} |`,
    `| wrong blocks | ${load.violationCount} |`,
    `| requests answered with an error | ${load.errorCount} |`,
    `| connections lost and made again | ${load.reconnections} |`,
    ...(result.fio === null ? [] : [`| fio on a volume of its own (4k, crc32c, every round 6 times its region) | ${result.fio.rounds} rounds, ${result.fio.failure ?? 'no error'} |`]),
    `| copies at the end (cmp of each alone) | ${result.difference ?? 'equal'} |`,
    `| bytes flipped in one copy's files (${result.blindness?.what ?? 'not tried'}) | ${result.blindness === null ? '–' : result.blindness.seen ? 'seen by the same comparison' : 'NOT SEEN'} |`,
    ...(result.broken === null ? [] : [`| ended early | ${result.broken} |`]),
    '',
    ...load.violations.slice(0, 10).map((violation) => `    ${JSON.stringify(violation)}`),
    ...load.errors.slice(0, 10).map((error) => `    ${JSON.stringify(error)}`),
  ].join('\n');
}
