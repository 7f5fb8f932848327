import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDurationMs, parseSizeBytes } from '@ashlar/words';
import { treeState } from '../../site/machine.ts';
import { ROOT } from '../../site/site.ts';
import { runDescription } from '../describe-run.ts';
import { loadSlices, saveSlices } from '../slices.ts';
import { Arena, type ArenaFindings } from './arena.ts';
import { SHARES, type Episode, type EpisodeKind } from './episodes.ts';
import { reached, tortureReport, totals, type TortureSlice } from './torture-report.ts';
import { torture, type CutDone } from './torture-run.ts';

const USAGE = `pnpm torture [--minutes 30] [--slice 5m] [--only KIND,…] [--size 512MiB] [--rate 700] [--seed N] [--dir DIR] [--results DIR]
  Real processes killed, frozen, cut off from each other, with full and failing disks, other clocks and boot ids, under three verified loads.
  --slice    run for so long, and add what was found to the earlier slices of the same code (docs/results/torture.json)
  --only     of ${Object.keys(SHARES).join(', ')}; not kept`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' }, slice: { type: 'string' }, only: { type: 'string' }, size: { type: 'string', default: '512MiB' }, rate: { type: 'string', default: '700' },
    seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

const SETTLE_MS = 240_000;
const STALLS_KEPT = 10;

async function slice(forMs: number, seed: number, kinds: readonly EpisodeKind[], earlier: readonly TortureSlice[]): Promise<TortureSlice> {
  const around = mkdtempSync(join(tmpdir(), 'ash-'));
  const directory = values.dir ?? join(around, 'site');
  const sizeBytes = parseSizeBytes(values.size);
  process.stderr.write(`seed ${seed}, in ${directory}\n`);
  const arena = await Arena.start({ directory, around: join(around, 'links'), sizeBytes, rate: Number(values.rate), seed });
  const startedMs = performance.now();
  const episodes: Episode[] = [];
  const cuts: CutDone[] = [];
  const violations: string[] = [];
  const say = (line: string): void => { process.stderr.write(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(5)} s  ${line}\n`); };
  let findings: ArenaFindings | null = null;
  try {
    const before = Object.fromEntries([...totals(earlier).byKind].map(([kind, done]) => [kind, done.length]));
    await torture(arena, { seed, forMs, kinds, before }, {
      episode: (one) => {
        episodes.push(one);
        say(`${String(episodes.length).padStart(4)}  ${one.kind.padEnd(21)} ${one.what}: ${one.hits + one.hostHits} hit, stall ${one.stallMs.toFixed(0)} ms, ${one.healedMs === null ? 'not whole yet' : `whole after ${one.healedMs.toFixed(0)} ms`}`);
      },
      cut: (one) => {
        cuts.push(one);
        say(`      ${one.how} ${one.link}${one.forMs === 0 ? '' : ` for ${one.forMs} ms`}`);
      },
    });
  } catch (error) {
    // What was found so far is worth its report; the run has failed.
    violations.push(error instanceof Error ? error.message : String(error));
    say(violations.join());
  }
  const seconds = (performance.now() - startedMs) / 1000;
  try {
    findings = await arena.settle(SETTLE_MS);
  } catch (error) {
    violations.push(`at the end: ${error instanceof Error ? error.message : String(error)}`);
    say(violations.join());
  } finally {
    await arena.stop();
  }
  if (findings !== null) violations.push(...wrongIn(findings));
  if (violations.length === 0) rmSync(around, { recursive: true, force: true });
  return {
    commit: treeState(ROOT).commit, seed, command: process.argv.slice(2).join(' '), seconds, episodes, cuts, violations,
    promotions: findings?.promotions ?? 0, epochs: findings?.epochs ?? 0, requests: findings?.load.requests ?? 0, reconnections: findings?.load.reconnections ?? 0,
    longestStallsMs: findings?.load.longestStalls.slice(0, STALLS_KEPT).map(({ lengthMs }) => lengthMs) ?? [], chainRecords: findings?.chain.records ?? 0,
    checkedBytes: {
      blocks: (findings?.load.checkedBlocks ?? 0) * 4096, chain: findings?.chain.checkedBytes ?? 0, fio: (findings?.fio.rounds ?? 0) * (findings?.fio.bytesPerRound ?? 0),
      compared: findings?.difference === null ? 2 * sizeBytes : 0,
    },
  };
}

function wrongIn({ load, chain, fio, difference }: ArenaFindings): readonly string[] {
  return [
    ...load.violations.map((violation) => JSON.stringify(violation)), ...load.errors.map((error) => JSON.stringify(error)),
    ...chain.flaws.map((flaw) => `chain: ${flaw}`), ...chain.errors.map((error) => `chain: a request failed: ${error}`),
    ...(fio.failure === null ? [] : [fio.failure]), ...(difference === null ? [] : [`copies differ: ${difference}`]),
  ];
}

async function run(): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const minutes = Number(values.minutes);
  const only = values.only?.split(',');
  const kinds = (Object.keys(SHARES) as EpisodeKind[]).filter((kind) => only?.includes(kind) ?? true);
  const { code } = treeState(ROOT);
  const results = values.results ?? join(ROOT, 'docs/results');
  const path = join(results, 'torture.json');
  const kept = loadSlices<TortureSlice>(path, code, `${values.size}, ${values.rate} requests a second`);
  const leftMs = minutes * 60_000 - totals(kept.slices).seconds * 1000;
  const forMs = Math.min(only ? minutes * 60_000 : Math.max(0, leftMs), values.slice === undefined ? Infinity : parseDurationMs(values.slice));
  const done = await slice(forMs, seed, kinds, only ? [] : kept.slices);
  const slices = only ? [done] : [...kept.slices, done];
  const text = tortureReport(runDescription('torture', seed), code, slices, minutes);
  if (!only) {
    saveSlices(path, { ...kept, slices });
    mkdirSync(results, { recursive: true });
    writeFileSync(join(results, 'torture.md'), text);
  }
  process.stdout.write(`${text}\n`);
  return done.violations.length === 0 && (values.slice !== undefined || only !== undefined || reached(totals(slices), minutes));
}

if (values.help) process.stdout.write(`${USAGE}\n`);
else if (!(await run())) process.exitCode = 1;
