import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { Authority, MachineIdentity, newRequest, type Credentials } from '@ashlar/identity';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './support/cluster.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-strangers-'));
const cluster = new TestCluster(directory);
const HOUR_MS = 3_600_000;
/** Four machines, each with the code of its processes compiled for the first time. */
const START_MS = 240_000;

/** Every listener of the cluster: where links come in, and the API. */
const LISTENERS = { 'the manager': ['m', 7400], 'a storage server': ['s1', 7402] } as const;
type ListenerName = keyof typeof LISTENERS;
const LISTENER_NAMES = Object.keys(LISTENERS) as ListenerName[];

let removed: Credentials;

beforeAll(async () => {
  await cluster.found();
  await Promise.all(['s1', 's2', 's3'].map((server) => cluster.add(server, 'storage')));
  await cluster.until(() => cluster.servers(), (servers) => servers.filter(({ state }) => state === 'up').length === 3, 'three servers up');
}, START_MS);
afterAll(async () => {
  await cluster.endAll();
  rmSync(directory, { recursive: true, force: true });
});

function credentialsOf(machine: string): Credentials {
  return (MachineIdentity.open(join(cluster.home(machine), 'identity')) as MachineIdentity).credentials;
}

/** As the authority of this cluster, or of another one, would issue it. */
async function issued(machine: string, lifetimeMs: number, folder: string): Promise<Credentials> {
  const authority = await Authority.open(folder);
  const { key, request: asked } = await newRequest(machine);
  return { key, cert: await authority.issue(asked, { machine, joining: 1, hosts: [], lifetimeMs }), ca: authority.pem };
}

/** Tries to make a link as this machine, and to be these parties; all that was answered until the other side closed it. */
function linked(where: ListenerName, credentials: Credentials | null, parties: readonly string[] = ['s9']): Promise<string> {
  const [machine, port] = LISTENERS[where];
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect({ host: cluster.address(machine), port, rejectUnauthorized: false, ...(credentials === null ? {} : { key: credentials.key, cert: credentials.cert }) });
    socket.on('secureConnect', () => socket.write(`GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}\r\n\r\n`));
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text;
      if (text.startsWith('HTTP/1.1 101')) socket.write(helloOf(parties));
    });
    socket.on('error', (error) => { answer += `(${error.message})`; });
    socket.on('close', () => resolve(answer));
  });
}

/** The hello of a link as a WebSocket client sends it, its mask zero. */
function helloOf(parties: readonly string[]): Buffer {
  const text = Buffer.from(JSON.stringify({ ashlar: 'link', versions: [1, 2], parties }));
  expect(text.length).toBeLessThan(126);
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), text]);
}

/** The listener's machine has logged this of the stranger, once. */
async function logged(machine: string, line: string): Promise<void> {
  await expect.poll(() => cluster.log(machine).filter(({ msg }) => msg === line).length, { timeout: 10_000, interval: 50, message: line }).toBe(1);
}

function post(path: string, body: unknown, credentials: Credentials | null = null): Promise<{ status: number; body: { code?: string; message?: string } }> {
  return new Promise((resolve, reject) => {
    const asked = request(`${cluster.url}${path}`, { method: 'POST', rejectUnauthorized: false, agent: false, ...(credentials === null ? {} : { key: credentials.key, cert: credentials.cert }) }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => { text += part; });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as object }));
    });
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}

describe('a stranger gets no link', () => {
  it.each(LISTENER_NAMES)('with no certificate, with %s', async (where) => {
    expect(await linked(where, null)).toMatch(/^HTTP\/1.1 403 it showed no certificate/);
    await logged(LISTENERS[where][0], 'refused: it showed no certificate');
  });

  it.each(LISTENER_NAMES)('with the certificate of another cluster, with %s', async (where) => {
    expect(await linked(where, await issued('s1', HOUR_MS, join(directory, 'another')))).toMatch(/^HTTP\/1.1 403 the certificate of machine s1 is not of this cluster/);
    await logged(LISTENERS[where][0], 'refused: the certificate of machine s1 is not of this cluster');
  });

  it.each(LISTENER_NAMES)('with one that has expired, with %s', async (where) => {
    const expired = await issued('s1', -1000, join(cluster.home('m'), 'identity'));
    expect(await linked(where, expired)).toMatch(/^HTTP\/1.1 403 the certificate of machine s1 has expired \(/);
    await expect.poll(() => cluster.log(LISTENERS[where][0]).filter(({ msg }) => /^refused: the certificate of machine s1 has expired \(.*GMT\)$/.test(msg)).length, { timeout: 10_000, interval: 50 }).toBe(1);
  });

  it.each(LISTENER_NAMES)('of a machine that never joined, with %s', async (where) => {
    expect(await linked(where, await issued('s9', HOUR_MS, join(cluster.home('m'), 'identity')))).toMatch(/^HTTP\/1.1 403 machine s9 \(joining 1\) is not in the roster/);
    await logged(LISTENERS[where][0], 'refused: machine s9 (joining 1) is not in the roster of the cluster');
  });

  it.each(LISTENER_NAMES)('under the name of another member, with %s', async (where) => {
    const answer = await linked(where, credentialsOf('s3'), ['s2']);
    // The certificate is good; what it is not good for is found at the hello, before any message.
    expect(answer).toMatch(/^HTTP\/1.1 101/);
    await logged(LISTENERS[where][0], 'refused: it says that it is s2, its certificate is of s3-daemon, s3');
    expect((await cluster.servers()).map(({ state }) => state)).toEqual(['up', 'up', 'up']);
  });

  it('once it is removed: links that are open end at once, and no new ones are made', async () => {
    removed = credentialsOf('s3');
    await cluster.ask('machine', 'remove', 's3');
    for (const machine of ['m', 's1', 's2']) await expect.poll(() => cluster.log(machine).filter(({ msg }) => msg === 'refused: machine s3 was removed from the cluster').length, { timeout: 10_000, interval: 50 }).toBeGreaterThan(0);
    for (const where of LISTENER_NAMES) expect(await linked(where, removed, ['s3'])).toMatch(/^HTTP\/1.1 403 machine s3 was removed from the cluster/);
    // Its own log says what has become of it.
    await expect.poll(() => cluster.log('s3').some(({ msg }) => /^refused: this machine, by \S+: it answered HTTP\/1.1 403 machine s3 was removed from the cluster/.test(msg)), { timeout: 10_000, interval: 50 }).toBe(true);
    await cluster.until(() => cluster.servers(), (servers) => servers.find(({ serverId }) => serverId === 's3')?.state !== 'up', 's3 gone');
    expect((await cluster.machines()).find(({ machine }) => machine === 's3')?.state).toBe('removed');
  });
});

describe('a stranger gets no certificate', () => {
  it('for another cluster\'s certificate, a removed machine\'s, or none', async () => {
    const { request: asked } = await newRequest('s1');
    const another = await issued('s1', HOUR_MS, join(directory, 'another'));
    expect(await post('/renew', { request: asked })).toMatchObject({ status: 403, body: { message: 'it showed no certificate' } });
    expect(await post('/renew', { request: asked }, another)).toMatchObject({ status: 403, body: { message: 'the certificate of machine s1 is not of this cluster' } });
    expect(await post('/renew', { request: asked }, removed)).toMatchObject({ status: 403, body: { message: 'machine s3 was removed from the cluster' } });
    await logged('m', 'refused: a renewal: machine s3 was removed from the cluster');
  });

  it('for a wrong, used or expired secret, and is told so', async () => {
    const start = (machine: string, secret: string): Promise<void> => {
      cluster.configure(machine, ['storage: {}', `join: { url: '${cluster.url}', secretFile: secret }`]);
      writeFileSync(join(cluster.home(machine), 'secret'), secret);
      return cluster.start(machine);
    };
    const used = readFileSync(join(cluster.home('s2'), 'secret'), 'utf8');
    await expect(start('s7', used)).rejects.toThrow(/this join secret has been used\. Nothing was changed\./);
    const { secret } = await cluster.ask<{ secret: string }>('cluster', 'invite', '--roles', 'host');
    await expect(start('s7', secret)).rejects.toThrow(/this join secret is for host, not for storage/);
    const [prefix, id, , fingerprint] = secret.split('.');
    await expect(start('s7', [prefix, id, 'x'.repeat(32), fingerprint].join('.'))).rejects.toThrow(/this join secret is not known here/);
    await expect(start('s7', [prefix, id, 'x'.repeat(32), 'y'.repeat(43)].join('.'))).rejects.toThrow(/is not the cluster that this secret is of/);
    await expect(start('s7', 'secret')).rejects.toThrow(/not a join secret/);
    await logged('m', 'refused: a joining: this join secret has been used');
    expect((await cluster.machines()).some(({ machine }) => machine === 's7')).toBe(false);
    const short = await cluster.ask<{ secret: string; expiresAt: string }>('cluster', 'invite', '--roles', 'storage', '--ttl', '1s');
    await expect.poll(() => Date.now() > Date.parse(short.expiresAt), { timeout: 20_000, interval: 50 }).toBe(true);
    await expect(start('s7', short.secret)).rejects.toThrow(/this join secret has expired/);
  });

  it('and no API without the token, or behind another authority', async () => {
    const { code, json } = await cluster.run('volume', 'list', '--token', 'wrong');
    expect([code, json]).toMatchObject([1, { error: { code: 'unauthorized' } }]);
    await logged('m', 'refused: a request to the API without the token');
    await Authority.open(join(directory, 'another'));
    cpSync(join(directory, 'another', 'authority-key.pem'), join(directory, 'wrong.pem'));
    expect((await cluster.run('volume', 'list', '--ca', join(directory, 'wrong.pem'))).json).toMatchObject({ error: { code: 'untrusted' } });
  });
});
