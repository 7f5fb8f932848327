import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Prng } from '@ashlar/words';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LinkProxies, socketPath, writeSurroundings } from './link-proxies.ts';

const PARTIES = ['manager', 'server-1'];
const prng = new Prng(1);

let folder: string;
let around: string;
let manager: Server;
let proxies: LinkProxies;

/** Says everything back. */
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ashlar-cut-'));
  around = join(folder, 'around');
  manager = createServer((socket) => { socket.on('error', () => {}).pipe(socket); });
  manager.listen(join(folder, 'manager.link'));
  await once(manager, 'listening');
  proxies = await LinkProxies.start(folder, around, PARTIES);
});

afterEach(() => {
  proxies.close();
  manager.close();
  rmSync(folder, { recursive: true });
});

function dial(): Socket {
  return connect(socketPath(around, 'server-1', 'manager')).on('error', () => {});
}

async function dialled(): Promise<Socket> {
  const socket = dial();
  expect(await said(socket, 'hello')).toBe('hello');
  return socket;
}

/** What comes back first. */
async function said(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  return String(bytes);
}

test('each party dials the earlier ones through the proxies', () => {
  writeSurroundings(around, 'server-1', PARTIES, { clockShiftMs: 7, bootId: null });
  expect(JSON.parse(readFileSync(join(around, 'server-1.json'), 'utf8'))).toEqual({ clockShiftMs: 7, bootId: null, links: { manager: socketPath(around, 'server-1', 'manager') } });
});

test('a link that carries nothing is not cut', () => {
  expect(proxies.cut('close', 1, prng)).toBeNull();
});

test('a closed link is gone for both ends, and can be had again', async () => {
  const socket = await dialled();
  expect(proxies.cut('close', 0, prng)?.link).toBe('server-1–manager');
  await once(socket, 'close');
  (await dialled()).destroy();
});

test('one that is held carries what was sent meanwhile afterwards', async () => {
  const socket = await dialled();
  const cut = proxies.cut('hold', 20, prng);
  let over = false;
  void cut?.over.then(() => { over = true; });
  expect(await said(socket, 'late')).toBe('late');
  expect(over).toBe(true);
  socket.destroy();
});

test('one that is parted is refused until that is over', async () => {
  const socket = await dialled();
  const cut = proxies.cut('partition', 1000, prng);
  await once(socket, 'close');
  const refused = dial();
  await once(refused, 'close');
  await cut?.over;
  (await dialled()).destroy();
});
