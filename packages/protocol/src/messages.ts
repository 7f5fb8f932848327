import type { ServerId, VolumeId } from '@ashlar/words';
import type { Configuration, Member, SessionGeneration } from './configuration.ts';
import type { Frame } from './frame.ts';
import type { Keep } from './keeping.ts';

/** The first sequence number that a copy's log holds of an epoch. Lists are in rising order. */
export interface EpochStart {
  readonly epoch: number;
  readonly firstSeq: number;
}

/** Where a log stands: the last record, and the digest of everything up to it. */
export interface LogPosition {
  readonly seq: number;
  readonly chain: number;
}

/** How the session window stands at a log position: the newest generation, and the highest request number applied. */
export interface SessionMark {
  readonly attachNumber: number;
  readonly count: number;
  readonly appliedThrough: number;
}

/** Why a copy cannot be trusted with new data any more; it leaves the in-sync set and is rebuilt. */
export type CopyFault = 'sync-failed' | 'append-failed' | 'corrupt' | 'no-space' | 'restarts';

/** Between the copies of one volume. `epoch` is always the sender's. */
export type CopyMessage =
  /** Primary → copy: promise this epoch (durably, before answering) and say where your log stands. */
  | { readonly kind: 'adopt'; readonly epoch: number; readonly configuration: Configuration }
  | {
      readonly kind: 'adopted'; readonly epoch: number; readonly incarnation: number; readonly lineage: number;
      /** Names this answer: `follow` and `restart-log` echo it, and later `progress` carries it, so that late and repeated ones are told apart. */
      readonly attempt: number;
      /** The life of the answering server's process: its grants cover only relations of the same life. */
      readonly instance: number;
      readonly lastSeq: number; readonly durableSeq: number; readonly epochStarts: readonly EpochStart[];
      /** False while the copy lacks data below its log: a new copy, or one whose filling was not finished. */
      readonly complete: boolean;
    }
  /** Primary → copy: drop what your log holds after this position; records follow from there. */
  | { readonly kind: 'follow'; readonly epoch: number; readonly attempt: number; readonly afterSeq: number }
  /**
   * Primary → learner: forget your log; it starts again at this position, and the extents below it are compared.
   * `commonSeq`: where your history and mine part (-1: nowhere known); data settled from beyond it is thrown away.
   */
  | { readonly kind: 'restart-log'; readonly epoch: number; readonly attempt: number; readonly commonSeq: number; readonly lineage: number; readonly position: LogPosition; readonly epochStarts: readonly EpochStart[]; readonly session: SessionMark }
  /** Primary → copy: one record. frame.senderEpoch is the epoch; it follows directly on record frame.firstSeq - 1. */
  | { readonly kind: 'append'; readonly frame: Frame }
  /** Copy → primary: in the journal up to seq, on stable storage up to durableSeq. Also the answer to `sync`. `chain`: digest at seq. */
  | { readonly kind: 'progress'; readonly epoch: number; readonly attempt: number; readonly seq: number; readonly durableSeq: number; readonly chain: number }
  /** Copy → primary: a record was missing; send again from seq + 1. */
  | { readonly kind: 'gap'; readonly epoch: number; readonly attempt: number; readonly seq: number }
  /** Primary → copy: make everything stable that you have; answer with `progress`. */
  | { readonly kind: 'sync'; readonly epoch: number }
  /** Copy → sender of an older epoch. */
  | { readonly kind: 'fenced'; readonly epoch: number }
  /** Copy → primary: take me out. */
  | { readonly kind: 'leaving'; readonly epoch: number; readonly fault: CopyFault }
  /**
   * Former primary → those who followed it in this epoch: it leads no more, and answers no read under their leases. Whoever granted one to it in
   * this epoch need not wait for its end. Wire version 2.
   */
  | { readonly kind: 'lease-returned'; readonly epoch: number }
  /** Mirror → primary: this process is about to end in order. Take me out, if the minimum of copies allows; I go on acknowledging until then. Wire version 2. */
  | { readonly kind: 'retiring'; readonly epoch: number }
  /** Primary → learner: which extents at or after `from` do you hold? At most EXTENT_LIST_MAX are listed. */
  | { readonly kind: 'list-extents'; readonly epoch: number; readonly from: number }
  | { readonly kind: 'extents'; readonly epoch: number; readonly from: number; readonly extents: readonly number[]; readonly end: boolean }
  /** Primary → learner: the versions and checksums of an extent, each block's bytes verified against its checksum first. */
  | { readonly kind: 'compare'; readonly epoch: number; readonly extent: number }
  | { readonly kind: 'compared'; readonly epoch: number; readonly attempt: number; readonly extent: number; readonly seq: number; readonly blocks: Uint8Array }
  /** Primary → learner: blocks of one extent as they were at frame.firstSeq; applies to blocks that are absent or older. */
  | { readonly kind: 'fill'; readonly epoch: number; readonly extent: number; readonly frame: Frame }
  | { readonly kind: 'filled'; readonly epoch: number; readonly extent: number }
  /** Primary → learner: every extent agreed. Remember durably that nothing is missing below your log. */
  | { readonly kind: 'complete'; readonly epoch: number; readonly attempt: number }
  | { readonly kind: 'completed'; readonly epoch: number; readonly attempt: number }
  /** Either way: send me the good bytes of these blocks; mine are corrupt. Answered with `fill`. */
  | { readonly kind: 'repair'; readonly epoch: number; readonly extent: number };

/**
 * Between two storage servers, for all volumes they share. Times are the sender's monotonic clock, in milliseconds.
 * `instance`: the life of the sender's process. `releasesSeen`: the highest release number taken in of the receiver's life `releasesOf`.
 */
export type BeaconMessage =
  | { readonly kind: 'beacon'; readonly sentAtMs: number; readonly instance: number; readonly releasesOf: number; readonly releasesSeen: number; readonly commits: readonly CommitPoint[] }
  /** The promise of a read lease, counted from sentAtMs (echoed), on every relation except those released. */
  | { readonly kind: 'grant'; readonly sentAtMs: number; readonly instance: number; readonly releases: readonly Release[] };

export interface CommitPoint {
  readonly volumeId: VolumeId;
  readonly epoch: number;
  readonly committedSeq: number;
}

/** The grantor has promised a higher epoch of this volume: its lease in `epoch` and below is over. Numbered, repeated until seen. */
export interface Release {
  readonly number: number;
  readonly volumeId: VolumeId;
  readonly epoch: number;
}

export type RefusalReason = 'not-primary' | 'not-serving' | 'old-session' | 'old-attach' | 'gap' | 'deleted';

/** Node manager → primary. */
export type SessionMessage =
  | { readonly kind: 'open'; readonly sessionId: number; readonly epoch: number; readonly generation: SessionGeneration; readonly readOnly: boolean }
  /** frame.attachNumber, frame.sessionCount: the generation; frame.number: 1, 2, … within the session; frame.epoch: the primary meant. */
  | { readonly kind: 'requests'; readonly sessionId: number; readonly frame: Frame }
  | { readonly kind: 'close'; readonly sessionId: number }
  /** Are you there, and still primary of this epoch? Sent when idle. */
  | { readonly kind: 'probe'; readonly sessionId: number; readonly epoch: number; readonly sentAtMs: number };

/** Primary → node manager. */
export type SessionReply =
  | { readonly kind: 'opened'; readonly sessionId: number; readonly epoch: number; readonly generation: SessionGeneration; readonly sizeBytes: number; readonly appliedThrough: number }
  | { readonly kind: 'refused'; readonly sessionId: number; readonly epoch: number; readonly reason: RefusalReason }
  | { readonly kind: 'replies'; readonly sessionId: number; readonly frame: Frame }
  | { readonly kind: 'resized'; readonly sessionId: number; readonly epoch: number; readonly sizeBytes: number }
  | { readonly kind: 'alive'; readonly sessionId: number; readonly epoch: number; readonly sentAtMs: number };

export type ConfigurationChange =
  | { readonly kind: 'remove'; readonly serverId: ServerId }
  | { readonly kind: 'add'; readonly member: Member };

export type CopyState = 'in-sync' | 'catching-up' | 'rebuilding' | 'offline' | 'faulted';

/** What a copy tells the system manager about itself. */
export interface CopyReport {
  readonly volumeId: VolumeId;
  readonly lineage: number;
  readonly promisedEpoch: number;
  readonly incarnation: number;
  /** Its machine restarted without a clean close since it was last admitted: not promotable. */
  readonly lostCache: boolean;
  readonly complete: boolean;
  readonly lastEpoch: number;
  readonly lastSeq: number;
  readonly fault: CopyFault | null;
  /** Attach number of the newest session in its journal. */
  readonly attachNumber: number;
  /** The latest `ask-report` that this answers, 0 before the first: what a report says may be old by the time it is used. */
  readonly asked: number;
}

/** Storage server → system manager. */
export type ManagerMessage =
  | { readonly kind: 'report'; readonly copy: CopyReport }
  /** The primary wants its configuration changed, by compare-and-swap on baseEpoch. Repeated until a later epoch is known. */
  | { readonly kind: 'propose'; readonly volumeId: VolumeId; readonly baseEpoch: number; readonly change: ConfigurationChange; readonly reason: string }
  /** What is the configuration now? Asked by a copy that may have missed one. */
  | { readonly kind: 'ask'; readonly volumeId: VolumeId; readonly epoch: number }
  /** From a primary about a mirror, from a node manager about a primary: silent since so long. */
  | { readonly kind: 'suspect'; readonly volumeId: VolumeId; readonly epoch: number; readonly serverId: ServerId; readonly reason: string }
  /** `number` rises within an epoch: one that was held up must not hide a newer one. */
  | { readonly kind: 'status'; readonly volumeId: VolumeId; readonly epoch: number; readonly number: number; readonly serving: boolean; readonly copies: readonly CopyStatus[] }
  | { readonly kind: 'event'; readonly volumeId: VolumeId; readonly name: string; readonly detail: Readonly<Record<string, string | number | boolean>> }
  /** No files of this volume are left on the sender. Also the answer to `discard` where there were none. */
  | { readonly kind: 'discarded'; readonly volumeId: VolumeId; readonly epoch: number };

export interface CopyStatus {
  readonly serverId: ServerId;
  readonly state: CopyState;
  /** Bytes moved to it, and bytes still to compare, while it is filled. */
  readonly movedBytes: number;
  readonly remainingBytes: number;
}

/** System manager → storage server. */
export type ManagerCommand =
  /**
   * The store's configuration. `predecessorEnded`: every primary of an earlier epoch is proven to be gone, so no lease that was given to one need be waited for.
   * `founding`: the volume is being created, nothing was ever written to it: a member without files makes its founding copy.
   */
  | { readonly kind: 'configure'; readonly configuration: Configuration; readonly predecessorEnded: boolean; readonly founding: boolean }
  /** The volume was deleted, or this copy is superfluous: remove its files, and answer `discarded`. A copy that has promised a later epoch ignores it: it was given a role again meanwhile. Epoch 0: only where there is none, answer. */
  | { readonly kind: 'discard'; readonly volumeId: VolumeId; readonly epoch: number }
  | { readonly kind: 'scrub'; readonly volumeId: VolumeId }
  /** To a primary: that life of a member's process is proven to be gone, so its silence need not be waited for. `instance` as in `server-hello`. */
  | { readonly kind: 'member-ended'; readonly volumeId: VolumeId; readonly serverId: ServerId; readonly instance: string }
  /** To a primary: what it may send its volume's copies as fills, of the budget for all rebuilds. Bytes a second; 0: as much as it can. */
  | { readonly kind: 'fill-rate'; readonly volumeId: VolumeId; readonly bytesPerSecond: number }
  /** Report how the copy stands now. The longest of logs is chosen by such reports only. */
  | { readonly kind: 'ask-report'; readonly volumeId: VolumeId; readonly token: number }
  /** To the server as a whole: answered with `server-kept` when it is on stable storage, or refused. Whoever acts on a decision has had this answered first. */
  | { readonly kind: 'keep'; readonly keep: Keep }
  /** To the server as a whole: everything that it keeps, and how its copies stand, in parts. */
  | { readonly kind: 'ask-ledger'; readonly token: number };
