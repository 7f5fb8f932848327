import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiClient, type ApiCommand, type EventRecord, type VolumeView } from '@ashlar/client';
import { NbdClient } from '@ashlar/nbd-client';
import { Site, type SiteOptions } from '@ashlar/site';

/** A site of which each process may be of another build. */
export class MixedSite {
  /** By the name of the process: what it runs at its next start. */
  readonly modules: Map<string, string>;
  readonly #end: () => Promise<void>;
  readonly #client: ApiClient;

  private constructor(end: () => Promise<void>, client: ApiClient, modules: Map<string, string>) {
    this.#end = end;
    this.#client = client;
    this.modules = modules;
  }

  /** Its system manager is in a process of that build, and so is every other, unless that build's files say otherwise. */
  static async startOf(siteModule: string, options: Pick<SiteOptions, 'directory' | 'servers' | 'rebuildDelayMs'>): Promise<MixedSite> {
    const all = { ...options, processes: true, hostIn: null, frozenKillAfterMs: 30_000, apiPort: 0 };
    const child = spawn(process.execPath, [join(import.meta.dirname, 'site-main.ts'), siteModule, JSON.stringify(all)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise<void>((resolve) => { child.once('exit', () => resolve()); });
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', resolve);
      child.once('exit', (code) => reject(new Error(`the site ended with ${code ?? 'a signal'}`)));
    });
    const { endpoint, token } = JSON.parse(line) as { endpoint: string; token: string };
    const end = (): Promise<void> => {
      child.kill('SIGTERM');
      return exited;
    };
    return new MixedSite(end, await ApiClient.connect(endpoint, token), new Map());
  }

  /** Its system manager is in this process, and of this build. */
  static async start(options: Pick<SiteOptions, 'directory' | 'servers' | 'rebuildDelayMs'>, modules: Map<string, string>): Promise<MixedSite> {
    const site = await Site.start({ ...options, processes: true, hostIn: null, frozenKillAfterMs: 30_000, apiPort: 0, module: (name) => modules.get(name) ?? [...modules.values()][0] as string });
    return new MixedSite(() => site.stop(), await ApiClient.connect(site.endpoint, site.token), modules);
  }

  /** Again for as long as it is said to be busy. */
  async ask<T>(command: ApiCommand): Promise<T> {
    for (;;) {
      try {
        return (await this.#client.call(command)) as T;
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'busy') throw error;
      }
      await delay(50);
    }
  }

  volume(volumeId: VolumeView['volumeId']): Promise<VolumeView> { return this.ask<VolumeView>({ kind: 'volume-describe', volumeId }); }

  async until(volumeId: VolumeView['volumeId'], condition: (volume: VolumeView) => boolean, withinMs = 60_000): Promise<VolumeView> {
    for (const endMs = performance.now() + withinMs; ;) {
      const volume = await this.volume(volumeId);
      if (condition(volume)) return volume;
      if (performance.now() >= endMs) throw new Error(`after ${withinMs} ms: ${JSON.stringify(volume)}\n${(await this.events()).slice(-30).map((event) => JSON.stringify(event)).join('\n')}`);
      await delay(50);
    }
  }

  healthy(volumeId: VolumeView['volumeId']): Promise<VolumeView> {
    return this.until(volumeId, (volume) => volume.health === 'healthy' && volume.copies.every((copy) => copy.role !== 'learner' && copy.state === 'in-sync'));
  }

  async events(): Promise<EventRecord[]> {
    const events: EventRecord[] = [];
    await this.#client.events({ follow: false, max: 10_000 }, (event) => events.push(event));
    return events;
  }

  /** What each copy of a volume holds, by its own files alone. */
  async copies(volumeId: VolumeView['volumeId'], sizeBytes: number): Promise<string[]> {
    const sums: string[] = [];
    for (const { serverId } of (await this.healthy(volumeId)).copies) {
      const { nbd } = await this.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: true, tcp: false, copy: serverId });
      const client = await NbdClient.connect(nbd);
      sums.push(createHash('sha256').update(await client.read(0, sizeBytes)).digest('hex'));
      await client.close();
      await this.ask({ kind: 'volume-detach', volumeId, copy: serverId });
    }
    return sums;
  }

  async stop(): Promise<void> {
    this.#client.close();
    await this.#end();
  }
}
