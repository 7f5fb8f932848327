import type { ServerId } from '@ashlar/words';
import { sync } from './durable.ts';
import { TICK_MS } from './limits.ts';
import { refuseSessions } from './session-answers.ts';
import type { Copy, Leader, Peer } from './state.ts';

/** Whose acknowledgement an answer needs, and whether answers wait for stable storage. Follows from members, joiner and proposal. */
export function setRequired(leader: Leader): void {
  leader.required = [...leader.peers.values()].filter((peer) => peer.member !== null || peer === leader.joiner);
  const others = leader.configuration.members.length - 1;
  const removing = leader.proposal?.change.kind === 'remove' ? 1 : 0;
  leader.syncAnswers = leader.configuration.copiesWanted > 1 && others - removing <= 0;
}

/** Somebody has a later epoch, or this copy cannot go on. */
export function stepDown(c: Copy, knownEpoch: number): void {
  const leader = c.leader;
  if (!leader) return;
  c.leader = null;
  c.leases.end(c.volumeId);
  refuseSessions(c, leader, 'not-serving', knownEpoch);
  returnLeases(c, leader);
  c.fx.event('stepped-down', { epoch: leader.epoch, for: knownEpoch });
}

/**
 * To everybody who may have granted a lease to the one who led: it answers no read any more, so that a successor need not wait for what it granted.
 * Only after its sessions are refused; a primary that cannot say so is waited for as ever.
 */
function returnLeases(c: Copy, { epoch, peers }: Leader): void {
  for (const serverId of peers.keys()) c.fx.send(serverId, { kind: 'lease-returned', epoch });
}

/** One at a time; what comes meanwhile is covered by the next. */
export function requestSync(c: Copy, leader: Leader): void {
  if (leader.syncing || c.durable.fault) return;
  leader.syncing = true;
  sync(c);
}

/** What a follower has of the log is to be on its disk up to here. */
export function orderSync(c: Copy, leader: Leader, peer: Peer, seq: number): void {
  peer.syncForSeq = Math.max(peer.syncForSeq, seq);
  if (peer.syncOwedMs === 0 && peer.durableSeq < seq) peer.syncOwedMs = c.nowMs;
  c.fx.send(peer.serverId, { kind: 'sync', epoch: leader.epoch });
}

/** When it was last heard, of this volume or of any other. */
export function heardMs(c: Copy, peer: Peer): number {
  return Math.max(peer.lastHeardMs, c.leases.heardAtMs(peer.serverId));
}

/** A follower of ours, spoken to in our epoch; null for what is of another. */
export function peerOf(c: Copy, from: ServerId, epoch: number): { leader: Leader; peer: Peer } | null {
  const leader = c.leader;
  const peer = leader?.peers.get(from);
  return leader && peer && leader.epoch === epoch ? { leader, peer } : null;
}

/** Until nothing is unfinished any more. */
export function keepTicking(c: Copy, leader: Leader): void {
  if (leader.ticking) return;
  leader.ticking = true;
  leader.tickDueMs = c.nowMs + TICK_MS;
  c.fx.setTimer('tick', leader.tickDueMs);
}

/** The end of the leases that this copy gave as a mirror to those who led before. */
export function ownGrantEndMs(c: Copy): number {
  let end = 0;
  for (const { untilMs } of c.grants.values()) end = Math.max(end, untilMs);
  return end;
}
