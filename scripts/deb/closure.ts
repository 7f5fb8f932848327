import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** Of our own packages, what does not run in production. */
const LEFT_OUT = /(^|\/)(testing|testdata|planted|bench|demo|scale)(\/|$)|\.test\.ts$/;

/**
 * Copies a package of the workspace, and everything that it needs at run time, to a tree that is like this one: our packages at their places, those of
 * others below node_modules/.pnpm, and between them the links that pnpm has made, which are relative. Node does not strip types below node_modules,
 * so that ours cannot be installed there. Returns the folders that were copied, relative to the root.
 */
export function copyClosure(root: string, start: string, into: string): readonly string[] {
  const copied = new Set<string>();
  const waiting = [realpathSync(join(root, start))];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    const place = relative(root, folder);
    if (place.startsWith('..')) throw new Error(`${folder} is outside of ${root}`);
    if (copied.has(place)) continue;
    copied.add(place);
    const ours = !place.includes('node_modules');
    cpSync(folder, join(into, place), {
      recursive: true, verbatimSymlinks: true,
      filter: (path) => !ours || (path !== join(folder, 'node_modules') && !LEFT_OUT.test(relative(folder, path))),
    });
    for (const name of needsOf(folder)) {
      const link = join(linksOf(folder, ours), name);
      // An optional one for another machine is not installed.
      if (!existsSync(link)) continue;
      copyLink(root, link, into);
      waiting.push(realpathSync(link));
    }
  }
  return [...copied].sort();
}

function needsOf(folder: string): readonly string[] {
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
  return [...new Set([...Object.keys(dependencies ?? {}), ...Object.keys(optionalDependencies ?? {})])];
}

/** Where pnpm puts links to what a package needs: inside of ours, beside those of others (`.pnpm/x@1/node_modules/x` and `…/@scope/x`). */
function linksOf(folder: string, ours: boolean): string {
  if (ours) return join(folder, 'node_modules');
  const above = dirname(folder);
  return basename(above).startsWith('@') ? dirname(above) : above;
}

function copyLink(root: string, link: string, into: string): void {
  const place = join(into, relative(root, link));
  if (!lstatSync(link).isSymbolicLink() || lstatSync(place, { throwIfNoEntry: false }) !== undefined) return;
  mkdirSync(dirname(place), { recursive: true });
  symlinkSync(readlinkSync(link), place);
}

/** Files of a tree, without following links. */
export function sizeBytes(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce((sum, entry) => sum + (entry.isFile() ? lstatSync(join(entry.parentPath, entry.name)).size : 0), 0);
}
