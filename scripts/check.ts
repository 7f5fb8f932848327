/** `pnpm check`: what every commit passes, in under a minute. */
import { existsSync } from 'node:fs';
import { run } from './run.ts';
import { DEAD, LINT, simulation, TYPES, TYPES_OF_CORES, type Step } from './steps.ts';
import { vitestStep } from './vitest-step.ts';

/** The tools first, side by side; then the tests, which use all cores themselves. */
const TOGETHER: readonly Step[] = [TYPES, TYPES_OF_CORES, LINT, DEAD];
const IN_TURN: readonly Step[] = [vitestStep('unit and import rules', ['--project', 'unit', '--project', 'arch'], 300), simulation(5)];

let passed = 0;
let failed = 0;

async function take(step: Step): Promise<void> {
  if (step.when !== undefined && !existsSync(step.when)) return;
  const outcome = await run(step.command, { timeoutSeconds: step.timeoutSeconds, show: false });
  const counts = step.count(outcome);
  passed += counts.passed;
  failed += counts.failed;
  console.log(`${counts.failed === 0 ? 'ok    ' : 'FAILED'} ${step.name} (${outcome.seconds.toFixed(1)} s)`);
  if (counts.failed > 0) console.log(outcome.output.trimEnd());
}

await Promise.all(TOGETHER.map(take));
for (const step of IN_TURN) await take(step);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
