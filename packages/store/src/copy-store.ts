import type { CopyFault, EpochStart, Frame, LogPosition, SessionMark, Configuration } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import type { FillRead } from './fills.ts';
import type { DestageBuffer, PageCache } from './resources.ts';

/** What a copy keeps durably besides its log and data. The same shape as in packages/replication (L1 packages do not see each other). */
export interface StoredState {
  readonly promisedEpoch: number;
  readonly configuration: Configuration | null;
  readonly complete: boolean;
  readonly fault: CopyFault | null;
}

/**
 * Why something could not be done. `busy`: the journal is full until destaging has made room; call again after `wake`. `no-space`: the
 * disk is full. `io-error`, `sync-failed`: the disk failed; final. `corrupt`: what is on disk is not what was written; final.
 * `chain`: the record does not follow on this log. `damaged-frame`: a checksum in the frame does not match its bytes.
 * `corrupt-block`: the rest of a partly written block cannot be read; repair it first. `too-old`: below what the journal still holds.
 */
export type StoreFailure = 'busy' | 'no-space' | 'io-error' | 'sync-failed' | 'corrupt' | 'chain' | 'damaged-frame' | 'corrupt-block' | 'too-old';
export type StoreResult = 'ok' | { readonly failed: Exclude<StoreFailure, 'corrupt-block'>; readonly detail: string } | { readonly failed: 'corrupt-block'; readonly block: number; readonly detail: string };
export type StoreDone = (failed: StoreFailure | null) => void;

export interface StoreOptions {
  readonly volumeId: VolumeId;
  /** Whose copy this is. A saved configuration that admits this server's incarnation heals a lost cache. */
  readonly serverId: ServerId;
  /** Changes when the machine restarts (on Linux: /proc/sys/kernel/random/boot_id). */
  readonly bootId: string;
  /** Called when something that waited may go on: room in the journal, the next step of destaging. */
  readonly wake?: () => void;
  readonly segmentBytes?: number;
  readonly journalBytesMax?: number;
  readonly dataFileBytes?: number;
  /** Shared by all copies of a thread; each copy has small ones of its own without. */
  readonly pageCache?: PageCache;
  readonly destageBuffer?: DestageBuffer;
  /** Default: zeros. */
  readonly backing?: Backing;
}

/** What lies under blocks that are absent, if it is not zeros. The same under every copy of a volume. */
export interface Backing {
  /** Fills `into` with one whole block. False: its bytes cannot be had, and reading it is an error. */
  readBlock(block: number, into: Uint8Array): boolean;
}

export interface CreateOptions extends StoreOptions {
  readonly sizeBytes: number;
  readonly lineage: number;
  /** FOUNDING_INCARNATION, or a number that no other copy of this volume on this server ever had. */
  readonly incarnation: number;
  readonly state: StoredState;
}

export type OpenFailure =
  /** No superblock: there is no copy here. */
  | 'not-found'
  | 'already-exists'
  /** Written by a later version; nothing was touched. */
  | 'format-unsupported'
  /** Another volume's files, or another number of disks. */
  | 'foreign'
  /** Both slots of the superblock are damaged: nothing can be said about this copy. */
  | 'corrupt'
  | 'io-error'
  | 'no-space';

export type Opened = { readonly store: CopyStore } | { readonly failed: OpenFailure; readonly detail: string };

/** Ok, or the blocks (volume block numbers) whose bytes do not match their checksums; `into` then holds nothing to be used. */
export type ReadResult = 'ok' | { readonly corrupt: readonly number[] };

export interface StatusRange {
  readonly lengthBytes: number;
  /** `absent`: the backing shows through (for zeros: a hole). `zero`: explicit zeros. */
  readonly state: 'written' | 'zero' | 'absent';
}

export interface ScrubResult {
  readonly checkedBlocks: number;
  readonly corrupt: readonly number[];
  /** True when the end of the volume was passed and the next step begins again at its start. */
  readonly wrapped: boolean;
}

export interface StoreFigures {
  readonly appendedBytes: number;
  readonly destagedBlocks: number;
  /** Rounds of destaging that are done. */
  readonly rounds: number;
  /** Blocks that were overwritten in the journal before they had to be destaged. */
  readonly coalescedBlocks: number;
  readonly journalBytes: number;
  /** Journal bytes that are not destaged yet. */
  readonly backlogBytes: number;
  readonly indexEntries: number;
  readonly syncs: number;
}

/**
 * One copy of one volume on disk: journal and extent store. Has the fields of the replication core's LogView. Not thread safe; every
 * call runs to completion. After a failure that is final `fault` is set and nothing is written any more.
 */
export interface CopyStore {
  readonly volumeId: VolumeId;
  readonly lineage: number;
  readonly incarnation: number;
  readonly lostCache: boolean;
  readonly lastSeq: number;
  readonly lastEpoch: number;
  readonly chain: number;
  readonly durableSeq: number;
  readonly journalStartSeq: number;
  readonly epochStarts: readonly EpochStart[];
  readonly session: SessionMark;
  readonly sizeBytes: number;
  readonly state: StoredState;
  /** Found at opening or met since; the core decides what follows, and saves it in `state`. */
  readonly fault: CopyFault | null;
  readonly committedSeq: number;
  /** Absent blocks show a backing: they are not zeros. */
  readonly backed: boolean;
  readonly figures: StoreFigures;

  /**
   * Journals one log frame with one writev. Made here if the frame's chain is 0 (a primary's): operations on parts of blocks are
   * completed in place, chain and durableSeq are set and the head is sealed. Otherwise the chain is compared and the frame not changed.
   * `verify`: the frame came over a link, compare its bytes with its checksums first.
   */
  append(frame: Frame, verify?: boolean): StoreResult;
  /** True if records of so many bytes (head and payload) can be appended now without `busy`. Asked before requests are taken in; cheap. */
  hasRoom(bytes: number): boolean;
  /** Makes everything appended so far stable. Calls made while a sync runs share the next one. */
  sync(done: StoreDone): void;
  /** Saves the state durably; saves are carried out in order. */
  saveState(state: StoredState, done: StoreDone): void;
  truncate(afterSeq: number): StoreResult;
  /**
   * Forgets the log; it starts again at this position. The copy is incomplete from then on. Extents stay, unless they may hold blocks
   * of a history that nobody has any more: all are dropped if the lineage differs or the newest settled or filled version is beyond `commonSeq`.
   */
  restartLog(lineage: number, position: LogPosition, epochStarts: readonly EpochStart[], session: SessionMark, commonSeq: number): StoreResult;
  commit(seq: number): void;
  grow(sizeBytes: number): StoreResult;

  /** Reads `lengthBytes` at `offsetBytes` (multiples of 512) as of the newest record, checked against the checksums. */
  read(offsetBytes: number, lengthBytes: number, into: Uint8Array, intoPosition: number): ReadResult;
  blockStatus(offsetBytes: number, lengthBytes: number): readonly StatusRange[];

  /** Records after `afterSeq`, oldest first, in memory of their own; `gone` if the journal no longer holds them. */
  history(afterSeq: number, recordsMax: number, bytesMax: number): readonly Frame[] | 'gone';

  /** Extents at or after `from` in which blocks are held, in rising order. */
  listExtents(from: number, max: number): { readonly extents: readonly number[]; readonly end: boolean };
  /** 256 entries of BLOCK_ENTRY_BYTES (blocks.ts): state, checksum and version of each block. `verify`: every byte is read and checked. */
  extentBlocks(extent: number, verify: boolean): Uint8Array;
  /** The blocks (0..255) of an extent as they are now. Those whose bytes are bad are lost in the frame, and named. */
  readFill(extent: number, blocks: readonly number[]): FillRead;
  /** Journals a fill; it changes only blocks that are absent, older than the fill, or corrupt. */
  applyFill(frame: Frame, verify?: boolean): StoreResult;

  /**
   * Moves at most `budgetBlocks` committed and durable blocks from the journal to the extents. `eager`: also what the journal still has
   * room for (a volume that went idle, a clean close). `waiting`: for a sync or for the shared buffer; `wake` is called. Also for room on the
   * disk: nobody is woken for that, and what two syncs in a row refused waits for `retryRound`.
   */
  destageStep(budgetBlocks: number, eager: boolean): 'idle' | 'more' | 'waiting';
  /** Has `destageStep` try once more what found no room on the disk: everything that the round wrote. Now and then, if there is need. */
  retryRound(): void;
  /** Gives journal files that are only kept for reuse and history back to the disk. */
  shrinkJournal(): void;
  scrubStep(budgetBlocks: number): ScrubResult;

  /** Closes the files. `clean`: everything is synced first and the close is recorded, so that a restart of the machine loses nothing. */
  close(clean: boolean): StoreResult;
}
