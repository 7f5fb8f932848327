import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const MAIN = new URL('../../apps/ashlar/src/main.ts', import.meta.url).pathname;
const execute = promisify(execFile);

/** A site of its own for a test, started by the command that a user starts it with. */
export class Site {
  readonly #process: ChildProcess;
  readonly #environment: NodeJS.ProcessEnv;

  static async up(directory: string, ...args: readonly string[]): Promise<Site> {
    const child = spawn(process.execPath, [MAIN, 'up', '--dir', directory, '--json', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const line of createInterface({ input: child.stdout })) {
      const { endpoint, token } = JSON.parse(line) as { endpoint: string; token: string };
      return new Site(child, { ...process.env, ASHLAR_ENDPOINT: endpoint, ASHLAR_TOKEN: token });
    }
    throw new Error('the site ended before it was ready');
  }

  private constructor(child: ChildProcess, environment: NodeJS.ProcessEnv) {
    this.#process = child;
    this.#environment = environment;
  }

  /** `ashlar …args --json`, and what it prints. */
  async ashlar<T>(...args: readonly string[]): Promise<T> {
    const { stdout } = await execute(process.execPath, [MAIN, ...args, '--json'], { env: this.#environment, timeout: 60_000 });
    return JSON.parse(stdout) as T;
  }

  /** A new volume's NBD address, and its id. */
  async volume(size: string, ...args: readonly string[]): Promise<{ readonly volumeId: string; readonly uri: string }> {
    const { volumeId } = await this.ashlar<{ volumeId: string }>('volume', 'create', '--size', size, ...args);
    const { nbd } = await this.ashlar<{ nbd: string }>('volume', 'attach', volumeId);
    return { volumeId, uri: nbd };
  }

  async end(): Promise<number | null> {
    if (this.#process.exitCode !== null) return this.#process.exitCode;
    this.#process.kill('SIGTERM');
    const [code] = (await once(this.#process, 'exit')) as [number | null];
    return code;
  }
}
