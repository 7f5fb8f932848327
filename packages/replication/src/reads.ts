import { Status, type CopyMessage, type Frame } from '@ashlar/protocol';
import type { GrantedRead } from './effects.ts';
import { keepTicking } from './leading.ts';
import { REPEAT_MS } from './limits.ts';
import type { Copy, Leader, Pending } from './state.ts';

/** Tries of one read with other copies' blocks before it fails. A mirror may lag behind the version that is asked for. */
const REPAIR_TRIES_MAX = 6;
const tries = new WeakMap<GrantedRead, number>();

/**
 * Reads show what is committed, and only while everybody whose acknowledgement a write needs has granted a lease: otherwise
 * a newer primary may have answered a write that we do not know of. Checked now, after the request has arrived.
 */
export function askRead(c: Copy, leader: Leader, reads: readonly GrantedRead[]): void {
  const leased = mayRead(c, leader);
  const now: GrantedRead[] = [];
  for (const read of reads) {
    const seq = leader.pending.length === 0 ? 0 : lastOverlap(leader.pending, read);
    if (leased && seq <= leader.committedSeq) now.push(read);
    else leader.reads.push({ seq, read });
  }
  if (now.length > 0) c.fx.read(now, leader.epoch);
  if (leader.reads.length === 0) return;
  if (!leased) c.leases.wait(c.volumeId);
  keepTicking(c, leader);
}

export function releaseReads(c: Copy): void {
  const leader = c.leader;
  if (!leader || leader.reads.length === 0 || !leader.serving) return;
  if (!mayRead(c, leader)) return c.leases.wait(c.volumeId);
  const now: GrantedRead[] = [];
  const later = [];
  for (const waiting of leader.reads) {
    if (!leader.sessions.has(waiting.read.sessionId)) continue;
    // What is read is what the journal holds now, so that writes which came while it waited count as well.
    const seq = waiting.seq > leader.committedSeq ? waiting.seq : lastOverlap(leader.pending, waiting.read);
    if (seq <= leader.committedSeq) now.push(waiting.read);
    else later.push({ seq, read: waiting.read });
  }
  leader.reads = later;
  if (now.length > 0) c.fx.read(now, leader.epoch);
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
