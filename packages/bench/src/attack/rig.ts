import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { Load, type LoadOptions, type LoadResult } from '@ashlar/load';
import { compareCopies } from '../site/compare.ts';
import { Site, type DrivenSite } from '../site/site.ts';

/** What is read often enough to act between two events of a failover, and seldom enough not to be load itself. */
const POLL_MS = 25;

export interface RigOptions {
  readonly directory: string;
  readonly servers: number;
  readonly mirrors: number;
  readonly sizeBytes: number;
  /** Further options of `ashlar up`. */
  readonly up: readonly string[];
  readonly load: Omit<LoadOptions, 'targets' | 'durationMs'>;
  readonly env?: Readonly<Record<string, string>>;
}

type Loaded = Pick<RigOptions, 'mirrors' | 'sizeBytes' | 'load'>;

/** A site, one mirrored volume, and a verified load on it through NBD that goes on until it is told to stop. */
export class Rig<S extends DrivenSite = Site> {
  readonly site: S;
  readonly volumeId: string;
  readonly load: Load;
  readonly #copies: number;

  private constructor(site: S, volumeId: string, load: Load, copies: number) {
    this.site = site;
    this.volumeId = volumeId;
    this.load = load;
    this.#copies = copies;
  }

  /** On a site in processes. */
  static async start(options: RigOptions): Promise<Rig> {
    return Rig.on(await Site.up({ directory: options.directory, servers: options.servers, processes: true, more: options.up, env: options.env ?? {} }), options);
  }

  static async on<S extends DrivenSite>(site: S, options: Loaded): Promise<Rig<S>> {
    try {
      const volumeId = await site.createVolume(options.sizeBytes, '--mirrors', String(options.mirrors), '--io-timeout', '5m');
      const uri = await site.attach(volumeId);
      const load = await Load.open({ fresh: true, ...options.load, targets: [{ volume: volumeId, uri }], durationMs: 0 });
      load.start();
      return new Rig(site, volumeId, load, options.mirrors + 1);
    } catch (error) {
      await site.stop();
      throw error;
    }
  }

  describe(): Promise<VolumeView> {
    return this.site.describe(this.volumeId);
  }

  /** Waits until the volume is as wanted; throws with its state if that takes too long. */
  async until(wanted: (volume: VolumeView) => boolean, what: string, timeoutMs: number): Promise<VolumeView> {
    const giveUpMs = performance.now() + timeoutMs;
    for (;;) {
      const volume = await this.describe();
      if (wanted(volume)) return volume;
      if (performance.now() > giveUpMs) throw new Error(`${what}: not after ${timeoutMs / 1000} s; ${stateOf(volume)}`);
      await delay(POLL_MS);
    }
  }

  /** All copies that are wanted are in sync, the primary serving among them. */
  healthy(timeoutMs: number): Promise<VolumeView> {
    return this.until((volume) => volume.health === 'healthy' && volume.copies.filter(isMemberInSync).length >= this.#copies, 'every copy in sync', timeoutMs);
  }

  /** The process of a server or of the host; null if it has none just now. */
  async pidOf(party: string): Promise<number | null> {
    const server = (await this.site.servers()).find(({ serverId }) => serverId === party);
    if (server) return server.state === 'up' ? server.pid : null;
    const host = (await this.site.hosts()).find(({ hostId }) => hostId === party);
    return host?.state === 'up' ? host.pid : null;
  }

  /** Ends the load, checks every block through the device, then the copies against each other. */
  async settle(timeoutMs: number): Promise<Settled> {
    this.load.stop();
    const load = await this.load.finish();
    const volume = await this.healthy(timeoutMs);
    return { load, difference: await compareCopies(this.site, volume), volume };
  }
}

export interface Settled {
  readonly load: LoadResult;
  /** Null if the copies are equal. */
  readonly difference: string | null;
  readonly volume: VolumeView;
}

export function isMemberInSync(copy: VolumeView['copies'][number]): boolean {
  return copy.role !== 'learner' && copy.state === 'in-sync';
}

function stateOf(volume: VolumeView): string {
  return `${volume.state}, ${volume.health}, epoch ${volume.epoch}: ${volume.copies.map((copy) => `${copy.serverId} ${copy.role} ${copy.state} (${copy.remainingBytes} bytes to go)`).join(', ')}`;
}
