import { memberOf, primaryOf } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { candidate, isFaulted, predecessorEnded, promotionNeed, recovery, reportOf, type Recovery } from './promotion.ts';
import { driveAttachments } from './attachments.ts';
import { keepTurn, repair } from './repair.ts';
import { isUp } from './servers.ts';
import { acts } from './standing.ts';
import { change, note, reconfigured, remove } from './store-access.ts';
import { allInSync, changeAndPush, configure, discardFrom, forgetLost, involvedIn, NO_EPOCH, push } from './telling.ts';
import { mayChangeNow } from './turns.ts';

/** Its primary speaks to a copy that is behind as well, so that this is seldom needed. */
const NUDGE_REPEATS = 4;
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

/**
 * Brings one volume one step nearer to what is wanted. Everything is derived from the record and from what is observed now, so that a
 * manager that was ended at any point goes on where it was. At most one change is under way at a time; its outcome brings us here again.
 */
export function reconcile(m: Manager, v: Volume): void {
  m.unsettled.look(v.volumeId);
  if (v.complaint !== null && m.nowMs - v.complaint.lastMs > m.options.complaintMs) v.complaint = null;
  answerWaiters(m, v);
  if (!acts(m) || v.pending || v.gone || m.nowMs < v.retryAtMs) return;
  if (v.record.state === 'deleting') {
    m.rebuildsWanted.delete(v.volumeId);
    return driveDeletion(m, v);
  }
  if (drivePromotion(m, v) || v.pending) return keepTurn(m, v);
  pushUntilConfirmed(m, v);
  nudgeLaggards(m, v);
  driveAttachments(m, v);
  if (!v.pending) becomeAvailable(m, v);
  if (!v.pending) repair(m, v, (to, reason) => promote(m, v, to, reason, 'manager'));
  if (!v.pending && !v.gone && isSettled(m, v)) m.unsettled.delete(v.volumeId);
}

/** Nothing is left to do until somebody says something. */
function isSettled(m: Manager, v: Volume): boolean {
  const { configuration } = v.record;
  if (v.record.state === 'creating' || v.record.move !== null || v.waiters.length > 0 || v.complaint !== null || v.reportedMs !== null || v.deficitSinceMs !== null) return false;
  if (v.status?.epoch !== configuration.epoch || !v.status.serving || configuration.learners.length > 0 || configuration.members.length !== configuration.copiesWanted) return false;
  if (v.record.attachments.some((attachment) => attachment.state !== 'attached')) return false;
  return v.record.holders.length === configuration.members.length && configuration.members.every((member) => isUp(m, serverOf(m, member.serverId)));
}

function answerWaiters(m: Manager, v: Volume): void {
  if (v.waiters.length === 0) return;
  v.waiters = v.waiters.filter((waiter) => {
    const late = m.nowMs >= waiter.deadlineMs;
    const answer = waiter.check(v) ?? (late ? { ok: false as const, code: 'timeout' as const, message: `${v.volumeId} is not there yet${faultsOf(m, v)}` } : null);
    if (answer !== null) m.fx.answer(waiter.requestId, answer);
    return answer === null;
  });
}

function faultsOf(m: Manager, v: Volume): string {
  return v.record.configuration.members.filter(({ serverId }) => isFaulted(m, v, serverId)).map(({ serverId }) => `; the copy on ${serverId} is faulted: ${reportOf(m, v, serverId)?.fault}`).join('');
}

// ---------------------------------------------------------------------------------------------------------------- promotion

/** True: this step was about the primary. */
function drivePromotion(m: Manager, v: Volume): boolean {
  const need = promotionNeed(m, v);
  if (need === null) return waitAgain(m, v);
  const before = primaryOf(v.record.configuration);
  const next = candidate(m, v, need.exclude ? before : null);
  if (next !== null) {
    // Whoever stops a server waits for it to hand over.
    if (!serverOf(m, before).leaving && !mayChangeNow(m, v, m.promotions)) {
      v.unservedSinceMs = null;
      return true;
    }
    if (need.unconfirmed) v.unconfirmed++;
    promote(m, v, next.serverId, need.reason, 'manager');
    return true;
  }
  const recovered = recovery(m, v);
  if (recovered !== null) {
    recover(m, v, recovered);
    return true;
  }
  if (!v.stuckTold) note(m, [eventOf(m, 'no-promotable-copy', v.volumeId, `${before}: ${need.reason}; no other copy in sync may take over`)]);
  v.stuckTold = true;
  return false;
}

/** Whoever was given up, for a recovery that was not needed then, is waited for on the day on which it has what the others lack. True: the record is being changed. */
function waitAgain(m: Manager, v: Volume): boolean {
  if (v.record.givenUp.length === 0 || v.status?.epoch !== v.record.configuration.epoch || !v.status.serving) return false;
  change(m, v, { ...v.record, givenUp: [] }, []);
  return true;
}

/** CAS: the next epoch, with this member first and the former primary last. Only after that anybody is told. Whoever was given up before is waited for again the next time. */
export function promote(m: Manager, v: Volume, to: ServerId, reason: string, source: string, then?: () => void): void {
  const { configuration } = v.record;
  const before = primaryOf(configuration);
  const first = configuration.members.filter((member) => member.serverId === to);
  const rest = configuration.members.filter((member) => member.serverId !== to && member.serverId !== before);
  const last = before === to ? [] : configuration.members.slice(0, 1);
  const proven = predecessorEnded(m, v);
  const record = { ...reconfigured(v.record, { members: [...first, ...rest, ...last] }), predecessorEnded: proven, primaryInstance: serverOf(m, to).record?.instance ?? '', givenUp: [] };
  const detail = { epoch: record.configuration.epoch, from: before, to, ended: proven };
  v.stuckTold = false;
  changeAndPush(m, v, record, [eventOf(m, 'promoted', v.volumeId, `${before}: ${reason}`, detail, source)], then);
}

function recover(m: Manager, v: Volume, { winner, answered, givenUp }: Recovery): void {
  const { configuration } = v.record;
  const winnerId = [...m.servers.values()].find((server) => server.reports.get(v.volumeId) === winner)?.serverId as ServerId;
  const members = [{ serverId: winnerId, incarnation: winner.incarnation }, ...configuration.members.filter((member) => member.serverId !== winnerId)];
  const record = { ...reconfigured(v.record, { members }), predecessorEnded: false, primaryInstance: serverOf(m, winnerId).record?.instance ?? '', givenUp: [] };
  const reason = `every copy in sync lost its cache; ${winnerId} has the longest log of ${answered.length} that answered${givenUp.length > 0 ? `, ${givenUp.join(', ')} given up` : ''}: what was written after the last flush may be missing`;
  const detail = { epoch: record.configuration.epoch, to: winnerId, lastEpoch: winner.lastEpoch, lastSeq: winner.lastSeq, givenUp: givenUp.join(' ') };
  changeAndPush(m, v, record, [eventOf(m, 'recovered-after-cache-loss', v.volumeId, reason, detail)]);
}

// ---------------------------------------------------------------------------------------------------------------- telling

/** Links lose what they carry when they break: repeated until the primary says that it leads this epoch. */
function pushUntilConfirmed(m: Manager, v: Volume): void {
  if (v.status?.epoch === v.record.configuration.epoch || m.nowMs - v.pushedMs < m.options.repeatMs) return;
  push(m, v);
}

/** The primary leads, and says of a server that is up that its copy is not in sync: its configuration may have been lost, and with it the order to make that copy. */
function nudgeLaggards(m: Manager, v: Volume): void {
  const { configuration } = v.record;
  if (v.status?.epoch !== configuration.epoch || m.nowMs - Math.max(v.nudgedMs, v.pushedMs) < NUDGE_REPEATS * m.options.repeatMs) return;
  v.nudgedMs = m.nowMs;
  for (const { serverId, state } of v.status.copies) {
    if (state !== 'in-sync' && involvedIn(configuration).includes(serverId) && isUp(m, serverOf(m, serverId))) configure(m, v, serverId);
  }
}

function becomeAvailable(m: Manager, v: Volume): void {
  if (v.record.state !== 'creating' || !allInSync(v)) return;
  change(m, v, { ...v.record, state: 'available' }, [eventOf(m, 'volume-available', v.volumeId, 'all copies have adopted it')]);
}

// ---------------------------------------------------------------------------------------------------------------- deletion

/** Every holder is told to remove its files, until it says that it has; then the record goes. */
function driveDeletion(m: Manager, v: Volume): void {
  if (v.record.holders.length === 0) {
    remove(m, v, [eventOf(m, 'volume-deleted', v.volumeId, 'all copies are removed')]);
    return;
  }
  if (!forgetLost(m, v, v.record.holders)) discardFrom(m, v, v.record.holders);
}

/**
 * A server had no files of it left in that epoch. It may have been given a role, and files, since: only an answer to what is told now counts, and that is said
 * again. In no epoch it had none at all, which counts as long as it has not said otherwise.
 */
export function onDiscarded(m: Manager, v: Volume, from: ServerId, epoch: number): void {
  const { configuration, holders, state } = v.record;
  const hasRole = state !== 'deleting' && (memberOf(configuration, from) !== undefined || configuration.learners.includes(from));
  const counts = epoch === configuration.epoch || (epoch === NO_EPOCH && reportOf(m, v, from) === undefined);
  if (v.pending || hasRole || !counts || !holders.includes(from)) return;
  serverOf(m, from).reports.delete(v.volumeId);
  const record = { ...v.record, holders: holders.filter((holder) => holder !== from) };
  change(m, v, record, [eventOf(m, 'copy-discarded', v.volumeId, state === 'deleting' ? 'the volume is being deleted' : 'superfluous', { serverId: from })]);
}
