import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';

/** One line of the result: what was measured, and what was wanted. */
export interface Figure {
  readonly what: string;
  readonly value: string;
  readonly goal?: string;
  readonly met?: boolean;
}

export type Part = 'many' | 'large' | 'away' | 'rebuild';
export const PARTS: readonly Part[] = ['many', 'large', 'away', 'rebuild'];

/** Prints figures as they come, and keeps them for the result file. */
export class Figures {
  readonly all: Figure[] = [];

  add(what: string, value: string, goal?: string, met?: boolean): void {
    this.all.push({ what, value, ...(goal === undefined ? {} : { goal }), ...(met === undefined ? {} : { met }) });
    process.stdout.write(`${what}: ${value}${goal === undefined ? '' : ` (goal ${goal}: ${met === true ? 'met' : 'missed'})`}\n`);
  }
}

const HEADING = '# Scale\n\nEach section is one slice of `pnpm scale`, with its own commit; running a slice again replaces it.\n';

/** Puts one part's figures into the result file; the other parts stay as they are. */
export function keep(file: string, part: Part, command: string, steal: string, figures: readonly Figure[]): void {
  const sections = existsSync(file) ? sectionsOf(readFileSync(file, 'utf8')) : new Map<string, string>();
  sections.set(part, sectionOf(part, command, steal, figures));
  const names = [...PARTS, ...[...sections.keys()].filter((name) => !(PARTS as readonly string[]).includes(name))];
  const ordered = names.flatMap((name) => sections.get(name) ?? []);
  writeFileSync(file, `${HEADING}\n${ordered.join('\n')}`);
}

/** By their headings; those that are none of our parts were written by hand, and stay behind the others. */
function sectionsOf(text: string): Map<string, string> {
  const sections = new Map<string, string>();
  for (const section of text.split(/^(?=## )/m)) {
    const heading = /^## (.+)\n/.exec(section)?.[1];
    if (heading !== undefined) sections.set(heading, `${section.trimEnd()}\n`);
  }
  return sections;
}

function sectionOf(part: Part, command: string, steal: string, figures: readonly Figure[]): string {
  const rows = figures.map(({ what, value, goal, met }) => `| ${what} | ${value} | ${goal ?? ''} | ${met === undefined ? '' : met ? 'met' : '**missed**'} |`);
  return `## ${part}\n\n\`${command}\`, commit ${commit()}; ${machine()}; ${steal}.\n\n| what | figure | goal | |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

function commit(): string {
  return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
}

function machine(): string {
  const [load = 0] = loadavg();
  return `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}; load average ${load.toFixed(1)} at the end`;
}

/** What the hypervisor took away, and what ran besides; both belong beside every figure. */
export class Processors {
  readonly #before = counters();

  /** Since this was made. */
  text(): string {
    const [before, after] = [this.#before, counters()];
    const total = after.total - before.total;
    return `${(((after.steal - before.steal) / total) * 100).toFixed(1)} % of the processor stolen`;
  }
}

function counters(): { readonly total: number; readonly steal: number } {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] as string).split(/\s+/).slice(1).map(Number);
  return { total: fields.slice(0, 8).reduce((sum, field) => sum + field, 0), steal: fields[7] ?? 0 };
}
