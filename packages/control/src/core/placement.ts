import { AshlarError, type ServerId } from '@ashlar/words';

/** A storage server as placement sees it. */
export interface PlacementServer {
  readonly serverId: ServerId;
  readonly state: 'up' | 'down' | 'suspect' | 'draining';
  readonly siteId: string;
  readonly rack: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly copies: number;
  readonly primaries: number;
}

export interface PlacementRequest {
  readonly siteId: string;
  readonly count: number;
  /** Already hold a copy, or must not. */
  readonly exclude: readonly ServerId[];
}

/** Free bytes below which a server takes no new copy: its journals and destaging need room even if nothing is written to the new one. */
export const PLACEMENT_RESERVE_BYTES = 256 * 2 ** 20;
/** A server fuller than this comes after all others, however few copies it has. */
const NEARLY_FULL = 0.9;

/**
 * Picks distinct servers for new copies, the primary first. Volumes are sparse, so a volume's size is not reserved: servers with few
 * copies and much free space come first. Throws `too-few-servers` or `no-space`.
 */
export function place(request: PlacementRequest, servers: readonly PlacementServer[]): ServerId[] {
  const usable = servers.filter((server) => server.state === 'up' && server.siteId === request.siteId && !request.exclude.includes(server.serverId));
  const roomy = usable.filter((server) => server.capacityBytes - server.usedBytes >= PLACEMENT_RESERVE_BYTES);
  if (usable.length < request.count) throw tooFew(request, servers, usable.length);
  if (roomy.length < request.count) {
    throw new AshlarError('no-space', `only ${roomy.length} of ${usable.length} servers have ${PLACEMENT_RESERVE_BYTES / 2 ** 20} MiB free; ${request.count} are needed`, { retry: 'later' });
  }
  const chosen = roomy.sort(byLoad).slice(0, request.count);
  return chosen.sort((a, b) => a.primaries - b.primaries || byLoad(a, b)).map((server) => server.serverId);
}

function tooFew(request: PlacementRequest, servers: readonly PlacementServer[], usable: number): AshlarError {
  const excluded = request.exclude.length > 0 ? `, ${request.exclude.length} hold a copy already` : '';
  const message = `${request.count} ${request.count === 1 ? 'server is' : 'distinct servers are'} needed; ${usable} of ${servers.length} can take a copy${excluded}`;
  return new AshlarError('too-few-servers', message, { retry: 'later' });
}

function byLoad(a: PlacementServer, b: PlacementServer): number {
  return Number(isNearlyFull(a)) - Number(isNearlyFull(b)) || a.copies - b.copies || freeShare(b) - freeShare(a) || (a.serverId < b.serverId ? -1 : 1);
}

function freeShare(server: PlacementServer): number {
  return server.capacityBytes > 0 ? 1 - server.usedBytes / server.capacityBytes : 0;
}

function isNearlyFull(server: PlacementServer): boolean {
  return freeShare(server) < 1 - NEARLY_FULL;
}
