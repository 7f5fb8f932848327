import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Volume } from '@ashlar/node-manager';
import { Site } from '@ashlar/site';
import { cpuTimes, holdProcessorsAwake, machineReport, stealPercent, treeState } from '../site/machine.ts';
import { ROOT } from '../site/site.ts';
import { DirectSubmission, LOADS, throughPackage, WORKING_SET_BYTES, type Load } from './loads.ts';

/**
 * `pnpm packages:bench`: what the promises of @ashlar/node-manager cost. A site in this process, one volume with a mirror; each load through the
 * package and by direct submission to the same attachment, in turns. What is judged is the median of the rounds' ratios: the two sides of a round
 * are neighbours in time, while rounds differ by a factor of two and more on a virtual machine.
 */
const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '7' }, ms: { type: 'string', default: '1000' }, save: { type: 'boolean', default: false } } });
const ROUNDS = Number(options.rounds);
const ROUND_MS = Number(options.ms);
/** Issue "From one machine to many", what must be shown, 5. */
const RATIO_MIN = 0.9;

interface Sample {
  readonly perSecond: number;
  /** Processor time of this process, all its threads, per request: steadier than the rate where others use the machine. */
  readonly cpuUs: number;
}
interface Pair { readonly direct: Sample[]; readonly packaged: Sample[] }

const directory = mkdtempSync(join(tmpdir(), 'ashlar-packages-bench-'));
const release = holdProcessorsAwake();
try {
  const site = await Site.start({ directory, servers: 2 });
  const client = await site.client();
  const { volumeId } = await client.call({ kind: 'volume-create', sizeBytes: 2 ** 30, mirrors: 1 });
  const volume = await site.attach(volumeId);
  for (let at = 0; at < WORKING_SET_BYTES; at += 2 ** 20) await volume.write(at, new Uint8Array(2 ** 20).fill(7));
  await volume.flush();
  const before = cpuTimes();
  const pairs = await measure(volume);
  const text = report(pairs, stealPercent(before, cpuTimes()));
  process.stdout.write(text);
  if (options.save) writeFileSync(join(ROOT, 'docs/results/packages.md'), text);
  if (LOADS.some((load) => ratio(pairs.get(load) as Pair) < RATIO_MIN)) process.exitCode = 1;
  await volume.close();
  await site.stop();
} finally {
  release?.();
  rmSync(directory, { recursive: true, force: true });
}

/** Round -1 warms the compiler up. Who goes first changes from round to round. */
async function measure(volume: Volume): Promise<ReadonlyMap<Load, Pair>> {
  const pairs = new Map<Load, Pair>(LOADS.map((load) => [load, { direct: [], packaged: [] }]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const [load, { direct, packaged }] of pairs) {
      const sides = [
        { samples: direct, run: () => new DirectSubmission(volume, load, round + 10).run(ROUND_MS) },
        { samples: packaged, run: () => throughPackage(volume, load, ROUND_MS, round + 10) },
      ];
      for (const { samples, run } of round % 2 === 0 ? sides : sides.toReversed()) {
        const sample = await sampled(run);
        if (round >= 0) samples.push(sample);
      }
    }
  }
  return pairs;
}

async function sampled(run: () => Promise<{ readonly answered: number; readonly ms: number }>): Promise<Sample> {
  const before = process.cpuUsage();
  const { answered, ms } = await run();
  const { user, system } = process.cpuUsage(before);
  return { perSecond: answered / ms * 1000, cpuUs: (user + system) / answered };
}

function middle(figures: readonly number[]): number { return figures.toSorted((a, b) => a - b)[figures.length >> 1] as number; }
function median(samples: readonly Sample[], figure: keyof Sample): number { return middle(samples.map((sample) => sample[figure])); }
function ratio({ direct, packaged }: Pair): number { return middle(packaged.map(({ perSecond }, round) => perSecond / (direct[round] as Sample).perSecond)); }
function ratioOfMedians({ direct, packaged }: Pair): number { return median(packaged, 'perSecond') / median(direct, 'perSecond'); }

function report(pairs: ReadonlyMap<Load, Pair>, stolen: number): string {
  const { processor, processors, kernel, versions } = machineReport();
  const { commit, code } = treeState(ROOT);
  const spread = (samples: readonly Sample[]): string => {
    const rates = samples.map(({ perSecond }) => perSecond);
    return `${thousands(median(samples, 'perSecond'))} (${thousands(Math.min(...rates))}–${thousands(Math.max(...rates))})`;
  };
  const rows = [...pairs].map(([load, pair]) => `| ${load.name} | ${spread(pair.direct)} | ${spread(pair.packaged)} | ${ratio(pair).toFixed(2)} | ${ratioOfMedians(pair).toFixed(2)} | ${median(pair.direct, 'cpuUs').toFixed(1)} | ${median(pair.packaged, 'cpuUs').toFixed(1)} |`);
  return [
    '# Through the package, and straight to the attachment', '',
    `\`pnpm packages:bench --rounds ${ROUNDS} --ms ${ROUND_MS}\`, at commit ${commit}, code ${code}. A site in the process of the program, one volume with one mirror on the same disk, working set 64 MiB;`,
    'each load through the promises of `@ashlar/node-manager` and by frames made by hand and given to the same attachment (no promise, no copy; new requests when all answers of a turn are there), in turns.', '',
    `${processors} cores, ${processor}, Linux ${kernel}, Node ${versions['node'] ?? ''}; medians (lowest–highest) of ${ROUNDS} rounds of ${ROUND_MS} ms; ${stolen.toFixed(1)} % stolen. Wanted: a median of the rounds' ratios of at least ${RATIO_MIN}.`, '',
    '| load | direct, requests/s | through the package, requests/s | median of ratios | ratio of medians | processor µs a request, direct | through the package |', '|---|---|---|---|---|---|---|', ...rows, '',
  ].join('\n');
}

function thousands(rate: number): string { return `${(rate / 1000).toFixed(rate < 1e5 ? 1 : 0)}k`; }
