import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { PatternWriter } from './support/pattern.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-machines-'));
const cluster = new TestCluster(directory);
const SERVERS = ['s1', 's2', 's3'] as const;
const BLOCKS = 512;

beforeAll(async () => {
  // Renewed every 15 s: what a machine does for years is done while these tests run.
  await cluster.found('30s');
  for (const server of SERVERS) await cluster.add(server, 'storage');
  await cluster.add('h1', 'host');
  await cluster.until(() => cluster.servers(), (servers) => servers.filter(({ state }) => state === 'up').length === 3, 'three servers up');
});
afterAll(async () => {
  await cluster.endAll();
  rmSync(directory, { recursive: true, force: true });
});

async function renewed(times: number): Promise<void> {
  const before = new Map([...SERVERS, 'h1'].map((machine) => [machine, renewals(machine)]));
  await expect.poll(() => [...before].every(([machine, count]) => renewals(machine) >= count + times), { timeout: 60_000, interval: 100, message: 'renewed' }).toBe(true);
}

function renewals(machine: string): number {
  return cluster.log(machine).filter(({ msg }) => msg === 'the certificate of this machine was renewed').length;
}

describe('machines of a cluster', () => {
  it('have joined, each with its own name, and are linked', async () => {
    const machines = await cluster.until(() => cluster.machines(), (all) => all.every(({ state }) => state === 'linked'), 'all linked');
    expect(machines.map(({ machine, joining, parties }) => [machine, joining, parties])).toEqual([
      ['h1', 1, ['h1-daemon', 'h1-host']], ['m', 1, ['m-daemon', 'manager']], ...SERVERS.map((name) => [name, 1, [`${name}-daemon`, name]]),
    ]);
    expect((await cluster.servers()).map(({ serverId, address }) => [serverId, address])).toEqual(SERVERS.map((name) => [name, `${cluster.address(name)}:7402`]));
  });

  it('keep every answered write while machines die, certificates are renewed, and the manager is away', async () => {
    const { volumeId } = await cluster.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1');
    const { nbd } = await cluster.ask<{ nbd: string }>('volume', 'attach', volumeId);
    const client = await NbdClient.connect(nbd);
    const writer = new PatternWriter(client, BLOCKS);
    const goesOn = async (what: string): Promise<void> => {
      const before = writer.written;
      await expect.poll(() => writer.written > before + 300, { timeout: 30_000, interval: 20, message: what }).toBe(true);
    };
    writer.start(8);
    await goesOn('at first');

    // The machine of the primary.
    const primary = (await cluster.volume(volumeId)).copies.find(({ role }) => role === 'primary')?.serverId as string;
    await cluster.end(primary, 'SIGKILL');
    await goesOn('after a failover');
    await cluster.start(primary);
    const healed = await cluster.healthy(volumeId);
    expect(healed.copies.find(({ role }) => role === 'primary')?.serverId).not.toBe(primary);

    // Certificates of all, twice over: those with which the links were made have run out by then.
    await renewed(2);
    await goesOn('with renewed certificates');
    // From now on they last: a manager that is away for longer than a certificate is another story.
    cluster.configure('m', ['manager: { rebuildDelay: 2s }']);
    await cluster.end('m');
    await cluster.start('m');
    await renewed(1);

    // A machine that is started now links with the new ones.
    const mirror = (await cluster.volume(volumeId)).copies.find(({ role }) => role === 'mirror')?.serverId as string;
    await cluster.end(mirror, 'SIGKILL');
    await goesOn('without the mirror');
    await cluster.start(mirror);
    await cluster.healthy(volumeId);

    await cluster.end('m', 'SIGKILL');
    await goesOn('without the manager');
    await cluster.start('m');
    await cluster.until(() => cluster.machines(), (all) => all.every(({ state }) => state === 'linked'), 'all linked again');
    await cluster.healthy(volumeId);

    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    expect((await cluster.volume(volumeId)).io['failedRequests']).toBe(0);
    await client.close();

    // Everything in order, and everything back.
    for (const machine of ['h1', ...SERVERS, 'm']) expect(await cluster.end(machine)).toBe(0);
    await Promise.all(['m', ...SERVERS, 'h1'].map((machine) => cluster.start(machine)));
    await cluster.healthy(volumeId);
    const { attachments } = await cluster.volume(volumeId);
    const again = await NbdClient.connect(attachments[0]?.nbd as string);
    expect(await writer.wrong(again)).toEqual([]);
    await again.close();
    await cluster.ask('volume', 'detach', volumeId);
    await cluster.ask('volume', 'delete', volumeId);
  });
});
