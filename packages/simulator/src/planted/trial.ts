import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';

const PATCHES = resolve(import.meta.dirname, '../../planted');
/** Where the seeds of a trial begin: fixed, so that a trial can be repeated. */
const SEED_BASE = 700_000;

/** One bug, as a patch whose head says what it is. */
export interface Patch {
  readonly name: string;
  readonly path: string;
  readonly what: string;
  /** Of the specification (model/replication.mjs), or the part of the product that it breaks. */
  readonly rule: string;
  /** Of the simulator, where it shows; null for what the simulator does not contain. */
  readonly scenarios: string | null;
  /** Where the model tests are that find what the simulator does not contain: rings, links, the kernel. */
  readonly tests: string | null;
}

export type Outcome =
  | { readonly kind: 'caught'; readonly invariant: string; readonly seed: string; readonly seconds: number }
  | { readonly kind: 'missed'; readonly seconds: number }
  | { readonly kind: 'unusable'; readonly why: string };

export function patches(): Patch[] {
  return readdirSync(PATCHES).filter((file) => file.endsWith('.patch')).sort().map((file) => {
    const path = join(PATCHES, file);
    const text = readFileSync(path, 'utf8');
    const [scenarios, tests] = [optional(text, 'Scenarios'), optional(text, 'Tests')];
    if ((scenarios === null) === (tests === null)) throw new Error(`${file} names neither scenarios nor tests, or both`);
    return { name: basename(file, '.patch'), path, what: field(text, 'Bug'), rule: field(text, 'Rule'), scenarios, tests };
  });
}

function field(text: string, name: string): string {
  const found = optional(text, name);
  if (found === null) throw new Error(`a patch without "${name}:"`);
  return found;
}

function optional(text: string, name: string): string | null {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1] ?? null;
}

export function appliesTo(tree: string, patch: Patch): boolean {
  return spawnSync('git', ['apply', '--check', patch.path], { cwd: tree }).status === 0;
}

/** A copy of the packages; what they depend on is shared. */
export function makeTree(): string {
  const tree = mkdtempSync(join(tmpdir(), 'ashlar-planted-'));
  const root = process.cwd();
  for (const entry of ['packages', 'apps', 'package.json', 'tsconfig.json', 'tsconfig.base.json', 'tsconfig.cores.json', 'pnpm-workspace.yaml', 'vitest.config.ts', 'docs']) {
    cpSync(join(root, entry), join(tree, entry), { recursive: true, verbatimSymlinks: true });
  }
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  return tree;
}

export function removeTree(tree: string): void {
  rmSync(tree, { recursive: true, force: true });
}

/** Caught means: the patch applies, the types pass, a run fails, and the same seed passes without the patch. */
export function tryPatch(tree: string, patch: Patch, seconds: number, types: boolean): Outcome {
  if (spawnSync('git', ['apply', patch.path], { cwd: tree }).status !== 0) return { kind: 'unusable', why: 'does not apply' };
  if (types && spawnSync(join(tree, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.json'], { cwd: tree }).status !== 0) return { kind: 'unusable', why: 'types fail' };
  return patch.scenarios === null ? byTests(tree, patch.tests ?? '', seconds) : bySimulation(tree, patch.scenarios, seconds);
}

/** The properties of these tests draw new cases at each run: what is named is the test, not a seed. */
function byTests(tree: string, tests: string, seconds: number): Outcome {
  const startedMs = performance.now();
  const run = unit(tree, tests, seconds);
  const took = (performance.now() - startedMs) / 1000;
  const failed = /^ *FAIL +\S+ +\S+\.test\.ts > (.*)$/m.exec(run.output)?.[1];
  if (run.status === 0 || failed === undefined) return { kind: 'missed', seconds: took };
  if (unit(process.cwd(), tests, seconds).status !== 0) return { kind: 'unusable', why: `${tests} fails without the patch as well` };
  return { kind: 'caught', invariant: failed, seed: `vitest run ${tests}`, seconds: took };
}

function unit(tree: string, tests: string, seconds: number): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(tree, 'node_modules/vitest/vitest.mjs'), 'run', '--project', 'unit', '--bail', '1', tests], {
    cwd: tree, encoding: 'utf8', timeout: (seconds + 60) * 1000, maxBuffer: 2 ** 28, env: { ...process.env, NO_COLOR: '1' },
  });
  return { status, output: stdout + stderr };
}

function bySimulation(tree: string, scenarios: string, seconds: number): Outcome {
  const startedMs = performance.now();
  const run = simulate(tree, ['--seconds', String(seconds), '--base', String(SEED_BASE), '--scenario', scenarios, '--no-shrink'], seconds);
  const took = (performance.now() - startedMs) / 1000;
  const seed = /reproduce: +pnpm sim (--seed \d+ --scenario [a-z-]+)/.exec(run.output)?.[1];
  const invariant = /VIOLATION of ([a-z-]+):/.exec(run.output)?.[1];
  if (seed === undefined || invariant === undefined) return { kind: 'missed', seconds: took };
  const without = simulate(process.cwd(), [...seed.split(' '), '--no-shrink'], seconds);
  if (without.status !== 0) return { kind: 'unusable', why: `fails without the patch as well: ${seed}` };
  return { kind: 'caught', invariant, seed, seconds: took };
}

function simulate(tree: string, parameters: readonly string[], seconds: number): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(tree, 'packages/simulator/src/main.ts'), ...parameters], {
    cwd: tree, encoding: 'utf8', timeout: (seconds + 60) * 1000, maxBuffer: 2 ** 28,
  });
  return { status, output: stdout + stderr };
}
