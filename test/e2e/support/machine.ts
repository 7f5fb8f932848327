import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const SCRIPT = join(import.meta.dirname, '../machine/machine.sh');
const execute = promisify(execFile);
const BOOT_MS = 60_000;
const RUN_MS = 240_000;

export async function removeSwitch(network: string): Promise<void> {
  await execute('bash', [SCRIPT, 'clean-switch', network]);
}

/** A machine of namespaces under a real systemd: test/e2e/machine/machine.sh. */
export class SystemdMachine {
  /** A folder of ours that is the machine's /mnt. */
  readonly shared: string;
  readonly #name: string;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, shared: string, name: string) {
    this.#process = process;
    this.shared = shared;
    this.#name = name;
  }

  /** Resolves when systemd says that it has started everything. */
  static async boot(folder: string, name: string): Promise<SystemdMachine> {
    const shared = join(folder, `${name}-shared`);
    mkdirSync(shared, { recursive: true });
    const child = spawn('bash', [SCRIPT, 'boot', join(folder, name), shared, name], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => { said += text; });
    const machine = new SystemdMachine(child, shared, name);
    for (const endMs = performance.now() + BOOT_MS; ;) {
      const state = await machine.run('systemctl', 'is-system-running').catch((error: { stdout?: string }) => error.stdout ?? '');
      if (/^(running|degraded)/.test(state)) return machine;
      if (child.exitCode !== null || performance.now() > endMs) {
        await machine.end();
        throw new Error(`it did not start (${state.trim()}): ${said}`);
      }
      await delay(100);
    }
  }

  /** Standard output; rejects if it fails. */
  async run(...command: readonly string[]): Promise<string> {
    const { stdout } = await execute('bash', [SCRIPT, 'run', String(this.#process.pid), ...command], { timeout: RUN_MS, maxBuffer: 64 * 2 ** 20 });
    return stdout;
  }

  /** Lines of a shell of root, ended by the first that fails. */
  shell(script: string): Promise<string> { return this.run('bash', '--norc', '-euo', 'pipefail', '-c', script); }

  /** A network card of this address, at a switch of all who name it. */
  async connect(network: string, address: string): Promise<void> {
    await execute('bash', [SCRIPT, 'connect', network, String(this.#process.pid), address]);
  }

  /** As by its power switch. */
  async end(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once('exit', resolve));
      this.#process.kill('SIGKILL');
      await ended;
    }
    // What was in it ends a moment after its first process.
    for (let tries = 0; ; tries++) {
      try {
        await execute('bash', [SCRIPT, 'clean', this.#name]);
        return;
      } catch (error) {
        if (tries >= 100) throw error;
        await delay(50);
      }
    }
  }
}
