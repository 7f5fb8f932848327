import { Status, type CopyMessage, type Frame } from '@ashlar/protocol';
import type { GrantedRead } from './effects.ts';
import { keepTicking } from './leading.ts';
import { REPAIR_TRIES_MAX, REPEAT_MS } from './limits.ts';
import type { Copy, Leader, Pending } from './state.ts';

const tries = new WeakMap<GrantedRead, number>();

/**
 * Reads show what is committed, and only while everybody whose acknowledgement a write needs has granted a lease: otherwise a newer primary may
 * have answered a write that we do not know of. Checked now, after the request has arrived. A read above a write that is still under way is
 * made now too, and answered when that write is committed: waiting for a moment without such a write could last for ever.
 */
export function askRead(c: Copy, leader: Leader, reads: readonly GrantedRead[]): void {
  if (!mayRead(c, leader)) {
    leader.reads.push(...reads);
    c.leases.wait(c.volumeId);
    return keepTicking(c, leader);
  }
  if (leader.pending.length === 0) return c.fx.read(reads, leader.epoch, 0);
  const now: GrantedRead[] = [];
  const later: GrantedRead[] = [];
  let untilSeq = 0;
  for (const read of reads) {
    const seq = lastOverlap(leader.pending, read);
    if (seq <= leader.committedSeq) now.push(read);
    else {
      later.push(read);
      untilSeq = Math.max(untilSeq, seq);
    }
  }
  if (now.length > 0) c.fx.read(now, leader.epoch, 0);
  if (later.length > 0) c.fx.read(later, leader.epoch, untilSeq);
}

/** A lease has come, or may have. */
export function releaseReads(c: Copy): void {
  const leader = c.leader;
  if (!leader || leader.reads.length === 0 || !leader.serving) return;
  const waiting = leader.reads.filter((read) => leader.sessions.has(read.sessionId));
  leader.reads = [];
  if (waiting.length > 0) askRead(c, leader, waiting);
}

function mayRead(c: Copy, leader: Leader): boolean {
  for (const peer of leader.required) if (c.leases.leaseUntilMs(peer.serverId, c.volumeId, leader.epoch) <= c.nowMs) return false;
  return true;
}

/** The last record not yet committed that touches what is read; 0 if there is none. */
function lastOverlap(pending: readonly Pending[], read: GrantedRead): number {
  const from = read.frame.offsetBytes(read.index);
  const to = from + read.frame.lengthBytes(read.index);
  for (let k = pending.length - 1; k >= 0; k--) {
    const { record, lastSeq } = pending[k] as Pending;
    if (overlaps(record, from, to)) return lastSeq;
  }
  return 0;
}

function overlaps(record: Frame, from: number, to: number): boolean {
  for (let i = 0; i < record.count; i++) {
    const start = record.offsetBytes(i);
    if (start < to && start + record.lengthBytes(i) > from) return true;
  }
  return false;
}

/** A bad block: its good bytes are asked from the mirrors in turn; if nobody has them the read fails, never lies. */
export function onReadCorrupt(c: Copy, read: GrantedRead, extent: number): void {
  const leader = c.leader;
  const epoch = read.frame.epoch;
  const mirrors = leader && leader.epoch === epoch ? leader.required.filter((peer) => peer.phase === 'following') : [];
  const tried = tries.get(read) ?? 0;
  if (!leader || mirrors.length === 0 || tried >= REPAIR_TRIES_MAX) {
    c.fx.event('read-failed', { extent, tried });
    return c.fx.reply(read.sessionId, epoch, read.frame, [read.index], Status.ioError);
  }
  tries.set(read, tried + 1);
  const { serverId } = mirrors[tried % mirrors.length] as { serverId: typeof mirrors[0]['serverId'] };
  leader.repairs.push({ extent, read, asked: serverId, sentMs: c.nowMs });
  c.fx.event('repair-asked', { extent, from: serverId });
  c.fx.send(serverId, { kind: 'repair', epoch: leader.epoch, extent });
  keepTicking(c, leader);
}

/** Good blocks have come from a mirror. */
export function onRepaired(c: Copy, leader: Leader, message: CopyMessage & { readonly kind: 'fill' }): void {
  if (message.epoch !== leader.epoch) return;
  c.fx.fill(message.frame);
  const waiting = leader.repairs.filter((repair) => repair.extent === message.extent);
  leader.repairs = leader.repairs.filter((repair) => repair.extent !== message.extent);
  // Time has passed: the lease may have run out, and other writes may be under way.
  askRead(c, leader, waiting.map(({ read }) => read).filter((read) => leader.sessions.has(read.sessionId)));
}

export function retryRepairs(c: Copy, leader: Leader): void {
  for (const repair of leader.repairs.slice()) {
    if (c.nowMs - repair.sentMs < REPEAT_MS) continue;
    leader.repairs.splice(leader.repairs.indexOf(repair), 1);
    onReadCorrupt(c, repair.read, repair.extent);
  }
}
