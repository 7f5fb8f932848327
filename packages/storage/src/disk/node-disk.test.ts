import { mkdtempSync, mkdirSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskError, DiskFile } from '@ashlar/store';
import { EXTENT_BYTES } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeDisk } from './node-disk.ts';

let root = '';
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'ashlar-disk-')); });
afterEach(() => rmSync(root, { recursive: true, force: true }));

function disks(count: number): NodeDisk {
  const paths = Array.from({ length: count }, (_, k) => join(root, `disk-${k}`));
  for (const path of paths) mkdirSync(path, { recursive: true });
  return new NodeDisk(paths);
}

function made(file: DiskFile | DiskError): DiskFile {
  if ('code' in file) throw new Error(file.message);
  return file;
}

const bytes = (length: number, seed: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

describe.each([1, 3])('a disk over %i directories', (count) => {
  it('writes several buffers at a place and reads them back, zeros beyond the end', () => {
    const disk = disks(count);
    const file = made(disk.create('data-0000'));
    const at = EXTENT_BYTES - 5000;
    expect(file.write([bytes(3000, 1), bytes(4000, 2), bytes(10, 3)], at, false)).toBe(null);
    expect(file.sizeBytes).toBe(at + 7010);
    const into = new Uint8Array(8000).fill(9);
    expect(file.read(into, at)).toBe(null);
    expect([...into]).toEqual([...bytes(3000, 1), ...bytes(4000, 2), ...bytes(10, 3), ...new Uint8Array(990)]);
    file.close();
    const again = made(disk.open('data-0000'));
    expect(again.sizeBytes).toBe(at + 7010);
    expect(again.truncate(100)).toBe(null);
    expect(again.sizeBytes).toBe(100);
    expect(again.syncNow()).toBe(null);
    again.close();
  });

  it('says what is there, and what went wrong by code', () => {
    const disk = disks(count);
    made(disk.create('data-0000')).close();
    made(disk.create('superblock')).close();
    expect(disk.list()).toEqual(['data-0000', 'superblock']);
    expect(disk.create('superblock')).toMatchObject({ code: 'EEXIST' });
    expect(disk.open('data-0001')).toMatchObject({ code: 'ENOENT' });
    expect(disk.remove('data-0000')).toBe(null);
    expect(disk.remove('data-0000')).toMatchObject({ code: 'ENOENT' });
    expect(disk.syncDirectoryNow()).toBe(null);
  });

  it('syncs in the thread pool, and a file closed meanwhile keeps its descriptor until then', async () => {
    const disk = disks(count);
    const file = made(disk.create('data-0000'));
    expect(file.write([bytes(4096, 1)], 0, true)).toBe(null);
    const error = await new Promise((resolve) => {
      file.sync(resolve);
      file.close();
    });
    expect(error).toBe(null);
    expect(await new Promise((resolve) => disk.syncDirectory(resolve))).toBe(null);
    expect(file.write([bytes(1, 1)], 0, true)).toMatchObject({ code: 'EIO' });
    expect(file.read(new Uint8Array(1), 0)).toMatchObject({ code: 'EIO' });
    expect(file.syncNow()).toMatchObject({ code: 'EIO' });
    expect(await new Promise((resolve) => file.sync(resolve))).toMatchObject({ code: 'EIO' });
  });
});

it('reads zeros where a file was shortened behind its back', () => {
  const disk = disks(1);
  const file = made(disk.create('extents'));
  expect(file.write([bytes(8192, 1)], 0, true)).toBe(null);
  truncateSync(join(root, 'disk-0', 'extents'), 4096);
  const into = new Uint8Array(8192).fill(1);
  expect(file.read(into, 0)).toBe(null);
  expect(into.subarray(4096).every((byte) => byte === 0)).toBe(true);
  file.close();
});

it('spreads data files over the directories and keeps the rest in the first', () => {
  const disk = disks(2);
  const file = made(disk.create('data-0000'));
  expect(file.write([bytes(3 * EXTENT_BYTES, 0)], 0, true)).toBe(null);
  made(disk.create('journal-0000')).close();
  file.close();
  expect(readdirSync(join(root, 'disk-0')).sort()).toEqual(['data-0000', 'journal-0000']);
  expect(readdirSync(join(root, 'disk-1'))).toEqual(['data-0000']);
  rmSync(join(root, 'disk-1', 'data-0000'));
  const rest = made(disk.open('data-0000'));
  const into = new Uint8Array(4096).fill(1);
  expect(rest.read(into, EXTENT_BYTES)).toBe(null);
  expect(into.every((byte) => byte === 0)).toBe(true);
  expect(rest.read(into, 0)).toBe(null);
  expect(into).toEqual(bytes(4096, 0));
  rest.close();
});

it('tells a missing directory by code', async () => {
  const disk = new NodeDisk([join(root, 'nowhere')]);
  expect(disk.list()).toEqual([]);
  expect(disk.syncDirectoryNow()).toMatchObject({ code: 'ENOENT' });
  expect(await new Promise((resolve) => disk.syncDirectory(resolve))).toMatchObject({ code: 'ENOENT' });
});
