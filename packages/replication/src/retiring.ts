import { memberOf } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { proposeRemoval } from './membership.ts';
import type { Copy } from './state.ts';

/** As what a volume would miss a copy whose process ends. */
export type MissedAs = 'primary' | 'mirror';

/**
 * Whether anybody would wait for this copy if its process ended now, and can be spared that: another can lead, or it can be let go. Where the minimum of copies
 * keeps it in the set, waiting would gain nothing.
 */
export function missedAs(c: Copy): MissedAs | null {
  const { configuration, fault, promisedEpoch } = c.durable;
  if (fault !== null || configuration === null) return null;
  if (c.leader) return c.leader.configuration.members.length > 1 ? 'primary' : null;
  if (memberOf(configuration, c.self) === undefined || c.dismissedEpoch > promisedEpoch) return null;
  return configuration.members.length > configuration.minCopies ? 'mirror' : null;
}

/** A mirror asks to be let go, while it still acknowledges: nothing waits for it then when it has gone. */
export function retire(c: Copy): void {
  const f = c.follower;
  if (f?.following && missedAs(c) === 'mirror') c.fx.send(f.leader, { kind: 'retiring', epoch: f.epoch });
}

/** To a primary. */
export function onRetiring(c: Copy, serverId: ServerId, epoch: number): void {
  const peer = c.leader?.peers.get(serverId);
  if (c.leader?.epoch === epoch && peer?.member) proposeRemoval(c, c.leader, peer, 'its server is shutting down');
}
