import { Op } from '@ashlar/protocol';
import { checksum, Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { createCopy, MemoryDisk, openCopy, type Backing, type CopyStore } from './index.ts';
import { fillBytes, logFrame, must, smallCopy, VOLUME } from './testing/frames.ts';

const B = 4096;

function write(store: CopyStore, block: number, value: number, blocks = 1): void {
  expect(store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: blocks * B, value }]))).toBe('ok');
}

function expectBlock(store: CopyStore, block: number, value: number): void {
  const into = new Uint8Array(B);
  expect(store.read(block * B, B, into, 0)).toBe('ok');
  const wanted = new Uint8Array(B);
  if (value !== 0) fillBytes(wanted, value, block * B);
  expect(Buffer.compare(into, wanted), `block ${block}`).toBe(0);
}

function syncAll(disk: MemoryDisk, store: CopyStore): void {
  let done = false;
  store.sync((failed) => {
    expect(failed).toBe(null);
    done = true;
  });
  disk.deliver();
  expect(done).toBe(true);
}

function destageAll(disk: MemoryDisk, store: CopyStore): void {
  store.commit(store.lastSeq);
  for (let i = 0; i < 10_000; i++) {
    const outcome = store.destageStep(16, true);
    disk.deliver();
    if (outcome === 'idle') return;
  }
  throw new Error('destaging does not end');
}

describe('a copy on disk', () => {
  it('keeps what was written, across a clean close, and destages it', () => {
    const disk = new MemoryDisk();
    const options = smallCopy({ journalBytesMax: 4 * 2 ** 20 });
    let store = must(createCopy(disk, options));
    for (let k = 0; k < 200; k++) write(store, (k * 37) % 500, k + 1);
    expect(store.lastSeq).toBe(200);
    syncAll(disk, store);
    expect(store.durableSeq).toBe(200);
    destageAll(disk, store);
    expect(store.figures.destagedBlocks).toBeGreaterThan(0);
    expect(store.figures.indexEntries).toBe(0);
    for (let k = 0; k < 200; k++) expectBlock(store, (k * 37) % 500, k + 1);
    write(store, 3, 77);
    expect(store.close(true)).toBe('ok');
    disk.powerCut(new Prng(1));
    store = must(openCopy(disk, { ...options, bootId: 'boot-2' }));
    expect(store.fault).toBe(null);
    expect(store.lostCache).toBe(false);
    expect(store.lastSeq).toBe(201);
    expectBlock(store, 3, 77);
    for (let k = 0; k < 200; k++) if ((k * 37) % 500 !== 3) expectBlock(store, (k * 37) % 500, k + 1);
  });

  it('keeps few files of history where each round moves little, and those after a power cut too', () => {
    const disk = new MemoryDisk();
    const options = smallCopy({ segmentBytes: 2 ** 20, journalBytesMax: 64 * 2 ** 20 });
    let store = must(createCopy(disk, options));
    const files = (): number => disk.list().filter((name) => name.startsWith('journal-')).length;
    let most = 0;
    for (let k = 1; k <= 40; k++) {
      write(store, k, k);
      syncAll(disk, store);
      destageAll(disk, store);
      most = Math.max(most, files());
    }
    expect(most).toBeGreaterThan(8);
    expect(most).toBeLessThanOrEqual(14);
    // What is kept is the newest.
    expect(store.history(store.lastSeq - 8, 100, 2 ** 20)).toHaveLength(8);
    expect(store.history(1, 100, 2 ** 20)).toBe('gone');
    disk.powerCut(new Prng(7));
    store = must(openCopy(disk, { ...options, bootId: 'boot-2' }));
    for (let k = 1; k <= 40; k++) expectBlock(store, k, k);
    expect(files()).toBeLessThanOrEqual(14);
  });

  it('completes parts of blocks', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, smallCopy()));
    write(store, 0, 9, 4);
    expect(store.append(logFrame(store, [
      { op: Op.write, offset: 512, length: 1024, value: 5 },
      { op: Op.write, offset: 1024, length: 8192, value: 6 },
      { op: Op.zero, offset: 3 * B + 512, length: 512 },
      { op: Op.trim, offset: 512, length: 512 },
    ]))).toBe('ok');
    const into = new Uint8Array(4 * B);
    expect(store.read(0, 4 * B, into, 0)).toBe('ok');
    const wanted = new Uint8Array(4 * B);
    fillBytes(wanted, 9, 0);
    fillBytes(wanted.subarray(512, 1536), 5, 512);
    fillBytes(wanted.subarray(1024, 9216), 6, 1024);
    wanted.fill(0, 3 * B + 512, 3 * B + 1024);
    expect(Buffer.compare(into, wanted)).toBe(0);
  });

  it('recovers every synced record after a power cut', () => {
    for (let seed = 0; seed < 30; seed++) {
      const disk = new MemoryDisk();
      const prng = new Prng(seed);
      const options = smallCopy();
      let store = must(createCopy(disk, options));
      const values = new Map<number, number>();
      for (let k = 0; k < 60; k++) {
        const block = prng.below(300);
        write(store, block, k + 1);
        values.set(block, k + 1);
        if (k === 40) store.commit(30);
        store.destageStep(8, true);
      }
      syncAll(disk, store);
      const durable = new Map(values);
      for (let k = 60; k < 80; k++) write(store, prng.below(300) + 400, k + 1);
      disk.powerCut(prng);
      store = must(openCopy(disk, { ...options, bootId: 'boot-2' }));
      expect(store.fault).toBe(null);
      expect(store.lostCache).toBe(true);
      expect(store.incarnation).toBe(2);
      expect(store.lastSeq).toBeGreaterThanOrEqual(60);
      for (const [block, value] of durable) expectBlock(store, block, value);
    }
  });

  it('truncates and goes on, and the cut holds after a restart', () => {
    const disk = new MemoryDisk();
    const options = smallCopy();
    let store = must(createCopy(disk, options));
    for (let k = 1; k <= 40; k++) write(store, k % 10, k);
    expect(store.truncate(25)).toBe('ok');
    expect(store.lastSeq).toBe(25);
    expectBlock(store, 5, 25);
    expectBlock(store, 6, 16);
    expect(store.append(logFrame(store, [{ op: Op.write, offset: 6 * B, length: B, value: 99 }], 2))).toBe('ok');
    disk.processCrash();
    store = must(openCopy(disk, options));
    expect(store.fault).toBe(null);
    expect(store.lastSeq).toBe(26);
    expect(store.epochStarts).toEqual([{ epoch: 1, firstSeq: 1 }, { epoch: 2, firstSeq: 26 }]);
    expectBlock(store, 6, 99);
    expectBlock(store, 7, 17);
    const history = store.history(20, 100, 1e9);
    expect(history === 'gone' ? 'gone' : history.map((frame) => frame.firstSeq)).toEqual([21, 22, 23, 24, 25, 26]);
  });

  it('mirrors by history, and fills a fresh copy', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, smallCopy()));
    for (let k = 1; k <= 40; k++) write(store, k, k);
    destageAll(disk, store);
    for (let k = 41; k <= 50; k++) write(store, k, k);
    const mirror = must(createCopy(new MemoryDisk(), smallCopy()));
    const history = store.history(0, 1000, 1e9);
    if (history === 'gone') throw new Error('history is there');
    for (const frame of history) expect(mirror.append(frame, true)).toBe('ok');
    expect(mirror.chain).toBe(store.chain);
    for (let k = 1; k <= 50; k++) expectBlock(mirror, k, k);
    const learnerDisk = new MemoryDisk();
    const learner = must(createCopy(learnerDisk, smallCopy({ incarnation: 77 })));
    expect(learner.restartLog(1, { seq: store.lastSeq, chain: store.chain }, store.epochStarts, store.session, -1)).toBe('ok');
    const { frame, corrupt } = store.readFill(0, [...Array(256).keys()]);
    expect(corrupt).toEqual([]);
    expect(learner.applyFill(frame, true)).toBe('ok');
    for (let k = 0; k <= 50; k++) expectBlock(learner, k, k);
    destageAll(learnerDisk, learner);
    expect(learner.figures.destagedBlocks).toBe(256);
    for (let k = 0; k <= 50; k++) expectBlock(learner, k, k);
    expect(learner.extentBlocks(0, true)).toEqual(store.extentBlocks(0, true).map((byte, i) => (i % 12 === 0 && byte === 0 ? 2 : byte)));
    expect(learner.volumeId).toBe(VOLUME);
  });
});

describe('a copy over a backing', () => {
  const UNDER = 0xbacc;
  const backing: Backing = {
    readBlock: (block, into) => {
      if (block === 999) return false;
      fillBytes(into, UNDER, block * B);
      return true;
    },
  };

  it('shows it where nothing was written or trimmed, for ever hides it there, and completes parts of blocks with it', () => {
    const disk = new MemoryDisk();
    const options = { ...smallCopy({ sizeBytes: 8 * 2 ** 20, journalBytesMax: 4 * 2 ** 20 }), backing };
    let store = must(createCopy(disk, options));
    const expectAll = (): void => {
      expectBlock(store, 3, UNDER);
      expectBlock(store, 4, 7);
      expectBlock(store, 5, 0);
      expectBlock(store, 1999, 0);
      const part = new Uint8Array(B);
      expect(store.read(8 * B, B, part, 0)).toBe('ok');
      const wanted = new Uint8Array(B);
      fillBytes(wanted, UNDER, 8 * B);
      fillBytes(wanted.subarray(512, 1024), 9, 8 * B + 512);
      expect(Buffer.compare(part, wanted)).toBe(0);
      expect(store.blockStatus(3 * B, 3 * B).map(({ state }) => state)).toEqual(['absent', 'written', 'zero']);
    };
    write(store, 4, 7);
    expect(store.append(logFrame(store, [
      { op: Op.trim, offset: 5 * B, length: B }, { op: Op.write, offset: 8 * B + 512, length: 512, value: 9 }, { op: Op.trim, offset: 1000 * B, length: 1048 * B },
    ]))).toBe('ok');
    expectAll();
    syncAll(disk, store);
    destageAll(disk, store);
    expectAll();
    expect(store.close(true)).toBe('ok');
    store = must(openCopy(disk, options));
    expectAll();
    expect(store.read(999 * B, B, new Uint8Array(B), 0)).toEqual({ corrupt: [999] });
  });

  it('has extents to compare that were zeroed as a whole, in the journal and in the extents', () => {
    const disk = new MemoryDisk();
    const options = smallCopy({ sizeBytes: 8 * 2 ** 20, journalBytesMax: 4 * 2 ** 20 });
    const store = must(createCopy(disk, { ...options, backing }));
    expect(store.append(logFrame(store, [{ op: Op.zero, offset: 2 * 2 ** 20, length: 5 * 2 ** 20 }]))).toBe('ok');
    expect(store.listExtents(0, 10).extents).toEqual([2, 3, 4, 5, 6]);
    syncAll(disk, store);
    destageAll(disk, store);
    expect(store.listExtents(3, 10).extents).toEqual([3, 4, 5, 6]);
    // What is absent here and is not there can only be sent as it shows.
    const { frame } = store.readFill(0, [1]);
    expect([frame.op(0), frame.crc(0)]).toEqual([Op.write, checksum(frame.bytes(0))]);
  });
});
