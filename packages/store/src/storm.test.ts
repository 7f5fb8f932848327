import { Op } from '@ashlar/protocol';
import { checksum, Prng } from '@ashlar/words';
import { expect, it } from 'vitest';
import { createCopy, MemoryDisk, openCopy, type CopyStore, type CreateOptions, type DiskFault, type DiskOperation } from './index.ts';
import { fillBytes, logFrame, must, smallCopy } from './testing/frames.ts';
import { fillFrame } from './testing/rig.ts';

const B = 4096;
const options: CreateOptions = smallCopy({ journalBytesMax: 256 * 1024 });

/** Everything that a copy does, without a word on how it goes: any call may fail. */
function workload(disk: MemoryDisk): void {
  const created = createCopy(disk, options);
  if ('failed' in created) return;
  let { store } = created;
  const turn = (): void => disk.deliver();
  const put = (block: number, value: number, blocks = 1): void => { store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: blocks * B, value }])); };
  const settle = (steps: number): void => {
    store.commit(store.lastSeq);
    for (let k = 0; k < steps && store.destageStep(8, true) !== 'idle'; k++) turn();
  };
  for (let k = 0; k < 6; k++) put(k * 3, 1);
  for (const block of [16, 256, 16, 0]) put(block, 1, 16);
  store.sync(() => undefined);
  turn();
  settle(60);
  for (let k = 0; k < 20; k++) put(k, 1, 6);
  settle(16);
  put(16, 1, 16);
  put(252, 1, 24);
  store.append(logFrame(store, [{ op: Op.zero, offset: 300 * B, length: 1200 * B }]));
  store.saveState({ ...options.state, promisedEpoch: 4 }, () => undefined);
  for (let k = 0; k < 4; k++) put(400 + k, 1);
  store.truncate(store.lastSeq - 1);
  settle(90);
  store.history(store.journalStartSeq, 100, 1e9);
  store.grow(store.sizeBytes + B);
  put(1, 1);
  store.close(false);
  turn();
  const opened = openCopy(disk, options);
  if ('failed' in opened) return;
  ({ store } = opened);
  for (let k = 0; k < 4; k++) put(410 + k, 1);
  put(16, 1, 32);
  store.applyFill(fillFrame(store, [{ block: 900, version: store.lastSeq, value: 1 }], store.lastSeq));
  store.commit(store.lastSeq);
  store.sync(() => undefined);
  turn();
  for (let k = 0; k < 6; k++) store.destageStep(2, true);
  store.restartLog(1, { seq: store.lastSeq + 3, chain: 5 }, [{ epoch: 1, firstSeq: 1 }], store.session, store.lastSeq);
  store.applyFill(fillFrame(store, [{ block: 800, version: 1, value: 1 }, { block: 5, version: 1, value: 0 }], store.lastSeq));
  store.scrubStep(10_000);
  store.close(true);
  turn();
}

/** Whatever can be read is something that was written there. */
function expectNoLies(store: CopyStore, where: string): void {
  const into = new Uint8Array(B);
  const written = new Uint8Array(B);
  for (const block of [0, 1, 3, 5, 9, 15, 16, 22, 31, 33, 252, 256, 271, 275, 400, 402, 410, 413, 800, 900, 1000]) {
    if (store.read(block * B, B, into, 0) !== 'ok') continue;
    fillBytes(written, 1, block * B);
    const isWritten = Buffer.compare(into, written) === 0;
    expect(isWritten || into.every((byte) => byte === 0), `${where}: block ${block}`).toBe(true);
  }
}

it.each<[DiskFault]>([['EIO'], ['ENOSPC']])('tells no lies when one operation, whichever, ends in %s', (fault) => {
  let operations = 0;
  const counting = new MemoryDisk();
  counting.faults = () => {
    operations += 1;
    return null;
  };
  workload(counting);
  expect(operations).toBeGreaterThan(150);
  for (let at = 1; at <= operations; at++) {
    for (const lasting of [false, true]) {
      const disk = new MemoryDisk();
      let seen = 0;
      let failed = '';
      disk.faults = (operation: DiskOperation) => {
        seen += 1;
        if (seen < at || (seen > at && !lasting)) return null;
        if (failed === '') failed = `${operation.kind} ${'file' in operation ? operation.file : ''}`;
        return operation.kind === failed.split(' ')[0] ? fault : null;
      };
      workload(disk);
      disk.faults = null;
      disk.powerCut(new Prng(at));
      const opened = openCopy(disk, { ...options, bootId: 'boot-2' });
      if ('store' in opened) expectNoLies(opened.store, `${fault} at ${at}, ${failed}`);
    }
  }
}, 60_000);

it('a round that reads segments of several pieces, records across their borders', () => {
  const disk = new MemoryDisk();
  const large = smallCopy({ segmentBytes: 5 * 2 ** 20, journalBytesMax: 20 * 2 ** 20, sizeBytes: 2 ** 26, dataFileBytes: 2 ** 24 });
  const store = must(createCopy(disk, large));
  for (let k = 0; k < 30; k++) expect(store.append(logFrame(store, [{ op: Op.write, offset: ((k * 997) % 16_000) * B, length: 90 * B, value: k + 1 }]))).toBe('ok');
  store.commit(store.lastSeq);
  for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
  expect(store.figures.backlogBytes).toBe(0);
  expect(store.scrubStep(1e9).corrupt).toEqual([]);
});

it('goes through all marks of generations', () => {
  const disk = new MemoryDisk();
  let store = must(createCopy(disk, options));
  for (let round = 1; round <= 530; round++) {
    const block = round % 3 === 0 ? 256 : 0;
    if (round !== 254 && round !== 505) expect(store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: B, value: round % 250 + 1 }]))).toBe('ok');
    else expect(store.append(logFrame(store, [{ op: Op.write, offset: 512 * B, length: B, value: round % 250 + 1 }]))).toBe('ok');
    store.commit(store.lastSeq);
    for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
    if (round % 50 !== 0) continue;
    store.close(true);
    store = must(openCopy(disk, options));
    expect(store.read(0, 600 * B, new Uint8Array(600 * B), 0)).toBe('ok');
  }
});

it.each(['loaded', 'kept in memory'])('a write of a page that the disk lost is noticed, also when the slot has a page of 84 rounds ago (%s)', (how) => {
  const disk = new MemoryDisk();
  const before = new Uint8Array(B);
  let store = must(createCopy(disk, options));
  for (let round = 1; round <= 86; round++) {
    if (round === 86 && how === 'loaded') {
      store.close(true);
      store = must(openCopy(disk, options));
    }
    // The first page takes both slots, then rounds 2, 3 and 86 write in turn.
    const block = round <= 3 || round === 86 ? round : 256;
    expect(store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: B, value: 1 }]))).toBe('ok');
    store.commit(store.lastSeq);
    for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
    if (round === 85) disk.images().get('extents')?.read(before, B);
  }
  store.close(true);
  const images = disk.images();
  images.get('extents')?.write(before, B);
  expect(must(openCopy(MemoryDisk.fromImages(images), options)).read(86 * B, B, new Uint8Array(B), 0)).toEqual({ corrupt: [86] });
});

it.each([1, 99])('refuses a copy of format %i, and leaves it as it is', (version) => {
  const disk = new MemoryDisk();
  const store = must(createCopy(disk, options));
  expect(store.append(logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]))).toBe('ok');
  store.commit(store.lastSeq);
  for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
  store.close(true);
  const images = disk.images();
  const superblock = images.get('superblock');
  if (superblock === undefined) throw new Error('the superblock is there');
  for (let at = 0; at < 4; at++) {
    const bytes = new Uint8Array(B);
    superblock.read(bytes, at * 65_536);
    const view = new DataView(bytes.buffer);
    view.setUint32(8, version, true);
    const length = view.getUint32(12, true);
    view.setUint32(4, checksum(bytes.subarray(8, 32 + length)), true);
    superblock.write(bytes, at * 65_536);
  }
  const other = MemoryDisk.fromImages(images);
  const before = other.fingerprint();
  expect(openCopy(other, options)).toMatchObject({ failed: 'format-unsupported' });
  expect(createCopy(other, options)).toMatchObject({ failed: 'already-exists' });
  expect(other.fingerprint()).toBe(before);
});

it('takes no record of an earlier life for its own, though it lies where the next one would, in the same file', () => {
  const disk = new MemoryDisk();
  let store = must(createCopy(disk, options));
  const put = (block: number, value: number): void => { expect(store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: B, value }]))).toBe('ok'); };
  const reopen = (bootId: string): void => { store = must(openCopy(disk, { ...options, bootId })); };
  const settle = (): void => {
    store.sync(() => undefined);
    disk.deliver();
    store.commit(store.lastSeq);
    while (store.destageStep(64, true) !== 'idle') disk.deliver();
  };
  // The journal reaches its bound: from now on files are used again.
  for (let k = 0; k < 12; k++) {
    for (let i = 0; i < 5; i++) put(i, k + 1);
    settle();
  }
  // The header of the next segment is lost with the power, its records are not.
  let lost = '';
  disk.faults = (operation) => {
    if (operation.kind !== 'write' || !operation.file.startsWith('journal-') || operation.position !== 0) return null;
    lost = operation.file;
    return 'lost';
  };
  put(7, 50);
  expect(store.applyFill(fillFrame(store, [{ block: 9, version: store.lastSeq, value: 51 }], store.lastSeq), true)).toBe('ok');
  disk.processCrash();
  disk.faults = null;
  reopen('boot-2');
  let used = '';
  disk.faults = (operation) => {
    if (operation.kind === 'write' && operation.file.startsWith('journal-') && operation.position === 0) used = operation.file;
    return null;
  };
  put(7, 60);
  disk.processCrash();
  disk.faults = null;
  reopen('boot-2');
  const into = new Uint8Array(B);
  expect(store.read(9 * B, B, into, 0)).toBe('ok');
  expect([used, into.every((byte) => byte === 0)]).toEqual([lost, true]);
});
