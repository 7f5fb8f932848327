import { checksum, type ServerId, type VolumeId } from '@ashlar/words';
import { volumeTag } from '@ashlar/protocol';
import type { StoredState } from './copy-store.ts';
import type { Disk, DiskError, DiskFile } from './disk.ts';
import { decodeJson, encodeJson } from './ascii.ts';
import { PAGE_BYTES } from './limits.ts';
import type { LogSnapshot } from './log-tail.ts';
import type { JournalMark } from './record.ts';

/**
 * What a copy must know before anything else is read. Two slots written in turn, each twice (a flipped bit must not make a copy forget
 * what it promised). Byte by byte in docs/formats/superblock.md.
 */
export const SUPERBLOCK_FILE = 'superblock';
export const SUPERBLOCK_MAGIC = 0x53485341; // "ASHS"
/** Of all of a copy's files: a version that changes any of them raises this, so that the versions before refuse the copy before they touch it. */
export const COPY_FORMAT = 2;
const HEADER_BYTES = 32;
/** The largest body: 4,128 presence generations and 128 epochs in JSON are 28 KiB. */
const REPLICA_BYTES = 64 * 1024;
const REPLICAS = 2;

export interface SuperblockBody {
  readonly volumeId: VolumeId;
  readonly serverId: ServerId;
  readonly dataFileBytes: number;
  lineage: number;
  /** Restarts of the log. */
  restarts: number;
  /** Openings of the copy. */
  life: number;
  incarnation: number;
  bootId: string;
  clean: boolean;
  lostCache: boolean;
  sizeBytes: number;
  state: StoredState;
  /** Segments up to this serial are in the extents; the log as it was at their end. */
  destagedSerial: number;
  /** Where that segment ends. */
  destagedEnd: number;
  destaged: LogSnapshot;
  committedSeq: number;
  /** The journal was on stable storage up to here. */
  durable: JournalMark;
  /** The end of the journal as it was found at the last opening; what that segment's file holds beyond is of no meaning. */
  opened: JournalMark;
  /** Rounds of destaging: the generation of the newest pages. */
  round: number;
  /** The newest version that the extents may hold. */
  newestSeq: number;
  presenceGenerations: readonly number[];
  /** Generation of the list of free places that belongs to the extents, and the spare places made until then. */
  placesGeneration: number;
  sparePlaces: number;
}

export type SuperblockRead = { readonly superblock: Superblock } | { readonly failed: 'not-found' | 'format-unsupported' | 'foreign' | 'corrupt' | 'io-error'; readonly detail: string };
type Done = (error: DiskError | null) => void;

export class Superblock {
  readonly body: SuperblockBody;
  readonly #file: DiskFile;
  #slot: number;
  #generation: number;
  /** False while the newest slot may be in the page cache only: the other one must not be touched then. */
  #settled = false;
  #writing = false;
  #waiting: Done[] = [];

  private constructor(file: DiskFile, body: SuperblockBody, slot: number, generation: number) {
    this.#file = file;
    this.body = body;
    this.#slot = slot;
    this.#generation = generation;
  }

  static create(disk: Disk, body: SuperblockBody): Superblock | DiskError {
    const file = disk.create(SUPERBLOCK_FILE);
    if ('code' in file) return file;
    const superblock = new Superblock(file, body, 1, 0);
    // Both slots are written, so that later saves need no room on the disk.
    return superblock.saveNow() ?? superblock.saveNow() ?? superblock;
  }

  static read(disk: Disk, volumeId: VolumeId): SuperblockRead {
    const file = disk.open(SUPERBLOCK_FILE);
    if ('code' in file) return { failed: file.code === 'ENOENT' ? 'not-found' : 'io-error', detail: file.message };
    const found = readSlots(file);
    if ('failed' in found) {
      file.close();
      return found;
    }
    if (found.body.volumeId !== volumeId) {
      file.close();
      return { failed: 'foreign', detail: `the files belong to ${found.body.volumeId}` };
    }
    return { superblock: new Superblock(file, found.body, found.slot, found.generation) };
  }

  /** Saves the body durably. Calls made meanwhile share the next save; each save has the body as it is when it begins. */
  save(done: Done): void {
    this.#waiting.push(done);
    if (!this.#writing) this.#next();
  }

  /** The same, blocking. */
  saveNow(): DiskError | null {
    return (this.#settled || this.#generation === 0 ? null : this.#file.syncNow()) ?? this.#write() ?? this.#settle(this.#file.syncNow());
  }

  close(): void {
    this.#file.close();
  }

  #next(): void {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#writing = true;
    const finish = (error: DiskError | null): void => {
      this.#writing = false;
      for (const done of batch) done(error);
      if (this.#waiting.length > 0 && !this.#writing) this.#next();
    };
    const writeAndSync = (error: DiskError | null): void => {
      const failed = error ?? this.#write();
      if (failed !== null) {
        finish(failed);
        return;
      }
      const generation = this.#generation;
      this.#file.sync((syncError) => {
        if (generation === this.#generation) this.#settle(syncError);
        finish(syncError);
      });
    };
    if (this.#settled) writeAndSync(null);
    else this.#file.sync(writeAndSync);
  }

  #settle(error: DiskError | null): DiskError | null {
    this.#settled = error === null;
    return error;
  }

  #write(): DiskError | null {
    const slot = 1 - this.#slot;
    const bytes = encode(this.body, this.#generation + 1);
    for (let replica = 0; replica < REPLICAS; replica++) {
      const error = this.#file.write([bytes], (slot * REPLICAS + replica) * REPLICA_BYTES, true);
      if (error !== null) return error;
    }
    this.#generation += 1;
    this.#slot = slot;
    this.#settled = false;
    return null;
  }
}

function encode(body: SuperblockBody, generation: number): Uint8Array {
  const json = encodeJson(body);
  const bytes = new Uint8Array(Math.ceil((HEADER_BYTES + json.length) / PAGE_BYTES) * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  const tag = volumeTag(body.volumeId);
  view.setUint32(0, SUPERBLOCK_MAGIC, true);
  view.setUint32(8, COPY_FORMAT, true);
  view.setUint32(12, json.length, true);
  view.setUint32(16, tag.low, true);
  view.setUint32(20, tag.high, true);
  view.setUint32(24, generation, true);
  bytes.set(json, HEADER_BYTES);
  view.setUint32(4, checksum(bytes.subarray(8, HEADER_BYTES + json.length)), true);
  return bytes;
}

interface IntactSlot { readonly json: Uint8Array; readonly slot: number; readonly generation: number }
interface FoundSlot { readonly body: SuperblockBody; readonly slot: number; readonly generation: number }

function readSlots(file: DiskFile): FoundSlot | { readonly failed: 'not-found' | 'format-unsupported' | 'corrupt' | 'io-error'; readonly detail: string } {
  let best: IntactSlot | null = null;
  let detail = 'no slot of the superblock is intact';
  for (let at = 0; at < 2 * REPLICAS; at++) {
    const bytes = new Uint8Array(PAGE_BYTES);
    const error = file.read(bytes, at * REPLICA_BYTES);
    if (error !== null) {
      detail = error.message;
      continue;
    }
    const found = decode(file, bytes, at);
    if (found === null) continue;
    if (found === 'other-format') return { failed: 'format-unsupported', detail: `the superblock is not of format ${COPY_FORMAT}` };
    if (best === null || found.generation > best.generation) best = found;
  }
  if (best !== null) return { body: decodeJson(best.json) as SuperblockBody, slot: best.slot, generation: best.generation };
  // Creation writes the slots one after the other and answers after both: a file without the second is of one that was cut short.
  return file.sizeBytes <= REPLICAS * REPLICA_BYTES ? { failed: 'not-found', detail: 'the copy was never completely made' } : { failed: 'corrupt', detail };
}

function decode(file: DiskFile, first: Uint8Array, at: number): IntactSlot | 'other-format' | null {
  const view = new DataView(first.buffer);
  const length = view.getUint32(12, true);
  if (view.getUint32(0, true) !== SUPERBLOCK_MAGIC || length > REPLICA_BYTES - HEADER_BYTES) return null;
  let bytes = first;
  if (HEADER_BYTES + length > PAGE_BYTES) {
    bytes = new Uint8Array(HEADER_BYTES + length);
    if (file.read(bytes, at * REPLICA_BYTES) !== null) return null;
  }
  if (checksum(bytes.subarray(8, HEADER_BYTES + length)) !== view.getUint32(4, true)) return null;
  if (view.getUint32(8, true) !== COPY_FORMAT) return 'other-format';
  return { json: bytes.subarray(HEADER_BYTES, HEADER_BYTES + length), slot: Math.floor(at / REPLICAS), generation: view.getUint32(24, true) };
}

/** The superblock first: without it there is no copy, whatever else is left. */
export function removeFiles(disk: Disk): DiskError | null {
  const names = [...disk.list()].sort((a, b) => Number(b === 'superblock') - Number(a === 'superblock'));
  for (const name of names) {
    const error = disk.remove(name);
    if (error !== null && error.code !== 'ENOENT') return error;
  }
  return disk.syncDirectoryNow();
}
