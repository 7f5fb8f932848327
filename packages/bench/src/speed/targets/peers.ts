import { closeSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { startServer, type ServerProcess } from '../../site/process.ts';
import type { Running, Target, TargetOptions } from './target.ts';
import { startVolumes, volumesTitle } from './volumes.ts';

/** What there is to compare with: what exists already, started as its manual says and left at its defaults; and ourselves with one volume, for many. */
export const PEER_NAMES = ['file', 'file-fua', 'memory', 'quorum', 'quorum-fifo', 'one-volume'] as const;
export type PeerName = (typeof PEER_NAMES)[number];

const TITLES: Readonly<Record<PeerName, string>> = {
  'file': 'nbdkit file, one copy',
  'file-fua': 'nbdkit file, forced FUA, one copy',
  'memory': 'nbdkit memory',
  'quorum': 'qemu quorum, two copies',
  'quorum-fifo': 'qemu quorum, two copies, reads from the first',
  'one-volume': volumesTitle(1),
};

export function peer(name: PeerName, options: TargetOptions): Target {
  return { name, title: TITLES[name], start: () => START[name](options) };
}

const START: Readonly<Record<PeerName, (options: TargetOptions) => Promise<Running>>> = {
  'file': async (options) => running([await nbdkitFile(options, 'data', [], [])], join(options.directory, 'data.sock')),
  'file-fua': async (options) => running([await nbdkitFile(options, 'data', ['--filter=fua'], ['fuamode=force'])], join(options.directory, 'data.sock')),
  'memory': async (options) => {
    mkdirSync(options.directory, { recursive: true });
    const socket = join(options.directory, 'memory.sock');
    return running([await startServer('nbdkit', ['-f', '-U', socket, 'memory', String(options.sizeBytes)], socket)], socket);
  },
  'quorum': (options) => startQuorum(options, 'quorum'),
  'quorum-fifo': (options) => startQuorum(options, 'fifo'),
  'one-volume': (options) => startVolumes({ ...options, volumes: 1 }),
};

function nbdkitFile(options: TargetOptions, name: string, before: readonly string[], after: readonly string[]): Promise<ServerProcess> {
  mkdirSync(options.directory, { recursive: true });
  const path = join(options.directory, `${name}.img`);
  const file = openSync(path, 'a');
  ftruncateSync(file, options.sizeBytes);
  closeSync(file);
  const socket = join(options.directory, `${name}.sock`);
  return startServer('nbdkit', ['-f', '-U', socket, ...before, 'file', path, ...after], socket);
}

/** Two copies behind qemu's quorum driver: every write goes to both and both must agree to it; what there is to compare a mirrored volume with. */
async function startQuorum(options: TargetOptions, readPattern: 'quorum' | 'fifo'): Promise<Running> {
  const first = await nbdkitFile(options, 'first', [], []);
  const second = await nbdkitFile(options, 'second', [], []);
  const child = (name: string): object => ({ driver: 'raw', file: { driver: 'nbd', server: { type: 'unix', path: join(options.directory, `${name}.sock`) } } });
  const image = { driver: 'quorum', 'vote-threshold': 2, 'read-pattern': readPattern, children: [child('first'), child('second')] };
  const socket = join(options.directory, 'quorum.sock');
  // --persistent: it would end with its first client; --shared: fio and the check at its start may overlap.
  const front = await startServer('qemu-nbd', ['--persistent', '--shared=8', '-k', socket, `json:${JSON.stringify(image)}`], socket);
  return running([front, first, second], socket);
}

function running(servers: readonly ServerProcess[], socket: string): Running {
  return {
    uri: `nbd+unix:///?socket=${socket}`,
    pids: () => servers.map((server) => server.pid),
    note: async () => null,
    verify: async () => null,
    farewell: () => null,
    stop: async () => {
      for (const server of servers) await server.stop();
    },
  };
}
