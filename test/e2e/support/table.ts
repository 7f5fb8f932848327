import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem, release } from 'node:os';
import { join } from 'node:path';

/** Rows that a test found, kept under docs/results if ASHLAR_RESULTS is set. */
export class Table {
  readonly #title: string;
  readonly #head: readonly string[];
  readonly #rows: (readonly string[])[] = [];

  constructor(title: string, head: readonly string[]) {
    this.#title = title;
    this.#head = head;
  }

  get rows(): number { return this.#rows.length; }

  add(row: readonly string[]): void { this.#rows.push(row); }

  /** `versions`: of what else had a part in it. */
  save(name: string, versions: readonly string[] = []): void {
    const folder = process.env['ASHLAR_RESULTS'];
    if (folder === undefined || folder === '') return;
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, name), [
      `# ${this.#title}`, '',
      `\`pnpm ${name.replace('.md', '')}\`, commit ${commit}; ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}${versions.map((version) => `, ${version}`).join('')}.`, '',
      line(this.#head), line(this.#head.map(() => '---')), ...this.#rows.map(line), '',
    ].join('\n'));
  }
}
