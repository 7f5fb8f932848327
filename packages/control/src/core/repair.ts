import { memberOf, primaryOf } from '@ashlar/protocol';
import { AshlarError, type ServerId } from '@ashlar/words';
import { place, type PlacementServer } from './placement.ts';
import { isLost, isPromotable, reportOf } from './promotion.ts';
import { allInSync, changeAndPush, discardFrom, involvedIn } from './telling.ts';
import { isDown, isUp } from './servers.ts';
import { note, reconfigured } from './store-access.ts';
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

/** Keeps as many copies in sync as are wanted: learners are added, replaced and removed, and what is superfluous is discarded. */
export function repair(m: Manager, v: Volume): void {
  const { configuration, state } = v.record;
  if (state === 'creating') return;
  const usable = configuration.members.filter((member) => isUsable(m, v, member.serverId));
  const deficit = configuration.copiesWanted - usable.length;
  if (deficit <= 0) {
    v.deficitSinceMs = null;
    removeSuperfluous(m, v);
    return;
  }
  // A disk that fails keeps no promise of another epoch: as it is, the last copy goes on answering verified reads.
  if (isFaulted(m, v, primaryOf(configuration))) return;
  v.deficitSinceMs ??= m.nowMs;
  discardUseless(m, v);
  // A volume without a primary at work has nothing to be filled from. One that waits for a member which the minimum does not let go can fill another.
  if (v.status?.epoch !== configuration.epoch || (!v.status.serving && configuration.members.length > configuration.minCopies)) return;
  if (dropUnreachable(m, v)) return;
  const returned = configuration.learners.length <= deficit ? returnedHolder(m, v) : null;
  if (returned !== null) return addLearner(m, v, returned, 'it is back, and catches up');
  const learning = configuration.learners.filter((id) => !isDown(m, serverOf(m, id)) && !isFaulted(m, v, id)).length;
  if (learning < deficit && m.nowMs - v.deficitSinceMs >= delayMs(m, v)) placeLearner(m, v);
}

/** Counts as a copy: not gone, not faulted, not lost. One that has not reported yet is not held against it. */
function isUsable(m: Manager, v: Volume, id: ServerId): boolean {
  if (isDown(m, serverOf(m, id)) || isFaulted(m, v, id) || slowCopy(m, v) === id) return false;
  const member = memberOf(v.record.configuration, id);
  const report = reportOf(m, v, id);
  return member === undefined || report === undefined || !isLost(v, member, report);
}

/**
 * The one member that has been reported slow of late. It stays until its replacement is in sync; when several are slow at once the cause
 * is not in one of them, and nothing is replaced.
 */
function slowCopy(m: Manager, v: Volume): ServerId | null {
  for (const [id, toldMs] of v.slow) if (m.nowMs - toldMs > m.options.slowMs || memberOf(v.record.configuration, id) === undefined) v.slow.delete(id);
  if (v.slow.size !== 1) return null;
  for (const other of m.volumes.values()) for (const id of other.slow.keys()) if (!v.slow.has(id)) return null;
  return v.slow.keys().next().value ?? null;
}

export function isFaulted(m: Manager, v: Volume, id: ServerId): boolean {
  return (reportOf(m, v, id)?.fault ?? null) !== null;
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
  const back = v.record.holders.find((id) => !involved.includes(id) && isUp(m, serverOf(m, id)) && reportOf(m, v, id) !== undefined && !isFaulted(m, v, id));
  return back ?? null;
}

function addLearner(m: Manager, v: Volume, id: ServerId, reason: string): void {
  const record = reconfigured(v.record, { learners: [...v.record.configuration.learners, id] });
  changeAndPush(m, v, record, [eventOf(m, 'learner-added', v.volumeId, reason, { epoch: record.configuration.epoch, serverId: id })]);
}

function placeLearner(m: Manager, v: Volume): void {
  if (rebuildsRunning(m) >= m.options.rebuildsMax) return;
  const exclude = [...new Set([...involvedIn(v.record.configuration), ...v.record.holders])];
  try {
    const [id] = place({ siteId: v.record.siteId, count: 1, exclude }, placementServers(m));
    addLearner(m, v, id as ServerId, 'a copy is missing; a new one is built');
  } catch (error) {
    if (!(error instanceof AshlarError)) throw error;
    // A server that is up and reports nothing has lost its files: once it has said so, it can take a new copy.
    const emptied = v.record.holders.filter((id) => !involvedIn(v.record.configuration).includes(id) && isUp(m, serverOf(m, id)) && reportOf(m, v, id) === undefined);
    if (emptied.length > 0) discardFrom(m, v, emptied);
    if (!v.stuckTold) note(m, [eventOf(m, 'no-server-for-copy', v.volumeId, error.message)]);
    v.stuckTold = true;
  }
}

/** Copies being built, over all volumes. One that only catches up is not held back. */
function rebuildsRunning(m: Manager): number {
  let running = 0;
  for (const id of m.unsettled) {
    const v = m.volumes.get(id);
    if (v?.status?.copies.some((copy) => copy.state === 'rebuilding' && v.record.configuration.learners.includes(copy.serverId))) running++;
  }
  return running;
}

export function placementServers(m: Manager): PlacementServer[] {
  const primaries = new Map<ServerId, number>();
  for (const v of m.volumes.values()) {
    const primary = primaryOf(v.record.configuration);
    primaries.set(primary, (primaries.get(primary) ?? 0) + 1);
  }
  return [...m.servers.values()].flatMap((server) => (server.record === null ? [] : [{
    serverId: server.serverId, state: server.record.state === 'draining' ? 'draining' : isUp(m, server) ? 'up' : 'down', siteId: server.record.siteId, rack: server.record.rack,
    capacityBytes: server.record.capacityBytes, usedBytes: server.record.usedBytes, copies: server.volumes.size, primaries: primaries.get(server.serverId) ?? 0,
  } satisfies PlacementServer]));
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

/** A faulted copy without a role is of no use to anybody: discarded, its server can take a new one. */
function discardUseless(m: Manager, v: Volume): void {
  const involved = involvedIn(v.record.configuration);
  const useless = v.record.holders.filter((id) => !involved.includes(id) && isFaulted(m, v, id));
  if (useless.length > 0) discardFrom(m, v, useless);
}

/** Enough copies are in sync: learners and former copies go, then members beyond the number wanted. */
function removeSuperfluous(m: Manager, v: Volume): void {
  const { configuration, holders } = v.record;
  if (!allInSync(v)) return;
  if (configuration.learners.length > 0) {
    const record = reconfigured(v.record, { learners: [] });
    changeAndPush(m, v, record, [eventOf(m, 'learner-removed', v.volumeId, 'enough copies are in sync', { epoch: record.configuration.epoch, serverId: configuration.learners.join(' ') })]);
    return;
  }
  if (configuration.members.length > configuration.copiesWanted && configuration.members.every((member) => isPromotable(m, v, member) === true)) {
    const removed = slowCopy(m, v) ?? (configuration.members.at(-1) as { serverId: ServerId }).serverId;
    const members = configuration.members.filter((member) => member.serverId !== removed);
    const record = reconfigured(v.record, { members });
    changeAndPush(m, v, record, [eventOf(m, 'copy-removed', v.volumeId, 'more copies than wanted are in sync', { epoch: record.configuration.epoch, serverId: removed })]);
    return;
  }
  const involved = involvedIn(configuration);
  const former = holders.filter((id) => !involved.includes(id));
  if (former.length > 0) discardFrom(m, v, former);
}
