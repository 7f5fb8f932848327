import { memberOf, primaryOf, type Member } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { endMove, heir, isDrained, leavingCopies, moveTarget } from './moves.ts';
import { isFaulted, isLost, isPromotable, isStuck, isUnmade, reportOf } from './promotion.ts';
import { addLearner } from './rebuilds.ts';
import { allInSync, changeAndPush, discardFrom, forgetLost, involvedIn } from './telling.ts';
import { isDown, isUp } from './servers.ts';
import { reconfigured } from './store-access.ts';
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

/** One whose primary takes longer to serve is passed by those with more copies. */
const TURN_KEPT_MS = 2000;
/** A server that could not make a copy may be asked again after so long: two epochs for each attempt, while its disk may have got room. */
const UNMADE_AGAIN_MS = 300_000;

/**
 * Keeps as many copies in sync as are wanted: learners are added, replaced and removed, and what is superfluous is discarded. A
 * primary that leaves hands over first.
 */
export function repair(m: Manager, v: Volume, handOver: (to: ServerId, reason: string) => void): void {
  const { configuration, state } = v.record;
  m.rebuildsWanted.delete(v.volumeId);
  if (state === 'creating' || endMove(m, v)) return;
  const { leaving, usable, deficit } = missingOf(m, v);
  if (deficit <= 0) {
    v.deficitSinceMs = null;
    v.unservedSinceMs = null;
    removeSuperfluous(m, v, leaving, handOver);
    return;
  }
  // A disk that fails keeps no promise of another epoch: as it is, the last copy goes on answering verified reads.
  if (isFaulted(m, v, primaryOf(configuration))) return;
  v.deficitSinceMs ??= m.nowMs;
  // Nothing can be filled, and what is left of it anywhere may be all there is.
  if (isStuck(m, v)) return;
  discardUseless(m, v);
  // A volume without a primary at work has nothing to be filled from. One that waits for a member which the minimum does not let go can fill another.
  if (v.status?.epoch !== configuration.epoch || (!v.status.serving && configuration.members.length > configuration.minCopies)) return keepTurn(m, v);
  v.unservedSinceMs = null;
  if (dropUnreachable(m, v)) return;
  // Where a copy only leaves, an older one elsewhere is no reason to go there instead of where it was told to.
  const returned = configuration.learners.length <= deficit && (usable.length < configuration.copiesWanted || moveTarget(v) === null) ? returnedHolder(m, v) : null;
  if (returned !== null) return addLearner(m, v, returned, 'it is back, and catches up');
  wish(m, v, true);
}

/** While its record is being changed, or its next primary does not serve yet, it cannot be filled; nobody with more copies is to take its turn for that. */
export function keepTurn(m: Manager, v: Volume): void {
  m.rebuildsWanted.delete(v.volumeId);
  if (v.record.state === 'creating' || isStuck(m, v)) return;
  v.unservedSinceMs ??= m.nowMs;
  if (m.nowMs - v.unservedSinceMs <= TURN_KEPT_MS) wish(m, v, false);
}

function wish(m: Manager, v: Volume, ready: boolean): void {
  const { configuration } = v.record;
  const { usable, deficit } = missingOf(m, v);
  if (deficit <= 0) return;
  v.deficitSinceMs ??= m.nowMs;
  const missing = usable.length < configuration.copiesWanted;
  const learning = configuration.learners.filter((id) => !isDown(m, serverOf(m, id)) && !isFaulted(m, v, id)).length;
  // Nobody is waited for where copies leave on order only.
  if (learning >= deficit || (missing && m.nowMs - v.deficitSinceMs < delayMs(m, v))) return;
  const why = usable.length + learning < configuration.copiesWanted ? 'a copy is missing; a new one is built' : 'a copy is moved';
  m.rebuildsWanted.set(v.volumeId, { copies: usable.length + learning, sinceMs: v.deficitSinceMs, ready, to: moveTarget(v), why });
}

function missingOf(m: Manager, v: Volume): { readonly leaving: ReadonlySet<ServerId>; readonly usable: readonly Member[]; readonly deficit: number } {
  const { configuration } = v.record;
  const leaving = leavingCopies(m, v);
  const usable = configuration.members.filter((member) => isUsable(m, v, member.serverId));
  return { leaving, usable, deficit: configuration.copiesWanted - usable.filter((member) => !leaving.has(member.serverId)).length };
}

/** Counts as a copy: not gone, not faulted, not lost. One that has not reported yet is not held against it. */
function isUsable(m: Manager, v: Volume, id: ServerId): boolean {
  if (isDown(m, serverOf(m, id)) || isFaulted(m, v, id) || slowCopy(m, v) === id) return false;
  const member = memberOf(v.record.configuration, id);
  const report = reportOf(m, v, id);
  return member === undefined || report === undefined || !isLost(v, member, report);
}

/**
 * The one mirror that has been reported slow of late. It stays until its replacement is in sync; when several are slow at once the cause
 * is not in one of them, and nothing is replaced.
 */
function slowCopy(m: Manager, v: Volume): ServerId | null {
  const { configuration } = v.record;
  // One that became primary acknowledges to nobody: it would be taken out like a mirror, without handing over.
  for (const [id, toldMs] of v.slow) if (m.nowMs - toldMs > m.options.slowMs || memberOf(configuration, id) === undefined || id === primaryOf(configuration)) v.slow.delete(id);
  if (v.slow.size !== 1) return null;
  for (const other of m.volumes.values()) for (const [id, toldMs] of other.slow) if (!v.slow.has(id) && m.nowMs - toldMs <= m.options.slowMs) return null;
  return v.slow.keys().next().value ?? null;
}

/** At once when the copy is known to be lost; else its server is given time to come back, which is cheaper than a new copy. */
function delayMs(m: Manager, v: Volume): number {
  const { configuration, holders } = v.record;
  const missing = holders.filter((id) => id !== primaryOf(configuration) && !isUsable(m, v, id));
  const known = missing.length > 0 && missing.every((id) => isFaulted(m, v, id) || serverOf(m, id).lost);
  // More copies are wanted than there are servers with one that could still be of use: there is nobody to wait for.
  const never = holders.filter((id) => !isFaulted(m, v, id) && !serverOf(m, id).lost).length < configuration.copiesWanted;
  return known || never ? 0 : m.options.rebuildDelayMs;
}

/** A server that holds an older state of the volume and has no role: what it has is worth more than an empty copy. */
function returnedHolder(m: Manager, v: Volume): ServerId | null {
  const involved = involvedIn(v.record.configuration);
  const back = v.record.holders.find((id) => !involved.includes(id) && isUp(m, serverOf(m, id)) && !isDrained(m, id) && reportOf(m, v, id) !== undefined && !isFaulted(m, v, id));
  return back ?? null;
}

/** A learner that stays away is replaced, if another server can take its place. */
function dropUnreachable(m: Manager, v: Volume): boolean {
  const { configuration } = v.record;
  for (const id of v.unreachableSinceMs.keys()) if (!configuration.learners.includes(id) || !isDown(m, serverOf(m, id))) v.unreachableSinceMs.delete(id);
  for (const id of configuration.learners) {
    const gone = isDown(m, serverOf(m, id));
    if (gone && !v.unreachableSinceMs.has(id)) v.unreachableSinceMs.set(id, m.nowMs);
    const sinceMs = v.unreachableSinceMs.get(id);
    const stays = sinceMs !== undefined && m.nowMs - sinceMs >= m.options.learnerPatienceMs;
    if (!isFaulted(m, v, id) && !stays) continue;
    const record = reconfigured(v.record, { learners: configuration.learners.filter((other) => other !== id) });
    changeAndPush(m, v, record, [eventOf(m, 'learner-removed', v.volumeId, stays ? 'unreachable' : 'its copy is faulted', { epoch: record.configuration.epoch, serverId: id })]);
    return true;
  }
  return false;
}

/** A faulted copy without a role is of no use to anybody: discarded, its server can take a new one. One that could not make its files is left alone for a while, or it would be the next to be chosen. */
function discardUseless(m: Manager, v: Volume): void {
  const involved = involvedIn(v.record.configuration);
  const faulted = v.record.holders.filter((id) => !involved.includes(id) && isFaulted(m, v, id));
  for (const id of v.unmadeSinceMs.keys()) if (!faulted.includes(id) || !isUnmade(m, v, id)) v.unmadeSinceMs.delete(id);
  const useless = faulted.filter((id) => {
    if (!isUnmade(m, v, id)) return true;
    // Each has its own time: with one for all, two that cannot would be asked in turn without end.
    if (!v.unmadeSinceMs.has(id)) v.unmadeSinceMs.set(id, m.nowMs);
    return m.nowMs - (v.unmadeSinceMs.get(id) as number) >= UNMADE_AGAIN_MS;
  });
  if (useless.length > 0) discardFrom(m, v, useless);
}

/** Enough copies are in sync: learners and former copies go, then members beyond the number wanted. */
function removeSuperfluous(m: Manager, v: Volume, leaving: ReadonlySet<ServerId>, handOver: (to: ServerId, reason: string) => void): void {
  const { configuration, holders } = v.record;
  if (!allInSync(v)) return;
  if (configuration.learners.length > 0) {
    const record = reconfigured(v.record, { learners: [] });
    changeAndPush(m, v, record, [eventOf(m, 'learner-removed', v.volumeId, 'enough copies are in sync', { epoch: record.configuration.epoch, serverId: configuration.learners.join(' ') })]);
    return;
  }
  if (configuration.members.length > configuration.copiesWanted && configuration.members.every((member) => isPromotable(m, v, member) === true)) {
    const next = heir(m, v, leaving);
    if (next !== null) return handOver(next, 'its copy is moved');
    const removed = configuration.members.slice(1).find((member) => leaving.has(member.serverId))?.serverId ?? slowCopy(m, v) ?? (configuration.members.at(-1) as { serverId: ServerId }).serverId;
    const members = configuration.members.filter((member) => member.serverId !== removed);
    const record = reconfigured(v.record, { members });
    changeAndPush(m, v, record, [eventOf(m, 'copy-removed', v.volumeId, 'more copies than wanted are in sync', { epoch: record.configuration.epoch, serverId: removed })]);
    return;
  }
  const involved = involvedIn(configuration);
  const former = holders.filter((id) => !involved.includes(id));
  if (former.length > 0 && !forgetLost(m, v, former)) discardFrom(m, v, former);
}
