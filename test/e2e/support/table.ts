import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem, release } from 'node:os';
import { join } from 'node:path';

interface Kept {
  readonly commit: string;
  readonly rows: readonly (readonly string[])[];
}

/** Rows that a test found, kept under docs/results if ASHLAR_RESULTS is set. */
export class Table {
  readonly #title: string;
  readonly #head: readonly string[];
  readonly #keyCells: number;
  readonly #rows: (readonly string[])[] = [];

  /** `keyCells`: so many first cells name a row. */
  constructor(title: string, head: readonly string[], keyCells = 1) {
    this.#title = title;
    this.#head = head;
    this.#keyCells = keyCells;
  }

  add(row: readonly string[]): void { this.#rows.push(row); }

  /**
   * `versions`: of what else had a part in it. Rows of the same name that an earlier run of the same commit found are replaced, its
   * others kept: so that slices of a long run (`-t`) add up.
   */
  save(name: string, versions: readonly string[] = [], wanted = 0): void {
    const folder = process.env['ASHLAR_RESULTS'];
    if (folder === undefined || folder === '') return;
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    mkdirSync(folder, { recursive: true });
    const kept = join(folder, `${name}.json`);
    const before = existsSync(kept) ? (JSON.parse(readFileSync(kept, 'utf8')) as Kept) : { commit: '', rows: [] };
    const key = (row: readonly string[]): string => row.slice(0, this.#keyCells).join('|');
    const found = new Set(this.#rows.map(key));
    const rows = [...(before.commit === commit ? before.rows.filter((row) => !found.has(key(row))) : []), ...this.#rows];
    writeFileSync(kept, `${JSON.stringify({ commit, rows } satisfies Kept, null, 1)}\n`);
    const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
    writeFileSync(join(folder, `${name}.md`), [
      `# ${this.#title}`, '',
      `\`pnpm ${name}\`, commit ${commit}; ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}${versions.map((version) => `, ${version}`).join('')}.`,
      ...(rows.length < wanted ? ['', `**Not complete: ${rows.length} of ${wanted} rows.**`] : []), '',
      line(this.#head), line(this.#head.map(() => '---')), ...rows.map(line), '',
    ].join('\n'));
  }
}
