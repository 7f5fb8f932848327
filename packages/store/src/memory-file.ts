import type { Prng } from '@ashlar/words';

/** Files of a MemoryDisk. Pages are shared until written to, so that a disk is cloned in the time of a map copy. */
const PAGE = 4096;
const SECTOR = 512;
/** Unsynced changes remembered per file; the oldest then count as written back, as a kernel does on its own after a while. */
const PENDING_MAX = 2048;
const ZEROS = new Uint8Array(PAGE);

/** One change that a power cut may lose: a write, or a new length. */
export type PendingChange = { readonly position: number; readonly bytes: Uint8Array } | { readonly sizeBytes: number };

/** Which 512-byte sectors of a write survived. */
export type Survival = 'all' | 'none' | ((sector: number) => boolean);

export class MemoryImage {
  readonly pages: Map<number, Uint8Array>;
  readonly #owned = new Set<number>();
  sizeBytes: number;

  constructor(pages: Map<number, Uint8Array> = new Map(), sizeBytes = 0) {
    this.pages = pages;
    this.sizeBytes = sizeBytes;
  }

  clone(): MemoryImage {
    this.#owned.clear();
    return new MemoryImage(new Map(this.pages), this.sizeBytes);
  }

  read(into: Uint8Array, position: number): void {
    for (let done = 0; done < into.length;) {
      const at = position + done;
      const within = at % PAGE;
      const length = Math.min(PAGE - within, into.length - done);
      const page = this.pages.get(Math.floor(at / PAGE)) ?? ZEROS;
      into.set(length === PAGE ? page : page.subarray(within, within + length), done);
      done += length;
    }
  }

  write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length;) {
      const at = position + done;
      const within = at % PAGE;
      const length = Math.min(PAGE - within, bytes.length - done);
      this.#page(Math.floor(at / PAGE)).set(bytes.subarray(done, done + length), within);
      done += length;
    }
    this.sizeBytes = Math.max(this.sizeBytes, position + bytes.length);
  }

  truncate(sizeBytes: number): void {
    if (sizeBytes < this.sizeBytes) {
      for (const index of this.pages.keys()) if (index * PAGE >= sizeBytes) this.pages.delete(index);
      if (sizeBytes % PAGE !== 0 && this.pages.has(Math.floor(sizeBytes / PAGE))) this.#page(Math.floor(sizeBytes / PAGE)).fill(0, sizeBytes % PAGE);
    }
    this.sizeBytes = sizeBytes;
  }

  apply(change: PendingChange, survival: Survival): void {
    if (survival === 'none') return;
    if ('sizeBytes' in change) {
      this.truncate(change.sizeBytes);
      return;
    }
    if (survival === 'all') {
      this.write(change.bytes, change.position);
      return;
    }
    for (let at = 0; at < change.bytes.length; at += SECTOR) {
      if (survival(at / SECTOR)) this.write(change.bytes.subarray(at, at + SECTOR), change.position + at);
    }
  }

  #page(index: number): Uint8Array {
    const page = this.pages.get(index);
    if (page !== undefined && this.#owned.has(index)) return page;
    const own = page === undefined ? new Uint8Array(PAGE) : page.slice();
    this.pages.set(index, own);
    this.#owned.add(index);
    return own;
  }
}

/** A file: how programs see it, how it is on the medium, and the changes in between. */
export class MemoryFileContent {
  current: MemoryImage;
  readonly stable: MemoryImage;
  readonly pending: PendingChange[] = [];
  /** Changes ever made; `pending` holds the last of them. */
  changes = 0;

  constructor(image: MemoryImage = new MemoryImage()) {
    this.current = image;
    this.stable = image.clone();
  }

  change(change: PendingChange): void {
    this.current.apply(change, 'all');
    this.pending.push(change);
    this.changes += 1;
    if (this.pending.length > PENDING_MAX) this.stabilize(this.changes - PENDING_MAX / 2);
  }

  /** Everything up to the `upTo`th change is on the medium. */
  stabilize(upTo: number): void {
    const count = this.pending.length - (this.changes - upTo);
    for (const change of this.pending.splice(0, Math.max(0, count))) this.stable.apply(change, 'all');
  }

  /** Everything up to the `upTo`th change that is not on the medium is gone. */
  drop(upTo: number): void {
    this.pending.splice(0, Math.max(0, this.pending.length - (this.changes - upTo)));
    const { pages, sizeBytes } = this.stable.clone();
    this.current = new MemoryImage(pages, Math.max(sizeBytes, this.current.sizeBytes));
    for (const change of this.pending) this.current.apply(change, 'all');
  }

  /** What the medium may hold after power went away now: each unsynced change whole, not at all, or in parts. */
  afterPowerCut(prng: Prng): MemoryImage {
    const image = this.stable.clone();
    for (const change of this.pending) image.apply(change, drawSurvival(prng, change));
    return image;
  }
}

function drawSurvival(prng: Prng, change: PendingChange): Survival {
  const dice = prng.below(4);
  if (dice === 0) return 'none';
  if (dice === 1 || 'sizeBytes' in change) return 'all';
  if (dice === 2) {
    const sectors = prng.below(Math.ceil(change.bytes.length / SECTOR) + 1);
    return (sector) => sector < sectors;
  }
  return () => prng.chance(0.5);
}
