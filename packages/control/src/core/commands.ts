import type { Build, CopyState, Durability, Usage, VolumeLimits } from '@ashlar/protocol';
import type { ErrorCode, HostId, ServerId, VolumeId } from '@ashlar/words';
import type { AttachmentState, ServerState, VolumeState } from './records.ts';

/** The native API: what the operator, the command line and later the web services ask of the system manager. Plain JSON. */
export type ApiCommand =
  | {
      readonly kind: 'volume-create'; readonly sizeBytes: number; readonly mirrors: number; readonly minCopies: number; readonly durability: Durability;
      readonly limits: VolumeLimits; readonly tags: Readonly<Record<string, string>>;
      /** The same token again gives the same volume. */
      readonly clientToken?: string;
    }
  | { readonly kind: 'volume-list' }
  | { readonly kind: 'volume-describe'; readonly volumeId: VolumeId }
  | {
      readonly kind: 'volume-modify'; readonly volumeId: VolumeId; readonly minCopies?: number; readonly mirrors?: number; readonly durability?: Durability;
      readonly limits?: Partial<VolumeLimits>; readonly tags?: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'volume-grow'; readonly volumeId: VolumeId; readonly sizeBytes: number }
  | {
      readonly kind: 'volume-attach'; readonly volumeId: VolumeId; readonly hostId?: HostId; readonly readOnly: boolean; readonly tcp: boolean;
      readonly copy?: ServerId;
    }
  /** Without a host: the writer's attachment if there is one, else all. */
  | { readonly kind: 'volume-detach'; readonly volumeId: VolumeId; readonly hostId?: HostId; readonly copy?: ServerId }
  | { readonly kind: 'volume-delete'; readonly volumeId: VolumeId }
  | { readonly kind: 'volume-scrub'; readonly volumeId: VolumeId }
  /** Makes a mirror primary. `giveUp`: recover without that member, whose answer will not come. */
  | { readonly kind: 'volume-failover'; readonly volumeId: VolumeId; readonly to?: ServerId; readonly giveUp?: ServerId }
  | { readonly kind: 'server-list' }
  | { readonly kind: 'host-list' }
  /** The server's disks are lost for good: rebuild at once, without the delay. */
  | { readonly kind: 'server-lost'; readonly serverId: ServerId }
  /** Ends the server's process, in order or by SIGKILL, and leaves it down until `server-start`. Carried out by the supervisor of processes. */
  | { readonly kind: 'server-stop'; readonly serverId: ServerId; readonly kill?: boolean }
  | { readonly kind: 'server-start'; readonly serverId: ServerId }
  /**
   * Ends the server's process in order and starts it again, with the code that is installed now. Refused while another copy of one of its volumes is missing, so
   * that it would be the last, unless `anyway`.
   */
  | { readonly kind: 'server-restart'; readonly serverId: ServerId; readonly anyway: boolean }
  /** Every process with its version and state, and whether an upgrade is under way. */
  | { readonly kind: 'cluster-status' };

export type ApiAnswer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

export type VolumeHealth = 'healthy' | 'degraded' | 'faulted' | 'unknown';

export interface CopyView {
  readonly serverId: ServerId;
  readonly role: 'primary' | 'mirror' | 'learner';
  readonly state: CopyState;
  readonly movedBytes: number;
  readonly remainingBytes: number;
}

export interface AttachmentView {
  readonly host: HostId;
  readonly nbd: string | null;
  readonly readOnly: boolean;
  readonly copy: ServerId | null;
  readonly state: AttachmentState;
}

export interface VolumeView {
  readonly volumeId: VolumeId;
  readonly state: VolumeState;
  readonly health: VolumeHealth;
  readonly sizeBytes: number;
  readonly epoch: number;
  readonly lineage: number;
  readonly mirrors: number;
  readonly minCopies: number;
  readonly durability: Durability;
  readonly owner: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: string;
  readonly limits: VolumeLimits;
  readonly copies: readonly CopyView[];
  readonly attachments: readonly AttachmentView[];
  readonly io: Usage & { readonly attachments: number };
}

export interface ServerView {
  readonly serverId: ServerId;
  readonly state: ServerState;
  readonly pid: number;
  readonly address: string;
  readonly site: string;
  readonly rack: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly copies: number;
}

export interface ProcessView {
  readonly name: string;
  readonly role: 'system manager' | 'storage server' | 'host';
  readonly state: 'up' | 'down' | 'suspect' | 'draining';
  readonly pid: number;
  /** Null: a build that does not say (version 0.1), or one that was not heard in this life of the system manager. */
  readonly build: Build | null;
}

export interface ClusterStatus {
  readonly processes: readonly ProcessView[];
  /** Processes that are up are of more than one build. */
  readonly upgradeUnfinished: boolean;
  readonly volumes: number;
  /** Of those, the ones with as many copies in sync as they want. */
  readonly healthyVolumes: number;
}

export interface HostView {
  readonly hostId: HostId;
  readonly state: 'up' | 'down';
  readonly pid: number;
  readonly attachments: number;
}
