/** `pnpm scale`: many volumes on few processes, a large one, a mirror that was away, a rebuild beside a load. Prints what it measures; with `--save` keeps it in docs/results. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { away } from './away.ts';
import { Figures, keep, PARTS, Processors, type Part } from './figures.ts';
import { large } from './large.ts';
import { many } from './many.ts';
import { rebuild } from './rebuild.ts';
import { endAll, GIB, MIB } from './site.ts';

const RESULTS = 'docs/results/scale.md';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: PARTS.join(',') }, save: { type: 'boolean', default: false },
    /** Of `many`. */
    volumes: { type: 'string', default: '2000' }, held: { type: 'string', default: '4' }, 'prepare-seconds': { type: 'string', default: '3600' },
    /** Of `large`, in GiB; of `rebuild`, in GiB. */
    filled: { type: 'string', default: '1' }, size: { type: 'string', default: '4' },
    /** Where `many` and `large` keep what they prepared for the next run. Removed by hand. */
    directory: { type: 'string', default: join(tmpdir(), 'ashlar-scale') },
  },
});

const parts = options.only.split(',').map((name) => {
  const part = PARTS.find((known) => known === name);
  if (part === undefined) throw new Error(`--only takes ${PARTS.join(', ')}`);
  return part;
});

/** What of the options makes a difference to a part; belongs to its result. */
const GIVEN: Readonly<Record<Part, string>> = { many: ` --volumes ${options.volumes} --held ${options.held}`, large: ` --filled ${options.filled}`, away: '', rebuild: ` --size ${options.size}` };

/** False if it has to be run again to come to its end. */
async function run(part: Part, directory: string, figures: Figures): Promise<boolean> {
  switch (part) {
    case 'many': return many({ directory: join(options.directory, 'many'), volumes: Number(options.volumes), heldBytes: Number(options.held) * MIB, prepareMs: Number(options['prepare-seconds']) * 1000 }, figures);
    case 'large': await large({ directory: join(options.directory, 'large'), heldBytes: Number(options.filled) * GIB }, figures); return true;
    case 'away': await away(directory, figures); return true;
    case 'rebuild': await rebuild(directory, Number(options.size) * GIB, figures); return true;
  }
}

mkdirSync(options.directory, { recursive: true });
const root = mkdtempSync(join(tmpdir(), 'ashlar-scale-run-'));

/** A run that is cut off leaves neither processes nor gigabytes behind. */
async function cutOff(): Promise<never> {
  await endAll();
  rmSync(root, { recursive: true, force: true });
  process.exit(130);
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void cutOff());

try {
  for (const part of parts) {
    const figures = new Figures();
    const processors = new Processors();
    const command = `pnpm scale --only ${part}${GIVEN[part]}`;
    if (await run(part, join(root, part), figures) && options.save) keep(RESULTS, part, command, processors.text(), figures.all);
  }
} finally {
  await endAll();
  rmSync(root, { recursive: true, force: true });
}
