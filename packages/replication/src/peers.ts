import type { CopyMessage, Frame, Member } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { startComparison, stepComparison } from './catch-up.ts';
import { advance } from './commit.ts';
import { commonSeq } from './history.ts';
import { keepTicking, peerOf } from './leading.ts';
import { CHAINS_MAX, HISTORY_BATCHES_MAX, REPEAT_MS, SLOW_FOR_MS, SLOW_MS, UNACKNOWLEDGED_MAX } from './limits.ts';
import { dropJoiner, proposeRemoval, takeOut } from './membership.ts';
import type { Copy, Leader, Peer } from './state.ts';

type Of<K extends CopyMessage['kind']> = CopyMessage & { readonly kind: K };

export function newPeer(c: Copy, serverId: ServerId, member: Member | null): Peer {
  return {
    serverId, member, phase: 'adopting', attempt: 0, instance: 0, incarnation: 0, complete: false, ackSeq: -1, durableSeq: -1, sentSeq: 0, verifiedSeq: -1,
    historyBusy: false, batches: [], gapSeq: -1, gapMs: 0, syncForSeq: -1, syncOwedMs: 0, leaseOwedMs: 0, joinAfterMs: 0, lastOrderMs: -1, lastHeardMs: c.nowMs, lastProgressMs: c.nowMs, leaving: false, fault: null, ended: false,
    watchedSeq: 0, watchedMs: 0, latencyMs: 0, slowSinceMs: 0, nearSinceMs: Infinity, comparison: null,
  };
}

export function adopt(c: Copy, leader: Leader, peer: Peer): void {
  peer.lastOrderMs = c.nowMs;
  c.fx.send(peer.serverId, { kind: 'adopt', epoch: leader.epoch, configuration: leader.configuration });
}

/** A copy has promised our epoch and says where its log stands: tell it where to go on from. */
export function onAdopted(c: Copy, from: ServerId, message: Of<'adopted'>): void {
  const found = peerOf(c, from, message.epoch);
  if (!found) return;
  const { leader, peer } = found;
  peer.lastHeardMs = c.nowMs;
  if (peer.phase === 'following' && peer.attempt === message.attempt) return;
  c.leases.establish(from, c.volumeId, leader.epoch, message.instance, c.nowMs);
  Object.assign(peer, {
    attempt: message.attempt, instance: message.instance, incarnation: message.incarnation, complete: message.complete, phase: 'following',
    ackSeq: -1, durableSeq: -1, verifiedSeq: -1, historyBusy: false, batches: [], syncForSeq: -1, syncOwedMs: 0, leaseOwedMs: 0, joinAfterMs: 0, lastProgressMs: c.nowMs, watchedSeq: 0, ended: false, nearSinceMs: Infinity, comparison: null,
  });
  keepTicking(c, leader);
  if (leader.joiner === peer && leader.proposal === null) dropJoiner(leader);
  const common = message.lineage === c.log.lineage ? commonSeq(c.log, message) : -1;
  const short = !message.complete || common < c.log.journalStartSeq;
  if (peer.member && peer.incarnation !== peer.member.incarnation) proposeRemoval(c, leader, peer, 'lost-cache');
  // A member holds everything that was answered; one that says otherwise has lost it, and counts no more.
  else if (peer.member && short) proposeRemoval(c, leader, peer, 'incomplete');
  if (short) return startComparison(c, leader, peer, common);
  c.counts.journalCatchUps++;
  peer.sentSeq = common;
  c.fx.send(from, { kind: 'follow', epoch: leader.epoch, attempt: message.attempt, afterSeq: common });
  pump(c, leader, peer);
}

/** Sends a new record to everybody who is up to date; the others get it from the journal in their turn. */
export function broadcast(c: Copy, leader: Leader, record: Frame): void {
  leader.chains.push({ seq: record.lastSeq, chain: record.chain });
  if (leader.chains.length > 2 * CHAINS_MAX) leader.chains.splice(0, CHAINS_MAX);
  for (const peer of leader.peers.values()) {
    if (peer.phase !== 'following' || peer.historyBusy || peer.sentSeq !== record.firstSeq - 1) continue;
    if (peer.sentSeq - peer.ackSeq > UNACKNOWLEDGED_MAX && peer.ackSeq >= 0) continue;
    if (peer.sentSeq === peer.ackSeq) peer.lastProgressMs = c.nowMs; // it owed nothing until now
    peer.sentSeq = record.lastSeq;
    if (peer.watchedSeq === 0) {
      peer.watchedSeq = record.lastSeq;
      peer.watchedMs = c.nowMs;
    }
    c.fx.send(peer.serverId, { kind: 'append', frame: record });
  }
}

/** Feeds a copy from the journal until it has all, no faster than it acknowledges: more than a link holds would be lost, and be sent again. */
export function pump(c: Copy, leader: Leader, peer: Peer): void {
  if (peer.phase !== 'following' || peer.historyBusy || peer.sentSeq >= c.log.lastSeq) return;
  if (peer.sentSeq < c.log.journalStartSeq) {
    // The journal was trimmed past what it has: it must say again where it stands, and be compared.
    peer.phase = 'adopting';
    return adopt(c, leader, peer);
  }
  if (peer.batches.length >= HISTORY_BATCHES_MAX || (peer.ackSeq >= 0 && peer.sentSeq - peer.ackSeq > UNACKNOWLEDGED_MAX)) return;
  peer.historyBusy = true;
  c.fx.sendHistory(peer.serverId, leader.epoch, leader.committedSeq, peer.sentSeq);
}

export function onHistorySent(c: Copy, to: ServerId, throughSeq: number): void {
  const leader = c.leader;
  const peer = leader?.peers.get(to);
  if (!leader || !peer?.historyBusy) return;
  peer.historyBusy = false;
  if (throughSeq <= peer.sentSeq) return; // nothing could be sent; the tick tries again
  peer.sentSeq = throughSeq;
  peer.batches.push(throughSeq);
  pump(c, leader, peer);
}

export function onProgress(c: Copy, from: ServerId, message: Of<'progress'>): void {
  const found = peerOf(c, from, message.epoch);
  if (!found || found.peer.attempt !== message.attempt || found.peer.phase !== 'following') return;
  const { leader, peer } = found;
  peer.lastHeardMs = c.nowMs;
  if (message.seq > peer.ackSeq || message.durableSeq > peer.durableSeq) peer.lastProgressMs = c.nowMs;
  peer.ackSeq = Math.max(peer.ackSeq, message.seq);
  while (peer.batches.length > 0 && (peer.batches[0] as number) <= peer.ackSeq) peer.batches.shift();
  if (message.durableSeq > peer.durableSeq && peer.syncOwedMs > 0) peer.syncOwedMs = message.durableSeq >= peer.syncForSeq ? 0 : c.nowMs;
  peer.durableSeq = Math.max(peer.durableSeq, message.durableSeq);
  if (peer.sentSeq < peer.ackSeq) peer.sentSeq = peer.ackSeq;
  if (peer.watchedSeq > 0 && peer.ackSeq >= peer.watchedSeq) watchLatency(c, leader, peer);
  if (peer === leader.joiner || peer.member === null) verify(c, leader, peer, message.seq, message.chain);
  if (peer.sentSeq < c.log.lastSeq) pump(c, leader, peer);
  if (peer.comparison) stepComparison(c, leader, peer);
  advance(c, leader);
}

/** Slowness is a failure too, but never a reason to have one copy less: the system manager builds another first. */
function watchLatency(c: Copy, leader: Leader, peer: Peer): void {
  peer.latencyMs += ((c.nowMs - peer.watchedMs) - peer.latencyMs) / 8;
  peer.watchedSeq = 0;
  if (peer.latencyMs <= SLOW_MS || peer.member === null) {
    peer.slowSinceMs = 0;
    return;
  }
  if (peer.slowSinceMs === 0) peer.slowSinceMs = c.nowMs;
  if (c.nowMs - peer.slowSinceMs < SLOW_FOR_MS) return;
  peer.slowSinceMs = c.nowMs;
  c.counts.slowCopies++;
  c.fx.tell({ kind: 'suspect', volumeId: c.volumeId, epoch: leader.epoch, serverId: peer.serverId, reason: 'slow' });
}

/** The same digest at the same position: the joiner's log is ours. */
function verify(c: Copy, leader: Leader, peer: Peer, seq: number, chain: number): void {
  const { chains } = leader;
  for (let i = chains.length - 1; i >= 0; i--) {
    const known = chains[i] as { seq: number; chain: number };
    if (known.seq < seq) return;
    if (known.seq > seq) continue;
    if (known.chain === chain) {
      peer.verifiedSeq = Math.max(peer.verifiedSeq, seq);
      return;
    }
    c.fx.event('log-differs', { server: peer.serverId, seq });
    return takeOut(c, leader, peer.serverId, 'corrupt');
  }
}

export function onGap(c: Copy, from: ServerId, message: Of<'gap'>): void {
  const found = peerOf(c, from, message.epoch);
  if (!found || found.peer.attempt !== message.attempt || found.peer.historyBusy) return;
  found.peer.lastHeardMs = c.nowMs;
  if (message.seq >= found.peer.sentSeq) return;
  // Every record behind a missing one tells of the gap, and so would every one of those that are sent again: a mirror whose disk is full.
  if (message.seq === found.peer.gapSeq && c.nowMs - found.peer.gapMs < REPEAT_MS) return;
  found.peer.gapSeq = message.seq;
  found.peer.gapMs = c.nowMs;
  goBack(found.peer, message.seq);
  pump(c, found.leader, found.peer);
}

/** What was sent beyond this was lost, and will not be acknowledged. */
export function goBack(peer: Peer, seq: number): void {
  peer.sentSeq = Math.min(peer.sentSeq, seq);
  peer.batches = [];
}

export function onRelationLost(c: Copy, serverId: ServerId): void {
  const leader = c.leader;
  const peer = leader?.peers.get(serverId);
  if (!leader || !peer) return;
  peer.phase = 'adopting';
  adopt(c, leader, peer);
  keepTicking(c, leader);
}
