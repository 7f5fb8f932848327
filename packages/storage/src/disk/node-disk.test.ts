import { mkdtempSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { createCopy, openCopy, type CopyStore, type CreateOptions, type DiskFile, type Opened } from '@ashlar/store';
import { BLOCK_BYTES, checksum, EXTENT_BYTES, Prng, serverId, volumeId } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NodeDisk } from './node-disk.ts';
import type { NodeFile } from './node-file.ts';

let root: string;

beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'node-disk-')); });
afterEach(() => { rmSync(root, { recursive: true }); });

function directories(count: number): string[] {
  return Array.from({ length: count }, () => mkdtempSync(join(root, 'disk-')));
}

function file(result: ReturnType<NodeDisk['open']>): DiskFile {
  if ('code' in result) throw new Error(result.message);
  return result;
}

function synced(target: { sync(done: (error: unknown) => void): void }): Promise<unknown> {
  return new Promise((resolve) => { target.sync(resolve); });
}

describe.each([1, 3])('the disk port over %i directories', (count) => {
  it('answers with codes instead of throwing', async () => {
    const disk = new NodeDisk(directories(count));
    expect(disk.open('superblock')).toMatchObject({ code: 'ENOENT' });
    expect(disk.remove('superblock')).toMatchObject({ code: 'ENOENT' });
    file(disk.create('superblock')).close();
    expect(disk.create('superblock')).toMatchObject({ code: 'EEXIST' });
    expect(disk.list()).toEqual(['superblock']);
    const closed = file(disk.open('superblock'));
    closed.close();
    closed.close();
    expect(closed.read(new Uint8Array(1), 0)).toMatchObject({ code: 'EIO' });
    expect(closed.write([new Uint8Array(1)], 0, false)).toMatchObject({ code: 'EIO' });
    expect(closed.syncNow()).toMatchObject({ code: 'EIO' });
    expect(await synced(closed)).toMatchObject({ code: 'EIO' });
    expect(disk.remove('superblock')).toBe(null);
    expect(disk.list()).toEqual([]);
    rmSync(root, { recursive: true });
    expect(disk.create('superblock')).toMatchObject({ code: 'ENOENT' });
    expect(disk.syncDirectoryNow()).toMatchObject({ code: 'ENOENT' });
    expect(await new Promise((resolve) => { disk.syncDirectory(resolve); })).toMatchObject({ code: 'ENOENT' });
    root = mkdtempSync(join(tmpdir(), 'node-disk-'));
  });

  it('reads and writes many pieces in the background, and waits for them where it must', async () => {
    const disk = new NodeDisk(directories(count));
    const target = file(disk.create('data-0000'));
    const memory = new Uint8Array(new SharedArrayBuffer(4 * EXTENT_BYTES));
    memory.forEach((_, i) => { memory[i] = (i * 7) & 0xff; });
    // One long run across extents, two neighbours that lie apart in memory, one alone.
    const table = [0, 2 * EXTENT_BYTES, EXTENT_BYTES / 2, 3 * EXTENT_BYTES, BLOCK_BYTES, 3 * EXTENT_BYTES, 100, BLOCK_BYTES, 3 * EXTENT_BYTES + BLOCK_BYTES, 7, 1, 5 * EXTENT_BYTES];
    expect(await new Promise((resolve) => { target.writeLater({ memory, table }, resolve); })).toBe(null);
    expect(target.sizeBytes).toBe(5 * EXTENT_BYTES + 1);
    const into = new Uint8Array(new SharedArrayBuffer(6 * EXTENT_BYTES)).fill(9);
    let failed: unknown = 'not called';
    target.readLater(into, 0, (error) => { failed = error; });
    expect(failed).toBe('not called');
    disk.settle();
    expect(failed).toBe(null);
    const wanted = new Uint8Array(6 * EXTENT_BYTES);
    for (let k = 0; k < table.length; k += 3) wanted.set(memory.subarray(table[k], (table[k] as number) + (table[k + 1] as number)), table[k + 2]);
    expect(checksum(into)).toBe(checksum(wanted));
    disk.settle();
    target.close();
  });

  it('says why work in the background failed, to whom it belongs', async () => {
    const [one, other] = [new NodeDisk(directories(count)), new NodeDisk(directories(count))];
    const memory = new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES));
    const far = file(one.create('journal-0000'));
    const near = file(other.create('journal-0000'));
    const ends: string[] = [];
    // Beyond what any file system allows.
    const failed = new Promise((resolve) => { far.writeLater({ memory, table: [0, BLOCK_BYTES, 2 ** 52] }, (error) => { ends.push('far'); resolve(error); }); });
    near.readLater(memory, 0, () => { ends.push('near'); });
    other.settle();
    expect(ends).toContain('near');
    expect(await failed).toMatchObject({ code: expect.stringMatching(/EIO|ENOSPC/) });
    expect(ends).toEqual(expect.arrayContaining(['far', 'near']));
  });

  it('settles several in one turn, although their results come together', () => {
    const [one, other] = [new NodeDisk(directories(count)), new NodeDisk(directories(count))];
    const memory = new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES));
    const ends: string[] = [];
    const read = (disk: NodeDisk, name: string): void => file(disk.create('journal-0000')).readLater(memory, 0, () => { ends.push(name); });
    read(one, 'one');
    read(other, 'other');
    // Jobs are carried out in turn: the result of the first is there when the second has ended.
    other.settle();
    expect(ends).toEqual(['other']);
    one.settle();
    expect(ends).toEqual(['other', 'one']);
  });

  it('does not take a write in the background for stable that ended after the sync', () => {
    const disk = new NodeDisk(directories(count));
    const target = file(disk.create('journal-0000')) as NodeFile;
    target.writeLater({ memory: new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES)), table: [0, BLOCK_BYTES, 0] }, () => undefined);
    expect(target.syncNow()).toBe(null);
    disk.settle();
    expect(target.idle).toBe(false);
    expect(target.syncNow()).toBe(null);
    expect(target.idle).toBe(true);
    target.close();
  });

  it('reads back what was written, anywhere, in pieces, across the extents of a striped file', async () => {
    const paths = directories(count);
    const disk = new NodeDisk(paths);
    const prng = new Prng(count);
    for (const name of ['data-0000', 'journal-0001']) {
      const target = file(disk.create(name));
      const wanted = new Uint8Array(5 * EXTENT_BYTES);
      let end = 0;
      for (let round = 0; round < 60; round++) {
        const position = prng.below(4 * EXTENT_BYTES);
        const buffers = Array.from({ length: 1 + prng.below(4) }, () => new Uint8Array(prng.below(400_000)).fill(1 + prng.below(255)));
        expect(target.write(buffers, position, false)).toBe(null);
        let at = position;
        for (const buffer of buffers) {
          wanted.set(buffer.subarray(0, Math.max(0, wanted.length - at)), at);
          at += buffer.length;
        }
        if (at > position) end = Math.max(end, at);
      }
      expect(target.sizeBytes).toBe(end);
      const into = new Uint8Array(wanted.length).fill(9);
      expect(target.read(into, 0)).toBe(null);
      expect(Buffer.compare(into, wanted)).toBe(0);
      expect(target.syncNow()).toBe(null);
      expect(await synced(target)).toBe(null);
      const cut = 2 * EXTENT_BYTES + 1000;
      expect(target.truncate(cut)).toBe(null);
      expect(target.sizeBytes).toBe(cut);
      target.close();
      const again = file(disk.open(name));
      expect(again.sizeBytes).toBe(cut);
      expect(again.read(into, 0)).toBe(null);
      expect(Buffer.compare(into, wanted.fill(0, cut))).toBe(0);
      again.close();
    }
    for (const path of paths) expect(readdirSync(path)).toContain('data-0000');
    expect(disk.list()).toEqual(['data-0000', 'journal-0001']);
    for (const name of disk.list()) expect(disk.remove(name)).toBe(null);
    for (const path of paths) expect(readdirSync(path)).toEqual([]);
  });

  it('syncs a file that is closed meanwhile', async () => {
    const disk = new NodeDisk(directories(count));
    const target = file(disk.create('data-0000'));
    expect(target.write([new Uint8Array(8192)], 0, false)).toBe(null);
    const done = synced(target);
    target.close();
    expect(await done).toBe(null);
  });
});

it('makes the names of missing parts stable when it opens a file', () => {
  const paths = directories(3);
  file(new NodeDisk(paths).create('data-0000')).close();
  unlinkSync(join(paths[1] as string, 'data-0000'));
  const disk = new NodeDisk(paths);
  const syncs = vi.spyOn(disk, 'syncDirectoryNow').mockReturnValueOnce({ code: 'EIO', message: 'sync' });
  expect(disk.open('data-0000')).toMatchObject({ code: 'EIO' });
  // The part is there now, but its name may still be lost.
  file(disk.open('data-0000')).close();
  expect(syncs).toHaveBeenCalledTimes(2);
  for (const path of paths) expect(readdirSync(path)).toEqual(['data-0000']);
  file(disk.open('data-0000')).close();
  expect(syncs).toHaveBeenCalledTimes(2);
});

const VOLUME = volumeId('vol-0123456789abcdef0');
const OPTIONS: CreateOptions = {
  volumeId: VOLUME, serverId: serverId('server-1'), bootId: 'boot-1', sizeBytes: 64 * 2 ** 20, lineage: 1, incarnation: 1,
  state: { promisedEpoch: 1, configuration: null, complete: true, fault: null }, segmentBytes: 2 ** 20, journalBytesMax: 8 * 2 ** 20,
};

function must(opened: Opened): CopyStore {
  if ('failed' in opened) throw new Error(`${opened.failed}: ${opened.detail}`);
  return opened.store;
}

function write(store: CopyStore, block: number, value: number, blocks = 1): void {
  const payload = new Uint8Array(blocks * BLOCK_BYTES).fill(value);
  const frame = Frame.create(FrameKind.log, 1, blocks, payload);
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.epoch = 1;
  frame.firstSeq = store.lastSeq + 1;
  frame.lineage = 1;
  frame.setOperation(0, store.lastSeq + 1, Op.write, 0, block * BLOCK_BYTES, payload.length, 0, 0);
  for (let k = 0; k < blocks; k++) frame.setCrc(k, checksum(payload.subarray(0, BLOCK_BYTES)));
  expect(store.append(frame)).toBe('ok');
}

async function destageAll(store: CopyStore, woken: () => Promise<void>): Promise<void> {
  store.commit(store.lastSeq);
  for (;;) {
    const wake = woken();
    const outcome = store.destageStep(64, true);
    if (outcome === 'idle') return;
    if (outcome === 'waiting') await wake;
  }
}

describe('a copy on real files', () => {
  it.each([1, 2])('destages, closes and opens, over %i directories', async (count) => {
    const paths = directories(count);
    const disk = new NodeDisk(paths);
    let wake = (): void => undefined;
    const options: CreateOptions = { ...OPTIONS, wake: () => wake() };
    const woken = (): Promise<void> => new Promise((resolve) => { wake = resolve; });
    let store = must(createCopy(disk, options));
    expect(createCopy(disk, options)).toMatchObject({ failed: 'already-exists' });
    const values = new Map<number, number>();
    const prng = new Prng(7);
    for (let round = 0; round < 3; round++) {
      for (let k = 0; k < 400; k++) {
        const block = prng.below(16_384);
        const value = 1 + prng.below(255);
        write(store, block, value);
        values.set(block, value);
      }
      // Whole tiles, some within a larger write.
      for (let k = 0; k < 30; k++) {
        const block = prng.below(1000) * 16 - prng.below(2) * 3 + 3;
        const value = 1 + prng.below(255);
        const blocks = 16 * prng.between(1, 9) + 3;
        if (!store.hasRoom((blocks + 4) * BLOCK_BYTES)) await destageAll(store, woken);
        write(store, block, value, blocks);
        for (let i = 0; i < blocks; i++) values.set(block + i, value);
      }
      await destageAll(store, woken);
    }
    expect(store.figures.backlogBytes).toBe(0);
    const check = (): void => {
      const into = new Uint8Array(BLOCK_BYTES);
      for (const [block, value] of values) {
        expect(store.read(block * BLOCK_BYTES, BLOCK_BYTES, into, 0)).toBe('ok');
        expect(into.every((byte) => byte === value)).toBe(true);
      }
    };
    check();
    write(store, 5, 77);
    values.set(5, 77);
    // As after the end of the process: nothing is closed, nothing was synced.
    store = must(openCopy(new NodeDisk(paths), options));
    expect(store).toMatchObject({ fault: null, lastSeq: 1291, lostCache: false });
    check();
    expect(store.close(true)).toBe('ok');
    store = must(openCopy(disk, { ...options, bootId: 'boot-2' }));
    expect(store).toMatchObject({ fault: null, lostCache: false, incarnation: 1 });
    check();
    expect(store.scrubStep(1e9)).toMatchObject({ corrupt: [], wrapped: true });
    store.close(false);
    store = must(openCopy(disk, { ...options, bootId: 'boot-3' }));
    expect(store).toMatchObject({ fault: null, lostCache: true, incarnation: 2 });
  });
});
