/** Whole extents that one operation of the journal zeroed or trimmed. A few at a time: kept in a list, not in the block index. */
export interface ZeroRange {
  readonly firstExtent: number;
  /** One past the last. */
  readonly endExtent: number;
  readonly seq: number;
  /** Segment of the record. */
  readonly serial: number;
}

export class ZeroRanges {
  #ranges: ZeroRange[] = [];

  get count(): number { return this.#ranges.length; }

  add(range: ZeroRange): void {
    this.#ranges.push(range);
  }

  /** The newest version at which a range covers this extent; 0 if none does. */
  seqOf(extent: number): number {
    let seq = 0;
    for (const range of this.#ranges) if (extent >= range.firstExtent && extent < range.endExtent && range.seq > seq) seq = range.seq;
    return seq;
  }

  /** The first extent at or after `from` that a range covers; -1 if there is none. */
  nextExtent(from: number): number {
    let next = -1;
    for (const range of this.#ranges) {
      const first = Math.max(from, range.firstExtent);
      if (first < range.endExtent && (next < 0 || first < next)) next = first;
    }
    return next;
  }

  get all(): readonly ZeroRange[] { return this.#ranges; }

  dropThrough(serial: number): void {
    if (this.#ranges.length > 0) this.#ranges = this.#ranges.filter((range) => range.serial > serial);
  }

  clear(): void {
    this.#ranges = [];
  }
}
