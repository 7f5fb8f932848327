import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { parseDurationMs, parseSizeBytes } from '@ashlar/words';
import { treeState } from '../site/machine.ts';
import { ROOT } from '../site/site.ts';
import { inMs, runDescription } from './describe-run.ts';
import { calmMinutes, isRight, pauseReport, type By, type Calm, type PauseSlice, type Wanted } from './pause-report.ts';
import { failOverAgainAndAgain, type Failover } from './pause-run.ts';
import { Rig } from './rig.ts';
import { loadSlices, saveSlices } from './slices.ts';

const USAGE = `pnpm pause-run [--by kill|freeze] [--failovers 200] [--rounds N] [--minutes M] [--calm 0] [--slice 5m] [--rate 1500] [--size 256MiB] [--seed N] [--dir DIR] [--results DIR]
  How long the client waits when the primary's process is killed (SIGKILL) or frozen (SIGSTOP), over many failovers.
  --rounds N    at most so many failovers now; they are added to those of earlier calls with the same code and settings
  --calm 30m    so long with every processor also busy otherwise: no failover may happen; then one freeze must still be found in time
  --slice 5m    of the calm, at most so long now; it adds up in the same way`;

const { values } = parseArgs({
  options: {
    by: { type: 'string' }, failovers: { type: 'string' }, rounds: { type: 'string' }, minutes: { type: 'string', default: '180' }, calm: { type: 'string', default: '0' }, slice: { type: 'string' },
    rate: { type: 'string', default: '1500' }, size: { type: 'string', default: '256MiB' }, seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

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

async function pauseRun(by: By, wanted: Wanted): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const { code, commit } = treeState(ROOT);
  const results = values.results ?? join(ROOT, 'docs/results');
  const name = `pause-run-${by}${wanted.calmMinutes === 0 ? '' : '-calm'}`;
  const kept = loadSlices<PauseSlice>(join(results, `${name}.json`), code, `${values.size}, ${values.rate} requests a second`);
  const left = wanted.failovers - kept.slices.reduce((sum, { failovers }) => sum + failovers.length, 0);
  const calmLeftMs = Math.max(0, wanted.calmMinutes - calmMinutes(kept.slices)) * 60_000;
  const slice = await oneSlice(by, seed, commit, wanted.calmMinutes > 0 ? 1 : Math.min(left, Number(values.rounds ?? Infinity)), values.slice === undefined ? calmLeftMs : Math.min(calmLeftMs, parseDurationMs(values.slice)));
  const slices = [...kept.slices, slice];
  saveSlices(join(results, `${name}.json`), { ...kept, slices });
  const text = pauseReport(runDescription('pause-run', seed), by, slices, wanted, values.rate);
  writeFileSync(join(results, `${name}.md`), text);
  process.stdout.write(`${text}\n`);
  return isRight(by, slices);
}

async function oneSlice(by: By, seed: number, commit: string, rounds: number, calmMs: number): Promise<PauseSlice> {
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-pause-'));
  process.stderr.write(`seed ${seed}, in ${directory}\n`);
  const rig = await Rig.start({
    directory, servers: 3, mirrors: 1, sizeBytes: parseSizeBytes(values.size), up: [],
    load: { readPercent: 50, depth: 32, rate: Number(values.rate), seed, reconnectTimeoutMs: 300_000 },
  });
  const failovers: Failover[] = [];
  try {
    const quiet = await calm(rig, calmMs);
    let broken: string | null = null;
    try {
      await failOverAgainAndAgain(rig, { signal: by === 'kill' ? 'SIGKILL' : 'SIGSTOP', failovers: rounds, minutesMax: Number(values.minutes), seed }, (failover) => {
        failovers.push(failover);
        process.stderr.write(`${String(failovers.length).padStart(4)}  ${failover.from} → ${failover.to}  stall ${inMs(failover.stallMs).padStart(8)}  at rejoining ${inMs(failover.rejoinStallMs).padStart(8)}  all in sync after ${inMs(failover.healedMs)}\n`);
      });
    } catch (error) {
      // What was measured so far is worth its report; the run has failed.
      broken = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${broken}\n`);
    }
    const { load, difference } = await rig.settle(300_000);
    if (values.dir === undefined && broken === null && difference === null && load.violationCount === 0) rmSync(directory, { recursive: true, force: true });
    return {
      commit, seed, calm: quiet, broken, difference, requestsPerSecond: load.requestsPerSecond, checkedBlocks: load.checkedBlocks, violations: load.violationCount, errors: load.errorCount,
      failovers: failovers.map((failover) => ({ ...failover, stallMs: Number.isFinite(failover.stallMs) ? failover.stallMs : null })),
    };
  } finally {
    await rig.site.stop();
  }
}

const wantedCalm = parseDurationMs(values.calm) / 60_000;
const asked = values.by ?? (wantedCalm > 0 ? 'freeze' : 'kill');
const by = asked === 'kill' || asked === 'freeze' ? asked : null;
if (values.help || by === null) {
  process.stdout.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else if (!(await pauseRun(by, { failovers: Number(values.failovers ?? (wantedCalm > 0 ? 1 : 200)), calmMinutes: wantedCalm }))) {
  process.exitCode = 1;
}
