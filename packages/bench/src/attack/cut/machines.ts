import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiClient, type ApiCommand, type EventRecord, type HostView, type ServerView, type VolumeView } from '@ashlar/client';
import { volumeId as volumeIdOf } from '@ashlar/words';
import { ROOT, runAshlar } from '../../site/command.ts';
import type { DrivenSite } from '../../site/site.ts';
import type { Network } from './network.ts';

const ASHLARD = join(ROOT, 'apps/ashlar/src/ashlard-main.ts');
const READY_MS = 120_000;
const STOP_MS = 30_000;
/** The manager may be away for the length of an episode. */
const CALL_MS = 120_000;
const RETRY_MS = 100;
const EVENTS_MAX = 10_000;

export const MANAGER = 'm';
export const HOST = 'h1';
export const SERVERS = ['s1', 's2', 's3'] as const;
export const MACHINES = [MANAGER, ...SERVERS, HOST] as const;

/** Real daemons with configuration files, each in a network namespace of its own. Driven from the hub of the network. */
export class Machines implements DrivenSite {
  readonly #directory: string;
  readonly #network: Network;
  readonly #daemons = new Map<string, ChildProcess>();
  #client: ApiClient | null = null;

  private constructor(directory: string, network: Network) {
    this.#directory = directory;
    this.#network = network;
  }

  /** Founds a cluster, and lets the others join it. */
  static async start(directory: string, network: Network): Promise<Machines> {
    const machines = new Machines(directory, network);
    try {
      machines.#configure(MANAGER, ['manager: { rebuildDelay: 5m }']);
      await machines.boot(MANAGER);
      await Promise.all([...SERVERS, HOST].map((machine) => machines.#join(machine, machine === HOST ? 'host' : 'storage')));
      await machines.#until(async () => (await machines.servers()).filter(({ state }) => state === 'up').length === SERVERS.length && (await machines.hosts()).some(({ state }) => state === 'up'));
      return machines;
    } catch (error) {
      await machines.stop();
      throw error;
    }
  }

  home(machine: string): string { return join(this.#directory, machine); }

  /** Starts a machine's daemon; resolves when it is ready. */
  async boot(machine: string): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.#network.namespace(machine), process.execPath, ASHLARD, '--config', join(this.home(machine), 'ashlard.yaml'), '--json'], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    this.#daemons.set(machine, child);
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => { errors = (errors + text).slice(-8000); });
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${machine} was not ready after ${READY_MS / 1000} s: ${errors}`)), READY_MS);
      child.stdout.once('data', () => { clearTimeout(late); resolve(); });
      child.once('error', reject);
      child.once('exit', (code) => { clearTimeout(late); reject(new Error(`ashlard of ${machine} ended with ${code ?? 'a signal'}: ${errors}`)); });
    });
  }

  /** To every process of the machine at once: they are one group. */
  signal(machine: string, name: NodeJS.Signals): void {
    const pid = this.#daemons.get(machine)?.pid;
    if (pid !== undefined) process.kill(-pid, name);
  }

  async kill(machine: string): Promise<void> {
    const child = this.#daemons.get(machine);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.signal(machine, 'SIGKILL');
    await ended;
    this.#daemons.delete(machine);
  }

  run<T>(...args: readonly string[]): Promise<T> { return runAshlar<T>(this.#env(), args); }
  async describe(id: string): Promise<VolumeView> { return (await this.#call({ kind: 'volume-describe', volumeId: volumeIdOf(id) })) as VolumeView; }
  async servers(): Promise<readonly ServerView[]> { return (await this.#call({ kind: 'server-list' })) as readonly ServerView[]; }
  async hosts(): Promise<readonly HostView[]> { return (await this.#call({ kind: 'host-list' })) as readonly HostView[]; }

  async events(subject: string): Promise<readonly EventRecord[]> {
    const all: EventRecord[] = [];
    await (await this.#connected()).events({ subject, max: EVENTS_MAX, follow: false }, (event) => all.push(event));
    return all;
  }

  async createVolume(sizeBytes: number, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly volumeId: string }>('volume', 'create', '--size', `${sizeBytes}B`, ...more)).volumeId;
  }

  async attach(volumeId: string, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly nbd: string }>('volume', 'attach', volumeId, ...more)).nbd;
  }

  /** In order, hosts first. */
  async stop(): Promise<void> {
    this.#client?.close();
    for (const machine of [HOST, ...SERVERS, MANAGER]) {
      const child = this.#daemons.get(machine);
      if (!child || child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill('SIGTERM');
      const late = setTimeout(() => this.signal(machine, 'SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(late);
    }
    this.#daemons.clear();
  }

  async #join(machine: string, role: 'storage' | 'host'): Promise<void> {
    const { secret } = await this.run<{ secret: string }>('cluster', 'invite', '--roles', role);
    this.#configure(machine, [`${role}: {}`, `join: { url: 'https://${this.#network.address(MANAGER)}:7401', secretFile: secret }`]);
    writeFileSync(join(this.home(machine), 'secret'), secret, { mode: 0o600 });
    await this.boot(machine);
  }

  #configure(machine: string, sections: readonly string[]): void {
    mkdirSync(this.home(machine), { recursive: true });
    // A machine that is frozen is what is wanted here, not one that is replaced.
    writeFileSync(join(this.home(machine), 'ashlard.yaml'), [`name: ${machine}`, `directory: ${this.home(machine)}`, `listen: ${this.#network.address(machine)}`, 'frozenKillAfter: 0', ...sections, ''].join('\n'));
  }

  #access(): { readonly endpoint: string; readonly token: string; readonly authority: string } {
    return { endpoint: `wss://${this.#network.address(MANAGER)}:7401`, token: readFileSync(join(this.home(MANAGER), 'token'), 'utf8').trim(), authority: join(this.home(MANAGER), 'authority.pem') };
  }

  #env(): NodeJS.ProcessEnv {
    const { endpoint, token, authority } = this.#access();
    return { ...process.env, ASHLAR_ENDPOINT: endpoint, ASHLAR_TOKEN: token, ASHLAR_CA: authority };
  }

  async #connected(): Promise<ApiClient> {
    const { endpoint, token, authority } = this.#access();
    return (this.#client ??= await ApiClient.connect(endpoint, token, readFileSync(authority, 'utf8')));
  }

  /** Again over another connection when the manager was away. */
  async #call(command: ApiCommand): Promise<unknown> {
    for (const giveUpMs = performance.now() + CALL_MS; ;) {
      try {
        return await (await this.#connected()).call(command);
      } catch (error) {
        const { code } = error as { code?: unknown };
        if (performance.now() > giveUpMs || (code !== 'unavailable' && code !== 'busy')) throw error;
        this.#client?.close();
        this.#client = null;
      }
      await delay(RETRY_MS);
    }
  }

  async #until(holds: () => Promise<boolean>): Promise<void> {
    for (const giveUpMs = performance.now() + READY_MS; !(await holds());) {
      if (performance.now() > giveUpMs) throw new Error(`the machines are not up after ${READY_MS / 1000} s`);
      await delay(RETRY_MS);
    }
  }
}
