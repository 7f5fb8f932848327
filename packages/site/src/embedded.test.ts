import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeManager, type Volume } from '@ashlar/node-manager';
import { errorCode, type HostId } from '@ashlar/words';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Site } from './site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-embedded-'));
const SITE = join(directory, 'site');
let site: Site;
beforeAll(async () => { site = await Site.start({ directory: SITE, servers: 3 }); }, 60_000);
afterAll(async () => {
  await site.stop();
  rmSync(directory, { recursive: true, force: true });
});

const SIZE = 16 * 2 ** 20;
const bytes = (seed: number): Uint8Array => Uint8Array.from({ length: 8192 }, (_, i) => (i * 31 + seed) & 0xff);
const codeOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'answered', errorCode);

async function created(): Promise<string> {
  const client = await site.client();
  return (await client.call({ kind: 'volume-create', sizeBytes: SIZE, mirrors: 1 })).volumeId;
}

async function failOver(volumeId: string): Promise<void> {
  await (await site.client()).call({ kind: 'volume-failover', volumeId });
}

describe('a site in this process', () => {
  test('gives a volume that outlives its primary, and holds what was written', async () => {
    const id = await created();
    const volume = await site.attach(id);
    expect(volume.sizeBytes).toBe(SIZE);
    await Promise.all(Array.from({ length: 64 }, (_, i) => volume.write(i * 8192, bytes(i))));
    await volume.flush();
    const during = Promise.all(Array.from({ length: 64 }, (_, i) => volume.write((64 + i) * 8192, bytes(64 + i))));
    await failOver(id);
    await during;
    for (let i = 0; i < 128; i++) expect(await volume.read(i * 8192, 8192)).toEqual(bytes(i));
    await volume.trim(0, 8192);
    expect(await volume.read(0, 8192)).toEqual(new Uint8Array(8192));
    await volume.close();
    expect(await codeOf(volume.read(0, 512))).toBe('not-attached');
  });

  test('refuses a second attach, an unknown volume, and what is no id', async () => {
    const id = await created();
    const [first, second] = await Promise.allSettled([site.attach(id), site.attach(id)]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'in-use' } });
    expect(await codeOf(site.attach('vol-00000000000000000'))).toBe('not-found');
    expect(await codeOf(site.attach('the volume'))).toBe('invalid-argument');
    await (first as PromiseFulfilledResult<Volume>).value.close();
    const again = await site.attach(id);
    await again.close();
  });

  test('is joined by a program of another process, which goes on with its volumes after a restart', async () => {
    const id = await created();
    const options = { directory: join(directory, 'program'), site: SITE };
    const program = await NodeManager.start(options);
    expect(await codeOf(NodeManager.start(options))).toBe('directory-locked');
    const volume = await program.attach(id);
    expect(await codeOf(site.attach(id))).toBe('in-use');
    await volume.write(0, bytes(7));
    await failOver(id);
    expect(await volume.read(0, 8192)).toEqual(bytes(7));
    await program.close();
    expect(await codeOf(volume.read(0, 512))).toBe('not-attached');
    const again = await NodeManager.start(options);
    expect(again.hostId).toBe(program.hostId);
    const resumed = await again.attach(id);
    expect(await resumed.read(0, 8192)).toEqual(bytes(7));
    await resumed.close();
    await again.close();
    const elsewhere = await site.attach(id);
    expect(await elsewhere.read(0, 8192)).toEqual(bytes(7));
    await elsewhere.close();
  });

  test('tells a program that its volume was detached or deleted by somebody', async () => {
    const id = await created();
    const volume = await site.attach(id);
    const client = await site.client();
    await client.call({ kind: 'volume-detach', volumeId: id });
    expect(await codeOf(volume.write(0, bytes(1)))).toBe('not-attached');
    await volume.close();
    await client.call({ kind: 'volume-delete', volumeId: id });
    expect(await codeOf(site.attach(id))).toBe('not-found');
  });

  test('does not let an open volume go on in a later attach: between the two somebody else may have written', async () => {
    const id = await created();
    const before = await site.attach(id);
    const client = await site.client();
    await client.call({ kind: 'volume-detach', volumeId: id });
    await client.call({ kind: 'volume-attach', volumeId: id, hostId: 'program' as HostId });
    expect(await codeOf(before.write(0, bytes(1)))).toBe('not-attached');
    expect(await codeOf(before.read(0, 512))).toBe('not-attached');
    await before.close();
    const after = await site.attach(id);
    await after.write(0, bytes(2));
    await after.close();
  });

  test('is not where nobody started one', async () => {
    expect(await codeOf(NodeManager.start({ directory: join(directory, 'lonely'), site: join(directory, 'nowhere') }))).toBe('unavailable');
  });
});
