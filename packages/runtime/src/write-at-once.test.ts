import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { writeAtOnce } from './write-at-once.ts';

let directory: string;
let server: Server;
let near: Socket;
let far: Socket;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'write-at-once-'));
  const path = join(directory, 'socket');
  server = createServer({ pauseOnConnect: true });
  const accepted = new Promise<Socket>((resolve) => { server.once('connection', resolve); });
  await new Promise<void>((resolve) => { server.listen(path, resolve); });
  near = connect(path);
  await new Promise<void>((resolve) => { near.once('connect', resolve); });
  far = await accepted;
});

afterEach(() => {
  near.destroy();
  far.destroy();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

it('lets go of bytes at once when the kernel has taken them', () => {
  let sent = 0;
  writeAtOnce(near, new Uint8Array(4096), () => { sent++; });
  expect(sent).toBe(1);
});

it('keeps them until the other side reads, and they arrive in their order', async () => {
  const order: number[] = [];
  let bytes = 0;
  for (let i = 0; i < 32; i++) {
    const length = i % 3 === 0 ? 100_000 : 50_000;
    bytes += length;
    writeAtOnce(near, new Uint8Array(length).fill(i), () => { order.push(i); });
  }
  expect(order.length).toBeLessThan(32);
  const received: Buffer[] = [];
  let length = 0;
  await new Promise<void>((resolve) => {
    far.on('data', (chunk: Buffer) => {
      received.push(chunk);
      length += chunk.length;
      if (length === bytes) resolve();
    });
    far.resume();
  });
  const all = Buffer.concat(received);
  for (let i = 0, at = 0; i < 32; i++) {
    const end = at + (i % 3 === 0 ? 100_000 : 50_000);
    expect(all.subarray(at, end).every((byte) => byte === i)).toBe(true);
    at = end;
  }
  await expect.poll(() => order.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 32 }, (_, i) => i));
});

it('lets go of them when the socket is gone', async () => {
  let sent = 0;
  near.on('error', () => undefined);
  for (let i = 0; i < 32; i++) writeAtOnce(near, new Uint8Array(60_000), () => { sent++; });
  near.destroy();
  await expect.poll(() => sent).toBe(32);
});
