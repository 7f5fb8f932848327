import type { CopyState, Durability, Usage, VolumeLimits } from '@ashlar/protocol';
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
  /** Whether the system manager acts, and why not. */
  | { readonly kind: 'manager-describe' }
  /** Rebuilds the metadata store from what the servers keep. `without`: what only these know is given up. */
  | { readonly kind: 'recover'; readonly dryRun: boolean; readonly without: readonly ServerId[] }
  /** The server's disks are lost for good: rebuild at once, without the delay. */
  | { readonly kind: 'server-lost'; readonly serverId: ServerId }
  /** Ends the server's process, in order or by SIGKILL, and leaves it down until `server-start`. Carried out by the supervisor of processes. */
  | { readonly kind: 'server-stop'; readonly serverId: ServerId; readonly kill?: boolean }
  | { readonly kind: 'server-start'; readonly serverId: ServerId };

export type ApiAnswer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

export interface ManagerView {
  readonly state: 'waiting' | 'acting' | 'refusing';
  /** Empty while it acts. */
  readonly reason: string;
  readonly cluster: string | null;
  /** Known servers and hosts that it has not heard since it started. */
  readonly unheard: readonly string[];
}

export interface RecoveredVolume {
  readonly volumeId: VolumeId;
  /** `deleted`: its deletion was completed. `gone`: no file of it is left on any server. `unknown`: what is known contradicts itself, and it must be decided by hand. */
  readonly outcome: 'restored' | 'deleted' | 'gone' | 'unknown';
  readonly epoch: number;
  readonly members: readonly ServerId[];
  readonly sizeBytes: number;
  /** What is not known, or lost, or was decided about it. */
  readonly notes: readonly string[];
}

/** What `ashlar recover` does, or did. */
export interface RecoveryView {
  readonly applied: boolean;
  readonly cluster: string;
  readonly heard: readonly ServerId[];
  readonly without: readonly ServerId[];
  readonly volumes: readonly RecoveredVolume[];
  /** Why it cannot be done as it stands. */
  readonly blocked: readonly string[];
  /** What is lost in any case. */
  readonly lost: readonly string[];
}

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

export interface HostView {
  readonly hostId: HostId;
  readonly state: 'up' | 'down';
  readonly pid: number;
  readonly attachments: number;
}
