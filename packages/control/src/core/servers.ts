import { memberOf, primaryOf, type Build, type ServerMessage, type SupervisorMessage, type EventDetail, type ServerState } from '@ashlar/protocol';
import { unreachable, type ServerId } from '@ashlar/words';
import { note } from './store-access.ts';
import type { ServerRecord } from './records.ts';
import { eventOf, hostOf, serverOf, unsettle, type Manager, type Server } from './state.ts';

/** Ended lives remembered, to recognise messages of theirs that were held up. */
const ENDED_MAX = 16;

/** How long it has been silent, on the attentive clock. */
function silenceMs(m: Manager, server: Server): number {
  return m.attentiveMs - server.heardMs;
}

/** May be given a role: it is heard, has not ended, and is not shutting down. */
export function isUp(m: Manager, server: Server): boolean {
  return server.heard && server.linked && !server.ended && !server.leaving && !server.lost && !isSilent(m, server);
}

/** Silent long enough to be failed over: alone, or sooner if its link is closed or somebody else finds it silent too. */
function isSilent(m: Manager, server: Server): boolean {
  if (server.silent) return true;
  const { options } = m;
  const silentMs = silenceMs(m, server);
  if (!server.heard) return m.nowMs - m.startedMs >= options.startGraceMs && silentMs >= options.silenceAloneMs;
  const complained = m.attentiveMs - server.complainedMs <= options.complaintMs;
  if (complained && silentMs >= options.silenceCorroboratedMs) return true;
  if (!server.linked && m.attentiveMs - server.unlinkedMs >= options.silenceUnlinkedMs) return true;
  return silentMs >= options.silenceAloneMs;
}

/** Neither up nor expected to be in a moment: its copies count as missing. */
export function isDown(m: Manager, server: Server): boolean {
  return server.ended || server.leaving || server.lost || isSilent(m, server);
}

/** As people and placement see it. */
export function shownState(m: Manager, server: Server): 'up' | 'down' | 'suspect' | 'draining' {
  if (isUp(m, server)) return server.record?.draining === true ? 'draining' : 'up';
  return isDown(m, server) && !server.ended && !server.leaving && !server.lost ? 'suspect' : 'down';
}

export function hear(m: Manager, server: Server): void {
  server.heard = true;
  server.silent = false;
  server.heardMs = m.attentiveMs;
}

export function onServerMessage(m: Manager, from: ServerId, message: ServerMessage): void {
  if (message.serverId !== from) {
    note(m, [eventOf(m, 'message-refused', from, `it claims to be ${message.serverId}`)]);
    return;
  }
  if (m.removedServers.has(from)) {
    if (message.kind === 'server-hello') note(m, [eventOf(m, 'server-refused', from, 'it was removed; a server that is to join needs another name', { pid: message.pid })]);
    return;
  }
  const server = serverOf(m, from);
  switch (message.kind) {
    case 'server-hello': return onHello(m, server, message);
    case 'server-status': return onStatus(m, server, message);
    case 'server-leaving': return onLeaving(m, server, message.reason);
    case 'server-kept':
    case 'server-ledger':
      return hear(m, server);
    default: return unreachable(message);
  }
}

function onHello(m: Manager, server: Server, hello: ServerMessage & { readonly kind: 'server-hello' }): void {
  if (server.endedPids.has(hello.pid) || server.endedInstances.has(hello.instance)) return; // held up in a dead link
  const before = server.record;
  const another = before?.instance !== hello.instance;
  server.record = {
    serverId: server.serverId, state: 'up', address: hello.address, pid: hello.pid, instance: hello.instance,
    siteId: hello.siteId === '' ? m.options.siteId : hello.siteId, rack: hello.rack, disk: hello.disk, draining: before?.draining ?? false, removed: before?.removed ?? false,
    capacityBytes: before?.capacityBytes ?? 0, usedBytes: before?.usedBytes ?? 0,
  };
  if (another || !server.heard) {
    server.reports.clear();
    server.helloMs = m.nowMs;
  }
  server.build = hello.build;
  server.linked = true;
  server.greeted = true;
  server.ended = false;
  server.leaving = false;
  server.lost = false;
  hear(m, server);
  if (another) server.complainedMs = -Infinity;
  if (another || !server.wasUp) saveServer(m, server, 'up', 'server-up', before === null ? 'it joined the site' : another ? 'its process started' : 'it is heard again', { pid: hello.pid });
  server.wasUp = true;
  unsettle(m, server.volumes);
}

function onStatus(m: Manager, server: Server, status: ServerMessage & { readonly kind: 'server-status' }): void {
  if (server.ended || server.record === null) return;
  hear(m, server);
  server.copies = status.copies;
  server.requestsPerSecond = status.requestsPerSecond;
  server.directories = status.directories;
  server.record = { ...server.record, capacityBytes: status.capacityBytes, usedBytes: status.usedBytes };
}

function onLeaving(m: Manager, server: Server, reason: string): void {
  if (server.leaving || server.record === null) return;
  server.leaving = true;
  server.wasUp = false;
  saveServer(m, server, 'down', 'server-leaving', reason, { pid: server.record.pid });
  unsettle(m, server.volumes);
}

/** A process was reaped, or started. Only a pid that said hello names a life; one that never did leaves nothing behind. */
export function onSupervisor(m: Manager, message: SupervisorMessage): void {
  const server = [...m.servers.values()].find((known) => known.serverId === message.name);
  if (message.kind === 'process-started') {
    server?.endedPids.delete(message.pid);
    note(m, [eventOf(m, 'process-started', message.name, 'started by its supervisor', { pid: message.pid }, 'supervisor')]);
    return;
  }
  const detail: Record<string, string | number> = { pid: message.pid };
  if (message.signal !== null) detail['signal'] = message.signal;
  if (message.code !== null) detail['code'] = message.code;
  const reason = message.signal !== null ? `ended by ${message.signal}` : `exited with ${message.code ?? 'no code'}`;
  if (server === undefined) {
    onOtherEnded(m, message.name, message.pid, reason, detail);
    return;
  }
  rememberEnded(server, message.pid);
  if (server.record === null || server.record.pid !== message.pid) return;
  server.endedInstances.add(server.record.instance);
  tellPrimaries(m, server, server.record.instance);
  server.ended = true;
  server.wasUp = false;
  saveServer(m, server, 'down', 'process-ended', reason, detail, 'supervisor');
  unsettle(m, server.volumes);
}

/** Where it was a mirror, its primary need not wait for its silence. */
function tellPrimaries(m: Manager, server: Server, instance: string): void {
  for (const volumeId of server.volumes) {
    const configuration = m.volumes.get(volumeId)?.record.configuration;
    if (configuration === undefined || memberOf(configuration, server.serverId) === undefined) continue;
    const primary = primaryOf(configuration);
    if (primary !== server.serverId) m.fx.toServer(primary, { kind: 'member-ended', volumeId, serverId: server.serverId, instance });
  }
}

/** Another life of a host may have said hello before the news that the former one has ended. */
function onOtherEnded(m: Manager, name: string, pid: number, reason: string, detail: EventDetail): void {
  const host = [...m.hosts.values()].find((known) => known.hostId === name);
  if (host?.record?.pid === pid) host.record = { ...host.record, state: 'down' };
  note(m, [eventOf(m, 'process-ended', name, reason, detail, 'supervisor')]);
}

function rememberEnded(server: Server, pid: number): void {
  server.endedPids.add(pid);
  for (const set of [server.endedPids, server.endedInstances] as Set<unknown>[]) {
    if (set.size > ENDED_MAX) set.delete(set.values().next().value);
  }
}

export function onLink(m: Manager, node: string, up: boolean): void {
  const host = [...m.hosts.values()].find((known) => known.hostId === node);
  if (host) host.linked = up;
  const server = [...m.servers.values()].find((known) => known.serverId === node);
  if (!server) return;
  keepSilent(m, server);
  server.linked = up;
  if (!up) {
    // Not when it comes up: its hello may be there before the news of its link.
    server.greeted = false;
    server.unlinkedMs = m.attentiveMs;
  }
  unsettle(m, server.volumes);
}

/** Somebody cannot reach it. Believed only together with our own silence. */
export function onComplaint(m: Manager, about: ServerId): void {
  const server = m.servers.get(about);
  if (!server) return;
  server.complainedMs = m.attentiveMs;
  keepSilent(m, server);
}

/**
 * A silence once found lasts until the server itself is heard. Called wherever what it is found by may go away: the complaints of others, who turn to
 * another server as soon as they are told to, and a closed link.
 */
function keepSilent(m: Manager, server: Server): void {
  server.silent = isSilent(m, server);
}

/** Looks at every server for silence and return; what changed is recorded, and its volumes are looked at. */
export function watchServers(m: Manager): void {
  for (const server of m.servers.values()) {
    keepSilent(m, server);
    const up = isUp(m, server);
    if (up === server.wasUp || server.record === null) continue;
    if (up) saveServer(m, server, 'up', 'server-up', 'it is heard again', { pid: server.record.pid });
    else if (isSilent(m, server)) saveServer(m, server, 'suspect', 'server-silent', silentReason(m, server), { pid: server.record.pid, silentMs: Math.round(silenceMs(m, server)) });
    else continue;
    server.wasUp = up;
    unsettle(m, server.volumes);
  }
}

function silentReason(m: Manager, server: Server): string {
  if (!server.linked) return 'its link is closed';
  return m.attentiveMs - server.complainedMs <= m.options.complaintMs ? 'unheard here and by others' : 'unheard';
}

function saveServer(m: Manager, server: Server, state: ServerState, name: string, reason: string, detail: EventDetail, source?: string): void {
  const record: ServerRecord = { ...(server.record as ServerRecord), state };
  server.record = record;
  note(m, [eventOf(m, name, server.serverId, reason, detail, source)], [{ kind: 'server', id: server.serverId, value: record }]);
}

/** A host said hello: its record. */
export function hostUp(m: Manager, id: Parameters<typeof hostOf>[1], pid: number, build: Build | null): void {
  const host = hostOf(m, id);
  const known = host.record?.pid === pid && host.record.state === 'up';
  host.linked = true;
  host.build = build;
  host.record = { hostId: id, state: 'up', pid, siteId: m.options.siteId };
  if (!known) note(m, [eventOf(m, 'host-up', id, 'its process started', { pid })], [{ kind: 'host', id, value: host.record }]);
}
