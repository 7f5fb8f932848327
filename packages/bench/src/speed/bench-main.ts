import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROOT } from '../site/site.ts';
import { compare, profile } from './comparison.ts';
import { parseOptions, USAGE, type BenchOptions } from './options.ts';
import { markdown } from './report.ts';

/** `pnpm bench`: our volumes beside what exists, in the same run. Results are kept as text and as figures, and gone on with. */
async function bench(options: BenchOptions): Promise<void> {
  const results = options.results ?? join(ROOT, 'docs/results');
  const directory = options.directory === null ? mkdtempSync(join(tmpdir(), 'ashlar-bench-')) : resolve(options.directory);
  mkdirSync(results, { recursive: true });
  try {
    for (const comparison of options.comparisons) {
      const stem = join(results, `${options.profile ? 'profile' : 'bench'}-${comparison}`);
      const text = options.profile ? await profile(comparison, options, directory) : markdown(await compare(comparison, options, `${stem}.json`, directory));
      writeFileSync(`${stem}.md`, text);
      process.stdout.write(`${text}\n`);
    }
  } finally {
    if (options.directory === null) rmSync(directory, { recursive: true, force: true });
  }
}

if (process.argv.includes('--help')) {
  process.stdout.write(`${USAGE}\n`);
} else {
  await bench(parseOptions(process.argv.slice(2)));
}
