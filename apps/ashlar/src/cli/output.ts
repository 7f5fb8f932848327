import Table from 'cli-table3';
import type { ClusterStatus, EventRecord, HostView, MachineView, PlacementView, Report, ServerView, VolumeView } from '@ashlar/client';
import { showSize } from './sizes.ts';

const BORDERLESS = {
  chars: { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
  style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
};

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const made = new Table({ head: [...head], ...BORDERLESS });
  made.push(...rows.map((row) => [...row]));
  return made.toString();
}

export function showServers(servers: readonly ServerView[]): string {
  if (servers.length === 0) return 'no servers';
  return table(['SERVER', 'STATE', 'RACK', 'DISK', 'HEALTH', 'PID', 'USED', 'CAPACITY', 'COPIES', 'REQUESTS/S', 'ADDRESS'], servers.map((server) => [
    server.serverId, server.state, server.rack === '' ? '-' : server.rack, server.disk, worst(server), String(server.pid), showSize(server.usedBytes), showSize(server.capacityBytes), String(server.copies),
    String(Math.round(server.requestsPerSecond)), server.address,
  ]));
}

/** Of all its directories. */
function worst({ directories }: ServerView): string {
  return (['failed', 'suspect', 'ok'] as const).find((health) => directories.some((directory) => directory.health === health)) ?? 'unknown';
}

export function showPlacement({ verdicts }: PlacementView): string {
  return verdicts.map(({ serverId, chosen, why }) => `  ${chosen ? '*' : ' '} ${serverId.padEnd(12)} ${why}`).join('\n');
}

export function showReport({ at, rebuilds, volumes, servers, owners }: Report): string {
  const { running, waiting, budget } = rebuilds;
  const remarks = volumes.flatMap((volume) => volume.remarks.map((remark) => `  ${volume.volumeId}: ${remark}`));
  return [
    at, '', table(['VOLUME', 'OWNER', 'HEALTH', 'SIZE', 'IN SYNC', 'READ', 'WRITTEN', 'REQUESTS', 'FAILED', 'LONGEST STALL'], volumes.map((volume) => [
      volume.volumeId, volume.owner, volume.health, showSize(volume.sizeBytes), `${volume.copiesInSync}/${volume.copiesWanted}`, showSize(volume.readBytes), showSize(volume.writeBytes), String(volume.requests),
      String(volume.failedRequests), `${Math.round(volume.longestStallMs)} ms`,
    ])), '', table(['SERVER', 'STATE', 'DISK', 'I/O ERRORS', 'BAD BLOCKS', 'SYNC', 'USED', 'CAPACITY', 'COPIES', 'PRIMARIES', 'REQUESTS/S'], servers.map((server) => [
      server.serverId, server.state, server.disk, String(server.ioErrors), String(server.mismatches), `${server.slowestSyncMs.toFixed(1)} ms`, showSize(server.usedBytes), showSize(server.capacityBytes), String(server.copies),
      String(server.primaries), String(Math.round(server.requestsPerSecond)),
    ])), '', table(['OWNER', 'VOLUMES', 'SIZE', 'NOT HEALTHY', 'READ', 'WRITTEN', 'REQUESTS', 'FAILED'], owners.map((owner) => [
      owner.owner, String(owner.volumes), showSize(owner.sizeBytes), String(owner.unhealthy), showSize(owner.readBytes), showSize(owner.writeBytes), String(owner.requests), String(owner.failedRequests),
    ])), '', `${running} copies are being built, ${waiting} volumes wait for one; ${budget.atOnce} at a time, ${budget.bytesPerSecond === 0 ? 'no limit of bytes' : `${showSize(budget.bytesPerSecond)} a second`}`,
    ...(remarks.length === 0 ? [] : ['', ...remarks]),
  ].join('\n');
}

export function showHosts(hosts: readonly HostView[]): string {
  if (hosts.length === 0) return 'no hosts';
  return table(['HOST', 'STATE', 'PID', 'ATTACHMENTS'], hosts.map((host) => [host.hostId, host.state, String(host.pid), String(host.attachments)]));
}

export function showMachines(machines: readonly MachineView[]): string {
  return table(['MACHINE', 'STATE', 'ROLES', 'PARTIES', 'ADDRESSES', 'JOINED'], machines.map((machine) => [
    machine.machine, machine.state, machine.roles.join(' '), machine.parties.join(' '), machine.addresses.join(' '), machine.joinedAt,
  ]));
}

export function showCluster({ processes, upgradeUnfinished, volumes, healthyVolumes }: ClusterStatus): string {
  const rows = processes.map(({ name, role, state, pid, build }) => {
    const wire = build === null ? '' : `${build.wireLowest}-${build.wireHighest}`;
    const formats = Object.entries(build?.formats ?? {}).map(([format, version]) => `${format} ${version}`).join(', ');
    return [name, role, state, String(pid), build?.version ?? 'does not say', wire, formats];
  });
  return [
    table(['PROCESS', 'ROLE', 'STATE', 'PID', 'VERSION', 'WIRE', 'FORMATS'], rows), '',
    upgradeUnfinished ? 'An upgrade is unfinished: not all processes are of one version. Restart the others: docs/runbooks/upgrade.md.' : 'All processes that are up are of one version.',
    healthyVolumes === volumes ? `All ${volumes} volumes have as many copies in sync as they want.` : `${volumes - healthyVolumes} of ${volumes} volumes lack copies in sync: wait before the next restart.`,
  ].join('\n');
}

export function showVolumes(volumes: readonly VolumeView[]): string {
  if (volumes.length === 0) return 'no volumes';
  return table(['VOLUME', 'STATE', 'HEALTH', 'SIZE', 'EPOCH', 'COPIES', 'ATTACHED'], volumes.map((volume) => [
    volume.volumeId, volume.state, volume.health, showSize(volume.sizeBytes), String(volume.epoch),
    volume.copies.map((copy) => `${copy.serverId}${copy.role === 'primary' ? '*' : ''}:${copy.state}`).join(' '), volume.attachments.map((attachment) => attachment.host).join(' '),
  ]));
}

export function showVolume(volume: VolumeView): string {
  const lines = [
    `${volume.volumeId}  ${volume.state}, ${volume.health}`,
    `  size        ${showSize(volume.sizeBytes)} (${volume.sizeBytes} bytes)`,
    `  copies      ${volume.mirrors + 1} wanted, at least ${volume.minCopies}; durability ${volume.durability}; epoch ${volume.epoch}`,
    ...volume.copies.map((copy) => `    ${copy.serverId.padEnd(12)} ${copy.role.padEnd(8)} ${copy.state}${copy.remainingBytes > 0 ? ` (${showSize(copy.movedBytes)} moved)` : ''}`),
    ...volume.attachments.map((attachment) => `  attached    ${attachment.host}: ${attachment.nbd ?? attachment.state}${attachment.readOnly ? ' (read-only)' : ''}${attachment.copy === null ? '' : ` (copy of ${attachment.copy} alone)`}`),
    `  requests    ${volume.io.readRequests} reads (${showSize(volume.io.readBytes)}), ${volume.io.writeRequests} writes (${showSize(volume.io.writeBytes)}), ${volume.io.flushRequests} flushes, ${volume.io.failedRequests} failed; longest stall ${Math.round(volume.io.longestStallMs)} ms`,
  ];
  if (volume.move !== null) lines.push(`  moves       ${volume.move.from} to ${volume.move.to}`);
  if (volume.disk !== null) lines.push(`  lies on     ${volume.disk}`);
  const tags = Object.entries(volume.tags);
  if (tags.length > 0) lines.push(`  tags        ${tags.map(([key, value]) => `${key}=${value}`).join(' ')}`);
  if (volume.placement !== undefined) lines.push('  placed      (* chosen)', showPlacement(volume.placement));
  return lines.join('\n');
}

export function showEvent(event: EventRecord): string {
  const detail = Object.entries(event.detail).map(([key, value]) => `${key}=${String(value)}`).join(' ');
  const text = [event.name, event.reason === '' ? '' : `(${event.reason})`, detail].filter((part) => part !== '').join(' ');
  return `${new Date(event.atMs).toISOString()}  ${event.subject}  ${text}  by ${event.source}`;
}
