import { goal } from './goals.ts';
import { measured, median, spreadPercent, type Results } from './results.ts';
import { WORKLOADS, type Workload } from './workloads.ts';

/** Fewer rounds than this are no result; the verdict says so. */
const ROUNDS_WANTED = 5;

export function markdown(results: Results): string {
  const workloads = WORKLOADS.filter((workload) => results.measurements.some((one) => one.workload === workload.name));
  const [ours] = results.targets;
  const peers = results.targets.slice(1);
  return [
    `# Comparison: ${results.titles[ours as string] ?? ours}`,
    '',
    ...facts(results),
    '',
    '## Requests per second (median of rounds, ± half the spread)',
    '',
    ...table(workloads, results.targets.map((target) => [results.titles[target] ?? target, (workload) => rate(results, target, workload)])),
    '',
    ...peers.flatMap((peer) => ratioSection(results, ours as string, peer, workloads)),
    '## Processor time of the servers for each request (µs, median)',
    '',
    ...table(workloads, results.targets.map((target) => [results.titles[target] ?? target, (workload) => cpu(results, target, workload)])),
    '',
    '## Latency as fio saw it (µs, median of rounds: p50 / p99)',
    '',
    ...table(workloads, results.targets.map((target) => [results.titles[target] ?? target, (workload) => latency(results, target, workload)])),
    '',
  ].join('\n');
}

function facts(results: Results): readonly string[] {
  const { machine } = results;
  const commits = [...new Set(results.measurements.map((one) => one.commit))];
  const steal = results.measurements.map((one) => one.stealPercent);
  const others = results.measurements.map((one) => one.othersPercent);
  const repeats = results.measurements.reduce((sum, one) => sum + one.repeats, 0);
  return [
    `- Command: \`${results.command}\``,
    `- Commit: ${commits.join(', ')} (code ${results.code})`,
    `- Machine: ${machine.processors} × ${machine.processor}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}; ${Object.values(machine.versions).join(', ')}`,
    `- Volume: ${results.sizeBytes / 2 ** 30} GiB, overwritten twice before the first measurement; ${results.seconds} s a run; rounds interleaved: each workload against every side before the next`,
    `- Processors held awake (/dev/cpu_dma_latency at 0): ${results.processorsHeldAwake ? 'yes' : 'no, the machine does not offer it'}`,
    `- Processor time used by neither the servers nor fio: ${median(others).toFixed(0)} % of the machine (median), ${Math.max(...others).toFixed(0)} % (most)`,
    `- Stolen processor time: ${median(steal).toFixed(1)} % (median), ${Math.max(...steal).toFixed(1)} % (most) of a run; ${repeats} disturbed runs (over 10 %) were repeated`,
    ...results.notes.map((note) => `- ${note}`),
  ];
}

type Row = readonly [string, (workload: Workload) => string];

function table(workloads: readonly Workload[], rows: readonly Row[]): readonly string[] {
  return [
    `| | ${workloads.map((workload) => workload.title).join(' | ')} |`,
    `|---|${workloads.map(() => '---|').join('')}`,
    ...rows.map(([title, cell]) => `| ${title} | ${workloads.map(cell).join(' | ')} |`),
  ];
}

function rates(results: Results, target: string, workload: Workload): readonly number[] {
  return measured(results, target, workload.name).map((one) => one.requestsPerSecond);
}

function rate(results: Results, target: string, workload: Workload): string {
  const values = rates(results, target, workload);
  return values.length === 0 ? '–' : `${Math.round(median(values))} ±${spreadPercent(values).toFixed(0)} %`;
}

function cpu(results: Results, target: string, workload: Workload): string {
  const values = measured(results, target, workload.name).map((one) => one.cpuUsPerRequest);
  return values.length === 0 ? '–' : median(values).toFixed(1);
}

function latency(results: Results, target: string, workload: Workload): string {
  const all = measured(results, target, workload.name);
  return all.length === 0 ? '–' : `${median(all.map((one) => one.p50Us)).toFixed(0)} / ${median(all.map((one) => one.p99Us)).toFixed(0)}`;
}

/** Ratio of medians over the rounds that both have. */
function ratio(results: Results, ours: string, peer: string, workload: Workload): { readonly value: number; readonly rounds: number } {
  const mine = measured(results, ours, workload.name);
  const theirs = measured(results, peer, workload.name);
  const common = mine.filter((one) => theirs.some((other) => other.round === one.round)).map((one) => one.round);
  const inCommon = (list: typeof mine): readonly number[] => list.filter((one) => common.includes(one.round)).map((one) => one.requestsPerSecond);
  return { value: median(inCommon(mine)) / median(inCommon(theirs)), rounds: common.length };
}

function ratioSection(results: Results, ours: string, peer: string, workloads: readonly Workload[]): readonly string[] {
  const ratios = new Map(workloads.map((workload) => [workload, ratio(results, ours, peer, workload)]));
  const least = (workload: Workload): number | null => goal(results.arrangement, peer, workload);
  const wanted = workloads.some((workload) => least(workload) !== null);
  const verdict = (workload: Workload): string => {
    const { value, rounds } = ratios.get(workload) as { value: number; rounds: number };
    const atLeast = least(workload);
    if (atLeast === null || Number.isNaN(value)) return '';
    return `${value >= atLeast ? 'met' : 'missed'}${rounds < ROUNDS_WANTED ? ` (${rounds} rounds only)` : ''}`;
  };
  return [
    `## Ratio to ${results.titles[peer] ?? peer}`, '',
    ...table(workloads, [
      ['measured', (workload) => format(ratios.get(workload)?.value ?? NaN)],
      ...(wanted ? ([['wanted, at least', (workload) => format(least(workload) ?? NaN)], ['', verdict]] satisfies Row[]) : []),
    ]), '',
  ];
}

function format(value: number): string {
  return Number.isNaN(value) ? '–' : value.toFixed(2);
}
