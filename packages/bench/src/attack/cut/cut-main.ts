import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDurationMs, parseSizeBytes, Prng } from '@ashlar/words';
import { compareCopies } from '../../site/compare.ts';
import { treeState } from '../../site/machine.ts';
import { ROOT } from '../../site/site.ts';
import { runDescription } from '../describe-run.ts';
import { flipBytes } from '../flipped-byte.ts';
import { Rig } from '../rig.ts';
import { loadSlices, saveSlices } from '../slices.ts';
import { cutReport, cutsOf, isRight, type CutSlice } from './cut-report.ts';
import { Episodes, SHARES, type Episode, type EpisodeKind } from './episodes.ts';
import { MACHINES, Machines } from './machines.ts';
import { runInNetwork } from './in-network.ts';
import type { Network } from './network.ts';

const USAGE = `pnpm cut-run [--episodes 200] [--slice N] [--minutes M] [--size 512MiB] [--rate 1500] [--only KIND] [--seed N] [--dir DIR] [--results DIR]
  Machines in network namespaces: links are cut in one direction and both, in pairs, and flap; machines are killed and frozen; the manager is cut off. Root.
  --slice N     at most so many episodes now; they are added to those of earlier calls with the same code and settings
  --only KIND   ${Object.keys(SHARES).join(', ')}; kept with the others`;

const { values } = parseArgs({
  options: {
    episodes: { type: 'string', default: '200' }, slice: { type: 'string' }, minutes: { type: 'string', default: '180' }, size: { type: 'string', default: '512MiB' }, rate: { type: 'string', default: '1500' },
    only: { type: 'string' }, seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});
const HEAL_MS = 180_000;
async function cutRun(network: Network): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const { code } = treeState(ROOT);
  const results = values.results ?? join(ROOT, 'docs/results');
  const wanted = Number(values.episodes);
  const kept = loadSlices<CutSlice>(join(results, 'cut-run.json'), code, `${values.size}, ${values.rate} requests a second`);
  const left = Math.max(1, wanted - kept.slices.reduce((sum, { episodes }) => sum + episodes.length, 0));
  const slice = await oneSlice(network, seed, kept.slices, Math.min(left, Number(values.slice ?? Infinity)));
  const slices = [...kept.slices, slice];
  saveSlices(join(results, 'cut-run.json'), { ...kept, slices });
  const text = cutReport(runDescription('cut-run', seed), slices, wanted, values.size);
  writeFileSync(join(results, 'cut-run.md'), `${text}\n`);
  process.stdout.write(`${text}\n`);
  return isRight(slice);
}

async function oneSlice(network: Network, seed: number, before: readonly CutSlice[], count: number): Promise<CutSlice> {
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-cut-'));
  const startedMs = performance.now();
  process.stderr.write(`seed ${seed}, in ${directory}\n`);
  const machines = await Machines.start(directory, network);
  const over = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => over.abort());
  let right = false;
  try {
    const rig = await Rig.on(machines, {
      mirrors: 1, sizeBytes: parseSizeBytes(values.size),
      load: { readPercent: 50, bytesMin: 4096, bytesMax: 65_536, depth: 32, rate: Number(values.rate), flushEvery: 100, seed, reconnectTimeoutMs: 300_000 },
    });
    const prng = new Prng(seed);
    const cuts = cutsOf(before);
    const cutsBefore = new Map(cuts);
    const run = new Episodes(rig, network, prng, cuts);
    const done: Episode[] = before.flatMap(({ episodes }) => episodes);
    const episodes: Episode[] = [];
    let broken: string | null = null;
    try {
      const endsMs = startedMs + parseDurationMs(`${values.minutes}m`);
      while (episodes.length < count && performance.now() < endsMs && !over.signal.aborted) {
        const episode = await run.run(kindOf(values.only) ?? mostBehind([...done, ...episodes], prng));
        episodes.push(episode);
        process.stderr.write(`${String(episodes.length).padStart(4)}  ${episode.kind.padEnd(26)} stall ${episode.stallMs.toFixed(0).padStart(6)} ms  healed after ${episode.healedMs.toFixed(0).padStart(6)} ms  ${episode.what}${episode.wrong === null ? '' : `  WRONG: ${episode.wrong}`}\n`);
        if (rig.load.violationCount > 0) throw new Error(`${rig.load.violationCount} blocks were wrong`);
      }
    } catch (error) {
      // What was found so far is worth its report; the slice has failed.
      broken = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${broken}\n`);
      await network.heal();
    }
    const { load, difference, volume } = await rig.settle(HEAL_MS);
    const { requests, checkedBlocks, violationCount, violations, errorCount, errors, reconnections } = load;
    const slice: CutSlice = {
      commit: treeState(ROOT).commit, seed, seconds: (performance.now() - startedMs) / 1000, episodes, broken, difference, epochs: volume.epoch,
      cuts: Object.fromEntries([...cuts].map(([link, times]) => [link, times - (cutsBefore.get(link) ?? 0)]).filter(([, times]) => times !== 0) as [string, number][]),
      load: { requests, checkedBlocks, violationCount, violations, errorCount, errors, reconnections },
      blindness: difference === null ? await flippedByteIsSeen(rig, volume.copies[0]?.serverId ?? '') : null,
    };
    right = isRight(slice);
    return slice;
  } finally {
    await machines.stop();
    if (values.dir === undefined && right) rmSync(directory, { recursive: true, force: true });
  }
}

/** The comparison is believed only if it sees bytes changed in the files of one machine. */
async function flippedByteIsSeen(rig: Rig<Machines>, machine: string): Promise<{ readonly what: string; readonly seen: boolean }> {
  await rig.site.kill(machine);
  const what = flipBytes(rig.site.home(machine));
  await rig.site.boot(machine);
  return { what: `${machine}: ${what}`, seen: (await compareCopies(rig.site, await rig.healthy(HEAL_MS))) !== null };
}

/** The kind that is farthest behind its share; of several any. */
function mostBehind(done: readonly Episode[], prng: Prng): EpisodeKind {
  const kinds = Object.keys(SHARES) as EpisodeKind[];
  const ranked = kinds.map((kind) => ({ kind, behind: (done.filter((episode) => episode.kind === kind).length + prng.fraction()) / SHARES[kind] }));
  return ranked.reduce((best, one) => (one.behind < best.behind ? one : best)).kind;
}

function kindOf(name: string | undefined): EpisodeKind | undefined {
  return (Object.keys(SHARES) as EpisodeKind[]).find((kind) => kind === name);
}

if (values.help || (values.only !== undefined && kindOf(values.only) === undefined)) {
  process.stdout.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else process.exitCode = await runInNetwork(import.meta.filename, MACHINES, cutRun);
