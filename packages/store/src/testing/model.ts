import { Op } from '@ashlar/protocol';
import { BLOCK_BYTES, SECTOR_BYTES } from '@ashlar/words';
import { BlockState, blockEntry } from '../blocks.ts';
import type { CopyStore } from '../copy-store.ts';
import type { Change } from './frames.ts';

/** What a copy must hold, sector by sector: the oracle of the tests of this package. */
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;

export interface FilledBlock {
  readonly block: number;
  readonly version: number;
  /** 0: zeros. */
  readonly value: number;
}

export type Entry =
  | { readonly kind: 'record'; readonly firstSeq: number; readonly lastSeq: number; readonly changes: readonly Change[] }
  | { readonly kind: 'fill'; readonly blocks: readonly FilledBlock[] };

export class Content {
  /** What fills each sector; 0: zeros. */
  readonly values: Int32Array;
  readonly states: Uint8Array;
  readonly seqs: Float64Array;

  constructor(blocks: number) {
    this.values = new Int32Array(blocks * SECTORS);
    this.states = new Uint8Array(blocks);
    this.seqs = new Float64Array(blocks);
  }

  clone(): Content {
    const copy = new Content(this.states.length);
    copy.values.set(this.values);
    copy.states.set(this.states);
    copy.seqs.set(this.seqs);
    return copy;
  }

  apply(entry: Entry): void {
    if (entry.kind === 'record') entry.changes.forEach((change, i) => this.#change(change, entry.firstSeq + i));
    else for (const fill of entry.blocks) this.#fill(fill);
  }

  #change({ op, offset, length, value }: Change, seq: number): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const end = Math.ceil((offset + length) / BLOCK_BYTES);
    for (let block = first; block < end; block++) {
      const from = Math.max(offset, block * BLOCK_BYTES);
      const until = Math.min(offset + length, (block + 1) * BLOCK_BYTES);
      const whole = until - from === BLOCK_BYTES;
      if (op === Op.trim && !whole) continue;
      this.values.fill(op === Op.write ? (value as number) : 0, from / SECTOR_BYTES, until / SECTOR_BYTES);
      this.states[block] = op === Op.write || !whole ? BlockState.written : BlockState.zero;
      this.seqs[block] = seq;
    }
  }

  #fill({ block, version, value }: FilledBlock): void {
    this.values.fill(value, block * SECTORS, (block + 1) * SECTORS);
    this.states[block] = value === 0 ? BlockState.zero : BlockState.written;
    this.seqs[block] = version;
  }

  /** The first block in which the copy's bytes differ, or cannot be read; -1 if none. */
  firstDifference(store: CopyStore): number {
    const blocks = this.states.length;
    for (let first = 0; first < blocks; first += 256) {
      const count = Math.min(256, blocks - first);
      const got = new Uint8Array(count * BLOCK_BYTES);
      const result = store.read(first * BLOCK_BYTES, got.length, got, 0);
      if (result !== 'ok') return result.corrupt[0] as number;
      for (let sector = 0; sector < count * SECTORS; sector++) {
        const at = sector * SECTOR_BYTES;
        if (!sectorIs(got, at, this.values[first * SECTORS + sector] as number, first * SECTORS + sector)) return first + Math.floor(sector / SECTORS);
      }
    }
    return -1;
  }

  /** True if this block of the copy holds other bytes than the only one of this content. */
  differsAt(store: CopyStore, block: number): boolean {
    const got = new Uint8Array(BLOCK_BYTES);
    if (store.read(block * BLOCK_BYTES, BLOCK_BYTES, got, 0) !== 'ok') return true;
    for (let k = 0; k < SECTORS; k++) if (!sectorIs(got, k * SECTOR_BYTES, this.values[k] as number, block * SECTORS + k)) return true;
    return false;
  }

  /** The first block whose state or version the copy has wrong; -1 if none. */
  firstStateDifference(store: CopyStore): number {
    for (let extent = 0; extent * 256 < this.states.length; extent++) {
      const entries = store.extentBlocks(extent, false);
      for (let i = 0; i < 256 && extent * 256 + i < this.states.length; i++) {
        const block = extent * 256 + i;
        const { state, seq } = blockEntry(entries, i);
        if (state !== this.states[block]) return block;
        // Of what was zeroed as whole extents the version is not kept, or only the newest that it can be.
        if (seq !== this.seqs[block] && !(state === BlockState.zero && (seq === 0 || seq > (this.seqs[block] as number)))) return block;
      }
    }
    return -1;
  }
}

/** As fillBytes of frames.ts writes them. */
function sectorIs(bytes: Uint8Array, at: number, value: number, sector: number): boolean {
  if (value === 0) return bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 0 && bytes[at + 511] === 0;
  const body = (value * 31 + sector * 7) & 0xff;
  return bytes[at] === (value & 0xff) && bytes[at + 1] === (sector & 0xff) && bytes[at + 2] === body && bytes[at + 511] === body;
}

/** The log of one copy as it should be. */
export class Model {
  readonly blocks: number;
  base: Content;
  current: Content;
  entries: Entry[] = [];
  baseSeq = 0;
  /** So many of the entries are promised to survive a power cut. */
  durableEntries = 0;
  /** Raised when entries were taken away. */
  life = 0;

  constructor(blocks: number) {
    this.blocks = blocks;
    this.base = new Content(blocks);
    this.current = new Content(blocks);
  }

  get lastSeq(): number { return lastSeqOf(this.entries, this.baseSeq); }

  add(entry: Entry): void {
    this.entries.push(entry);
    this.current.apply(entry);
  }

  truncate(afterSeq: number): void {
    this.keep(this.entries.flatMap((entry): Entry[] => {
      if (entry.kind === 'record') return entry.lastSeq <= afterSeq ? [entry] : [];
      const blocks = entry.blocks.filter((fill) => fill.version <= afterSeq);
      return blocks.length > 0 ? [{ kind: 'fill', blocks }] : [];
    }));
    this.durableEntries = this.entries.length;
  }

  keep(entries: Entry[]): void {
    this.entries = entries;
    this.life += 1;
    this.durableEntries = Math.min(this.durableEntries, entries.length);
    this.current = this.contentOf(entries);
  }

  contentOf(entries: readonly Entry[]): Content {
    const content = this.base.clone();
    for (const entry of entries) content.apply(entry);
    return content;
  }

  restart(position: number, content: Content): void {
    this.base = content;
    this.current = content.clone();
    this.entries = [];
    this.baseSeq = position;
    this.durableEntries = 0;
    this.life += 1;
  }

  /** After a power cut: the log must be a beginning of what was written that holds what was promised. Adopts it; or says what is wrong. */
  adoptPrefix(store: CopyStore): string | null {
    for (let count = this.entries.length; count >= this.durableEntries; count--) {
      const entries = this.entries.slice(0, count);
      if (lastSeqOf(entries, this.baseSeq) !== store.lastSeq) continue;
      const content = this.contentOf(entries);
      if (content.firstDifference(store) >= 0 || content.firstStateDifference(store) >= 0) continue;
      this.keep(entries);
      return null;
    }
    return `the log ends at ${store.lastSeq}; ${this.durableEntries} entries up to ${lastSeqOf(this.entries.slice(0, this.durableEntries), this.baseSeq)} were promised, ${this.lastSeq} written; no beginning of it matches`;
  }
}

function lastSeqOf(entries: readonly Entry[], baseSeq: number): number {
  for (let k = entries.length - 1; k >= 0; k--) {
    const entry = entries[k] as Entry;
    if (entry.kind === 'record') return entry.lastSeq;
  }
  return baseSeq;
}
