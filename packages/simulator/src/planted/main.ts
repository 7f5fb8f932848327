import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { patches, type Patch } from './patch.ts';
import { isCurrent, loadResults, row, saveResults, writeTable, type Result } from './results.ts';
import { applies, codeHash, commitOf, makeTree, patchHash, removeTree } from './tree.ts';
import { killAll, tryPatch } from './trial.ts';
import { typeErrorsOf } from './types.ts';

const USAGE = `pnpm planted [NAME...] [--tier sim|crash|unit] [--seconds N] [--budget N] [--commit REV] [--base N] [--again] [--trees DIR]
    plants each bug in a copy of the tree as committed, and lets its tier find it. What was tried on the same code is not tried again
    (--again: unless it was caught); --budget: begins nothing new after so many seconds; --trees: where the copies of the tree
    stay for the next slice. Results: ${'docs/results/planted-bugs.{json,md}'}
pnpm planted --check                            only whether all patches still apply
pnpm planted --types                            whether the types pass with them, many patches at a time
pnpm planted --table                            only writes the table from the results
`;
const RESULTS = 'docs/results/planted-bugs.json';
const PAGE = 'docs/results/planted-bugs.md';
/** Each bug must be found within this by default; the limit of the project is ten minutes. */
const SECONDS = '120';

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      check: { type: 'boolean' }, types: { type: 'boolean' }, table: { type: 'boolean' }, seconds: { type: 'string', default: SECONDS }, budget: { type: 'string' }, tier: { type: 'string' },
      commit: { type: 'string', default: 'HEAD' }, base: { type: 'string', default: '0' }, again: { type: 'boolean' }, at: { type: 'string', default: '2' }, trees: { type: 'string' }, help: { type: 'boolean' },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const all = patches();
  const named = positionals.length === 0 ? all : positionals.flatMap((name) => all.filter((patch) => patch.name === name));
  const chosen = named.filter((patch) => values.tier === undefined || patch.tier.kind === values.tier);
  if (values.check) return check(chosen);
  if (values.types) return types(chosen, commitOf(values.commit));
  const results = loadResults(RESULTS);
  if (!values.table) {
    const commit = commitOf(values.commit);
    await plant(chosen, results, {
      commit, code: codeHash(commit), seconds: Number(values.seconds), budget: Number(values.budget ?? Infinity), base: Number(values.base), again: values.again ?? false, at: Number(values.at), trees: values.trees ?? null,
    });
  }
  writeTable(PAGE, all, results);
  const caught = chosen.filter((patch) => results.get(patch.name)?.outcome.kind === 'caught').length;
  process.stdout.write(`${caught} passed, ${chosen.length - caught} failed\n`);
  return caught === chosen.length ? 0 : 1;
}

function check(chosen: readonly Patch[]): number {
  const stale = chosen.filter((patch) => !applies(process.cwd(), patch));
  for (const patch of stale) process.stdout.write(`${patch.name} does not apply any more\n`);
  process.stdout.write(`${chosen.length - stale.length} passed, ${stale.length} failed\n`);
  return stale.length === 0 && chosen.length > 0 ? 0 : 1;
}

async function types(chosen: readonly Patch[], commit: string): Promise<number> {
  const errors = await typeErrorsOf(chosen, commit);
  for (const error of errors) process.stdout.write(`${error}\n`);
  process.stdout.write(`types with ${chosen.length} patches on ${commit}: ${errors.length} errors\n`);
  return errors.length === 0 ? 0 : 1;
}

interface Options {
  readonly commit: string;
  readonly code: string;
  readonly seconds: number;
  readonly budget: number;
  readonly base: number;
  readonly again: boolean;
  /** Trials at a time. */
  readonly at: number;
  /** A directory in which the trees stay for the next slice. */
  readonly trees: string | null;
}

/** Several at once, each in its own tree; a result is saved as soon as it is known. */
async function plant(chosen: readonly Patch[], results: Map<string, Result>, options: Options): Promise<void> {
  const { commit, code, seconds, base } = options;
  const isDone = (patch: Patch): boolean => {
    const known = results.get(patch.name);
    return isCurrent(known, patch, code) && (known.outcome.kind === 'caught' || (known.outcome.kind === 'missed' && !options.again));
  };
  const waiting = chosen.filter((patch) => !isDone(patch));
  process.stdout.write(`${waiting.length} of ${chosen.length} to be tried at ${commit}\n`);
  if (waiting.length === 0) return;
  const endsMs = performance.now() + options.budget * 1000;
  const place = (name: string): string | null => (options.trees === null ? null : join(options.trees, `${commit}-${name}`));
  const sound = makeTree(commit, place('sound'));
  const worker = async (_: unknown, k: number): Promise<void> => {
    const tree = makeTree(commit, place(String(k)));
    try {
      for (let patch = waiting.shift(); patch !== undefined && performance.now() < endsMs; patch = waiting.shift()) {
        const result: Result = { name: patch.name, patch: patchHash(patch), code, commit, outcome: await tryPatch(tree, sound, patch, seconds, base) };
        // Another slice may have saved results meanwhile.
        for (const [name, other] of loadResults(RESULTS)) if (name !== patch.name) results.set(name, other);
        results.set(patch.name, result);
        saveResults(RESULTS, results);
        process.stdout.write(`${row(patch, result)}\n`);
      }
    } finally {
      if (options.trees === null) removeTree(tree);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(options.at, waiting.length) }).map(worker));
  } finally {
    if (options.trees === null) removeTree(sound);
  }
}

process.once('SIGTERM', () => {
  killAll();
  process.exit(1);
});
process.exitCode = await main();
