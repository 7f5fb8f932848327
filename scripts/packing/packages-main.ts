/**
 * `pnpm packages`: the packages that programs embed, as npm would get them. Source runs here by type stripping, which Node refuses inside
 * node_modules; so JavaScript and declarations are made of it, each package gets a manifest that npm understands, and all are packed.
 *
 *     pnpm packages [--out DIRECTORY]     default: dist/packages
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { apiText } from './api-text.ts';
import { closure, command, COMMIT, EMBEDDED, emit, folderOf, manifestOf, ROOT, type Manifest } from './emit.ts';

/** 22.16 is the first whose node:sqlite has all that is used. Tried by hand with 22.16.0, 22.23.3, 24.21.0; the tests run on 26. */
const NODE = '>=22.16';

const { values } = parseArgs({ options: { out: { type: 'string', default: join(ROOT, 'dist/packages') } } });
const { out } = values;
const { version } = manifestOf(ROOT);

const names = closure(Object.keys(EMBEDDED));
const work = join(out, 'work');
rmSync(out, { recursive: true, force: true });
const emitted = await emit(names, work);
const texts = new Map(Object.keys(EMBEDDED).map((name) => [name, apiText(name, emitted)]));
for (const name of names) stage(name);
await command(['npm', 'pack', '--ignore-scripts', '--pack-destination', out, ...names.map((name) => join(work, 'stage', name))]);
rmSync(work, { recursive: true });
const tarballs = readdirSync(out).filter((file) => file.endsWith('.tgz')).sort();
console.log(tarballs.map((file) => relative(process.cwd(), join(out, file))).join('\n'));
if (tarballs.length !== names.length) throw new Error(`${tarballs.length} tarballs of ${names.length} packages`);

function stage(name: string): void {
  const folder = join(work, 'stage', name);
  mkdirSync(folder, { recursive: true });
  renameSync(join(emitted, name, 'dist'), join(folder, 'dist'));
  for (const file of ['LICENSE', 'CHANGELOG.md']) cpSync(join(ROOT, file), join(folder, file));
  const readme = readFileSync(join(folderOf(name), 'README.md'), 'utf8');
  // Links that lead out of the package lead nowhere in it.
  writeFileSync(join(folder, 'README.md'), readme.replace(/\[([^\]]+)\]\(\.\.\/[^)]*\)/g, '$1'));
  writeFileSync(join(folder, COMMIT), execFileSync('git', ['-C', ROOT, 'rev-parse', '--short=12', 'HEAD']));
  const api = texts.get(name);
  if (api !== undefined) writeFileSync(join(folder, 'API.md'), api);
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(published(name, manifestOf(folderOf(name))), null, 2)}\n`);
}

function published(name: string, manifest: Manifest): object {
  const dependencies = Object.fromEntries(Object.entries(manifest.dependencies ?? {}).map(([of, asked]) => [of, asked.startsWith('workspace:') ? version : asked]));
  return {
    name: manifest.name, version, description: EMBEDDED[name] ?? 'A part of Ashlar that its other packages use; not made to be used by itself', license: manifest.license, type: 'module',
    engines: { node: NODE }, os: ['linux'], files: ['dist', 'API.md', 'CHANGELOG.md', COMMIT],
    // The other entries of the workspace are for the simulator.
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
    dependencies,
  };
}
