import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDurationMs, parseSizeBytes } from '@ashlar/words';
import { compareCopies } from '../site/compare.ts';
import { ProgramTree } from '../site/program-tree.ts';
import { ROOT, Site } from '../site/site.ts';
import { careForIt } from './care-run.ts';
import { runDescription } from './describe-run.ts';
import { Foreground, partsTable, shownTable, timesCalm, type Part, type Shown } from './foreground.ts';

const USAGE = `pnpm care-run [--volumes 4] [--size 256MiB] [--calm 1m] [--rebuild-budget 0] [--seed N] [--dir DIR] [--results DIR]
  A site is changed under a verified load at half of what is possible: a server added, volumes moved to it, another drained and removed,
  mirrors 1, 2, 1, and every server restarted with a newer version. What programs notice, against the minute before.`;

const { values } = parseArgs({
  options: {
    volumes: { type: 'string', default: '4' }, size: { type: 'string', default: '256MiB' }, calm: { type: 'string', default: '1m' }, 'rebuild-budget': { type: 'string', default: '0' }, seed: { type: 'string' },
    dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

/** G7: a process that ends. Nothing here is worse than that. */
const STALL_GOAL_MS = 200;
const P99_GOAL = 3;

async function careRun(): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-care-'));
  const sizeBytes = parseSizeBytes(values.size);
  const program = new ProgramTree(join(directory, 'program'));
  const site = await Site.up({ directory: join(directory, 'site'), servers: 3, processes: true, program: program.main });
  let lines: readonly Shown[] = [];
  try {
    await site.run('cluster', 'modify', '--rebuild-budget', values['rebuild-budget']);
    const volumes: string[] = [];
    for (let i = 0; i < Number(values.volumes); i++) volumes.push(await site.createVolume(sizeBytes, '--mirrors', '1', '--io-timeout', '5m'));
    const targets = [];
    for (const volume of volumes) targets.push({ volume, uri: await site.attach(volume) });
    const foreground = await Foreground.begin(targets, sizeBytes, seed);
    await careForIt({ site, program, volumes, calmMs: parseDurationMs(values.calm) }, foreground);
    foreground.load.stop();
    const { violationCount, errorCount, checkedBlocks } = await foreground.load.finish();
    const differences: string[] = [];
    for (const volume of volumes) {
      const difference = await compareCopies(site, await site.describe(volume));
      if (difference !== null) differences.push(`${volume}: ${difference}`);
    }
    const [calm, ...others] = foreground.parts as [Part, ...Part[]];
    const worst = others.reduce((most, part) => Math.max(most, timesCalm(part, calm)), 0);
    const stall = others.reduce((most, part) => Math.max(most, part.longestStallMs), 0);
    lines = [
      { what: `blocks wrong, of ${checkedBlocks} checked`, found: String(violationCount), goal: '0', met: violationCount === 0 },
      { what: 'requests that failed', found: String(errorCount), goal: '0', met: errorCount === 0 },
      { what: 'copies that differ at the end', found: differences.length === 0 ? '0' : differences.join('; '), goal: '0', met: differences.length === 0 },
      { what: 'longest stall', found: `${stall.toFixed(0)} ms`, goal: `${STALL_GOAL_MS} ms`, met: stall <= STALL_GOAL_MS },
      { what: 'p99 against the minute before', found: `${worst.toFixed(1)} times`, goal: `${P99_GOAL} times`, met: worst <= P99_GOAL },
    ];
    report([
      '# A site changed under load', '', ...runDescription('care-run', seed), `- Load: ${foreground.requestsPerSecond} requests a second (70/30, 4 KiB), half of what was possible, on ${volumes.length} volumes of ${values.size}`, '',
      ...shownTable(lines), '', ...partsTable(foreground.parts),
    ]);
  } finally {
    await site.stop();
    if (values.dir === undefined && lines.length > 0 && lines.slice(0, 3).every((line) => line.met)) rmSync(directory, { recursive: true, force: true });
  }
  return lines.every((line) => line.met);
}

function report(lines: readonly string[]): void {
  const results = values.results ?? join(ROOT, 'docs/results');
  mkdirSync(results, { recursive: true });
  const text = `${lines.join('\n')}\n`;
  writeFileSync(join(results, 'care-run.md'), text);
  process.stdout.write(text);
}

if (values.help) process.stdout.write(`${USAGE}\n`);
else if (!(await careRun())) process.exitCode = 1;
