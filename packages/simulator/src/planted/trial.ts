import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Patch } from './patch.ts';
import { apply } from './tree.ts';

/** Where the seeds of a trial begin: fixed, so that a trial can be repeated. */
const SEED_BASE = 700_000;

export type Outcome =
  | { readonly kind: 'caught'; readonly as: string; readonly command: string; readonly seconds: number }
  | { readonly kind: 'missed'; readonly seconds: number }
  | { readonly kind: 'unusable'; readonly why: string };

/** A failure, and the parameters that show it again. */
interface Failure {
  readonly as: string;
  readonly command: string;
  readonly again: readonly string[];
}

interface Run {
  readonly status: number | null;
  readonly output: string;
}

/** Caught means: the patch applies, the tier fails, and what failed passes in the tree without the patch. (And the types pass: see types.ts.) */
export async function tryPatch(tree: string, sound: string, patch: Patch, seconds: number, base: number): Promise<Outcome> {
  if (!apply(tree, patch, 'plant')) return { kind: 'unusable', why: 'does not apply' };
  const outcome = await trial(tree, sound, patch, seconds, base);
  if (!apply(tree, patch, 'take out')) throw new Error(`${patch.name} cannot be taken out again`);
  return outcome;
}

async function trial(tree: string, sound: string, patch: Patch, seconds: number, base: number): Promise<Outcome> {
  const startedMs = performance.now();
  const { parameters, failure: find } = tierOf(patch, seconds, base);
  const limitSeconds = seconds + 60;
  const run = await node(tree, parameters, limitSeconds);
  const took = (performance.now() - startedMs) / 1000;
  const failure = run.status === 0 ? null : find(run.output);
  if (failure === null) return { kind: 'missed', seconds: took };
  if ((await node(sound, failure.again, 10 * limitSeconds)).status !== 0) return { kind: 'unusable', why: `fails without the patch as well: ${failure.command}` };
  return { kind: 'caught', as: failure.as, command: failure.command, seconds: took };
}

/** How a tier is run, and how a failure is read from what it printed. */
function tierOf({ tier }: Patch, seconds: number, base: number): { readonly parameters: readonly string[]; readonly failure: (output: string) => Failure | null } {
  switch (tier.kind) {
    case 'sim': return {
      parameters: [SIM, '--seconds', String(seconds), '--base', String(SEED_BASE + base), '--scenario', tier.scenarios, '--no-shrink'],
      failure: simFailure,
    };
    case 'crash': return { parameters: [CRASH, '--seconds', String(seconds), '--states', '1000000'], failure: crashFailure };
    case 'unit': {
      const parameters = [VITEST, 'run', '--project', 'unit', '--bail', '1', tier.tests];
      return {
        parameters,
        // The properties of these tests draw new cases at each run: what is named is the test, not a seed.
        failure: (output) => {
          const as = /^ *FAIL +\S+ +\S+\.test\.ts > (.*)$/m.exec(output)?.[1];
          return as === undefined ? null : { as, command: `vitest run ${tier.tests}`, again: parameters };
        },
      };
    }
  }
}

const running = new Set<ChildProcess>();

/** A slice that is cut short leaves nothing running. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

const SIM = 'packages/simulator/src/main.ts';
const CRASH = 'packages/store/src/testing/crash/main.ts';
const VITEST = 'node_modules/vitest/vitest.mjs';

function simFailure(output: string): Failure | null {
  const seed = /reproduce: +pnpm sim (--seed \d+ --scenario [a-z-]+)/.exec(output)?.[1];
  const as = /VIOLATION of ([a-z-]+):/.exec(output)?.[1];
  return seed === undefined || as === undefined ? null : { as, command: `pnpm sim ${seed}`, again: [SIM, ...seed.split(' '), '--no-shrink'] };
}

function crashFailure(output: string): Failure | null {
  const state = /^workload (\d+) after .*?\): (.*)$/m.exec(output);
  // Or the store did not do what its model does, before any cut.
  const model = /^Error: workload (\d+), command \d+/m.exec(output);
  const seed = state?.[1] ?? model?.[1];
  if (seed === undefined) return null;
  // A seed may go on for long; what failed is reached in the processor time that it took.
  const seconds = Number(/; (\d+) s of one core/.exec(output)?.[1] ?? 3) + 1;
  const as = state === null ? 'model of the store' : (state[2] as string).replace(/ of entries|\d+ */g, '').slice(0, 60).trim();
  return { as, command: `pnpm crash --seed ${seed}`, again: [CRASH, '--seed', seed, '--seconds', String(seconds)] };
}

function node(tree: string, parameters: readonly string[], limitSeconds: number): Promise<Run> {
  return command(tree, process.execPath, [join(tree, parameters[0] as string), ...parameters.slice(1)], limitSeconds);
}

export function command(tree: string, program: string, parameters: readonly string[], limitSeconds: number): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, { cwd: tree, stdio: ['ignore', 'pipe', 'pipe'], timeout: limitSeconds * 1000, killSignal: 'SIGKILL', env: { ...process.env, NO_COLOR: '1' } });
    running.add(child);
    let output = '';
    const more = (text: Buffer): void => { output += text.toString(); };
    child.stdout.on('data', more);
    child.stderr.on('data', more);
    child.once('error', reject);
    child.once('close', (status) => {
      running.delete(child);
      resolve({ status, output });
    });
  });
}
