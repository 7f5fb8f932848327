import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { ActorLog } from '@ashlar/actor';
import { ApiClient } from '@ashlar/client';
import { Authority, newRequest, type Credentials } from '@ashlar/identity';
import type { ApiAnswer, ApiCommand, ApiResponse, EventRecord } from '@ashlar/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ApiServer } from './api-server.ts';
import { MetricsServer } from './metrics.ts';
import { MemoryStore } from './core/index.ts';

const TOKEN = 'a-token-for-tests';
const log: ActorLog = { debug() {}, info() {}, warn() {}, error() {} };
const store = new MemoryStore();
let figures = (): string => 'ashlar_build_info{version="1"} 1\n';
let answerWith: (command: ApiCommand) => ApiAnswer = () => ({ ok: true, value: null });
const server = new ApiServer({ token: TOKEN, store, log, figures: async () => figures(), carryOut: (_principal, command, answer) => answer(answerWith(command)) });
let endpoint = '';

const note = (name: string, subject = 'server-1', reason = ''): void => void store.apply({ conditions: [], puts: [], deletes: [], events: [{ atMs: 1, name, subject, source: 'manager', reason, detail: {} }] });

beforeAll(async () => { endpoint = await server.listen(0); });
afterAll(() => server.close());
beforeEach(() => { answerWith = () => ({ ok: true, value: null }); });

describe('the API', () => {
  const clients: ApiClient[] = [];
  const connect = async (): Promise<ApiClient> => {
    const client = await ApiClient.connect(endpoint, TOKEN);
    clients.push(client);
    return client;
  };
  afterEach(() => { for (const client of clients.splice(0)) client.close(); });

  it('refuses a wrong token, and none', async () => {
    for (const token of ['', 'a-token-for-test', 'A-token-for-tests']) await expect(ApiClient.connect(endpoint, token)).rejects.toMatchObject({ code: 'unauthorized' });
  });

  it('outlives a refused client that resets its connection, and does not keep one that stays', async () => {
    const { hostname, port } = new URL(endpoint);
    const upgrade = 'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';
    for (let i = 0; i < 50; i++) {
      const socket = net.connect({ host: hostname, port: Number(port) });
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(upgrade);
      if (i % 2 === 0) await once(socket, 'data');
      socket.resetAndDestroy();
    }
    // It never ends its own side.
    const stays = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    stays.on('error', () => {});
    stays.write(upgrade);
    stays.resume();
    await once(stays, 'end');
    const closed = new Promise((resolve) => { stays.once('close', resolve); });
    // Answered with a reset by a machine that has no such connection any more.
    const writing = setInterval(() => stays.write('x'), 5);
    await closed;
    clearInterval(writing);
    await expect(connect()).resolves.toBeDefined();
  });

  it('refuses pages of other sites', async () => {
    const socket = new WebSocket(endpoint, { headers: { authorization: `Bearer ${TOKEN}` }, origin: 'https://elsewhere.example' });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
    expect(response.statusCode).toBe(403);
    socket.on('error', () => {});
    socket.terminate();
  });

  it('gives figures to who has the token, and to nobody else', async () => {
    const url = new URL('/metrics', endpoint.replace('ws:', 'http:'));
    const authorization = `Bearer ${TOKEN}`;
    for (const headers of [{}, { authorization: 'Bearer x' }, { authorization: TOKEN }] as Record<string, string>[]) expect((await fetch(url, { headers })).status).toBe(401);
    const answer = await fetch(url, { headers: { authorization } });
    expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8', figures()]);
    expect((await fetch(url, { method: 'POST', headers: { authorization } })).status).toBe(405);
    const before = figures;
    figures = () => { throw new Error('no figures'); };
    expect((await fetch(url, { headers: { authorization } })).status).toBe(500);
    figures = before;
  });

  it('gives figures on a port of their own, and nothing else there', async () => {
    const metrics = await MetricsServer.listen(0, server.metrics);
    const headers = { authorization: `Bearer ${TOKEN}` };
    expect((await fetch(metrics.url)).status).toBe(401);
    expect(await (await fetch(metrics.url, { headers })).text()).toBe(figures());
    expect((await fetch(new URL('/', metrics.url), { headers })).status).toBe(404);
    await expect(MetricsServer.listen(Number(new URL(metrics.url).port), server.metrics)).rejects.toMatchObject({ code: 'io-error' });
    await metrics.close();
  });

  it('counts what it refuses', async () => {
    const before = server.refused.get('unauthorized') ?? 0;
    await expect(ApiClient.connect(endpoint, 'x')).rejects.toMatchObject({ code: 'unauthorized' });
    expect(server.refused.get('unauthorized')).toBe(before + 1);
  });

  it('says that nobody answers where nobody does', async () => {
    await expect(ApiClient.connect('ws://127.0.0.1:1', TOKEN)).rejects.toMatchObject({ code: 'unavailable' });
    await expect(ApiClient.connect('not an endpoint', TOKEN)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('carries commands and answers, several at a time', async () => {
    const client = await connect();
    answerWith = (command) => ({ ok: true, value: command.kind });
    expect(await Promise.all([client.call({ kind: 'volume-list' }), client.call({ kind: 'server-list' })])).toEqual(['volume-list', 'server-list']);
  });

  it('lets a client give up an answer, and ignores it when it comes', async () => {
    const client = await connect();
    const abort = new AbortController();
    const given = client.call({ kind: 'volume-list' }, { signal: abort.signal });
    abort.abort();
    await expect(given).rejects.toMatchObject({ name: 'AbortError' });
    await expect(client.call({ kind: 'volume-list' }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
    answerWith = () => ({ ok: true, value: [] });
    expect(await client.call({ kind: 'server-list' })).toEqual([]);
  });

  it('rejects what waits for an answer when the connection ends, and what is asked after that', async () => {
    const client = await connect();
    await expect(client.events({ follow: true }, () => undefined, { signal: AbortSignal.timeout(1) })).rejects.toMatchObject({ name: 'TimeoutError' });
    const waiting = client.events({ follow: true }, () => undefined);
    client.close();
    await expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
    await expect(client.call({ kind: 'volume-list' })).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('carries refusals with their code', async () => {
    const client = await connect();
    answerWith = () => ({ ok: false, code: 'too-few-servers', message: 'no' });
    await expect(client.call({ kind: 'volume-list' })).rejects.toMatchObject({ code: 'too-few-servers', message: 'no' });
  });

  it('answers garbage with an error, and goes on', async () => {
    const socket = new WebSocket(endpoint, { headers: { authorization: `Bearer ${TOKEN}` } });
    await once(socket, 'open');
    const send = async (text: string): Promise<ApiResponse> => {
      socket.send(text);
      const [data] = (await once(socket, 'message')) as [Buffer];
      return JSON.parse(data.toString()) as ApiResponse;
    };
    for (const [text, code] of [['{', 'protocol'], ['null', 'protocol'], ['{"id":"x"}', 'protocol'], ['{"id":1}', 'protocol'], ['{"id":1,"command":{"kind":"rm -rf"}}', 'invalid-argument'],
      ['{"id":1,"command":{"kind":"volume-create","sizeBytes":"4GiB"}}', 'invalid-argument'], ['{"id":1,"command":{"kind":"__proto__"}}', 'invalid-argument']] as const) {
      expect(await send(text)).toMatchObject({ ok: false, error: { code } });
    }
    expect(await send('{"id":9,"command":{"kind":"volume-list"}}')).toEqual({ id: 9, ok: true, value: null });
    socket.close();
  });

  it('lists events, and follows them without a gap', async () => {
    const client = await connect();
    note('one');
    note('other', 'server-2');
    const listed: EventRecord[] = [];
    await client.events({ follow: false, subject: 'server-2' }, (event) => listed.push(event));
    expect(listed.map((event) => event.name)).toEqual(['other']);
    const followed: string[] = [];
    const enough = Promise.withResolvers<void>();
    const following = client.events({ follow: true }, (event) => {
      followed.push(event.name);
      if (followed.length === 2) note('three');
      if (followed.length === 3) enough.resolve();
    });
    await enough.promise;
    expect(followed).toEqual(['one', 'other', 'three']);
    client.close();
    await expect(following).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('keeps no more than a few MiB for a client that follows events and does not read, and everything for one that does', async () => {
    const [stopped, reading] = await Promise.all([0, 1].map(async () => {
      const socket = new WebSocket(endpoint, { headers: { authorization: `Bearer ${TOKEN}` } });
      await once(socket, 'open');
      socket.send('{"id":1,"events":{"follow":true,"subject":"long"}}');
      // Answered behind it.
      socket.send('{"id":2,"command":{"kind":"volume-list"}}');
      await once(socket, 'message');
      return socket;
    })) as [WebSocket, WebSocket];
    stopped.pause();
    const closed = once(stopped, 'close');
    // Several times what may wait, and what the kernel holds beside; the one that reads has each before the next.
    for (let piece = 0; piece < 8; piece++) {
      const read = once(reading, 'message');
      note(`piece-${piece}`, 'long', 'x'.repeat(4 * 2 ** 20));
      expect(JSON.parse(((await read) as [Buffer])[0].toString())).toMatchObject({ event: { name: `piece-${piece}` } });
    }
    stopped.resume();
    expect((await closed)[0]).toBe(1006);
    reading.close();
  });
});

describe('the API of a cluster', () => {
  let credentials: Credentials;
  const made: ApiServer[] = [];
  const sockets: net.Socket[] = [];

  beforeAll(async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ashlar-api-'));
    const authority = await Authority.open(directory);
    const { key, request } = await newRequest('m');
    credentials = { key, cert: await authority.issue(request, { machine: 'm', joining: 1, hosts: ['127.0.0.1'], lifetimeMs: 3_600_000 }), ca: authority.pem };
    rmSync(directory, { recursive: true });
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const one of made.splice(0)) await one.close();
  });

  async function started(): Promise<{ cluster: ApiServer; url: string; port: number }> {
    const trust = { credentials: () => credentials, judge: () => ({ refused: 'nobody is a machine here' }), onChange: () => undefined };
    const cluster = new ApiServer({ token: TOKEN, store, log, figures: async () => figures(), network: { host: '127.0.0.1', trust, answer: (_request, response) => void response.end() }, carryOut: (_principal, command, answer) => answer(answerWith(command)) });
    const url = await cluster.listen(0);
    return { cluster, url, port: Number(new URL(url).port) };
  }

  async function silent(port: number): Promise<net.Socket> {
    const socket = net.connect({ host: '127.0.0.1', port });
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  it('ends although somebody connects and says nothing, and a client is frozen', async () => {
    const { cluster, port } = await started();
    await silent(port);
    const frozen = connectTls({ host: '127.0.0.1', port, ca: credentials.ca });
    sockets.push(frozen);
    frozen.on('error', () => {});
    frozen.write(`GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`);
    await once(frozen, 'data');
    await cluster.close();
    await expect(silent(port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('has room for clients whatever number of strangers says nothing, and keeps the clients that it has', async () => {
    const { url, port } = await started();
    answerWith = (command) => ({ ok: true, value: command.kind });
    const before = await ApiClient.connect(url, TOKEN, credentials.ca);
    const first = await silent(port);
    const dropped = once(first, 'close');
    for (let i = 0; i < 300; i++) await silent(port);
    await dropped;
    const after = await ApiClient.connect(url, TOKEN, credentials.ca);
    expect(await Promise.all([before, after].map((client) => client.call({ kind: 'volume-list' })))).toEqual(['volume-list', 'volume-list']);
    before.close();
    after.close();
  });
});
