import { SECTOR_BYTES } from '@ashlar/words';
import { MemoryDisk, type RecordedChange } from '../../memory-disk.ts';
import { MemoryImage, type Survival } from '../../memory-file.ts';

type Change = Exclude<RecordedChange, { readonly kind: 'synced' | 'directory-synced' }>;

/** A change that is not on stable storage yet. */
interface Pending {
  readonly at: number;
  readonly change: Change;
}

/** A directory: the files by name. Those that were made and whose directory entry is lost are simply not there. */
type Images = Map<string, MemoryImage>;

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
  visit(visit: (disk: MemoryDisk) => void): void {
    const count = this.#pending.length;
    const whole = (survives: (k: number) => boolean): void => visit(this.#state((k) => (survives(k) ? 'all' : 'none')));
    for (let prefix = 0; prefix <= count; prefix++) whole((k) => k < prefix);
    for (let a = 0; a < count; a++) {
      for (const torn of TORN) {
        const survival = torn(sectorsOf((this.#pending[a] as Pending).change));
        visit(this.#state((k) => (k < a ? 'all' : k === a ? survival : 'none')));
        visit(this.#state((k) => (k === a ? survival : 'all')));
      }
      for (let b = a; b < count; b++) {
        for (let c = b; c < count; c++) {
          whole((k) => k === a || k === b || k === c);
          whole((k) => k !== a && k !== b && k !== c);
        }
      }
    }
  }

  #state(survival: (k: number) => Survival): MemoryDisk {
    const images: Images = new Map([...this.#stable].map(([name, image]) => [name, image.clone()]));
    const lost = new Map<string, MemoryImage>();
    this.#pending.forEach(({ change }, k) => apply(images, lost, change, survival(k)));
    return MemoryDisk.fromImages(images);
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
    if (isContent(change) && !this.#stable.has(change.file)) this.#unlinked(change.file);
    apply(this.#stable, this.#nameless, change, 'all');
  }

  readonly #nameless = new Map<string, MemoryImage>();

  #unlinked(name: string): void {
    if (!this.#nameless.has(name)) this.#nameless.set(name, new MemoryImage());
  }

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
  if (image === undefined || survival === 'none') return;
  image.apply(change.kind === 'truncate' ? { sizeBytes: change.sizeBytes } : { position: change.position, bytes: change.bytes }, survival);
}

function isContent(change: Change): boolean {
  return change.kind === 'write' || change.kind === 'truncate';
}

function sectorsOf(change: Change): number {
  return change.kind === 'write' ? Math.ceil(change.bytes.length / SECTOR_BYTES) : 1;
}
