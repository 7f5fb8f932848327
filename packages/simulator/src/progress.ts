import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { SavedSummary, Summary } from './summary.ts';

/** A long run made in slices: what has been done, and where the next slice goes on. */
interface Progress {
  readonly base: number;
  /** Runs made so far; the next one's seed is `base + runs`. */
  readonly runs: number;
  /** Runs by the commit of the code that they were made with. */
  readonly commits: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
  readonly summary: SavedSummary;
}

export function loadProgress(path: string): Progress | null {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) as Progress : null;
}

export function saveProgress(path: string, base: number, before: Progress | null, summary: Summary, failures: readonly string[]): void {
  const commit = commitNow();
  const runs = summary.runs - (before?.runs ?? 0);
  const progress: Progress = {
    base, runs: summary.runs, commits: { ...before?.commits, [commit]: (before?.commits[commit] ?? 0) + runs },
    failures: [...(before?.failures ?? []), ...failures], summary: summary.saved(),
  };
  // Beside it first: a slice that is killed while it writes loses only itself.
  writeFileSync(`${path}.new`, `${JSON.stringify(progress, null, 1)}\n`);
  renameSync(`${path}.new`, path);
}

function commitNow(): string {
  const git = (...args: string[]): string => execFileSync('git', ['-C', import.meta.dirname, ...args], { encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', '..', '../../replication', '../../attachment', '../../store', '../../storage', '../../control', '../../protocol') !== '';
  return `${git('rev-parse', '--short', 'HEAD')}${changed ? ' with changes' : ''}`;
}
