import { assert, checksum } from '@ashlar/words';
import type { VolumeTag } from '@ashlar/protocol';
import type { DiskError, DiskFile } from './disk.ts';
import { PAGE_BYTES } from './limits.ts';

/**
 * Which extents are present: one byte per extent, so that listing and opening a 16 TiB volume never reads its 128 GiB of (sparse) metadata.
 * The byte also holds the low bits of the generation of the extent's newest synced page: a page write that the disk lost is noticed.
 *
 *   0: absent · 1: zeroed as a whole · 2: the same, but before the log was restarted · 4 + (generation mod 84): has a page
 *   88 + …, 172 + …: zeroed as a whole (before the log was restarted), and the page of this generation says which places its tiles have
 *
 * Pages of 4 KiB cover 4,064 extents each, in two slots written in turn, each twice in a row (one flipped bit costs nothing).
 * The superblock holds each page's generation. Byte by byte in docs/formats/extents.md.
 */
export const GENERATIONS = 84;
export const Presence = { absent: 0, zero: 1, zeroBefore: 2, page: 4, zeroWithPage: 4 + GENERATIONS, zeroBeforeWithPage: 4 + 2 * GENERATIONS } as const;
export const PRESENCE_MAGIC = 0x56485341; // "ASHV"
const VERSION = 2;
const HEADER_BYTES = 32;
export const EXTENTS_PER_PRESENCE_PAGE = PAGE_BYTES - HEADER_BYTES;
const REPLICAS = 2;
const SLOT_BYTES = PAGE_BYTES * REPLICAS;

interface LoadedPage {
  readonly bytes: Uint8Array;
  generation: number;
  slot: number;
  changed: boolean;
}

export function pageMark(generation: number): number {
  return Presence.page + (generation % GENERATIONS);
}

/** The mark of the page that belongs to an extent's byte; 0 if it has none. */
export function markOfPage(mark: number): number {
  return mark < Presence.page ? 0 : Presence.page + ((mark - Presence.page) % GENERATIONS);
}

/** The byte of an extent that was zeroed as a whole. Its page, if it has one, keeps the places. */
export function zeroedMark(mark: number): number {
  return mark < Presence.page ? Presence.zero : markOfPage(mark) + GENERATIONS;
}

/** What was zeroed before the log was restarted may be filled again. */
function demoted(mark: number): number {
  if (mark === Presence.zero) return Presence.zeroBefore;
  return mark >= Presence.zeroWithPage && mark < Presence.zeroBeforeWithPage ? mark + GENERATIONS : mark;
}

export class PresenceMap {
  readonly #tag: VolumeTag;
  readonly #open: () => DiskFile | DiskError | null;
  readonly #pages = new Map<number, LoadedPage | 'corrupt'>();
  /** Generation of each page as the superblock has it; absent pages are 0. */
  generations: number[];
  /** Raised by every restart of the log; zeroed extents of before it may be filled again. */
  restarts: number;

  /** `open`: the file, or null while it does not exist. */
  constructor(tag: VolumeTag, generations: readonly number[], restarts: number, open: () => DiskFile | DiskError | null) {
    this.#tag = tag;
    this.generations = [...generations];
    this.restarts = restarts;
    this.#open = open;
  }

  get pageCount(): number { return this.generations.length; }

  /** The extent's byte, or `corrupt` if the map cannot tell. */
  get(extent: number): number | 'corrupt' {
    const index = Math.floor(extent / EXTENTS_PER_PRESENCE_PAGE);
    const page = this.#page(index);
    if (page === 'corrupt') return 'corrupt';
    if (page === null) return Presence.absent;
    return page.bytes[HEADER_BYTES + extent - index * EXTENTS_PER_PRESENCE_PAGE] as number;
  }

  set(extent: number, mark: number): boolean {
    const index = Math.floor(extent / EXTENTS_PER_PRESENCE_PAGE);
    const page = this.#page(index) ?? this.#fresh(index);
    if (page === 'corrupt') return false;
    page.bytes[HEADER_BYTES + extent - index * EXTENTS_PER_PRESENCE_PAGE] = mark;
    page.changed = true;
    return true;
  }

  /** The next extent at or after `from` that has a page; -1 if there is none. Extents of a page that cannot be read are all listed. */
  nextWithPage(from: number): number { return this.#next(from, (mark) => mark >= Presence.page && mark < Presence.zeroWithPage); }

  /** As nextWithPage, and extents that were zeroed as a whole. */
  nextHeld(from: number): number { return this.#next(from, (mark) => mark !== Presence.absent); }

  #next(from: number, wanted: (mark: number) => boolean): number {
    for (let index = Math.floor(from / EXTENTS_PER_PRESENCE_PAGE); index < Math.max(this.generations.length, this.#pagesEnd()); index++) {
      const page = this.#page(index);
      if (page === null) continue;
      const first = index * EXTENTS_PER_PRESENCE_PAGE;
      for (let extent = Math.max(from, first); extent < first + EXTENTS_PER_PRESENCE_PAGE; extent++) {
        if (page === 'corrupt' || wanted(page.bytes[HEADER_BYTES + extent - first] as number)) return extent;
      }
    }
    return -1;
  }

  /**
   * Writes what changed to the other slots, with the round's number as generation; called again for the same round, all of it once more. The caller
   * syncs, and saves `generations` in the superblock after that.
   */
  write(file: DiskFile, round: number): DiskError | null {
    for (const [index, page] of this.#pages) {
      if (page === 'corrupt' || (!page.changed && page.generation !== round)) continue;
      const slot = page.generation === round ? page.slot : page.slot === 0 ? 1 : 0;
      const generation = round;
      seal(page.bytes, this.#tag, index, this.restarts, generation);
      const error = file.write([page.bytes, page.bytes], (index * 2 + slot) * SLOT_BYTES, true);
      if (error !== null) return error;
      page.slot = slot;
      page.generation = generation;
      page.changed = false;
      while (this.generations.length <= index) this.generations.push(0);
      this.generations[index] = generation;
    }
    return null;
  }

  /** Forgets what was changed and not saved; pages are read again as the superblock has them. */
  reload(generations: readonly number[]): void {
    this.generations = [...generations];
    this.#pages.clear();
  }

  #pagesEnd(): number {
    let end = 0;
    for (const index of this.#pages.keys()) end = Math.max(end, index + 1);
    return end;
  }

  #fresh(index: number): LoadedPage {
    const page: LoadedPage = { bytes: new Uint8Array(PAGE_BYTES), generation: 0, slot: 1, changed: false };
    this.#pages.set(index, page);
    return page;
  }

  #page(index: number): LoadedPage | 'corrupt' | null {
    const loaded = this.#pages.get(index);
    if (loaded !== undefined) return loaded;
    const generation = this.generations[index] ?? 0;
    if (generation === 0) return null;
    const page = this.#read(index, generation);
    this.#pages.set(index, page);
    return page;
  }

  #read(index: number, generation: number): LoadedPage | 'corrupt' {
    const file = this.#open();
    if (file === null || 'code' in file) return 'corrupt';
    for (let at = 0; at < 2 * REPLICAS; at++) {
      const bytes = new Uint8Array(PAGE_BYTES);
      if (file.read(bytes, index * 2 * SLOT_BYTES + at * PAGE_BYTES) !== null) continue;
      if (!intact(bytes, this.#tag, index, generation)) continue;
      this.#demote(bytes);
      return { bytes, generation, slot: Math.floor(at / REPLICAS), changed: false };
    }
    return 'corrupt';
  }

  #demote(bytes: Uint8Array): void {
    if (new DataView(bytes.buffer).getUint32(20, true) === this.restarts) return;
    for (let at = HEADER_BYTES; at < PAGE_BYTES; at++) bytes[at] = demoted(bytes[at] as number);
  }

  /** The log restarted: what was zeroed before may be filled. */
  restart(restarts: number): void {
    assert(restarts > this.restarts, 'restarts are counted upwards');
    this.restarts = restarts;
    for (const page of this.#pages.values()) if (page !== 'corrupt') this.#demote(page.bytes);
  }
}

function seal(bytes: Uint8Array, tag: VolumeTag, index: number, restarts: number, generation: number): void {
  const view = new DataView(bytes.buffer);
  view.setUint32(0, PRESENCE_MAGIC, true);
  view.setUint32(8, tag.low, true);
  view.setUint32(12, tag.high, true);
  view.setUint32(16, index, true);
  view.setUint32(20, restarts, true);
  view.setUint32(24, generation, true);
  view.setUint32(28, VERSION, true);
  view.setUint32(4, checksum(bytes.subarray(8)), true);
}

function intact(bytes: Uint8Array, tag: VolumeTag, index: number, generation: number): boolean {
  const view = new DataView(bytes.buffer);
  return view.getUint32(0, true) === PRESENCE_MAGIC && view.getUint32(8, true) === tag.low && view.getUint32(12, true) === tag.high
    && view.getUint32(16, true) === index && view.getUint32(24, true) === generation && view.getUint32(28, true) === VERSION
    && view.getUint32(4, true) === checksum(bytes.subarray(8));
}
