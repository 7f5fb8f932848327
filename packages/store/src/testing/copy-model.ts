import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { BLOCK_BYTES, checksum, SECTOR_BYTES } from '@ashlar/words';
import type { CopyStore } from '../copy-store.ts';
import { type Change, fillBytes, VOLUME } from './frames.ts';

const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** What was journaled, in order: log records, and fills by block with the version each had at the source. */
export type Item =
  | { readonly kind: 'log'; readonly firstSeq: number; readonly lastSeq: number; readonly changes: readonly Change[] }
  | { readonly kind: 'fill'; readonly blocks: ReadonlyMap<number, number> };

/** A volume as it should be: the value that each sector was filled with, the version of each block, and of which blocks a copy must have it. */
export class Contents {
  readonly sectors: Int32Array;
  readonly versions: Float64Array;
  readonly known: Uint8Array;

  constructor(sectors: Int32Array, versions: Float64Array, known: Uint8Array) {
    this.sectors = sectors;
    this.versions = versions;
    this.known = known;
  }

  static zeros(sizeBytes: number): Contents {
    const blocks = sizeBytes / BLOCK_BYTES;
    return new Contents(new Int32Array(blocks * BLOCK_SECTORS), new Float64Array(blocks), new Uint8Array(blocks).fill(1));
  }

  clone(): Contents {
    return new Contents(this.sectors.slice(), this.versions.slice(), this.known.slice());
  }

  apply(item: Item): void {
    if (item.kind === 'fill') {
      for (const block of item.blocks.keys()) this.known[block] = 1;
      return;
    }
    item.changes.forEach((change, i) => this.change(change, item.firstSeq + i));
  }

  change({ op, offset, length, value }: Change, seq: number): void {
    if (op === Op.session) return;
    let from = offset;
    let end = offset + length;
    if (op === Op.trim) {
      from = Math.ceil(from / BLOCK_BYTES) * BLOCK_BYTES;
      end = Math.max(from, Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES);
    }
    this.sectors.fill(op === Op.write ? (value ?? 0) : 0, from / SECTOR_BYTES, end / SECTOR_BYTES);
    for (let block = Math.floor(from / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
      this.versions[block] = seq;
      this.known[block] = 1;
    }
  }

  blockBytes(block: number): Uint8Array {
    const bytes = new Uint8Array(BLOCK_BYTES);
    for (let k = 0; k < BLOCK_SECTORS; k++) {
      const sector = block * BLOCK_SECTORS + k;
      const value = this.sectors[sector] as number;
      if (value !== 0) fillBytes(bytes.subarray(k * SECTOR_BYTES, (k + 1) * SECTOR_BYTES), value, sector * SECTOR_BYTES);
    }
    return bytes;
  }

  isZero(block: number): boolean {
    for (let k = 0; k < BLOCK_SECTORS; k++) if (this.sectors[block * BLOCK_SECTORS + k] !== 0) return false;
    return true;
  }

  /** The first of these blocks that the copy does not have as it should; null if all are right. */
  firstWrong(store: CopyStore, blocks: Iterable<number>): string | null {
    const into = new Uint8Array(BLOCK_BYTES);
    for (const block of blocks) {
      if (this.known[block] === 0) continue;
      if (store.read(block * BLOCK_BYTES, BLOCK_BYTES, into, 0) !== 'ok') return `block ${block} is corrupt`;
      const wanted = this.blockBytes(block);
      for (let i = 0; i < BLOCK_BYTES; i++) if (into[i] !== wanted[i]) return `block ${block} differs at byte ${i}: ${into[i]} instead of ${wanted[i]}`;
    }
    return null;
  }
}

/** The journal as it should be: what the extents and the log began with, and what came after. */
export class CopyModel {
  base: Contents;
  items: Item[] = [];
  baseSeq = 0;
  /** So many items are on stable storage. */
  durable = 0;

  constructor(sizeBytes: number) {
    this.base = Contents.zeros(sizeBytes);
  }

  get lastSeq(): number { return lastSeqOf(this.items, this.baseSeq); }

  /** What the copy holds if the first `count` items survived. */
  contents(count = this.items.length): Contents {
    const contents = this.base.clone();
    for (const item of this.items.slice(0, count)) contents.apply(item);
    return contents;
  }

  truncate(afterSeq: number): void {
    const kept: Item[] = [];
    for (const item of this.items) {
      if (item.kind === 'log') {
        if (item.lastSeq <= afterSeq) kept.push(item);
        continue;
      }
      const blocks = new Map([...item.blocks].filter(([, version]) => version <= afterSeq));
      if (blocks.size > 0) kept.push({ kind: 'fill', blocks });
    }
    this.items = kept;
    this.durable = kept.length;
  }

  /** The numbers of items with which the log would end here; the first is at least `durable`. */
  endsAt(seq: number): number[] {
    const counts: number[] = [];
    for (let count = this.durable; count <= this.items.length; count++) if (lastSeqOf(this.items.slice(0, count), this.baseSeq) === seq) counts.push(count);
    return counts;
  }

  cutTo(count: number): void {
    this.items.length = count;
    this.durable = count;
  }
}

export function lastSeqOf(items: readonly Item[], baseSeq: number): number {
  for (let k = items.length - 1; k >= 0; k--) {
    const item = items[k] as Item;
    if (item.kind === 'log') return item.lastSeq;
  }
  return baseSeq;
}

/** A fill as a source with these contents and this log would send it. */
export function fillFrame(contents: Contents, blocks: readonly number[], seq: number, lineage: number): Frame {
  const written = blocks.filter((block) => !contents.isZero(block));
  const frame = Frame.create(FrameKind.fill, blocks.length, written.length, new Uint8Array(written.length * BLOCK_BYTES));
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.lineage = lineage;
  frame.firstSeq = seq;
  let k = 0;
  blocks.forEach((block, i) => {
    const version = contents.versions[block] as number;
    if (contents.isZero(block)) {
      frame.setOperation(i, version, Op.zero, 0, block * BLOCK_BYTES, BLOCK_BYTES, 0, k);
      return;
    }
    const bytes = contents.blockBytes(block);
    frame.payload.set(bytes, k * BLOCK_BYTES);
    frame.setOperation(i, version, Op.write, 0, block * BLOCK_BYTES, BLOCK_BYTES, k * BLOCK_BYTES, k);
    frame.setCrc(k++, checksum(bytes));
  });
  frame.seal();
  return frame;
}
