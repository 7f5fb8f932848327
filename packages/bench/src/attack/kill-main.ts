import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseSizeBytes } from '@ashlar/words';
import { compareCopies } from '../site/compare.ts';
import { treeState } from '../site/machine.ts';
import { ROOT, Site } from '../site/site.ts';
import { runDescription } from './describe-run.ts';
import { FioVerifier } from './fio-verifier.ts';
import { flipBytes } from './flipped-byte.ts';
import { WAYS, type Way } from './harm.ts';
import { harmAgainAndAgain, type Harm } from './kill-run.ts';
import { countedHarms, isRight, killReport, type KillSlice } from './kill-report.ts';
import { Rig } from './rig.ts';
import { loadSlices, saveSlices } from './slices.ts';

const USAGE = `pnpm kill-run [--way ${WAYS.join('|')}] [--kills 100] [--rounds N] [--minutes M] [--size 4GiB] [--seed N] [--dir DIR] [--results DIR]
  kill          SIGKILL of a server with an in-sync copy and requests in flight; every second one a primary (default)
  freeze        the same with SIGSTOP, and SIGCONT after 0.3 to 4 seconds
  kill-host     SIGKILL of the process with the node managers: the client reconnects and sends again
  kill-several  both copies' servers at once, or the primary's and the host's
  mixed         all of these, one after the other
  --rounds N    at most so many now; they are added to those of earlier calls with the same code and settings
  --minutes M   for so long at most; then the copies are compared, which takes another minute for 4 GiB`;

const { values } = parseArgs({
  options: {
    way: { type: 'string', default: 'kill' }, kills: { type: 'string', default: '100' }, rounds: { type: 'string' }, minutes: { type: 'string', default: '180' }, size: { type: 'string', default: '4GiB' },
    seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

/** fio's volume, beside that of our own verifier. */
const FIO_VOLUME_BYTES = 128 * 2 ** 20;

async function killRun(way: Way): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const { code } = treeState(ROOT);
  const results = values.results ?? join(ROOT, 'docs/results');
  const kept = loadSlices<KillSlice>(join(results, `kill-run-${way}.json`), code, values.size);
  const left = Math.max(1, Number(values.kills) - countedHarms(kept.slices).length);
  const slice = await oneSlice(way, seed, Math.min(left, Number(values.rounds ?? Infinity)));
  const slices = [...kept.slices, slice];
  saveSlices(join(results, `kill-run-${way}.json`), { ...kept, slices });
  const text = killReport(runDescription('kill-run', seed), way, parseSizeBytes(values.size), slices, Number(values.kills));
  writeFileSync(join(results, `kill-run-${way}.md`), `${text}\n`);
  process.stdout.write(`${text}\n`);
  return isRight(slice);
}

async function oneSlice(way: Way, seed: number, kills: number): Promise<KillSlice> {
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-kill-'));
  const startedMs = performance.now();
  process.stderr.write(`seed ${seed}, in ${directory}\n`);
  const rig = await Rig.start({
    directory, servers: 3, mirrors: 1, sizeBytes: parseSizeBytes(values.size), up: [],
    load: { readPercent: 50, bytesMin: 4096, bytesMax: 131_072, depth: 32, flushEvery: 100, seed, reconnectTimeoutMs: 300_000 },
  });
  const harms: Harm[] = [];
  let fio: FioVerifier | null = null;
  let right = false;
  try {
    // fio does not reconnect: where the host itself is killed it has no place.
    if (way === 'kill' || way === 'freeze') fio = new FioVerifier(await rig.site.attach(await rig.site.createVolume(FIO_VOLUME_BYTES, '--mirrors', '1', '--io-timeout', '5m')));
    let broken: string | null = null;
    try {
      await harmAgainAndAgain(rig, { way, kills, seed, minutesMax: Number(values.minutes) }, (harm) => {
        harms.push(harm);
        process.stderr.write(`${String(harms.length).padStart(4)}  ${harm.way.padEnd(12)} ${harm.party.padEnd(9)} ${harm.role.padEnd(8)} in flight ${String(harm.inFlight).padStart(2)}  ${harm.counts ? 'counts ' : 'no harm'}  stall ${harm.stallMs.toFixed(0).padStart(5)} ms  healed after ${harm.healedMs.toFixed(0).padStart(6)} ms\n`);
      });
    } catch (error) {
      // What was found so far is worth its report; the run has failed.
      broken = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${broken}\n`);
    }
    const [fioFindings, settled] = await Promise.all([fio?.finish() ?? null, rig.settle(300_000)]);
    await rig.site.stop();
    const { requests, checkedBlocks, violationCount, violations, errorCount, errors, reconnections } = settled.load;
    const slice: KillSlice = {
      commit: treeState(ROOT).commit, seed, harms, broken, difference: settled.difference, fio: fioFindings, epochs: settled.volume.epoch,
      load: { requests, checkedBlocks, violationCount, violations, errorCount, errors, reconnections },
      blindness: settled.difference === null ? await flippedByteIsSeen(directory, rig.volumeId, settled.volume.copies[0]?.serverId ?? '') : null,
      seconds: (performance.now() - startedMs) / 1000,
    };
    right = isRight(slice);
    return slice;
  } finally {
    fio?.abandon();
    await rig.site.stop();
    if (values.dir === undefined && right) rmSync(directory, { recursive: true, force: true });
  }
}

/** The comparison is believed only if it sees bytes changed in one copy's files. */
async function flippedByteIsSeen(directory: string, volumeId: string, serverId: string): Promise<{ readonly what: string; readonly seen: boolean }> {
  const what = flipBytes(join(directory, 'servers', serverId));
  const site = await Site.up({ directory, servers: 3, processes: true });
  try {
    for (;;) {
      const volume = await site.describe(volumeId);
      if (volume.health === 'healthy') return { what: `${serverId}: ${what}`, seen: (await compareCopies(site, volume)) !== null };
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  } finally {
    await site.stop();
  }
}

const way = WAYS.find((one) => one === values.way);
if (values.help || way === undefined) {
  process.stdout.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else if (!(await killRun(way))) {
  process.exitCode = 1;
}
