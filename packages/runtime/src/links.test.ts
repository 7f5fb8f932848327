import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createNetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor, ActorContext, ActorLog, Address, Message, Signal } from '@ashlar/actor';
import { Frame, FrameKind } from '@ashlar/protocol';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { LinkAddress, Runtime } from './api.ts';
import { HELLO_BYTES_MAX, VERSION_RETRY_MS } from './limits.ts';
import { createRuntime } from './runtime.ts';
import { GrowingBatch, WireEncoder } from './wire/envelope.ts';

const lines: { readonly level: string; readonly fields: Readonly<Record<string, unknown>>; readonly text: string }[] = [];
const write = (level: string) => (fields: Readonly<Record<string, unknown>>, text: string): void => { lines.push({ level, fields, text }); };
const log: ActorLog = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };

let directory: string;
let runtime: Runtime;
let address: { path: string };
let actor: Listener;
const sockets: WebSocket[] = [];
const others: Runtime[] = [];

class Listener implements Actor {
  readonly got: { message: Message | Signal; from: Address }[] = [];
  readonly context: ActorContext;
  look: () => void = () => {};
  constructor(context: ActorContext) { this.context = context; }
  receive(message: Message | Signal, from: Address): void {
    this.got.push({ message, from });
    this.look();
  }
  async until(seen: (message: Message | Signal) => boolean): Promise<void> {
    while (!this.got.some(({ message }) => seen(message))) await new Promise<void>((resolve) => { this.look = resolve; });
  }
  inspect(): unknown { return null; }
}

function listener(at: Runtime, address_: Address): Listener {
  let made: Listener | null = null;
  at.start({ kind: 'actor', id: address_, address: address_, restart: 'permanent', shutdownMs: 100, start: (context) => (made = new Listener(context)) });
  return made as unknown as Listener;
}

beforeEach(async () => {
  lines.length = 0;
  directory = mkdtempSync(join(tmpdir(), 'ashlar-links-'));
  address = { path: join(directory, 'links.sock') };
  runtime = createRuntime({ name: 'server-1', log, token: 'secret', parties: ['server-1'] });
  actor = listener(runtime, 'server-1/x');
  await runtime.links.listen(address);
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  for (const other of others.splice(0)) await other.shutdown();
  await runtime.shutdown();
  rmSync(directory, { recursive: true });
});

/** A peer of our own making that knows the secret. */
async function peer(token = 'secret', first: (text: string) => void = () => {}): Promise<WebSocket> {
  const socket = new WebSocket(`ws+unix://${address.path}:/link`, { headers: { authorization: `Bearer ${token}` }, perMessageDeflate: false });
  sockets.push(socket);
  socket.once('message', (data) => first((data as Buffer).toString()));
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  return socket;
}

const hello = (parties: readonly string[], versions = [1, 1]): string => JSON.stringify({ ashlar: 'link', versions, parties });

type Sends = readonly [name: string, send: () => string | Uint8Array];

function closed(socket: WebSocket): Promise<void> {
  return new Promise((resolve) => { if (socket.readyState === socket.CLOSED) resolve(); else socket.once('close', () => resolve()); });
}

function batch(...messages: readonly [Address, Address, Message][]): Uint8Array {
  const target = new GrowingBatch(64);
  const encoder = new WireEncoder();
  for (const [to, from, message] of messages) encoder.encode(to, from, message, target);
  return target.written().slice();
}

async function introduced(party: string): Promise<WebSocket> {
  const socket = await peer();
  socket.send(hello([party]));
  await runtime.links.waitUntilUp(party, 5000);
  return socket;
}

function warned(): string[] { return lines.filter((line) => line.level === 'warn').map((line) => `${line.text}: ${String(line.fields['error'] ?? line.fields['refused'])}`); }

describe('a link with a hostile peer', () => {
  test('the socket belongs to its owner alone', () => {
    expect(statSync(address.path).mode & 0o777).toBe(0o600);
  });

  test.each<Sends>([
    ['no hello but bytes', () => batch(['server-1/x', 'server-2/x', { kind: 'private' }])],
    ['no JSON', () => 'hello?'],
    ['not our hello', () => '{"ashlar":"other"}'],
    ['no versions', () => '{"ashlar":"link","parties":["a"]}'],
    ['versions the wrong way round', () => hello(['server-2'], [2, 1])],
    ['parties that are no names', () => hello(['../x'])],
    ['a party of this side', () => hello(['server-1'])],
    ['too many parties', () => hello(Array.from({ length: 1025 }, (_, i) => `p${i}`))],
    ['a huge hello', () => ' '.repeat(HELLO_BYTES_MAX + 1)],
  ])('%s: closed, with a reason in the log', async (_name, send) => {
    const socket = await peer();
    socket.send(send());
    await closed(socket);
    expect(warned()).toHaveLength(1);
    expect(warned()[0]).toContain('malformed');
    expect(runtime.links.up()).toEqual([]);
  });

  test.each<Sends>([
    ['garbage', () => new Uint8Array(100).fill(7)],
    ['a sender that it does not host', () => batch(['server-1/x', 'server-3/x', { kind: 'private' }])],
    ['a frame that is none', () => batch(['server-1/x', 'server-2/x', { kind: 'append', frame: new Frame(new Uint8Array(104)) } as Message])],
  ])('%s after a right hello: closed, the rest goes on', async (_name, send) => {
    const good = await introduced('server-3');
    const socket = await introduced('server-2');
    socket.send(send());
    await closed(socket);
    expect(warned()[0]).toContain('malformed');
    good.send(batch(['server-1/x', 'server-3/x', { kind: 'private' }]));
    await actor.until((message) => message.kind === 'private');
    expect(runtime.links.up()).toEqual(['server-3']);
    expect(actor.got).toHaveLength(1);
  });

  test('a wrong secret, and what is no WebSocket, are refused', async () => {
    await expect(peer('guess')).rejects.toThrow('401');
    await expect(peer('')).rejects.toThrow('401');
    const raw = connect(address.path);
    const answer = new Promise<string>((resolve) => {
      let text = '';
      raw.on('data', (data: Buffer) => { text += data.toString(); });
      raw.on('close', () => resolve(text));
    });
    raw.write('GET /link HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await answer).toContain('426');
  });

  test('too many that do not introduce themselves are refused', async () => {
    await Promise.all(Array.from({ length: 64 }, () => peer()));
    await expect(peer()).rejects.toThrow('503');
  });

  test('however many do not answer that are dialled, who dials is let in', async () => {
    const path = join(directory, 'silent.sock');
    const held: Socket[] = [];
    const silent = createNetServer((socket) => { held.push(socket); });
    await new Promise<void>((resolve) => { silent.listen(path, resolve); });
    for (let i = 0; i < 70; i++) runtime.links.connect(`away-${i}`, { path });
    await expect.poll(() => held.length).toBe(70);
    await introduced('server-2');
    for (let i = 0; i < 70; i++) runtime.links.disconnect(`away-${i}`);
    for (const socket of held) socket.destroy();
    await new Promise<void>((resolve) => { silent.close(() => resolve()); });
    expect(runtime.links.up()).toEqual(['server-2']);
  });

  test('nobody but its own kernel says that an actor ended', async () => {
    const socket = await introduced('server-2');
    actor.context.monitor('server-2/x');
    socket.send(batch(
      ['server-1/x', 'server-2/other', { kind: 'down', address: 'server-2/x', reason: 'crashed' } as Message],
      ['server-1/x', 'server-2/y', { kind: 'down', address: 'server-2/y', reason: 'crashed' } as Message],
      ['server-1/x', 'server-2/x', { kind: 'down', address: 'server-2/x', reason: 'stopped' } as Message],
      ['server-1/x', 'server-2/x', { kind: 'down', address: 'server-2/x', reason: 'crashed' } as Message],
      ['server-1/x', 'server-2/x', { kind: 'private' }],
    ));
    await actor.until((message) => message.kind === 'private');
    expect(actor.got.map(({ message }) => message)).toEqual([{ kind: 'down', address: 'server-2/x', reason: 'stopped' }, { kind: 'private' }]);
  });

  test('one that reads nothing makes senders busy, not memory full', async () => {
    const socket = await introduced('server-2');
    socket.pause();
    const frame = Frame.create(FrameKind.log, 0, 0, new Uint8Array(8 * 2 ** 20));
    frame.seal();
    const outcomes = new Set<string>();
    for (let i = 0; i < 20; i++) runtime.turn(() => outcomes.add(actor.context.send('server-2/x', { kind: 'append', frame } as Message)));
    expect([...outcomes]).toEqual(['ok', 'busy']);
    const [view] = runtime.links.inspect();
    expect(view?.bufferedBytes).toBeLessThan(80 * 2 ** 20);
    expect(view?.refusedBusy).toBeGreaterThan(5);
  });
});

describe('wire versions', () => {
  const FUTURE = [3, 4] as const;
  const refused = (): string[] => warned().map((line) => line.split(':')[0] as string);

  test.each([[[1, 1], 1], [[1, 2], 2], [[2, 3], 2], [[1, 9], 2]] as const)('of one that speaks %j: the highest that both speak', async (versions, version) => {
    const socket = await peer();
    socket.send(hello(['server-2'], [...versions]));
    await runtime.links.waitUntilUp('server-2', 5000);
    expect(runtime.links.inspect().map((link) => link.version)).toEqual([version]);
  });

  test('a peer is sent nothing that its version does not have, and what it does not know in a message that it has is skipped', async () => {
    const socket = await peer();
    const received: Buffer[] = [];
    let look = (): void => {};
    socket.on('message', (data, isBinary) => {
      if (isBinary) received.push(data as Buffer);
      look();
    });
    socket.send(hello(['server-2'], [1, 1]));
    await runtime.links.waitUntilUp('server-2', 5000);
    expect(actor.context.send('server-2/x', { kind: 'retiring', epoch: 7 } as Message)).toBe('unreachable');
    expect(actor.context.send('server-2/x', { kind: 'sync', epoch: 7 } as Message)).toBe('ok');
    while (received.length === 0) await new Promise<void>((resolve) => { look = resolve; });
    expect(received).toEqual([Buffer.from(batch(['server-2/x', 'server-1/x', { kind: 'sync', epoch: 7 } as Message]))]);
    // Field 9 of a later version, a text; and a message that lacks a field which came later.
    const sync = batch(['server-1/x', 'server-2/x', { kind: 'sync', epoch: 7 } as Message]);
    const longer = Buffer.concat([sync, Buffer.from([9 << 3 | 2, 2, 0x68, 0x69])]);
    const lengthAt = sync.length - 9 - 12;
    longer.writeUInt32LE(longer.readUInt32LE(lengthAt) + 4, lengthAt);
    socket.send(longer);
    await actor.until((message) => message.kind === 'sync');
    expect(actor.got.map(({ message }) => message)).toEqual([{ kind: 'sync', epoch: 7 }]);
  });

  test('without one in common: refused with a line that says so, and the other side is told ours', async () => {
    const heard = Promise.withResolvers<string>();
    const socket = await peer('secret', heard.resolve);
    socket.send(hello(['server-2'], [...FUTURE]));
    await closed(socket);
    expect(JSON.parse(await heard.promise)).toEqual({ ashlar: 'link', versions: [1, 2], parties: ['server-1'] });
    expect(refused()).toEqual(['a link is refused']);
    expect(lines.find((line) => line.level === 'warn')).toMatchObject({ fields: { theirs: [3, 4], ours: [1, 2], parties: ['server-2'] } });
    expect(runtime.links.up()).toEqual([]);
  });

  test('without one in common: dialled again slowly, until one of the two is another build', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const path = join(directory, 'future.sock');
    const http = createServer();
    const server = new WebSocketServer({ server: http });
    await new Promise<void>((resolve) => { http.listen(path, resolve); });
    try {
      let versions: readonly number[] = FUTURE;
      let connections = 0;
      let gone = Promise.withResolvers<void>();
      server.on('connection', (socket) => {
        connections++;
        socket.send(hello(['server-2'], [...versions]));
        socket.on('close', () => gone.resolve());
      });
      runtime.links.connect('server-2', { path });
      await gone.promise;
      gone = Promise.withResolvers();
      expect(refused()).toEqual(['a link is refused']);
      vi.advanceTimersByTime(VERSION_RETRY_MS - 1);
      expect(connections).toBe(1);
      versions = [2, 3];
      const up = new Promise<void>((resolve) => { runtime.onLink((notice) => { if (notice.kind === 'link-up') resolve(); }); });
      vi.advanceTimersByTime(1);
      await up;
      expect(connections).toBe(2);
    } finally {
      vi.useRealTimers();
      server.close();
      for (const client of server.clients) client.terminate();
      http.close();
    }
  });
});

describe('what leaves in one turn', () => {
  test('is one WebSocket message, or as many as flushOutput was called for', async () => {
    const socket = await introduced('server-2');
    const sizes: number[] = [];
    let look = (): void => {};
    socket.on('message', (_data, isBinary) => {
      if (!isBinary) return;
      sizes.push((_data as Buffer).length);
      look();
    });
    const until = async (count: number): Promise<void> => { while (sizes.length < count) await new Promise<void>((resolve) => { look = resolve; }); };
    const send = (count: number): void => { for (let i = 0; i < count; i++) actor.context.send('server-2/x', { kind: 'sync', epoch: i } as Message); };
    runtime.turn(() => send(100));
    await until(1);
    runtime.turn(() => {
      send(10);
      runtime.flushOutput();
      send(10);
    });
    await until(3);
    // A large one does not wait for the end of the turn: the other side can begin.
    const frame = Frame.create(FrameKind.log, 0, 0, new Uint8Array(300_000));
    frame.seal();
    runtime.turn(() => {
      actor.context.send('server-2/x', { kind: 'append', frame } as Message);
      send(1);
    });
    await until(5);
    expect(sizes).toHaveLength(5);
    expect(sizes[1]).toBe(sizes[2]);
    expect(sizes[3]).toBeGreaterThan(300_000);
  });
});

describe('links that come and go', () => {
  test('of two links of one party the newer counts, and nothing of the older is delivered any more', async () => {
    actor.context.watch('server-2');
    const older = await introduced('server-2');
    await actor.until((message) => message.kind === 'link-up');
    const newer = await peer();
    newer.send(hello(['server-2']));
    await actor.until((message) => message.kind === 'link-down');
    older.send(batch(['server-1/x', 'server-2/x', { kind: 'late' }]));
    await closed(older);
    newer.send(batch(['server-1/x', 'server-2/x', { kind: 'fresh' }]));
    await actor.until((message) => message.kind === 'fresh');
    expect(actor.got.map(({ message }) => message.kind)).toEqual(['link-up', 'link-down', 'link-up', 'fresh']);
    const incarnations = actor.got.flatMap(({ message }) => (message.kind === 'link-up' ? [(message as Signal & { incarnation: number }).incarnation] : []));
    expect(incarnations[1]).toBeGreaterThan(incarnations[0] as number);
  });

  test('over TCP, with a party that joins later, and what no actor sent', async () => {
    const other = createRuntime({ name: 'host-1', log, token: 'secret', parties: ['host-1'] });
    others.push(other);
    const tcp = await runtime.links.listen({ host: '127.0.0.1', port: 0 }) as LinkAddress & { port: number };
    expect(tcp.port).toBeGreaterThan(0);
    other.links.connect('server-1', tcp);
    await other.links.waitUntilUp('server-1', 5000);
    expect(other.send('server-1/x', { kind: 'from-kernel' })).toBe('ok');
    await actor.until((message) => message.kind === 'from-kernel');
    expect(actor.got[0]?.from).toBe('host-1/kernel');
    other.addParty('host-2');
    await runtime.links.waitUntilUp('host-2', 5000);
    expect([...runtime.links.up()].sort()).toEqual(['host-1', 'host-2']);
  });

  test('a link is moved by connecting to another address', async () => {
    actor.context.watch('server-9');
    const paths = ['a', 'b'].map((name) => join(directory, `${name}.sock`)) as [string, string];
    const seen: Listener[] = [];
    for (const path of paths) {
      const other = createRuntime({ name: 'server-9', log, token: 'secret', parties: ['server-9'] });
      others.push(other);
      seen.push(listener(other, 'server-9/x'));
      await other.links.listen({ path });
    }
    runtime.links.connect('server-9', { path: join(directory, 'nobody.sock') });
    for (const [index, path] of paths.entries()) {
      actor.got.length = 0;
      runtime.links.connect('server-9', { path });
      runtime.links.connect('server-9', { path });
      await actor.until((message) => message.kind === 'link-up');
      actor.context.send('server-9/x', { kind: 'here' });
      await (seen[index] as Listener).until((message) => message.kind === 'here');
    }
    expect(seen.map((each) => each.got.length)).toEqual([1, 1]);
    runtime.links.disconnect('server-9');
  });

  test('a frozen peer does not keep a side from ending', async () => {
    const path = join(directory, 'ending.sock');
    const ending = createRuntime({ name: 'server-8', log, token: 'secret', parties: ['server-8'] });
    await ending.links.listen({ path });
    const socket = new WebSocket(`ws+unix://${path}:/link`, { headers: { authorization: 'Bearer secret' } });
    sockets.push(socket);
    await new Promise((resolve) => { socket.once('open', resolve); });
    socket.send(hello(['server-2']));
    await ending.links.waitUntilUp('server-2', 5000);
    socket.pause();
    await ending.shutdown();
  });

  test('a peer that is not there yet is found when it is, and again after it restarted', async () => {
    const path = join(directory, 'later.sock');
    runtime.links.connect('server-9', { path });
    actor.context.watch('server-9');
    for (let life = 0; life < 2; life++) {
      actor.got.length = 0;
      const later = createRuntime({ name: 'server-9', log, token: 'secret', parties: ['server-9'] });
      await later.links.listen({ path });
      await actor.until((message) => message.kind === 'link-up');
      await later.shutdown();
      await actor.until((message) => message.kind === 'link-down');
    }
    runtime.links.disconnect('server-9');
  });
});
