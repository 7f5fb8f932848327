import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** The tree this file is part of. */
export const ROOT = join(import.meta.dirname, '../../../..');
export const MAIN = join(ROOT, 'apps/ashlar/src/main.ts');

const BUSY_TIMEOUT_MS = 60_000;
const BUSY_PAUSE_MS = 200;
const COMMAND_TIMEOUT_MS = 120_000;

/** Runs `ashlar …args --json` and gives its one JSON document; again after a while as long as it says `busy`, as the error asks for. */
export async function runAshlar<T>(env: NodeJS.ProcessEnv, args: readonly string[]): Promise<T> {
  const giveUpMs = performance.now() + BUSY_TIMEOUT_MS;
  for (;;) {
    const { code, output, errors } = await command(env, args);
    if (code === 0) return (output.trim() === '' ? null : JSON.parse(output)) as T;
    if (!`${output}${errors}`.includes('"code":"busy"') || performance.now() > giveUpMs) throw new Error(`ashlar ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors.trim() || output.trim()}`);
    await delay(BUSY_PAUSE_MS);
  }
}

async function command(env: NodeJS.ProcessEnv, args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string; readonly errors: string }> {
  const child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'], env, timeout: COMMAND_TIMEOUT_MS });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, output, errors };
}
