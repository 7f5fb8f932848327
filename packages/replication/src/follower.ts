import { memberOf, primaryOf, type CopyFault, type CopyMessage, type Frame } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { growToSize, promise, report, save, sync } from './durable.ts';
import { stepDown } from './leading.ts';
import { EXTENT_LIST_MAX, SYNC_ALONG_BYTES } from './limits.ts';
import { takeOut } from './membership.ts';
import type { Copy, Follower } from './state.ts';

type Of<K extends CopyMessage['kind']> = CopyMessage & { readonly kind: K };

/** A primary of some epoch asks to be followed. */
export function onAdopt(c: Copy, from: ServerId, message: Of<'adopt'>): void {
  const { epoch, configuration } = message;
  if (epoch < c.durable.promisedEpoch) return fenced(c, from);
  // What a copy holds after a failed fsync cannot be told from its page cache: it is made anew, never mended.
  if (c.durable.fault) return c.fx.send(from, { kind: 'leaving', epoch, fault: c.durable.fault });
  if (epoch === c.durable.promisedEpoch) {
    // The same primary again: it did not hear our answer, or we came back from a restart.
    if (c.leader || primaryOf(configuration) !== from) return;
    const f = c.follower?.leader === from ? c.follower : followAgain(c, from, epoch);
    // The promise may still be on its way to the disk: it is answered when it is there.
    f.promised ||= c.saving.length === 0;
    if (f.promised) sendAdopted(c, f);
    return;
  }
  if (c.leader) stepDown(c, epoch);
  promise(c, configuration, () => {
    const f = c.follower;
    if (!f || f.epoch !== epoch) return;
    f.promised = true;
    sendAdopted(c, f);
  });
  c.follower = newFollower(c, from, epoch);
}

/** Under a promise that was made before, and may not be stable yet. */
function followAgain(c: Copy, from: ServerId, epoch: number): Follower {
  const f = newFollower(c, from, epoch);
  f.promised = c.saving.length === 0;
  c.follower = f;
  c.leases.promise(c.volumeId, epoch, from, c.nowMs);
  growToSize(c);
  return f;
}

/**
 * This copy alone was restarted, in a process that goes on: the beacons tell its primary nothing of that, and it goes on as if it were
 * followed. Null if it is not the primary of the epoch that was promised.
 */
function cameBack(c: Copy, from: ServerId, epoch: number): Follower | null {
  const { promisedEpoch, configuration } = c.durable;
  if (c.follower || c.leader || c.saving.length > 0 || epoch !== promisedEpoch || configuration === null || primaryOf(configuration) !== from) return null;
  return followAgain(c, from, epoch);
}

/** Who is given an order that only a follower can carry out. One that does not follow says what it holds, and is told anew. */
function following(c: Copy, from: ServerId, epoch: number): Follower | null {
  const f = mine(c, from, epoch) ?? cameBack(c, from, epoch);
  if (!f || c.durable.fault) return null;
  if (!f.following && f.promised) sendAdopted(c, f);
  return f.following ? f : null;
}

function newFollower(c: Copy, leader: ServerId, epoch: number): Follower {
  return { leader, epoch, attempt: c.prng.next32(), promised: false, following: false, syncing: false, syncAgain: false, wholeAfterSyncs: 0, unsyncedBytes: 0, committedSeq: 0 };
}

function sendAdopted(c: Copy, f: Follower): void {
  if (c.savingWhole) return; // it is asked for again
  const { log } = c;
  c.fx.send(f.leader, {
    kind: 'adopted', epoch: f.epoch, attempt: f.attempt, instance: c.leases.instance, incarnation: log.incarnation, lineage: log.lineage,
    lastSeq: log.lastSeq, durableSeq: log.durableSeq, epochStarts: [...log.epochStarts], complete: c.durable.complete,
  });
}

/** Drops what the primary's history does not have. Only on order, and only once an answer: a late order would cut what was acknowledged since. */
export function onFollow(c: Copy, from: ServerId, message: Of<'follow'>): void {
  const f = mine(c, from, message.epoch);
  if (!f || message.attempt !== f.attempt || c.durable.fault) return;
  if (f.following) return sendProgress(c, f);
  if (message.afterSeq < c.log.lastSeq) {
    c.fx.truncate(message.afterSeq);
    c.counts.truncations++;
  }
  f.following = true;
  sendProgress(c, f);
}

export function onRestartLog(c: Copy, from: ServerId, message: Of<'restart-log'>): void {
  const f = mine(c, from, message.epoch);
  if (!f || message.attempt !== f.attempt) return;
  if (f.following) return restartedAgain(c, f, message.position.seq);
  // Incomplete before the log is gone: a crash in between must not leave a copy that looks whole.
  save(c, { ...c.durable, complete: false }, () => {
    if (c.follower !== f || f.following) return;
    c.fx.restartLog(message.lineage, message.position, message.epochStarts, message.session, message.commonSeq);
    c.fx.tell({ kind: 'report', copy: report(c) });
    f.following = true;
    sendProgress(c, f);
  });
}

/**
 * An order of which this answer was carried out already is a repeated one. Unless it leads beyond our log: the primary's journal was
 * trimmed past us, and it can go on only from another answer.
 */
function restartedAgain(c: Copy, f: Follower, seq: number): void {
  if (seq <= c.log.lastSeq) return sendProgress(c, f);
  const again = newFollower(c, f.leader, f.epoch);
  again.promised = true;
  c.follower = again;
  sendAdopted(c, again);
}

/** One record from the primary: into the journal, in order, then acknowledged. */
export function onAppend(c: Copy, from: ServerId, frame: Frame): void {
  if (frame.senderEpoch < c.durable.promisedEpoch) return fenced(c, from);
  const f = mine(c, from, frame.senderEpoch) ?? cameBack(c, from, frame.senderEpoch);
  if (!f || !f.promised || c.durable.fault) return;
  if (!f.following) return sendAdopted(c, f);
  const { lastSeq } = c.log;
  if (frame.firstSeq > lastSeq + 1) return c.fx.send(from, { kind: 'gap', epoch: f.epoch, attempt: f.attempt, seq: lastSeq });
  if (frame.firstSeq === lastSeq + 1) {
    const committed = frame.committedSeq;
    c.fx.append(frame);
    syncAlong(c, f, frame);
    // Strict: the answer waits for this copy's disk too, so it need not be told to sync.
    if (c.durable.configuration?.durability === 'strict') beginSync(c, f);
    sendProgress(c, f);
    commit(c, f, committed);
    return;
  }
  sendProgress(c, f); // a repeated record
}

function commit(c: Copy, f: Follower, seq: number): void {
  const reached = Math.min(seq, c.log.lastSeq);
  if (reached <= f.committedSeq) return;
  f.committedSeq = reached;
  c.fx.commit(reached);
}

export function onCommitted(c: Copy, from: ServerId, epoch: number, seq: number): void {
  const f = mine(c, from, epoch);
  if (f?.following) commit(c, f, seq);
}

export function onSync(c: Copy, from: ServerId, epoch: number): void {
  if (epoch < c.durable.promisedEpoch) return fenced(c, from);
  const f = following(c, from, epoch);
  if (!f) return;
  if (c.log.durableSeq >= c.log.lastSeq) return sendProgress(c, f);
  beginSync(c, f);
}

/** One at a time; what comes meanwhile is covered by the next. */
function beginSync(c: Copy, f: Follower): void {
  if (f.syncing) {
    f.syncAgain = true;
    return;
  }
  f.syncing = true;
  sync(c);
}

/** A copy that catches up is let in when all that it was sent is stable: hundreds of megabytes at the end would take seconds. */
function syncAlong(c: Copy, f: Follower, frame: Frame): void {
  const { configuration } = c.durable;
  if (configuration && memberOf(configuration, c.self)) return;
  f.unsyncedBytes += frame.payload.length;
  if (f.unsyncedBytes < SYNC_ALONG_BYTES || f.syncing) return;
  f.unsyncedBytes = 0;
  beginSync(c, f);
}

export function onSynced(c: Copy): void {
  const f = c.follower;
  if (!f?.following) return;
  const whole = f.wholeAfterSyncs > 0 && c.syncs.ended >= f.wholeAfterSyncs;
  if (!f.syncing && !whole) return;
  f.syncing = f.syncAgain;
  f.syncAgain = false;
  if (f.syncing) sync(c);
  if (whole) completed(c, f);
  sendProgress(c, f);
}

/** The copy's disk failed it: a failed fsync is final, and so is a log with a hole. The primary takes this copy out. */
export function onStoreFailed(c: Copy, fault: CopyFault): void {
  if (fault !== 'no-space' && c.durable.fault === null) {
    c.durable = { ...c.durable, fault };
    c.fx.save(c.durable, ++c.saveToken);
    c.fx.event('copy-faulted', { fault });
    c.fx.tell({ kind: 'report', copy: report(c) });
  }
  const f = c.follower;
  if (f?.promised) c.fx.send(f.leader, { kind: 'leaving', epoch: f.epoch, fault });
}

/** To a primary: a mirror asks to be taken out. */
export function onLeaving(c: Copy, from: ServerId, message: Of<'leaving'>): void {
  if (c.leader?.epoch === message.epoch) takeOut(c, c.leader, from, message.fault);
}

export function onListExtents(c: Copy, from: ServerId, message: Of<'list-extents'>): void {
  const f = following(c, from, message.epoch);
  if (!f) return;
  const { extents, end } = c.log.listExtents(message.from, EXTENT_LIST_MAX);
  c.fx.send(from, { kind: 'extents', epoch: f.epoch, from: message.from, extents, end });
}

export function onCompare(c: Copy, from: ServerId, message: Of<'compare'>): void {
  const f = following(c, from, message.epoch);
  if (f) c.fx.sendCompared(from, f.epoch, f.attempt, message.extent);
}

export function onFill(c: Copy, from: ServerId, message: Of<'fill'>): void {
  const f = mine(c, from, message.epoch);
  if (!f?.following) return;
  c.counts.filledExtents++;
  c.fx.fill(message.frame);
  syncAlong(c, f, message.frame);
  c.fx.send(from, { kind: 'filled', epoch: f.epoch, extent: message.extent });
}

/** Every extent agreed. What was filled must be stable before the copy may call itself whole. */
export function onComplete(c: Copy, from: ServerId, message: Of<'complete'>): void {
  const f = following(c, from, message.epoch);
  if (!f || message.attempt !== f.attempt) return;
  if (c.savingWhole || f.wholeAfterSyncs > 0) return; // answered when it is stable
  if (c.durable.complete) return c.fx.send(from, { kind: 'completed', epoch: f.epoch, attempt: f.attempt });
  // One that is under way, of this role or a former one, began before the last fill, perhaps.
  f.wholeAfterSyncs = c.syncs.asked + 1;
  beginSync(c, f);
}

function completed(c: Copy, f: Follower): void {
  f.wholeAfterSyncs = 0;
  c.savingWhole = true;
  save(c, { ...c.durable, complete: true }, () => {
    c.savingWhole = false;
    // By what it last heard of us the system manager decides whether we may be promoted.
    c.fx.tell({ kind: 'report', copy: report(c) });
    if (c.follower === f) c.fx.send(f.leader, { kind: 'completed', epoch: f.epoch, attempt: f.attempt });
  });
}

/** Somebody's blocks went bad, and ours may be good. */
export function onRepair(c: Copy, from: ServerId, message: Of<'repair'>): void {
  if (message.epoch !== c.durable.promisedEpoch) return;
  const follows = c.leader?.epoch === message.epoch ? c.leader.peers.has(from) : mine(c, from, message.epoch)?.following;
  if (follows) c.fx.sendFill(from, message.epoch, message.extent);
}

/** A scrub found a bad block here. */
export function onCorruptFound(c: Copy, extent: number): void {
  const f = c.follower;
  if (f?.following) c.fx.send(f.leader, { kind: 'repair', epoch: f.epoch, extent });
  const mirror = c.leader?.required.find((peer) => peer.phase === 'following');
  if (c.leader && mirror) c.fx.send(mirror.serverId, { kind: 'repair', epoch: c.leader.epoch, extent });
}

function sendProgress(c: Copy, f: Follower): void {
  c.fx.send(f.leader, { kind: 'progress', epoch: f.epoch, attempt: f.attempt, seq: c.log.lastSeq, durableSeq: c.log.durableSeq, chain: c.log.chain });
}

function fenced(c: Copy, from: ServerId): void {
  c.counts.fencedFrames++;
  c.fx.send(from, { kind: 'fenced', epoch: c.durable.promisedEpoch });
}

/** This copy's part in following that primary in that epoch, or null. */
function mine(c: Copy, from: ServerId, epoch: number): Follower | null {
  const f = c.follower;
  return f && f.leader === from && f.epoch === epoch && c.durable.promisedEpoch === epoch ? f : null;
}
