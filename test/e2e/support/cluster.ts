import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cli, type Outcome, type Volume } from './site.ts';

const ASHLARD = join(import.meta.dirname, '../../../apps/ashlar/src/ashlard-main.ts');
const READY_MS = 120_000;

export interface MachineView { readonly machine: string; readonly joining: number; readonly state: string; readonly parties: readonly string[] }
interface Server { readonly serverId: string; readonly state: string; readonly pid: number; readonly address: string; readonly copies: number }

/** A line of a log of a machine. */
export interface LogLine { readonly msg: string; readonly name: string; readonly remote?: string; readonly level: number }

/** Machines on addresses of the loopback network, each a daemon of its own with a configuration file. */
export class TestCluster {
  readonly #directory: string;
  readonly #network: string;
  readonly #running = new Map<string, ChildProcess>();
  /** What is still being set up when a test gives up must not outlive it. */
  #ended = false;
  readonly #settings = new Map<string, string>();

  constructor(directory: string) {
    this.#directory = directory;
    // Tests that run beside this one have networks of their own.
    this.#network = `127.${100 + Math.floor(Math.random() * 100)}.${Math.floor(Math.random() * 250)}`;
  }

  /** Of machine `m`, `s1`, …: by the order in which they were first started. */
  address(machine: string): string {
    if (!this.#settings.has(machine)) this.#settings.set(machine, '');
    return `${this.#network}.${[...this.#settings.keys()].indexOf(machine) + 1}`;
  }

  home(machine: string): string { return join(this.#directory, machine); }
  get url(): string { return `https://${this.address('m')}:7401`; }
  get env(): Readonly<Record<string, string>> {
    const home = this.home('m');
    return { ASHLAR_ENDPOINT: `wss://${this.address('m')}:7401`, ASHLAR_TOKEN: readFileSync(join(home, 'token'), 'utf8').trim(), ASHLAR_CA: join(home, 'authority.pem') };
  }

  /** Writes its configuration; `sections`: YAML of its roles. */
  configure(machine: string, sections: readonly string[]): string {
    const home = this.home(machine);
    mkdirSync(home, { recursive: true });
    const path = join(home, 'ashlard.yaml');
    writeFileSync(path, [`name: ${machine}`, `directory: ${home}`, `listen: ${this.address(machine)}`, ...sections, ''].join('\n'));
    return path;
  }

  found(lifetime = '168h'): Promise<void> {
    this.configure('m', [`manager: { rebuildDelay: 2s, certificateLifetime: ${lifetime} }`]);
    return this.start('m');
  }

  /** Invites and starts a machine that was not there before. */
  async add(machine: string, role: 'storage' | 'host'): Promise<void> {
    const { secret } = await this.ask<{ secret: string }>('cluster', 'invite', '--roles', role);
    mkdirSync(this.home(machine), { recursive: true });
    writeFileSync(join(this.home(machine), 'secret'), secret);
    this.configure(machine, [`${role}: {}`, `join: { url: '${this.url}', secretFile: secret }`]);
    await this.start(machine);
  }

  /** Resolves when it is ready; rejects with what it says when it ends. */
  start(machine: string): Promise<void> {
    if (this.#ended) return Promise.reject(new Error('the test is over'));
    const child = spawn(process.execPath, [ASHLARD, '--config', join(this.home(machine), 'ashlard.yaml'), '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#running.set(machine, child);
    return new Promise((resolve, reject) => {
      let errors = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
      const late = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`${machine} was not ready after ${READY_MS / 1000} s: ${errors}`));
      }, READY_MS);
      child.once('exit', (code) => {
        clearTimeout(late);
        reject(new Error(`ashlard of ${machine} ended with ${code ?? 'a signal'}: ${errors}`));
      });
      child.stdout.once('data', () => {
        clearTimeout(late);
        resolve();
      });
    });
  }

  /** By SIGKILL the whole machine goes: its daemon and everything it has started. */
  async end(machine: string, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    const child = this.#running.get(machine);
    this.#running.delete(machine);
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    if (signal === 'SIGKILL') for (const pid of childrenOf(child.pid as number)) process.kill(pid, 'SIGKILL');
    child.kill(signal);
    return ended;
  }

  async endAll(): Promise<void> {
    this.#ended = true;
    await Promise.all([...this.#running.keys()].map((machine) => this.end(machine)));
  }

  run(...args: readonly string[]): Promise<Outcome> { return cli(args, this.env); }

  async ask<T>(...args: readonly string[]): Promise<T> {
    const { code, json, errors } = await this.run(...args);
    if (code !== 0) throw new Error(`ashlar ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors} ${JSON.stringify(json)}`);
    return json as T;
  }

  servers(): Promise<readonly Server[]> { return this.ask('server', 'list'); }
  volume(id: string): Promise<Volume> { return this.ask('volume', 'describe', id); }
  machines(): Promise<readonly MachineView[]> { return this.ask('machine', 'list'); }

  /** Asks until it holds; the newest answer. */
  async until<T>(ask: () => Promise<T>, holds: (answer: T) => boolean, what: string, withinMs = 30_000): Promise<T> {
    for (const endMs = performance.now() + withinMs; ;) {
      const answer = await ask();
      if (holds(answer)) return answer;
      if (performance.now() >= endMs) throw new Error(`not ${what} after ${withinMs} ms: ${JSON.stringify(answer)}\n${JSON.stringify((await this.ask<unknown[]>('events')).slice(-30), null, 1)}`);
      await delay(100);
    }
  }

  healthy(id: string): Promise<Volume> {
    return this.until(() => this.volume(id), (volume) => volume.health === 'healthy' && volume.copies.every((copy) => copy.role !== 'learner' && copy.state === 'in-sync'), 'healthy', 60_000);
  }

  /** Every line that the processes of a machine have logged. */
  log(machine: string): readonly LogLine[] {
    const folder = join(this.home(machine), 'log');
    if (!existsSync(folder)) return [];
    return readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as LogLine));
  }
}

function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter((text) => text !== '').map(Number);
}
