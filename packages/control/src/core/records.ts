import type { Configuration, Usage, VolumeLimits } from '@ashlar/protocol';
import type { HostId, ServerId, VolumeId } from '@ashlar/words';

/** What the metadata store keeps: the desired state, and the last known observed state that must outlive a restart of the system manager. */

export interface SiteRecord {
  readonly siteId: string;
  readonly createdAtMs: number;
}

/** `suspect`: silent, but not known to have ended. `draining`: takes no new copies. */
export type ServerState = 'up' | 'down' | 'suspect' | 'draining';

export interface ServerRecord {
  readonly serverId: ServerId;
  readonly state: ServerState;
  readonly address: string;
  readonly pid: number;
  /** The life of its process; another one after each start. */
  readonly instance: string;
  readonly siteId: string;
  /** Stored for placement; not used while there is one rack. */
  readonly rack: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
}

export interface HostRecord {
  readonly hostId: HostId;
  readonly state: 'up' | 'down';
  readonly pid: number;
  readonly siteId: string;
}

/** EBS's words. A deleted volume's record stays in `deleting` until every server has removed its files: no copy is ever discarded for a volume that the store does not know. */
export type VolumeState = 'creating' | 'available' | 'in-use' | 'deleting' | 'error';

export type AttachmentState = 'attaching' | 'attached' | 'detaching';

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

/** Whose store this is, and who has written it: by that a store that was set back is told from one that was not (docs/adr/0019). */
export interface ClusterRecord {
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
  readonly site: SiteRecord;
  readonly cluster: ClusterRecord;
  readonly deleted: DeletedRecord;
  readonly server: ServerRecord;
  readonly host: HostRecord;
  readonly volume: VolumeRecord;
  readonly usage: UsageRecord;
}

export type RecordKind = keyof RecordTypes;

/** What happened, to whom, when, by whom and why. Appended with the change that it tells of, in one transaction. */
export interface EventRecord {
  /** Rising by one; the cursor of `events --follow`. */
  readonly sequence: number;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  readonly name: string;
  /** A volume, server, host or site id. */
  readonly subject: string;
  /** `manager`, `operator`, `supervisor`, or the id of the server or host that told of it. */
  readonly source: string;
  readonly reason: string;
  readonly detail: EventDetail;
}

export type EventDetail = Readonly<Record<string, string | number | boolean>>;
export type NewEvent = Omit<EventRecord, 'sequence'>;
