import { spawn } from 'node:child_process';
import { constants } from 'node:os';

export interface Outcome {
  /** Exit code; 128 + number for a signal; 127 if the command was not found. */
  readonly code: number;
  readonly output: string;
  readonly seconds: number;
  readonly timedOut: boolean;
}

export interface RunOptions {
  readonly timeoutSeconds: number;
  /** Show the output as it comes; otherwise it is only collected. */
  readonly show: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

/** Collected output is kept to its last part: counts and failures stand at the end. */
const OUTPUT_KEPT_CHARACTERS = 4 * 2 ** 20;

/** Runs a command in a process group of its own, so that a step that hangs is ended with all it started. */
export async function run(command: readonly string[], options: RunOptions): Promise<Outcome> {
  const startedAt = performance.now();
  const [file, ...args] = command as [string, ...string[]];
  const child = spawn(file, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
  let output = '';
  let timedOut = false;
  const take = (text: string): void => {
    output = (output + text).slice(-OUTPUT_KEPT_CHARACTERS);
    if (options.show) process.stdout.write(text);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  const endGroup = (): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      // Already gone between the check and the signal.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  const timer = setTimeout(() => {
    timedOut = true;
    endGroup();
  }, options.timeoutSeconds * 1000);
  process.once('exit', endGroup);
  const code = await new Promise<number>((resolve) => {
    child.once('error', (error) => {
      take(`${file}: ${error.message}\n`);
      resolve(127);
    });
    // 'exit', not 'close': a process left behind by the step may hold the pipes open for ever.
    child.once('exit', (exitCode, signal) => resolve(exitCode ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
  clearTimeout(timer);
  process.off('exit', endGroup);
  endGroup();
  if (timedOut) take(`\nended after ${options.timeoutSeconds} s: ${command.join(' ')}\n`);
  return { code, output, seconds: (performance.now() - startedAt) / 1000, timedOut };
}
