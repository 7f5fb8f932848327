import { openSync, readFileSync } from 'node:fs';

/** A file that may give its descriptor away while nobody needs it. */
export interface Holder {
  /** When it was last used, on a clock that counts uses. */
  readonly usedAt: number;
  /** Nothing is under way, and everything written is stable: an error of the disk that nobody was told yet would be lost with the descriptor. */
  readonly idle: boolean;
  /** Gives it away. False if it cannot. */
  release(): boolean;
}

/** The rest is for sockets, databases and other threads. */
const PART = 0.6;
/** So many are given away at a time: finding the least used costs a pass over all. */
const BATCH_PART = 1 / 8;
const BATCH_MIN = 16;

/**
 * The descriptors of this thread's files. A copy has a dozen files and more, a server thousands of copies, and a process often only some thousand
 * descriptors: those that were not used for longest are closed, and opened again when they are needed.
 */
export class Descriptors {
  static readonly ofThread = new Descriptors(Math.floor(PART * openFilesMax()));
  max: number;
  readonly #holders = new Set<Holder>();
  #clock = 0;
  /** None could be given away at this number. */
  #tried = 0;

  constructor(max: number) {
    this.max = max;
  }

  get count(): number { return this.#holders.size; }
  tick(): number { return ++this.#clock; }

  open(path: string, flags: number): number {
    try {
      return openSync(path, flags, 0o600);
    } catch (error) {
      if ((error as { readonly code?: string }).code !== 'EMFILE' || !this.#giveAway(() => true)) throw error;
      return openSync(path, flags, 0o600);
    }
  }

  add(holder: Holder): void {
    this.#holders.add(holder);
    if (this.#holders.size <= Math.max(this.max, this.#tried)) return;
    this.#tried = this.#giveAway((one) => one.idle && one !== holder) ? 0 : this.#holders.size + BATCH_MIN;
  }

  delete(holder: Holder): void {
    this.#holders.delete(holder);
  }

  #giveAway(may: (holder: Holder) => boolean): boolean {
    const oldest = [...this.#holders].filter(may).sort((a, b) => a.usedAt - b.usedAt);
    let given = 0;
    for (const holder of oldest) {
      if (given >= Math.max(BATCH_MIN, this.max * BATCH_PART)) break;
      if (!holder.release()) continue;
      this.#holders.delete(holder);
      given += 1;
    }
    return given > 0;
  }
}

function openFilesMax(): number {
  const limit = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return limit === undefined ? Infinity : Number(limit);
}
