import type { CopyFault } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { heardMs, keepTicking, orderSync, ownGrantEndMs, requestSync, setRequired } from './leading.ts';
import { JOIN_HELD_MS, JOIN_LAG_MAX, JOIN_PATIENCE_MS, REPEAT_MS, SILENT_MS } from './limits.ts';
import type { Copy, Leader, Peer, Proposal } from './state.ts';

/**
 * Asks for a configuration without this mirror. Its acknowledgement stays required until a later configuration has been read:
 * a proposal that seems to have failed may yet arrive.
 */
export function proposeRemoval(c: Copy, leader: Leader, peer: Peer, reason: string): void {
  // One who is about to join takes a moment. But his sync may take long, or for ever, and requests wait for the one who is to go.
  if (leader.proposal || (leader.joiner && c.nowMs - leader.joinSinceMs < JOIN_HELD_MS)) return;
  const { members, minCopies } = leader.configuration;
  if (members.length - 1 < minCopies && !peer.leaving) return; // the volume stalls with both as members
  leader.joiner = null;
  c.counts.removals++;
  // Below the minimum only the fault counts: a silence that came after it must not hide it.
  propose(c, leader, { kind: 'remove', serverId: peer.serverId }, peer.leaving && peer.fault ? peer.fault : reason);
}

function propose(c: Copy, leader: Leader, change: Proposal['change'], reason: string): void {
  leader.proposal = { change, reason, afterDurableSeq: c.log.lastSeq, sentMs: -REPEAT_MS };
  setRequired(leader);
  if (leader.syncAnswers && c.log.durableSeq < c.log.lastSeq) requestSync(c, leader);
  keepTicking(c, leader);
  repeatProposal(c, leader);
}

/** Until a later epoch is known: the store may have taken the proposal though its reply was lost, or may take it late. */
export function repeatProposal(c: Copy, leader: Leader): void {
  const { proposal } = leader;
  if (!proposal || c.nowMs - proposal.sentMs < REPEAT_MS) return;
  // What was answered so far lay in two page caches; before one of them is given up, ours must be on the disk.
  if (leader.syncAnswers && c.log.durableSeq < proposal.afterDurableSeq) return requestSync(c, leader);
  proposal.sentMs = c.nowMs;
  c.fx.tell({ kind: 'propose', volumeId: c.volumeId, baseEpoch: leader.epoch, change: proposal.change, reason: proposal.reason });
}

/** Lets a copy into the in-sync set: first its acknowledgement is required, then it syncs, then it is proposed. */
export function considerJoins(c: Copy, leader: Leader): void {
  if (!mayAdmit(c, leader) || leader.proposal) return;
  if (leader.joiner) return continueJoin(c, leader, leader.joiner);
  for (const peer of leader.peers.values()) {
    if (!mayJoin(c, leader, peer) || (!leader.serving && peer.ackSeq < leader.settleSeq)) continue;
    leader.joiner = peer;
    leader.joinSeq = c.log.lastSeq;
    leader.joinSinceMs = c.nowMs;
    peer.lastOrderMs = c.nowMs;
    peer.leaseOwedMs = 0;
    setRequired(leader);
    keepTicking(c, leader);
    orderSync(c, leader, peer, leader.joinSeq);
    syncMembers(c, leader);
    return;
  }
}

/**
 * One that joins is often promoted next (a move of the primary), and the others then cut from their logs what it lacks. A cut syncs first, in the thread that
 * serves all volumes of a server: what was synced just before costs it nothing. Nobody waits for these syncs, so none is owed.
 */
function syncMembers(c: Copy, leader: Leader): void {
  if (c.log.durableSeq < c.log.lastSeq) requestSync(c, leader);
  for (const { serverId, member } of leader.required) if (member) c.fx.send(serverId, { kind: 'sync', epoch: leader.epoch });
}

/**
 * At the minimum of copies no member can be taken out: if one of them never comes back, only another that joins lets this primary serve. It has
 * our log then, settled or not; what matters is that no lease of ours still runs.
 */
export function mayAdmit(c: Copy, leader: Leader): boolean {
  const { members, minCopies } = leader.configuration;
  return leader.serving || (members.length <= minCopies && ownGrantEndMs(c) <= c.nowMs);
}

function mayJoin(c: Copy, leader: Leader, peer: Peer): boolean {
  const readmitted = peer.member !== null && peer.incarnation !== peer.member.incarnation && leader.configuration.members.length <= leader.configuration.minCopies;
  if (peer.member && !readmitted) return false;
  if (c.nowMs < peer.joinAfterMs || c.nowMs - heardMs(c, peer) > SILENT_MS) return false;
  // Everything answered before must be on it; a little of what is under way may be missing still.
  return peer.phase === 'following' && peer.complete && !peer.leaving && peer.comparison === null && hasCaughtUp(c, leader, peer);
}

/**
 * One that is a moment behind what is answered can be so for ever: the primary answers when its own disk has synced, and nothing slows it down. After
 * a while it is let in all the same, and waited for from then on; what it lacks it has before it is proposed.
 */
function hasCaughtUp(c: Copy, leader: Leader, peer: Peer): boolean {
  const behind = leader.committedSeq - peer.ackSeq;
  if (behind <= 0) return true;
  if (behind > JOIN_LAG_MAX) peer.nearSinceMs = Infinity;
  else peer.nearSinceMs = Math.min(peer.nearSinceMs, c.nowMs);
  return c.nowMs - peer.nearSinceMs >= JOIN_PATIENCE_MS;
}

function continueJoin(c: Copy, leader: Leader, peer: Peer): void {
  const silent = peer.phase !== 'following' || peer.leaving;
  if (silent) return dropJoiner(leader);
  const synced = peer.durableSeq >= leader.joinSeq && peer.verifiedSeq >= leader.joinSeq;
  if (synced) {
    c.counts.joins++;
    return propose(c, leader, { kind: 'add', member: { serverId: peer.serverId, incarnation: peer.incarnation } }, 'caught up');
  }
  if (c.nowMs - peer.lastOrderMs < REPEAT_MS) return;
  peer.lastOrderMs = c.nowMs;
  orderSync(c, leader, peer, leader.joinSeq);
}

/** Nothing was proposed yet, so nobody else can think it a member. */
export function dropJoiner(leader: Leader): void {
  leader.joiner = null;
  setRequired(leader);
}

/** A mirror reports that it cannot go on. Such a copy leaves whatever the minimum says: it cannot be a member in more than name. */
export function takeOut(c: Copy, leader: Leader, serverId: ServerId, fault: CopyFault): void {
  const peer = leader.peers.get(serverId);
  if (!peer) return;
  peer.leaving = fault !== 'no-space';
  peer.fault = fault;
  c.fx.tell({ kind: 'suspect', volumeId: c.volumeId, epoch: leader.epoch, serverId, reason: fault });
  if (peer.member) proposeRemoval(c, leader, peer, fault);
  keepTicking(c, leader);
}
