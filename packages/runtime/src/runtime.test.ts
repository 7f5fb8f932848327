import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor, ActorContext, ActorSpec, Address, Message, Signal } from '@ashlar/actor';
import { Frame, FrameKind, Op } from '@ashlar/protocol';
import { serverId, volumeId } from '@ashlar/words';
import { afterEach, describe, expect, test } from 'vitest';
import type { Runtime } from './api.ts';
import { createLog } from './log.ts';
import { createRuntime } from './runtime.ts';

const VOLUME = volumeId('vol-0123456789abcdef0');
const log = createLog({ name: 'test', level: 'silent' });
const runtimes: Runtime[] = [];
const directories: string[] = [];

function runtime(name: string, token = 'secret'): Runtime {
  const made = createRuntime({ name, log, token, parties: [name] });
  runtimes.push(made);
  return made;
}

afterEach(async () => {
  for (const made of runtimes.splice(0)) await made.shutdown();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

/** Writes down what it gets; `on` may answer or throw. */
class Recorder implements Actor {
  readonly got: { message: Message | Signal; from: Address }[] = [];
  readonly context: ActorContext;
  on: (message: Message | Signal, from: Address) => void = () => {};
  constructor(context: ActorContext) { this.context = context; }
  receive(message: Message | Signal, from: Address): void {
    this.got.push({ message, from });
    this.on(message, from);
    this.waiting.splice(0).forEach((look) => look());
  }
  readonly waiting: (() => void)[] = [];
  async until(kind: string, count = 1): Promise<void> {
    while (this.got.filter(({ message }) => message.kind === kind).length < count) await new Promise<void>((resolve) => { this.waiting.push(resolve); });
  }
  inspect(): unknown { return { got: this.got.length }; }
}

function recorder(at: Runtime, address: Address, more: Partial<ActorSpec> = {}): { lives: Recorder[]; get last(): Recorder } {
  const lives: Recorder[] = [];
  at.start({
    kind: 'actor', id: address, address, restart: 'permanent', shutdownMs: 1000, ...more,
    start: (context) => { const made = new Recorder(context); lives.push(made); return made; },
  });
  return { lives, get last() { return lives.at(-1) as Recorder; } };
}

describe('in one thread', () => {
  test('messages of one sender arrive in order, within one turn, and hooks run after them', () => {
    const rt = runtime('one');
    const a = recorder(rt, 'one/a');
    const b = recorder(rt, 'one/b');
    const order: string[] = [];
    a.last.on = (message) => {
      order.push(message.kind);
      if (message.kind !== 'go') return;
      a.last.context.atTurnEnd('output', () => order.push('output'));
      a.last.context.atTurnEnd('work', () => { order.push('work'); a.last.context.send('one/b', { kind: 'from-work' }); });
      for (let i = 0; i < 3; i++) a.last.context.send('one/b', { kind: `m${i}` });
    };
    b.last.on = (message) => { order.push(message.kind); };
    rt.turn(() => rt.send('one/a', { kind: 'go' }));
    expect(order).toEqual(['go', 'm0', 'm1', 'm2', 'output', 'work', 'from-work']);
  });

  test('a full mailbox answers busy, a missing actor unreachable', () => {
    const rt = runtime('one');
    recorder(rt, 'one/a', { mailboxMax: 2 });
    const outcomes: string[] = [];
    rt.turn(() => { for (let i = 0; i < 3; i++) outcomes.push(rt.send('one/a', { kind: 'm' })); });
    expect(outcomes).toEqual(['ok', 'ok', 'busy']);
    expect(rt.send('one/none', { kind: 'm' })).toBe('unreachable');
    expect(rt.send('elsewhere/a', { kind: 'm' })).toBe('unreachable');
  });

  test('a crash restarts the actor alone, with an empty mailbox, and its monitors hear of it', () => {
    const rt = runtime('one');
    const a = recorder(rt, 'one/a');
    const b = recorder(rt, 'one/b');
    b.last.context.monitor('one/a');
    // Asked twice, told once.
    b.last.context.monitor('one/a');
    b.last.context.monitor('one/none');
    a.last.on = (message) => { if (message.kind === 'die') throw new Error('on purpose'); };
    rt.turn(() => { rt.send('one/a', { kind: 'die' }); rt.send('one/a', { kind: 'lost' }); });
    expect(a.lives).toHaveLength(2);
    expect(a.last.got).toEqual([]);
    expect(a.lives[0]?.context.send('one/b', { kind: 'ghost' })).toBe('unreachable');
    expect(b.last.got.map(({ message }) => (message.kind === 'down' && 'reason' in message ? message.reason : ''))).toEqual(['no-such-actor', 'crashed']);
    expect(b.lives).toHaveLength(1);
  });

  test('too many crashes leave it down, and nobody else', () => {
    const rt = runtime('one');
    const faults: string[] = [];
    const lives: Recorder[] = [];
    rt.start({
      kind: 'supervisor', id: 'group', strategy: 'one_for_one', intensity: 2, periodMs: 60_000, pastIntensity: 'fault', onFault: (fault) => faults.push(fault.childId),
      children: [{ kind: 'actor', id: 'x', address: 'one/x', restart: 'permanent', shutdownMs: 100, start: (context) => { const made = new Recorder(context); made.on = () => { throw new Error('always'); }; lives.push(made); return made; } }],
    });
    const other = recorder(rt, 'one/other');
    for (let i = 0; i < 5; i++) rt.turn(() => rt.send('one/x', { kind: 'm' }));
    expect(lives).toHaveLength(3);
    expect(faults).toEqual(['x']);
    rt.turn(() => rt.send('one/other', { kind: 'm' }));
    expect(other.last.got).toHaveLength(1);
  });

  test('one that cannot start is not there', () => {
    const rt = runtime('one');
    const outcome = rt.start({ kind: 'actor', id: 'bad', address: 'one/bad', restart: 'permanent', shutdownMs: 100, start: () => { throw new Error('no'); } });
    expect(outcome).toBe('failed');
    expect(rt.send('one/bad', { kind: 'm' })).toBe('unreachable');
    expect(rt.inspect().actors).toEqual([]);
  });

  test('timers: one a name, moved by setting it again', async () => {
    const rt = runtime('one');
    const a = recorder(rt, 'one/a');
    const now = rt.nowMs();
    a.last.context.setTimer('x', now + 100_000);
    a.last.context.setTimer('x', now + 5);
    a.last.context.setTimer('y', now);
    a.last.context.setTimer('z', now + 2);
    a.last.context.clearTimer('z');
    await a.last.until('timer', 2);
    expect(a.last.got.map(({ message }) => ('name' in message ? message.name : ''))).toEqual(['y', 'x']);
  });

  test('an orderly stop waits for the I/O of the actor', async () => {
    const rt = runtime('one');
    const a = recorder(rt, 'one/a');
    (a.last as Actor).stop = () => { setImmediate(() => a.last.context.stopped()); return 'stopping'; };
    await rt.stop('one/a');
    expect(rt.send('one/a', { kind: 'm' })).toBe('unreachable');
    expect(rt.start({ kind: 'actor', id: 'one/a', address: 'one/a', restart: 'permanent', shutdownMs: 100, start: (context) => new Recorder(context) })).toBe('started');
  });
});

describe('between processes', () => {
  async function pair(tokenOfB = 'secret'): Promise<{ a: Runtime; b: Runtime; ra: ReturnType<typeof recorder>; rb: ReturnType<typeof recorder> }> {
    const directory = mkdtempSync(join(tmpdir(), 'ashlar-links-'));
    directories.push(directory);
    const a = runtime('server-1');
    const b = runtime('server-2', tokenOfB);
    const ra = recorder(a, 'server-1/x');
    const rb = recorder(b, 'server-2/x');
    const address = { path: join(directory, 'a.sock') };
    await a.links.listen(address);
    b.links.connect('server-1', address);
    return { a, b, ra, rb };
  }

  test('messages cross in both directions, in order, frames with their bytes', async () => {
    const { a, b, ra, rb } = await pair();
    rb.last.context.watch('server-1');
    await b.links.waitUntilUp('server-1', 5000);
    await a.links.waitUntilUp('server-2', 5000);
    await rb.last.until('link-up');
    const payload = new Uint8Array(8192).map((_, i) => i & 0xff);
    const frame = Frame.create(FrameKind.log, 1, 2, payload);
    frame.traceId = 2 ** 40 + 7;
    frame.setOperation(0, 7, Op.write, 0, 4096, 8192, 0, 0);
    frame.seal();
    b.turn(() => {
      b.send('server-1/x', { kind: 'append', frame } as Message, 'server-2/x');
      for (let i = 0; i < 100; i++) b.send('server-1/x', { kind: 'sync', epoch: i } as Message, 'server-2/x');
    });
    await ra.last.until('sync', 100);
    expect(ra.last.got.map(({ message }) => message.kind).slice(0, 2)).toEqual(['append', 'sync']);
    const received = (ra.last.got[0]!.message as unknown as { frame: Frame }).frame;
    expect(Buffer.compare(received.payload, payload)).toBe(0);
    expect(received.traceId).toBe(2 ** 40 + 7);
    expect(ra.last.got.slice(1).map(({ message }) => (message as unknown as { epoch: number }).epoch)).toEqual([...Array(100).keys()]);
    a.send('server-2/x', { kind: 'configure', predecessorEnded: true, founding: false, configuration: { volumeId: VOLUME, lineage: 1, epoch: 4, members: [{ serverId: serverId('server-1'), incarnation: 1 }], learners: [], attachNumber: 0, sizeBytes: 1, minCopies: 1, copiesWanted: 1, durability: 'normal' } } as Message, 'server-1/x');
    await rb.last.until('configure');
    expect(rb.last.got.at(-1)?.message).toMatchObject({ kind: 'configure', predecessorEnded: true, configuration: { epoch: 4, members: [{ serverId: 'server-1' }] } });
  });

  test('the end of an actor is heard across, and so is the end of the link', async () => {
    const { a, b, ra, rb } = await pair();
    await b.links.waitUntilUp('server-1', 5000);
    await a.links.waitUntilUp('server-2', 5000);
    rb.last.context.watch('server-1');
    rb.last.context.monitor('server-1/x');
    rb.last.context.monitor('server-1/x');
    rb.last.context.monitor('server-1/none');
    await rb.last.until('down');
    ra.last.on = () => { throw new Error('on purpose'); };
    b.send('server-1/x', { kind: 'sync', epoch: 1 } as Message, 'server-2/x');
    await rb.last.until('down', 2);
    await a.shutdown();
    runtimes.splice(runtimes.indexOf(a), 1);
    await rb.last.until('link-down');
    expect(rb.last.got.filter(({ message }) => message.kind === 'down')).toHaveLength(2);
    expect(b.send('server-1/x', { kind: 'sync', epoch: 1 } as Message)).toBe('unreachable');
  });

  test('who waits for an end elsewhere and ends first is forgotten', async () => {
    const { b, rb } = await pair();
    await b.links.waitUntilUp('server-1', 5000);
    for (let i = 0; i < 3; i++) rb.last.context.monitor('server-1/x');
    expect(b.inspect().monitors).toBe(1);
    await b.stop('server-2/x');
    expect(b.inspect().monitors).toBe(0);
  });

  test('a wrong token gets no link', async () => {
    const { a, b } = await pair('guess');
    await expect(b.links.waitUntilUp('server-1', 300)).rejects.toThrow('no link');
    expect(a.links.up()).toEqual([]);
  });

  test('a link that was cut is dialled again', async () => {
    const { a, b, rb } = await pair();
    await b.links.waitUntilUp('server-1', 5000);
    rb.last.context.watch('server-1');
    await rb.last.until('link-up');
    b.links.disconnect('server-1');
    await rb.last.until('link-down');
    const listening = a.links.inspect();
    expect(listening.length).toBeLessThanOrEqual(1);
  });
});
