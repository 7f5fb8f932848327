import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { AshlarError } from '@ashlar/words';
import { afterEach, describe, expect, test } from 'vitest';
import { ControlClient, serveControl } from './control-call.ts';

interface Api {
  add(a: number, b: number): number;
  later(ms: number): Promise<string>;
  fail(how: 'ashlar' | 'plain' | 'text'): never;
  hang(): Promise<void>;
  secret(): string;
}

const hung: (() => void)[] = [];
const api: Api = {
  add: (a, b) => a + b,
  later: (ms) => new Promise((resolve) => { setTimeout(() => resolve(`after ${ms}`), ms); }),
  fail(how) {
    // What a library may do.
    const text: unknown = 'a bare text';
    if (how === 'text') throw text;
    const cause = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES', path: '/data' });
    throw how === 'ashlar' ? new AshlarError('directory-locked', 'in use', { retry: 'later', path: '/data', cause }) : cause;
  },
  hang: () => new Promise((resolve) => { hung.push(resolve); }),
  secret: () => 'not offered',
};
const clients: ControlClient<Api>[] = [];
const ports: MessagePort[] = [];

function served(): MessagePort {
  const { port1, port2 } = new MessageChannel();
  serveControl<Api>(port2, api, ['add', 'later', 'fail', 'hang']);
  ports.push(port2);
  return port1;
}

function client(timeoutMs = 5000): ControlClient<Api> {
  const made = new ControlClient<Api>({ name: 'worker', idempotent: ['add', 'later'], timeoutMs });
  clients.push(made);
  return made;
}

afterEach(() => {
  for (const made of clients.splice(0)) made.close();
  for (const port of ports.splice(0)) port.close();
});

describe('control calls', () => {
  test('answer with values', async () => {
    const calls = client();
    calls.attach(served());
    expect(await calls.call('add', [2, 3])).toBe(5);
    expect(await calls.call('later', [1])).toBe('after 1');
  });

  test('fail with code, retry, path and cause', async () => {
    const calls = client();
    calls.attach(served());
    await expect(calls.call('fail', ['ashlar'])).rejects.toMatchObject({
      name: 'AshlarError', code: 'directory-locked', retry: 'later', path: '/data', peer: 'worker', message: 'in use', cause: { message: 'EACCES: permission denied', code: 'EACCES', path: '/data' },
    });
    await expect(calls.call('fail', ['plain'])).rejects.toMatchObject({ code: 'internal', message: 'EACCES: permission denied' });
    await expect(calls.call('fail', ['text'])).rejects.toMatchObject({ code: 'internal', message: 'a bare text' });
  });

  test('reach only what is offered', async () => {
    const calls = client();
    calls.attach(served());
    await expect(calls.call('secret', [])).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(calls.call('constructor' as 'secret', [])).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(calls.call('add', [(() => 1) as unknown as number, 2])).rejects.toMatchObject({ code: 'internal' });
  });

  test('of a dead thread reject, or are done again by its replacement when that harms nobody', async () => {
    const calls = client();
    calls.attach(served());
    const hanging = calls.call('hang', []);
    const repeatable = calls.call('later', [60_000]);
    calls.detach('it was killed');
    await expect(hanging).rejects.toMatchObject({ code: 'unavailable', retry: 'later', message: expect.stringContaining('it was killed') });
    await expect(calls.call('hang', [])).rejects.toMatchObject({ code: 'unavailable' });
    const waiting = calls.call('add', [1, 1]);
    calls.attach(served());
    expect(await waiting).toBe(2);
    calls.close();
    await expect(repeatable).rejects.toMatchObject({ code: 'unavailable', message: 'worker was shut down' });
    await expect(calls.call('add', [1, 1])).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('of a thread that is stuck end as well', async () => {
    const calls = client(20);
    calls.attach(served());
    await expect(calls.call('hang', [])).rejects.toMatchObject({ code: 'timeout' });
    // Its late answer harms nobody.
    hung.splice(0).forEach((resolve) => resolve());
    expect(await calls.call('add', [1, 2])).toBe(3);
  });
});
