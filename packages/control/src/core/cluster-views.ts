import { memberOf, type ClusterStatus, type ProcessView } from '@ashlar/protocol';
import type { VolumeId } from '@ashlar/words';
import { hostViews, serverViews, volumeView } from './views.ts';
import type { Manager, Server } from './state.ts';

export function clusterStatus(m: Manager): ClusterStatus {
  const processes = processViews(m);
  const volumes = [...m.volumes.values()].map((v) => volumeView(m, v).health);
  // One that is down says nothing about the build that it will be started from.
  const versions = new Set(processes.filter(({ state }) => state !== 'down').map(({ build }) => build?.version ?? ''));
  return { processes, upgradeUnfinished: versions.size > 1, volumes: volumes.length, healthyVolumes: volumes.filter((health) => health === 'healthy').length };
}

function processViews(m: Manager): ProcessView[] {
  const { build, pid, name } = m.options.self;
  return [
    { name, role: 'system manager', state: 'up', pid, build },
    ...serverViews(m).map(({ serverId, state, pid: of }): ProcessView => ({ name: serverId, role: 'storage server', state, pid: of, build: m.servers.get(serverId)?.build ?? null })),
    ...hostViews(m).map(({ hostId, state, pid: of }): ProcessView => ({ name: hostId, role: 'host', state, pid: of, build: m.hosts.get(hostId)?.build ?? null })),
  ];
}

/** Volumes that want several copies, and of which only this server has one in sync now: they would wait for its return. */
export function onlyCopies(m: Manager, server: Server): VolumeId[] {
  return [...server.volumes].filter((id) => {
    const v = m.volumes.get(id);
    if (v === undefined || v.record.configuration.copiesWanted === 1 || memberOf(v.record.configuration, server.serverId) === undefined) return false;
    return !volumeView(m, v).copies.some((copy) => copy.serverId !== server.serverId && copy.role !== 'learner' && copy.state === 'in-sync');
  });
}
