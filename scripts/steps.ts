import type { Outcome } from './run.ts';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  /** What failed and how, to be said again behind the output of all steps, of which a log may keep the end only. */
  readonly failures?: readonly string[];
}

export interface Step {
  readonly name: string;
  readonly command: readonly string[];
  readonly timeoutSeconds: number;
  /** Counts what the step did; `outcome.code` has the last word (see `counted`). */
  readonly count: (outcome: Outcome) => Counts;
  /** The file that must exist for the step to be part of the run. */
  readonly when?: string;
}

/** A tool that is right or wrong as a whole counts as one. */
export function countAsOne(outcome: Outcome): Counts {
  return outcome.code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1, failures: [lastLines(outcome.output)] };
}

function lastLines(text: string): string {
  return text.trimEnd().split('\n').slice(-20).join('\n');
}

/** Counts a line `N passed, N failed` of the step's own; the last one counts. */
export function countClosingLine(outcome: Outcome): Counts {
  const lines = [...outcome.output.matchAll(/^(\d+) passed, (\d+) failed$/gm)];
  const last = lines.at(-1);
  return last ? counted(outcome, { passed: Number(last[1]), failed: Number(last[2]) }) : countAsOne(outcome);
}

/** No step that ended badly goes without a failure, whatever it printed. */
export function counted(outcome: Outcome, counts: Counts): Counts {
  return outcome.code !== 0 && counts.failed === 0 ? { passed: counts.passed, failed: 1, failures: [lastLines(outcome.output)] } : counts;
}

const node = process.execPath;
const bin = (name: string): string => `node_modules/.bin/${name}`;

export const TYPES: Step = { name: 'types', command: [bin('tsc'), '-p', 'tsconfig.json'], timeoutSeconds: 180, count: countAsOne };
export const TYPES_OF_CORES: Step = { name: 'types of the cores', command: [bin('tsc'), '-p', 'tsconfig.cores.json'], timeoutSeconds: 120, count: countAsOne };
export const LINT: Step = { name: 'lint', command: [bin('oxlint')], timeoutSeconds: 120, count: countAsOne };
export const DEAD: Step = { name: 'dead code', command: [bin('knip'), '--no-progress', '--no-config-hints'], timeoutSeconds: 120, count: countAsOne };

/** Longer checks of the whole, each a program with an exit code. One that is not built yet is not part of the run. */
export function simulation(seconds: number): Step {
  return {
    name: `simulation, ${seconds} s`, when: 'packages/simulator/src/main.ts',
    command: [node, 'packages/simulator/src/main.ts', '--seconds', String(seconds)],
    timeoutSeconds: seconds * 2 + 120, count: countAsOne,
  };
}

const CRASH_MAIN = 'packages/store/src/testing/crash/main.ts';
export const CRASH: Step = {
  name: 'crash points', when: CRASH_MAIN,
  command: [node, CRASH_MAIN], timeoutSeconds: 1200, count: countAsOne,
};

/** A patch that does not apply any more tests nothing: `pnpm planted` itself takes a quarter of an hour and is not part of the run. */
export const PLANTED: Step = {
  name: 'planted bugs apply', when: 'packages/simulator/src/planted/main.ts',
  command: [node, 'packages/simulator/src/planted/main.ts', '--check'], timeoutSeconds: 60, count: countClosingLine,
};
