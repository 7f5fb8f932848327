import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');

/** Paths of all files that belong to the tree: tracked ones and new ones that are not ignored. */
export function treeFiles(): readonly string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: ROOT, encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
  return listed.split('\n').filter((path) => path !== '' && existsSync(join(ROOT, path)));
}

export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

export function manifests(): readonly { readonly path: string; readonly manifest: Manifest }[] {
  return treeFiles().filter((path) => /(^|\/)package\.json$/.test(path)).map((path) => ({ path, manifest: JSON.parse(read(path)) as Manifest }));
}

export interface Manifest {
  readonly name: string;
  readonly license?: string;
  readonly private?: boolean;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
