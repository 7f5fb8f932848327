import { createHash } from 'node:crypto';
import { checksum } from '@ashlar/words';
import { afterEach, expect, test } from 'vitest';
import { createBulkPool, type BulkPool } from './bulk-pool.ts';

let pool: BulkPool;
afterEach(() => pool.shutdown());

test('checksums and hashes are right, of shared and of own memory', async () => {
  pool = createBulkPool({ threads: 2 });
  for (const buffer of [new ArrayBuffer(10_000), new SharedArrayBuffer(10_000)]) {
    const bytes = new Uint8Array(buffer).map((_, i) => i * 7);
    const sums = await pool.checksums(bytes, 4096);
    expect([...sums]).toEqual([0, 4096, 8192].map((at) => checksum(bytes.subarray(at, at + 4096))));
    expect(Buffer.from(await pool.sha256(bytes)).toString('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
  }
  expect(await pool.checksums(new Uint8Array(0), 4096)).toHaveLength(0);
});

test('a job that fails says so; the pool goes on', async () => {
  pool = createBulkPool({ threads: 1 });
  await expect(pool.checksums(new Uint8Array(10), 0)).rejects.toMatchObject({ code: 'unavailable', cause: { message: 'blocks have a length' } });
  expect(await pool.checksums(new Uint8Array(10), 5)).toHaveLength(2);
});

test('too many jobs are answered busy, and after the end nothing is taken', async () => {
  pool = createBulkPool({ threads: 1, queueMax: 2 });
  const bytes = new Uint8Array(1000);
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => pool.sha256(bytes)));
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
  expect(refused.length).toBeGreaterThan(0);
  for (const outcome of refused) expect(outcome.reason).toMatchObject({ code: 'busy', retry: 'later' });
  expect(outcomes.filter((outcome) => outcome.status === 'fulfilled').length).toBeGreaterThanOrEqual(2);
  await pool.shutdown();
  await expect(pool.sha256(bytes)).rejects.toMatchObject({ code: 'unavailable' });
});
