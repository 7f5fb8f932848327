import type { AttachmentSpec, HostMessage } from '@ashlar/protocol';
import type { HostId, ServerId } from '@ashlar/words';
import type { AttachmentRecord, VolumeRecord } from './records.ts';
import { change, note, sumUsage } from './store-access.ts';
import { eventOf, NO_USAGE, type Manager, type Volume } from './state.ts';

/** Names an attachment of a volume: one writer, readers, and single copies, each at most once a host. */
export interface AttachmentKey {
  readonly hostId: HostId;
  readonly readOnly: boolean;
  readonly copy: ServerId | null;
}

export function sameAttachment(a: AttachmentKey, b: AttachmentKey): boolean {
  return a.hostId === b.hostId && a.readOnly === b.readOnly && a.copy === b.copy;
}

export function specOf(v: Volume, attachment: AttachmentRecord): AttachmentSpec {
  const { hostId, readOnly, attachNumber, tcp, copy } = attachment;
  return { volumeId: v.volumeId, hostId, readOnly, attachNumber, tcp, copy, limits: v.record.limits };
}

/** Tells hosts what is to be attached and detached, until they say that it is. */
export function driveAttachments(m: Manager, v: Volume): void {
  const open = v.record.attachments.filter((attachment) => attachment.state !== 'attached');
  if (open.length === 0 || m.nowMs - v.hostToldMs < m.options.repeatMs) return;
  v.hostToldMs = m.nowMs;
  for (const attachment of open) {
    const { hostId, readOnly, copy } = attachment;
    if (attachment.state === 'attaching') m.fx.toHost(hostId, { kind: 'attach', spec: specOf(v, attachment), configuration: v.record.configuration });
    else m.fx.toHost(hostId, { kind: 'detach', volumeId: v.volumeId, readOnly, copy });
  }
}

/** It is shown there now, or what became of it has changed. Ignored for an older attach of the same place. */
export function onAttached(m: Manager, v: Volume, from: HostId, message: HostMessage & { readonly kind: 'attached' }): void {
  const { spec, nbd } = message;
  const attachment = v.record.attachments.find((known) => sameAttachment(known, { ...spec, hostId: from }) && known.attachNumber === spec.attachNumber);
  if (v.pending || attachment === undefined || attachment.state === 'detaching' || (attachment.state === 'attached' && attachment.nbd === nbd)) return;
  const attachments = v.record.attachments.map((known) => (known === attachment ? { ...known, state: 'attached' as const, nbd } : known));
  const detail = { host: from, readOnly: spec.readOnly, attachNumber: spec.attachNumber };
  change(m, v, { ...v.record, attachments }, [eventOf(m, 'attached', v.volumeId, spec.copy === null ? '' : `the copy of ${spec.copy} alone`, detail, from)]);
}

/** The host cannot show it: the record goes, and whoever waits for it is told why. */
export function onAttachFailed(m: Manager, v: Volume, from: HostId, message: HostMessage & { readonly kind: 'attach-failed' }): void {
  const attachment = v.record.attachments.find((known) => sameAttachment(known, { ...message.spec, hostId: from }) && known.attachNumber === message.spec.attachNumber);
  if (v.pending || attachment?.state !== 'attaching') return;
  removeAttachment(m, v, attachment, 'attach-failed', `${message.code}: ${message.message}`);
}

export function onDetached(m: Manager, v: Volume, from: HostId, message: HostMessage & { readonly kind: 'detached' }): void {
  const attachment = v.record.attachments.find((known) => sameAttachment(known, { ...message, hostId: from }));
  if (v.pending || attachment?.state !== 'detaching') return;
  removeAttachment(m, v, attachment, 'detached', '');
}

function removeAttachment(m: Manager, v: Volume, attachment: AttachmentRecord, event: string, reason: string): void {
  change(m, v, without(m, v, [attachment]), [eventOf(m, event, v.volumeId, reason, { host: attachment.hostId }, attachment.hostId)]);
}

/** The record as it is when these attachments are over. */
export function without(m: Manager, v: Volume, ended: readonly AttachmentRecord[]): VolumeRecord {
  const attachments = v.record.attachments.filter((known) => !ended.includes(known));
  const state = v.record.state === 'in-use' && attachments.length === 0 ? 'available' : v.record.state;
  for (const { hostId } of ended) endUsage(m, v, hostId, attachments.some((known) => known.hostId === hostId));
  return { ...v.record, attachments, state };
}

/** The host's figures count from the beginning of an attachment; what ended is added up. */
function endUsage(m: Manager, v: Volume, hostId: HostId, others: boolean): void {
  const running = m.usageRunning.get(v.volumeId)?.get(hostId);
  if (running === undefined || others) return;
  m.usageRunning.get(v.volumeId)?.delete(hostId);
  const known = m.usage.get(v.volumeId);
  m.usage.set(v.volumeId, { volumeId: v.volumeId, ended: sumUsage(known?.ended ?? NO_USAGE, running), running: NO_USAGE, attachments: (known?.attachments ?? 0) + 1 });
  m.usageDirty.add(v.volumeId);
}

export function onUsage(m: Manager, v: Volume, from: HostId, message: HostMessage & { readonly kind: 'usage' }): void {
  const hosts = m.usageRunning.get(v.volumeId) ?? new Map<HostId, typeof message.usage>();
  hosts.set(from, message.usage);
  m.usageRunning.set(v.volumeId, hosts);
  m.usageDirty.add(v.volumeId);
}

/** A manager that ends loses at most so much of the running figures; the hosts tell them anew anyway. */
export function saveUsage(m: Manager): void {
  if (m.usageDirty.size === 0 || m.nowMs - m.usageSavedMs < m.options.usageSaveMs) return;
  m.usageSavedMs = m.nowMs;
  const puts = [...m.usageDirty].filter((id) => m.volumes.has(id)).map((id) => {
    const known = m.usage.get(id);
    const running = [...(m.usageRunning.get(id)?.values() ?? [])].reduce(sumUsage, NO_USAGE);
    return { kind: 'usage', id, value: { volumeId: id, ended: known?.ended ?? NO_USAGE, running, attachments: known?.attachments ?? 0 } } as const;
  });
  m.usageDirty.clear();
  if (puts.length > 0) note(m, [], puts);
}

/** A host that started anew says what it shows; what it should show and does not is attached again. */
export function afterHello(m: Manager, from: HostId, shown: readonly AttachmentSpec[]): void {
  for (const v of m.volumes.values()) {
    for (const attachment of v.record.attachments) {
      if (attachment.hostId !== from || attachment.state !== 'attached') continue;
      const known = shown.some((spec) => spec.volumeId === v.volumeId && sameAttachment(attachment, spec) && spec.attachNumber === attachment.attachNumber);
      m.fx.toHost(from, known ? { kind: 'configuration', configuration: v.record.configuration } : { kind: 'attach', spec: specOf(v, attachment), configuration: v.record.configuration });
    }
  }
  for (const spec of shown) {
    const v = m.volumes.get(spec.volumeId);
    const wanted = v?.record.attachments.some((attachment) => sameAttachment(attachment, { ...spec, hostId: from }) && attachment.state !== 'detaching');
    // A volume that the store does not know may be one that the store has lost: it is left alone, unless it was deleted, which takes an attachment that was ended by force.
    if ((v !== undefined || m.keeping.deleted.has(spec.volumeId)) && wanted !== true) m.fx.toHost(from, { kind: 'detach', volumeId: spec.volumeId, readOnly: spec.readOnly, copy: spec.copy });
  }
}
