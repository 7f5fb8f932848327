import type { ErrorCode, HostId, ServerId, VolumeId } from '@ashlar/words';
import type { Durability } from './configuration.ts';
import type { Build, DirectoryHealth, DiskHealth, DiskKind, Usage, VolumeLimits } from './control-messages.ts';
import type { CopyState } from './messages.ts';

/** The native API: what the operator, the command line and later the web services ask of the system manager. Plain JSON. */
export type ApiCommand =
  | {
      readonly kind: 'volume-create'; readonly sizeBytes: number; readonly mirrors: number; readonly minCopies: number; readonly durability: Durability;
      readonly limits: VolumeLimits; readonly tags: Readonly<Record<string, string>>;
      /** The same token again gives the same volume. */
      readonly clientToken?: string;
      /** Its copies lie on this kind of disk only. */
      readonly disk?: DiskKind;
      /** The answer has a `placement`: why these servers. */
      readonly explain?: boolean;
      /** Answer with a `PlacementView` and create nothing. */
      readonly dryRun?: boolean;
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
  /** Without a host: the writer's attachment if there is one, else all. `force`: the host's answer is not waited for; what it still sends as the writer is refused. */
  | { readonly kind: 'volume-detach'; readonly volumeId: VolumeId; readonly hostId?: HostId; readonly copy?: ServerId; readonly force?: boolean }
  | { readonly kind: 'volume-delete'; readonly volumeId: VolumeId }
  | { readonly kind: 'volume-scrub'; readonly volumeId: VolumeId }
  /** Makes a mirror primary. `giveUp`: recover without that member, whose answer will not come. */
  | { readonly kind: 'volume-failover'; readonly volumeId: VolumeId; readonly to?: ServerId; readonly giveUp?: ServerId }
  /** Moves the copy on `from` to `to` while the volume is in use; answered when that has begun. Without `to`: ends a move that is under way. */
  | { readonly kind: 'volume-move'; readonly volumeId: VolumeId; readonly from: ServerId; readonly to?: ServerId }
  | { readonly kind: 'server-list' }
  /** Usage and health of everything: a `Report`. */
  | { readonly kind: 'report' }
  | { readonly kind: 'host-list' }
  /** Whether the system manager acts, and why not. */
  | { readonly kind: 'manager-describe' }
  /** Rebuilds the metadata store from what the servers keep. `without`: what only these know is given up. */
  | { readonly kind: 'recover'; readonly dryRun: boolean; readonly without: readonly ServerId[] }
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
  | { readonly kind: 'cluster-status' }
  /** Another server on this machine. Carried out by the supervisor of processes. */
  | { readonly kind: 'server-add'; readonly rack?: string; readonly disk?: DiskKind }
  /** Moves all copies away, and gives it none. `cancel`: it keeps what it still has, and may be given more. */
  | { readonly kind: 'server-drain'; readonly serverId: ServerId; readonly cancel?: boolean }
  /** Forgets a server that was drained. `check`: says only whether that may be. */
  | { readonly kind: 'server-remove'; readonly serverId: ServerId; readonly check?: boolean }
  | { readonly kind: 'cluster-modify'; readonly rebuildBudgetBytes?: number; readonly rebuildsAtOnce?: number }
  /** A join secret for so many machines with these roles; `machine`: for that member, to join again under its name. */
  | { readonly kind: 'cluster-invite'; readonly roles: readonly string[]; readonly ttlMs: number; readonly uses: number; readonly machine?: string }
  | { readonly kind: 'machine-list' }
  /** Its certificate counts nowhere from then on. `force`: although its server has copies, which are then lost. */
  | { readonly kind: 'machine-remove'; readonly machine: string; readonly force: boolean };

/** What the API fills in where a call leaves it out. */
type Defaulted = 'mirrors' | 'minCopies' | 'durability' | 'limits' | 'tags' | 'readOnly' | 'tcp' | 'anyway';
type Plain<T> = T extends VolumeId | ServerId | HostId ? string : T;
type Given<C> = C extends unknown
  ? { readonly [K in keyof C as K extends Defaulted ? never : K]: Plain<C[K]> } & { readonly [K in keyof C as K extends Defaulted ? K : never]?: K extends 'limits' ? Partial<VolumeLimits> : C[K] }
  : never;

/** A command as it is sent: ids are text, and what has a default may be left out. The system manager checks every field. */
export type ApiCall = Given<ApiCommand>;

/** What a command answers; a creation that is only tried out says where the copies would lie. */
export type ApiResult<C extends { readonly kind: ApiCommand['kind'] }> = C extends { readonly kind: 'volume-create'; readonly dryRun: true } ? PlacementView : ApiResults[C['kind']];

/** What each command answers. */
export interface ApiResults extends Record<ApiCommand['kind'], unknown> {
  'volume-create': VolumeView;
  'volume-list': readonly VolumeView[];
  'volume-describe': VolumeView;
  'volume-modify': VolumeView;
  'volume-grow': VolumeView;
  'volume-attach': { readonly volumeId: VolumeId; readonly host: HostId; readonly readOnly: boolean; readonly copy: ServerId | null; readonly nbd: string };
  'volume-detach': { readonly volumeId: VolumeId };
  'volume-delete': { readonly volumeId: VolumeId };
  'volume-scrub': { readonly volumeId: VolumeId; readonly servers: readonly ServerId[] };
  'volume-failover': VolumeView | { readonly volumeId: VolumeId; readonly givenUp: ServerId };
  'volume-move': VolumeView;
  'report': Report;
  'cluster-modify': { readonly siteId: string; readonly rebuilds: RebuildBudget };
  'server-list': readonly ServerView[];
  'host-list': readonly HostView[];
  'manager-describe': ManagerView;
  'recover': RecoveryView;
  'server-lost': { readonly serverId: ServerId; readonly volumes: number };
  'server-stop': { readonly serverId: ServerId };
  'server-start': { readonly serverId: ServerId };
  'server-restart': { readonly serverId: ServerId };
  'cluster-status': ClusterStatus;
  'server-add': { readonly serverId: ServerId };
  'server-drain': ServerView;
  'server-remove': { readonly serverId: ServerId };
  'cluster-invite': InviteView;
  'machine-list': readonly MachineView[];
  'machine-remove': { readonly machine: string; readonly parties: readonly string[] };
}

export type ApiAnswer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

/** EBS's words. A deleted volume's record stays in `deleting` until every server has removed its files: no copy is ever discarded for a volume that the store does not know. */
export type VolumeState = 'creating' | 'available' | 'in-use' | 'deleting' | 'error';

export type AttachmentState = 'attaching' | 'attached' | 'detaching';

/** As last seen. `suspect`: silent, but not known to have ended. */
export type ServerState = 'up' | 'down' | 'suspect';

/** A copy on its way from one server to another, on the operator's word. Over when `from` is no member any more, or when `to` can hold no copy. */
export interface Move {
  readonly from: ServerId;
  readonly to: ServerId;
}

/** What became of one server when places for copies were looked for, in words for people. */
export interface PlacementVerdict {
  readonly serverId: ServerId;
  readonly chosen: boolean;
  readonly why: string;
}

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
  /** What its copies are to lie on; null: on anything. */
  readonly disk: DiskKind | null;
  /** A copy on its way from one server to another. */
  readonly move: Move | null;
  readonly attachments: readonly AttachmentView[];
  readonly io: Usage & { readonly attachments: number };
  /** Only in answer to a creation that asks for it. */
  readonly placement?: PlacementView;
}

export interface PlacementView {
  /** The primary first. */
  readonly servers: readonly ServerId[];
  /** Of every server why it was chosen, or was not. */
  readonly verdicts: readonly PlacementVerdict[];
}

export interface ServerView {
  readonly serverId: ServerId;
  /** `draining`: up, and its copies are on their way elsewhere. */
  readonly state: ServerState | 'draining';
  readonly draining: boolean;
  readonly pid: number;
  readonly address: string;
  readonly site: string;
  readonly rack: string;
  readonly disk: DiskKind;
  readonly requestsPerSecond: number;
  readonly directories: readonly DirectoryHealth[];
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly copies: number;
}

export interface MachineView {
  readonly machine: string;
  /** Which joining of that name. */
  readonly joining: number;
  readonly roles: readonly string[];
  readonly parties: readonly string[];
  readonly addresses: readonly string[];
  readonly state: 'linked' | 'unlinked' | 'removed';
  readonly joinedAt: string;
}

export interface InviteView {
  readonly secret: string;
  readonly roles: readonly string[];
  readonly expiresAt: string;
  readonly uses: number;
}

export interface HostView {
  readonly hostId: HostId;
  readonly state: 'up' | 'down';
  readonly pid: number;
  readonly attachments: number;
}

/** What building copies may take of the whole cluster. */
export interface RebuildBudget {
  /** Over all servers; 0: as much as they can. */
  readonly bytesPerSecond: number;
  /** Copies being built at a time. */
  readonly atOnce: number;
}

/** What was used and what is not as it should be, of everything at one moment. */
export interface Report {
  readonly at: string;
  readonly rebuilds: { readonly running: number; readonly waiting: number; readonly budget: RebuildBudget };
  readonly volumes: readonly VolumeReport[];
  readonly servers: readonly ServerReport[];
  readonly owners: readonly OwnerReport[];
}

interface UsedTraffic {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly requests: number;
  readonly failedRequests: number;
}

export interface VolumeReport extends UsedTraffic {
  readonly volumeId: VolumeId;
  readonly owner: string;
  readonly health: VolumeHealth;
  readonly sizeBytes: number;
  readonly copiesInSync: number;
  readonly copiesWanted: number;
  readonly longestStallMs: number;
  /** What an operator might want to change; empty: nothing. */
  readonly remarks: readonly string[];
}

export interface ServerReport {
  readonly serverId: ServerId;
  readonly state: string;
  readonly disk: DiskHealth | 'unknown';
  readonly ioErrors: number;
  readonly mismatches: number;
  readonly slowestSyncMs: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly copies: number;
  readonly primaries: number;
  readonly requestsPerSecond: number;
}

export interface OwnerReport extends UsedTraffic {
  readonly owner: string;
  readonly volumes: number;
  readonly sizeBytes: number;
  /** Volumes that are not healthy. */
  readonly unhealthy: number;
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
