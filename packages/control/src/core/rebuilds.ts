import { primaryOf, type RebuildBudget } from '@ashlar/protocol';
import { AshlarError, type ServerId } from '@ashlar/words';
import { leavingCopies } from './moves.ts';
import { place, type PlacementRequest, type PlacementServer } from './placement.ts';
import { isFaulted, isStuck, reportOf } from './promotion.ts';
import { isDown, isUp, shownState } from './servers.ts';
import { note, reconfigured } from './store-access.ts';
import { changeAndPush, discardFrom, involvedIn, NO_EPOCH } from './telling.ts';
import { mayBeginRebuild } from './turns.ts';
import { eventOf, serverOf, type Manager, type RebuildWish, type Volume } from './state.ts';

/** A primary is told its share again after so long while it fills: a link may have lost it. */
const TELL_AGAIN_MS = 2000;

export function rebuildBudget(m: Manager): RebuildBudget {
  return m.rebuildBudget ?? { bytesPerSecond: 0, atOnce: m.options.rebuildsMax };
}

/** As many new copies as the budget has room for: first for volumes that have the fewest, then for those that wait longest. */
export function beginRebuilds(m: Manager): void {
  // After the loss of a server thousands of volumes may wait for their next primaries, each of which brings us here.
  if (!mayBeginRebuild(m) || !somebodyIsReady(m)) return;
  let room = rebuildBudget(m).atOnce - rebuildsRunning(m);
  if (room <= 0) return;
  const wishes = [...m.rebuildsWanted].sort(([a, first], [b, second]) => first.copies - second.copies || Number(second.ready) - Number(first.ready) || first.sinceMs - second.sinceMs || (a < b ? -1 : 1));
  const servers = placementServers(m);
  let begun = false;
  for (const [id, wish] of wishes) {
    if (room <= 0 || !mayBeginRebuild(m)) break;
    const v = m.volumes.get(id);
    if (v?.pending === true || !wish.ready) {
      // An attachment, say, or a primary that is about to serve, which takes milliseconds: nobody with more copies takes its turn for that.
      room -= 1;
      continue;
    }
    m.rebuildsWanted.delete(id);
    if (v === undefined || v.gone || !begin(m, v, wish, servers)) continue;
    m.rebuildsBegun.take();
    begun = true;
    room -= 1;
  }
  // Nobody could begin: looked at again when the next turn comes, not at the next message.
  if (!begun) m.rebuildsBegun.take();
}

function somebodyIsReady(m: Manager): boolean {
  for (const [id, wish] of m.rebuildsWanted) if (wish.ready && m.volumes.get(id)?.pending !== true) return true;
  return false;
}

function begin(m: Manager, v: Volume, wish: RebuildWish, servers: PlacementServer[]): boolean {
  const id = wish.to ?? findPlace(m, v, wish, servers);
  if (id === null) return false;
  // The others are told to make room before it begins.
  shareRebuildBudget(m, v);
  // The next one is placed before the store has this one.
  const at = servers.findIndex((server) => server.serverId === id);
  const server = servers[at];
  if (server !== undefined) servers[at] = { ...server, copies: server.copies + 1 };
  v.beginsRebuild = true;
  m.learning.add(v);
  v.built.add(id);
  addLearner(m, v, id, wish.why, () => { v.beginsRebuild = false; });
  return true;
}

export function addLearner(m: Manager, v: Volume, id: ServerId, reason: string, then?: () => void): void {
  const record = reconfigured(v.record, { learners: [...v.record.configuration.learners, id] });
  changeAndPush(m, v, record, [eventOf(m, 'learner-added', v.volumeId, reason, { epoch: record.configuration.epoch, serverId: id })], then);
}

/** A copy in a rack that has one, or on another kind of disk, is better than none, and is said. One that only moves stays where it is instead. */
function findPlace(m: Manager, v: Volume, wish: RebuildWish, servers: readonly PlacementServer[]): ServerId | null {
  const { configuration, holders } = v.record;
  const involved = involvedIn(configuration);
  const leaving = leavingCopies(m, v);
  const stay = involved.filter((id) => !leaving.has(id) && !isDown(m, serverOf(m, id)));
  const strict: PlacementRequest = { siteId: v.record.siteId, count: 1, exclude: [...new Set([...involved, ...holders])], apartFrom: stay, disk: v.record.disk };
  try {
    return place(strict, servers)[0] as ServerId;
  } catch (error) {
    if (!(error instanceof AshlarError)) throw error;
    const [next] = wish.copies < configuration.copiesWanted ? relaxed(strict, servers) : [];
    if (next !== undefined) {
      note(m, [eventOf(m, 'copy-misplaced', v.volumeId, `no server meets everything that is asked: ${error.message}`, { serverId: next })]);
      return next;
    }
    nowhere(m, v, error.message);
    return null;
  }
}

function relaxed(strict: PlacementRequest, servers: readonly PlacementServer[]): readonly ServerId[] {
  try {
    return place({ ...strict, apartFrom: [], disk: null }, servers);
  } catch (error) {
    if (error instanceof AshlarError) return [];
    throw error;
  }
}

function nowhere(m: Manager, v: Volume, why: string): void {
  // A server that is up and reports nothing has lost its files, or has not said yet how its copies stand: once it has said that it has none, it can take a new copy.
  const involved = involvedIn(v.record.configuration);
  const silent = v.record.holders.filter((id) => !involved.includes(id) && isUp(m, serverOf(m, id)) && reportOf(m, v, id) === undefined);
  if (silent.length > 0) discardFrom(m, v, silent, NO_EPOCH);
  if (!v.stuckTold) note(m, [eventOf(m, 'no-server-for-copy', v.volumeId, why)]);
  v.stuckTold = true;
}

/** Copies being built, over all volumes. */
export function rebuildsRunning(m: Manager): number {
  return sum(filling(m).values());
}

/**
 * How many copies of each volume are being built. One that has just been asked for counts too, or all would begin before the first has said that it has. One
 * that only catches up is not held back, and holds nobody up; nor does one whose server is down, or that has nothing to be filled from.
 */
function filling(m: Manager): Map<Volume, number> {
  const counts = new Map<Volume, number>();
  for (const v of m.learning) {
    if (v.gone || v.record.state === 'deleting' || (v.record.configuration.learners.length === 0 && !v.beginsRebuild)) {
      v.built.clear();
      m.learning.delete(v);
      continue;
    }
    const count = fillingOf(m, v);
    if (count > 0) counts.set(v, count);
  }
  return counts;
}

function fillingOf(m: Manager, v: Volume): number {
  const { learners } = v.record.configuration;
  if (isStuck(m, v)) return Number(v.beginsRebuild);
  // A new copy says that it catches up before it is filled, and when it is.
  const isFilled = (id: ServerId): boolean => v.built.has(id) || v.status?.copies.find((copy) => copy.serverId === id)?.state === 'rebuilding';
  return learners.filter((id) => isFilled(id) && !isDown(m, serverOf(m, id)) && !isFaulted(m, v, id)).length + Number(v.beginsRebuild);
}

/** Every copy that is filled gets the same share of the budget; its primary is told when that changes. `beginning`: this one has one more in a moment. */
export function shareRebuildBudget(m: Manager, beginning: Volume | null = null): void {
  const { bytesPerSecond } = rebuildBudget(m);
  const fills = filling(m);
  if (beginning !== null) fills.set(beginning, (fills.get(beginning) ?? 0) + 1);
  const running = sum(fills.values());
  for (const [v, count] of fills) tellFillRate(m, v, bytesPerSecond === 0 ? 0 : Math.max(1, Math.floor((bytesPerSecond * count) / running)));
}

function sum(counts: Iterable<number>): number {
  return [...counts].reduce((all, count) => all + count, 0);
}

/** Also that there is no limit, once: an earlier life of the manager may have told of one. */
function tellFillRate(m: Manager, v: Volume, bytesPerSecond: number): void {
  const { epoch } = v.record.configuration;
  const told = v.fillRate;
  if (told?.epoch === epoch && told.bytesPerSecond === bytesPerSecond && (bytesPerSecond === 0 || m.nowMs - told.toldMs < TELL_AGAIN_MS)) return;
  v.fillRate = { epoch, bytesPerSecond, toldMs: m.nowMs };
  m.fx.toServer(primaryOf(v.record.configuration), { kind: 'fill-rate', volumeId: v.volumeId, bytesPerSecond });
}

export function placementServers(m: Manager): PlacementServer[] {
  const primaries = new Map<ServerId, number>();
  for (const v of m.volumes.values()) {
    const primary = primaryOf(v.record.configuration);
    primaries.set(primary, (primaries.get(primary) ?? 0) + 1);
  }
  return [...m.servers.values()].flatMap((server) => (server.record === null ? [] : [{
    serverId: server.serverId, state: shownState(m, server), siteId: server.record.siteId, rack: server.record.rack,
    disk: server.record.disk, capacityBytes: server.record.capacityBytes, usedBytes: server.record.usedBytes, copies: server.volumes.size, primaries: primaries.get(server.serverId) ?? 0,
    requestsPerSecond: server.requestsPerSecond, diskFailed: server.directories.some((directory) => directory.health === 'failed'),
  } satisfies PlacementServer]));
}
