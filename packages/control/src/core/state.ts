import type { ApiAnswer, ApiCommand, AttachmentSpec, Build, Configuration, CopyReport, CopyStatus, DirectoryHealth, RebuildBudget, Usage, VolumeLimits } from '@ashlar/protocol';
import { hostId, serverId, volumeId, type HostId, type Prng, type ServerId, type VolumeId } from '@ashlar/words';
import type { Principal } from './authorize.ts';
import type { Keeper, Keeping } from './keeping.ts';
import type { ManagerEffects, ManagerOptions } from './manager-messages.ts';
import type { AnyStored, StoreSnapshot, TransactionOutcome } from './metadata-store.ts';
import type { Turns } from './turns.ts';
import type { Unsettled } from './unsettled.ts';
import { completed, type OriginRecord, type HostRecord, type NewEvent, type ServerRecord, type UsageRecord, type VolumeRecord } from './records.ts';
import type { Standing } from './standing.ts';
import type { Gathering } from './store-recovery.ts';

export const NO_USAGE: Usage = { readBytes: 0, writeBytes: 0, readRequests: 0, writeRequests: 0, flushRequests: 0, failedRequests: 0, longestStallMs: 0 };
export const DEFAULT_LIMITS: VolumeLimits = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };

/** A storage server: its record, and what is observed of it now. */
export interface Server {
  readonly serverId: ServerId;
  record: ServerRecord | null;
  linked: boolean;
  /** It said hello on its present link: what is sent there reaches that life of its process. */
  greeted: boolean;
  /** Heard in this life of the manager. */
  heard: boolean;
  /** When the present life of its process said hello. */
  helloMs: number;
  /** On the attentive clock (see Manager.attentiveMs). */
  heardMs: number;
  unlinkedMs: number;
  /** Somebody else finds it silent; attentive clock. */
  complainedMs: number;
  /** It was found silent, and was not heard since. Those that complained may have gone over to another server: that is no word of this one. */
  silent: boolean;
  leaving: boolean;
  /** Reaped: `record.instance` is proven to be gone. */
  ended: boolean;
  /** Its disks are gone for good, says the operator. */
  lost: boolean;
  /** As last looked at, so that a change can be told apart. */
  wasUp: boolean;
  readonly endedInstances: Set<string>;
  readonly endedPids: Set<number>;
  copies: number;
  requestsPerSecond: number;
  directories: readonly DirectoryHealth[];
  /** As the present life of its process said; null: it did not, or has said nothing yet. */
  build: Build | null;
  /** By the current life of its process. */
  readonly reports: Map<VolumeId, CopyReport>;
  /** Volumes of which it is a holder. */
  readonly volumes: Set<VolumeId>;
  /** What it keeps for the store; null before its hello in this life of the manager. */
  keeper: Keeper | null;
  /** It belongs to another cluster. */
  foreign: boolean;
  /** Volumes that the store does not know, of which it holds copies. */
  readonly unknown: Set<VolumeId>;
}

export interface Host {
  readonly hostId: HostId;
  record: HostRecord | null;
  linked: boolean;
  /** What it shows, and the newest configuration of each that it knows; null before its hello in this life of the manager. */
  shown: { readonly attachments: readonly AttachmentSpec[]; readonly configurations: readonly Configuration[] } | null;
  /** As the present life of its process said. */
  build: Build | null;
}

interface PrimaryStatus {
  readonly from: ServerId;
  readonly epoch: number;
  readonly number: number;
  readonly serving: boolean;
  readonly copies: readonly CopyStatus[];
}

/** A command that waits for the world to get there. */
export interface Waiter {
  readonly requestId: number;
  readonly deadlineMs: number;
  /** Null: not yet. */
  readonly check: (v: Volume) => ApiAnswer | null;
}

/** A volume: its record, and what is observed of it now. All but the record may be lost at any moment. */
export interface Volume {
  readonly volumeId: VolumeId;
  record: VolumeRecord;
  revision: number;
  /** Deleted from the store. */
  gone: boolean;
  /** A transaction of it is under way, or its outcome is not known yet: nothing is decided meanwhile. */
  pending: boolean;
  /** The store did not answer: nothing is tried again before this time, or a full disk would keep the manager busy. */
  retryAtMs: number;
  status: PrimaryStatus | null;
  /** The primary of this epoch has served since it was appointed: whoever was before it can hold no lease any more. */
  served: boolean;
  /** When the primary reported its copy without having said since that it leads. */
  reportedMs: number | null;
  /** Since when hosts complain about this primary, and when they last did. */
  complaint: { readonly epoch: number; readonly sinceMs: number; lastMs: number } | null;
  pushedMs: number;
  /** Since when the current configuration has been pushed. */
  firstPushedMs: number;
  /** Promotions in a row that came to nothing: the one promoted did not say that it leads. */
  unconfirmed: number;
  deficitSinceMs: number | null;
  /** Since when a copy is missing and there is no primary at work that could fill one. */
  unservedSinceMs: number | null;
  readonly unreachableSinceMs: Map<ServerId, number>;
  /** Servers without a role that count as holders because they could not make a copy, and since when. */
  readonly unmadeSinceMs: Map<ServerId, number>;
  /** Members whose acknowledgements are slow, and when their primary last said so. */
  readonly slow: Map<ServerId, number>;
  discardedMs: number;
  nudgedMs: number;
  hostToldMs: number;
  stuckTold: boolean;
  /** Asked for when every copy in sync of this epoch had lost its cache, and when last. */
  recovery: { readonly epoch: number; readonly token: number; askedMs: number } | null;
  waiters: Waiter[];
  /** A learner of it is just being written to the store. */
  beginsRebuild: boolean;
  /** Learners that were given nothing but their name: they are filled from the beginning. */
  readonly built: Set<ServerId>;
  /** What its primary was told of the budget for rebuilds, and when. */
  fillRate: { readonly epoch: number; readonly bytesPerSecond: number; readonly toldMs: number } | null;
}

/** A command that waits until its volume is not being changed any more. */
export interface HeldCommand {
  readonly requestId: number;
  readonly principal: Principal;
  readonly command: ApiCommand;
  readonly deadlineMs: number;
}

/** A volume that wants one more copy built, and may begin when the budget has room and it is ready. */
export interface RebuildWish {
  /** Copies that it has, in sync or on their way: the fewer, the sooner. */
  readonly copies: number;
  readonly sinceMs: number;
  /** False: its primary is about to serve, and cannot fill anything before. */
  readonly ready: boolean;
  /** Where, on order; null: where placement finds it best. */
  readonly to: ServerId | null;
  readonly why: string;
}

export interface Creation {
  readonly volumeId: VolumeId;
  /** Who waits for the store's answer; empty when it stayed away. */
  asking: number[];
}

export interface Manager {
  readonly options: ManagerOptions;
  readonly prng: Prng;
  fx: ManagerEffects;
  nowMs: number;
  /** Wall clock minus `nowMs`. */
  wallOffsetMs: number;
  /**
   * A clock that does not count the time in which the manager itself was not running (frozen, or starved of its processor): silence
   * is measured on it, or everybody would look silent to a manager that wakes up.
   */
  attentiveMs: number;
  startedMs: number;
  loaded: boolean;
  loadAskedMs: number;
  /** Whether the store is known to be the newest; see standing.ts. */
  standing: Standing;
  startActing: () => void;
  /** This life of the manager, drawn; and whether the store has it. */
  life: number;
  begun: boolean;
  /** When that was last tried. */
  beganMs: number;
  /** It has refused to act, and not remembered what it was told then of volumes that its store did not know. */
  refused: boolean;
  origin: OriginRecord | null;
  originRevision: number;
  /** The store's revision when this life found it. */
  loadedRevision: number;
  /** Servers that the store knew then, and that were not removed. */
  readonly knownServers: Set<ServerId>;
  readonly keeping: Keeping;
  /** `ashlar recover` is asking the servers. */
  gathering: Gathering | null;
  token: number;
  readonly transactions: Map<number, (outcome: TransactionOutcome) => void>;
  /** Run when the store has been read back. */
  afterLoad: (() => void)[];
  readonly servers: Map<ServerId, Server>;
  readonly hosts: Map<HostId, Host>;
  readonly volumes: Map<VolumeId, Volume>;
  /** Creations by client token that are not known to have happened: a repeated one joins them, or tries again with the same id. */
  readonly creations: Map<string, Creation>;
  /** Creations under way, and when each began; those that wait for one of them to end. */
  readonly creating: Map<VolumeId, number>;
  readonly waitingCreations: (() => void)[];
  readonly usage: Map<VolumeId, UsageRecord>;
  readonly usageRunning: Map<VolumeId, Map<HostId, Usage>>;
  usageSavedMs: number;
  readonly usageDirty: Set<VolumeId>;
  /** Commands for volumes that are just being changed, and those that came before the servers had written down what the store has. */
  readonly held: HeldCommand[];
  /** Volumes with something left to do. A settled volume costs nothing. */
  readonly unsettled: Unsettled;
  /** Null: as the options say. */
  rebuildBudget: RebuildBudget | null;
  /** Among these are all that have a learner, or are about to. */
  readonly learning: Set<Volume>;
  /** Of volumes that nobody uses. */
  readonly promotions: Turns;
  readonly removals: Turns;
  readonly rebuildsBegun: Turns;
  /** Not spoken to any more. */
  readonly removedServers: Set<ServerId>;
  readonly rebuildsWanted: Map<VolumeId, RebuildWish>;
}

function newServer(m: Manager, id: ServerId): Server {
  const server: Server = {
    serverId: id, record: null, linked: false, greeted: false, heard: false, helloMs: -Infinity, heardMs: m.attentiveMs, unlinkedMs: m.attentiveMs, complainedMs: -Infinity, silent: false, leaving: false, ended: false,
    lost: false, wasUp: false, endedInstances: new Set(), endedPids: new Set(), copies: 0, build: null, requestsPerSecond: 0, directories: [], reports: new Map(), volumes: new Set(), keeper: null, foreign: false, unknown: new Set(),
  };
  m.servers.set(id, server);
  return server;
}

export function serverOf(m: Manager, id: ServerId): Server {
  return m.servers.get(id) ?? newServer(m, id);
}

export function hostOf(m: Manager, id: HostId): Host {
  const known = m.hosts.get(id);
  if (known) return known;
  const host: Host = { hostId: id, record: null, linked: false, shown: null, build: null };
  m.hosts.set(id, host);
  return host;
}

function newVolume(id: VolumeId, record: VolumeRecord, revision: number): Volume {
  return {
    volumeId: id, record, revision, gone: false, pending: false, retryAtMs: -Infinity, status: null, served: false, reportedMs: null, complaint: null, pushedMs: -Infinity,
    firstPushedMs: -Infinity, unconfirmed: 0, deficitSinceMs: null, unservedSinceMs: null, unreachableSinceMs: new Map(), unmadeSinceMs: new Map(), slow: new Map(), discardedMs: -Infinity, nudgedMs: -Infinity, hostToldMs: -Infinity, stuckTold: false, recovery: null, waiters: [], beginsRebuild: false, built: new Set(), fillRate: null,
  };
}

/** Takes the store's word for everything; observations stay. */
export function takeSnapshot(m: Manager, snapshot: StoreSnapshot): void {
  const present = new Set<VolumeId>();
  for (const stored of snapshot.records) {
    takeRecord(m, stored);
    if (stored.kind === 'volume') present.add(volumeId(stored.id));
  }
  // An answer that was long on its way knows nothing of younger volumes.
  for (const v of m.volumes.values()) if (!present.has(v.volumeId) && v.revision <= snapshot.revision) dropVolume(m, v);
}

export function takeRecord(m: Manager, stored: AnyStored): void {
  switch (stored.kind) {
    case 'volume': return takeVolume(m, volumeId(stored.id), completed('volume', stored.value), stored.revision);
    case 'server': {
      if (stored.value.removed === true) {
        m.removedServers.add(serverId(stored.id));
        return;
      }
      const server = serverOf(m, serverId(stored.id));
      // What is observed now is newer than what was saved.
      if (server.record === null) server.record = { ...completed('server', stored.value), state: 'down' };
      return;
    }
    case 'host': {
      const host = hostOf(m, hostId(stored.id));
      host.record ??= { ...stored.value, state: 'down' };
      return;
    }
    case 'usage':
      m.usage.set(volumeId(stored.id), m.usage.get(volumeId(stored.id)) ?? stored.value);
      return;
    // The cluster's own, which decide nothing about volumes.
    case 'cluster':
    case 'machine':
    case 'invite':
      return;
    case 'site':
      if (stored.id === m.options.siteId) m.rebuildBudget = stored.value.rebuilds;
      return;
    case 'origin':
    case 'deleted':
      return;
  }
}

/** `force`: the store has just refused a change, so this is what it has, even where it was set back to an older state. */
export function takeVolume(m: Manager, id: VolumeId, record: VolumeRecord, revision: number, force = false): void {
  const known = m.volumes.get(id);
  if (known && known.revision > revision && !force) return;
  const v = known ?? newVolume(id, record, revision);
  const before = known?.record;
  v.record = record;
  v.revision = revision;
  m.volumes.set(id, v);
  for (const holder of before?.holders ?? []) m.servers.get(holder)?.volumes.delete(id);
  for (const holder of record.holders) serverOf(m, holder).volumes.add(id);
  if (before?.configuration.epoch !== record.configuration.epoch) {
    v.complaint = null;
    v.reportedMs = null;
    v.pushedMs = -Infinity;
    v.firstPushedMs = m.nowMs;
    if (before?.configuration.members[0].serverId !== record.configuration.members[0].serverId || before?.primaryInstance !== record.primaryInstance) v.served = false;
  }
  m.unsettled.add(id);
  if (record.configuration.learners.length > 0) m.learning.add(v);
}

export function dropVolume(m: Manager, v: Volume): void {
  v.gone = true;
  for (const holder of v.record.holders) m.servers.get(holder)?.volumes.delete(v.volumeId);
  m.volumes.delete(v.volumeId);
  m.unsettled.delete(v.volumeId);
  m.rebuildsWanted.delete(v.volumeId);
  m.usage.delete(v.volumeId);
  m.usageRunning.delete(v.volumeId);
  m.usageDirty.delete(v.volumeId);
}

export function wallMs(m: Manager): number {
  return m.nowMs + m.wallOffsetMs;
}

export function eventOf(m: Manager, name: string, subject: string, reason: string, detail: NewEvent['detail'] = {}, source = 'manager'): NewEvent {
  return { atMs: wallMs(m), name, subject, source, reason, detail };
}

export function unsettle(m: Manager, ids: Iterable<VolumeId>): void {
  for (const id of ids) m.unsettled.add(id);
}
