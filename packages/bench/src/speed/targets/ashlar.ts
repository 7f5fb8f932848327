import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VolumeView } from '@ashlar/client';
import { compareCopies } from '../../site/compare.ts';
import { processTree } from '../../site/machine.ts';
import { primaryServer, Site } from '../../site/site.ts';
import type { Running, Target, TargetOptions } from './target.ts';

export const ARRANGEMENTS = ['one-process', 'host-in-primary', 'three-processes'] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];

export interface AshlarOptions extends TargetOptions {
  readonly arrangement: Arrangement;
  readonly durability: 'normal' | 'strict';
  /** Environment of the servers; a profile run sets NODE_OPTIONS. */
  readonly env?: Readonly<Record<string, string>>;
}

const TITLES: Readonly<Record<Arrangement, string>> = {
  'one-process': 'Ashlar, two copies, all in one process',
  'host-in-primary': "Ashlar, two copies, host in the primary's process, mirror in another",
  'three-processes': 'Ashlar, two copies, host, primary and mirror in three processes',
};

const HOST_SERVER = 'server-1';
/** Tries to get the primary onto the server in which the host runs. */
const FAILOVERS_MAX = 4;

export function ashlar(options: AshlarOptions): Target {
  const title = `${TITLES[options.arrangement]}${options.durability === 'strict' ? ', strict' : ''}`;
  return { name: options.durability === 'strict' ? 'ashlar-strict' : 'ashlar', title, start: () => start(options) };
}

async function start(options: AshlarOptions): Promise<Running> {
  const site = await Site.up({
    directory: options.directory, servers: 2, processes: options.arrangement !== 'one-process', env: options.env,
    hostIn: options.arrangement === 'host-in-primary' ? HOST_SERVER : undefined,
  });
  try {
    const volumeId = await site.createVolume(options.sizeBytes, '--mirrors', '1', '--durability', options.durability);
    if (options.arrangement === 'host-in-primary') await makePrimary(site, volumeId, HOST_SERVER);
    const uri = await site.attach(volumeId);
    return {
      uri,
      pids: () => processTree(site.pid),
      note: async () => noteOf((await site.describe(volumeId)).io),
      verify: async () => {
        const difference = await compareCopies(site, await site.describe(volumeId));
        if (difference !== null) throw new Error(`the copies differ: ${difference}`);
        return 'copies equal (cmp of both, each alone)';
      },
      stop: () => site.stop(),
      farewell: () => closedCopies(join(options.directory, 'log')),
    };
  } catch (error) {
    await site.stop();
    throw error;
  }
}

async function makePrimary(site: Site, volumeId: string, serverId: string): Promise<void> {
  for (let i = 0; i < FAILOVERS_MAX; i++) {
    if (primaryServer(await site.describe(volumeId)) === serverId) return;
    await site.run('volume', 'failover', volumeId);
  }
  throw new Error(`the primary of ${volumeId} did not move to ${serverId}`);
}

function noteOf(io: VolumeView['io']): string {
  return Object.entries(io).map(([name, value]) => `${name} ${Math.round(value)}`).join(', ');
}

/** What the servers' logs say about each copy at its end: bytes appended to its journal, and bytes moved from there into its extents. */
export function closedCopies(logs: string): string | null {
  const lines = readdirSync(logs).filter((name) => name.endsWith('.log')).flatMap((name) => readFileSync(join(logs, name), 'utf8').split('\n'));
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  const closed = lines.filter((line) => line.includes('"a copy is closed"')).map((line) => JSON.parse(line) as StoreFigures);
  if (closed.length === 0) return null;
  return `each copy at its end: ${closed.map((copy) => `${mib(copy.appendedBytes)} appended to the journal, ${mib(copy.destagedBlocks * 4096)} destaged, ${mib(copy.coalescedBlocks * 4096)} overwritten before that, journal of ${mib(copy.journalBytes)}`).join('; ')}`;
}

interface StoreFigures {
  readonly appendedBytes: number;
  readonly destagedBlocks: number;
  readonly coalescedBlocks: number;
  readonly journalBytes: number;
}
