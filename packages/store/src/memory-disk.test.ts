import { Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { MemoryDisk, type DiskError, type DiskFile, type RecordedChange } from './index.ts';

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

function made(file: DiskFile | DiskError): DiskFile {
  if ('code' in file) throw new Error(file.message);
  return file;
}

function contentOf(disk: MemoryDisk, name: string, length: number): number[] {
  const into = new Uint8Array(length);
  expect(made(disk.open(name)).read(into, 0)).toBe(null);
  return [...into];
}

describe('a disk in memory', () => {
  it('keeps what was synced through any power cut, and of the rest each change whole, in sectors, or not at all', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 200; seed++) {
      const disk = new MemoryDisk();
      const file = made(disk.create('a'));
      expect(disk.syncDirectoryNow()).toBe(null);
      expect(file.write([bytes(1024, 1)], 0, true)).toBe(null);
      expect(file.syncNow()).toBe(null);
      expect(file.write([bytes(512, 2), bytes(512, 3)], 0, true)).toBe(null);
      expect(file.truncate(5000)).toBe(null);
      made(disk.create('b'));
      disk.powerCut(new Prng(seed));
      const content = contentOf(disk, 'a', 1024);
      seen.add(`${content[0]}${content[512]} ${made(disk.open('a')).sizeBytes} ${disk.list().join('')}`);
      expect(file.read(new Uint8Array(1), 0)).toMatchObject({ code: 'EIO' });
      expect(file.write([bytes(1, 1)], 0, true)).toMatchObject({ code: 'EIO' });
      expect(file.syncNow()).toMatchObject({ code: 'EIO' });
      expect(file.truncate(0)).toMatchObject({ code: 'EIO' });
    }
    for (const start of ['11 ', '13 ', '21 ', '23 ']) expect([...seen].some((state) => state.startsWith(start)), start).toBe(true);
    for (const end of [' 1024 a', ' 5000 a', ' 1024 ab', ' 5000 ab']) expect([...seen].some((state) => state.endsWith(end)), end).toBe(true);
  });

  it('removes files, for good once the directory is synced', () => {
    let back = 0;
    for (let seed = 0; seed < 20; seed++) {
      const disk = new MemoryDisk();
      made(disk.create('a'));
      disk.syncDirectory(() => undefined);
      disk.deliver(1);
      expect(disk.remove('a')).toBe(null);
      expect(disk.remove('a')).toMatchObject({ code: 'ENOENT' });
      if (seed % 2 === 0) expect(disk.syncDirectoryNow()).toBe(null);
      disk.powerCut(new Prng(seed));
      if (seed % 2 === 0) expect(disk.list()).toEqual([]);
      back += disk.list().length;
    }
    expect(back).toBeGreaterThan(0);
  });

  it('makes the faults that it is asked for', () => {
    const disk = new MemoryDisk();
    const file = made(disk.create('a'));
    expect(disk.create('a')).toMatchObject({ code: 'EEXIST' });
    expect(disk.open('b')).toMatchObject({ code: 'ENOENT' });
    const during = (fault: 'EIO' | 'lost' | 'misdirected' | 'flip', run: () => void): void => {
      disk.faults = () => fault;
      run();
      disk.faults = null;
    };
    during('lost', () => expect(file.write([bytes(10, 1)], 0, true)).toBe(null));
    expect(file.sizeBytes).toBe(0);
    during('misdirected', () => expect(file.write([bytes(10, 1)], 0, true)).toBe(null));
    expect(file.sizeBytes).toBe(4106);
    during('flip', () => expect(file.write([bytes(3, 2)], 0, true)).toBe(null));
    expect(contentOf(disk, 'a', 3)).toEqual([2, 3, 2]);
    const into = new Uint8Array(3);
    during('flip', () => expect(file.read(into, 0)).toBe(null));
    expect([...into]).toEqual([2, 2, 2]);
    during('lost', () => expect(file.syncNow()).toBe(null));
    during('EIO', () => {
      expect(file.read(into, 0)).toMatchObject({ code: 'EIO' });
      expect(file.truncate(0)).toMatchObject({ code: 'EIO' });
      expect(file.syncNow()).toMatchObject({ code: 'EIO' });
      expect(disk.create('c')).toMatchObject({ code: 'EIO' });
      expect(disk.remove('a')).toMatchObject({ code: 'EIO' });
      expect(disk.syncDirectoryNow()).toMatchObject({ code: 'EIO' });
      let told: DiskError | null = null;
      disk.syncDirectory((error) => { told = error; });
      disk.deliver();
      expect(told).toMatchObject({ code: 'EIO' });
    });
    disk.powerCut(new Prng(1));
    disk.flipBit('nothing', 0, 0);
  });

  it('delivers completions when told, none after the process has ended', () => {
    const disk = new MemoryDisk();
    const file = made(disk.create('a'));
    let queued = 0;
    const told: string[] = [];
    disk.onCompletion = () => { queued += 1; };
    file.sync(() => told.push('file'));
    disk.syncDirectory(() => told.push('directory'));
    expect([queued, disk.pendingCompletions, told.length]).toEqual([2, 2, 0]);
    disk.deliver(1);
    expect(told).toEqual(['file']);
    disk.processCrash();
    disk.deliver();
    expect(told).toEqual(['file']);
    file.sync(() => told.push('late'));
    disk.syncDirectory(() => told.push('late'));
    disk.powerCut(new Prng(1));
    disk.deliver();
    expect(told).toEqual(['file']);
  });

  it('is full at its capacity, and has room again for what was removed', () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 8192;
    const file = made(disk.create('a'));
    expect(file.write([bytes(8192, 1)], 0, true)).toBe(null);
    expect(file.write([bytes(4096, 1)], 4096, true)).toBe(null);
    expect(file.write([bytes(1, 1)], 8192, true)).toMatchObject({ code: 'ENOSPC' });
    expect(file.truncate(100)).toBe(null);
    expect(contentOf(disk, 'a', 200).filter((byte) => byte === 1)).toHaveLength(100);
    expect(file.write([bytes(1, 1)], 8192, true)).toBe(null);
    expect(disk.remove('a')).toBe(null);
    expect(made(disk.create('b')).write([bytes(8192, 1)], 0, true)).toBe(null);
  });

  it('writes the oldest changes back by itself, as kernels do', () => {
    const disk = new MemoryDisk();
    const file = made(disk.create('a'));
    expect(disk.syncDirectoryNow()).toBe(null);
    for (let k = 0; k < 2100; k++) expect(file.write([bytes(1, 7)], k * 512, true)).toBe(null);
    disk.powerCut(new Prng(2));
    const content = contentOf(disk, 'a', 512 * 1000);
    for (let k = 0; k < 1000; k++) expect(content[k * 512]).toBe(7);
  });

  it('has one fingerprint for one content, and records what was done', () => {
    const disk = new MemoryDisk();
    const recording: RecordedChange[] = [];
    disk.recording = recording;
    const file = made(disk.create('a'));
    expect(file.write([bytes(4096, 0)], 8192, true)).toBe(null);
    const before = disk.fingerprint();
    expect(file.write([bytes(5, 1)], 0, true)).toBe(null);
    expect(disk.fingerprint()).not.toBe(before);
    expect(MemoryDisk.fromImages(disk.images()).fingerprint()).toBe(disk.fingerprint());
    expect(file.write([bytes(5, 0)], 0, true)).toBe(null);
    expect(disk.fingerprint()).toBe(before);
    expect(file.truncate(1)).toBe(null);
    expect(file.syncNow()).toBe(null);
    file.sync(() => undefined);
    disk.syncDirectory(() => undefined);
    disk.deliver();
    expect(disk.syncDirectoryNow()).toBe(null);
    expect(disk.remove('a')).toBe(null);
    expect(recording.map(({ kind }) => kind)).toEqual(['create', 'write', 'write', 'write', 'truncate', 'synced', 'synced', 'directory-synced', 'directory-synced', 'remove']);
  });
});
