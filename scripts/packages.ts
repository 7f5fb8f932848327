/**
 * `pnpm packages`: the packages that programs embed, as npm would get them. Source runs here by type stripping, which Node refuses inside
 * node_modules; so JavaScript and declarations are made of it, each package gets a manifest that npm understands, and all are packed.
 *
 *     pnpm packages [--out DIRECTORY]     default: dist/packages
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from './run.ts';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const ROOT = join(import.meta.dirname, '..');
/** What programs import; what these need comes along. */
const EMBEDDED: Readonly<Record<string, string>> = {
  'client': 'The API of an Ashlar block storage site or cluster, from a program',
  'node-manager': 'Ashlar volumes attached inside a program: read, write, flush, trim as promises',
  'site': 'A whole Ashlar block storage site inside a program',
  'nbd-client': 'An NBD client: many requests in flight, aborts, TLS, and a connection that comes back',
};
/** 22.16 is the first whose node:sqlite has all that is used. Tried by hand with 22.16.0, 22.23.3, 24.21.0; the tests run on 26. */
const NODE = '>=22.16';

const { values } = parseArgs({ options: { out: { type: 'string', default: join(ROOT, 'dist/packages') } } });
const out = values.out;
const version = manifestOf(ROOT).version;

const names = closure(Object.keys(EMBEDDED));
const work = join(out, 'work');
rmSync(out, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
await emit();
for (const name of names) stage(name);
await command(['npm', 'pack', '--ignore-scripts', '--pack-destination', out, ...names.map((name) => join(work, 'stage', name))]);
rmSync(work, { recursive: true });
const tarballs = readdirSync(out).filter((file) => file.endsWith('.tgz')).sort();
console.log(tarballs.map((file) => relative(process.cwd(), join(out, file))).join('\n'));
if (tarballs.length !== names.length) throw new Error(`${tarballs.length} tarballs of ${names.length} packages`);

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

function folderOf(name: string): string { return join(ROOT, 'packages', name); }

/** These packages and all of ours that they depend on. */
function closure(wanted: readonly string[]): readonly string[] {
  const found = new Set<string>();
  const add = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    for (const dependency of Object.keys(manifestOf(folderOf(name)).dependencies ?? {})) if (dependency.startsWith('@ashlar/')) add(dependency.slice('@ashlar/'.length));
  };
  wanted.forEach(add);
  return [...found].sort();
}

/** All of them in one run of the compiler. */
async function emit(): Promise<void> {
  const config = join(work, 'tsconfig.json');
  const tree = (pattern: string): string => join(ROOT, pattern);
  writeFileSync(config, JSON.stringify({
    extends: tree('tsconfig.base.json'),
    compilerOptions: {
      noEmit: false, declaration: true, rewriteRelativeImportExtensions: true, stripInternal: true, rootDir: tree('packages'), outDir: join(work, 'emitted'), typeRoots: [tree('node_modules/@types')],
    },
    include: names.map((name) => tree(`packages/${name}/src/**/*.ts`)),
    exclude: ['**/node_modules', '**/*.test.ts', '**/testing', '**/testdata', '**/bench'].map(tree),
  }));
  await command([join(ROOT, 'node_modules/.bin/tsc'), '-p', config]);
}

function stage(name: string): void {
  const manifest = manifestOf(folderOf(name));
  const folder = join(work, 'stage', name);
  mkdirSync(folder, { recursive: true });
  renameSync(join(work, 'emitted', name, 'src'), join(folder, 'dist'));
  for (const file of readdirSync(join(folder, 'dist'), { recursive: true, encoding: 'utf8' })) if (/\.(js|d\.ts)$/.test(file)) finish(join(folder, 'dist', file));
  for (const file of ['LICENSE', 'CHANGELOG.md']) cpSync(join(ROOT, file), join(folder, file));
  const readme = readFileSync(join(folderOf(name), 'README.md'), 'utf8');
  // Links that lead out of the package lead nowhere in it.
  writeFileSync(join(folder, 'README.md'), readme.replace(/\[([^\]]+)\]\(\.\.\/[^)]*\)/g, '$1'));
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(published(name, manifest), null, 2)}\n`);
}

function published(name: string, manifest: Manifest): object {
  const dependencies = Object.fromEntries(Object.entries(manifest.dependencies ?? {}).map(([of, asked]) => [of, asked.startsWith('workspace:') ? version : asked]));
  return {
    name: manifest.name, version, description: EMBEDDED[name] ?? 'A part of Ashlar that its other packages use; not made to be used by itself', license: manifest.license, type: 'module',
    engines: { node: NODE }, os: ['linux'], files: ['dist', 'CHANGELOG.md'],
    // The other entries of the workspace are for the simulator.
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
    dependencies,
  };
}

/** What the compiler leaves as it is: modules that are named by a URL (threads and processes), and declarations. */
function finish(path: string): void {
  const text = readFileSync(path, 'utf8')
    .replace(/new URL\('(\.{1,2}\/[^']+)\.ts', import\.meta\.url\)/g, "new URL('$1.js', import.meta.url)")
    .replace(/(from |import\()(['"])(\.{1,2}\/[^'"]+)\.ts\2/g, '$1$2$3.js$2');
  writeFileSync(path, text);
  const isCode = path.endsWith('.js');
  for (const [, named] of text.matchAll(isCode ? /(?:from |import\(|new URL\()['"](\.{1,2}\/[^'"]+)['"]/g : /(?:from |import\()['"](\.{1,2}\/[^'"]+)['"]/g)) {
    const target = join(dirname(path), isCode ? named : named.replace(/\.js$/, '.d.ts'));
    if (!named.endsWith('.js') || !existsSync(target)) throw new Error(`${relative(work, path)} names ${named}, which is not in its package`);
  }
}

async function command(line: readonly string[]): Promise<void> {
  const { code, output } = await run(line, { timeoutSeconds: 300, show: false });
  if (code !== 0) throw new Error(`${line[0]} ended with ${code}:\n${output}`);
}
