import { setTimeout as delay } from 'node:timers/promises';
import type { Address, Party } from '@ashlar/actor';
import { HostNode } from '@ashlar/host';
import { DirectoryLock, type LinkAddress, type Runtime } from '@ashlar/runtime';
import type { ServerPlace } from '@ashlar/control';
import { StorageNode } from '@ashlar/storage';
import { errorCode, hostId, serverId } from '@ashlar/words';
import { nbdTls } from './nbd-tls.ts';

/** What one thread hosts: plain data, so that it can be handed to a thread or to another process. */
export interface PartiesArgument {
  readonly managerAddress: Address;
  /** Where links to these parties are accepted; null: nobody links to them. */
  readonly listen: LinkAddress | null;
  /** And there too. Children of another version know only the field before: it stays as it was. */
  readonly alsoListen?: readonly LinkAddress[];
  readonly connect: readonly { readonly party: Party; readonly address: LinkAddress }[];
  readonly servers: readonly ({ readonly serverId: string; readonly directories: readonly string[]; readonly address: string } & ServerPlace)[];
  readonly hosts: readonly { readonly hostId: string; readonly directory: string; readonly socketDirectory: string }[];
}

/**
 * Starts storage servers and hosts in this thread. Throws what their directories refuse; nothing runs then. They end with the runtime.
 * `bootId`: null for the kernel's.
 */
export async function place(runtime: Runtime, { managerAddress, listen, alsoListen = [], connect, servers, hosts }: PartiesArgument, bootId: string | null = null): Promise<void> {
  // Held until the process ends: the kernel releases them, whatever ends it.
  for (const { directories } of servers) for (const directory of directories) await lock(directory);
  for (const { directory } of hosts) await lock(directory);
  if (listen) await runtime.links.listen(listen);
  for (const address of alsoListen) await runtime.links.listen(address);
  for (const server of servers) {
    const { directories, address, rack, disk } = server;
    StorageNode.start({
      serverId: serverId(server.serverId), directories, address, runtime, managerAddress, ...(rack === undefined ? {} : { rack }), ...(disk === undefined ? {} : { disk }), ...(bootId === null ? {} : { bootId }),
    });
  }
  for (const host of hosts) {
    await HostNode.start({ hostId: hostId(host.hostId), directory: host.directory, socketDirectory: host.socketDirectory, runtime, managerAddress, tls: nbdTls(process.env) });
  }
  for (const { party, address } of connect) runtime.links.connect(party, address);
}

/** A process of an `up` that was killed may still be closing its copies: it is given the time that it has for that, and a little. */
const LOCK_WAIT_MS = 8000;
const LOCK_RETRY_MS = 50;

async function lock(directory: string): Promise<void> {
  const deadlineMs = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      DirectoryLock.acquire(directory);
      return;
    } catch (error) {
      if (errorCode(error) !== 'directory-locked' || performance.now() >= deadlineMs) throw error;
    }
    await delay(LOCK_RETRY_MS);
  }
}
