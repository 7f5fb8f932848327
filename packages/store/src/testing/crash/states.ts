import { checksum, SECTOR_BYTES } from '@ashlar/words';
import type { RecordedChange } from '../../memory-disk.ts';
import { MemoryImage, type Survival } from '../../memory-file.ts';

type ContentChange = Extract<RecordedChange, { readonly kind: 'write' | 'truncate' }>;
type EntryChange = Extract<RecordedChange, { readonly kind: 'create' | 'remove' }>;
type Change = ContentChange | EntryChange;

/** A change that is not on stable storage yet. */
interface Pending {
  readonly at: number;
  readonly change: Change;
}

/** A directory: the files by name. Those that were made and whose directory entry is lost are simply not there. */
export type Images = Map<string, MemoryImage>;

/** More unsynced changes than this are not taken apart one by one: the oldest count as written back. */
const PENDING_MAX = 12;
const TORN: readonly ((sectors: number) => Survival)[] = [
  (sectors) => (sector) => sector < Math.ceil(sectors / 2),
  (sectors) => (sector) => sector >= Math.floor(sectors / 2),
  () => (sector) => sector === 0,
  () => (sector) => sector % 2 === 1,
  (sectors) => (sector) => sector < sectors - 1,
];

/**
 * The states that a disk may be in after its power failed somewhere in a recorded run. Between two syncs every change may be there, torn
 * at 512 bytes, or missing, in any combination of up to three; directory entries likewise.
 */
export class CrashStates {
  readonly #recording: readonly RecordedChange[];
  #stable: Images;
  /** Files whose bytes are stable and whose directory entries are not. */
  readonly #nameless: Images = new Map();
  #pending: Pending[] = [];
  #at = 0;

  constructor(start: ReadonlyMap<string, MemoryImage>, recording: readonly RecordedChange[]) {
    this.#stable = new Map([...start].map(([name, image]) => [name, image.clone()]));
    this.#recording = recording;
  }

  /** Moves to the next point at which the power may fail; false at the end. */
  next(): boolean {
    const entry = this.#recording[this.#at];
    if (entry === undefined) return false;
    if (entry.kind === 'synced') this.#settle((pending) => pending.at < entry.begun && pending.change.file === entry.file && isContent(pending.change));
    else if (entry.kind === 'directory-synced') this.#settle((pending) => pending.at < entry.begun && !isContent(pending.change));
    else this.#pending.push({ at: this.#at, change: entry });
    while (this.#pending.length > PENDING_MAX) this.#settleOldest();
    this.#at += 1;
    return true;
  }

  /** How many entries of the recording have happened. */
  get at(): number { return this.#at; }

  /** Calls `visit` with each state that is possible here; many are the same as others. */
  visit(visit: (images: Images, survival: (k: number) => Survival) => void): void {
    const count = this.#pending.length;
    const show = (survival: (k: number) => Survival): void => visit(this.#state(survival), survival);
    const whole = (survives: (k: number) => boolean): void => show((k) => (survives(k) ? 'all' : 'none'));
    for (let prefix = 0; prefix <= count; prefix++) whole((k) => k < prefix);
    for (let a = 0; a < count; a++) {
      for (const torn of TORN) {
        const survival = torn(sectorsOf((this.#pending[a] as Pending).change));
        show((k) => (k < a ? 'all' : k === a ? survival : 'none'));
        show((k) => (k === a ? survival : 'all'));
      }
      for (let b = a; b < count; b++) {
        for (let c = b; c < count; c++) {
          whole((k) => k === a || k === b || k === c);
          whole((k) => k !== a && k !== b && k !== c);
        }
      }
    }
  }

  /** The unsynced changes and what became of each, for a report. */
  describe(survival: (k: number) => Survival): string {
    return this.#pending.map(({ at, change }, k) => {
      const fate = survival(k);
      const place = change.kind === 'write' ? ` ${change.position}+${change.bytes.length}` : change.kind === 'truncate' ? ` ${change.sizeBytes}` : '';
      return `${at} ${change.kind} ${change.file}${place}: ${typeof fate === 'string' ? fate : 'torn'}`;
    }).join('\n    ');
  }

  #state(survival: (k: number) => Survival): Images {
    const images = cloned(this.#stable);
    const nameless = cloned(this.#nameless);
    // A write to a file whose entry is lost goes nowhere; the entry may come before or after it in `pending`, so entries go first.
    this.#pending.forEach(({ change }, k) => { if (!isContent(change)) apply(images, nameless, change, survival(k)); });
    this.#pending.forEach(({ change }, k) => { if (isContent(change)) apply(images, nameless, change, survival(k)); });
    return images;
  }

  #settle(covered: (pending: Pending) => boolean): void {
    this.#pending = this.#pending.filter((pending) => {
      if (!covered(pending)) return true;
      this.#write(pending);
      return false;
    });
  }

  #settleOldest(): void {
    this.#write(this.#pending.shift() as Pending);
  }

  #write({ change }: Pending): void {
    // A file whose directory entry is not stable has its bytes on the disk; they become visible with the entry.
    if (isContent(change) && !this.#stable.has(change.file) && !this.#nameless.has(change.file)) this.#nameless.set(change.file, new MemoryImage());
    apply(this.#stable, this.#nameless, change, 'all');
  }
}

function cloned(images: Images): Images {
  return new Map([...images].map(([name, image]) => [name, image.clone()]));
}

function apply(images: Images, nameless: Map<string, MemoryImage>, change: Change, survival: Survival): void {
  const { file } = change;
  if (change.kind === 'create') {
    if (survival === 'none') return;
    images.set(file, nameless.get(file) ?? new MemoryImage());
    nameless.delete(file);
    return;
  }
  if (change.kind === 'remove') {
    if (survival === 'none') return;
    images.delete(file);
    nameless.delete(file);
    return;
  }
  const image = images.get(file) ?? nameless.get(file);
  if (image === undefined || survival === 'none' || !isContent(change)) return;
  image.apply(change.kind === 'truncate' ? { sizeBytes: change.sizeBytes } : { position: change.position, bytes: change.bytes }, survival);
}

function isContent(change: Change): change is ContentChange {
  return change.kind === 'write' || change.kind === 'truncate';
}

function sectorsOf(change: Change): number {
  return change.kind === 'write' ? Math.ceil(change.bytes.length / SECTOR_BYTES) : 1;
}

const digests = new WeakMap<Uint8Array, number>();
const ZERO_PAGE = checksum(new Uint8Array(4096));

/** A digest of names, lengths and bytes. Pages of images are never changed in place while several images share them, so each is digested once. */
export function digestOf(images: Images): string {
  let low = 0;
  let high = 0;
  for (const [name, image] of images) {
    const seed = mix(checksum(Uint8Array.from(name, (character) => character.charCodeAt(0))) ^ mix(image.sizeBytes));
    low = (low + seed) | 0;
    high ^= mix(seed + 1);
    for (const [index, page] of image.pages) {
      let digest = digests.get(page);
      if (digest === undefined) digests.set(page, (digest = checksum(page)));
      if (digest === ZERO_PAGE) continue;
      const mixed = mix(seed ^ Math.imul(index + 1, 0x9e3779b1) ^ mix(digest));
      low = (low + mixed) | 0;
      high ^= mix(mixed + 0x51ed270b);
    }
  }
  return `${low >>> 0}.${high >>> 0}`;
}

function mix(value: number): number {
  let z = Math.imul(value ^ (value >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
}
