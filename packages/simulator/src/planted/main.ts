import { parseArgs } from 'node:util';
import { appliesTo, makeTree, patches, removeTree, tryPatch, type Outcome } from './trial.ts';

const USAGE = `pnpm planted [NAME...] [--seconds N] [--no-types]   plants each bug in a copy of the tree and lets the simulator, or the model tests of its part, find it
pnpm planted --check                            only whether all patches still apply
`;

/** Each bug must be found within this by default; the limit of the project is ten minutes. */
const SECONDS = '120';

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true, allowNegative: true,
    options: { check: { type: 'boolean' }, seconds: { type: 'string', default: SECONDS }, types: { type: 'boolean', default: true }, help: { type: 'boolean' } },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const chosen = patches().filter((patch) => positionals.length === 0 || positionals.includes(patch.name));
  return values.check ? check(chosen) : plant(chosen, Number(values.seconds), values.types);
}

function check(chosen: ReturnType<typeof patches>): number {
  const stale = chosen.filter((patch) => !appliesTo(process.cwd(), patch));
  for (const patch of stale) process.stdout.write(`${patch.name} does not apply any more\n`);
  process.stdout.write(`${chosen.length - stale.length} passed, ${stale.length} failed\n`);
  return stale.length === 0 && chosen.length > 0 ? 0 : 1;
}

function plant(chosen: ReturnType<typeof patches>, seconds: number, types: boolean): number {
  process.stdout.write('| planted bug | rule | found as | seed | seconds |\n|---|---|---|---|---|\n');
  let missed = 0;
  for (const patch of chosen) {
    const tree = makeTree();
    try {
      const outcome = tryPatch(tree, patch, seconds, types);
      if (outcome.kind !== 'caught') missed++;
      process.stdout.write(`| ${patch.name}: ${patch.what} | ${patch.rule} | ${cells(outcome)} |\n`);
    } finally {
      removeTree(tree);
    }
  }
  process.stdout.write(`${chosen.length - missed} passed, ${missed} failed\n`);
  return missed === 0 ? 0 : 1;
}

function cells(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'caught': return `${outcome.invariant} | \`${outcome.seed}\` | ${outcome.seconds.toFixed(1)}`;
    case 'missed': return `**missed** | | ${outcome.seconds.toFixed(1)}`;
    case 'unusable': return `**${outcome.why}** | | `;
  }
}

process.exitCode = main();
