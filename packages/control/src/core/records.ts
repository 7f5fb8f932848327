import type { AttachmentState, Configuration, DiskKind, EventRecord, Move, RebuildBudget, ServerState, Usage, VolumeLimits, VolumeState } from '@ashlar/protocol';
import type { HostId, ServerId, VolumeId } from '@ashlar/words';

/** What the metadata store keeps: the desired state, and the last known observed state that must outlive a restart of the system manager. */

export interface SiteRecord {
  readonly siteId: string;
  readonly createdAtMs: number;
  readonly rebuilds: RebuildBudget;
}

export interface ServerRecord {
  readonly serverId: ServerId;
  readonly state: ServerState;
  readonly address: string;
  readonly pid: number;
  /** The life of its process; another one after each start. */
  readonly instance: string;
  readonly siteId: string;
  /** Empty: unknown. */
  readonly rack: string;
  readonly disk: DiskKind;
  /** Wanted: it takes no new copies, and those that it has go elsewhere. */
  readonly draining: boolean;
  /** Forgotten on the operator's word. The record stays, so that a process of it that still runs is not taken for a new server. */
  readonly removed: boolean;
  readonly capacityBytes: number;
  readonly usedBytes: number;
}

export interface HostRecord {
  readonly hostId: HostId;
  readonly state: 'up' | 'down';
  readonly pid: number;
  readonly siteId: string;
}

export interface AttachmentRecord {
  readonly hostId: HostId;
  readonly readOnly: boolean;
  readonly tcp: boolean;
  /** One copy's own files alone, for comparing. */
  readonly copy: ServerId | null;
  readonly attachNumber: number;
  readonly state: AttachmentState;
  /** Where the program finds it; null until the host has answered. */
  readonly nbd: string | null;
  readonly attachedAtMs: number;
}

export interface AccessEntry {
  readonly principal: string;
  readonly rights: readonly ('read' | 'write' | 'administer')[];
}

export interface VolumeRecord {
  readonly volumeId: VolumeId;
  readonly siteId: string;
  readonly owner: string;
  readonly accessList: readonly AccessEntry[];
  readonly tags: Readonly<Record<string, string>>;
  readonly state: VolumeState;
  readonly createdAtMs: number;
  readonly limits: VolumeLimits;
  readonly attachments: readonly AttachmentRecord[];
  /** Size, members, minimum of copies, copies wanted and durability are in here. */
  readonly configuration: Configuration;
  /** No earlier primary can still hold a read lease: it is proven to be gone. Belongs to the configuration's epoch. */
  readonly predecessorEnded: boolean;
  /** The life of the server's process in which the primary was appointed; another life of it may not go on in this epoch. */
  readonly primaryInstance: string;
  /** Every server that may hold files of this volume: its members, learners, and those whose files are still to be removed. */
  readonly holders: readonly ServerId[];
  /** Members whose cache was lost and whose answer the operator has decided not to wait for. */
  readonly givenUp: readonly ServerId[];
  /** What its copies are to lie on; null: on anything. */
  readonly disk: DiskKind | null;
  readonly move: Move | null;
  /** Given at creation; the same token again means this volume. Empty: none. */
  readonly clientToken: string;
}

/** Usage of a volume over all its attachments that have ended, and the running ones as last heard. */
export interface UsageRecord {
  readonly volumeId: VolumeId;
  readonly ended: Usage;
  readonly running: Usage;
  readonly attachments: number;
}

/** One joining of a machine to the cluster. A name that joins again is another record. */
export interface MachineRecord {
  readonly machine: string;
  readonly joining: number;
  readonly roles: readonly string[];
  readonly parties: readonly { readonly party: string; readonly role: string; readonly address: { readonly host: string; readonly port: number } | null }[];
  /** Of the key with which it joined: whoever asks again with the same key and secret lost our answer. */
  readonly keyId: string;
  readonly inviteId: string;
  readonly joinedAtMs: number;
  /** Null: a member. */
  readonly removedAtMs: number | null;
}

/** An invitation that a join secret is of. The secret itself is not kept. */
export interface InviteRecord {
  readonly inviteId: string;
  readonly secretHash: string;
  readonly roles: readonly string[];
  /** The member that it lets join again under its name; null: for new ones. */
  readonly machine: string | null;
  readonly expiresAtMs: number;
  readonly usesLeft: number;
}

/** The number of the roster, which rises with every change of a machine's record. */
export interface ClusterRecord {
  readonly clusterId: string;
  readonly rosterNumber: number;
}

/** Whose store this is, and who has written it: by that a store that was set back is told from one that was not (docs/adr/0019). */
export interface OriginRecord {
  /** Drawn when the first system manager began. */
  readonly cluster: number;
  /** The lives of the system manager, oldest first: each wrote the revisions from its first up to the next one's. */
  readonly lives: readonly ManagerLife[];
}

export interface ManagerLife {
  readonly life: number;
  readonly first: number;
}

/** A volume of which every file is gone. Kept for a time, and by the servers too: a copy that turns up later belongs to nothing that was forgotten. */
export interface DeletedRecord {
  readonly volumeId: VolumeId;
  readonly atMs: number;
}

export interface RecordTypes {
  readonly cluster: ClusterRecord;
  readonly machine: MachineRecord;
  readonly invite: InviteRecord;
  readonly site: SiteRecord;
  readonly origin: OriginRecord;
  readonly deleted: DeletedRecord;
  readonly server: ServerRecord;
  readonly host: HostRecord;
  readonly volume: VolumeRecord;
  readonly usage: UsageRecord;
}

export type RecordKind = keyof RecordTypes;

type Older<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;

/** A record as versions before this one wrote it: without what they did not know. */
export function completed<K extends RecordKind>(kind: K, value: RecordTypes[K]): RecordTypes[K];
export function completed(kind: RecordKind, value: RecordTypes[RecordKind]): RecordTypes[RecordKind] {
  if (kind === 'volume') return { disk: null, move: null, ...(value as Older<VolumeRecord, 'disk' | 'move'>) };
  if (kind === 'server') return { disk: 'unknown', draining: false, removed: false, ...(value as Older<ServerRecord, 'disk' | 'draining' | 'removed'>) };
  return value;
}

export type NewEvent = Omit<EventRecord, 'sequence'>;
