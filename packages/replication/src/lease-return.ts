import type { ServerId } from '@ashlar/words';
import { advance } from './commit.ts';
import type { Copy } from './state.ts';

/**
 * Only whoever holds a lease can give it back, and only the one of that epoch: another's may still be in use, and so may one of its own that it was granted since.
 * Where its successor is not known here yet, the grant is not written down when that one is promised (durable.ts · promise).
 */
export function onLeaseReturned(c: Copy, from: ServerId, epoch: number): void {
  if (c.follower?.leader === from && c.follower.epoch === epoch) c.returned = { by: from, epoch };
  if (c.grants.get(from)?.epoch !== epoch) return;
  c.grants.delete(from);
  if (c.leader) advance(c, c.leader);
}
