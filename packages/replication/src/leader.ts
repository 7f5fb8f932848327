import { memberOf, Status, type Configuration, type CopyFault } from '@ashlar/protocol';
import { BLOCK_BYTES, EXTENT_BLOCKS, type ServerId } from '@ashlar/words';
import { advance, flushedThrough, retryFlushes } from './commit.ts';
import { report } from './durable.ts';
import { heardMs, keepTicking, requestSync, setRequired, stepDown } from './leading.ts';
import { JOIN_AGAIN_MS, LATE_MS, MENDED_MS, REPAIR_TRIES_MAX, REPEAT_MS, SILENT_MS, STUCK_MS } from './limits.ts';
import { considerJoins, dropJoiner, proposeRemoval, repeatProposal } from './membership.ts';
import { retryComparison } from './catch-up.ts';
import { adopt, goBack, newPeer, pump } from './peers.ts';
import { tellStatus } from './status.ts';
import { refuseSessions } from './session-answers.ts';
import { releaseReads, retryRepairs } from './reads.ts';
import type { Copy, Leader, Peer, Pending } from './state.ts';

/** Begins to lead: nothing is answered until every required copy holds our log, and our own grant has run out. */
export function lead(c: Copy, configuration: Configuration, predecessor: ServerId | null): void {
  const { log } = c;
  const leader: Leader = {
    epoch: configuration.epoch, configuration, settleSeq: log.lastSeq, predecessor, serving: false, committedSeq: 0, peers: new Map(), required: [],
    joiner: null, joinSeq: 0, joinSinceMs: 0, proposal: null, syncAnswers: false, syncing: false, sessions: new Map(),
    newest: { attachNumber: log.session.attachNumber, count: log.session.count }, opens: new Map(),
    pending: [], flushes: [], reads: [], repairs: [], badBlocks: new Map(), chains: [{ seq: log.lastSeq, chain: log.chain }], ticking: false, tickDueMs: 0, toldStatus: '', statusNumber: 0,
  };
  c.leader = leader;
  c.counts.promotions++;
  for (const { serverId } of configuration.members) if (serverId !== c.self) leader.peers.set(serverId, newPeer(c, serverId, memberOf(configuration, serverId) ?? null));
  for (const serverId of configuration.learners) if (!leader.peers.has(serverId)) leader.peers.set(serverId, newPeer(c, serverId, null));
  setRequired(leader);
  // Who was silent as a primary has been silent since then: a failover is not to wait for the same silence twice.
  const former = c.lastLed === null ? undefined : leader.peers.get(c.lastLed.by);
  if (former && c.lastLed) former.lastHeardMs = Math.min(c.nowMs, c.lastLed.heardMs);
  for (const peer of leader.peers.values()) adopt(c, leader, peer);
  c.fx.event('leading', { epoch: leader.epoch, members: configuration.members.length, settleSeq: leader.settleSeq });
  keepTicking(c, leader);
  tellStatus(c, leader, true);
  advance(c, leader);
}

export function onTick(c: Copy): void {
  const leader = c.leader;
  if (!leader) return;
  leader.ticking = false;
  const lateMs = c.nowMs - leader.tickDueMs;
  if (lateMs > LATE_MS) for (const peer of leader.peers.values()) excuse(c, peer, lateMs);
  for (const peer of leader.peers.values()) tickPeer(c, leader, peer);
  repeatProposal(c, leader);
  considerJoins(c, leader);
  retryFlushes(c, leader);
  retryRepairs(c, leader);
  if (!leader.serving || leader.pending.length > 0 || leader.flushes.length > 0) advance(c, leader);
  releaseReads(c);
  // The reads may have gone with their sessions, and with them the ticks that would have seen it.
  if (leader.reads.length === 0) for (const peer of leader.peers.values()) peer.leaseOwedMs = 0;
  tellStatus(c, leader, false);
  if (unfinished(c, leader)) keepTicking(c, leader);
}

/** It may well have spoken while we did not listen. */
function excuse(c: Copy, peer: Peer, lateMs: number): void {
  peer.lastHeardMs = Math.min(c.nowMs, peer.lastHeardMs + lateMs);
  peer.lastProgressMs = Math.min(c.nowMs, peer.lastProgressMs + lateMs);
  if (peer.syncOwedMs > 0) peer.syncOwedMs = Math.min(c.nowMs, peer.syncOwedMs + lateMs);
  if (peer.leaseOwedMs > 0) peer.leaseOwedMs = Math.min(c.nowMs, peer.leaseOwedMs + lateMs);
}

function tickPeer(c: Copy, leader: Leader, peer: Peer): void {
  const behind = peer.ackSeq < c.log.lastSeq;
  const due = c.nowMs - peer.lastOrderMs >= REPEAT_MS;
  if (peer.phase !== 'following') {
    if (due) adopt(c, leader, peer);
  } else if (peer.ackSeq < 0) {
    if (due) peer.phase = 'adopting'; // our order, or its first progress, was lost
  } else if (behind && !peer.historyBusy && c.nowMs - peer.lastProgressMs >= REPEAT_MS && due) {
    // Records were lost with a link: go back to what it has. Or they wait for room in its journal, and so does the commit point that they bring.
    peer.lastOrderMs = c.nowMs;
    c.leases.committed(c.volumeId, leader.epoch, leader.committedSeq);
    goBack(peer, peer.ackSeq);
    pump(c, leader, peer);
  } else pump(c, leader, peer);
  if (peer.comparison) retryComparison(c, leader, peer);
  if (peer.member === null && peer !== leader.joiner) return;
  const waits = leader.reads.length > 0 && c.leases.leaseUntilMs(peer.serverId, c.volumeId, leader.epoch) <= c.nowMs;
  peer.leaseOwedMs = waits ? peer.leaseOwedMs || c.nowMs : 0;
  if (!isSilent(c, peer)) return;
  if (peer.member) proposeRemoval(c, leader, peer, 'silent');
  if (peer !== leader.joiner || leader.proposal) return;
  // Writes and reads need not wait for it.
  peer.joinAfterMs = c.nowMs + JOIN_AGAIN_MS;
  dropJoiner(leader);
  advance(c, leader);
}

/** A peer that owes us something is past its time. */
function isSilent(c: Copy, peer: Peer): boolean {
  if (peer.leaving || peer.ended) return true;
  const { nowMs } = c;
  const owesRecords = peer.phase !== 'following' || peer.ackSeq < c.log.lastSeq;
  if (!owesRecords && peer.syncOwedMs === 0 && peer.leaseOwedMs === 0) return false;
  if (nowMs - heardMs(c, peer) > SILENT_MS) return true;
  // Its journal may well take records while its disk does not end a sync.
  const owesLong = (sinceMs: number): boolean => sinceMs > 0 && nowMs - sinceMs > STUCK_MS;
  return owesLong(peer.syncOwedMs) || owesLong(peer.leaseOwedMs) || ((owesRecords || peer.syncOwedMs > 0) && nowMs - Math.max(peer.lastProgressMs, peer.lastHeardMs) > STUCK_MS);
}

/** Its supervisor saw that life of a mirror's process end. Another life may be there already, and then counts. */
export function onMemberEnded(c: Copy, serverId: ServerId, instance: string): void {
  const peer = c.leader?.peers.get(serverId);
  if (c.leader && peer && peer.instance.toString(36) === instance) memberEnded(c, c.leader, serverId);
}

/** Waiting for it would be in vain: it is taken out at once, as after a silence. */
export function memberEnded(c: Copy, leader: Leader, serverId: ServerId): void {
  const peer = leader.peers.get(serverId);
  if (!peer?.member) return;
  peer.ended = true;
  peer.phase = 'adopting';
  proposeRemoval(c, leader, peer, 'ended');
  keepTicking(c, leader);
}

/** The beacons say that a server is gone, though this volume may be idle. */
export function onPeerSilent(c: Copy, serverId: ServerId): void {
  const leader = c.leader;
  const peer = leader?.peers.get(serverId);
  if (!leader || !peer?.member) return;
  c.fx.tell({ kind: 'suspect', volumeId: c.volumeId, epoch: leader.epoch, serverId, reason: 'no beacon is answered' });
  proposeRemoval(c, leader, peer, 'silent');
  keepTicking(c, leader);
}

export function onPeerUp(c: Copy, serverId: ServerId): void {
  const leader = c.leader;
  const peer = leader?.peers.get(serverId);
  if (!leader || !peer) return;
  // What was under way on the old link is lost.
  goBack(peer, Math.max(peer.ackSeq, 0));
  peer.syncForSeq = peer.durableSeq;
  if (peer.phase === 'following' && peer.ackSeq >= 0) pump(c, leader, peer);
  adopt(c, leader, peer);
}

/** Somebody has promised a later epoch than ours: we can commit nothing any more, and ask what has become of us. */
export function onFenced(c: Copy, _from: ServerId, epoch: number): void {
  if (c.leader && epoch > c.leader.epoch) c.fx.tell({ kind: 'ask', volumeId: c.volumeId, epoch: c.leader.epoch });
}

export function onSynced(c: Copy, leader: Leader): void {
  leader.syncing = false;
  repeatProposal(c, leader);
  advance(c, leader);
  const wanted = Math.max(flushedThrough(leader), leader.syncAnswers || leader.configuration.durability === 'strict' ? c.log.lastSeq : 0);
  if (wanted > c.log.durableSeq) requestSync(c, leader);
}

/** Our own disk failed us. With a mirror in sync another primary is wanted; the last copy goes on answering verified reads. */
export function onStoreFailed(c: Copy, leader: Leader, fault: CopyFault): void {
  if (fault === 'no-space') return waitForSpace(c, leader);
  if (c.durable.fault === null) {
    c.durable = { ...c.durable, fault };
    c.fx.save(c.durable, ++c.saveToken);
    c.fx.event('copy-faulted', { fault });
    c.fx.tell({ kind: 'report', copy: report(c) });
  }
  if (leader.configuration.members.length > 1) return stepDown(c, leader.epoch);
  failWrites(c, leader);
}

/**
 * The rest of a partly written block is bad here. The sessions come again, and find it mended by a mirror; if nobody can mend it, those
 * operations fail: who resends them hears the same, because nothing behind them was taken in.
 */
export function onAppendCorrupt(c: Copy, leader: Leader, block: number): void {
  const extent = Math.floor(block / EXTENT_BLOCKS);
  const known = leader.badBlocks.get(block);
  const bad = known && c.nowMs - known.atMs < MENDED_MS ? known : { tries: 0, atMs: 0 };
  const mirrors = leader.required.filter((peer) => peer.phase === 'following');
  const mirror = mirrors[bad.tries % mirrors.length];
  leader.badBlocks.set(block, { tries: bad.tries + 1, atMs: c.nowMs });
  if (mirror && bad.tries < REPAIR_TRIES_MAX) {
    c.fx.event('repair-asked', { extent, from: mirror.serverId });
    c.fx.send(mirror.serverId, { kind: 'repair', epoch: leader.epoch, extent });
  } else {
    const refused = leader.pending.find((pending) => pending.lastSeq > c.log.lastSeq);
    c.fx.event('write-failed', { block, tries: bad.tries });
    if (refused?.request) c.fx.reply(refused.session.key, leader.epoch, refused.request, partsOf(refused, block), Status.ioError);
  }
  waitForSpace(c, leader);
}

/** Its operations that change a part of this block. */
function partsOf(pending: Pending, block: number): number[] {
  const { request } = pending;
  if (!request) return [];
  return [...pending.indexes, ...pending.fua].filter((i) => {
    const start = request.offsetBytes(i);
    const end = start + request.lengthBytes(i);
    return [start, end].some((edge) => edge % BLOCK_BYTES !== 0 && Math.floor(edge / BLOCK_BYTES) === block);
  });
}

/** Nothing was written: the sessions are told to come again, with everything unanswered in its old order. */
function waitForSpace(c: Copy, leader: Leader): void {
  leader.pending = leader.pending.filter((pending) => pending.lastSeq <= c.log.lastSeq);
  for (const peer of leader.peers.values()) peer.sentSeq = Math.min(peer.sentSeq, c.log.lastSeq);
  leader.newest = { attachNumber: c.log.session.attachNumber, count: c.log.session.count };
  c.fx.event('no-space', { epoch: leader.epoch });
  refuseSessions(c, leader, 'not-serving', leader.epoch);
}

/** The last copy: writes and flushes fail cleanly, nothing hangs. */
export function failWrites(c: Copy, leader: Leader): void {
  const { pending, flushes } = leader;
  leader.pending = [];
  leader.flushes = [];
  for (const p of pending) {
    if (p.request && p.session.open) c.fx.reply(p.session.key, leader.epoch, p.request, [...p.indexes, ...p.fua], 1);
  }
  for (const f of flushes) c.fx.reply(f.session.key, leader.epoch, f.request, f.indexes, 1);
  // Reads that wait for a commit which will not come are asked again, and answered from what is there.
  refuseSessions(c, leader, 'gap', leader.epoch);
}

/** True while something has to be looked at again; an idle healthy volume has no timer. */
function unfinished(c: Copy, leader: Leader): boolean {
  if (!leader.serving || leader.proposal || leader.joiner || leader.flushes.length > 0 || leader.reads.length > 0 || leader.repairs.length > 0 || leader.opens.size > 0 || leader.pending.length > 0) return true;
  for (const peer of leader.peers.values()) if (peer.phase !== 'following' || peer.ackSeq < c.log.lastSeq || peer.member === null || peer.leaving || peer.comparison !== null) return true;
  return false;
}
