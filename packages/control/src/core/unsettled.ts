import type { VolumeId } from '@ashlar/words';

/**
 * Volumes with something left to do. All of them are looked at by every tick; between ticks only those about which something was heard, or
 * the end of each of two thousand transactions would look at two thousand volumes.
 */
export class Unsettled implements Iterable<VolumeId> {
  readonly #all = new Set<VolumeId>();
  readonly #heard = new Set<VolumeId>();

  get size(): number { return this.#all.size; }
  [Symbol.iterator](): IterableIterator<VolumeId> { return this.#all[Symbol.iterator](); }

  /** Something was heard about it. */
  add(id: VolumeId): void {
    this.#all.add(id);
    this.#heard.add(id);
  }

  /** It is being looked at. */
  look(id: VolumeId): void { this.#heard.delete(id); }

  delete(id: VolumeId): void {
    this.#all.delete(id);
    this.#heard.delete(id);
  }

  /** Those of which something was heard since they were looked at. */
  heard(): readonly VolumeId[] { return [...this.#heard]; }
}
