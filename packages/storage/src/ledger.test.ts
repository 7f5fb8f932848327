import { cpSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Keep } from '@ashlar/protocol';
import { serverId, volumeId } from '@ashlar/words';
import { afterEach, describe, expect, it } from 'vitest';
import { ServerLedger, type KeepAnswer } from './ledger.ts';
import { ledgerParts } from './ledger-parts.ts';

const VOLUME = volumeId('vol-00000000000000001');
const OTHER = volumeId('vol-00000000000000002');
const ofLife = (life: number, revision: number): Keep['mark'] => ({ cluster: 7, life, revision });

const made: string[] = [];
afterEach(() => { for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true }); });

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'ashlar-ledger-'));
  made.push(path);
  return path;
}

function keep(ledger: ServerLedger, change: Partial<Keep>): Promise<KeepAnswer> {
  return new Promise((resolve) => ledger.keep({ expected: ledger.mark, mark: ofLife(1, 1), servers: [serverId('server-1')], records: [], deleted: [], number: 1, ...change }, resolve));
}

describe('the ledger of a server', () => {
  it('begins empty, and keeps what it answered over its restart', async () => {
    const path = directory();
    const first = ServerLedger.open(path);
    expect([first.mark, first.servers, first.records(), first.deleted()]).toEqual([null, [], [], []]);
    expect(await keep(first, { mark: ofLife(1, 5), records: [{ volumeId: VOLUME, revision: 5, text: '{"a":1}' }], deleted: [{ volumeId: OTHER, revision: 4 }] })).toEqual({ mark: ofLife(1, 5), taken: true, failed: false });
    first.close();
    const second = ServerLedger.open(path);
    expect([second.mark, second.servers]).toEqual([ofLife(1, 5), ['server-1']]);
    expect(second.records()).toEqual([{ volumeId: VOLUME, revision: 5, text: '{"a":1}' }]);
    expect(second.deleted()).toEqual([{ volumeId: OTHER, revision: 4 }]);
    second.close();
  });

  it('keeps what it answered over a crash', async () => {
    const [path, other] = [directory(), directory()];
    const ledger = ServerLedger.open(path);
    await keep(ledger, { mark: ofLife(1, 5), records: [{ volumeId: VOLUME, revision: 5, text: 'x' }] });
    cpSync(path, other, { recursive: true });
    ledger.close();
    const second = ServerLedger.open(other);
    expect([second.mark, second.records()]).toEqual([ofLife(1, 5), [{ volumeId: VOLUME, revision: 5, text: 'x' }]]);
    expect(await keep(second, { mark: ofLife(1, 6) })).toMatchObject({ mark: ofLife(1, 6), taken: true });
    second.close();
  });

  it('takes no room to be opened again: a server starts on a full disk too', async () => {
    const path = directory();
    const first = ServerLedger.open(path);
    await keep(first, {});
    first.close();
    const sizes = (): readonly (readonly [string, number])[] => readdirSync(path).sort().map((name) => [name, statSync(join(path, name)).size] as const);
    const before = sizes();
    const second = ServerLedger.open(path);
    expect(sizes()).toEqual([...before, ['ledger.sqlite-wal', 0]]);
    second.close();
  });

  it('syncs one at a time, and says that all failed when one has', async () => {
    const syncs: ((error: Error | null) => void)[] = [];
    const ledger = ServerLedger.open(directory(), (_fd, done) => syncs.push(done));
    const answers: [number, KeepAnswer][] = [];
    const told = (revision: number): void => ledger.keep({ expected: ledger.mark, mark: ofLife(1, revision), servers: [], records: [], deleted: [], number: revision }, (answer) => answers.push([revision, answer]));
    told(1);
    syncs.shift()!(null);
    for (const revision of [2, 3, 4]) told(revision);
    expect(syncs).toHaveLength(1);
    expect(answers).toEqual([[1, { mark: ofLife(1, 1), taken: true, failed: false }]]);
    syncs.shift()!(null);
    expect(answers.slice(1)).toEqual([[2, { mark: ofLife(1, 2), taken: true, failed: false }]]);
    // Only one sync hears of it, but what was written meanwhile is not safe either.
    told(5);
    syncs.shift()!(new Error('EIO'));
    expect(answers.slice(2)).toEqual([3, 4, 5].map((revision) => [revision, { mark: ofLife(1, 2), taken: false, failed: true }]));
    told(6);
    expect(answers.at(-1)).toEqual([6, { mark: ofLife(1, 2), taken: false, failed: true }]);
    expect(syncs).toEqual([]);
    ledger.close();
  });

  it('goes back in nothing: neither the mark within a life, nor a record', async () => {
    const ledger = ServerLedger.open(directory());
    await keep(ledger, { mark: ofLife(1, 9), records: [{ volumeId: VOLUME, revision: 9, text: 'new' }] });
    expect(await keep(ledger, { mark: ofLife(1, 3), records: [{ volumeId: VOLUME, revision: 3, text: 'old' }] })).toMatchObject({ mark: ofLife(1, 9), taken: true });
    expect(ledger.records()).toEqual([{ volumeId: VOLUME, revision: 9, text: 'new' }]);
    ledger.close();
  });

  it('refuses a manager that does not know what it was told last, and changes nothing', async () => {
    const ledger = ServerLedger.open(directory());
    await keep(ledger, { mark: ofLife(2, 9) });
    expect(await keep(ledger, { expected: ofLife(1, 8), mark: ofLife(1, 10), records: [{ volumeId: VOLUME, revision: 10, text: 'x' }] })).toEqual({ mark: ofLife(2, 9), taken: false, failed: false });
    expect(await keep(ledger, { expected: null, mark: ofLife(3, 10) })).toMatchObject({ taken: false });
    expect(ledger.records()).toEqual([]);
    expect(await keep(ledger, { expected: ofLife(2, 9), mark: ofLife(3, 1) })).toMatchObject({ mark: ofLife(3, 1), taken: true });
    ledger.close();
  });

  it('forgets the record of a copy that is removed', async () => {
    const ledger = ServerLedger.open(directory());
    await keep(ledger, { records: [{ volumeId: VOLUME, revision: 1, text: 'x' }] });
    ledger.forget(VOLUME);
    expect(ledger.records()).toEqual([]);
    ledger.close();
  });

  it('holds nothing of a volume whose deletion was completed but that it was, and of those the newest', async () => {
    const ledger = ServerLedger.open(directory());
    await keep(ledger, { records: [{ volumeId: VOLUME, revision: 8, text: 'deleting' }, { volumeId: OTHER, revision: 12, text: 'made anew by a recovery' }] });
    await keep(ledger, { deleted: [{ volumeId: VOLUME, revision: 9 }, { volumeId: OTHER, revision: 9 }] });
    expect(ledger.records()).toEqual([{ volumeId: OTHER, revision: 12, text: 'made anew by a recovery' }]);
    const many = Array.from({ length: 10_500 }, (_, i) => ({ volumeId: `vol-${(i + 16).toString(16).padStart(17, '0')}` as typeof VOLUME, revision: 10 + i }));
    await keep(ledger, { deleted: many });
    expect(ledger.deleted()).toEqual(many.slice(-10_000));
    ledger.close();
  });

  it('says that it failed once it is closed, and refuses a file of a later version unharmed', async () => {
    const path = directory();
    const ledger = ServerLedger.open(path);
    await keep(ledger, { mark: ofLife(1, 2) });
    ledger.close();
    expect(await keep(ledger, { mark: ofLife(1, 3) })).toMatchObject({ mark: ofLife(1, 2), taken: false, failed: true });
    const database = new DatabaseSync(join(path, 'ledger.sqlite'));
    database.exec('PRAGMA user_version = 2');
    database.close();
    expect(() => ServerLedger.open(path)).toThrow(expect.objectContaining({ code: 'format-unsupported' }));
  });

  it('is told in parts of a bounded size, none of them lost', () => {
    const records = Array.from({ length: 1200 }, (_, i) => ({ volumeId: `vol-${i.toString(16).padStart(17, '0')}` as typeof VOLUME, revision: i, text: 'x'.repeat(i % 100 === 0 ? 200_000 : 10) }));
    const parts = ledgerParts(records, [{ volumeId: OTHER, revision: 1 }], []);
    expect(parts.flatMap((part) => part.records)).toEqual(records);
    expect(parts.flatMap((part) => part.deleted)).toHaveLength(1);
    expect(parts.map(({ part, last }) => [part, last])).toEqual(parts.map((_, i) => [i, i === parts.length - 1]));
    expect(Math.max(...parts.map((part) => part.records.reduce((sum, { text }) => sum + text.length, 0)))).toBeLessThanOrEqual(2 ** 19);
    expect(ledgerParts([], [], [])).toEqual([{ part: 0, last: true, records: [], deleted: [], copies: [] }]);
  });
});
