import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { Patch } from './patch.ts';
import type { Outcome } from './trial.ts';
import { patchHash } from './tree.ts';

/** What became of one patch, and on which code. */
export interface Result {
  readonly name: string;
  readonly patch: string;
  readonly code: string;
  readonly commit: string;
  readonly outcome: Outcome;
}

export function loadResults(path: string): Map<string, Result> {
  if (!existsSync(path)) return new Map();
  const saved = JSON.parse(readFileSync(path, 'utf8')) as readonly Result[];
  return new Map(saved.map((result) => [result.name, result]));
}

/** A slice that is cut off must not cost the results of those before it. */
export function saveResults(path: string, results: ReadonlyMap<string, Result>): void {
  const sorted = [...results.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  writeFileSync(`${path}.new`, `[\n${sorted.map((result) => `  ${JSON.stringify(result)}`).join(',\n')}\n]\n`);
  renameSync(`${path}.new`, path);
}

/** True if this patch, as it is, was tried on this code. */
export function isCurrent(result: Result | undefined, patch: Patch, code: string): result is Result {
  return result !== undefined && result.patch === patchHash(patch) && result.code === code;
}

export function row(patch: Patch, result: Result): string {
  const { outcome } = result;
  const cells = outcome.kind === 'caught' ? `${outcome.as} | \`${outcome.command}\` | ${outcome.seconds.toFixed(1)}`
    : outcome.kind === 'missed' ? `**not caught** | | ${outcome.seconds.toFixed(1)}` : `**${outcome.why}** | | `;
  return `| ${patch.name}: ${patch.what} | ${patch.rule} | ${patch.tier.kind} | ${cells} | ${result.commit} |`;
}

/** Each rule that the specification of the protocol can switch off (those have one word as their name), and what breaks it. */
function ruleTable(patches: readonly Patch[], caught: ReadonlySet<string>): string[] {
  const rules = [...new Set(patches.map(({ rule }) => rule))].filter((rule) => /^[a-z]+$/i.test(rule)).sort();
  const cell = (rule: string): string => patches.filter((patch) => patch.rule === rule).map((patch) => `${patch.name} (${patch.tier.kind}${caught.has(patch.name) ? '' : ', **not caught**'})`).join(', ');
  return [`Rules of the specification: ${rules.length}.`, '', '| rule | planted bugs that break it |', '|---|---|', ...rules.map((rule) => `| ${rule} | ${cell(rule)} |`)];
}

const TABLE_BEGINS = '<!-- the table: pnpm planted -->';
const TABLE_ENDS = '<!-- end of the table -->';

/** Puts the table into the page; what stands around it is written by hand. */
export function writeTable(path: string, chosen: readonly Patch[], results: ReadonlyMap<string, Result>): void {
  const page = readFileSync(path, 'utf8');
  const begins = page.indexOf(TABLE_BEGINS);
  const ends = page.indexOf(TABLE_ENDS);
  if (begins < 0 || ends < begins) throw new Error(`${path} has no place for the table`);
  const known = chosen.flatMap((patch) => {
    const result = results.get(patch.name);
    return result === undefined || result.patch !== patchHash(patch) ? [] : [{ patch, result }];
  });
  const caught = known.filter(({ result }) => result.outcome.kind === 'caught');
  const standing = caught.filter(({ patch }) => patch.tier.kind !== 'unit');
  const rules = new Set(caught.map(({ patch }) => patch.rule));
  const lines = [
    TABLE_BEGINS,
    `${chosen.length} patches; ${caught.length} caught, ${standing.length} of them by the simulation or the crash points, ${rules.size} rules and parts. `
      + `Machine: ${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown'}. Seconds are of the wall, with two trials at once.`,
    '', '| planted bug | rule or part | tier | found as | shown again by | seconds | commit |', '|---|---|---|---|---|---|---|',
    ...known.map(({ patch, result }) => row(patch, result)), '',
    ...ruleTable(chosen, new Set(caught.map(({ patch }) => patch.name))), '',
  ];
  writeFileSync(path, `${page.slice(0, begins)}${lines.join('\n')}${page.slice(ends)}`);
}
