import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { importsOf } from './import-scanner.ts';

export interface Module {
  /** Relative to the root of the tree, with slashes. */
  readonly path: string;
  readonly imports: readonly string[];
}

/**
 * The layer of each package: 0 words, 1 cores without I/O, 2 actors, 3 runtime and drivers, 4 roles, 5 what programs attach and load volumes with, 6 whole sites, 7 what drives them.
 * Imports point downward only. Packages of layer 1 and above do not see others of their own layer.
 */
const LAYERS: Readonly<Record<string, number>> = {
  words: 0, protocol: 0, figures: 0,
  replication: 1, attachment: 1, nbd: 1, store: 1,
  actor: 2,
  runtime: 3, client: 3, 'nbd-client': 3, identity: 3,
  storage: 4, host: 4, control: 4,
  load: 5, 'node-manager': 5, site: 6, bench: 7,
};

/** Development packages: they may see everything below the apps, and nothing that ships may see them. */
const DEVELOPMENT = new Set(['simulator']);

/** Doors beside a package's main one that apps may use: a command line is not to load a whole site to say where one is. */
const LIGHT_DOORS = new Set(['@ashlar/site/layout', '@ashlar/runtime/build']);

/** Pure cores: no node modules. A folder inside a package can be one, and then sees only what layer 1 sees. */
const PURE_PACKAGES = new Set(['words', 'protocol', 'figures', 'replication', 'attachment', 'nbd', 'store', 'actor']);
const PURE_FOLDERS: readonly { readonly packageName: string; readonly folder: string }[] = [{ packageName: 'control', folder: 'packages/control/src/core/' }];

const SOURCE = /\.(ts|tsx|mts)$/;

/** Reads every module under packages/ and apps/ of a tree. */
export function readModules(root: string): readonly Module[] {
  return ['packages', 'apps']
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && SOURCE.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/[/\\](node_modules|testdata)[/\\]/.test(path))
    .map((path) => ({ path: relative(root, path).replaceAll('\\', '/'), imports: importsOf(readFileSync(path, 'utf8')) }));
}

/** Every breach of the rules, one line each; empty if all hold. A tree without modules is a breach: the reader is then blind. */
export function violations(modules: readonly Module[]): readonly string[] {
  if (modules.length === 0) return ['no modules were found: the rules were not checked'];
  const found = modules.flatMap((module) => module.imports.map((name) => violation(module, name)).filter((text) => text !== null));
  return [...found, ...cycles(modules)];
}

function packageOf(path: string): string | null {
  return /^packages\/([^/]+)\//.exec(path)?.[1] ?? null;
}

/** Tests, and what only tests and programs that test use: neither ships. */
function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.includes('/src/testing/');
}

function violation(module: Module, name: string): string | null {
  const breach = name.startsWith('.') ? relativeBreach(module, name) : name.startsWith('@ashlar/') ? packageBreach(module, name) : outsideBreach(module, name);
  return breach === null ? null : `${module.path}: imports ${name}: ${breach}`;
}

function relativeBreach(module: Module, name: string): string | null {
  const target = normalize(join(dirname(module.path), name)).replaceAll('\\', '/');
  const home = module.path.split('/').slice(0, 2).join('/');
  // A test may hold the code against the text that describes it.
  if (isTest(module.path) && target.startsWith('docs/')) return null;
  if (!target.startsWith(`${home}/`)) return 'a relative import stays inside its package';
  const pure = PURE_FOLDERS.find(({ folder }) => module.path.startsWith(folder));
  if (pure && !isTest(module.path) && !target.startsWith(pure.folder)) return 'a core does not see what is wired around it';
  return null;
}

function packageBreach(module: Module, name: string): string | null {
  const [, target = '', ...rest] = name.split('/');
  const own = packageOf(module.path);
  // The simulator takes the cores out of packages that also have drivers, so that it loads no sockets.
  const light = own === null && LIGHT_DOORS.has(name);
  if (rest.length > 0 && !light && !(own !== null && DEVELOPMENT.has(own))) return 'packages are imported by their name alone';
  if (target === 'ashlar') return 'nobody imports an app';
  const targetLayer = LAYERS[target];
  if (own === null) return targetLayer === undefined && !DEVELOPMENT.has(target) ? `package ${target} is in no layer` : null;
  if (DEVELOPMENT.has(own)) return null;
  if (DEVELOPMENT.has(target)) return 'what ships does not see a development package';
  const ownLayer = layerOf(module.path, own);
  if (ownLayer === undefined) return `package ${own} is in no layer`;
  if (targetLayer === undefined) return `package ${target} is in no layer`;
  if (targetLayer > ownLayer) return `layer ${ownLayer} does not see layer ${targetLayer}`;
  if (targetLayer === ownLayer && ownLayer > 0 && target !== own) return `packages of layer ${ownLayer} do not see each other`;
  return null;
}

function layerOf(path: string, packageName: string): number | undefined {
  return PURE_FOLDERS.some(({ folder }) => path.startsWith(folder)) ? 1 : LAYERS[packageName];
}

function outsideBreach(module: Module, name: string): string | null {
  const own = packageOf(module.path);
  const pure = own !== null && (PURE_PACKAGES.has(own) || PURE_FOLDERS.some(({ folder }) => module.path.startsWith(folder)));
  if (!pure || isTest(module.path)) return null;
  return name.startsWith('node:') || NODE_MODULES.has(name) ? 'a core does no input or output' : null;
}

/** Names that Node also answers to without `node:`. */
const NODE_MODULES = new Set(['fs', 'net', 'path', 'os', 'crypto', 'worker_threads', 'child_process', 'timers', 'stream', 'events', 'process', 'perf_hooks', 'buffer', 'util', 'zlib', 'http']);

/** Packages that see each other, directly or around a corner. Tests count: a package is published with one list of dependencies. */
function cycles(modules: readonly Module[]): readonly string[] {
  const edges = new Map<string, Set<string>>();
  for (const module of modules) {
    const own = packageOf(module.path);
    if (own === null) continue;
    const targets = edges.get(own) ?? new Set<string>();
    edges.set(own, targets);
    for (const name of module.imports) {
      const target: string = name.startsWith('@ashlar/') ? (name.split('/')[1] as string) : own;
      if (target !== own) targets.add(target);
    }
  }
  return [...edges.keys()].map((start) => cycleFrom(start, edges)).filter((text) => text !== null);
}

function cycleFrom(start: string, edges: ReadonlyMap<string, ReadonlySet<string>>): string | null {
  const seen = new Set<string>();
  const walk = (at: string, path: readonly string[]): string | null => {
    for (const next of edges.get(at) ?? []) {
      // Reported once, from its first package by name.
      if (next === start) return path.every((name) => name >= start) ? `packages see each other in a circle: ${[...path, start].join(' → ')}` : null;
      if (seen.has(next)) continue;
      seen.add(next);
      const found = walk(next, [...path, next]);
      if (found !== null) return found;
    }
    return null;
  };
  return walk(start, [start]);
}
