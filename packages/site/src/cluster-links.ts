import type { Party } from '@ashlar/actor';
import type { MemberParty } from '@ashlar/identity';
import type { LinkAddress, Runtime } from '@ashlar/runtime';
import type { ClusterArgument } from './child-messages.ts';

/**
 * Links this process to whom it needs, by the newest roster: everybody to the manager; hosts to all servers; of two servers the one with the later
 * name to the other, so that there is one link between them. Within the machine it is a unix socket. What is linked already stays.
 */
export function linkToCluster(runtime: Runtime, { machine, roster, local }: Pick<ClusterArgument, 'machine' | 'roster' | 'local'>): void {
  const all = roster.members.flatMap((member) => member.parties.map((party) => ({ ...party, isHere: member.machine === machine })));
  const own = all.filter(({ party }) => runtime.hosts(party));
  const wanted = new Map<Party, LinkAddress>();
  for (const other of all) {
    const path = other.isHere ? local[other.party] : undefined;
    const address = path === undefined ? other.address : { path };
    if (address !== null && !runtime.hosts(other.party) && own.some((one) => linksTo(one, other))) wanted.set(other.party, address);
  }
  for (const party of runtime.links.dialled()) if (!wanted.has(party)) runtime.links.disconnect(party);
  for (const [party, address] of wanted) runtime.links.connect(party, address);
}

function linksTo(one: MemberParty, other: MemberParty): boolean {
  if (other.role === 'manager') return true;
  if (other.role !== 'storage') return false;
  return one.role === 'host' || (one.role === 'storage' && one.party > other.party);
}
