import type { CopyMessage } from '@ashlar/protocol';
import { BLOCK_BYTES, type ServerId } from '@ashlar/words';
import { considerJoins, mayAdmit } from './membership.ts';
import { peerOf } from './leading.ts';
import { COMPARES_MAX, REPAIR_TRIES_MAX, REPEAT_MS } from './limits.ts';
import type { Comparison, Copy, Leader, Peer } from './state.ts';

type Of<K extends CopyMessage['kind']> = CopyMessage & { readonly kind: K };

/**
 * Fills a copy whose history does not reach ours by comparing versions and checksums extent by extent; an empty copy
 * differs everywhere, so this is the full rebuild too, and one that was interrupted goes on where it stopped.
 * Its log starts anew at our end: what is written from now on comes by the log, everything below by comparison.
 */
export function startComparison(c: Copy, leader: Leader, peer: Peer, common: number): void {
  const { log } = c;
  c.counts.comparisons++;
  peer.complete = false;
  peer.sentSeq = log.lastSeq;
  peer.lastOrderMs = c.nowMs;
  peer.comparison = {
    cursor: 0, theirs: null, listedThrough: 0, theirsEnd: false, open: new Map(), fillSeq: 0, comparedExtents: 0, filledExtents: 0, filledBlocks: 0, askedMs: -REPEAT_MS, heardMs: c.nowMs, rebuilds: common <= 0,
  };
  c.fx.send(peer.serverId, {
    kind: 'restart-log', epoch: leader.epoch, attempt: peer.attempt, commonSeq: common, lineage: log.lineage,
    position: { seq: log.lastSeq, chain: log.chain }, epochStarts: [...log.epochStarts], session: log.session,
  });
}

/** Asks for as many extents as may be under way; when none is left, the learner is told that it is whole. */
export function stepComparison(c: Copy, leader: Leader, peer: Peer): void {
  const x = peer.comparison;
  if (!x || peer.ackSeq < 0) return;
  while (x.open.size < COMPARES_MAX) {
    const extent = nextExtent(c, x);
    if (extent === 'unlisted') return listMore(c, leader, peer, x);
    if (extent === 'none') {
      if (x.open.size === 0) finish(c, leader, peer, x);
      return;
    }
    x.cursor = extent + 1;
    ask(c, leader, peer, x, extent);
  }
}

function ask(c: Copy, leader: Leader, peer: Peer, x: Comparison, extent: number): void {
  begin(c, x, extent);
  c.fx.send(peer.serverId, { kind: 'compare', epoch: leader.epoch, extent });
}

/** The driver drops what it has still to send for an answer before. Late acknowledgements of what it did send lead to an early comparison at worst. */
function begin(c: Copy, x: Comparison, extent: number): void {
  x.open.set(extent, { atMs: c.nowMs, repeats: x.open.get(extent)?.repeats ?? 0, pieces: 0, filled: 0 });
}

/** The next extent that either of the two holds. */
function nextExtent(c: Copy, x: Comparison): number | 'none' | 'unlisted' {
  if (x.theirs === null) return 'unlisted';
  while (x.theirs.length > 0 && (x.theirs[0] as number) < x.cursor) x.theirs.shift();
  if (x.theirs.length === 0 && !x.theirsEnd) return 'unlisted';
  const ours = c.log.listExtents(x.cursor, 1).extents[0];
  const theirs = x.theirs[0];
  if (ours === undefined && theirs === undefined) return 'none';
  return Math.min(ours ?? Infinity, theirs ?? Infinity);
}

function listMore(c: Copy, leader: Leader, peer: Peer, x: Comparison): void {
  if (c.nowMs - x.askedMs < REPEAT_MS) return;
  x.askedMs = c.nowMs;
  c.fx.send(peer.serverId, { kind: 'list-extents', epoch: leader.epoch, from: x.listedThrough });
}

/**
 * What was filled may not have been committed when it was read; a copy that calls itself whole may hold nothing that a later primary lacks.
 * A primary that cannot settle without another copy takes the risk: at worst that copy is made anew.
 */
function finish(c: Copy, leader: Leader, peer: Peer, x: Comparison): void {
  const settled = leader.serving ? leader.committedSeq >= x.fillSeq : mayAdmit(c, leader);
  if (!settled || c.nowMs - x.askedMs < REPEAT_MS) return;
  x.askedMs = c.nowMs;
  c.fx.send(peer.serverId, { kind: 'complete', epoch: leader.epoch, attempt: peer.attempt });
}

export function onExtents(c: Copy, from: ServerId, message: Of<'extents'>): void {
  const found = underWay(c, from, message.epoch);
  if (!found || message.from !== found.x.listedThrough || found.x.theirsEnd) return;
  const { leader, peer, x } = found;
  x.theirs = [...(x.theirs ?? []), ...message.extents];
  x.theirsEnd = message.end;
  x.listedThrough = (message.extents.at(-1) ?? message.from) + 1;
  x.askedMs = -REPEAT_MS;
  stepComparison(c, leader, peer);
}

export function onCompared(c: Copy, from: ServerId, message: Of<'compared'>): void {
  const found = underWay(c, from, message.epoch);
  const under = found?.x.open.get(message.extent);
  if (!found || !under || found.peer.attempt !== message.attempt) return;
  begin(c, found.x, message.extent);
  found.x.fillSeq = Math.max(found.x.fillSeq, message.seq);
  // One bad block that nobody can mend must not keep all the others from having a second copy.
  const mends = under.repeats < REPAIR_TRIES_MAX && found.leader.required.some((peer) => peer !== found.peer && peer.phase === 'following');
  c.fx.compareExtent(from, message.epoch, message.extent, message.seq, message.blocks, !mends);
}

/** How many blocks differed; those have been sent, in so many pieces, and the extent is compared again once they are in place. */
export function onExtentCompared(c: Copy, to: ServerId, extent: number, differing: number, pieces: number): void {
  const peer = c.leader?.peers.get(to);
  const x = peer?.comparison;
  const under = x?.open.get(extent);
  if (!c.leader || !peer || !x || !under) return;
  peer.lastHeardMs = c.nowMs;
  if (differing > 0) {
    x.filledExtents++;
    x.filledBlocks += differing;
    under.atMs = c.nowMs;
    under.pieces = pieces;
    return compareFilled(c, c.leader, peer, x, extent);
  }
  x.open.delete(extent);
  x.comparedExtents++;
  stepComparison(c, c.leader, peer);
}

export function onFilled(c: Copy, from: ServerId, message: Of<'filled'>): void {
  const found = underWay(c, from, message.epoch);
  const under = found?.x.open.get(message.extent);
  if (!found || !under) return;
  under.atMs = c.nowMs;
  under.filled += 1;
  compareFilled(c, found.leader, found.peer, found.x, message.extent);
}

/**
 * Only when all pieces were sent: the order to compare goes behind them, whatever was counted. An extent of which nothing could be sent, because all that
 * differs is bad here, waits for its time: it may be mended meanwhile.
 */
function compareFilled(c: Copy, leader: Leader, peer: Peer, x: Comparison, extent: number): void {
  const under = x.open.get(extent);
  if (under && under.pieces > 0 && under.filled >= under.pieces) ask(c, leader, peer, x, extent);
}

export function onCompleted(c: Copy, from: ServerId, message: Of<'completed'>): void {
  const found = underWay(c, from, message.epoch);
  if (!found || found.peer.attempt !== message.attempt) return;
  const { leader, peer, x } = found;
  c.fx.event('copy-filled', { server: from, extents: x.comparedExtents, filled: x.filledExtents, filledBytes: x.filledBlocks * BLOCK_BYTES });
  peer.complete = true;
  peer.comparison = null;
  if (x.rebuilds) c.counts.rebuilds++;
  considerJoins(c, leader);
}

/** Orders and answers may be lost with a link, all of them at once: while others are answered, one that takes long is not made to take longer. */
export function retryComparison(c: Copy, leader: Leader, peer: Peer): void {
  const x = peer.comparison;
  if (!x || peer.phase !== 'following') return;
  // Its journal has room again only for what it knows to be committed, and its restarted log knows of nothing: without a write here it would never hear of any.
  c.leases.committed(c.volumeId, leader.epoch, leader.committedSeq);
  for (const [extent, under] of x.open) {
    if (c.nowMs - Math.max(under.atMs, x.heardMs) < 5 * REPEAT_MS) continue;
    under.repeats += 1;
    ask(c, leader, peer, x, extent);
  }
  stepComparison(c, leader, peer);
}

function underWay(c: Copy, from: ServerId, epoch: number): { leader: Leader; peer: Peer; x: Comparison } | null {
  const found = peerOf(c, from, epoch);
  if (!found?.peer.comparison) return null;
  found.peer.lastHeardMs = c.nowMs;
  found.peer.comparison.heardMs = c.nowMs;
  return { ...found, x: found.peer.comparison };
}
