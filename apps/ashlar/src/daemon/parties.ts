import type { Address, Party } from '@ashlar/actor';
import { HostNode } from '@ashlar/host';
import { DirectoryLock, type LinkAddress, type Runtime } from '@ashlar/runtime';
import { StorageNode } from '@ashlar/storage';
import { hostId, serverId } from '@ashlar/words';

/** What one thread hosts: plain data, so that it can be handed to a thread or to another process. */
export interface PartiesArgument {
  readonly managerAddress: Address;
  /** Where links to these parties are accepted; null: nobody links to them. */
  readonly listen: LinkAddress | null;
  readonly connect: readonly { readonly party: Party; readonly address: LinkAddress }[];
  readonly servers: readonly { readonly serverId: string; readonly directories: readonly string[]; readonly address: string }[];
  readonly hosts: readonly { readonly hostId: string; readonly directory: string; readonly socketDirectory: string }[];
}

/**
 * Starts storage servers and hosts in this thread. Throws what their directories refuse; nothing runs then. They end with the runtime.
 * Exported under the name that the thread pool looks for.
 */
export async function place(runtime: Runtime, argument: unknown): Promise<void> {
  const { managerAddress, listen, connect, servers, hosts } = argument as PartiesArgument;
  // Held until the process ends: the kernel releases them, whatever ends it.
  for (const { directories } of servers) for (const directory of directories) DirectoryLock.acquire(directory);
  for (const { directory } of hosts) DirectoryLock.acquire(directory);
  if (listen) await runtime.links.listen(listen);
  for (const server of servers) {
    StorageNode.start({ serverId: serverId(server.serverId), directories: server.directories, address: server.address, runtime, managerAddress });
  }
  for (const host of hosts) {
    await HostNode.start({ hostId: hostId(host.hostId), directory: host.directory, socketDirectory: host.socketDirectory, runtime, managerAddress });
  }
  for (const { party, address } of connect) runtime.links.connect(party, address);
}
