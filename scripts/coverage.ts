/**
 * `pnpm coverage`: how much of the replication core and of the disk format their own tests reach, branch by branch. Fails below the bound.
 * `--save` keeps the tables in docs/results/coverage.md.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { provenance } from './provenance.ts';
import { run } from './run.ts';

const BRANCHES_MIN_PERCENT = 95;

interface Part {
  readonly name: string;
  readonly folder: string;
  /** Stand-ins for disks that only tests use are no part of the format. */
  readonly without: readonly string[];
}

const PARTS: readonly Part[] = [
  { name: 'Replication core', folder: 'packages/replication', without: [] },
  { name: 'Disk format', folder: 'packages/store', without: ['memory-disk.ts', 'memory-file.ts'] },
];

interface Count {
  readonly total: number;
  readonly covered: number;
}
type Summary = Readonly<Record<string, { readonly branches: Count; readonly statements: Count }>>;

/** The share of covered ones in percent; all of none is all. */
function share({ total, covered }: Count): number {
  return total === 0 ? 100 : (100 * covered) / total;
}

async function measure(part: Part): Promise<Summary> {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-coverage-'));
  try {
    const outcome = await run([
      'vitest', 'run', '--project', 'unit', part.folder, '--coverage', `--coverage.include=${part.folder}/src/*.ts`,
      ...part.without.map((file) => `--coverage.exclude=${part.folder}/src/${file}`), '--coverage.exclude=**/*.test.ts', '--coverage.exclude=**/index.ts',
      '--coverage.reporter=json-summary', `--coverage.reportsDirectory=${folder}`,
    ], { timeoutSeconds: 600, show: false });
    if (outcome.code !== 0) throw new Error(`the tests of ${part.folder} fail:\n${outcome.output}`);
    return JSON.parse(readFileSync(join(folder, 'coverage-summary.json'), 'utf8')) as Summary;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

let failed = false;
const tables: string[] = [];
for (const part of PARTS) {
  const summary = await measure(part);
  const rows = Object.entries(summary).filter(([file, { branches, statements }]) => file !== 'total' && branches.total + statements.total > 0).sort(([a], [b]) => a.localeCompare(b));
  const branches = rows.reduce<Count>((sum, [, row]) => ({ total: sum.total + row.branches.total, covered: sum.covered + row.branches.covered }), { total: 0, covered: 0 });
  const passed = share(branches) >= BRANCHES_MIN_PERCENT;
  failed ||= !passed;
  const table = [
    `## ${part.name} (\`${part.folder}\`): ${share(branches).toFixed(1)} % of ${branches.total} branches`, '',
    '| file | branches | covered | % | statements % |', '|---|--:|--:|--:|--:|',
    ...rows.map(([file, row]) => `| ${basename(file)} | ${row.branches.total} | ${row.branches.covered} | ${share(row.branches).toFixed(1)} | ${share(row.statements).toFixed(1)} |`),
  ].join('\n');
  tables.push(table);
  console.log(`${table}\n\n${passed ? 'ok' : `FAILED: below ${BRANCHES_MIN_PERCENT} %`}\n`);
}

if (process.argv.includes('--save')) {
  writeFileSync('docs/results/coverage.md', `# Coverage by their own tests

\`pnpm coverage --save\`; each package's own unit tests only, at least ${BRANCHES_MIN_PERCENT} % of the branches. ${provenance(PARTS.map((part) => part.folder))}

${tables.join('\n\n')}
`);
}
process.exitCode = failed ? 1 : 0;
