import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskError, DiskFile } from '@ashlar/store';
import { EXTENT_BYTES } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Descriptors, type Holder } from './descriptors.ts';
import { NodeDisk } from './node-disk.ts';

let root: string;
const { max } = Descriptors.ofThread;
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'descriptors-')); });
afterEach(() => {
  Descriptors.ofThread.max = max;
  rmSync(root, { recursive: true });
});

function files(count: number): DiskFile[] {
  const disk = new NodeDisk([root]);
  return Array.from({ length: count }, (_, k) => made(disk.create(`journal-${k}`)));
}
function made(result: DiskFile | DiskError): DiskFile {
  if ('code' in result) throw new Error(result.message);
  return result;
}
function openHere(): number { return readdirSync('/proc/self/fd').length; }
function bytes(value: number): Uint8Array { return new Uint8Array(4096).fill(value); }

describe('the descriptors of a thread', () => {
  it('that can not be opened again are told of later, and once, where work in the background needs them', async () => {
    const paths = ['a', 'b', 'c'].map((part) => mkdtempSync(join(root, part)));
    const disk = new NodeDisk(paths);
    const gone = made(disk.create('data-0000'));
    Descriptors.ofThread.max = Descriptors.ofThread.count;
    // Takes the descriptors of all three parts.
    const other = made(disk.create('superblock'));
    for (const path of paths) rmSync(join(path, 'data-0000'));
    const memory = new Uint8Array(new SharedArrayBuffer(3 * EXTENT_BYTES));
    const ends: unknown[] = [];
    gone.readLater(memory, 0, (error) => { ends.push(error); });
    expect(ends).toEqual([]);
    disk.settle();
    expect(ends).toMatchObject([{ code: 'ENOENT' }]);
    const later = new Promise((resolve) => { gone.writeLater({ memory, table: [0, memory.length, 0] }, (error) => { ends.push(error); resolve(error); }); });
    expect(ends.length).toBe(1);
    expect(await later).toMatchObject({ code: 'ENOENT' });
    disk.settle();
    expect(ends.length).toBe(2);
    for (const file of [gone, other]) file.close();
  });

  it('are fewer than its files, which hold what was written all the same', () => {
    const before = openHere();
    const held = Descriptors.ofThread.count;
    Descriptors.ofThread.max = held + 24;
    const all = files(100);
    for (let round = 0; round < 3; round++) all.forEach((file, k) => {
      expect(file.write([bytes(k + round)], 0, false)).toBe(null);
      expect(file.syncNow()).toBe(null);
    });
    expect(Descriptors.ofThread.count - held).toBeLessThanOrEqual(24);
    expect(openHere() - before).toBeLessThanOrEqual(24);
    all.forEach((file, k) => {
      const into = new Uint8Array(4096);
      expect(file.read(into, 0)).toBe(null);
      expect(into).toEqual(bytes(k + 2));
    });
    for (const file of all) file.close();
    expect(Descriptors.ofThread.count).toBe(held);
    expect(openHere()).toBe(before);
  });

  it('stay where something is not stable yet: with the descriptor the news of a failed write would be gone', async () => {
    const held = Descriptors.ofThread.count;
    Descriptors.ofThread.max = held + 24;
    const all = files(60);
    for (const file of all) expect(file.write([bytes(1)], 0, false)).toBe(null);
    expect(Descriptors.ofThread.count - held).toBe(60);
    expect(await Promise.all(all.map((file) => new Promise((resolve) => { file.sync(resolve); })))).toEqual(all.map(() => null));
    for (const file of all) expect(file.write([bytes(2)], 0, false)).toBe(null);
    for (const file of all) file.close();
    expect(Descriptors.ofThread.count).toBe(held);
  });

  it('are given away by those that were not used for longest', () => {
    const descriptors = new Descriptors(20);
    const given: number[] = [];
    const holders = Array.from({ length: 21 }, (_, k): Holder & { usedAt: number } => ({ usedAt: descriptors.tick(), idle: k !== 3, release: () => given.push(k) > 0 }));
    (holders[0] as { usedAt: number }).usedAt = descriptors.tick();
    for (const holder of holders) descriptors.add(holder);
    expect(given).toEqual([1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
    expect(descriptors.count).toBe(5);
  });
});
