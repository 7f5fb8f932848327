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
/** Five machines, each with the code of its processes compiled for the first time. */
const START_MS = 240_000;

beforeAll(async () => {
  // Renewed every 15 s: what a machine does for years is done while these tests run.
  await cluster.found('30s');
  await Promise.all([...SERVERS.map((server) => cluster.add(server, 'storage')), cluster.add('h1', 'host')]);
  await cluster.until(() => cluster.servers(), (servers) => servers.filter(({ state }) => state === 'up').length === 3, 'three servers up');
}, START_MS);
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

  describe('keep every answered write', () => {
    let volumeId: string;
    let client: NbdClient;
    let writer: PatternWriter;

    async function goesOn(): Promise<void> {
      const before = writer.written;
      await expect.poll(() => writer.written > before + 300, { timeout: 60_000, interval: 20 }).toBe(true);
    }

    const serverWith = async (role: 'primary' | 'mirror'): Promise<string> => (await cluster.volume(volumeId)).copies.find((copy) => copy.role === role)?.serverId as string;

    it('at first', async () => {
      ({ volumeId } = await cluster.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1'));
      const { nbd } = await cluster.ask<{ nbd: string }>('volume', 'attach', volumeId);
      client = await NbdClient.connect(nbd);
      writer = new PatternWriter(client, BLOCKS);
      writer.start(8);
      await goesOn();
    });

    it('when the machine of the primary dies, and comes back', async () => {
      const primary = await serverWith('primary');
      await cluster.end(primary, 'SIGKILL');
      await goesOn();
      await cluster.start(primary);
      await cluster.healthy(volumeId);
      expect(await serverWith('primary')).not.toBe(primary);
    });

    it('while every certificate is renewed, twice over: those with which the links were made have run out by then', async () => {
      await renewed(2);
      await goesOn();
    });

    it('while the manager is started again, from now on for certificates that last', async () => {
      // A manager that is away for longer than a certificate is another story.
      cluster.configure('m', ['manager: { rebuildDelay: 2s }']);
      await cluster.end('m');
      await cluster.start('m');
      await renewed(1);
      await goesOn();
    });

    it('when the machine of the mirror dies, and comes back with its new certificate', async () => {
      const mirror = await serverWith('mirror');
      await cluster.end(mirror, 'SIGKILL');
      await goesOn();
      await cluster.start(mirror);
      await cluster.healthy(volumeId);
    });

    it('when the machine of the manager dies, and comes back', async () => {
      await cluster.end('m', 'SIGKILL');
      await goesOn();
      await cluster.start('m');
      await cluster.until(() => cluster.machines(), (all) => all.every(({ state }) => state === 'linked'), 'all linked again');
      await cluster.healthy(volumeId);
      await writer.stop();
      expect(await writer.wrong()).toEqual([]);
      expect((await cluster.volume(volumeId)).io['failedRequests']).toBe(0);
      await client.close();
    });

    it('when all end in order, and all come back', async () => {
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
});
