import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { run } from '../run.ts';

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

export const ROOT = join(import.meta.dirname, '../..');

/** The file that says of which commit a package was made. */
export const COMMIT = 'COMMIT';

/** What programs import; what these need comes along. */
export const EMBEDDED: Readonly<Record<string, string>> = {
  'client': 'The API of an Ashlar block storage site or cluster, from a program',
  'node-manager': 'Ashlar volumes attached inside a program: read, write, flush, trim as promises',
  'site': 'A whole Ashlar block storage site inside a program',
  'nbd-client': 'An NBD client: many requests in flight, aborts, TLS, and a connection that comes back',
};

export function manifestOf(folder: string): Manifest { return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest; }
export function folderOf(name: string): string { return join(ROOT, 'packages', name); }

/** These packages and all of ours that they depend on. */
export function closure(wanted: readonly string[]): readonly string[] {
  const found = new Set<string>();
  const add = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    for (const dependency of Object.keys(manifestOf(folderOf(name)).dependencies ?? {})) if (dependency.startsWith('@ashlar/')) add(dependency.slice('@ashlar/'.length));
  };
  wanted.forEach(add);
  return [...found].sort();
}

/** JavaScript and declarations of these packages, in one run of the compiler: `work/emitted/NAME/dist`. Returns that folder. */
export async function emit(names: readonly string[], work: string): Promise<string> {
  mkdirSync(work, { recursive: true });
  const config = join(work, 'tsconfig.json');
  const emitted = join(work, 'emitted');
  const tree = (pattern: string): string => join(ROOT, pattern);
  writeFileSync(config, JSON.stringify({
    extends: tree('tsconfig.base.json'),
    compilerOptions: {
      noEmit: false, declaration: true, rewriteRelativeImportExtensions: true, stripInternal: true, rootDir: tree('packages'), outDir: emitted, typeRoots: [tree('node_modules/@types')],
    },
    include: names.map((name) => tree(`packages/${name}/src/**/*.ts`)),
    exclude: ['**/node_modules', '**/*.test.ts', '**/testing', '**/testdata', '**/bench'].map(tree),
  }));
  await command([join(ROOT, 'node_modules/.bin/tsc'), '-p', config]);
  for (const name of names) {
    const dist = join(emitted, name, 'dist');
    renameSync(join(emitted, name, 'src'), dist);
    for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) if (/\.(js|d\.ts)$/.test(file)) finish(join(dist, file));
  }
  return emitted;
}

/** What the compiler leaves as it is: modules that are named by a URL (threads and processes), and declarations. */
function finish(path: string): void {
  const text = readFileSync(path, 'utf8')
    .replace(/new URL\('(\.{1,2}\/[^']+)\.ts', import\.meta\.url\)/g, "new URL('$1.js', import.meta.url)")
    .replace(/(from |import\()(['"])(\.{1,2}\/[^'"]+)\.ts\2/g, '$1$2$3.js$2');
  writeFileSync(path, text);
  const isCode = path.endsWith('.js');
  for (const [, named] of text.matchAll(isCode ? /(?:from |import\(|new URL\()['"](\.{1,2}\/[^'"]+)['"]/g : /(?:from |import\()['"](\.{1,2}\/[^'"]+)['"]/g)) {
    // Beside the code in a package that was made: packages/runtime/src/build.ts.
    if (named === `../${COMMIT}`) continue;
    const target = join(dirname(path), isCode ? named : named.replace(/\.js$/, '.d.ts'));
    if (!named.endsWith('.js') || !existsSync(target)) throw new Error(`${relative(ROOT, path)} names ${named}, which is not in its package`);
  }
}

export async function command(line: readonly string[]): Promise<void> {
  const { code, output } = await run(line, { timeoutSeconds: 300, show: false });
  if (code !== 0) throw new Error(`${line[0]} ended with ${code}:\n${output}`);
}
