import type { Configuration, CopyMessage, Frame, ManagerCommand, Member, SessionGeneration, SessionMessage } from '@ashlar/protocol';
import type { Prng, ServerId, VolumeId } from '@ashlar/words';
import type { Leases } from './beacon.ts';
import type { DurableState, Effects, GrantedRead, LogView, TimerName } from './effects.ts';
import type { CopyFault } from '@ashlar/protocol';

/** Everything that can reach a copy. Sessions are named by a key that the driver makes unique among all hosts. */
export type CopyInput =
  /** The store is open. Sent once, first. */
  | { readonly kind: 'started' }
  | { readonly kind: 'peer'; readonly from: ServerId; readonly message: CopyMessage }
  | { readonly kind: 'session'; readonly key: number; readonly message: SessionMessage }
  /** The host of this session can no longer be reached. */
  | { readonly kind: 'session-gone'; readonly key: number }
  | { readonly kind: 'manager'; readonly command: ManagerCommand & { readonly kind: 'configure' | 'member-ended' | 'ask-report' } }
  /** From the beacons: this follower must be adopted again; nothing was heard of this server; a mirror's commit point. */
  | { readonly kind: 'relation-lost'; readonly peer: ServerId }
  | { readonly kind: 'peer-silent'; readonly peer: ServerId }
  /** This process is about to end in order: a mirror asks its primary to be let go. Repeated until it is. */
  | { readonly kind: 'retire' }
  /** The system manager can be reached (again): tell it how things stand. */
  | { readonly kind: 'manager-up' }
  /** A link to this server came up: repeat what it may have missed. */
  | { readonly kind: 'peer-up'; readonly peer: ServerId }
  | { readonly kind: 'committed'; readonly from: ServerId; readonly epoch: number; readonly seq: number }
  | { readonly kind: 'lease-granted' }
  | { readonly kind: 'synced' }
  | { readonly kind: 'saved'; readonly token: number }
  | { readonly kind: 'store-failed'; readonly fault: CopyFault }
  | { readonly kind: 'history-sent'; readonly to: ServerId; readonly throughSeq: number }
  /** `pieces`: fills in which the blocks that differ were sent. */
  | { readonly kind: 'extent-compared'; readonly to: ServerId; readonly extent: number; readonly differing: number; readonly pieces: number }
  | { readonly kind: 'read-corrupt'; readonly read: GrantedRead; readonly extent: number }
  | { readonly kind: 'corrupt-found'; readonly extent: number }
  /** The last record could not be made: it writes a part of this block, and the rest of it is bad here. */
  | { readonly kind: 'append-corrupt'; readonly block: number }
  | { readonly kind: 'timer'; readonly name: TimerName };

/** One client's session with the leader. */
export interface Session {
  readonly key: number;
  readonly readOnly: boolean;
  readonly generation: SessionGeneration;
  /** The number that the next request frame must carry. */
  nextFrame: number;
  /** Requests up to this number were applied before the session was opened, and are only answered. */
  appliedThrough: number;
  open: boolean;
}

/** Records in the journal whose requests are not answered yet. */
export interface Pending {
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly session: Session;
  /** The request frame, or null for the record that opens the session. */
  readonly request: Frame | null;
  readonly indexes: readonly number[];
  /** Of those, the ones that must also be on stable storage. */
  readonly fua: readonly number[];
  readonly record: Frame;
}

export interface WaitingFlush {
  readonly seq: number;
  readonly session: Session;
  readonly request: Frame;
  readonly indexes: readonly number[];
}

/** A read that met a bad block, and whom it asked for a good one. */
export interface Repair {
  readonly extent: number;
  readonly read: GrantedRead;
  readonly asked: ServerId;
  sentMs: number;
}

export type PeerPhase = 'adopting' | 'following';

/** An extent under comparison. Another object for each time it is asked for and each answer: by that the driver knows what it is still to send. */
export interface OpenExtent {
  /** When it was last asked for, answered, sent or acknowledged. */
  atMs: number;
  /** How often it was asked for without an end. */
  repeats: number;
  /** Fills that were sent for the answer; 0 until the last of them was. */
  pieces: number;
  /** Fills that are in place, perhaps of an answer before. */
  filled: number;
}

/** Comparison of a learner's extents with ours. */
export interface Comparison {
  /** Extents below this one have been sent for comparison. */
  cursor: number;
  /** Learner's extents not yet passed; null until listed. */
  theirs: number[] | null;
  listedThrough: number;
  theirsEnd: boolean;
  readonly open: Map<number, OpenExtent>;
  /** The learner's position at the latest fill: it may call itself whole only once that much is committed. */
  fillSeq: number;
  comparedExtents: number;
  filledExtents: number;
  filledBlocks: number;
  askedMs: number;
  /** When the learner last answered, whatever it was asked. */
  heardMs: number;
  /** Nothing of the learner's log is in ours: all is sent. */
  readonly rebuilds: boolean;
}

/** A follower, as its leader sees it. */
export interface Peer {
  readonly serverId: ServerId;
  /** Its admission, if it is a member. */
  member: Member | null;
  phase: PeerPhase;
  attempt: number;
  instance: number;
  incarnation: number;
  complete: boolean;
  ackSeq: number;
  durableSeq: number;
  sentSeq: number;
  /** The position at which its digest was last found equal to ours. */
  verifiedSeq: number;
  historyBusy: boolean;
  /** Ends of what was sent from the journal and is not acknowledged yet, oldest first. */
  batches: number[];
  /** The newest gap it told of, and when it was filled. */
  gapSeq: number;
  gapMs: number;
  syncForSeq: number;
  /** Since when it owes a sync that was ordered; 0: it owes none. */
  syncOwedMs: number;
  /** Since when reads wait for its lease; 0: they do not. */
  leaseOwedMs: number;
  /** It is not let in before this. */
  joinAfterMs: number;
  lastOrderMs: number;
  lastHeardMs: number;
  lastProgressMs: number;
  leaving: boolean;
  /** Why it cannot go on, if it said so. */
  fault: CopyFault | null;
  /** The life of its process that followed us is proven to be gone. */
  ended: boolean;
  /** One record at a time is watched for how long its acknowledgement takes; 0: none is. */
  watchedSeq: number;
  watchedMs: number;
  latencyMs: number;
  /** Since when the average is above SLOW_MS; 0: it is not. */
  slowSinceMs: number;
  /** Since when a learner has been within JOIN_LAG_MAX of what is answered, without ever having all of it; Infinity: it is not. */
  nearSinceMs: number;
  comparison: Comparison | null;
}

export interface Proposal {
  readonly change: { readonly kind: 'remove'; readonly serverId: ServerId } | { readonly kind: 'add'; readonly member: Member };
  readonly reason: string;
  /** A removal that leaves one copy is proposed only when all up to here is stable. */
  readonly afterDurableSeq: number;
  sentMs: number;
}

/** What a primary keeps while it leads one epoch. Volatile: no copy resumes its role. */
export interface Leader {
  readonly epoch: number;
  readonly configuration: Configuration;
  readonly settleSeq: number;
  /** The primary of the epoch before, if this copy knows who that was. */
  readonly predecessor: ServerId | null;
  serving: boolean;
  committedSeq: number;
  readonly peers: Map<ServerId, Peer>;
  /** Whose acknowledgement an answer needs: the other members, and a joiner from before it is proposed. */
  required: Peer[];
  joiner: Peer | null;
  joinSeq: number;
  joinSinceMs: number;
  proposal: Proposal | null;
  /** Answers wait for stable storage here: one copy is left of a mirrored volume, or about to be. */
  syncAnswers: boolean;
  syncing: boolean;
  readonly sessions: Map<number, Session>;
  newest: SessionGeneration;
  readonly opens: Map<number, SessionMessage & { readonly kind: 'open' }>;
  pending: Pending[];
  flushes: WaitingFlush[];
  /** Waiting for a lease. */
  reads: GrantedRead[];
  repairs: Repair[];
  /** Bad blocks that were written in part: how often a mirror was asked for them, and when last. */
  readonly badBlocks: Map<number, { tries: number; atMs: number }>;
  /** Digest at the end of recent records, oldest first. */
  readonly chains: { readonly seq: number; readonly chain: number }[];
  ticking: boolean;
  /** When the timer that is set should come. */
  tickDueMs: number;
  /** The status that the system manager was last told, in short. */
  toldStatus: string;
  /** Of the status that was told last. */
  statusNumber: number;
}

/** What a copy keeps while it follows the primary of the promised epoch. */
export interface Follower {
  readonly leader: ServerId;
  readonly epoch: number;
  /** Names this life's answer; see `adopted`. */
  readonly attempt: number;
  /** `adopted` is sent only when the promise is stable. */
  promised: boolean;
  /** The leader has said where our log continues. */
  following: boolean;
  /** Answer `progress` when the sync under way has ended. */
  syncing: boolean;
  syncAgain: boolean;
  /** So many syncs (of all that this copy ever asked for) must have ended before it may call itself whole; 0: it was not told to. */
  wholeAfterSyncs: number;
  /** Taken in since the last sync, while it is no member. */
  unsyncedBytes: number;
  committedSeq: number;
}

/** A lease that this copy gave as a mirror. */
export interface Grant {
  readonly epoch: number;
  readonly untilMs: number;
}

/** One copy: what all its sub-machines share. */
export interface Copy {
  readonly volumeId: VolumeId;
  readonly self: ServerId;
  readonly log: LogView;
  readonly leases: Leases;
  readonly prng: Prng;
  fx: Effects;
  nowMs: number;
  /** As last asked to be saved. */
  durable: DurableState;
  saveToken: number;
  /** `durable` says that the copy is whole, and the disk does not say so yet: nobody may be told. */
  savingWhole: boolean;
  /** Of the store, in this life. Those of a former role end like any other; that as many ended as were asked for until then tells that one from then on did. */
  readonly syncs: { asked: number; ended: number };
  /** The system manager's latest question for a report. */
  asked: number;
  /** What waits for a save to be stable. */
  readonly saving: { readonly token: number; readonly then: () => void }[];
  follower: Follower | null;
  leader: Leader | null;
  /** Whom this copy followed last, and when it last heard a beacon from there. */
  lastLed: { readonly by: ServerId; readonly heardMs: number } | null;
  /** Leases given to former primaries, and in which epoch; '' after a restart, when nobody remembers to whom. */
  readonly grants: Map<ServerId | '', Grant>;
  /** The primary that this copy follows gave back the lease of its epoch. */
  returned: { readonly by: ServerId; readonly epoch: number } | null;
  /** The newest configuration that was heard of in which this copy has no part. */
  dismissedEpoch: number;
  readonly counts: Counts;
}

/** What happened here, for the operator and for the simulator's summary. */
export interface Counts {
  promotions: number;
  truncations: number;
  joins: number;
  journalCatchUps: number;
  comparisons: number;
  /** Copies that were made from nothing, and are whole. */
  rebuilds: number;
  /** Fills that this copy took; an extent comes in several. */
  filledExtents: number;
  deduplicatedRetries: number;
  refusedSessions: number;
  fencedFrames: number;
  removals: number;
  slowCopies: number;
}

export function newCounts(): Counts {
  return {
    promotions: 0, truncations: 0, joins: 0, journalCatchUps: 0, comparisons: 0, rebuilds: 0, filledExtents: 0, deduplicatedRetries: 0,
    refusedSessions: 0, fencedFrames: 0, removals: 0, slowCopies: 0,
  };
}
