import type { CopyStore, CreateOptions } from '@ashlar/store';
import type { Prng } from '@ashlar/words';
import type { MediumFaults } from './medium-faults.ts';
import { ModelStore } from './model-store.ts';

/** What `StoreOptions` is made from anew in each life. */
export type LifeOptions = Omit<CreateOptions, 'sizeBytes' | 'lineage' | 'state' | 'incarnation'>;

/** The disk of one server, with the one copy on it. It outlives processes, and what it loses when the power fails is its own business. */
export interface Medium {
  /** True if there is a copy to be opened. */
  readonly holdsCopy: boolean;
  /** The power failed since the copy was last opened. */
  readonly lostPower: boolean;
  /**
   * Since the copy was made it lied about a write, or bits of it rotted. Tiles that a record of the log names lie among the settled data: a record that was durable may then look
   * torn after a cut of the power.
   */
  readonly spoiled: boolean;
  /** What the disk does wrong from now on. */
  readonly faults: MediumFaults;
  create(options: CreateOptions): CopyStore;
  open(options: LifeOptions): { readonly store: CopyStore } | { readonly failed: string; readonly detail: string };
  /** The process died: what it wrote stays, what it waited for does not come. */
  processEnded(): void;
  powerCut(prng: Prng): void;
  wipe(): void;
  /** Spoils a block; false if there is none. */
  rot(prng: Prng): boolean;
  /** Runs `read` with no faults, for the checks. */
  unharmed<T>(read: () => T): T;
}

export interface MediumPort {
  /** Runs something after the time that a sync takes, unless the process has ended by then. */
  afterSync(run: () => void): void;
}

/** The contract of a copy's store without a disk: fast, for the replication core alone. */
export class ModelMedium implements Medium {
  #store: ModelStore | null = null;
  readonly #historyMax: number;
  readonly #port: MediumPort;
  readonly faults: MediumFaults = { failSync: false, failWrite: false, full: false, lostWrites: 0, misdirectedWrites: 0, endsIn: 0, endsWithPower: false };
  #life = 0;
  lostPower = false;
  /** Bits rot in what is settled alone. */
  readonly spoiled = false;

  constructor(historyMax: number, port: MediumPort) {
    this.#historyMax = historyMax;
    this.#port = port;
  }

  get holdsCopy(): boolean { return this.#store !== null; }

  create(options: CreateOptions): CopyStore {
    this.#store = new ModelStore(options, this.#historyMax, (run) => this.#later(run), this.faults);
    this.lostPower = false;
    return this.#store;
  }

  open(): { readonly store: CopyStore } | { readonly failed: string; readonly detail: string } {
    this.lostPower = false;
    return this.#store === null ? { failed: 'not-found', detail: 'no copy here' } : { store: this.#store };
  }

  #later(run: () => void): void {
    const life = this.#life;
    this.#port.afterSync(() => {
      if (life === this.#life) run();
    });
  }

  processEnded(): void {
    this.#life++;
    this.#store?.processEnded();
  }

  powerCut(prng: Prng): void {
    this.processEnded();
    this.lostPower = true;
    this.#store?.powerCut(prng);
  }

  wipe(): void {
    this.#life++;
    this.#store = null;
    Object.assign(this.faults, { failSync: false, failWrite: false, full: false, lostWrites: 0, misdirectedWrites: 0, endsIn: 0, endsWithPower: false });
  }

  rot(prng: Prng): boolean { return this.#store?.rot(prng) ?? false; }

  unharmed<T>(read: () => T): T { return read(); }
}
