import type { RefusalReason } from '@ashlar/protocol';
import type { Copy, Leader, Session } from './state.ts';

/** This session is over; its host must open another, or look elsewhere. */
export function refuse(c: Copy, leader: Leader, key: number, reason: RefusalReason): void {
  if (reason === 'old-session' || reason === 'old-attach') c.counts.refusedSessions++;
  leader.sessions.delete(key);
  c.fx.answer(key, { kind: 'refused', sessionId: key, epoch: leader.epoch, reason });
}

/** All of them, with everything that they still wait for. */
export function refuseSessions(c: Copy, leader: Leader, reason: RefusalReason, epoch: number): void {
  for (const key of new Set([...leader.sessions.keys(), ...leader.opens.keys()])) c.fx.answer(key, { kind: 'refused', sessionId: key, epoch, reason });
  leader.sessions.clear();
  leader.opens.clear();
  leader.reads = [];
  c.fx.dropReads();
  leader.flushes = [];
}

/** Its record is committed: from here on no older session can have anything applied. */
export function openedNow(c: Copy, leader: Leader, session: Session): void {
  if (leader.sessions.get(session.key) !== session || session.open) return;
  session.open = true;
  opened(c, leader, session);
}

export function opened(c: Copy, leader: Leader, session: Session): void {
  c.fx.answer(session.key, {
    kind: 'opened', sessionId: session.key, epoch: leader.epoch, generation: session.generation, sizeBytes: leader.configuration.sizeBytes, appliedThrough: session.appliedThrough,
  });
}

