import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { EventRecord } from '@ashlar/client';
import { parseDurationMs, parseSizeBytes } from '@ashlar/words';
import { ROOT, Site } from '../site/site.ts';
import { runDescription } from './describe-run.ts';
import { Foreground, partsTable, shownTable, timesCalm, type Part, type Shown } from './foreground.ts';
import { chooseLoss, lose, orderOf, prepare, rebuilt, unreadable } from './lose-run.ts';

const USAGE = `pnpm lose-run [--servers 8] [--volumes 500] [--written 4MiB] [--budget 20MiB] [--at-once 16] [--calm 1m] [--seed N] [--dir DIR] [--results DIR]
  Two servers are lost at once, under a verified load at half of what is possible on two of the volumes: every volume that has a copy serves,
  those with the fewest copies are rebuilt first, within the budget. Time to full redundancy, bytes moved, p99 against the minute before.`;

const { values } = parseArgs({
  options: {
    servers: { type: 'string', default: '8' }, volumes: { type: 'string', default: '500' }, written: { type: 'string', default: '4MiB' }, budget: { type: 'string', default: '20MiB' }, 'at-once': { type: 'string', default: '16' },
    calm: { type: 'string', default: '1m' }, seed: { type: 'string' }, dir: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});

const LOADED = 2;
const LOADED_BYTES = 64 * 2 ** 20;
const P99_GOAL = 3;
const TIME_GOAL = 1.5;
const MIB = 2 ** 20;

async function loseRun(): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const directory = values.dir ?? mkdtempSync(join(tmpdir(), 'ashlar-lose-'));
  if (existsSync(directory) && readdirSync(directory).length > 0) throw new Error(`${directory} is not empty: copies of an earlier run would be rebuilt too`);
  const writtenBytes = parseSizeBytes(values.written);
  const budgetBytes = parseSizeBytes(values.budget);
  const site = await Site.up({ directory, servers: Number(values.servers), processes: true });
  let lines: readonly Shown[] = [];
  try {
    const volumes = await prepare(site, Number(values.volumes), writtenBytes);
    process.stderr.write(`${volumes.length} volumes of ${values.written} are written\n`);
    const targets = [];
    for (let i = 0; i < LOADED; i++) {
      const volume = await site.createVolume(LOADED_BYTES, '--mirrors', '1', '--io-timeout', '5m');
      targets.push({ volume, uri: await site.attach(volume) });
    }
    const loaded = targets.map(({ volume }) => volume);
    await site.run('cluster', 'modify', '--rebuild-budget', values.budget, '--rebuilds-at-once', values['at-once']);
    const foreground = await Foreground.begin(targets, LOADED_BYTES, seed);
    const all = volumes.map((id, index) => ({ id, index }));
    const bad: string[] = [];
    await foreground.part('nothing happens', async () => {
      // The same looking as after the loss, so that the loss is all that differs.
      const [before] = await Promise.all([unreadable(site, all, writtenBytes, 'a-piece'), delay(parseDurationMs(values.calm))]);
      bad.push(...before);
    });
    const loss = await chooseLoss(site, [...volumes, ...loaded], loaded, seed);
    const gone = new Set(loss.gone);
    const fromSequence = await site.lastSequence();
    const events: EventRecord[] = [];
    const heardAll = new AbortController();
    const following = site.followEvents((event) => events.push(event), heardAll.signal);
    let rebuiltS = 0;
    const has = all.filter(({ id }) => !gone.has(id));
    await foreground.part(`${loss.servers.join(' and ')} are lost, and all is rebuilt`, async () => {
      // The first rebuilds begin before both servers are known to be lost.
      const fromMs = performance.now();
      await lose(site, loss);
      const [seconds, after] = await Promise.all([rebuilt(site, gone, fromMs), unreadable(site, has, writtenBytes, 'a-piece')]);
      rebuiltS = seconds;
      bad.push(...after);
    });
    foreground.load.stop();
    const { violationCount, errorCount } = await foreground.load.finish();
    bad.push(...(await unreadable(site, has, writtenBytes, 'all')));
    heardAll.abort();
    await following;
    const order = orderOf(events, loss, fromSequence);
    const [calm, during] = foreground.parts as [Part, Part];
    const lostCopies = [...loss.lost.values()].reduce((sum, copies) => sum + copies, 0);
    const lostBytes = [...loss.lost].reduce((sum, [id, copies]) => sum + copies * (loaded.includes(id) ? LOADED_BYTES : writtenBytes), 0);
    const shouldS = lostBytes / budgetBytes;
    const rate = order.movedBytes / rebuiltS;
    lines = [
      { what: `volumes that have a copy and could not be read, or read wrong (a piece of each in turn, as in the minute before; all of it after the rebuilds), of ${volumes.length - gone.size} (${gone.size} lost both)`, found: bad.length === 0 ? '0' : `${bad.length}: ${bad.slice(0, 3).join('; ')}`, goal: '0', met: bad.length === 0 },
      { what: 'rebuilds that overtook a volume with fewer copies', found: `${order.overtakings} of ${order.begun}`, goal: '0', met: order.overtakings === 0 },
      { what: 'bytes moved, and how fast', found: `${(order.movedBytes / MIB).toFixed(0)} MiB for ${lostCopies} copies that held ${(lostBytes / MIB).toFixed(0)} MiB, ${(rate / MIB).toFixed(1)} MiB/s`, goal: `${(budgetBytes / MIB).toFixed(0)} MiB/s at most`, met: rate <= budgetBytes },
      { what: 'time to full redundancy', found: `${rebuiltS.toFixed(1)} s, ${(rebuiltS / shouldS).toFixed(2)} times bytes lost / budget`, goal: `${TIME_GOAL} times`, met: rebuiltS / shouldS <= TIME_GOAL },
      { what: 'p99 of the load against the minute before', found: `${timesCalm(during, calm).toFixed(1)} times`, goal: `${P99_GOAL} times`, met: timesCalm(during, calm) <= P99_GOAL },
      { what: 'blocks of the load wrong, requests that failed', found: `${violationCount}, ${errorCount}`, goal: '0, 0', met: violationCount + errorCount === 0 },
    ];
    report([
      `# Two of ${values.servers} servers lost at once`, '', ...runDescription('lose-run', seed),
      `- ${volumes.length} volumes of ${values.written}, each third one with two mirrors, the others with one; budget ${values.budget} a second, ${values['at-once']} at once`,
      `- Load: ${foreground.requestsPerSecond} requests a second (70/30, 4 KiB), half of what was possible, on ${LOADED} more volumes`, '', ...shownTable(lines), '', ...partsTable(foreground.parts),
    ]);
  } finally {
    await site.stop();
    if (values.dir === undefined && lines.length > 0 && lines[0]?.met === true) rmSync(directory, { recursive: true, force: true });
  }
  return lines.every((line) => line.met);
}

function report(lines: readonly string[]): void {
  const results = values.results ?? join(ROOT, 'docs/results');
  mkdirSync(results, { recursive: true });
  const text = `${lines.join('\n')}\n`;
  writeFileSync(join(results, 'lose-run.md'), text);
  process.stdout.write(text);
}

if (values.help) process.stdout.write(`${USAGE}\n`);
else if (!(await loseRun())) process.exitCode = 1;
