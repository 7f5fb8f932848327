import { memberOf, type AttachmentSpec, type Configuration, type DeletedVolume, type HeldCopy, type KeptRecord, type StoreMark, type RecoveredVolume } from '@ashlar/protocol';
import type { HostId, ServerId, VolumeId } from '@ashlar/words';
import { completed, type AttachmentRecord, type VolumeRecord } from './records.ts';
import { DEFAULT_LIMITS } from './state.ts';

/** Everything that one server keeps. */
export interface ServerLedger {
  readonly serverId: ServerId;
  readonly mark: StoreMark | null;
  readonly servers: readonly ServerId[];
  readonly records: readonly KeptRecord[];
  readonly deleted: readonly DeletedVolume[];
  readonly copies: readonly HeldCopy[];
}

export interface HostKnowledge {
  readonly hostId: HostId;
  readonly attachments: readonly AttachmentSpec[];
  readonly configurations: readonly Configuration[];
}

/** What a recovery has to go by. The store that is there counts as one more witness: it may be old, but it is not wrong. */
export interface RecoverySources {
  readonly siteId: string;
  readonly wallMs: number;
  readonly ledgers: readonly ServerLedger[];
  readonly hosts: readonly HostKnowledge[];
  readonly store: {
    readonly cluster: number | null;
    readonly revision: number;
    readonly servers: readonly ServerId[];
    readonly volumes: ReadonlyMap<VolumeId, { readonly revision: number; readonly record: VolumeRecord }>;
    readonly deleted: ReadonlyMap<VolumeId, number>;
  };
  readonly without: readonly ServerId[];
}

export interface PlannedVolume extends RecoveredVolume {
  /** What the store is to have of it; null unless it is restored. */
  readonly record: VolumeRecord | null;
}

export interface RecoveryPlan {
  readonly cluster: number | null;
  /** Above every one that anybody was ever told, also those who were not heard. */
  readonly revision: number;
  readonly volumes: readonly PlannedVolume[];
  readonly deleted: readonly VolumeId[];
  readonly blocked: readonly string[];
}

/** Revisions of one recovery lie so far above those before it that no server that was not heard can know a higher one. */
const REVISIONS = 2 ** 32;
/** The same for epochs of a volume of which somebody who may know more was not heard. */
const EPOCHS = 2 ** 20;

export function planRecovery(sources: RecoverySources): RecoveryPlan {
  const blocked: string[] = [];
  const cluster = clusterOf(sources, blocked);
  const heard = new Set(sources.ledgers.map(({ serverId }) => serverId));
  const ids = new Set<VolumeId>(sources.store.volumes.keys());
  const servers = new Set<ServerId>(sources.store.servers);
  for (const { records, copies, servers: known } of sources.ledgers) {
    for (const { volumeId } of records) ids.add(volumeId);
    for (const { report } of copies) ids.add(report.volumeId);
    for (const id of known) servers.add(id);
  }
  for (const { configurations } of sources.hosts) for (const { volumeId } of configurations) ids.add(volumeId);
  const planned = [...ids].sort().map((id) => planVolume(sources, heard, id));
  for (const { involved } of planned) for (const id of involved) servers.add(id);
  for (const id of [...servers].sort()) {
    if (!heard.has(id) && !sources.without.includes(id)) blocked.push(`${id} has not been heard: start it, or give up what only it knows with --without ${id}`);
  }
  for (const { volume } of planned) if (volume.outcome === 'unknown') blocked.push(`${volume.volumeId}: ${volume.notes.join('; ')}`);
  for (const id of sources.without) if (heard.has(id)) blocked.push(`${id} is given up by --without, and is there: leave it out, or stop it first`);
  const deleted = new Map<VolumeId, number>(sources.store.deleted);
  for (const ledger of sources.ledgers) for (const { volumeId, revision } of ledger.deleted) deleted.set(volumeId, Math.max(revision, deleted.get(volumeId) ?? 0));
  const volumes = planned.map(({ volume }) => volume);
  for (const { volumeId, outcome } of volumes) if (outcome === 'restored') deleted.delete(volumeId);
  return { cluster, revision: nextRevision(sources), volumes, deleted: [...deleted].sort((a, b) => a[1] - b[1]).map(([id]) => id), blocked };
}

function clusterOf({ store, ledgers }: RecoverySources, blocked: string[]): number | null {
  const clusters = new Set(ledgers.flatMap(({ mark }) => (mark === null ? [] : [mark.cluster])));
  if (store.cluster !== null) return store.cluster;
  if (clusters.size > 1) blocked.push('the servers that answer belong to different clusters: stop those that are not of this one');
  return [...clusters][0] ?? null;
}

function nextRevision({ store, ledgers }: RecoverySources): number {
  let newest = store.revision;
  for (const { mark, records, deleted } of ledgers) newest = Math.max(newest, mark?.revision ?? 0, ...records.map(({ revision }) => revision), ...deleted.map(({ revision }) => revision));
  return (Math.floor(newest / REVISIONS) + 1) * REVISIONS;
}

interface Known { readonly revision: number; readonly record: VolumeRecord; /** Null: the store that was found. */ readonly from: ServerId | null }

function planVolume(sources: RecoverySources, heard: ReadonlySet<ServerId>, id: VolumeId): { readonly volume: PlannedVolume; readonly involved: readonly ServerId[] } {
  const { ledgers, hosts, store, without } = sources;
  const copies = ledgers.flatMap(({ serverId, copies: held }) => held.filter(({ report }) => report.volumeId === id).map((copy) => ({ ...copy, serverId })));
  const shown = hosts.flatMap(({ configurations }) => configurations.filter(({ volumeId }) => volumeId === id));
  // What copies have promised and hosts follow was told; what is only in records was decided, and perhaps by a manager whose store was set back.
  const told = [...copies.flatMap(({ configuration }) => configuration ?? []), ...shown];
  const contrary = (one: Configuration): boolean => told.some((other) => other.epoch === one.epoch && !isSame(other, one));
  const records = recordsOf(sources, id).filter(({ record }) => !contrary(record.configuration));
  const configurations = [...records.map(({ record }) => record.configuration), ...told];
  const newest = records.reduce<Known | null>((best, known) => (best === null || isNewer(known, best) ? known : best), null);
  const deletedAt = Math.max(store.deleted.get(id) ?? 0, ...ledgers.flatMap(({ deleted }) => deleted.filter(({ volumeId }) => volumeId === id).map(({ revision }) => revision)));
  const none = { epoch: 0, members: [], sizeBytes: 0, record: null };
  if (deletedAt > (newest?.revision ?? 0)) {
    const left = copies.map(({ serverId }) => serverId);
    return { volume: { volumeId: id, outcome: 'deleted', ...none, notes: left.length > 0 ? [`the files of it on ${left.join(', ')} are left alone`] : [] }, involved: [] };
  }
  const latest = configurations.reduce<Configuration | null>((best, one) => (best === null || one.epoch > best.epoch ? one : best), null);
  if (latest === null) return { volume: { volumeId: id, outcome: 'gone', ...none, notes: ['no configuration of it is known to anybody'] }, involved: [] };
  const involved = [...new Set([...latest.members.map(({ serverId }) => serverId), ...latest.learners, ...(newest?.record.holders ?? [])])];
  const said = { epoch: latest.epoch, members: latest.members.map(({ serverId }) => serverId), sizeBytes: latest.sizeBytes };
  const doubt = contradiction(latest, configurations, copies);
  if (doubt !== null) return { volume: { volumeId: id, outcome: 'unknown', ...said, record: null, notes: [doubt] }, involved };
  const away = involved.filter((serverId) => !heard.has(serverId));
  if (copies.length === 0 && away.every((serverId) => without.includes(serverId))) {
    const notes = [away.length > 0 ? `its only copies were on ${away.join(', ')}, which is given up` : 'no server holds a file of it'];
    return { volume: { volumeId: id, outcome: 'gone', ...said, record: null, notes }, involved };
  }
  const damaged = ledgers.filter(({ records }) => records.some((kept) => kept.volumeId === id && recordIn(kept) === null)).map(({ serverId }) => serverId);
  const notes = damaged.length > 0 ? [`its record cannot be read on ${damaged.join(', ')}`] : [];
  const record = recordOf(sources, latest, newest, copies, away, notes);
  return { volume: { volumeId: id, outcome: 'restored', epoch: record.configuration.epoch, members: said.members, sizeBytes: said.sizeBytes, record, notes }, involved };
}

function recordsOf({ ledgers, store }: RecoverySources, id: VolumeId): Known[] {
  const found = store.volumes.get(id);
  const kept = ledgers.flatMap(({ serverId, records }) => records.filter(({ volumeId }) => volumeId === id).flatMap((kept) => {
    const record = recordIn(kept);
    return record === null ? [] : [{ revision: kept.revision, record, from: serverId }];
  }));
  return found === undefined ? kept : [...kept, { revision: found.revision, record: completed('volume', found.record), from: null }];
}

/** An older version may have written it. Null: the disk has damaged it. */
function recordIn({ volumeId, text }: KeptRecord): VolumeRecord | null {
  try {
    const { configuration, holders, attachments } = JSON.parse(text) as VolumeRecord;
    if (configuration.volumeId !== volumeId || ![configuration.members, configuration.learners, holders, attachments].every(Array.isArray)) return null;
    return completed('volume', JSON.parse(text) as VolumeRecord);
  } catch {
    return null;
  }
}

/** By what the copies have promised first: of two stores that went on from one backup, the one that they followed counts. */
function isNewer(a: Known, b: Known): boolean {
  const [x, y] = [a.record.configuration.epoch, b.record.configuration.epoch];
  return x !== y ? x > y : a.revision > b.revision;
}

/** Why nobody can say who holds the volume now; null if that is known. */
function contradiction(latest: Configuration, configurations: readonly Configuration[], copies: readonly (HeldCopy & { readonly serverId: ServerId })[]): string | null {
  const other = configurations.find((one) => one.epoch === latest.epoch && !isSame(one, latest));
  if (other !== undefined) return `there are two configurations of epoch ${latest.epoch}: two system managers have decided about it`;
  const beyond = copies.find(({ report }) => report.promisedEpoch > latest.epoch);
  if (beyond !== undefined) return `${beyond.serverId} has promised epoch ${beyond.report.promisedEpoch}, whose configuration nobody knows`;
  return null;
}

function isSame(a: Configuration, b: Configuration): boolean {
  const text = ({ lineage, epoch, members, learners, attachNumber, sizeBytes, minCopies, copiesWanted, durability }: Configuration): string =>
    JSON.stringify([lineage, epoch, members.map(({ serverId, incarnation }) => [serverId, incarnation]), learners, attachNumber, sizeBytes, minCopies, copiesWanted, durability]);
  return text(a) === text(b);
}

function recordOf(
  sources: RecoverySources, latest: Configuration, newest: Known | null, copies: readonly (HeldCopy & { readonly serverId: ServerId })[], away: readonly ServerId[], notes: string[],
): VolumeRecord {
  const { volumeId } = latest;
  const base = newest?.record ?? defaults(sources, latest, notes);
  // What belongs to one epoch means nothing in another.
  const same = base.configuration.epoch === latest.epoch;
  // Whoever is given up may have promised what nobody else knows of.
  const configuration = away.length > 0 ? { ...latest, epoch: latest.epoch + EPOCHS } : latest;
  if (away.length > 0) notes.push(`${away.join(', ')} is given up: what was answered there and nowhere else is lost`);
  const sound = latest.members.filter((member) => copies.some(({ serverId, report }) => serverId === member.serverId && report.incarnation === member.incarnation && report.complete && report.fault === null && report.lineage === latest.lineage));
  if (sound.length === 0) notes.push('no copy that is known to be in sync is there: it stays faulted');
  const state = stateOf(sources, volumeId, base, copies, notes);
  const attachments = state === 'deleting' || state === 'creating' ? base.attachments : attachmentsOf(sources, base, configuration);
  return {
    ...base, configuration, attachments, state: state === 'available' && attachments.length > 0 ? 'in-use' : state,
    predecessorEnded: same && away.length === 0 && base.predecessorEnded, primaryInstance: same ? base.primaryInstance : '', move: same ? base.move : null,
    holders: [...new Set([...base.holders, ...latest.members.map(({ serverId }) => serverId), ...latest.learners, ...copies.map(({ serverId }) => serverId)])],
    givenUp: [...new Set([...(same ? base.givenUp : []), ...away.filter((id) => memberOf(latest, id) !== undefined)])],
  };
}

function defaults({ siteId, wallMs }: RecoverySources, configuration: Configuration, notes: string[]): VolumeRecord {
  notes.push('its record is not known: owner, access list, tags and limits are those of a new volume');
  return {
    volumeId: configuration.volumeId, siteId, owner: 'operator', accessList: [], tags: {}, state: 'available', createdAtMs: wallMs, limits: DEFAULT_LIMITS, attachments: [], configuration,
    predecessorEnded: false, primaryInstance: '', holders: [], givenUp: [], disk: null, move: null, clientToken: '',
  };
}

/** A deletion goes on only if more than one says so, or nobody who holds a copy says otherwise: one damaged word must not end a volume. */
function stateOf({ ledgers, hosts, store }: RecoverySources, id: VolumeId, base: VolumeRecord, copies: readonly { readonly serverId: ServerId; readonly report: HeldCopy['report'] }[], notes: string[]): VolumeRecord['state'] {
  const { state } = base;
  if (state === 'creating') return copies.some(({ report }) => report.lastSeq > 0) ? 'available' : 'creating';
  if (state !== 'deleting') return state === 'in-use' ? 'available' : state;
  const saysSo = (record: KeptRecord): boolean => record.volumeId === id && recordIn(record)?.state === 'deleting';
  const sayers = ledgers.filter(({ records }) => records.some(saysSo)).map(({ serverId }) => serverId);
  const witnesses = sayers.length + (store.volumes.get(id)?.record.state === 'deleting' ? 1 : 0);
  const others = copies.filter(({ serverId }) => !sayers.includes(serverId));
  const isShown = hosts.some(({ attachments }) => attachments.some(({ volumeId }) => volumeId === id));
  if (!isShown && (witnesses >= 2 || others.length === 0)) return 'deleting';
  notes.push(`only ${sayers.join(', ') || 'the old store'} says that it was being deleted: it is kept; delete it again if that is so`);
  return 'available';
}

/** What the record says, and what hosts show beyond it. All are told to the hosts again, which answer where the volume is found. */
function attachmentsOf({ hosts, wallMs }: RecoverySources, base: VolumeRecord, configuration: Configuration): AttachmentRecord[] {
  const attachments = base.attachments.map((attachment) => (attachment.state === 'detaching' ? attachment : { ...attachment, state: 'attaching' as const }));
  for (const { hostId, attachments: shown } of hosts) {
    for (const { volumeId, readOnly, tcp, copy, attachNumber } of shown) {
      if (volumeId !== configuration.volumeId || attachments.some((known) => known.hostId === hostId && known.readOnly === readOnly && known.copy === copy)) continue;
      // An older writer was fenced by a newer attach.
      if (!readOnly && (attachNumber !== configuration.attachNumber || attachments.some((known) => !known.readOnly))) continue;
      attachments.push({ hostId, readOnly, tcp, copy, attachNumber, state: 'attaching', nbd: null, attachedAtMs: wallMs });
    }
  }
  return attachments;
}

