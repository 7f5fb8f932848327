import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ActorLog } from '@ashlar/actor';
import { volumeId, type VolumeId } from '@ashlar/words';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { MemoryStore } from './core/memory-store.ts';
import type { StoreSnapshot, Transaction, TransactionOutcome } from './core/metadata-store.ts';
import { SqliteStore } from './sqlite-store.ts';
import { aVolume } from './testing/records.ts';

const log: ActorLog = { debug() {}, info() {}, warn() {}, error() {} };
const root = mkdtempSync(join(tmpdir(), 'ashlar-store-model-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const VOLUMES: readonly VolumeId[] = [1, 2, 3].map((n) => volumeId(`vol-0000000000000000${n}`));

type Command =
  /** `age`: how many changes of the record ago its author read it. */
  | { readonly kind: 'put' | 'delete'; readonly volume: number; readonly age: number; readonly tag: string; readonly withOther: boolean }
  /** Until all that was asked for is answered. */
  | { readonly kind: 'settle' }
  | { readonly kind: 'reopen' }
  /** What a process leaves that ends now: the files as they are. */
  | { readonly kind: 'crash' };

const change = (kind: 'put' | 'delete'): fc.Arbitrary<Command> =>
  fc.record({ kind: fc.constant(kind), volume: fc.nat(2), age: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(2) }), tag: fc.string({ maxLength: 5 }), withOther: fc.boolean() });
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: change('put') }, { weight: 2, arbitrary: change('delete') },
  { weight: 4, arbitrary: fc.constantFrom<Command>({ kind: 'settle' }, { kind: 'reopen' }, { kind: 'crash' }) },
);

function sorted(snapshot: StoreSnapshot | null): StoreSnapshot | null {
  return snapshot && { ...snapshot, records: [...snapshot.records].sort((a, b) => (a.id < b.id ? -1 : 1)) };
}

/** The store beside the transactions that it said it had applied. */
class Rig {
  #lives = 0;
  #path = this.#newPath();
  #store = SqliteStore.open({ path: this.#path, log });
  /** Applied and told, in the order of revisions. */
  readonly #told: Transaction[] = [];
  /** Revisions that the record had, newest first; 0: it did not exist. */
  readonly #revisions = VOLUMES.map(() => [0]);
  #asked: Promise<void>[] = [];

  #newPath(): string { return join(root, `${Rig.#count}-${++this.#lives}`, 'metadata.sqlite'); }

  static #count = 0;
  static begin(): Rig {
    Rig.#count++;
    return new Rig();
  }

  async run(next: Command): Promise<void> {
    switch (next.kind) {
      case 'put':
      case 'delete': return this.#change(next);
      case 'settle': return this.check();
      case 'reopen':
        this.#store.close();
        await this.#settle();
        this.#store = SqliteStore.open({ path: this.#path, log });
        return this.check();
      case 'crash': return this.#crash();
    }
  }

  #change({ kind, volume, age, tag, withOther }: Command & { readonly kind: 'put' | 'delete' }): void {
    const keys = withOther ? [volume, (volume + 1) % VOLUMES.length] : [volume];
    const transaction: Transaction = {
      conditions: keys.map((n) => ({ kind: 'volume', id: VOLUMES[n] as VolumeId, revision: this.#revisions[n]?.[age] ?? 99 })),
      puts: kind === 'put' ? keys.map((n) => ({ kind: 'volume', id: VOLUMES[n] as VolumeId, value: aVolume(VOLUMES[n], { tags: { tag } }) })) : [],
      deletes: kind === 'delete' ? keys.map((n) => ({ kind: 'volume', id: VOLUMES[n] as VolumeId })) : [], events: [],
    };
    this.#asked.push(new Promise((resolve) => this.#store.transact(transaction, (outcome) => resolve(this.#answered(transaction, keys, kind, outcome)))));
  }

  #answered(transaction: Transaction, keys: readonly number[], kind: 'put' | 'delete', outcome: TransactionOutcome): void {
    const expected = this.#model().apply(transaction);
    expect(outcome).toEqual(expected);
    if (outcome.kind !== 'applied') return;
    this.#told.push(transaction);
    for (const n of keys) this.#revisions[n]?.unshift(kind === 'put' ? outcome.revision : 0);
  }

  #model(): MemoryStore {
    const model = new MemoryStore();
    for (const transaction of this.#told) model.apply(transaction);
    return model;
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#asked.splice(0));
  }

  async check(): Promise<void> {
    await this.#settle();
    const snapshot = await new Promise<StoreSnapshot | null>((resolve) => this.#store.load(resolve));
    expect(sorted(snapshot)).toEqual(sorted(this.#model().snapshot()));
  }

  /** What was not told yet is not there, and is never told. */
  async #crash(): Promise<void> {
    const path = this.#newPath();
    cpSync(dirname(this.#path), dirname(path), { recursive: true });
    const left = SqliteStore.open({ path, log });
    const snapshot = await new Promise<StoreSnapshot | null>((resolve) => left.load(resolve));
    expect(sorted(snapshot)).toEqual(sorted(this.#model().snapshot()));
    // The one that was copied goes on, so that its answers are still checked; every other time it is the copy that does.
    await this.#settle();
    if (this.#lives % 2 === 0) return left.close();
    left.close();
    this.#store.close();
    this.#path = path;
    this.#store = SqliteStore.open({ path, log });
    const now = await new Promise<StoreSnapshot | null>((resolve) => this.#store.load(resolve));
    this.#told.length = now?.revision ?? 0;
    VOLUMES.forEach((id, n) => this.#revisions[n]?.unshift(now?.records.find((record) => record.id === id)?.revision ?? 0));
  }

  end(): void { this.#store.close(); }
}

it('keeps what it said it had applied, and nothing else, whatever comes and however it ends', async () => {
  await fc.assert(fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40, size: 'max' }), async (commands) => {
    const rig = Rig.begin();
    try {
      for (const next of commands) await rig.run(next);
      await rig.check();
    } finally {
      rig.end();
    }
  }), { numRuns: 30, interruptAfterTimeLimit: 10_000 });
}, 60_000);
