import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatternWriter } from './support/pattern.ts';
import { cli, isAlive, Site } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-e2e-'));
const SITE = join(directory, 'site');
const OPTIONS = ['--processes', '--servers', '3', '--rebuild-delay', '2s', '--frozen-kill-after', '3s'] as const;
const BLOCKS = 512;

let site: Site;
beforeAll(async () => { site = await Site.up(SITE, ...OPTIONS); });
afterAll(async () => {
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

async function written(depth: number, enough: (writer: PatternWriter) => boolean, writer: PatternWriter): Promise<void> {
  writer.start(depth);
  await expect.poll(() => enough(writer), { timeout: 30_000, interval: 20 }).toBe(true);
}

/** Each copy by its own files alone. */
async function copiesAreRight(volumeId: string, writer: PatternWriter): Promise<void> {
  for (const { serverId } of (await site.healthy(volumeId)).copies) {
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
    const client = await NbdClient.connect(nbd);
    expect(await writer.wrong(client)).toEqual([]);
    await client.close();
    await site.ask('volume', 'detach', volumeId, '--copy', serverId);
  }
}

describe('a site of processes', () => {
  it('has its servers and its host, each a process of its own', async () => {
    const servers = await site.servers();
    expect(servers.map((server) => [server.serverId, server.state])).toEqual([['server-1', 'up'], ['server-2', 'up'], ['server-3', 'up']]);
    const [host] = await site.ask<readonly { hostId: string; state: string; pid: number }[]>('host', 'list');
    expect(host).toMatchObject({ hostId: 'host-1', state: 'up' });
    expect(new Set([site.pid, host?.pid, ...servers.map((server) => server.pid)]).size).toBe(5);
  });

  it('is the only one on its directory', async () => {
    const { code, json } = await cli(['up', '--dir', SITE]);
    expect([code, json]).toMatchObject([1, { error: { code: 'directory-locked' } }]);
  });

  it('refuses what cannot be, says why, and changes nothing', async () => {
    const unknown = 'vol-0123456789abcdef0';
    expect(await site.refused('volume', 'create', '--size', '1GiB', '--mirrors', '3')).toEqual([1, 'too-few-servers']);
    expect(await site.refused('volume', 'create', '--size', '0')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'create', '--size', '-1')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'create', '--size', '1000')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'create', '--size', '99999TiB')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'create', '--size', '1GiB', '--min-copies', '3')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'create')).toEqual([2, 'invalid-argument']);
    expect(await site.refused('volume', 'explode', unknown)).toEqual([2, 'invalid-argument']);
    for (const command of [['describe'], ['attach'], ['detach'], ['delete'], ['scrub'], ['failover'], ['grow', '--size', '2GiB'], ['modify', '--iops', '10']]) {
      expect(await site.refused('volume', command[0] as string, unknown, ...command.slice(1))).toEqual([1, 'not-found']);
    }
    expect((await cli(['volume', 'list', '--endpoint', 'ws://127.0.0.1:1', '--token', 'x'])).code).toBe(1);
    expect(await site.refused('volume', 'list', '--token', 'wrong')).toEqual([1, 'unauthorized']);
    expect(await site.ask('volume', 'list')).toEqual([]);
  });

  it('keeps every answered write while primaries are killed and frozen', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1', '--tag', 'purpose=test');
    expect(await site.volume(volumeId)).toMatchObject({ state: 'available', health: 'healthy', tags: { purpose: 'test' } });
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId);
    expect(await site.refused('volume', 'attach', volumeId)).toEqual([1, 'in-use']);
    expect(await site.refused('volume', 'delete', volumeId)).toEqual([1, 'in-use']);
    const client = await NbdClient.connect(nbd);
    const writer = new PatternWriter(client, BLOCKS);
    await written(8, () => writer.written > 2000, writer);

    const killed = await site.primary(volumeId);
    process.kill(killed.pid, 'SIGKILL');
    const after = writer.written;
    await expect.poll(() => writer.written > after + 500, { timeout: 20_000, interval: 20 }).toBe(true);
    await site.healthy(volumeId);
    expect((await site.primary(volumeId)).serverId).not.toBe(killed.serverId);

    const frozen = await site.primary(volumeId);
    process.kill(frozen.pid, 'SIGSTOP');
    const before = writer.written;
    await expect.poll(() => writer.written > before + 500, { timeout: 20_000, interval: 20 }).toBe(true);
    // Left alone for its time, then killed, reaped and replaced.
    await expect.poll(() => isAlive(frozen.pid), { timeout: 20_000, interval: 100 }).toBe(false);
    await site.healthy(volumeId);

    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    expect((await site.volume(volumeId)).io['failedRequests']).toBe(0);
    await copiesAreRight(volumeId, writer);

    const { sizeBytes } = await site.ask<{ sizeBytes: number }>('volume', 'grow', volumeId, '--size', '96MiB');
    expect(sizeBytes).toBe(96 * 2 ** 20);
    expect(await site.refused('volume', 'grow', volumeId, '--size', '64MiB')).toEqual([2, 'invalid-argument']);
    await site.ask('volume', 'failover', volumeId);
    await site.healthy(volumeId);
    expect(await writer.wrong()).toEqual([]);
    await client.close();
    await site.ask('volume', 'detach', volumeId);
    await site.ask('volume', 'delete', volumeId);
    expect(await site.refused('volume', 'describe', volumeId)).toEqual([1, 'not-found']);
    expect((await site.servers()).every((server) => server.copies === 0)).toBe(true);
  });

  it('builds a new mirror while a server is kept down', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId);
    const client = await NbdClient.connect(nbd);
    const writer = new PatternWriter(client, BLOCKS);
    await written(4, () => writer.written > 500, writer);
    const lost = await site.primary(volumeId);
    await site.ask('server', 'stop', lost.serverId, '--kill');
    await site.until(volumeId, (volume) => volume.health === 'healthy' && !volume.copies.some((copy) => copy.serverId === lost.serverId), 30_000);
    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    await copiesAreRight(volumeId, writer);
    await site.ask('server', 'start', lost.serverId);
    await client.close();
    await site.ask('volume', 'detach', volumeId);
    await site.ask('volume', 'delete', volumeId);
  });

  it('ends with everything, and comes back with everything: in order, and after SIGKILL', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId);
    let client = await NbdClient.connect(nbd);
    const writer = new PatternWriter(client, BLOCKS);
    await written(4, () => writer.written > 600, writer);
    await writer.stop();
    await client.close();
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGINT'] as const) {
      const pids = (await site.servers()).map((server) => server.pid);
      const code = await site.end(signal);
      if (signal !== 'SIGKILL') expect(code).toBe(0);
      await expect.poll(() => pids.some(isAlive), { timeout: 20_000, interval: 50 }).toBe(false);
      site = await Site.up(SITE, ...OPTIONS);
      await site.healthy(volumeId);
      const { attachments } = await site.volume(volumeId);
      client = await NbdClient.connect(attachments[0]?.nbd as string);
      expect(await writer.wrong(client)).toEqual([]);
      await client.close();
    }
    await copiesAreRight(volumeId, writer);
    expect((await site.ask<readonly { name: string }[]>('events', '--subject', volumeId)).some((event) => event.name === 'volume-created')).toBe(true);
  });
});
