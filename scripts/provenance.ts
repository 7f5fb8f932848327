import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';

/** Which commit a result is of, and which machine: what a kept result says of itself. */
export function provenance(folders: readonly string[]): string {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', ...folders) === '' ? '' : ' with changes that are not committed';
  return `Commit ${git('rev-parse', '--short', 'HEAD')}${changed}; ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, Node ${process.versions.node}.`;
}
