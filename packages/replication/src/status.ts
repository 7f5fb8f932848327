import type { CopyState, CopyStatus } from '@ashlar/protocol';
import { BLOCK_BYTES, EXTENT_BYTES } from '@ashlar/words';
import { SILENT_MS } from './limits.ts';
import type { Copy, Leader, Peer } from './state.ts';

/** Tells the system manager how the copies stand, if that changed since it was last told. */
export function tellStatus(c: Copy, leader: Leader, always: boolean): void {
  const copies: CopyStatus[] = [{ serverId: c.self, state: c.durable.fault ? 'faulted' : 'in-sync', movedBytes: 0, remainingBytes: 0 }];
  for (const peer of leader.peers.values()) copies.push(statusOf(c, peer));
  const summary = `${leader.serving} ${copies.map((copy) => `${copy.serverId}:${copy.state}`).join(' ')}`;
  if (!always && summary === leader.toldStatus) return;
  leader.toldStatus = summary;
  leader.statusNumber++;
  c.fx.tell({ kind: 'status', volumeId: c.volumeId, epoch: leader.epoch, number: leader.statusNumber, serving: leader.serving, copies });
}

/** Copies that have everything that was answered, this one included. A member that is compared, or has yet to be brought to our log, is none of them. */
export function copiesInSync(leader: Leader): number {
  let count = 1;
  for (const peer of leader.peers.values()) if (isMemberInSync(peer) && peer.ackSeq >= leader.committedSeq) count++;
  return count;
}

function isMemberInSync(peer: Peer): boolean {
  return peer.member !== null && peer.phase === 'following' && peer.comparison === null && !peer.leaving && peer.incarnation === peer.member.incarnation;
}

function statusOf(c: Copy, peer: Peer): CopyStatus {
  const x = peer.comparison;
  return {
    serverId: peer.serverId, state: stateOf(c, peer), movedBytes: (x?.filledBlocks ?? 0) * BLOCK_BYTES, remainingBytes: (x?.open.size ?? 0) * EXTENT_BYTES,
  };
}

function stateOf(c: Copy, peer: Peer): CopyState {
  if (peer.leaving) return 'faulted';
  if (peer.phase !== 'following' && c.nowMs - Math.max(peer.lastHeardMs, c.leases.heardAtMs(peer.serverId)) > SILENT_MS) return 'offline';
  if (peer.comparison) return 'rebuilding';
  return isMemberInSync(peer) ? 'in-sync' : 'catching-up';
}
