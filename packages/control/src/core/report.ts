import { primaryOf, type DiskHealth, type OwnerReport, type Report, type ServerReport, type VolumeReport, type VolumeView } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { rebuildBudget, rebuildsRunning } from './rebuilds.ts';
import { shownState } from './servers.ts';
import { serverOf, type Manager, type Volume } from './state.ts';
import { volumeView } from './views.ts';

export function reportOn(m: Manager, at: string): Report {
  const volumes = [...m.volumes.values()].map((v) => volumeReport(m, v)).sort((a, b) => (a.volumeId < b.volumeId ? -1 : 1));
  return {
    at, rebuilds: { running: rebuildsRunning(m), waiting: m.rebuildsWanted.size, budget: rebuildBudget(m) }, volumes,
    servers: serverReports(m), owners: [...new Set(volumes.map((volume) => volume.owner))].sort().map((owner) => ownerReport(owner, volumes.filter((volume) => volume.owner === owner))),
  };
}

function volumeReport(m: Manager, v: Volume): VolumeReport {
  const view = volumeView(m, v);
  const { readBytes, writeBytes, readRequests, writeRequests, flushRequests, failedRequests, longestStallMs } = view.io;
  return {
    volumeId: v.volumeId, owner: view.owner, health: view.health, sizeBytes: view.sizeBytes, copiesInSync: view.copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length,
    copiesWanted: view.mirrors + 1, readBytes, writeBytes, requests: readRequests + writeRequests + flushRequests, failedRequests, longestStallMs, remarks: remarksOn(m, view),
  };
}

function remarksOn(m: Manager, view: VolumeView): string[] {
  const remarks: string[] = [];
  const members = view.copies.filter((copy) => copy.role !== 'learner').map((copy) => copy.serverId);
  const rackOf = (id: ServerId): string => serverOf(m, id).record?.rack ?? '';
  for (const [i, id] of members.entries()) {
    const other = members.slice(0, i).find((before) => rackOf(before) !== '' && rackOf(before) === rackOf(id));
    if (other !== undefined) remarks.push(`the copies on ${other} and ${id} share the rack ${rackOf(id)}`);
    const disk = serverOf(m, id).record?.disk;
    if (view.disk !== null && disk !== undefined && disk !== view.disk) remarks.push(`the copy on ${id} lies on ${disk}, not ${view.disk}`);
  }
  if (view.move !== null) remarks.push(`the copy on ${view.move.from} moves to ${view.move.to}`);
  return remarks;
}

function serverReports(m: Manager): ServerReport[] {
  const primaries = new Map<ServerId, number>();
  for (const v of m.volumes.values()) {
    const primary = primaryOf(v.record.configuration);
    primaries.set(primary, (primaries.get(primary) ?? 0) + 1);
  }
  const known = [...m.servers.values()].flatMap((server) => (server.record === null ? [] : [{ server, record: server.record }]));
  return known.map(({ server, record }): ServerReport => ({
    serverId: server.serverId, state: shownState(m, server), disk: worstOf(server.directories.map((directory) => directory.health)),
    ioErrors: server.directories.reduce((sum, { ioErrors }) => sum + ioErrors, 0), mismatches: server.directories.reduce((sum, { mismatches }) => sum + mismatches, 0),
    slowestSyncMs: Math.max(0, ...server.directories.map(({ syncMs }) => syncMs)), capacityBytes: record.capacityBytes, usedBytes: record.usedBytes, copies: server.volumes.size,
    primaries: primaries.get(server.serverId) ?? 0, requestsPerSecond: server.requestsPerSecond,
  })).sort((a, b) => (a.serverId < b.serverId ? -1 : 1));
}

function worstOf(healths: readonly DiskHealth[]): DiskHealth | 'unknown' {
  return (['failed', 'suspect', 'ok'] as const).find((health) => healths.includes(health)) ?? 'unknown';
}

function ownerReport(owner: string, volumes: readonly VolumeReport[]): OwnerReport {
  const sum = (of: (volume: VolumeReport) => number): number => volumes.reduce((total, volume) => total + of(volume), 0);
  return {
    owner, volumes: volumes.length, sizeBytes: sum((volume) => volume.sizeBytes), unhealthy: volumes.filter((volume) => volume.health !== 'healthy').length,
    readBytes: sum((volume) => volume.readBytes), writeBytes: sum((volume) => volume.writeBytes), requests: sum((volume) => volume.requests), failedRequests: sum((volume) => volume.failedRequests),
  };
}
