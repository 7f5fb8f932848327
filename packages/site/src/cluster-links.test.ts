import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import type { ActorLog } from '@ashlar/actor';
import { Authority, ClusterTrust, newRequest, type Credentials, type Member, type Roster } from '@ashlar/identity';
import { createRuntime, type Runtime } from '@ashlar/runtime';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { linkToCluster } from './cluster-links.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-cluster-links-'));
const HOUR_MS = 3_600_000;
let authority: Authority;
let ports: readonly number[];
const running: { readonly runtime: Runtime; readonly trust: ClusterTrust; readonly lines: string[]; readonly machine: string }[] = [];

beforeAll(async () => { authority = await Authority.open(directory); });
afterAll(() => rmSync(directory, { recursive: true }));
beforeEach(async () => { ports = await Promise.all([0, 1, 2].map(freePort)); });
afterEach(async () => { for (const { runtime } of running.splice(0)) await runtime.shutdown(); });

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Machines `s1` to `s3`, a server each, and `h1` with a host. */
function rosterOf(number: number, machines: readonly string[], removed: readonly string[] = []): Roster {
  const members = machines.map((machine): Member => {
    const storage = machine.startsWith('s');
    return { machine, joining: 1, roles: [storage ? 'storage' : 'host'], parties: [{ party: machine, role: storage ? 'storage' : 'host', address: storage ? { host: '127.0.0.1', port: ports[Number(machine[1]) - 1] as number } : null }] };
  });
  return { clusterId: authority.clusterId, number, members, removed: removed.map((machine) => ({ machine, joining: 1 })) };
}

async function credentialsOf(machine: string): Promise<Credentials> {
  const { key, request } = await newRequest(machine);
  return { key, cert: await authority.issue(request, { machine, joining: 1, hosts: [], lifetimeMs: HOUR_MS }), ca: authority.pem };
}

/** One machine's process; `certified` as another, if it is to lie. */
async function start(machine: string, roster: Roster, certified = machine): Promise<(typeof running)[number]> {
  const lines: string[] = [];
  const write = (_fields: object, text: string): void => { lines.push(text); };
  const log = { debug: () => undefined, info: () => undefined, warn: write, error: write } as unknown as ActorLog;
  const trust = new ClusterTrust(await credentialsOf(certified), roster);
  const runtime = createRuntime({ name: machine, log, token: machine, trust, parties: [machine] });
  const made = { runtime, trust, lines, machine };
  running.push(made);
  const address = roster.members.find((member) => member.machine === machine)?.parties[0]?.address;
  if (address) await runtime.links.listen(address);
  linkToCluster(runtime, { machine, roster, local: {} });
  return made;
}

async function until(holds: () => boolean): Promise<void> {
  await expect.poll(holds, { timeout: 10_000, interval: 5 }).toBe(true);
}

const sees = (one: (typeof running)[number], ...others: readonly string[]): boolean => others.every((other) => one.runtime.links.up().includes(other));

describe('links between machines', () => {
  test('are one for each two servers, and from hosts to all servers', async () => {
    const roster = rosterOf(1, ['s1', 's2', 's3', 'h1']);
    const [s1, s2, s3, h1] = await Promise.all(['s1', 's2', 's3', 'h1'].map((machine) => start(machine, roster))) as [typeof running[0], typeof running[0], typeof running[0], typeof running[0]];
    await until(() => sees(h1, 's1', 's2', 's3') && sees(s3, 's1', 's2', 'h1') && sees(s1, 's2', 's3', 'h1'));
    expect([s1, s2, s3, h1].map(({ runtime }) => runtime.links.dialled())).toEqual([[], ['s1'], ['s1', 's2'], ['s1', 's2', 's3']]);
    expect([s1, s2, s3, h1].flatMap(({ lines }) => lines)).toEqual([]);
  });

  test('follow the roster: who joins is dialled, who is removed is cut off at once by everybody', async () => {
    const before = rosterOf(1, ['s1', 's2']);
    const [s1, s2] = [await start('s1', before), await start('s2', before)];
    await until(() => sees(s1, 's2') && sees(s2, 's1'));
    const joined = rosterOf(2, ['s1', 's2', 's3']);
    const s3 = await start('s3', joined);
    for (const one of [s1, s2]) {
      one.trust.update(one.trust.credentials(), joined);
      linkToCluster(one.runtime, { machine: one.machine, roster: joined, local: {} });
    }
    await until(() => sees(s3, 's1', 's2') && sees(s1, 's2', 's3'));
    const removed = rosterOf(3, ['s1', 's3'], ['s2']);
    s1.trust.update(s1.trust.credentials(), removed);
    expect(s1.runtime.links.up()).toEqual(['s3']);
    s3.trust.update(s3.trust.credentials(), removed);
    expect(s3.runtime.links.up()).toEqual(['s1']);
    expect(s1.lines).toContain('refused: machine s2 was removed from the cluster');
    linkToCluster(s3.runtime, { machine: 's3', roster: removed, local: {} });
    expect(s3.runtime.links.dialled()).toEqual(['s1']);
    // It is told, and tells its own log.
    await until(() => s2.lines.some((line) => line.includes('machine s2 was removed from the cluster')));
  });

  test('are made with a renewed certificate, and open ones go on with the old', async () => {
    const roster = rosterOf(1, ['s1', 's2']);
    const [s1, s2] = [await start('s1', roster), await start('s2', roster)];
    await until(() => sees(s1, 's2'));
    const { incarnation } = s1.runtime.links.inspect()[0] as { incarnation: number };
    for (const one of [s1, s2]) one.trust.update(await credentialsOf(one.machine), rosterOf(2, ['s1', 's2']));
    expect(s1.runtime.links.inspect().map((link) => link.incarnation)).toEqual([incarnation]);
    s2.runtime.links.disconnect('s1');
    await until(() => !sees(s1, 's2'));
    linkToCluster(s2.runtime, { machine: 's2', roster, local: {} });
    await until(() => sees(s1, 's2') && sees(s2, 's1'));
    expect([...s1.lines, ...s2.lines]).toEqual([]);
  });

  test('are not made by who says that it is somebody else', async () => {
    const roster = rosterOf(1, ['s1', 's2', 's3']);
    const s1 = await start('s1', roster);
    await start('s2', roster, 's3');
    await until(() => s1.lines.includes('refused: it says that it is s2, its certificate is of s3'));
    expect(s1.runtime.links.up()).toEqual([]);
  });

  test('keep no process from ending, whatever a stranger goes on sending after he was sent away', async () => {
    const s1 = await start('s1', rosterOf(1, ['s1']));
    const stranger = connect(ports[0] as number, '127.0.0.1', { rejectUnauthorized: false, ...{ allowHalfOpen: true } });
    stranger.on('error', () => undefined);
    await once(stranger, 'secureConnect');
    const sending = setInterval(() => stranger.write('x'), 20);
    await until(() => s1.lines.includes('refused: it showed no certificate'));
    await s1.runtime.shutdown();
    clearInterval(sending);
    stranger.destroy();
    expect(s1.runtime.links.up()).toEqual([]);
  });

  test('are not made to who is not the one that was dialled', async () => {
    const roster = rosterOf(1, ['s1', 's2', 's3']);
    await start('s1', roster, 's3');
    const s2 = await start('s2', roster);
    await until(() => s2.lines.includes('refused: what answers there for s1: its certificate is of s3'));
    expect(s2.runtime.links.up()).toEqual([]);
  });
});
