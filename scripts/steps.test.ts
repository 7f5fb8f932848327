import { describe, expect, it } from 'vitest';
import { debianPackagesFor, missing, needsOf } from './needs.ts';
import { run } from './run.ts';
import { countAsOne, countClosingLine } from './steps.ts';
import { countReport } from './vitest-step.ts';

const outcome = (code: number, output = ''): Parameters<typeof countAsOne>[0] => ({ code, output, seconds: 1, timedOut: false });

describe('counting', () => {
  it('takes a tool as one', () => {
    expect(countAsOne(outcome(0))).toEqual({ passed: 1, failed: 0 });
    expect(countAsOne(outcome(2, 'why\n'))).toEqual({ passed: 0, failed: 1, failures: ['why'] });
  });

  it('reads the last closing line, and does not believe it over the exit code', () => {
    expect(countClosingLine(outcome(1, '1 passed, 9 failed\nx\n12 passed, 3 failed\n'))).toEqual({ passed: 12, failed: 3 });
    expect(countClosingLine(outcome(1, '12 passed, 0 failed\n'))).toMatchObject({ passed: 12, failed: 1 });
    expect(countClosingLine(outcome(0, 'nothing'))).toEqual({ passed: 1, failed: 0 });
  });

  it('counts a test file that does not load, and says what failed', () => {
    const failed = { fullName: 'a volume is read', status: 'failed', failureMessages: ['expected 1 to be 2\n at here'] };
    const testResults = [
      { name: 'a.test.ts', status: 'failed', message: 'no such module', assertionResults: [] },
      { name: 'b.test.ts', status: 'failed', message: '', assertionResults: [failed, { fullName: 'x', status: 'passed', failureMessages: [] }] },
    ];
    expect(countReport(JSON.stringify({ numPassedTests: 5, numFailedTests: 1, numFailedTestSuites: 2, testResults }))).toEqual({
      passed: 5, failed: 2, failures: ['b.test.ts: a volume is read\nexpected 1 to be 2\n at here', 'a.test.ts: no such module'],
    });
  });
});

describe('needs', () => {
  it('are read from a line of the file', () => {
    expect(needsOf("import x from 'y';\n// needs: fio, python3:nbd\n")).toEqual(['fio', 'python3:nbd']);
    expect(needsOf('// nothing\n')).toEqual([]);
  });

  it('name what is missing', () => {
    expect(missing('sh')).toBeNull();
    expect(missing('no-such-command')).toBe('no-such-command is not installed');
    expect(missing('/no/such/path')).toBe('/no/such/path is not there');
    expect(debianPackagesFor(['nbdinfo', 'nbdcopy', 'fio'])).toEqual(['fio', 'libnbd-bin']);
  });
});

describe('running a step', () => {
  it('tells its exit code and output', async () => {
    expect(await run(['sh', '-c', 'echo out; echo err >&2; exit 3'], { timeoutSeconds: 10, show: false })).toMatchObject({ code: 3, output: expect.stringContaining('out'), timedOut: false });
  });

  it('ends one that hangs, with what it started', async () => {
    const ended = await run(['sh', '-c', 'sleep 60 & sleep 60'], { timeoutSeconds: 0.2, show: false });
    expect(ended.timedOut).toBe(true);
    expect(ended.code).not.toBe(0);
  });

  it('reports a command that does not exist', async () => {
    expect((await run(['no-such-command'], { timeoutSeconds: 10, show: false })).code).toBe(127);
  });
});
