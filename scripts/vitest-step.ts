import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countAsOne, counted, type Counts, type Step } from './steps.ts';

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numFailedTestSuites: number;
  readonly testResults: readonly TestFileResult[];
}

interface TestFileResult {
  readonly name: string;
  readonly status: string;
  /** Why the file did not load. */
  readonly message: string;
  readonly assertionResults: readonly { readonly fullName: string; readonly status: string; readonly failureMessages: readonly string[] }[];
}

/** A step that runs vitest projects (or files) and counts single tests; a file that does not even load counts as one failure. */
export function vitestStep(name: string, args: readonly string[], timeoutSeconds: number): Step {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-vitest-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'report.json');
  return {
    name, timeoutSeconds,
    command: ['node_modules/.bin/vitest', 'run', '--passWithNoTests', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...args],
    count: (outcome) => (existsSync(file) ? counted(outcome, countReport(readFileSync(file, 'utf8'))) : countAsOne(outcome)),
  };
}

export function countReport(text: string): Counts {
  const report = JSON.parse(text) as VitestReport;
  const unloaded = report.testResults.filter((result) => result.status === 'failed' && result.assertionResults.length === 0);
  const failures = report.testResults.flatMap((result) => result.assertionResults
    .filter((test) => test.status === 'failed')
    .map((test) => `${result.name}: ${test.fullName}\n${test.failureMessages.map(head).join('\n')}`));
  failures.push(...unloaded.map((result) => `${result.name}: ${head(result.message)}`));
  return { passed: report.numPassedTests, failed: report.numFailedTests + unloaded.length, failures };
}

/** The message and the first places of its stack. */
function head(message: string): string {
  return message.split('\n').slice(0, 12).join('\n');
}
