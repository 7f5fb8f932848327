import type { Frame, BeaconMessage, CopyMessage, EpochStart, LogPosition, ManagerMessage, SessionMark, SessionReply, Configuration, CopyFault } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';

/** What a copy keeps durably besides its log and data. Saved whole; a promise is stable before it is answered. */
export interface DurableState {
  readonly promisedEpoch: number;
  /** The newest configuration known, or null before the first. */
  readonly configuration: Configuration | null;
  /** False while data below the log is missing. */
  readonly complete: boolean;
  /** Set for good (until the copy is made anew) when the copy can no longer be trusted. */
  readonly fault: CopyFault | null;
}

/** How an opened store presents itself to the core. Read at any time; always current. */
export interface LogView {
  readonly lineage: number;
  readonly incarnation: number;
  /** The machine restarted without a clean close since the last admission of this incarnation. */
  readonly lostCache: boolean;
  readonly lastSeq: number;
  /** Epoch of the record at lastSeq; 0 in an empty log. */
  readonly lastEpoch: number;
  /** Digest of the log at lastSeq. */
  readonly chain: number;
  /** Everything up to here is on stable storage. */
  readonly durableSeq: number;
  /** The journal still holds every record after this one: what catch-up by journal can start from. */
  readonly journalStartSeq: number;
  readonly epochStarts: readonly EpochStart[];
  readonly session: SessionMark;
  readonly sizeBytes: number;
  /** Extents at or after `from` in which blocks are held, rising, at most `max`. */
  listExtents(from: number, max: number): { readonly extents: readonly number[]; readonly end: boolean };
}

/** A read of the volume, or a block status query, that the core has found may be answered now. */
export interface GrantedRead {
  readonly sessionId: number;
  /** The request frame. */
  readonly frame: Frame;
  /** Index of the operation in it. */
  readonly index: number;
}

/**
 * What a copy asks for. Carried out in the order asked. `append`, `truncate` and `restartLog` take effect at once: the LogView
 * shows it when the call returns. If one of them fails, the driver ignores every later effect of the same turn and delivers
 * `store-failed`; the order of effects is therefore what makes "in the journal before it is answered" true. `sync`, `setTimer` and the end of
 * `sendHistory` come in any case: the core asks for no other before.
 */
export interface Effects {
  /** Appends one record. Operations that touch part of a block are completed to whole blocks in place: the frame that is sent on is the frame that was journaled. */
  append(frame: Frame): void;
  /** Makes everything appended so far stable, also when an effect before it failed; delivers `synced` (the LogView's durableSeq is then current) or `store-failed`. */
  sync(): void;
  /** Saves, stable, and then delivers `saved`. Saves are carried out in order, one at a time. */
  save(state: DurableState, token: number): void;
  /** Drops every record after this one. */
  truncate(afterSeq: number): void;
  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq: number): void;
  /** Everything up to here is committed: it may be destaged. */
  commit(seq: number): void;
  grow(sizeBytes: number): void;

  send(to: ServerId, message: CopyMessage): void;
  /** Sends records after `afterSeq` from the journal as `append` messages with this senderEpoch, at most `records` of them and about `bytes` bytes; delivers `history-sent`. */
  sendHistory(to: ServerId, senderEpoch: number, committedSeq: number, afterSeq: number): void;
  /** Journals and applies a `fill`: to blocks that are absent, corrupt, or not newer than the fill. */
  fill(frame: Frame): void;
  /** Reads an extent, every block verified, and sends its good blocks as `fill`. */
  sendFill(to: ServerId, epoch: number, extent: number): void;
  /** Verifies an extent's blocks and sends `compared`. */
  sendCompared(to: ServerId, epoch: number, attempt: number, extent: number): void;
  /**
   * Compares the learner's blocks of an extent with ours, ignoring blocks that ours changed after `learnerSeq`; reads what it lacks and sends it in pieces, each a
   * `fill`. Delivers `extent-compared` when the last was sent; nothing more is sent or delivered once the extent's entry in `open` is another.
   * `spreadLost`: blocks that are bad here are sent as lost; otherwise a mirror is asked for them first.
   */
  compareExtent(to: ServerId, epoch: number, extent: number, learnerSeq: number, blocks: Uint8Array, spreadLost: boolean): void;

  /** Answers operations of a request frame that need no bytes. `statuses` is parallel to `indexes`. */
  reply(sessionId: number, epoch: number, frame: Frame, indexes: readonly number[], status: number): void;
  /**
   * Reads the bytes now, and answers: at once if `untilSeq` is 0, else when `commit` has reached it, because the bytes may be of records up
   * to there. Delivers `read-corrupt` instead for those that hit a bad block.
   */
  read(reads: readonly GrantedRead[], epoch: number, untilSeq: number): void;
  /** Reads that wait for their commit are not answered any more. */
  dropReads(): void;
  answer(sessionId: number, reply: SessionReply): void;

  tell(message: ManagerMessage): void;
  /** Delivers `timer` with this name at or after this time. One timer a name; setting it again moves it. */
  setTimer(name: TimerName, atMs: number): void;
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void;
}

export type TimerName = 'tick';
export type { BeaconMessage };
