import type { EventRecord } from '@ashlar/protocol';
import { volumeId } from '@ashlar/words';
import { afterEach, describe, expect, it } from 'vitest';
import type { EventQuery, MetadataStore, StoreChange, StoreSnapshot, Transaction, TransactionOutcome } from '../core/metadata-store.ts';
import type { NewEvent } from '../core/records.ts';
import { aVolume, VOLUME } from './records.ts';

const NOTHING: Transaction = { conditions: [], puts: [], deletes: [], events: [] };
const OTHER = volumeId('vol-00000000000000002');

function anEvent(name: string, subject: string = VOLUME): NewEvent {
  return { atMs: 1_700_000_000_000, name, subject, source: 'manager', reason: 'a test', detail: { epoch: 1, ok: true, text: 'ä' } };
}

/** Every store must pass it. `open` gives an empty one that keeps at most `eventsMax` events. */
export function metadataStoreSuite(name: string, open: (eventsMax: number) => MetadataStore): void {
  const opened: MetadataStore[] = [];
  const store = (eventsMax = 1000): MetadataStore => {
    const one = open(eventsMax);
    opened.push(one);
    return one;
  };
  afterEach(() => {
    for (const one of opened.splice(0)) one.close();
  });
  const transact = (on: MetadataStore, transaction: Partial<Transaction>): Promise<TransactionOutcome> => new Promise((resolve) => on.transact({ ...NOTHING, ...transaction }, resolve));
  const load = (on: MetadataStore): Promise<StoreSnapshot | null> => new Promise((resolve) => on.load(resolve));
  const events = (on: MetadataStore, query: Partial<EventQuery> = {}): Promise<readonly EventRecord[] | null> => new Promise((resolve) => on.events({ after: 0, max: 100, ...query }, resolve));
  const create = (on: MetadataStore, id = VOLUME): Promise<TransactionOutcome> =>
    transact(on, { conditions: [{ kind: 'volume', id, revision: 0 }], puts: [{ kind: 'volume', id, value: aVolume(id) }], events: [anEvent('created', id)] });

  describe(`${name} as a metadata store`, () => {
    it('begins empty', async () => {
      expect(await load(store())).toEqual({ revision: 0, records: [] });
    });

    it('gives back what was put, with the revision of the transaction', async () => {
      const one = store();
      expect(await create(one)).toEqual({ kind: 'applied', revision: 1 });
      expect(await load(one)).toEqual({ revision: 1, records: [{ kind: 'volume', id: VOLUME, revision: 1, value: aVolume() }] });
    });

    it('refuses a condition that does not hold, changes nothing, and says what is there', async () => {
      const one = store();
      await create(one);
      const again = await create(one);
      expect(again).toEqual({ kind: 'conflict', current: [{ kind: 'volume', id: VOLUME, revision: 1, value: aVolume() }] });
      const partly = await transact(one, {
        conditions: [{ kind: 'volume', id: VOLUME, revision: 1 }, { kind: 'volume', id: OTHER, revision: 7 }],
        puts: [{ kind: 'volume', id: VOLUME, value: aVolume(VOLUME, { state: 'deleting' }) }], events: [anEvent('never')],
      });
      expect(partly.kind).toBe('conflict');
      expect((await load(one))?.revision).toBe(1);
      expect((await events(one))?.map((event) => event.name)).toEqual(['created']);
    });

    it('lets exactly one of two changes that began from the same revision win', async () => {
      const one = store();
      await create(one);
      const change = (tag: string): Promise<TransactionOutcome> =>
        transact(one, { conditions: [{ kind: 'volume', id: VOLUME, revision: 1 }], puts: [{ kind: 'volume', id: VOLUME, value: aVolume(VOLUME, { tags: { tag } }) }] });
      const outcomes = await Promise.all([change('a'), change('b')]);
      expect(outcomes.map((outcome) => outcome.kind)).toEqual(['applied', 'conflict']);
      const [stored] = (await load(one))?.records ?? [];
      expect(stored?.kind === 'volume' && stored.value.tags).toEqual({ tag: 'a' });
    });

    it('deletes, and then a condition of revision 0 holds again', async () => {
      const one = store();
      await create(one);
      expect((await transact(one, { conditions: [{ kind: 'volume', id: VOLUME, revision: 1 }], deletes: [{ kind: 'volume', id: VOLUME }] })).kind).toBe('applied');
      expect((await load(one))?.records).toEqual([]);
      expect((await create(one)).kind).toBe('applied');
    });

    it('is replaced as a whole, and counts on from there', async () => {
      const one = store();
      await create(one);
      const cluster = { kind: 'cluster', id: 'cluster', value: { clusterId: 'c1', rosterNumber: 7 } } as const;
      await transact(one, { puts: [cluster], events: [] });
      const restored = await new Promise((resolve) => one.restore(1000, [{ kind: 'volume', id: OTHER, value: aVolume(OTHER) }], [anEvent('restored')], resolve));
      expect(restored).toEqual({ kind: 'applied', revision: 1000 });
      expect(await load(one)).toEqual({ revision: 1000, records: [{ ...cluster, revision: 2 }, { kind: 'volume', id: OTHER, revision: 1000, value: aVolume(OTHER) }] });
      expect(await create(one)).toEqual({ kind: 'applied', revision: 1001 });
      expect((await events(one))?.map((event) => event.name)).toEqual(['created', 'restored', 'created']);
    });

    it('tells its listeners of every change, in order', async () => {
      const one = store();
      const heard: StoreChange[] = [];
      const end = one.watch((change) => heard.push(change));
      await create(one);
      await create(one, OTHER);
      end();
      await transact(one, { events: [anEvent('unheard')] });
      expect(heard.map((change) => [change.revision, change.puts.map((put) => put.id), change.events.map((event) => event.sequence)])).toEqual([[1, [VOLUME], [1]], [2, [OTHER], [2]]]);
    });

    it('finds events by cursor, by subject, and the newest', async () => {
      const one = store();
      for (let i = 1; i <= 6; i++) await transact(one, { events: [anEvent(`event-${i}`, i % 2 === 0 ? OTHER : VOLUME)] });
      expect((await events(one, { after: 4 }))?.map((event) => event.sequence)).toEqual([5, 6]);
      expect((await events(one, { max: 2 }))?.map((event) => event.sequence)).toEqual([1, 2]);
      expect((await events(one, { max: 2, newest: true }))?.map((event) => event.sequence)).toEqual([5, 6]);
      expect((await events(one, { subject: OTHER }))?.map((event) => event.sequence)).toEqual([2, 4, 6]);
      expect((await events(one, { max: 1 }))?.[0]).toEqual({ sequence: 1, ...anEvent('event-1') });
    });

    it('keeps a bounded number of events, the newest', async () => {
      const one = store(10);
      for (let i = 0; i < 60; i += 10) await Promise.all(Array.from({ length: 10 }, (_, j) => transact(one, { events: [anEvent(`event-${i + j}`)] })));
      const kept = (await events(one, { max: 1000 })) ?? [];
      expect(kept.at(-1)?.sequence).toBe(60);
      expect(kept.length).toBeLessThanOrEqual(20);
      expect(kept.length).toBeGreaterThanOrEqual(10);
    });

    it('raises the epoch of a configuration by exactly one, or refuses as a defect', () => {
      const { configuration } = aVolume();
      const one = store();
      const jump = (epoch: number): void => {
        one.transact({ ...NOTHING, conditions: [{ kind: 'volume', id: VOLUME, revision: 0 }], puts: [{ kind: 'volume', id: VOLUME, value: aVolume(VOLUME, { configuration: { ...configuration, epoch } }) }] }, () => undefined);
        one.load(() => undefined);
      };
      expect(() => jump(2)).toThrow(/begins with epoch 1/);
      expect(() => one.transact({ ...NOTHING, puts: [{ kind: 'volume', id: VOLUME, value: aVolume() }] }, () => undefined) ?? one.load(() => undefined)).toThrow(/without a condition/);
    });
  });
}
