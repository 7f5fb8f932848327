import { createServer, request, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { ActorLog } from '@ashlar/actor';
import type { ClusterTrust } from '@ashlar/identity';
import { AshlarError } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Cluster } from './cluster.ts';
import { JoinServer } from './join-server.ts';

const lines: string[] = [];
const write = (_fields: object, text: string): void => { lines.push(text); };
const log = { debug: write, info: write, warn: write, error: write } as unknown as ActorLog;
const cluster = {
  join: (asked: { secret?: string }) => (asked.secret === 'right' ? Promise.resolve({ certificate: 'yes' }) : Promise.reject(new AshlarError('untrusted', 'this join secret is not known here'))),
} as unknown as Cluster;
const trust = { credentials: () => ({ key: 'private', cert: 'own', ca: 'authority' }) } as unknown as ClusterTrust;

let server: Server;
let port: number;
const sockets: Socket[] = [];

beforeEach(async () => {
  lines.length = 0;
  const joins = new JoinServer(cluster, trust, log);
  server = createServer((asked, response) => joins.answer(asked, response));
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  ({ port } = server.address() as { port: number });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.closeAllConnections();
  await new Promise<void>((resolve) => { server.close(() => resolve()); });
});

function ask(method: string, path: string, body = ''): Promise<readonly [number | undefined, string]> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, method, path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => { text += part; });
      response.on('end', () => resolve([response.statusCode, text]));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

describe('the manager answers over HTTPS', () => {
  test('with the authority to anybody, and with nothing of its own key', async () => {
    expect(await ask('GET', '/authority')).toEqual([200, 'authority']);
  });

  test('a joining with what the cluster says, and tells its log of one that is refused', async () => {
    expect(await ask('POST', '/join', '{"secret":"right"}')).toEqual([200, '{"certificate":"yes"}']);
    expect(await ask('POST', '/join', '{"secret":"wrong"}')).toEqual([403, '{"code":"untrusted","message":"this join secret is not known here"}']);
    expect(lines).toEqual(['refused: a joining: this join secret is not known here']);
  });

  test('nothing that is no request: not JSON, too long, without a certificate, anything else', async () => {
    expect((await ask('POST', '/join', 'no JSON'))[0]).toBe(400);
    expect((await ask('POST', '/join', JSON.stringify({ secret: 'x'.repeat(70_000) })))[0]).toBe(400);
    expect((await ask('POST', '/renew', '{}'))[0]).toBe(403);
    expect((await ask('GET', '/elsewhere'))[0]).toBe(426);
  });

  test('nobody who goes away in the middle, and tells its log of that once', async () => {
    for (let i = 0; i < 5; i++) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      await new Promise<void>((resolve) => { socket.write('POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n'); socket.once('data', () => resolve()); });
      socket.resetAndDestroy();
    }
    await expect.poll(() => new Promise((resolve) => { server.getConnections((_error, open) => resolve(open)); })).toBe(0);
    await expect.poll(() => lines).toEqual(['refused: a joining: a request that did not arrive whole']);
  });

  test('whoever asks at once, however many send slowly', async () => {
    const arrived = Array.from({ length: 40 }, () => new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write('POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{', () => resolve()));
      socket.on('error', () => undefined);
      sockets.push(socket);
    }));
    await Promise.all(arrived);
    expect((await ask('POST', '/join', '{"secret":"right"}'))[0]).toBe(200);
  });
});
