import { memberOf, primaryOf, type ManagerMessage, type Member } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { changeAndPush, configure } from './telling.ts';
import { mayChangeNow } from './turns.ts';
import { reconfigured } from './store-access.ts';
import { eventOf, serverOf, type Manager, type Volume } from './state.ts';

type Propose = ManagerMessage & { readonly kind: 'propose' };

/**
 * The primary wants its set changed. Valid proposals are compare-and-swapped; everything else is answered with what the store has. The
 * primary repeats itself until it knows a later epoch, so nothing needs to be remembered here.
 */
export function onPropose(m: Manager, v: Volume, from: ServerId, proposal: Propose): void {
  const { configuration } = v.record;
  if (v.pending) return;
  if (v.record.state === 'deleting') return;
  if (primaryOf(configuration) !== from || proposal.baseEpoch !== configuration.epoch) return configure(m, v, from);
  if (proposal.change.kind === 'remove') return removeMember(m, v, proposal.change.serverId, proposal.reason, from);
  addMember(m, v, proposal.change.member, proposal.reason, from);
}

function removeMember(m: Manager, v: Volume, id: ServerId, reason: string, from: ServerId): void {
  const { configuration } = v.record;
  const report = serverOf(m, id).reports.get(v.volumeId);
  // It cannot hold new data any more, so that keeping it in the set would protect nobody.
  const faulted = (report !== undefined && report.fault !== null && report.fault !== 'no-space') || reason === 'sync-failed' || reason === 'corrupt' || reason === 'append-failed';
  const left = configuration.members.length - 1;
  if (memberOf(configuration, id) === undefined || id === from || left < 1 || (left < configuration.minCopies && !faulted)) return configure(m, v, from);
  // Somebody waits for the others: a server that is stopped for letting go, what was just promoted for its turn to serve.
  if ((reason === 'silent' || reason === 'ended') && v.status?.serving === true && !mayChangeNow(m, v, m.removals)) return;
  const members = configuration.members.filter((member) => member.serverId !== id);
  const record = reconfigured(v.record, { members });
  changeAndPush(m, v, record, [eventOf(m, 'copy-removed', v.volumeId, reason, { epoch: record.configuration.epoch, serverId: id, copies: members.length }, from)]);
}

/** A learner joins; or a member whose cache was lost is admitted anew, under its new incarnation. */
function addMember(m: Manager, v: Volume, member: Member, reason: string, from: ServerId): void {
  const { configuration } = v.record;
  const known = memberOf(configuration, member.serverId);
  const mayJoin = known === undefined ? configuration.learners.includes(member.serverId) : known.incarnation !== member.incarnation;
  if (!mayJoin || member.serverId === from) return configure(m, v, from);
  const members = known === undefined ? [...configuration.members, member] : configuration.members.map((other) => (other === known ? member : other));
  const learners = configuration.learners.filter((id) => id !== member.serverId);
  const record = reconfigured(v.record, { members, learners });
  const detail = { epoch: record.configuration.epoch, serverId: member.serverId, incarnation: member.incarnation, copies: members.length };
  changeAndPush(m, v, record, [eventOf(m, 'copy-joined', v.volumeId, reason, detail, from)]);
}
