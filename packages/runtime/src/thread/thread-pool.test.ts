import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KERNEL, type Actor, type ActorContext, type Address, type Message, type Signal } from '@ashlar/actor';
import { Frame, FrameKind } from '@ashlar/protocol';
import { afterEach, describe, expect, test } from 'vitest';
import type { PlacedActors, Runtime, ThreadPool } from '../api.ts';
import { createLog } from '../log.ts';
import { createRuntime } from '../runtime.ts';
import { createThreadPool } from './thread-pool.ts';

const log = createLog({ name: 'test', level: 'silent' });
const ECHO_GROUP = new URL('./testing/echo-group.ts', import.meta.url).href;
let runtime: Runtime;
let pool: ThreadPool;
let home: Home;

/** An actor of the main thread that writes down what it gets. */
class Home implements Actor {
  readonly got: (Message | Signal)[] = [];
  readonly context: ActorContext;
  #look: () => void = () => {};
  constructor(context: ActorContext) { this.context = context; }
  receive(message: Message | Signal, _from: Address): void {
    this.got.push(message);
    this.#look();
  }
  async until(seen: (message: Message | Signal) => boolean, count = 1): Promise<void> {
    while (this.got.filter(seen).length < count) await new Promise<void>((resolve) => { this.#look = resolve; });
  }
  inspect(): unknown { return null; }
}

function open(threads: number): void {
  runtime = createRuntime({ name: 'main', log, token: 't', parties: ['main'] });
  runtime.start({ kind: 'actor', id: 'home', address: 'main/home', restart: 'temporary', shutdownMs: 100, start: (context) => (home = new Home(context)) });
  pool = createThreadPool({ name: 'pool', threads, runtime, log: { level: 'silent' }, token: 't' });
}

function group(party: string, affinity: string): PlacedActors {
  return { id: `group-${party}`, module: ECHO_GROUP, argument: { party }, parties: [party], affinity };
}

const isUp = (party: string) => (message: Message | Signal): boolean => message.kind === 'link-up' && (message as Signal & { party: string }).party === party;
const isDown = (party: string) => (message: Message | Signal): boolean => message.kind === 'link-down' && (message as Signal & { party: string }).party === party;
const echoes = (message: Message | Signal): boolean => message.kind === 'echoed';

async function placed(party: string, affinity: string): Promise<void> {
  home.context.watch(party);
  await pool.place(group(party, affinity));
  await home.until(isUp(party));
}

afterEach(async () => {
  await pool.shutdown();
  await runtime.shutdown();
});

describe('a pool of threads', () => {
  test('the same address reaches an actor in this thread, in another, and from one thread to the next', async () => {
    open(2);
    await placed('one', 'a');
    await placed('two', 'b');
    expect(pool.threads().map((thread) => thread.groups)).toEqual([['group-one'], ['group-two']]);
    for (let i = 0; i < 1000; i++) home.context.send('one/echo', { kind: 'echo', text: `${i}` } as Message);
    await home.until(echoes, 1000);
    expect(home.got.filter(echoes).map((message) => (message as unknown as { text: string }).text)).toEqual([...Array(1000).keys()].map(String));
    home.got.length = 0;
    // one → two → main: `two` is asked to forward by an actor of another thread.
    home.context.send('one/echo', { kind: 'forward', text: 'x', to: 'main/home' } as Message);
    await home.until(echoes);
    const views = await pool.inspect();
    expect(views.map((view) => view.actors.map((actor) => actor.address))).toEqual([['one/echo'], ['two/echo']]);
    expect(views[0]?.actors[0]?.detail).toEqual({ received: 1001 });
    expect(views[0]?.links.map((link) => link.side)).toEqual(['thread', 'thread']);
  });

  test('groups of one affinity share a thread, others are spread, and a policy of one\'s own decides otherwise', async () => {
    open(2);
    for (const [party, affinity] of [['one', 'a'], ['two', 'a'], ['three', 'b'], ['four', 'b']] as const) await pool.place(group(party, affinity));
    expect(pool.threads().map((thread) => thread.groups)).toEqual([['group-one', 'group-two'], ['group-three', 'group-four']]);
    await pool.shutdown();
    pool = createThreadPool({ name: 'pool', threads: 2, runtime, log: { level: 'silent' }, token: 't', policy: (_group, threads) => threads.length - 1 });
    await pool.place(group('one', 'a'));
    expect(pool.threads().map((thread) => thread.groups)).toEqual([[], ['group-one']]);
  });

  test('a batch larger than the ring crosses whole and in its place', async () => {
    open(1);
    await placed('one', 'a');
    const text = 'x'.repeat(900_000);
    const frame = Frame.create(FrameKind.log, 0, 0, new Uint8Array(8 * 2 ** 20));
    frame.seal();
    runtime.turn(() => {
      home.context.send('one/echo', { kind: 'echo', text: 'first' } as Message);
      for (let i = 0; i < 12; i++) home.context.send('one/echo', { kind: 'echo', text } as Message);
      // No actor there takes it: it only has to cross.
      home.context.send('one/echo', { kind: 'append', frame } as Message);
      home.context.send('one/echo', { kind: 'echo', text: 'last' } as Message);
    });
    await home.until(echoes, 14);
    expect(home.got.filter(echoes).map((message) => (message as unknown as { text: string }).text.length)).toEqual([5, ...Array<number>(12).fill(900_000), 4]);
  });

  test('more than may wait is answered busy, and what was taken arrives', async () => {
    open(1);
    await placed('one', 'a');
    let taken = 0;
    const text = 'x'.repeat(900_000);
    // Without `to` nothing is forwarded: answers would fill the other direction while this thread does not read.
    runtime.turn(() => { while (home.context.send('one/echo', { kind: 'forward', text } as Message) === 'ok') taken++; });
    expect(taken).toBeGreaterThan(60);
    if (home.context.send('one/echo', { kind: 'forward', text: 'perhaps' } as Message) === 'ok') taken++;
    const received = async (): Promise<number> => ((await pool.inspect())[0]!.actors[0]!.detail as { received: number }).received;
    while (await received() < taken);
    expect(await received()).toBe(taken);
    expect(home.context.send('one/echo', { kind: 'echo', text: '' } as Message)).toBe('ok');
  });

  test('a crash in a thread is its actor\'s alone; monitors hear of it', async () => {
    open(1);
    await placed('one', 'a');
    await placed('two', 'a');
    home.context.monitor('one/echo');
    home.context.monitor('one/nobody');
    home.context.send('one/echo', { kind: 'crash', text: '' } as Message);
    await home.until((message) => message.kind === 'down', 2);
    expect(home.got.filter((message) => message.kind === 'down')).toEqual(expect.arrayContaining([
      { kind: 'down', address: 'one/echo', reason: 'crashed' }, { kind: 'down', address: 'one/nobody', reason: 'no-such-actor' },
    ]));
    home.context.send('one/echo', { kind: 'echo', text: '' } as Message);
    home.context.send('two/echo', { kind: 'echo', text: '' } as Message);
    await home.until(echoes, 2);
  });

  test('a thread that dies is replaced with what was placed on it; the other thread goes on', async () => {
    open(2);
    await placed('one', 'a');
    await placed('two', 'b');
    const ended: number[] = [];
    pool.onThreadEnded((thread) => ended.push(thread.index));
    home.context.monitor('one/echo');
    home.got.length = 0;
    home.context.send('one/echo', { kind: 'die', text: '' } as Message);
    await home.until(isDown('one'));
    await home.until((message) => message.kind === 'down');
    expect(home.got).toContainEqual({ kind: 'down', address: 'one/echo', reason: 'thread-ended' });
    expect(home.context.send('one/echo', { kind: 'echo', text: '' } as Message)).toBe('unreachable');
    home.context.send('two/echo', { kind: 'echo', text: 'alive' } as Message);
    await home.until(echoes);
    // Asked while the thread is down: waits for its replacement, because it changes nothing.
    expect((await pool.inspect()).length).toBe(2);
    await home.until(isUp('one'));
    home.context.send('one/echo', { kind: 'echo', text: 'again' } as Message);
    await home.until(echoes, 2);
    expect(pool.threads().map((thread) => thread.life)).toEqual([1, 0]);
    expect(ended).toEqual([0]);
    // The replaced thread and its sibling have found each other: the answer to a message from one's name comes back over their ring.
    expect(runtime.send('two/echo', { kind: 'forward', text: '', to: 'one/echo' } as Message, KERNEL)).toBe('ok');
  });

  test('the directory that a dead thread held is free for its replacement, and for nobody else before', async () => {
    open(2);
    const directory = mkdtempSync(join(tmpdir(), 'ashlar-pool-'));
    home.context.watch('one');
    await pool.place({ ...group('one', 'a'), argument: { party: 'one', directory } });
    await expect(pool.place({ ...group('two', 'b'), argument: { party: 'two', directory } })).rejects.toMatchObject({ code: 'directory-locked' });
    await home.until(isUp('one'));
    home.got.length = 0;
    home.context.send('one/echo', { kind: 'die', text: '' } as Message);
    await home.until(isUp('one'));
    home.context.send('one/echo', { kind: 'echo', text: 'again' } as Message);
    await home.until(echoes);
    rmSync(directory, { recursive: true });
  });

  test('what cannot be placed is refused with code and path, and forgotten', async () => {
    open(1);
    await expect(pool.place(group('refused', 'a'))).rejects.toMatchObject({ name: 'AshlarError', code: 'not-found', path: '/nowhere', message: 'no such party' });
    await expect(pool.place({ ...group('one', 'a'), module: new URL('./ring.ts', import.meta.url).href })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(pool.threads()[0]?.groups).toEqual([]);
    await pool.place(group('one', 'a'));
    await expect(pool.place(group('one', 'a'))).rejects.toMatchObject({ code: 'already-exists' });
  });

  test('a group that is removed is gone, and can be placed again', async () => {
    open(2);
    await placed('one', 'a');
    await pool.remove('group-one');
    await home.until(isDown('one'));
    expect(home.context.send('one/echo', { kind: 'echo', text: '' } as Message)).toBe('unreachable');
    await pool.remove('group-one');
    home.got.length = 0;
    await placed('one', 'a');
    home.context.send('one/echo', { kind: 'echo', text: '' } as Message);
    await home.until(echoes);
  });

  test('calls after the end are refused', async () => {
    open(1);
    await pool.shutdown();
    await expect(pool.place(group('one', 'a'))).rejects.toMatchObject({ code: 'unavailable' });
    await expect(pool.inspect()).rejects.toMatchObject({ code: 'unavailable' });
  });
});
