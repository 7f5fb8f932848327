import { Op } from '@ashlar/protocol';
import { Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { TILE_BYTES, createCopy, MemoryDisk, openCopy, type CopyStore, type CreateOptions, type DiskOperation } from './index.ts';
import { fillBytes, logFrame, must, smallCopy, type Change } from './testing/frames.ts';
import type { FilledBlock } from './testing/model.ts';
import { fillFrame } from './testing/rig.ts';

const B = 4096;
const C = TILE_BYTES;
const options: CreateOptions = smallCopy();

type Written = readonly [offset: number, length: number, value: number];

function write(store: CopyStore, ...changes: readonly Written[]): void {
  expect(store.append(logFrame(store, changes.map(([offset, length, value]): Change => ({ op: Op.write, offset, length, value }))))).toBe('ok');
}
function settle(store: CopyStore, disk: MemoryDisk): void {
  store.commit(store.lastSeq);
  for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
}
/** Each write is settled before the next one. */
function put(store: CopyStore, disk: MemoryDisk, ...changes: readonly Written[]): void {
  write(store, ...changes);
  settle(store, disk);
}
function sync(store: CopyStore, disk: MemoryDisk): void {
  let synced = false;
  store.sync((failed) => { synced = failed === null; });
  disk.deliver();
  expect(synced).toBe(true);
}
function expectHolds(store: CopyStore, offset: number, length: number, value: number): void {
  const got = new Uint8Array(length);
  const wanted = new Uint8Array(length);
  fillBytes(wanted, value, offset);
  expect(store.read(offset, length, got, 0)).toBe('ok');
  expect(Buffer.compare(got, wanted)).toBe(0);
}
function read(store: CopyStore, offset: number, length: number): Uint8Array {
  const got = new Uint8Array(length);
  expect(store.read(offset, length, got, 0)).toBe('ok');
  return got;
}
/** Counts the bytes that reach files of one kind. */
function counted(disk: MemoryDisk, prefix: string): () => number {
  let bytes = 0;
  disk.faults = (operation: DiskOperation) => {
    if (operation.kind === 'write' && operation.file.startsWith(prefix)) bytes += operation.lengthBytes;
    return null;
  };
  return () => bytes;
}
function usedBytes(disk: MemoryDisk): number {
  return [...disk.images().values()].reduce((bytes, image) => bytes + image.pages.size * B, 0);
}
function reopened(store: CopyStore, disk: MemoryDisk): CopyStore {
  expect(store.close(true)).toBe('ok');
  return must(openCopy(disk, options));
}

describe('a write of whole tiles', () => {
  it('is written once, and what lies beside them in the same record as ever', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    const data = counted(disk, 'data-');
    write(store, [C, 2 * C, 1]);
    expect(data()).toBe(2 * C);
    settle(store, disk);
    expect(data()).toBe(2 * C);
    write(store, [3 * C - B, C + 2 * B, 2], [9 * B, B, 3]);
    expect(data()).toBe(3 * C);
    expectHolds(store, 3 * C - B, C + 2 * B, 2);
    settle(store, disk);
    expect(data()).toBe(3 * C + 3 * B);
    for (const copy of [store, reopened(store, disk)]) {
      expectHolds(copy, C, 2 * C - B, 1);
      expectHolds(copy, 3 * C - B, C + 2 * B, 2);
      expectHolds(copy, 9 * B, B, 3);
    }
  });

  it('goes to mirrors from where it lies, until small blocks are settled into it', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    for (let k = 0; k < 4; k++) write(store, [(k % 2) * C, C, k + 1]);
    for (const stage of ['in the journal', 'settled']) {
      if (stage === 'settled') settle(store, disk);
      const frames = store.history(0, 100, 1e9);
      if (frames === 'gone') throw new Error(`history is there ${stage}`);
      frames.forEach((frame, k) => {
        const wanted = new Uint8Array(C);
        fillBytes(wanted, k + 1, (k % 2) * C);
        expect(Buffer.compare(frame.payload, wanted), `record ${k + 1} ${stage}`).toBe(0);
      });
      expect(frames.length).toBe(4);
    }
    write(store, [0, B, 9]);
    settle(store, disk);
    expect(store.history(0, 100, 1e9)).toBe('gone');
    expect(store.journalStartSeq).toBeGreaterThan(0);
  });

  it('goes to mirrors though small blocks were settled into tiles of a record before it, and of a fill', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, smallCopy({ segmentBytes: 1024 * 1024, journalBytesMax: 4 * 1024 * 1024 })));
    write(store, [0, C, 1]);
    write(store, [C, C, 2]);
    const fill = Array.from({ length: C / B }, (_, k): FilledBlock => ({ block: (2 * C) / B + k, version: 2, value: 4 }));
    expect(store.applyFill(fillFrame(store, fill, store.lastSeq))).toBe('ok');
    write(store, [0, B, 3], [2 * C, B, 3]);
    settle(store, disk);
    const frames = store.history(1, 100, 1e9);
    expect(frames === 'gone' ? frames : frames.map((frame) => frame.firstSeq)).toEqual([2, 3]);
    expect(store.history(0, 100, 1e9)).toBe('gone');
  });

  it('counts as bytes of the journal also when the copy is opened again', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    write(store, [0, B, 1]);
    write(store, [0, 3 * C, 2]);
    const { backlogBytes, journalBytes } = store.figures;
    expect(backlogBytes).toBeGreaterThan(3 * C);
    expect(reopened(store, disk).figures).toMatchObject({ backlogBytes, journalBytes });
  });

  it('takes no more room than the journal would, however often tiles are overwritten', () => {
    const disk = new MemoryDisk();
    let store = must(createCopy(disk, options));
    for (let k = 0; k < 32; k++) put(store, disk, [k * C, C, 1]);
    let most = 0;
    for (let k = 0; k < 600; k++) {
      write(store, [((k * 7) % 32) * C, C, (k % 200) + 2]);
      if (k % 5 === 0) settle(store, disk);
      if (k % 100 === 99) store = reopened(store, disk);
      most = Math.max(most, usedBytes(disk));
    }
    // 32 tiles, a journal of 1 MiB and a segment more for what is taken before the oldest gives way, metadata.
    expect(most).toBeLessThan(32 * C + 1024 * 1024 + 4 * C + 400 * 1024);
    for (let k = 600 - 32; k < 600; k++) expectHolds(store, ((k * 7) % 32) * C, C, (k % 200) + 2);
  });

  it('gives back the places of what was cut off, when that is settled', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    write(store, [0, C, 1]);
    settle(store, disk);
    const before = usedBytes(disk);
    for (let k = 0; k < 60; k++) {
      write(store, [C, C, 2]);
      expect(store.truncate(store.lastSeq - 1)).toBe('ok');
      write(store, [5 * B, B, 3]);
      sync(store, disk);
      settle(store, disk);
    }
    expect(usedBytes(disk) - before).toBeLessThan(1024 * 1024 + 4 * C);
    expectHolds(store, 0, 5 * B, 1);
    expectHolds(store, 5 * B, B, 3);
  });

  it('is torn when its bytes are not there, and whole when they were synced', () => {
    for (let seed = 0; seed < 40; seed++) {
      const disk = new MemoryDisk();
      const store = must(createCopy(disk, options));
      write(store, [0, C, 1]);
      sync(store, disk);
      write(store, [0, C, 2]);
      disk.powerCut(new Prng(seed));
      const found = must(openCopy(disk, { ...options, bootId: 'boot-2' }));
      expect(found.fault).toBe(null);
      expect([1, 2]).toContain(found.lastSeq);
      expectHolds(found, 0, C, found.lastSeq);
    }
  });

  it('is a block to be mended, not the end of the log, when the disk lied and only the process ended', () => {
    for (const fault of ['lost', 'misdirected'] as const) {
      const disk = new MemoryDisk();
      const store = must(createCopy(disk, options));
      write(store, [0, C, 1], [2 * C - B, B, 1]);
      sync(store, disk);
      disk.faults = (operation) => (operation.kind === 'write' && operation.file.startsWith('data') ? fault : null);
      write(store, [0, C, 2], [2 * C - B, B, 2]);
      disk.faults = null;
      disk.processCrash();
      const found = must(openCopy(disk, options));
      expect(found.fault).toBe(null);
      expect(found.lastSeq).toBe(4);
      expectHolds(found, 2 * C - B, B, 2);
      expect(found.read(0, B, new Uint8Array(B), 0)).toEqual({ corrupt: [0] });
    }
  });

  it('finds room on a disk that is full of history', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    for (let k = 0; k < 8; k++) write(store, [k * C, C, 1]);
    settle(store, disk);
    disk.capacityBytes = usedBytes(disk) + 8 * B;
    for (let round = 2; round < 20; round++) {
      for (let k = 0; k < 3; k++) put(store, disk, [k * C, C, round]);
    }
    for (let k = 0; k < 3; k++) expectHolds(store, k * C, C, 19);
    disk.capacityBytes = usedBytes(disk);
    let failed: string | null = null;
    for (let k = 0; k < 40 && failed === null; k++) {
      const result = store.append(logFrame(store, [{ op: Op.write, offset: (40 + k) * C, length: C, value: 5 }]));
      if (result !== 'ok') failed = result.failed;
    }
    expect(failed).toBe('no-space');
    expect(store.fault).toBe(null);
    expectHolds(store, 0, C, 19);
  });
});

it('is not called stable by a second sync of its file, when the first one was told that a write had failed', () => {
  const disk = new MemoryDisk();
  const store = must(createCopy(disk, options));
  write(store, [0, B, 1]);
  sync(store, disk);
  store.commit(store.lastSeq);
  // A round is about to sync the data file; then a tile is written into it.
  let failed = false;
  disk.faults = (operation) => {
    if (operation.kind !== 'sync' || operation.file !== 'data-0000' || failed) return null;
    failed = true;
    return 'EIO';
  };
  write(store, [4 * C, C, 2]);
  let flushed: unknown = 'nothing';
  for (let k = 0; k < 40 && flushed === 'nothing'; k++) {
    store.destageStep(64, true);
    if (disk.pendingCompletions > 0 && failed) store.sync((error) => { flushed = error; });
    disk.deliver(1);
  }
  disk.deliver();
  expect([failed, flushed]).toEqual([true, 'sync-failed']);
});

describe('the place of a tile', () => {
  it('is kept when its extent is zeroed as a whole, and nobody else takes it', () => {
    const disk = new MemoryDisk();
    let store = must(createCopy(disk, options));
    for (let round = 1; round < 12; round++) {
      for (let k = 0; k < 6; k++) write(store, [k * C, C, round]);
      settle(store, disk);
      expect(store.append(logFrame(store, [{ op: Op.zero, offset: 0, length: 4 * 2 ** 20 }]))).toBe('ok');
      settle(store, disk);
      expect(store.blockStatus(0, C)).toEqual([{ lengthBytes: C, state: 'zero' }]);
      write(store, [2 * C, B, round], [20 * C, C, round], [21 * C, 2 * C, round]);
      settle(store, disk);
      if (round % 3 === 0) store = reopened(store, disk);
      expectHolds(store, 2 * C, B, round);
      expectHolds(store, 20 * C, 3 * C, round);
      expect(store.blockStatus(2 * C + B, B)).toEqual([{ lengthBytes: B, state: 'zero' }]);
    }
  });

  it('is not its home while the journal has older blocks of it, which are settled there', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    write(store, [3 * B, B, 1]);
    sync(store, disk);
    store.commit(store.lastSeq);
    write(store, [0, C, 2]);
    for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
    expect(store.figures.destagedBlocks).toBe(1);
    expectHolds(store, 0, C, 2);
    expect(store.truncate(store.lastSeq - 1)).toBe('ok');
    expectHolds(store, 3 * B, B, 1);
  });

  it('is lost with its page, and what is written then takes nobody else’s', () => {
    const disk = new MemoryDisk();
    let store = must(createCopy(disk, options));
    for (let round = 1; round < 5; round++) for (let k = 0; k < 32; k++) put(store, disk, [((k + round * 5) % 32) * C, C, 1]);
    expect(store.close(true)).toBe('ok');
    for (let slot = 0; slot < 2; slot++) disk.flipBit('extents', slot * B + 100, 1);
    store = must(openCopy(disk, options));
    expect(store.read(0, C, new Uint8Array(C), 0)).not.toBe('ok');
    expect(store.applyFill(fillFrame(store, [{ block: 3, version: store.lastSeq, value: 8 }], store.lastSeq))).toBe('ok');
    write(store, [17 * B, B, 9], [5 * C, C, 10]);
    settle(store, disk);
    store = reopened(store, disk);
    expectHolds(store, 3 * B, B, 8);
    expectHolds(store, 17 * B, B, 9);
    expectHolds(store, 5 * C, C, 10);
    expectHolds(store, 16 * C, 16 * C, 1);
    for (let k = 0; k < 60; k++) put(store, disk, [(16 + (k % 3)) * C, C, 20 + k]);
    expectHolds(store, 3 * B, B, 8);
    expectHolds(store, 5 * C, C, 10);
  });

  it('costs nothing but room when the list of free ones is lost', () => {
    const disk = new MemoryDisk();
    let store = must(createCopy(disk, options));
    const round = (value: number): void => {
      for (let k = 0; k < 8; k++) put(store, disk, [k * C, C, value]);
    };
    round(1);
    round(2);
    expect(store.close(true)).toBe('ok');
    const list = disk.open('places');
    if ('code' in list) throw new Error('the list is there');
    for (let at = 0; at < list.sizeBytes; at += B) disk.flipBit('places', at + 70, 1);
    store = must(openCopy(disk, options));
    expect(store.fault).toBe(null);
    round(3);
    for (let k = 0; k < 8; k++) expectHolds(store, k * C, C, 3);
  });
});

describe('a fill of whole tiles', () => {
  const blocks = (first: number, count: number, version: number, value: number): FilledBlock[] => Array.from({ length: count }, (_, k) => ({ block: first + k, version, value }));

  it('is written once where nothing ever was, and block by block where something is or was sent apart', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    put(store, disk, [2 * C, B, 9]);
    const data = counted(disk, 'data-');
    // Two tiles and a half, of which the journal's log knows the second, and one with a hole.
    write(store, [C + B, B, 8]);
    const { lastSeq } = store;
    expect(store.applyFill(fillFrame(store, [...blocks(0, 40, lastSeq, 3), ...blocks(64, 8, lastSeq, 4), ...blocks(73, 8, lastSeq, 4)], lastSeq), true)).toBe('ok');
    expect(data()).toBe(C);
    sync(store, disk);
    settle(store, disk);
    // The one block of the log, which is settled by itself; the rest of the fill.
    expect(data()).toBe(C + B + (16 + 8 + 16) * B);
    for (const copy of [store, reopened(store, disk)]) {
      for (const [offset, length, value] of [[0, 40 * B, 3], [64 * B, 8 * B, 4], [73 * B, 8 * B, 4]] as const) expectHolds(copy, offset, length, value);
      expect(Buffer.compare(read(copy, 72 * B, B), new Uint8Array(B))).toBe(0);
    }
  });

  it('is not there after a power cut before it was synced, and hides nothing that the log wrote into it since', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, options));
    put(store, disk, [4 * C, B, 9]);
    expect(store.applyFill(fillFrame(store, blocks(0, 16, store.lastSeq, 3), store.lastSeq), true)).toBe('ok');
    disk.powerCut(new Prng(4));
    const cut = must(openCopy(disk, { ...options, bootId: 'another' }));
    expect(Buffer.compare(read(cut, 0, B), new Uint8Array(B))).toBe(0);
    expect(cut.applyFill(fillFrame(cut, blocks(0, 16, cut.lastSeq, 3), cut.lastSeq), true)).toBe('ok');
    write(cut, [5 * B, 2 * B, 7]);
    settle(cut, disk);
    expectHolds(cut, 0, 5 * B, 3);
    expectHolds(cut, 5 * B, 2 * B, 7);
    expectHolds(cut, 7 * B, 9 * B, 3);
  });
});
