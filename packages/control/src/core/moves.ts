import { memberOf, primaryOf } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { isFaulted, isPromotable } from './promotion.ts';
import { isDown } from './servers.ts';
import { change, reconfigured } from './store-access.ts';
import { involvedIn } from './telling.ts';
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

/**
 * Copies that go elsewhere on order: one that is moved, and all on servers that are drained. They stay members, and are read and written, until as many
 * others as are wanted are in sync. What is under way is seen from the record alone, so that a manager that was ended at any point goes on with it.
 */
export function leavingCopies(m: Manager, v: Volume): ReadonlySet<ServerId> {
  const { configuration, move } = v.record;
  const leaving = new Set<ServerId>();
  if (move !== null && memberOf(configuration, move.from) !== undefined) leaving.add(move.from);
  for (const { serverId } of configuration.members) if (isDrained(m, serverId)) leaving.add(serverId);
  return leaving;
}

export function isDrained(m: Manager, id: ServerId): boolean {
  return serverOf(m, id).record?.draining === true;
}

/** Ends a move that is done, or that cannot be. True: the record is being changed. */
export function endMove(m: Manager, v: Volume): boolean {
  const { configuration, move } = v.record;
  if (move === null) return false;
  const stays = memberOf(configuration, move.from) !== undefined;
  const came = memberOf(configuration, move.to) !== undefined;
  if (!stays && came) return clearMove(m, v, 'copy-moved', 'the new copy is in sync, and the old one has left');
  if (came || configuration.learners.includes(move.to)) return false;
  if (!stays) return clearMove(m, v, 'move-ended', `the copy on ${move.from} left the set by itself`);
  const obstacle = obstacleTo(m, v, move.to);
  return obstacle === null ? false : clearMove(m, v, 'move-ended', `${move.to} cannot take the copy: ${obstacle}`);
}

function obstacleTo(m: Manager, v: Volume, id: ServerId): string | null {
  const server = serverOf(m, id);
  if (server.lost) return 'it is lost';
  if (isDrained(m, id)) return 'it is being drained';
  if (isFaulted(m, v, id)) return 'its copy is faulted';
  return isDown(m, server) ? 'it is down' : null;
}

function clearMove(m: Manager, v: Volume, name: string, reason: string): boolean {
  change(m, v, { ...v.record, move: null }, [eventOf(m, name, v.volumeId, reason, { ...v.record.move })]);
  return true;
}

/** Gives up a move: the learner goes, and everything is as it was. */
export function cancelled(v: Volume): Volume['record'] {
  const { configuration, move } = v.record;
  if (move === null || !configuration.learners.includes(move.to)) return { ...v.record, move: null };
  return reconfigured({ ...v.record, move: null }, { learners: configuration.learners.filter((id) => id !== move.to) });
}

/** The server that a move goes to, as long as it has no role there. */
export function moveTarget(v: Volume): ServerId | null {
  const { configuration, move } = v.record;
  return move === null || involvedIn(configuration).includes(move.to) || memberOf(configuration, move.from) === undefined ? null : move.to;
}

/** Who takes over from a primary that leaves: the copy that came in its stead, else the first that stays. Null: the primary stays, or nobody may. */
export function heir(m: Manager, v: Volume, leaving: ReadonlySet<ServerId>): ServerId | null {
  const { configuration, move } = v.record;
  if (!leaving.has(primaryOf(configuration))) return null;
  const staying = configuration.members.filter((member) => !leaving.has(member.serverId) && isPromotable(m, v, member) === true);
  return (staying.find((member) => member.serverId === move?.to) ?? staying[0])?.serverId ?? null;
}
