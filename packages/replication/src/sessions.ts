import { blocksTouched, compareGenerations, Frame, FrameKind, isMutation, Op, OpFlag, Status, volumeTag, type SessionMessage } from '@ashlar/protocol';
import { addFlush, advance } from './commit.ts';
import type { GrantedRead } from './effects.ts';
import { keepTicking } from './leading.ts';
import { broadcast } from './peers.ts';
import { askRead } from './reads.ts';
import { opened, refuse } from './session-answers.ts';
import type { Copy, Leader, Session } from './state.ts';

type Open = SessionMessage & { readonly kind: 'open' };

export function onSession(c: Copy, key: number, message: SessionMessage): void {
  const leader = c.leader;
  if (message.kind === 'open' && message.epoch === 0) return openCopyRead(c, key, message);
  if (message.kind === 'requests' && message.frame.epoch === 0) return readCopy(c, key, message.frame);
  if (message.kind === 'probe' && message.epoch === 0) return c.fx.answer(key, { kind: 'alive', sessionId: key, epoch: 0, sentAtMs: message.sentAtMs });
  if (!leader) return c.fx.answer(key, { kind: 'refused', sessionId: key, epoch: c.durable.configuration?.epoch ?? 0, reason: 'not-primary' });
  switch (message.kind) {
    case 'open': return onOpen(c, leader, key, message);
    case 'requests': return onRequests(c, leader, key, message.frame);
    case 'close':
      leader.sessions.delete(key);
      leader.opens.delete(key);
      return;
    case 'probe': return onProbe(c, leader, key, message.sentAtMs);
  }
}

/** A host that asks after a session that is gone has lost the word of it. */
function onProbe(c: Copy, leader: Leader, key: number, sentAtMs: number): void {
  if (!leader.sessions.has(key) && !leader.opens.has(key)) return refuse(c, leader, key, 'gap');
  c.fx.answer(key, { kind: 'alive', sessionId: key, epoch: leader.epoch, sentAtMs });
}

export function onSessionGone(c: Copy, key: number): void {
  c.leader?.sessions.delete(key);
  c.leader?.opens.delete(key);
}

/** A session belongs to one epoch: one that is meant for another must hear of the new configuration first. */
function onOpen(c: Copy, leader: Leader, key: number, message: Open): void {
  if (message.epoch !== leader.epoch) return refuse(c, leader, key, 'not-primary');
  if (!leader.serving) {
    leader.opens.set(key, message);
    return keepTicking(c, leader);
  }
  if (message.readOnly) {
    const session: Session = { key, readOnly: true, generation: message.generation, nextFrame: 1, appliedThrough: 0, open: true };
    leader.sessions.set(key, session);
    return opened(c, leader, session);
  }
  if (message.generation.attachNumber < leader.configuration.attachNumber) return refuse(c, leader, key, 'old-attach');
  if (message.generation.attachNumber > leader.configuration.attachNumber) {
    c.fx.tell({ kind: 'ask', volumeId: c.volumeId, epoch: leader.epoch });
    return refuse(c, leader, key, 'not-serving');
  }
  const order = compareGenerations(message.generation, leader.newest);
  const known = leader.sessions.get(key);
  if (order === 0 && known && !known.readOnly) {
    if (known.open) opened(c, leader, known); // our answer was lost
    return;
  }
  if (order <= 0) return refuse(c, leader, key, 'old-session');
  record(c, leader, key, message);
}

/** The generation goes into the journal before anything is answered to it, so that a successor refuses the older ones as well. */
function record(c: Copy, leader: Leader, key: number, message: Open): void {
  for (const [other, session] of leader.sessions) if (!session.readOnly) refuse(c, leader, other, 'old-session');
  const { attachNumber } = message.generation;
  const appliedThrough = c.log.session.attachNumber === attachNumber ? c.log.session.appliedThrough : 0;
  const session: Session = { key, readOnly: false, generation: message.generation, nextFrame: 1, appliedThrough, open: false };
  leader.sessions.set(key, session);
  leader.newest = message.generation;
  if (c.durable.fault) {
    // The last copy, and its disk has failed: nothing can be recorded, and nothing is written in this session either.
    session.open = true;
    return opened(c, leader, session);
  }
  const frame = newRecord(c, leader, session, 1, 0, undefined);
  frame.number = appliedThrough;
  frame.setOperation(0, 0, Op.session, 0, 0, 0, 0, 0);
  append(c, leader, session, frame, null, [], []);
  advance(c, leader);
}

/** Sessions that were opened before this copy served. Called at the end of every turn. */
export function answerOpens(c: Copy, leader: Leader): void {
  if (leader.opens.size === 0 || !leader.serving) return;
  const opens = [...leader.opens];
  leader.opens.clear();
  for (const [key, message] of opens) onOpen(c, leader, key, message);
}

/** A frame of requests: reads go by what is committed now, writes become one record. */
function onRequests(c: Copy, leader: Leader, key: number, frame: Frame): void {
  const session = leader.sessions.get(key);
  if (!session?.open) return refuseStray(c, leader, key, frame);
  if (frame.epoch !== leader.epoch || frame.attachNumber !== session.generation.attachNumber || frame.sessionCount !== session.generation.count) {
    c.counts.refusedSessions++;
    return;
  }
  if (frame.number < session.nextFrame) return; // repeated by the link
  if (frame.number > session.nextFrame) return refuse(c, leader, key, 'gap');
  session.nextFrame++;
  const reads: GrantedRead[] = [];
  const writes: number[] = [];
  const fua: number[] = [];
  const flushes: number[] = [];
  const done: number[] = [];
  const invalid: number[] = [];
  const { sizeBytes } = leader.configuration;
  const { count } = frame;
  for (let i = 0; i < count; i++) {
    const op = frame.op(i);
    if (op === Op.flush) flushes.push(i);
    else if (op === Op.session || frame.offsetBytes(i) + frame.lengthBytes(i) > sizeBytes) invalid.push(i);
    else if (op === Op.read || op === Op.status) reads.push({ sessionId: key, frame, index: i });
    else if (op === Op.cache) done.push(i);
    else if (session.readOnly) invalid.push(i);
    else if (frame.requestNumber(i) <= session.appliedThrough && c.durable.fault === null) {
      c.counts.deduplicatedRetries++;
      (frame.opFlags(i) & OpFlag.fua ? flushes : done).push(i);
    } else if (frame.opFlags(i) & OpFlag.fua) fua.push(i);
    else writes.push(i);
  }
  if (invalid.length > 0) c.fx.reply(key, leader.epoch, frame, invalid, Status.invalid);
  if (done.length > 0) c.fx.reply(key, leader.epoch, frame, done, Status.ok);
  // Reads first: they need not wait for the writes that came beside them, unless they were asked for after one that they overlap.
  const changes = c.durable.fault ? [] : [...writes, ...fua];
  const behind = changes.length > 0 ? reads.filter(({ index }) => changes.some((i) => i < index && overlap(frame, i, index))) : [];
  const ahead = behind.length > 0 ? reads.filter((read) => !behind.includes(read)) : reads;
  if (ahead.length > 0) askRead(c, leader, ahead);
  if (c.durable.fault && writes.length + fua.length + flushes.length > 0) return c.fx.reply(key, leader.epoch, frame, [...writes, ...fua, ...flushes], Status.ioError);
  if (writes.length + fua.length > 0) append(c, leader, session, logFrame(c, leader, session, frame, writes, fua), frame, writes, fua);
  if (behind.length > 0) askRead(c, leader, behind);
  if (flushes.length > 0) addFlush(c, leader, { seq: c.log.lastSeq, session, request: frame, indexes: flushes });
  if (writes.length + fua.length + flushes.length > 0) advance(c, leader);
}

function overlap(frame: Frame, a: number, b: number): boolean {
  const [from, to] = [frame.offsetBytes(a), frame.offsetBytes(b)];
  return from < to + frame.lengthBytes(b) && to < from + frame.lengthBytes(a);
}

/** The order is what makes it safe: the journal first, then the mirrors, then (when they have it) the answer. */
function append(c: Copy, leader: Leader, session: Session, record: Frame, request: Frame | null, indexes: readonly number[], fua: readonly number[]): void {
  const { firstSeq, lastSeq } = record;
  leader.pending.push({ firstSeq, lastSeq, session, request, indexes, fua, record });
  c.fx.append(record);
  broadcast(c, leader, record);
  if (leader.required.length > 0 && !leader.ticking) keepTicking(c, leader);
}

function newRecord(c: Copy, leader: Leader, session: Session, count: number, blocks: number, payload: Uint8Array | undefined): Frame {
  const frame = Frame.create(FrameKind.log, count, blocks, payload);
  frame.setVolumeTag(volumeTag(c.volumeId));
  frame.epoch = leader.epoch;
  frame.senderEpoch = leader.epoch;
  frame.firstSeq = c.log.lastSeq + 1;
  frame.lineage = c.log.lineage;
  frame.attachNumber = session.generation.attachNumber;
  frame.sessionCount = session.generation.count;
  frame.committedSeq = leader.committedSeq;
  return frame;
}

/** The changes of a request frame as a record: a new head over the same payload. */
function logFrame(c: Copy, leader: Leader, session: Session, request: Frame, writes: readonly number[], fua: readonly number[]): Frame {
  let blocks = 0;
  let hasBytes = false;
  const { count } = request;
  const { sizeBytes } = leader.configuration;
  for (let i = 0; i < count; i++) {
    if (request.op(i) !== Op.write || !taken(request, i, session, sizeBytes)) continue;
    blocks += blocksTouched(request.offsetBytes(i), request.lengthBytes(i));
    hasBytes = true;
  }
  const record = newRecord(c, leader, session, writes.length + fua.length, blocks, hasBytes ? request.payload : undefined);
  let k = 0;
  let crcs = 0;
  let highest = 0;
  for (let i = 0; i < count; i++) {
    const op = request.op(i);
    if (!isMutation(op) || op === Op.session || !taken(request, i, session, sizeBytes)) continue;
    const offset = request.offsetBytes(i);
    const length = request.lengthBytes(i);
    const number = request.requestNumber(i);
    record.setOperation(k++, number, op, request.opFlags(i), offset, length, op === Op.write ? request.payloadAt(i) : 0, crcs);
    if (op === Op.write) {
      const from = request.crcIndex(i);
      const n = blocksTouched(offset, length);
      for (let b = 0; b < n; b++) record.setCrc(crcs++, request.crc(from + b));
    }
    highest = number;
  }
  record.number = highest;
  return record;
}

function taken(request: Frame, i: number, session: Session, sizeBytes: number): boolean {
  return request.requestNumber(i) > session.appliedThrough && request.offsetBytes(i) + request.lengthBytes(i) <= sizeBytes;
}

/** `attach --copy`: this copy's own bytes, whatever its role. Reads only, and bound to no epoch. */
function openCopyRead(c: Copy, key: number, message: Open): void {
  if (!message.readOnly) return c.fx.answer(key, { kind: 'refused', sessionId: key, epoch: 0, reason: 'not-primary' });
  c.fx.answer(key, { kind: 'opened', sessionId: key, epoch: 0, generation: message.generation, sizeBytes: c.log.sizeBytes, appliedThrough: 0 });
}

function readCopy(c: Copy, key: number, frame: Frame): void {
  const reads: GrantedRead[] = [];
  const rest: number[] = [];
  for (let i = 0; i < frame.count; i++) {
    const op = frame.op(i);
    const inside = frame.offsetBytes(i) + frame.lengthBytes(i) <= c.log.sizeBytes;
    if ((op === Op.read || op === Op.status) && inside) reads.push({ sessionId: key, frame, index: i });
    else rest.push(i);
  }
  if (rest.length > 0) c.fx.reply(key, 0, frame, rest, Status.invalid);
  if (reads.length > 0) c.fx.read(reads, 0, 0);
}

/** Requests of a session that is not open here: a dead one's late writes, or one whose opening was lost. */
function refuseStray(c: Copy, leader: Leader, key: number, frame: Frame): void {
  const older = compareGenerations({ attachNumber: frame.attachNumber, count: frame.sessionCount }, leader.newest) < 0;
  refuse(c, leader, key, older ? 'old-session' : 'gap');
}
