/**
 * `pnpm mutate [file …]`: changes the replication core line by line, and counts which changes its tests notice. `follower` stands for packages/replication/src/follower.ts;
 * without a name, all files. Results add up in .mutation/, and what did not change since is not run again. `--save` keeps the table in docs/results/mutation.md.
 * `--survivors` prints what was not noticed; nothing is run then.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { provenance } from './provenance.ts';
import { run } from './run.ts';

const CORE = 'packages/replication/src';
const RESULTS = '.mutation/replication.json';
const TABLE = 'docs/results/mutation.md';
const SCORE_MIN_PERCENT = 80;
/** All files at once take a quarter of an hour on two shared cores. */
const TIMEOUT_SECONDS = 3600;

interface Mutant {
  readonly mutatorName: string;
  readonly replacement?: string;
  readonly status: 'Killed' | 'Survived' | 'NoCoverage' | 'Timeout' | 'Ignored' | 'RuntimeError' | 'CompileError' | 'Pending';
  readonly location: { readonly start: { readonly line: number; readonly column: number }; readonly end: { readonly line: number; readonly column: number } };
}
interface Results {
  readonly files: Readonly<Record<string, { readonly source: string; readonly mutants: readonly Mutant[] }>>;
}

const options = process.argv.slice(2);
const names = options.filter((option) => !option.startsWith('--'));
if (!options.includes('--survivors')) {
  const files = names.length === 0 ? [] : ['--mutate', names.map((name) => `${CORE}/${basename(name, '.ts')}.ts`).join(',')];
  const outcome = await run(['stryker', 'run', ...files], { timeoutSeconds: TIMEOUT_SECONDS, show: true });
  if (outcome.code !== 0) process.exit(outcome.code);
}
if (!existsSync(RESULTS)) throw new Error(`${RESULTS}: no results yet; run without --survivors first`);
const { files } = JSON.parse(readFileSync(RESULTS, 'utf8')) as Results;
const measured = Object.entries(files).filter(([file, { mutants }]) => existsSync(file) && mutants.some(counts)).sort(([a], [b]) => a.localeCompare(b));

/** Those in constants are not run: they would need a process of their own each. */
function counts(mutant: Mutant): boolean {
  return mutant.status === 'Killed' || mutant.status === 'Timeout' || mutant.status === 'Survived' || mutant.status === 'NoCoverage';
}

if (options.includes('--survivors')) {
  for (const [file, { source, mutants }] of measured) {
    if (names.length > 0 && !names.includes(basename(file, '.ts'))) continue;
    const lines = source.split('\n');
    for (const mutant of mutants) {
      if (mutant.status !== 'Survived' && mutant.status !== 'NoCoverage') continue;
      const { start, end } = mutant.location;
      const line = lines[start.line - 1] ?? '';
      const was = start.line === end.line ? line.slice(start.column - 1, end.column - 1) : `${line.slice(start.column - 1)} …`;
      console.log(`${basename(file)}:${start.line} ${mutant.status === 'NoCoverage' ? '(not reached) ' : ''}\`${was}\` → \`${mutant.replacement ?? mutant.mutatorName}\``);
    }
  }
}

const count = (mutants: readonly Mutant[], status: Mutant['status']): number => mutants.filter((mutant) => mutant.status === status).length;
function row(name: string, mutants: readonly Mutant[]): string {
  const [killed, timeouts, survived, unreached] = [count(mutants, 'Killed'), count(mutants, 'Timeout'), count(mutants, 'Survived'), count(mutants, 'NoCoverage')];
  return `| ${name} | ${killed + timeouts + survived + unreached} | ${killed} | ${timeouts} | ${survived} | ${unreached} | ${score(mutants).toFixed(1)} |`;
}
function score(mutants: readonly Mutant[]): number {
  const counted = mutants.filter(counts);
  return (100 * (count(mutants, 'Killed') + count(mutants, 'Timeout'))) / counted.length;
}

const all = measured.flatMap(([, { mutants }]) => mutants);
const table = [
  '| file | mutants | killed | timeouts | survived | not reached | score % |', '|---|--:|--:|--:|--:|--:|--:|',
  ...measured.map(([file, { mutants }]) => row(basename(file), mutants)), row('**all**', all),
].join('\n');
console.log(table);
if (options.includes('--save')) {
  const before = readFileSync(TABLE, 'utf8');
  const [head, tail] = [before.indexOf('<!-- table -->'), before.indexOf('<!-- end -->')];
  if (head < 0 || tail < head) throw new Error(`${TABLE} has no place for the table`);
  writeFileSync(TABLE, `${before.slice(0, head)}<!-- table -->\n${provenance([CORE])}\n\n${table}\n${before.slice(tail)}`);
}
process.exitCode = score(all) >= SCORE_MIN_PERCENT ? 0 : 1;
