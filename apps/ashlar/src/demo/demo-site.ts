import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ApiClient, type ApiCommand, type EventRecord, type ServerView, type VolumeView } from '@ashlar/client';
import { serverId, type VolumeId } from '@ashlar/words';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const READY_MS = 60_000;

/** `ashlar up --processes` as a process of its own, spoken with over its API. */
export class DemoSite {
  readonly #process: ChildProcess;
  readonly #client: ApiClient;

  private constructor(process_: ChildProcess, client: ApiClient) {
    this.#process = process_;
    this.#client = client;
  }

  static async start(directory: string, ...options: readonly string[]): Promise<DemoSite> {
    const child = spawn(process.execPath, [MAIN, 'up', '--json', '--processes', '--dir', directory, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    const line = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the site was not up after ${READY_MS / 1000} s`)), READY_MS);
      child.once('exit', (code) => reject(new Error(`ashlar up ended with ${code ?? 'a signal'}`)));
      createInterface({ input: child.stdout }).once('line', (text) => {
        clearTimeout(late);
        resolve(text);
      });
    });
    const { endpoint, token, error } = JSON.parse(line) as { endpoint: string; token: string; error?: { message: string } };
    if (error) throw new Error(error.message);
    return new DemoSite(child, await ApiClient.connect(endpoint, token));
  }

  get pid(): number { return this.#process.pid as number; }

  async ask<T>(command: ApiCommand): Promise<T> { return (await this.#client.call(command)) as T; }

  volume(volumeId: VolumeId): Promise<VolumeView> { return this.ask<VolumeView>({ kind: 'volume-describe', volumeId }); }
  servers(): Promise<readonly ServerView[]> { return this.ask<readonly ServerView[]>({ kind: 'server-list' }); }

  async events(): Promise<readonly EventRecord[]> {
    const events: EventRecord[] = [];
    await this.#client.events({ follow: false }, (event) => events.push(event));
    return events;
  }

  /** SIGKILLs the process that holds the primary of this volume. `keepDown`: and has its supervisor not start it again. */
  async killPrimary(volumeId: VolumeId, keepDown: boolean): Promise<{ readonly server: string; readonly pid: number; readonly atMs: number }> {
    const primary = (await this.volume(volumeId)).copies.find((copy) => copy.role === 'primary')?.serverId;
    const server = (await this.servers()).find((known) => known.serverId === primary);
    if (!primary || !server) throw new Error(`${volumeId} has no primary`);
    const atMs = Date.now();
    if (keepDown) await this.ask({ kind: 'server-stop', serverId: serverId(primary), kill: true });
    else process.kill(server.pid, 'SIGKILL');
    return { server: primary, pid: server.pid, atMs };
  }

  /** Two copies in sync, and nothing being built. */
  async untilHealthy(volumeId: VolumeId, withinMs: number, without?: string): Promise<VolumeView> {
    for (const endMs = performance.now() + withinMs; ;) {
      const view = await this.volume(volumeId);
      const inSync = view.copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync');
      if (view.health === 'healthy' && inSync.length >= 2 && !inSync.some((copy) => copy.serverId === without)) return view;
      if (performance.now() >= endMs) throw new Error(`${volumeId} is ${view.health} after ${withinMs / 1000} s: ${JSON.stringify(view.copies)}`);
      await delay(50);
    }
  }

  async stop(): Promise<void> {
    this.#client.close();
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()));
    this.#process.kill('SIGTERM');
    await ended;
  }
}
