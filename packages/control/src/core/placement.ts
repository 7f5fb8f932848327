import type { DiskKind, PlacementVerdict } from '@ashlar/protocol';
import { AshlarError, type ServerId } from '@ashlar/words';

/** A storage server as placement sees it. */
export interface PlacementServer {
  readonly serverId: ServerId;
  readonly state: 'up' | 'down' | 'suspect' | 'draining';
  readonly siteId: string;
  /** Empty: unknown, and so never the same as another's. */
  readonly rack: string;
  readonly disk: DiskKind;
  /** 0: not told yet. */
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly copies: number;
  readonly primaries: number;
  readonly requestsPerSecond: number;
  /** One of its disks has failed for good. */
  readonly diskFailed: boolean;
}

export interface PlacementRequest {
  readonly siteId: string;
  readonly count: number;
  /** Already hold a copy, or must not. */
  readonly exclude: readonly ServerId[];
  /** Whose racks are taken: the copies that stay. */
  readonly apartFrom: readonly ServerId[];
  /** Null: any. */
  readonly disk: DiskKind | null;
}

export interface Placement {
  /** The primary first. Fewer than asked for if there are too few. */
  readonly chosen: readonly ServerId[];
  /** Of every server, the chosen ones first, then by load. */
  readonly verdicts: readonly PlacementVerdict[];
}

/** Free bytes below which a server takes no new copy: its journals and destaging need room even if nothing is written to the new one. */
export const PLACEMENT_RESERVE_BYTES = 256 * 2 ** 20;
/** A server fuller than this comes after all others, however few copies it has. */
const NEARLY_FULL = 0.9;
/** Requests a second beside which fewer do not matter: a twentieth of what a server of two slow cores answers. */
const LOAD_FLOOR = 1000;

interface Scale {
  readonly copies: number;
  readonly requestsPerSecond: number;
}

/**
 * Looks at every server, and picks distinct ones in distinct racks (where they are known) for new copies, the least loaded first. A pure function: the
 * same servers in any order give the same answer. Volumes are sparse, so a volume's size is not reserved.
 */
export function weigh(request: PlacementRequest, servers: readonly PlacementServer[]): Placement {
  const scale = { copies: Math.max(1, ...servers.map((server) => server.copies)), requestsPerSecond: Math.max(LOAD_FLOOR, ...servers.map((server) => server.requestsPerSecond)) };
  const ordered = [...servers].sort((a, b) => byLoad(scale, a, b));
  const racks = new Map<string, ServerId>();
  for (const id of request.apartFrom) {
    const rack = servers.find((server) => server.serverId === id)?.rack ?? '';
    if (rack !== '') racks.set(rack, id);
  }
  const chosen: PlacementServer[] = [];
  const why = new Map<ServerId, string>();
  for (const server of ordered) {
    const obstacle = obstacleTo(request, server, racks);
    if (obstacle !== null) why.set(server.serverId, obstacle);
    else if (chosen.length >= request.count) why.set(server.serverId, `more loaded than those chosen: ${describe(server)}`);
    else {
      chosen.push(server);
      why.set(server.serverId, `${chosen.length === 1 ? 'the least loaded' : 'the least loaded of those left'}: ${describe(server)}`);
      if (server.rack !== '') racks.set(server.rack, server.serverId);
    }
  }
  const verdicts = [...chosen, ...ordered.filter((server) => !chosen.includes(server))]
    .map(({ serverId }) => ({ serverId, chosen: chosen.some((server) => server.serverId === serverId), why: why.get(serverId) as string }));
  return { chosen: [...chosen].sort((a, b) => a.primaries - b.primaries || byLoad(scale, a, b)).map((server) => server.serverId), verdicts };
}

/** As `weigh`, or throws `too-few-servers` or `no-space` with what stood against each server. */
export function place(request: PlacementRequest, servers: readonly PlacementServer[]): ServerId[] {
  const { chosen, verdicts } = weigh(request, servers);
  if (chosen.length < request.count) throw tooFew(request, servers, verdicts);
  return [...chosen];
}

function tooFew(request: PlacementRequest, servers: readonly PlacementServer[], verdicts: readonly PlacementVerdict[]): AshlarError {
  const able = verdicts.filter((verdict) => verdict.chosen).length;
  const against = verdicts.filter((verdict) => !verdict.chosen).map(({ serverId, why }) => `${serverId}: ${why}`).join('; ');
  const needed = `${request.count} ${request.count === 1 ? 'server is' : 'distinct servers are'} needed; ${able} of ${servers.length} can take a copy`;
  const full = servers.filter((server) => isFull(server) && obstacleTo(request, { ...server, usedBytes: 0, capacityBytes: PLACEMENT_RESERVE_BYTES }, new Map()) === null).length;
  return new AshlarError(full > 0 && able + full >= request.count ? 'no-space' : 'too-few-servers', against === '' ? needed : `${needed} (${against})`, { retry: 'later' });
}

/** Null: it may take a copy. */
function obstacleTo(request: PlacementRequest, server: PlacementServer, racks: ReadonlyMap<string, ServerId>): string | null {
  if (server.state === 'draining') return 'it is being drained';
  if (server.state !== 'up') return `it is ${server.state}`;
  if (server.siteId !== request.siteId) return `it is at another site, ${server.siteId}`;
  if (request.exclude.includes(server.serverId)) return 'it holds a copy already, or did';
  if (server.diskFailed) return 'a disk of it has failed';
  if (request.disk !== null && server.disk !== request.disk) return `its disk is ${server.disk === 'unknown' ? 'of an unknown kind' : server.disk}, not ${request.disk}`;
  if (isFull(server)) return `it has less than ${PLACEMENT_RESERVE_BYTES / 2 ** 20} MiB free`;
  const neighbour = racks.get(server.rack);
  return neighbour === undefined ? null : `its rack ${server.rack} has a copy already, on ${neighbour}`;
}

/** One that has just said hello has not told yet how large it is: it comes last, and is not full. */
function isFull(server: PlacementServer): boolean {
  return server.capacityBytes > 0 && server.capacityBytes - server.usedBytes < PLACEMENT_RESERVE_BYTES;
}

function describe(server: PlacementServer): string {
  const used = server.capacityBytes > 0 ? `${Math.round(100 * usedShare(server))} % full, ` : '';
  return `${used}${server.copies} ${server.copies === 1 ? 'copy' : 'copies'}, ${Math.round(server.requestsPerSecond)} requests a second`;
}

/** A server that is no worse in anything, and better in something, comes first. */
function byLoad(scale: Scale, a: PlacementServer, b: PlacementServer): number {
  return Number(isNearlyFull(a)) - Number(isNearlyFull(b)) || load(scale, a) - load(scale, b) || (a.serverId < b.serverId ? -1 : 1);
}

/** Copies, requests and bytes, each as a share of what the most loaded server has of it: none of them alone says how much a server has to do. */
function load(scale: Scale, server: PlacementServer): number {
  return server.copies / scale.copies + server.requestsPerSecond / scale.requestsPerSecond + usedShare(server);
}

function usedShare(server: PlacementServer): number {
  return server.capacityBytes > 0 ? server.usedBytes / server.capacityBytes : 1;
}

function isNearlyFull(server: PlacementServer): boolean {
  return usedShare(server) > NEARLY_FULL;
}
