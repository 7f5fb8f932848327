import { createCopy, MemoryDisk, openCopy, type CopyStore, type CreateOptions, type DiskFault, type DiskOperation } from '@ashlar/store';
import type { Prng } from '@ashlar/words';
import type { LifeOptions, Medium, MediumPort } from './media.ts';
import { diskCall, type MediumFaults } from './medium-faults.ts';

/** Small, so that segments are recycled and history is trimmed within a run. */
export interface DiskShape {
  readonly segmentBytes: number;
  readonly journalBytesMax: number;
}

/** The production store over a disk in memory. */
export class DiskMedium implements Medium {
  readonly faults: MediumFaults = { failSync: false, failWrite: false, full: false, lostWrites: 0, misdirectedWrites: 0, endsIn: 0, endsWithPower: false };
  lostPower = false;
  spoiled = false;
  holdsCopy = false;
  readonly #shape: DiskShape;
  readonly #port: MediumPort;
  #disk = new MemoryDisk();
  #kind = true;

  constructor(shape: DiskShape, port: MediumPort) {
    this.#shape = shape;
    this.#port = port;
    this.#prepare();
  }

  #prepare(): void {
    const disk = this.#disk;
    disk.onCompletion = () => this.#port.afterSync(() => { if (disk === this.#disk) disk.deliver(1); });
    disk.faults = (operation) => (this.#kind ? this.#fault(operation) : null);
  }

  #fault(operation: DiskOperation): DiskFault | null {
    const { faults } = this;
    if (operation.kind === 'read') return null;
    if (operation.kind === 'write' || operation.kind === 'sync') diskCall(faults);
    const journal = 'file' in operation && operation.file.startsWith('journal');
    if (operation.kind === 'sync' && faults.failSync) {
      faults.failSync = false;
      return 'EIO';
    }
    if (operation.kind === 'sync' || operation.kind === 'sync-directory') return null;
    if (journal && faults.full && operation.kind !== 'remove') return 'ENOSPC';
    if (operation.kind !== 'write') return null;
    if (journal && faults.failWrite) {
      faults.failWrite = false;
      return 'EIO';
    }
    return operation.file.startsWith('data') ? this.#lie() : null;
  }

  /** The disk says that it wrote, and did not, or elsewhere. */
  #lie(): DiskFault | null {
    const { faults } = this;
    if (faults.lostWrites > 0) {
      faults.lostWrites--;
      this.spoiled = true;
      return 'lost';
    }
    if (faults.misdirectedWrites === 0) return null;
    faults.misdirectedWrites--;
    this.spoiled = true;
    return 'misdirected';
  }

  create(options: CreateOptions): CopyStore {
    this.#disk = new MemoryDisk();
    this.#prepare();
    const created = this.#calmly(() => {
      const made = createCopy(this.#disk, { ...options, ...this.#shape });
      if ('store' in made) made.store.close(true);
      return made;
    });
    if ('failed' in created) throw new Error(`a copy could not be made: ${created.failed}: ${created.detail}`);
    this.holdsCopy = true;
    this.lostPower = false;
    this.spoiled = false;
    const opened = this.open(options);
    if ('failed' in opened) throw new Error(`a new copy cannot be opened: ${opened.failed}: ${opened.detail}`);
    return opened.store;
  }

  open(options: LifeOptions): { readonly store: CopyStore } | { readonly failed: string; readonly detail: string } {
    this.lostPower = false;
    return this.#calmly(() => openCopy(this.#disk, { ...options, ...this.#shape }));
  }

  #calmly<T>(run: () => T): T {
    this.#kind = false;
    try {
      return run();
    } finally {
      this.#kind = true;
    }
  }

  processEnded(): void { this.#disk.processCrash(); }

  powerCut(prng: Prng): void {
    this.lostPower = true;
    this.#disk.powerCut(prng);
  }

  wipe(): void {
    this.holdsCopy = false;
    this.#disk.processCrash();
    this.#disk = new MemoryDisk();
    this.#prepare();
    Object.assign(this.faults, { failSync: false, failWrite: false, full: false, lostWrites: 0, misdirectedWrites: 0, endsIn: 0 });
  }

  /** In the settled data only: a journal that rots is another matter, and faults the copy. */
  rot(prng: Prng): boolean {
    const images = [...this.#disk.images()].filter(([name, image]) => name.startsWith('data') && image.pages.size > 0);
    if (images.length === 0) return false;
    const [name, image] = prng.pick(images);
    const page = prng.pick([...image.pages.keys()]);
    this.spoiled = true;
    this.#disk.flipBit(name, page * 4096 + prng.below(4096), prng.below(8));
    return true;
  }

  unharmed<T>(read: () => T): T { return this.#calmly(read); }
}
