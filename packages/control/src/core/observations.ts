import { primaryOf, type HostMessage, type ManagerMessage } from '@ashlar/protocol';
import { unreachable, type HostId, type ServerId } from '@ashlar/words';
import { afterHello, onAttached, onAttachFailed, onDetached, onUsage } from './attachments.ts';
import { onPropose } from './proposals.ts';
import { onDiscarded, reconcile } from './reconcile.ts';
import { hear, hostUp, onComplaint } from './servers.ts';
import { acts, judgeHost, judgeReport, noteUnknown } from './standing.ts';
import { change, note } from './store-access.ts';
import { configure } from './telling.ts';
import { eventOf, hostOf, serverOf, type Manager, type Volume } from './state.ts';

/** A copy, or the primary for its volume, says something. */
export function onCopyMessage(m: Manager, from: ServerId, message: ManagerMessage): void {
  const server = serverOf(m, from);
  if (server.foreign) return;
  if (server.record !== null && !server.ended) hear(m, server);
  const id = message.kind === 'report' ? message.copy.volumeId : message.volumeId;
  if (message.kind === 'report') judgeReport(m, from, message.copy);
  const v = m.volumes.get(id);
  // A copy of a volume that the store does not know: it may be the store that has forgotten. Nothing is done with it.
  if (v === undefined) {
    if (message.kind === 'report') server.reports.set(id, message.copy);
    if (acts(m) && !m.keeping.latest.has(id)) noteUnknown(m, server, id);
    return;
  }
  if (!acts(m)) return observe(m, v, from, message);
  switch (message.kind) {
    case 'report':
      server.reports.set(id, message.copy);
      if (primaryOf(v.record.configuration) === from && v.status?.epoch !== undefined) v.reportedMs ??= m.nowMs;
      // Its server was given up for lost, and is back: what it has is removed like any former copy.
      if (!v.pending && server.record !== null && !v.record.holders.includes(from)) {
        change(m, v, { ...v.record, holders: [...v.record.holders, from] }, [eventOf(m, 'copy-found', v.volumeId, 'its server had been given up', { serverId: from })]);
      }
      break;
    case 'status':
      onStatus(m, v, from, message);
      break;
    case 'propose':
      onPropose(m, v, from, message);
      break;
    case 'ask':
      if (message.epoch < v.record.configuration.epoch && !v.pending) configure(m, v, from);
      return;
    case 'suspect':
      onSuspect(m, v, from, message);
      break;
    case 'event':
      note(m, [eventOf(m, message.name, v.volumeId, '', message.detail, from)]);
      return;
    case 'discarded':
      onDiscarded(m, v, from, message.epoch);
      break;
    default: unreachable(message);
  }
  if (v.gone) return;
  m.unsettled.add(id);
  reconcile(m, v);
}

/** What is seen is remembered, for when the manager acts again. */
function observe(m: Manager, v: Volume, from: ServerId, message: ManagerMessage): void {
  if (message.kind === 'report') serverOf(m, from).reports.set(v.volumeId, message.copy);
  if (message.kind === 'status' && message.epoch === v.record.configuration.epoch) onStatus(m, v, from, message);
}

function onStatus(m: Manager, v: Volume, from: ServerId, status: ManagerMessage & { readonly kind: 'status' }): void {
  const { configuration } = v.record;
  if (primaryOf(configuration) !== from || status.epoch !== configuration.epoch) {
    if (status.epoch < configuration.epoch && !v.pending) configure(m, v, from);
    return;
  }
  if (v.status?.epoch === status.epoch && v.status.number > status.number) return;
  v.status = { from, epoch: status.epoch, number: status.number, serving: status.serving, copies: status.copies };
  v.reportedMs = null;
  if (status.serving) {
    v.served = true;
    v.unconfirmed = 0;
  }
}

function onSuspect(m: Manager, v: Volume, from: ServerId, message: ManagerMessage & { readonly kind: 'suspect' }): void {
  if (message.epoch !== v.record.configuration.epoch || primaryOf(v.record.configuration) !== from) return;
  if (message.reason === 'slow') {
    v.slow.set(message.serverId, m.nowMs);
    note(m, [eventOf(m, 'copy-slow', v.volumeId, 'its acknowledgements take far longer than those of others', { serverId: message.serverId }, from)]);
    return;
  }
  onComplaint(m, message.serverId);
}

export function onHostMessage(m: Manager, from: HostId, message: HostMessage): void {
  if (message.kind === 'host-hello') {
    const { attachments, configurations } = message;
    hostUp(m, from, message.pid, message.build);
    hostOf(m, from).shown = { attachments, configurations };
    judgeHost(m, from, configurations);
    return acts(m) ? afterHello(m, from, attachments) : undefined;
  }
  hostOf(m, from).linked = true;
  const id = message.kind === 'attached' || message.kind === 'attach-failed' ? message.spec.volumeId : message.volumeId;
  const v = m.volumes.get(id);
  if (v === undefined) return;
  switch (message.kind) {
    case 'attached':
      onAttached(m, v, from, message);
      break;
    case 'attach-failed':
      onAttachFailed(m, v, from, message);
      break;
    case 'detached':
      onDetached(m, v, from, message);
      break;
    case 'ask-configuration':
      if (message.epoch < v.record.configuration.epoch && !v.pending) m.fx.toHost(from, { kind: 'configuration', configuration: v.record.configuration });
      return;
    case 'primary-silent':
      onPrimarySilent(m, v, message);
      break;
    case 'usage': return onUsage(m, v, from, message);
    case 'host-event':
      note(m, [eventOf(m, message.name, v.volumeId, '', message.detail, from)]);
      return;
    default: unreachable(message);
  }
  m.unsettled.add(id);
  reconcile(m, v);
}

/** Believed together with our own silence, or when it lasts. */
function onPrimarySilent(m: Manager, v: Volume, message: HostMessage & { readonly kind: 'primary-silent' }): void {
  const { configuration } = v.record;
  if (message.epoch !== configuration.epoch || message.serverId !== primaryOf(configuration)) return;
  if (v.complaint?.epoch !== configuration.epoch || m.nowMs - v.complaint.lastMs > m.options.complaintMs) v.complaint = { epoch: configuration.epoch, sinceMs: m.nowMs, lastMs: m.nowMs };
  else v.complaint.lastMs = m.nowMs;
  onComplaint(m, message.serverId);
}
