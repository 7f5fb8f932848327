import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** What the slices of a long run have found so far, kept beside its report. Only slices of the same code and settings add up. */
export interface Slices<T> {
  readonly code: string;
  readonly settings: string;
  readonly slices: readonly T[];
}

/** Empty if there are none, or they are of other code or other settings. */
export function loadSlices<T>(path: string, code: string, settings: string): Slices<T> {
  const kept = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Slices<T>) : null;
  return kept !== null && kept.code === code && kept.settings === settings ? kept : { code, settings, slices: [] };
}

/** Written whole and renamed: a slice that is broken off leaves those before it. */
export function saveSlices<T>(path: string, slices: Slices<T>): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(slices, null, 1)}\n`);
  renameSync(`${path}.new`, path);
}
