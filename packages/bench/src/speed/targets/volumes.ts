import { join } from 'node:path';
import type { VolumeView } from '@ashlar/client';
import { volumeId } from '@ashlar/words';
import { compareCopies } from '../../site/compare.ts';
import { processTree } from '../../site/machine.ts';
import { Site } from '../../site/site.ts';
import { ManyLoad } from '../many-load.ts';
import { closedCopies } from './ashlar.ts';
import type { Running, Target, TargetOptions } from './target.ts';

export interface VolumesOptions extends TargetOptions {
  readonly volumes: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** Made and attached so many at a time. */
const AT_ONCE = 16;
/** Volumes whose copies are compared in the end, spread over all. */
const COMPARED_MAX = 10;

export function volumesTitle(count: number): string {
  return `Ashlar, two copies, all in one process, ${count === 1 ? 'one volume' : `${count} volumes`} attached`;
}

/** As many mirrored volumes, all attached, that share the working set and one load. */
export function volumes(options: VolumesOptions): Target {
  return { name: `ashlar-${options.volumes}`, title: volumesTitle(options.volumes), start: () => startVolumes(options) };
}

export async function startVolumes(options: VolumesOptions): Promise<Running> {
  const site = await Site.up({ directory: options.directory, servers: 2, processes: false, env: options.env });
  try {
    const made = await makeVolumes(site, options.volumes, partBytes(options));
    const load = await ManyLoad.connect(made.map(({ uri }) => uri), partBytes(options));
    return {
      uri: made[0]?.uri ?? '', load,
      pids: () => processTree(site.pid),
      note: async () => `${made.length} volumes of ${partBytes(options)} bytes`,
      verify: async () => {
        const compared = made.filter((_, i) => i % Math.ceil(made.length / COMPARED_MAX) === 0);
        for (const { id } of compared) {
          const difference = await compareCopies(site, await site.describe(id));
          if (difference !== null) throw new Error(`the copies of ${id} differ: ${difference}`);
        }
        return `copies of ${compared.length} volumes equal (cmp of both, each alone)`;
      },
      stop: async () => {
        await load.close();
        await site.stop();
      },
      farewell: () => closedCopies(join(options.directory, 'log')),
    };
  } catch (error) {
    await site.stop();
    throw error;
  }
}

/** Each volume's part of the working set, in whole blocks. */
function partBytes({ sizeBytes, volumes: count }: VolumesOptions): number {
  return Math.floor(sizeBytes / count / 4096) * 4096;
}

interface Made {
  readonly id: string;
  readonly uri: string;
}

async function makeVolumes(site: Site, count: number, sizeBytes: number): Promise<readonly Made[]> {
  const made: Made[] = [];
  const limits = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };
  const make = async (): Promise<Made> => {
    const view = (await site.call({ kind: 'volume-create', sizeBytes, mirrors: 1, minCopies: 1, durability: 'normal', limits, tags: {} })) as VolumeView;
    const { nbd } = (await site.call({ kind: 'volume-attach', volumeId: volumeId(view.volumeId), readOnly: false, tcp: false })) as { readonly nbd: string };
    return { id: view.volumeId, uri: nbd };
  };
  while (made.length < count) made.push(...await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - made.length) }, make)));
  return made;
}
