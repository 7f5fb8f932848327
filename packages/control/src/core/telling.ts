import { primaryOf, type Configuration } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { change, type ChangeOutcome } from './store-access.ts';
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

/** Changes the record, and tells everybody whom the former or the new configuration concerns. */
export function changeAndPush(m: Manager, v: Volume, record: Volume['record'], events: Parameters<typeof change>[3], then?: (outcome: ChangeOutcome) => void): void {
  const former = v.record.configuration;
  change(m, v, record, events, (outcome) => {
    if (outcome === 'applied') push(m, v, involvedIn(former));
    then?.(outcome);
  });
}

export function involvedIn(configuration: Configuration): ServerId[] {
  return [...configuration.members.map((member) => member.serverId), ...configuration.learners];
}

/** The primary first: the others hear it from the primary as well. */
export function push(m: Manager, v: Volume, also: readonly ServerId[] = []): void {
  const { configuration } = v.record;
  v.pushedMs = m.nowMs;
  for (const id of new Set([...involvedIn(configuration), ...also])) configure(m, v, id);
  for (const hostId of new Set(v.record.attachments.map((attachment) => attachment.hostId))) m.fx.toHost(hostId, { kind: 'configuration', configuration });
}

export function configure(m: Manager, v: Volume, to: ServerId): void {
  if (to === primaryOf(v.record.configuration) && !isAppointed(m, v)) return;
  m.fx.toServer(to, { kind: 'configure', configuration: v.record.configuration, predecessorEnded: v.record.predecessorEnded, founding: v.record.state === 'creating' });
}

/**
 * Another life of its process than the one that was appointed, or a link on which nobody has said yet which life it is. It must not lead: proof of
 * the end of the appointed one would be taken for its end, and its leases for void. It gets an epoch of its own.
 */
function isAppointed(m: Manager, v: Volume): boolean {
  const { record, greeted } = serverOf(m, primaryOf(v.record.configuration));
  return v.record.primaryInstance === '' || (greeted && record?.instance === v.record.primaryInstance);
}

/** The primary serves, and says that every member is in sync. */
export function allInSync(v: Volume): boolean {
  const { status } = v;
  const { configuration } = v.record;
  if (status === null || status.epoch !== configuration.epoch || !status.serving) return false;
  return configuration.members.slice(1).every((member) => status.copies.some((copy) => copy.serverId === member.serverId && copy.state === 'in-sync'));
}

/** `NO_EPOCH`: whoever has a copy keeps it, since every copy has promised a later one. */
export function discardFrom(m: Manager, v: Volume, holders: readonly ServerId[], epoch = v.record.configuration.epoch): void {
  if (m.nowMs - v.discardedMs < m.options.repeatMs) return;
  v.discardedMs = m.nowMs;
  for (const holder of holders) m.fx.toServer(holder, { kind: 'discard', volumeId: v.volumeId, epoch });
}

export const NO_EPOCH = 0;

/** Nobody answers for a server whose disks are lost, says the operator: it is not waited for. True: the record is being changed. */
export function forgetLost(m: Manager, v: Volume, holders: readonly ServerId[]): boolean {
  const lost = holders.filter((id) => serverOf(m, id).lost);
  if (lost.length === 0) return false;
  change(m, v, { ...v.record, holders: v.record.holders.filter((id) => !lost.includes(id)) }, [eventOf(m, 'copy-forgotten', v.volumeId, 'its server is lost', { serverId: lost.join(' ') })]);
  return true;
}
