import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { ActorLog } from '@ashlar/actor';
import { afterAll, describe, expect, it } from 'vitest';
import type { StoreSnapshot, TransactionOutcome } from './core/metadata-store.ts';
import { SqliteStore } from './sqlite-store.ts';
import { metadataStoreSuite } from './testing/metadata-store-suite.ts';
import { aVolume, VOLUME } from './testing/records.ts';

const log: ActorLog = { debug() {}, info() {}, warn() {}, error() {} };
const directory = mkdtempSync(join(tmpdir(), 'ashlar-store-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let count = 0;
const newPath = (): string => join(directory, `store-${++count}`, 'metadata.sqlite');

metadataStoreSuite('SqliteStore', (eventsMax) => SqliteStore.open({ path: newPath(), log, eventsMax }));

const create = (store: SqliteStore): Promise<TransactionOutcome> =>
  new Promise((resolve) => store.transact({ conditions: [{ kind: 'volume', id: VOLUME, revision: 0 }], puts: [{ kind: 'volume', id: VOLUME, value: aVolume() }], deletes: [], events: [] }, resolve));
const load = (store: SqliteStore): Promise<StoreSnapshot | null> => new Promise((resolve) => store.load(resolve));

describe('SqliteStore', () => {
  it('has everything after it was closed and opened again', async () => {
    const path = newPath();
    const first = SqliteStore.open({ path, log });
    await create(first);
    const before = await load(first);
    first.close();
    const second = SqliteStore.open({ path, log });
    expect(await load(second)).toEqual(before);
    second.close();
  });

  it('has everything that was applied when its process ends without closing', async () => {
    const path = newPath();
    const first = SqliteStore.open({ path, log });
    await create(first);
    // A second opener sees what a process after a crash would: the file and its write-ahead log.
    const second = SqliteStore.open({ path, log });
    expect((await load(second))?.records).toHaveLength(1);
    second.close();
    first.close();
  });

  it('lets only its owner read it', () => {
    const path = newPath();
    SqliteStore.open({ path, log }).close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('refuses a newer format, and a database of somebody else, unharmed', () => {
    const newer = newPath();
    SqliteStore.open({ path: newer, log }).close();
    const raised = new DatabaseSync(newer);
    raised.exec('PRAGMA user_version = 99');
    raised.close();
    expect(() => SqliteStore.open({ path: newer, log })).toThrow(/format 99/);
    const foreign = join(directory, 'foreign.sqlite');
    const other = new DatabaseSync(foreign);
    other.exec('CREATE TABLE theirs (x)');
    other.close();
    expect(() => SqliteStore.open({ path: foreign, log })).toThrow(/another program/);
  });

  it('answers `unknown` once it is closed, and never calls twice', async () => {
    const store = SqliteStore.open({ path: newPath(), log });
    store.close();
    expect(await create(store)).toEqual({ kind: 'unknown' });
    expect(await load(store)).toBeNull();
  });
});
