import type { HostId, ServerId, VolumeId } from '@ashlar/words';
import type { Configuration } from './configuration.ts';
import type { DeletedVolume, HeldCopy, KeptRecord, StoreMark } from './keeping.ts';

/** How one volume is to be shown on one host. */
export interface AttachmentSpec {
  readonly volumeId: VolumeId;
  readonly hostId: HostId;
  readonly readOnly: boolean;
  /** The attach number that the store gave this attachment; readers carry the number that was current, and do not raise it. */
  readonly attachNumber: number;
  /** Listen on loopback TCP as well as on the unix socket. */
  readonly tcp: boolean;
  /** Show this server's own copy alone, read-only and without repair, instead of the volume. */
  readonly copy: ServerId | null;
  readonly limits: VolumeLimits;
}

export interface VolumeLimits {
  /** How long a request may stall before it fails with EIO; 0: for ever. */
  readonly ioTimeoutMs: number;
  /** Requests a second, 0: no limit. */
  readonly iops: number;
  /** Bytes a second, 0: no limit. */
  readonly bandwidthBytes: number;
  /** 0 (first) to 9 (last); 5 by default. */
  readonly priority: number;
}

/** What a process is made of, as it says of itself. Builds that knew only wire version 1 do not. */
export interface Build {
  readonly version: string;
  /** Wire versions that it speaks, on any link. */
  readonly wireLowest: number;
  readonly wireHighest: number;
  /** What it writes on disks, and in which version. */
  readonly formats: Readonly<Record<string, string | number | boolean>>;
}

/** System manager → host. */
export type HostCommand =
  | { readonly kind: 'attach'; readonly spec: AttachmentSpec; readonly configuration: Configuration }
  | { readonly kind: 'detach'; readonly volumeId: VolumeId; readonly readOnly: boolean; readonly copy: ServerId | null }
  | { readonly kind: 'limits'; readonly volumeId: VolumeId; readonly limits: VolumeLimits }
  /** Pushed at every change of an attached volume, and in answer to `ask-configuration`. */
  | { readonly kind: 'configuration'; readonly configuration: Configuration };

/** Host → system manager. */
export type HostMessage =
  | { readonly kind: 'host-hello'; readonly hostId: HostId; readonly pid: number; readonly attachments: readonly AttachmentSpec[]; readonly build: Build | null; /** The newest that the host knows, one for each attachment. */ readonly configurations: readonly Configuration[] }
  | { readonly kind: 'attached'; readonly spec: AttachmentSpec; readonly nbd: string }
  | { readonly kind: 'attach-failed'; readonly spec: AttachmentSpec; readonly code: string; readonly message: string }
  | { readonly kind: 'detached'; readonly volumeId: VolumeId; readonly readOnly: boolean; readonly copy: ServerId | null }
  | { readonly kind: 'ask-configuration'; readonly volumeId: VolumeId; readonly epoch: number }
  /** The primary of this epoch has been silent for so long; a promotion is asked for. */
  | { readonly kind: 'primary-silent'; readonly volumeId: VolumeId; readonly epoch: number; readonly serverId: ServerId; readonly silentMs: number }
  | { readonly kind: 'usage'; readonly volumeId: VolumeId; readonly usage: Usage }
  | { readonly kind: 'host-event'; readonly volumeId: VolumeId; readonly name: string; readonly detail: Readonly<Record<string, string | number | boolean>> };

/** Counted since the attachment began; monotonic. */
export interface Usage {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly readRequests: number;
  readonly writeRequests: number;
  readonly flushRequests: number;
  readonly failedRequests: number;
  readonly longestStallMs: number;
}

/** What a server's copies lie on; the slowest of its directories. `unknown`: the kernel does not say, as for the disks of a virtual machine. */
export const DISK_KINDS = ['nvme', 'ssd', 'hdd', 'unknown'] as const;
export type DiskKind = (typeof DISK_KINDS)[number];

/** `suspect`: it made errors or was slow of late; `failed`: it made one that is final. */
export type DiskHealth = 'ok' | 'suspect' | 'failed';

/** One directory of a server, as its copies met it since the process began. */
export interface DirectoryHealth {
  readonly path: string;
  readonly health: DiskHealth;
  /** Reads, writes and syncs that failed. */
  readonly ioErrors: number;
  /** Blocks whose bytes did not fit their checksum. */
  readonly mismatches: number;
  /** Of a sync, averaged over the last few. */
  readonly syncMs: number;
}

/** Storage server → system manager, about itself. Sent at start, and every SERVER_STATUS_INTERVAL_MS. */
export type ServerMessage =
  | {
      readonly kind: 'server-hello'; readonly serverId: ServerId; readonly pid: number; readonly instance: string; readonly address: string;
      readonly build: Build | null;
      /** Empty: unknown, and so never the same as another's. */
      readonly rack: string;
      /** Empty: that of the manager. */
      readonly siteId: string;
      readonly disk: DiskKind;
      /** It answers `keep`. */
      readonly keeps: boolean;
      readonly mark: StoreMark | null;
    }
  | {
      readonly kind: 'server-status'; readonly serverId: ServerId; readonly capacityBytes: number; readonly usedBytes: number; readonly copies: number;
      /** Reads, writes and records that its copies were sent, lately. */
      readonly requestsPerSecond: number;
      readonly directories: readonly DirectoryHealth[];
    }
  | { readonly kind: 'server-leaving'; readonly serverId: ServerId; readonly reason: string }
  /** The answer to `keep`: the mark that is on stable storage now. `failed`: it could not be written; nobody waits for this server then. */
  | { readonly kind: 'server-kept'; readonly serverId: ServerId; readonly mark: StoreMark | null; readonly taken: boolean; readonly failed: boolean; readonly number: number }
  /** A part of the answer to `ask-ledger`; parts are numbered from 0. */
  | {
      readonly kind: 'server-ledger'; readonly serverId: ServerId; readonly token: number; readonly part: number; readonly last: boolean; readonly mark: StoreMark | null;
      readonly servers: readonly ServerId[]; readonly records: readonly KeptRecord[]; readonly deleted: readonly DeletedVolume[]; readonly copies: readonly HeldCopy[];
    };

/** Supervisor of processes → system manager: this process is proven to be gone (reaped), or runs again. */
export type SupervisorMessage =
  | { readonly kind: 'process-ended'; readonly name: string; readonly pid: number; readonly signal: string | null; readonly code: number | null }
  | { readonly kind: 'process-started'; readonly name: string; readonly pid: number };
