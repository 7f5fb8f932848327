import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import type { Actor, ActorContext, ActorLog, Message, Signal } from '@ashlar/actor';
import { Frame, FrameKind } from '@ashlar/protocol';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Runtime } from './api.ts';
import { createRuntime } from './runtime.ts';

const quiet = (): void => {};
const log: ActorLog = { debug: quiet, info: quiet, warn: quiet, error: quiet };

/** 8 MB a second. */
class Slow extends Transform {
  override _transform(chunk: Buffer, _encoding: string, done: (error: null, chunk: Buffer) => void): void { setTimeout(() => done(null, chunk), chunk.length / 8000); }
}

/** Between the two machines. What is cut stays open on both sides, and carries nothing any more. */
class Way {
  readonly #server: Server;
  readonly #pairs: (readonly [near: Socket, far: Socket])[] = [];
  /** Connections that were asked for while it was cut: held, and never answered. */
  held = 0;
  whole = true;
  slow = false;

  constructor(to: { readonly host: string; readonly port: number }) {
    this.#server = createServer((near) => {
      near.on('error', quiet);
      if (!this.whole) {
        this.held++;
        return;
      }
      const far = connect(to.port, to.host);
      far.on('error', quiet);
      if (this.slow) {
        near.pipe(new Slow()).pipe(far);
        far.pipe(new Slow()).pipe(near);
      } else {
        near.pipe(far).pipe(near);
      }
      this.#pairs.push([near, far]);
    });
  }

  async open(): Promise<{ host: string; port: number }> {
    if (!this.#server.listening) await new Promise<void>((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
    return { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port };
  }

  cut(): void {
    this.whole = false;
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  /** What was cut, as after a long time: it comes through again as well. */
  healOld(): void {
    for (const [near, far] of this.#pairs) near.pipe(far).pipe(near);
  }

  close(): void {
    this.#server.close();
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }
}

class Watcher implements Actor {
  readonly context: ActorContext;
  readonly seen: string[] = [];
  readonly #look: () => void;
  constructor(context: ActorContext, look: () => void) { this.context = context; this.#look = look; }
  receive(message: Message | Signal): void {
    this.seen.push(message.kind);
    this.#look();
  }
  inspect(): unknown { return null; }
}

let near: Runtime;
let far: Runtime;
let way: Way;
let watcher: Watcher;
let other: Watcher;
let look: () => void = quiet;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => { look = resolve; setTimeout(resolve, 20); });
}

beforeEach(async () => {
  near = createRuntime({ name: 'host-1', log, token: 'secret', parties: ['host-1'] });
  far = createRuntime({ name: 'server-1', log, token: 'secret', parties: ['server-1'] });
  way = new Way(await far.links.listen({ host: '127.0.0.1', port: 0 }) as { host: string; port: number });
  far.start({ kind: 'actor', id: 'server-1/x', address: 'server-1/x', restart: 'permanent', shutdownMs: 100, start: (context) => (watcher = new Watcher(context, () => look())) });
  watcher.context.watch('host-1');
  near.links.connect('server-1', await way.open());
  await near.links.waitUntilUp('server-1', 5000);
});

afterEach(async () => {
  way.close();
  await near.shutdown();
  await far.shutdown();
});

test('where nothing comes over a link any more, a new connection takes its place as soon as one comes through', async () => {
  const [before] = near.links.inspect();
  way.cut();
  // That one is never answered: another is asked for.
  await until(() => way.held >= 1);
  expect(near.links.inspect().some((link) => link.incarnation === before?.incarnation)).toBe(true);
  way.whole = true;
  await until(() => near.links.inspect().length === 1 && near.links.inspect()[0]?.incarnation !== before?.incarnation && near.links.up().includes('server-1'));
  expect(near.send('server-1/x', { kind: 'from-kernel' })).toBe('ok');
  await until(() => watcher.seen.includes('from-kernel'));
  near.links.disconnect('server-1');
  expect(near.links.up()).toEqual([]);
});

test('one that is heard again stays, and the other is given up', async () => {
  const [before] = near.links.inspect();
  way.cut();
  await until(() => way.held === 1);
  way.healOld();
  await until(() => near.links.inspect().length === 1);
  expect(near.links.inspect()[0]?.incarnation).toBe(before?.incarnation);
  expect(watcher.seen.filter((kind) => kind === 'link-down')).toEqual([]);
  expect(near.send('server-1/x', { kind: 'from-kernel' })).toBe('ok');
  await until(() => watcher.seen.includes('from-kernel'));
});

test('one over which a large message takes its time stays, whichever side sends it', async () => {
  near.links.disconnect('server-1');
  way.slow = true;
  near.links.connect('server-1', await way.open());
  await near.links.waitUntilUp('server-1', 5000);
  const [before] = near.links.inspect();
  near.start({ kind: 'actor', id: 'host-1/x', address: 'host-1/x', restart: 'permanent', shutdownMs: 100, start: (context) => (other = new Watcher(context, () => look())) });
  const frame = Frame.create(FrameKind.log, 0, 0, new Uint8Array(28 * 2 ** 20));
  frame.seal();
  const append = { kind: 'append', frame } as Message;
  expect(near.send('server-1/x', append)).toBe('ok');
  await until(() => watcher.seen.includes('append'));
  expect(far.send('host-1/x', append)).toBe('ok');
  await until(() => other.seen.includes('append'));
  expect(near.links.inspect()).toMatchObject([{ incarnation: before?.incarnation }]);
});
