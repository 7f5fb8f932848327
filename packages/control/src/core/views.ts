import { primaryOf, type CopyState, type CopyView, type HostView, type ServerView, type VolumeHealth, type VolumeView } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { reportOf } from './promotion.ts';
import { isDown, isUp, shownState } from './servers.ts';
import { sumUsage } from './store-access.ts';
import { NO_USAGE, serverOf, type Manager, type Server, type Volume } from './state.ts';

export function volumeView(m: Manager, v: Volume): VolumeView {
  const { record } = v;
  const { configuration } = record;
  const copies = copyViews(m, v);
  const known = m.usage.get(v.volumeId);
  const running = [...(m.usageRunning.get(v.volumeId)?.values() ?? [])].reduce(sumUsage, NO_USAGE);
  return {
    volumeId: v.volumeId, state: record.state, health: healthOf(m, v, copies), sizeBytes: configuration.sizeBytes, epoch: configuration.epoch, lineage: configuration.lineage,
    mirrors: configuration.copiesWanted - 1, minCopies: configuration.minCopies, durability: configuration.durability, owner: record.owner, tags: record.tags,
    createdAt: new Date(record.createdAtMs).toISOString(), limits: record.limits, copies, disk: record.disk, move: record.move,
    attachments: record.attachments.map(({ hostId, nbd, readOnly, copy, state }) => ({ host: hostId, nbd, readOnly, copy, state })),
    io: { ...sumUsage(known?.ended ?? NO_USAGE, running), attachments: known?.attachments ?? 0 },
  };
}

/** What the primary said of this epoch; nothing where the life of its process that said it is over. */
function statusOf(m: Manager, { status, record }: Volume): Volume['status'] {
  const { configuration, primaryInstance } = record;
  const primary = serverOf(m, primaryOf(configuration));
  const restarted = primary.heard && primary.record !== null && primary.record.instance !== primaryInstance;
  return status?.epoch === configuration.epoch && !restarted ? status : null;
}

function copyViews(m: Manager, v: Volume): CopyView[] {
  const { members, learners } = v.record.configuration;
  const status = statusOf(m, v);
  const view = (serverId: ServerId, role: CopyView['role']): CopyView => {
    const told = status?.copies.find((copy) => copy.serverId === serverId);
    const untold = role === 'primary' && status?.serving === true ? 'in-sync' : 'catching-up';
    return { serverId, role, state: stateOf(m, v, serverId, told?.state ?? untold), movedBytes: told?.movedBytes ?? 0, remainingBytes: told?.remainingBytes ?? 0 };
  };
  return [...members.map(({ serverId }, i) => view(serverId, i === 0 ? 'primary' : 'mirror')), ...learners.map((serverId) => view(serverId, 'learner'))];
}

function stateOf(m: Manager, v: Volume, id: ServerId, told: CopyState): CopyState {
  if ((reportOf(m, v, id)?.fault ?? null) !== null) return 'faulted';
  if (isDown(m, serverOf(m, id))) return 'offline';
  return told;
}

/** `healthy` only if as many copies as wanted are in sync, now, as far as anybody knows. */
function healthOf(m: Manager, v: Volume, copies: readonly CopyView[]): VolumeHealth {
  const { configuration } = v.record;
  const primary = serverOf(m, primaryOf(configuration));
  const status = statusOf(m, v);
  if (status === null) return isUp(m, primary) ? 'unknown' : 'faulted';
  if (!status.serving || isDown(m, primary)) return 'faulted';
  const inSync = copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length;
  if (inSync < configuration.minCopies) return 'faulted';
  return inSync >= configuration.copiesWanted ? 'healthy' : 'degraded';
}

export function serverViews(m: Manager): ServerView[] {
  return [...m.servers.values()].flatMap((server) => (server.record === null ? [] : [serverView(m, server)])).sort((a, b) => (a.serverId < b.serverId ? -1 : 1));
}

function serverView(m: Manager, server: Server): ServerView {
  const record = server.record as NonNullable<Server['record']>;
  const state = shownState(m, server);
  return { serverId: server.serverId, state, pid: record.pid, address: record.address, site: record.siteId, rack: record.rack, disk: record.disk, draining: record.draining, requestsPerSecond: server.requestsPerSecond, directories: server.directories, capacityBytes: record.capacityBytes, usedBytes: record.usedBytes, copies: server.volumes.size };
}

export function hostViews(m: Manager): HostView[] {
  const counts = new Map<string, number>();
  for (const v of m.volumes.values()) for (const { hostId } of v.record.attachments) counts.set(hostId, (counts.get(hostId) ?? 0) + 1);
  return [...m.hosts.values()].flatMap((host) => (host.record === null ? [] : [{ hostId: host.hostId, state: host.linked ? host.record.state : 'down', pid: host.record.pid, attachments: counts.get(host.hostId) ?? 0 } satisfies HostView]));
}
