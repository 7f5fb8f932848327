import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiClient, type ApiCommand } from '@ashlar/client';
import { volumeId } from '@ashlar/words';

const MAIN = join(import.meta.dirname, '../../../apps/ashlar/src/main.ts');
const READY_MS = 60_000;

export interface Outcome {
  readonly code: number | null;
  /** The one JSON document on standard output. */
  readonly json: unknown;
  readonly errors: string;
}

export interface Copy { readonly serverId: string; readonly role: 'primary' | 'mirror' | 'learner'; readonly state: string }
export interface Volume {
  readonly volumeId: string;
  readonly state: string;
  readonly health: string;
  readonly epoch: number;
  readonly sizeBytes: number;
  readonly copies: readonly Copy[];
  readonly attachments: readonly { readonly host: string; readonly nbd: string | null }[];
  readonly io: Readonly<Record<string, number>>;
}
export interface Server { readonly serverId: string; readonly state: string; readonly pid: number; readonly copies: number }

/** Runs one command line to its end. */
export async function cli(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, json: output.trim() === '' ? null : JSON.parse(output), errors };
}

/** A site started with `ashlar up`, driven as a user's script would. */
export class Site {
  readonly #process: ChildProcess;
  readonly #env: Readonly<Record<string, string>>;

  readonly #metrics: string | null;

  private constructor(child: ChildProcess, env: Readonly<Record<string, string>>, metrics: string | null) {
    this.#process = child;
    this.#env = env;
    this.#metrics = metrics;
  }

  /** A system manager that runs as this process. */
  static of(child: ChildProcess, endpoint: string, token: string): Site { return new Site(child, { ASHLAR_ENDPOINT: endpoint, ASHLAR_TOKEN: token }, null); }

  static up(directory: string, ...options: readonly string[]): Promise<Site> { return Site.upIn([], directory, ...options); }

  /** Under another command, which must become it. */
  static async upIn(command: readonly string[], directory: string, ...options: readonly string[]): Promise<Site> {
    const [file, ...args] = [...command, process.execPath, MAIN, 'up', '--json', '--dir', directory, ...options] as [string, ...string[]];
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const line = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`the site was not up after ${READY_MS / 1000} s`));
      }, READY_MS);
      child.once('exit', (code) => reject(new Error(`ashlar up ended with ${code ?? 'a signal'}`)));
      createInterface({ input: child.stdout }).once('line', (text) => {
        clearTimeout(late);
        resolve(text);
      });
    });
    const { endpoint, token, metrics, error } = JSON.parse(line) as { endpoint: string; token: string; metrics: string | null; error?: unknown };
    if (error !== undefined) throw new Error(`ashlar up was refused: ${line}`);
    return new Site(child, { ASHLAR_ENDPOINT: endpoint, ASHLAR_TOKEN: token }, metrics);
  }

  get pid(): number { return this.#process.pid as number; }
  get endpoint(): string { return this.#env['ASHLAR_ENDPOINT'] as string; }
  get token(): string { return this.#env['ASHLAR_TOKEN'] as string; }
  /** For sites started with `--metrics-port`. */
  get metrics(): string { return this.#metrics as string; }

  run(...args: readonly string[]): Promise<Outcome> { return cli(args, this.#env); }

  /** The answer of a command that must succeed. */
  async ask<T>(...args: readonly string[]): Promise<T> {
    const { code, json, errors } = await this.run(...args);
    if (code !== 0) throw new Error(`ashlar ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors} ${JSON.stringify(json)}`);
    return json as T;
  }

  /** Exit code and error code of a command that must be refused. */
  async refused(...args: readonly string[]): Promise<readonly [number | null, unknown]> {
    const { code, json } = await this.run(...args);
    return [code, (json as { error?: { code?: unknown } } | null)?.error?.code];
  }

  /** What is looked at again and again: the same document without a process for each look. */
  async #look<T>(command: ApiCommand): Promise<T> {
    const client = await ApiClient.connect(this.endpoint, this.token);
    try {
      return (await client.call(command)) as T;
    } finally {
      client.close();
    }
  }

  volume(id: string): Promise<Volume> { return this.#look<Volume>({ kind: 'volume-describe', volumeId: volumeId(id) }); }
  servers(): Promise<readonly Server[]> { return this.#look<readonly Server[]>({ kind: 'server-list' }); }

  async primary(id: string): Promise<Server> {
    const primary = (await this.volume(id)).copies.find((copy) => copy.role === 'primary');
    return (await this.servers()).find((server) => server.serverId === primary?.serverId) as Server;
  }

  async until(id: string, condition: (volume: Volume) => boolean, withinMs: number): Promise<Volume> {
    for (const endMs = performance.now() + withinMs; ;) {
      const volume = await this.volume(id);
      if (condition(volume)) return volume;
      if (performance.now() >= endMs) throw new Error(`after ${withinMs} ms: ${JSON.stringify(volume)}\n${JSON.stringify((await this.ask<unknown[]>('events')).slice(-30), null, 1)}`);
      await delay(100);
    }
  }

  /** Asks until the answer is as wanted. */
  async answered(args: readonly string[], condition: (json: unknown) => boolean, withinMs = 20_000): Promise<Outcome> {
    for (const endMs = performance.now() + withinMs; ;) {
      const outcome = await this.run(...args);
      if (outcome.code === 0 && condition(outcome.json)) return outcome;
      if (performance.now() >= endMs) throw new Error(`after ${withinMs} ms: ashlar ${args.join(' ')}: ${outcome.errors} ${JSON.stringify(outcome.json)}`);
      await delay(100);
    }
  }

  healthy(id: string, withinMs = 30_000): Promise<Volume> {
    return this.until(id, (volume) => volume.health === 'healthy' && volume.copies.every((copy) => copy.role !== 'learner' && copy.state === 'in-sync'), withinMs);
  }

  /** Resolves with the exit code. */
  end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== null || signalCode !== null) return Promise.resolve(exitCode);
    const ended = new Promise<number | null>((resolve) => this.#process.once('exit', (code) => resolve(code)));
    this.#process.kill(signal);
    return ended;
  }
}

/** Not even a zombie. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
