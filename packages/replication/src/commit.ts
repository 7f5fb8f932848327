import { Status } from '@ashlar/protocol';
import { REPEAT_MS } from './limits.ts';
import { orderSync, ownGrantEndMs, requestSync } from './leading.ts';
import { openedNow } from './session-answers.ts';
import { releaseReads } from './reads.ts';
import { considerJoins } from './membership.ts';
import { tellStatus } from './status.ts';
import type { Copy, Leader, WaitingFlush } from './state.ts';

/**
 * Commits and answers what every required copy has, in order. The first time in an epoch this settles the log that was
 * found, and begins to serve.
 */
export function advance(c: Copy, leader: Leader): void {
  const strict = leader.configuration.durability === 'strict';
  let seq = leader.syncAnswers || strict ? c.log.durableSeq : c.log.lastSeq;
  for (const peer of leader.required) {
    if (peer.phase !== 'following') return;
    seq = Math.min(seq, strict ? peer.durableSeq : peer.ackSeq);
  }
  if ((leader.syncAnswers || strict) && c.log.durableSeq < c.log.lastSeq) requestSync(c, leader);
  if (leader.configuration.members.length < leader.configuration.minCopies) return; // never answered by fewer than the minimum; a joiner is not one yet
  if (!leader.serving) {
    if (seq < leader.settleSeq || ownGrantEndMs(c) > c.nowMs) return;
    leader.serving = true;
    c.grants.clear();
    c.fx.event('serving', { epoch: leader.epoch, seq });
    tellStatus(c, leader, true);
  }
  if (seq > leader.committedSeq) {
    leader.committedSeq = seq;
    c.fx.commit(seq);
    if (leader.peers.size > 0) c.leases.committed(c.volumeId, leader.epoch, seq);
    answerPending(c, leader);
  }
  answerFlushes(c, leader);
  if (leader.reads.length > 0) releaseReads(c);
  if (leader.peers.size > leader.required.length) considerJoins(c, leader);
}

function answerPending(c: Copy, leader: Leader): void {
  const { pending } = leader;
  let n = 0;
  while (n < pending.length && (pending[n] as { lastSeq: number }).lastSeq <= leader.committedSeq) n++;
  if (n === 0) return;
  for (let i = 0; i < n; i++) {
    const p = pending[i] as Leader['pending'][number];
    if (p.request === null) openedNow(c, leader, p.session);
    else if (leader.sessions.get(p.session.key) === p.session) {
      if (p.indexes.length > 0) c.fx.reply(p.session.key, leader.epoch, p.request, p.indexes, Status.ok);
      if (p.fua.length > 0) addFlush(c, leader, { seq: p.lastSeq, session: p.session, request: p.request, indexes: p.fua });
    }
  }
  pending.splice(0, n);
}

/** Waits until everything up to flush.seq is on stable storage in every required copy. */
export function addFlush(c: Copy, leader: Leader, flush: WaitingFlush): void {
  leader.flushes.push(flush);
  if (c.log.durableSeq < flush.seq) requestSync(c, leader);
  for (const peer of leader.required) {
    if (peer.durableSeq >= flush.seq || peer.syncForSeq >= flush.seq) continue;
    orderSync(c, leader, peer, flush.seq);
  }
}

export function answerFlushes(c: Copy, leader: Leader): void {
  if (leader.flushes.length === 0) return;
  let durable = c.log.durableSeq;
  for (const peer of leader.required) durable = Math.min(durable, peer.durableSeq);
  while (leader.flushes.length > 0 && (leader.flushes[0] as WaitingFlush).seq <= durable) {
    const flush = leader.flushes.shift() as WaitingFlush;
    if (leader.sessions.get(flush.session.key) === flush.session) c.fx.reply(flush.session.key, leader.epoch, flush.request, flush.indexes, Status.ok);
  }
  // Further flushes may reach beyond the sync that has just ended.
  const next = leader.flushes[0];
  if (!next) return;
  for (const peer of leader.required) {
    if (peer.durableSeq < next.seq && peer.syncForSeq < next.seq) orderSync(c, leader, peer, next.seq);
  }
}

/** A sync order or its answer may have been lost with a link. */
export function retryFlushes(c: Copy, leader: Leader): void {
  // A strict volume is settled only when all copies have synced what they were found with: nothing else tells a mirror to.
  const strict = leader.configuration.durability === 'strict' && (leader.pending.length > 0 || !leader.serving);
  if (leader.flushes.length === 0 && !strict) return;
  const seq = strict ? c.log.lastSeq : flushedThrough(leader);
  if (c.log.durableSeq < seq) requestSync(c, leader);
  for (const peer of leader.required) {
    if (peer.phase !== 'following' || peer.durableSeq >= seq || c.nowMs - peer.lastOrderMs < REPEAT_MS) continue;
    peer.lastOrderMs = c.nowMs;
    orderSync(c, leader, peer, seq);
  }
}

/** How far the waiting flushes reach. A flush covers all that is in the log; a forced write only itself, so they are not in order. */
export function flushedThrough(leader: Leader): number {
  let seq = 0;
  for (const flush of leader.flushes) seq = Math.max(seq, flush.seq);
  return seq;
}
