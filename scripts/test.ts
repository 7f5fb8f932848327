/**
 * `pnpm test`: everything that must hold before a change is accepted, in under half an hour. One step's failure does not
 * hide the others. Closes with a line `N passed, N failed`.
 */
import { existsSync } from 'node:fs';
import { debianPackagesFor, isRoot, missing, onDebian, testFiles, type TestFile } from './needs.ts';
import { run } from './run.ts';
import { CRASH, DEAD, LINT, PLANTED, simulation, TYPES, TYPES_OF_CORES, type Step } from './steps.ts';
import { vitestStep } from './vitest-step.ts';

const NEEDY_FOLDERS = ['test/e2e', 'test/fuzz', 'test/sim'];

interface Line {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly string[];
  readonly seconds: number;
}

function say(text: string): void {
  console.log(text);
}

async function installMissing(files: readonly TestFile[]): Promise<void> {
  const needs = new Set(files.flatMap((file) => file.needs).filter((need) => missing(need) !== null));
  const packages = debianPackagesFor(needs);
  if (packages.length === 0) return;
  if (!onDebian() || !isRoot()) {
    say(`not installed, and not to be installed from here (that takes Debian and root): ${packages.join(' ')}`);
    return;
  }
  say(`installing from Debian: ${packages.join(' ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const update = await run(['apt-get', 'update', '-q'], { timeoutSeconds: 180, show: false, env });
  if (update.code !== 0) say(update.output);
  const install = await run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', ...packages], { timeoutSeconds: 420, show: false, env });
  if (install.code !== 0) say(install.output);
}

async function take(step: Step): Promise<Line> {
  say(`\n── ${step.name}`);
  const outcome = await run(step.command, { timeoutSeconds: step.timeoutSeconds, show: true });
  const { passed, failed, failures = [] } = step.count(outcome);
  return { name: step.name, passed, failed, failures, seconds: outcome.seconds };
}

const files = NEEDY_FOLDERS.flatMap(testFiles);
await installMissing(files);
const unable = files
  .map((file) => ({ file, reasons: file.needs.map(missing).filter((reason) => reason !== null) }))
  .filter(({ reasons }) => reasons.length > 0);
const excluded = unable.flatMap(({ file }) => ['--exclude', file.path]);

const steps: readonly Step[] = [
  TYPES, TYPES_OF_CORES, LINT, DEAD,
  vitestStep('unit, import rules, fuzz', ['--project', 'unit', '--project', 'arch', '--project', 'sim', '--project', 'fuzz', ...excluded], 600),
  vitestStep('real processes', ['--project', 'e2e', ...excluded], 1500),
  simulation(120),
  CRASH,
  PLANTED,
];

const lines: Line[] = [];
for (const step of steps) {
  if (step.when === undefined || existsSync(step.when)) lines.push(await take(step));
}

// In CI the machine is ours: a test that cannot run there is a fault of the set-up.
const inCi = process.env['CI'] === 'true';
say('');
for (const { file, reasons } of unable) say(`${inCi ? 'FAILED' : 'cannot run here'}: ${file.path}: ${reasons.join('; ')}`);
for (const line of lines) say(`${line.failed === 0 ? 'ok    ' : 'FAILED'} ${line.name}: ${line.passed} passed, ${line.failed} failed (${line.seconds.toFixed(0)} s)`);
for (const { name, failures } of lines) for (const failure of failures) say(`\n${name}: ${failure}`);

const passed = lines.reduce((sum, line) => sum + line.passed, 0);
const failed = lines.reduce((sum, line) => sum + line.failed, 0) + (inCi ? unable.length : 0);
say(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
