import { statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { listExports, NbdClient } from '@ashlar/nbd-client';
import { errorCode } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { configurationOf, FakeSite, MANAGER, S1, S2, specOf, VOLUME } from './testing/fake-site.ts';

let site: FakeSite;
const clients: NbdClient[] = [];
beforeEach(async () => { site = await new FakeSite().start(); });
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await site.end();
});

async function connect(uri: string): Promise<NbdClient> {
  const client = await NbdClient.connect(uri);
  clients.push(client);
  return client;
}

function pattern(seed: number, bytes = 8192): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + seed) & 0xff);
}

describe('an attachment', () => {
  test('is a block device on a unix socket that only its owner reaches', async () => {
    const uri = await site.attach();
    expect(uri).toBe(`nbd+unix:///${VOLUME}?socket=${site.host.socketPath}`);
    expect(statSync(join(site.directory, 'sockets')).mode & 0o777).toBe(0o700);
    const client = await connect(uri);
    expect(client.sizeBytes).toBe(64 * 2 ** 20);
    await Promise.all(Array.from({ length: 40 }, (_, i) => client.write(i * 8192, pattern(i))));
    await client.flush();
    for (let i = 0; i < 40; i++) expect(await client.read(i * 8192, 8192)).toEqual(pattern(i));
    expect(site.volume().applied).toEqual(site.volume().applied.toSorted((a, b) => a - b));
    const usage = await site.manager.until('usage');
    expect(usage.volumeId).toBe(VOLUME);
  });

  test('goes over to another primary, with what was in flight', async () => {
    const client = await connect(await site.attach());
    await client.write(0, pattern(1));
    site.copy(S1).silent = true;
    const answered = client.write(8192, pattern(2));
    const silent = await site.manager.until('primary-silent');
    expect(silent).toMatchObject({ volumeId: VOLUME, epoch: 1, serverId: S1 });
    site.copy(S2).epoch = 2;
    site.command({ kind: 'configuration', configuration: configurationOf(2, S2) });
    await answered;
    expect(await client.read(0, 16_384)).toEqual(Uint8Array.from([...pattern(1), ...pattern(2)]));
    expect(site.copy(S2).opens[0].generation.count).toBe(2);
  });

  test('is told at once when its copy crashes, and comes back to it', async () => {
    const client = await connect(await site.attach());
    site.copy(S1).crashOnRequest = true;
    await client.write(0, pattern(3));
    expect(await client.read(0, 8192)).toEqual(pattern(3));
  });

  test('is not shown any more after a detach, and can be attached again', async () => {
    const uri = await site.attach();
    const client = await connect(uri);
    await client.write(0, pattern(4));
    site.command({ kind: 'detach', volumeId: VOLUME, readOnly: false, copy: null });
    await site.manager.until('detached');
    expect(site.attachment(VOLUME)).toBeUndefined();
    await expect(NbdClient.connect(uri)).rejects.toThrow();
    site.command({ kind: 'detach', volumeId: VOLUME, readOnly: false, copy: null });
    await site.manager.until('detached', 2);
    const again = await connect(await site.attach(specOf({ attachNumber: 2 }), configurationOf(2, S2, { attachNumber: 2 })));
    site.copy(S2).epoch = 2;
    expect(await again.read(0, 8192)).toEqual(pattern(4));
  });

  test('of a later attach takes the place of the one before', async () => {
    const first = await connect(await site.attach());
    await first.write(0, pattern(5));
    await site.attach();
    expect(first.connected).toBe(true);
    site.copy(S1).epoch = 2;
    await site.attach(specOf({ attachNumber: 2 }), configurationOf(2, S1, { attachNumber: 2 }));
    expect(site.copy(S1).opens.at(-1)?.generation).toEqual({ attachNumber: 2, count: 1 });
    expect(await first.read(0, 8192)).toEqual(pattern(5));
    expect(first.reconnections).toBe(1);
  });

  test('on TCP is on loopback alone, and shows nothing else', async () => {
    await site.attach();
    const uri = await site.attach(specOf({ readOnly: true, tcp: true }));
    expect(uri).toMatch(new RegExp(`^nbd://127.0.0.1:[0-9]+/${VOLUME}:ro$`));
    const client = await connect(uri);
    expect(client.info.readOnly).toBe(true);
    await expect(client.write(0, pattern(1))).rejects.toThrow();
    await client.flush();
    expect((await listExports(uri)).map(({ name }) => name)).toEqual([`${VOLUME}:ro`]);
    const port = Number(new URL(uri.replace('nbd:', 'http:')).port);
    await site.restart();
    expect((await site.manager.until('attached', 2)).nbd.includes(String(port)) || site.manager.of('attached')[0].nbd.includes(String(port))).toBe(true);
    await expect(NbdClient.connect(`nbd://127.0.0.1:${port}/${VOLUME}`)).rejects.toThrow();
  });

  test('of one copy reads it alone', async () => {
    const client = await connect(await site.attach(specOf({ readOnly: true, copy: S2 })));
    expect(client.info.readOnly).toBe(true);
    await client.read(0, 4096);
    await client.flush();
    expect(site.copy(S2).opens.map(({ epoch }) => epoch)).toEqual([0]);
    expect(site.copy(S1).opens).toEqual([]);
  });

  test('that is superseded fails cleanly', async () => {
    const client = await connect(await site.attach());
    site.command({ kind: 'configuration', configuration: configurationOf(2, S1, { attachNumber: 2 }) });
    await expect(client.read(0, 4096)).rejects.toThrow(/EIO|input\/output/i);
    expect(site.manager.of('host-event').map(({ name }) => name)).toContain('ended');
  });

  test('takes new limits while in use', async () => {
    const client = await connect(await site.attach());
    site.command({ kind: 'limits', volumeId: VOLUME, limits: { ioTimeoutMs: 200, iops: 0, bandwidthBytes: 0, priority: 1 } });
    site.copy(S1).silent = true;
    await expect(client.write(0, pattern(1))).rejects.toThrow();
    expect(site.manager.of('host-event').map(({ name }) => name)).toContain('requests-timed-out');
  });
});

describe("the host's own restart", () => {
  test('keeps attachments, their sockets and their numbers, without a manager too', async () => {
    const uri = await site.attach();
    const client = await connect(uri);
    await client.write(0, pattern(6));
    const last = site.volume().applied.at(-1) ?? 0;
    await site.restart(false);
    await client.write(8192, pattern(7));
    expect(await client.read(0, 16_384)).toEqual(Uint8Array.from([...pattern(6), ...pattern(7)]));
    expect(client.reconnections).toBe(1);
    expect(site.volume().applied.at(-1)).toBeGreaterThan(last + 2 ** 31);
    expect(site.copy(S1).opens[0].generation.count).toBeGreaterThan(1000);
    site.startManager();
    const hello = await site.manager.until('host-hello');
    expect(hello.attachments).toEqual([specOf()]);
    expect((await site.manager.until('attached')).nbd).toBe(uri);
    // Figures go on where they were.
    expect((await site.manager.until('usage')).usage.writeRequests).toBe(2);
  });

  test('goes on with the newest configuration and limits that it heard of', async () => {
    await site.attach();
    site.copy(S2).epoch = 2;
    site.command({ kind: 'limits', volumeId: VOLUME, limits: { ioTimeoutMs: 0, iops: 9, bandwidthBytes: 0, priority: 0 } });
    site.command({ kind: 'configuration', configuration: configurationOf(2, S2) });
    await site.restart(false);
    expect(site.attachment(VOLUME)?.epoch).toBe(2);
    expect(site.host.specs()[0].limits.iops).toBe(9);
  });

  test('finds another port when its own is taken, and says so', async () => {
    const uri = await site.attach(specOf({ tcp: true }));
    const { port } = new URL(uri.replace('nbd:', 'http:'));
    await site.runtime.shutdown();
    const thief = createServer().listen(Number(port), '127.0.0.1');
    await new Promise((done) => { thief.once('listening', done); });
    await site.start();
    const { nbd } = await site.manager.until('attached');
    expect(nbd).not.toBe(uri);
    await (await connect(nbd)).read(0, 512);
    await new Promise((done) => { thief.close(done); });
  });

  test('is refused where the files are of a later version, or not ours', async () => {
    await site.runtime.shutdown();
    const path = join(site.directory, 'state', 'host.sqlite');
    const database = new DatabaseSync(path);
    database.exec('PRAGMA user_version = 99');
    database.close();
    expect(errorCode(await site.start().catch((error: unknown) => error))).toBe('format-unsupported');
  });
});

describe('an attachment that crashes', () => {
  /** A reason that nobody knows: a defect for whoever has to handle it. */
  function poke(): void {
    const sessionId = site.copy(S1).opens.at(-1)!.generation.count;
    site.runtime.turn(() => {
      site.runtime.send(`host-1/attachment/${VOLUME}`, { kind: 'refused', sessionId, epoch: 1, reason: 'planted' } as never, `${S1}/copy/${VOLUME}`);
    });
  }

  test('is started again with new numbers, and its clients come back', async () => {
    const client = await connect(await site.attach());
    await client.write(0, pattern(8));
    const before = site.copy(S1).opens.at(-1)!.generation.count;
    poke();
    await client.write(8192, pattern(9));
    expect(await client.read(0, 16_384)).toEqual(Uint8Array.from([...pattern(8), ...pattern(9)]));
    expect(site.copy(S1).opens.at(-1)!.generation.count).toBeGreaterThan(before + 1000);
    expect(client.reconnections).toBe(1);
  });

  test('again and again stays down, and the manager is told', async () => {
    const uri = await site.attach();
    for (let i = 0; i < 7 && site.attachment(VOLUME) !== undefined; i++) {
      poke();
      await new Promise((done) => { setImmediate(done); });
    }
    while (!site.manager.of('host-event').some(({ name }) => name === 'attachment-faulted')) await new Promise((done) => { setImmediate(done); });
    await expect(NbdClient.connect(uri)).rejects.toThrow();
    // Attached again by the manager, it lives again.
    site.command({ kind: 'detach', volumeId: VOLUME, readOnly: false, copy: null });
    await site.manager.until('detached');
    await (await connect(await site.attach(specOf({ attachNumber: 2 }), configurationOf(1, S1)))).read(0, 512);
  });
});

describe('the host actor', () => {
  test('greets a manager that comes late, and again after it was away', async () => {
    await site.restart(false);
    site.startManager();
    await site.manager.until('host-hello');
    await site.runtime.stop('manager');
    site.startManager();
    expect((await site.manager.until('host-hello')).hostId).toBe('host-1');
  });

  test('takes commands from the manager alone', async () => {
    site.command({ kind: 'attach', spec: specOf(), configuration: configurationOf(1, S1) }, 'server-1/server');
    site.command({ kind: 'detach', volumeId: VOLUME, readOnly: false, copy: null });
    await site.manager.until('detached');
    expect(site.host.specs()).toEqual([]);
    expect(MANAGER).toBe(site.host.managerAddress);
  });

  test('tells what cannot be attached', async () => {
    site.command({ kind: 'attach', spec: specOf(), configuration: configurationOf(1, S1, { volumeId: 'vol-0123456789abcdef1' as typeof VOLUME }) });
    const failed = await site.manager.until('attach-failed');
    expect(failed.code).toBe('internal');
  });

  test('ends in order with host.stop()', async () => {
    const client = await connect(await site.attach());
    await client.write(0, pattern(1));
    const done = site.host.stop();
    await done;
    expect(site.runtime.inspect().actors.filter(({ address }) => address.startsWith('host-1/'))).toEqual([]);
  });
});
