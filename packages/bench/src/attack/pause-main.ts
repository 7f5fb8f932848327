import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { parseDurationMs, parseSizeBytes } from '@ashlar/words';
import { ROOT } from '../site/site.ts';
import { inMs, percentile, runDescription } from './describe-run.ts';
import { failOverAgainAndAgain, type Failover } from './pause-run.ts';
import { Rig, type Settled } from './rig.ts';

const USAGE = `pnpm pause-run [--by kill|freeze] [--failovers 200] [--minutes M] [--calm 0] [--rate 1500] [--size 1GiB] [--seed N] [--dir DIR] [--results DIR]
  How long the client waits when the primary's process is killed (SIGKILL) or frozen (SIGSTOP), over many failovers.
  --calm 30m    first so long with every processor also busy otherwise: no failover may happen; then one freeze must still be found in time`;

const { values } = parseArgs({
  options: {
    by: { type: 'string', default: 'kill' }, failovers: { type: 'string', default: '200' }, minutes: { type: 'string', default: '180' }, calm: { type: 'string', default: '0' }, rate: { type: 'string', default: '1500' },
    size: { type: 'string', default: '1GiB' }, seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

/** Stall that 99 of 100 failovers may not exceed. */
const P99_MS: Readonly<Record<string, number>> = { kill: 200, freeze: 2000 };

interface Calm {
  readonly minutes: number;
  readonly needless: number;
  readonly longestStallMs: number;
}

/** Every processor busy with something else meanwhile. */
async function calm(rig: Rig, forMs: number): Promise<Calm | null> {
  if (forMs === 0) return null;
  const before = await rig.healthy(60_000);
  const fromMs = performance.now();
  const busy: ChildProcess[] = Array.from({ length: availableParallelism() }, () => spawn(process.execPath, ['-e', 'for (;;) {}'], { stdio: 'ignore' }));
  try {
    await delay(forMs);
  } finally {
    for (const child of busy) child.kill('SIGKILL');
  }
  const after = await rig.describe();
  return { minutes: forMs / 60_000, needless: after.epoch - before.epoch, longestStallMs: rig.load.longestStallMsBetween(fromMs, performance.now()) };
}

async function pauseRun(by: 'kill' | 'freeze'): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-pause-'));
  const rate = Number(values.rate);
  process.stderr.write(`seed ${seed}, in ${directory}\n`);
  const rig = await Rig.start({
    directory, servers: 3, mirrors: 1, sizeBytes: parseSizeBytes(values.size), up: [],
    load: { readPercent: 50, depth: 32, rate, seed, reconnectTimeoutMs: 300_000 },
  });
  const failovers: Failover[] = [];
  let passed = false;
  try {
    const quiet = await calm(rig, parseDurationMs(values.calm));
    let broken: string | null = null;
    try {
      await failOverAgainAndAgain(rig, { signal: by === 'kill' ? 'SIGKILL' : 'SIGSTOP', failovers: Number(values.failovers), minutesMax: Number(values.minutes), seed }, (failover) => {
        failovers.push(failover);
        process.stderr.write(`${String(failovers.length).padStart(4)}  ${failover.from} → ${failover.to}  stall ${inMs(failover.stallMs).padStart(8)}  at rejoining ${inMs(failover.rejoinStallMs).padStart(8)}  all in sync after ${inMs(failover.healedMs)}\n`);
      });
    } catch (error) {
      // What was measured so far is worth its report; the run has failed.
      broken = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${broken}\n`);
    }
    const settled = await rig.settle(300_000);
    const p99 = percentile(failovers.map(({ stallMs }) => stallMs), 0.99);
    passed = broken === null && p99 <= (P99_MS[by] ?? 0) && (quiet?.needless ?? 0) === 0 && settled.load.violationCount === 0 && settled.load.errorCount === 0 && settled.difference === null;
    const text = report(by, seed, failovers, quiet, settled, broken, passed);
    const results = values.results ?? join(ROOT, 'docs/results');
    mkdirSync(results, { recursive: true });
    writeFileSync(join(results, `pause-run-${by}${quiet === null ? '' : '-calm'}.md`), text);
    process.stdout.write(`${text}\n`);
  } finally {
    await rig.site.stop();
    if (values.dir === undefined && passed) rmSync(directory, { recursive: true, force: true });
  }
  return passed;
}

function report(by: 'kill' | 'freeze', seed: number, failovers: readonly Failover[], quiet: Calm | null, { load, difference }: Settled, broken: string | null, passed: boolean): string {
  const stalls = failovers.map(({ stallMs }) => stallMs);
  const buckets = [50, 100, 150, 200, 300, 500, 1000, 1500, 2000, 5000, Infinity];
  return [
    `# The pause of a failover, primary ${by === 'kill' ? 'killed (SIGKILL)' : 'frozen (SIGSTOP)'}: ${passed ? 'passed' : 'FAILED'}`, '',
    ...runDescription('pause-run', seed),
    `- Load: ${load.requestsPerSecond.toFixed(0)} requests a second (${values.rate} asked for), half of them writes of 4 KiB, two copies, three servers, each process of its own`, '',
    '| | |', '|---|---|',
    ...(quiet === null ? [] : [`| with every processor busy otherwise | ${quiet.minutes} min, ${quiet.needless} needless failovers, longest stall ${inMs(quiet.longestStallMs)} |`]),
    `| failovers | ${failovers.length} |`,
    `| stall of the failover, as the client sees it | median ${inMs(percentile(stalls, 0.5))}, p90 ${inMs(percentile(stalls, 0.9))}, p99 ${inMs(percentile(stalls, 0.99))}, most ${inMs(percentile(stalls, 1))} |`,
    `| stall while the old primary came back and joined | median ${inMs(percentile(failovers.map(({ rejoinStallMs }) => rejoinStallMs), 0.5))}, p99 ${inMs(percentile(failovers.map(({ rejoinStallMs }) => rejoinStallMs), 0.99))} |`,
    `| wanted | p99 at most ${P99_MS[by]} ms |`,
    `| all copies in sync again after | median ${inMs(percentile(failovers.map(({ healedMs }) => healedMs), 0.5))} |`,
    `| blocks checked, wrong; requests failed | ${load.checkedBlocks}, ${load.violationCount}; ${load.errorCount} |`,
    `| copies at the end | ${difference ?? 'equal'} |`,
    ...(broken === null ? [] : [`| ended early | ${broken} |`]),
    '', '| stall up to | failovers |', '|---|---|',
    ...buckets.map((most, i) => `| ${inMs(most)} | ${stalls.filter((stall) => stall <= most && stall > (buckets[i - 1] ?? -1)).length} |`), '',
  ].join('\n');
}

const by = values.by === 'kill' || values.by === 'freeze' ? values.by : null;
if (values.help || by === null) {
  process.stdout.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else if (!(await pauseRun(by))) {
  process.exitCode = 1;
}
