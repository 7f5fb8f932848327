import { changed, type Configuration, Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { Prng, serverId, volumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { BlockState, blockEntry, createCopy, DestageBuffer, MemoryDisk, openCopy, PageCache, type CopyStore, type DiskFault, type DiskOperation, type StoreFailure } from './index.ts';
import { logFrame, must, SERVER, smallCopy, VOLUME } from './testing/frames.ts';
import { fillFrame } from './testing/rig.ts';

const B = 4096;

function put(store: CopyStore, block: number, value: number, blocks = 1): ReturnType<CopyStore['append']> {
  return store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: blocks * B, value }]));
}

function made(overrides: Parameters<typeof smallCopy>[0] = {}): { disk: MemoryDisk; store: CopyStore } {
  const disk = new MemoryDisk();
  return { disk, store: must(createCopy(disk, smallCopy(overrides))) };
}

function destage(disk: MemoryDisk, store: CopyStore, steps = 1000): string {
  store.commit(store.lastSeq);
  let outcome = 'more';
  for (let k = 0; k < steps && outcome !== 'idle' && store.fault === null; k++) {
    outcome = store.destageStep(64, true);
    disk.deliver();
  }
  return outcome;
}

/** Has a round go on until a step says so. */
function until(store: CopyStore, wanted: string): string {
  let outcome = 'more';
  for (let k = 0; k < 1000 && outcome !== wanted; k++) outcome = store.destageStep(64, true);
  return outcome;
}

/** A copy with records that are not committed, in a round whose bytes are in the extents and not stable yet. */
function inSyncOfRound(): { disk: MemoryDisk; store: CopyStore } {
  const { disk, store } = made();
  for (let k = 0; k < 20; k++) expect(put(store, k * 3, k + 1)).toBe('ok');
  store.sync(() => undefined);
  disk.deliver();
  store.commit(store.lastSeq);
  store.destageStep(64, true);
  expect(put(store, 2, 1)).toBe('ok');
  let mapped = false;
  disk.faults = (operation) => {
    mapped ||= operation.kind === 'write' && operation.file === 'presence';
    return null;
  };
  while (!mapped) if (store.destageStep(64, true) === 'waiting' && !mapped) disk.deliver();
  disk.faults = null;
  return { disk, store };
}

function failing(disk: MemoryDisk, fault: DiskFault, when: (operation: DiskOperation) => boolean): void {
  disk.faults = (operation) => (when(operation) ? fault : null);
}

function failedWith(result: ReturnType<CopyStore['append']>): StoreFailure | 'ok' {
  return result === 'ok' ? 'ok' : result.failed;
}

describe('a disk that fails', () => {
  it('a failed sync is final for everyone who waits, and for what comes after', () => {
    const { disk, store } = made();
    expect(put(store, 1, 1)).toBe('ok');
    failing(disk, 'EIO', (operation) => operation.kind === 'sync');
    const told: (StoreFailure | null)[] = [];
    store.sync((failed) => told.push(failed));
    store.sync((failed) => told.push(failed));
    disk.deliver();
    expect(told).toEqual(['sync-failed', 'sync-failed']);
    expect(store.fault).toBe('sync-failed');
    disk.faults = null;
    store.sync((failed) => told.push(failed));
    expect(told).toHaveLength(3);
    expect(failedWith(put(store, 2, 2))).toBe('sync-failed');
    expect(store.durableSeq).toBe(0);
    expect(store.destageStep(10, true)).toBe('idle');
    for (const result of [store.truncate(0), store.grow(2 ** 30), store.restartLog(1, { seq: 9, chain: 9 }, [], store.session, -1)]) expect(failedWith(result)).toBe('sync-failed');
    expect(store.read(B, B, new Uint8Array(B), 0)).toBe('ok');
    expect(store.close(true)).toBe('ok');
  });

  it('a failed append ends the copy', () => {
    const { disk, store } = made();
    failing(disk, 'EIO', (operation) => operation.kind === 'write');
    expect(failedWith(put(store, 1, 1))).toBe('io-error');
    expect(store.fault).toBe('append-failed');
    expect(store.lastSeq).toBe(0);
  });

  it('a round whose map of extents finds no room is not recorded before the map is on the disk', () => {
    const { disk, store } = made();
    const full = { for: 3 };
    failing(disk, 'ENOSPC', (operation) => operation.kind === 'write' && operation.file === 'presence' && full.for-- > 0);
    for (let k = 0; k < 3; k++) expect(put(store, k * 256, k + 1)).toBe('ok');
    store.sync(() => undefined);
    disk.deliver();
    expect(destage(disk, store)).toBe('idle');
    expect(full.for).toBeLessThan(0);
    disk.powerCut(new Prng(7));
    const again = must(openCopy(disk, smallCopy({ bootId: 'boot-2' })));
    const into = new Uint8Array(3 * B);
    for (let k = 0; k < 3; k++) expect(again.read(k * 256 * B, B, into, k * B), `block ${k * 256}`).toBe('ok');
    expect([0, 1, 2].map((k) => into[k * B])).toEqual([1, 2, 3]);
  });

  it('a copy that is faulted in the middle of a round gives back the buffer that it shares', () => {
    const destageBuffer = new DestageBuffer(2 ** 20);
    const { disk, store } = made({ destageBuffer });
    for (let k = 0; k < 20; k++) expect(put(store, k * 3, k + 1)).toBe('ok');
    store.sync(() => undefined);
    disk.deliver();
    failing(disk, 'EIO', (operation) => operation.kind === 'write' && operation.file.startsWith('data'));
    destage(disk, store);
    expect(store.fault).toBe('append-failed');
    expect(store.destageStep(64, true)).toBe('idle');
    expect(destageBuffer.acquire({}, 1, () => undefined)).not.toBeNull();
  });

  it('… but not while its disk is at work with it, and waits for nobody', () => {
    const destageBuffer = new DestageBuffer(2 ** 20);
    let woken = 0;
    const { disk, store } = made({ destageBuffer, wake: () => { woken++; } });
    for (let k = 0; k < 20; k++) expect(put(store, k * 3, k + 1)).toBe('ok');
    store.sync(() => undefined);
    disk.deliver();
    store.commit(store.lastSeq);
    expect(until(store, 'waiting')).toBe('waiting');
    const others = (): Uint8Array | null => destageBuffer.acquire({}, 1, () => undefined);
    failing(disk, 'EIO', (operation) => operation.kind === 'write' && operation.file.startsWith('journal'));
    expect(failedWith(put(store, 1, 1))).toBe('io-error');
    disk.faults = null;
    woken = 0;
    expect([store.destageStep(64, true), woken, others()]).toEqual(['waiting', 0, null]);
    disk.deliver();
    expect([woken, store.destageStep(64, true)]).toEqual([1, 'idle']);
    expect(others()).not.toBeNull();
  });

  it('whoever drives a copy is woken when a sync fails that nobody has asked for', () => {
    let woken = 0;
    const { disk, store } = made({ wake: () => { woken++; } });
    expect(put(store, 1, 1)).toBe('ok');
    store.commit(1);
    failing(disk, 'EIO', (operation) => operation.kind === 'sync');
    expect(store.destageStep(64, true)).toBe('waiting');
    disk.deliver();
    expect([store.fault, woken]).toEqual(['sync-failed', 1]);
  });

  it('a close beside a sync that is under way is not a clean one: that one may have been told of an error', () => {
    const { disk, store } = made();
    expect(put(store, 1, 1)).toBe('ok');
    store.sync(() => undefined);
    expect(store.close(true)).toBe('ok');
    disk.powerCut(new Prng(7));
    expect(must(openCopy(disk, smallCopy({ bootId: 'boot-2' }))).lostCache).toBe(true);
  });

  it('nor is one beside a sync of a round, which is of the same files', () => {
    const { disk, store } = inSyncOfRound();
    expect(store.close(true)).toBe('ok');
    disk.powerCut(new Prng(7));
    expect(must(openCopy(disk, smallCopy({ bootId: 'boot-2' }))).lostCache).toBe(true);
  });

  it('a sync of a round that fails when the round is over is a fault all the same: the sync that ended it may not have been told', () => {
    const { disk, store } = inSyncOfRound();
    const { rounds } = store.figures;
    expect(store.restartLog(1, { seq: 99, chain: 9 }, [], store.session, -1)).toBe('ok');
    expect(store.figures.rounds).toBe(rounds + 1);
    failing(disk, 'EIO', (operation) => operation.kind === 'sync');
    disk.deliver();
    expect(store.fault).toBe('sync-failed');
  });

  it.each([0, 1])('a bad record that a later one calls durable is no torn tail, though the power was cut (%d records between)', (between) => {
    const { disk, store } = made();
    for (let k = 0; k < 3 + between; k++) expect(put(store, k, k + 1)).toBe('ok');
    const synced = (): void => {
      store.sync(() => undefined);
      disk.deliver();
    };
    synced();
    expect(put(store, 9, 9)).toBe('ok');
    synced();
    disk.powerCut(new Prng(7));
    disk.flipBit('journal-0000', 16384 + 2 * 2 * B + 8, 1);
    expect(must(openCopy(disk, smallCopy({ bootId: 'boot-2' }))).fault).toBe('corrupt');
  });

  it('a cut may use what is kept back of a full disk: it is an order', () => {
    const { disk, store } = made();
    for (let k = 0; k < 3; k++) expect(put(store, k, k + 1)).toBe('ok');
    const create = disk.create.bind(disk);
    const essential: boolean[] = [];
    disk.create = (name) => {
      const file = create(name);
      if ('code' in file) return file;
      const write = file.write.bind(file);
      file.write = (buffers, position, ...more) => {
        essential.push(more[0]);
        return write(buffers, position, ...more);
      };
      return file;
    };
    expect(store.truncate(1)).toBe('ok');
    expect(essential).toEqual([true]);
  });

  it('a full disk refuses records and gives history up first', () => {
    const { disk, store } = made({ journalBytesMax: 512 * 1024 });
    for (let k = 0; k < 20; k++) expect(put(store, k, k + 1)).toBe('ok');
    destage(disk, store);
    const before = store.journalStartSeq;
    let refused = 0;
    failing(disk, 'ENOSPC', (operation) => operation.kind === 'create' && refused++ === 0);
    expect(put(store, 30, 30, 12)).toBe('ok');
    expect(store.journalStartSeq).toBeGreaterThan(before);
    failing(disk, 'ENOSPC', (operation) => operation.kind === 'create' || operation.kind === 'write');
    expect(failedWith(put(store, 31, 31, 12))).toBe('no-space');
    expect(store.fault).toBe(null);
    disk.faults = null;
    expect(put(store, 31, 31, 12)).toBe('ok');
  });

  it('destaging waits for room on a full disk, and goes on', () => {
    const { disk, store } = made();
    for (let k = 0; k < 20; k++) expect(put(store, k * 3, k + 1)).toBe('ok');
    store.sync(() => undefined);
    disk.deliver();
    failing(disk, 'ENOSPC', (operation) => operation.kind === 'write' && operation.file.startsWith('data'));
    expect(destage(disk, store, 30)).toBe('waiting');
    disk.faults = null;
    expect(destage(disk, store)).toBe('idle');
    expect(store.figures.backlogBytes).toBe(0);
    const into = new Uint8Array(64 * B);
    expect(store.read(0, into.length, into, 0)).toBe('ok');
    expect(store.scrubStep(1).corrupt).toEqual([]);
  });

  it.each(['data-0000', 'extents', 'presence', 'superblock'])('destaging that cannot sync or write %s ends the copy', (name) => {
    for (const kind of ['write', 'sync'] as const) {
      const { disk, store } = made();
      expect(put(store, 1, 1)).toBe('ok');
      store.sync(() => undefined);
      disk.deliver();
      failing(disk, 'EIO', (operation) => operation.kind === kind && operation.file === name);
      destage(disk, store);
      expect(store.fault, `${kind} ${name}`).not.toBe(null);
      expect(store.read(B, B, new Uint8Array(B), 0)).toBe('ok');
    }
  });

  it('a record that is damaged before it is destaged faults the copy', () => {
    const { disk, store } = made();
    for (let k = 0; k < 3; k++) expect(put(store, k, k + 1)).toBe('ok');
    disk.flipBit('journal-0000', 16384 + 100, 1);
    destage(disk, store);
    expect(store.fault).toBe('corrupt');
    expect(store.history(0, 10, 1e9)).toBe('gone');
    expect(store.journalStartSeq).toBe(3);
  });

  it('saving, growing, closing, restarting and cutting report a failed superblock or journal', () => {
    const broken = (operation: DiskOperation): boolean => operation.kind === 'sync';
    const runs: ((store: CopyStore) => ReturnType<CopyStore['append']>)[] = [
      (store) => store.grow(2 ** 30), (store) => store.close(true), (store) => store.truncate(1),
      (store) => store.restartLog(1, { seq: 9, chain: 9 }, [], store.session, 9),
    ];
    // Nor is one of another kind that finds no room: what it was to keep may be gone.
    for (const kind of ['EIO', 'ENOSPC'] as const) for (const run of runs) {
      const { disk, store } = made();
      for (let k = 0; k < 3; k++) expect(put(store, k, k + 1)).toBe('ok');
      failing(disk, kind, broken);
      expect(failedWith(run(store))).toBe('sync-failed');
      expect(store.fault).toBe('sync-failed');
    }
    const { disk, store } = made();
    failing(disk, 'EIO', broken);
    let told: StoreFailure | null = null;
    store.saveState({ ...store.state, promisedEpoch: 5 }, (failed) => { told = failed; });
    disk.deliver();
    expect(told).toBe('sync-failed');
    expect(store.state.promisedEpoch).toBe(1);
    const other = made();
    failing(other.disk, 'EIO', (operation) => operation.kind === 'write' && operation.file === 'superblock');
    other.store.saveState(store.state, (failed) => { told = failed; });
    other.disk.deliver();
    expect(other.store.fault).toBe('sync-failed');
    const cut = made();
    for (let k = 0; k < 3; k++) expect(put(cut.store, k, k + 1)).toBe('ok');
    failing(cut.disk, 'EIO', (operation) => operation.kind === 'create');
    expect(failedWith(cut.store.truncate(1))).toBe('io-error');
    expect(cut.store.fault).toBe('append-failed');
  });

  it('reports bad blocks one by one, and a fill repairs them', () => {
    const { disk, store } = made();
    expect(put(store, 0, 1, 12)).toBe('ok');
    destage(disk, store);
    disk.flipBit('data-0000', 3 * B + 17, 0);
    const into = new Uint8Array(12 * B);
    expect(store.read(0, 12 * B, into, 0)).toEqual({ corrupt: [3] });
    expect(store.read(3 * B + 512, 512, into, 0)).toEqual({ corrupt: [3] });
    expect(store.scrubStep(1000)).toMatchObject({ corrupt: [3], wrapped: true });
    expect(blockEntry(store.extentBlocks(0, true), 3).state).toBe(BlockState.corrupt);
    expect(blockEntry(store.extentBlocks(0, false), 3).state).toBe(BlockState.written);
    expect(store.readFill(0, [2, 3])).toMatchObject({ corrupt: [3] });
    expect(failedWith(store.append(logFrame(store, [{ op: Op.write, offset: 3 * B, length: 512, value: 2 }])))).toBe('corrupt-block');
    let bad = 5 * B;
    failing(disk, 'EIO', (operation) => operation.kind === 'read' && operation.position <= bad && operation.position + operation.lengthBytes > bad);
    expect(store.read(4 * B, 4 * B, into, 0)).toEqual({ corrupt: [5] });
    bad = -1;
    const { seq } = blockEntry(store.extentBlocks(0, false), 3);
    expect(store.applyFill(fillFrame(store, [{ block: 3, version: seq, value: 1 }], store.lastSeq), true)).toBe('ok');
    expect(store.read(0, 12 * B, into, 0)).toBe('ok');
    expect(destage(disk, store)).toBe('idle');
    expect(store.read(0, 12 * B, into, 0)).toBe('ok');
  });

  it('a block that is lost to all is bad on whoever is filled, until it is written', () => {
    const { disk, store } = made();
    expect(put(store, 0, 1, 4)).toBe('ok');
    destage(disk, store);
    disk.flipBit('data-0000', 2 * B + 17, 0);
    const { frame, corrupt } = store.readFill(0, [0, 1, 2, 3, 4]);
    expect(corrupt).toEqual([2]);
    const onDisk = new MemoryDisk();
    const learner = must(createCopy(onDisk, smallCopy({ incarnation: 77 })));
    expect(learner.restartLog(1, { seq: store.lastSeq, chain: store.chain }, store.epochStarts, store.session, -1)).toBe('ok');
    expect(learner.applyFill(frame, true)).toBe('ok');
    const states = (copy: CopyStore): number[] => [0, 1, 2, 3, 4].map((i) => blockEntry(copy.extentBlocks(0, true), i).state);
    const expected = [BlockState.written, BlockState.written, BlockState.corrupt, BlockState.written, BlockState.zero];
    expect(states(learner)).toEqual(expected);
    expect(learner.read(0, 4 * B, new Uint8Array(4 * B), 0)).toEqual({ corrupt: [2] });
    expect(destage(onDisk, learner)).toBe('idle');
    expect(states(learner)).toEqual(expected);
    learner.close(true);
    const reopened = must(openCopy(onDisk, smallCopy()));
    expect(states(reopened)).toEqual(expected);
    expect(reopened.append(logFrame(reopened, [{ op: Op.write, offset: 2 * B, length: B, value: 9 }]))).toBe('ok');
    expect(reopened.read(0, 4 * B, new Uint8Array(4 * B), 0)).toBe('ok');
  });

  it('a page of metadata that is lost makes its blocks corrupt until they are filled', () => {
    const { disk, store: before } = made();
    expect(put(before, 0, 1, 3)).toBe('ok');
    destage(disk, before);
    before.close(true);
    for (const slot of [0, 1]) disk.flipBit('extents', slot * B + 70, 2);
    const store = must(openCopy(disk, smallCopy()));
    expect(store.read(0, B, new Uint8Array(B), 0)).toEqual({ corrupt: [0] });
    expect(store.blockStatus(0, B)).toEqual([{ lengthBytes: B, state: 'written' }]);
    expect(store.readFill(0, [0])).toMatchObject({ corrupt: [0] });
    expect(store.applyFill(fillFrame(store, [{ block: 0, version: 1, value: 1 }, { block: 1, version: 1, value: 1 }], store.lastSeq))).toBe('ok');
    expect(destage(disk, store)).toBe('idle');
    expect(store.read(0, 2 * B, new Uint8Array(2 * B), 0)).toBe('ok');
    expect(store.read(2 * B, B, new Uint8Array(B), 0)).toEqual({ corrupt: [2] });
  });

  it('a map of extents that is lost in all its places cannot take anything, and says so', () => {
    const { disk, store: before } = made();
    expect(put(before, 0, 1, 3)).toBe('ok');
    destage(disk, before);
    before.close(true);
    for (let at = 0; at < 4; at++) disk.flipBit('presence', at * B + 40, 2);
    const store = must(openCopy(disk, smallCopy()));
    expect(store.read(0, B, new Uint8Array(B), 0)).toEqual({ corrupt: [0] });
    expect(store.listExtents(0, 5)).toEqual({ extents: [0, 1, 2, 3, 4], end: false });
    expect(put(store, 0, 1)).toBe('ok');
    destage(disk, store);
    expect(store.fault).toBe('corrupt');
    expect(store.append(logFrame(store, [{ op: Op.trim, offset: 0, length: B }]))).toMatchObject({ failed: 'io-error' });
  });

  it('missing data files are corruption, not zeros', () => {
    const { disk, store: before } = made();
    expect(put(before, 0, 1)).toBe('ok');
    destage(disk, before);
    before.close(true);
    disk.remove('data-0000');
    const store = must(openCopy(disk, smallCopy()));
    expect(store.read(0, B, new Uint8Array(B), 0)).toEqual({ corrupt: [0] });
    disk.remove('extents');
    disk.remove('presence');
    const again = must(openCopy(disk, smallCopy()));
    expect(again.read(0, B, new Uint8Array(B), 0)).toEqual({ corrupt: [0] });
  });
});

describe('what is refused', () => {
  it('frames of others, out of order, or damaged', () => {
    const { store } = made();
    const frame = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    frame.lineage = 2;
    expect(failedWith(store.append(frame))).toBe('chain');
    const strange = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    strange.setVolumeTag(volumeTag(volumeId('vol-0000000000000000a')));
    expect(failedWith(store.append(strange))).toBe('chain');
    const late = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    late.firstSeq = 5;
    expect(failedWith(store.append(late))).toBe('chain');
    const history = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    history.chain = 99;
    expect(failedWith(store.append(history))).toBe('chain');
    const part = logFrame(store, [{ op: Op.write, offset: 0, length: 512, value: 1 }]);
    part.chain = 99;
    expect(failedWith(store.append(part))).toBe('damaged-frame');
    const damaged = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    damaged.payload[7] = 1;
    expect(failedWith(store.append(damaged, true))).toBe('damaged-frame');
    const beyond = logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }]);
    beyond.setPayloadAt(0, 4);
    beyond.seal();
    expect(failedWith(store.append(beyond, true))).toBe('damaged-frame');
    expect(store.lastSeq).toBe(0);
  });

  it('fills that are none, of another lineage, or newer than the log', () => {
    const { store } = made();
    expect(put(store, 0, 1)).toBe('ok');
    expect(failedWith(store.applyFill(logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }])))).toBe('damaged-frame');
    const two = Frame.create(FrameKind.fill, 1, 2, new Uint8Array(2 * B));
    two.setVolumeTag(volumeTag(VOLUME));
    two.lineage = 1;
    two.setOperation(0, 1, Op.write, 0, 0, 2 * B, 0, 0);
    two.seal();
    expect(failedWith(store.applyFill(two))).toBe('damaged-frame');
    const other = fillFrame(store, [{ block: 9, version: 1, value: 4 }], 1);
    other.lineage = 7;
    expect(failedWith(store.applyFill(other))).toBe('chain');
    expect(store.applyFill(fillFrame(store, [{ block: 9, version: 2, value: 4 }], 2))).toBe('ok');
    expect(store.blockStatus(9 * B, B)).toEqual([{ lengthBytes: B, state: 'absent' }]);
    expect(store.applyFill(fillFrame(store, [{ block: 0, version: 0, value: 4 }], 0))).toBe('ok');
    expect(blockEntry(store.extentBlocks(0, false), 0).seq).toBe(1);
  });

  it('cuts between records and below what is settled', () => {
    const { disk, store } = made();
    for (let k = 0; k < 6; k++) expect(store.append(logFrame(store, [{ op: Op.write, offset: 0, length: B, value: 1 }, { op: Op.trim, offset: B, length: B }]))).toBe('ok');
    expect(failedWith(store.truncate(5))).toBe('chain');
    expect(store.truncate(99)).toBe('ok');
    destage(disk, store);
    expect(failedWith(store.truncate(2))).toBe('too-old');
  });

  it('opening what is not there, foreign, newer or damaged; creating what is there', () => {
    const disk = new MemoryDisk();
    expect(openCopy(disk, smallCopy())).toMatchObject({ failed: 'not-found' });
    must(createCopy(disk, smallCopy())).close(true);
    expect(createCopy(disk, smallCopy())).toMatchObject({ failed: 'already-exists' });
    expect(openCopy(disk, { ...smallCopy(), volumeId: volumeId('vol-0000000000000000a') })).toMatchObject({ failed: 'foreign' });
    expect(createCopy(disk, smallCopy({ volumeId: volumeId('vol-0000000000000000a') }))).toMatchObject({ failed: 'already-exists' });
    for (let at = 0; at < 4; at++) disk.flipBit('superblock', at * 65536 + 60, 1);
    expect(openCopy(disk, smallCopy())).toMatchObject({ failed: 'corrupt' });
    const broken = new MemoryDisk();
    failing(broken, 'ENOSPC', (operation) => operation.kind === 'create' || operation.kind === 'write');
    expect(createCopy(broken, smallCopy())).toMatchObject({ failed: 'no-space' });
    failing(broken, 'EIO', (operation) => operation.kind === 'sync-directory');
    expect(createCopy(broken, smallCopy())).toMatchObject({ failed: 'io-error' });
    const late = new MemoryDisk();
    let syncs = 0;
    failing(late, 'EIO', (operation) => operation.kind === 'sync-directory' && ++syncs === 1);
    expect(createCopy(late, smallCopy())).toMatchObject({ failed: 'io-error' });
    const unreadable = made();
    unreadable.store.close(true);
    failing(unreadable.disk, 'EIO', (operation) => operation.kind === 'read');
    expect(openCopy(unreadable.disk, smallCopy())).toMatchObject({ failed: 'corrupt' });
    failing(unreadable.disk, 'EIO', (operation) => operation.kind === 'sync');
    expect(openCopy(unreadable.disk, smallCopy())).toMatchObject({ failed: 'io-error' });
  });

  it('a creation that was cut short is no copy', () => {
    const disk = new MemoryDisk();
    let syncs = 0;
    failing(disk, 'EIO', (operation) => operation.kind === 'sync' && ++syncs === 1);
    expect(createCopy(disk, smallCopy())).toMatchObject({ failed: 'io-error' });
    disk.faults = null;
    disk.powerCut(new Prng(4));
    expect(['not-found', undefined]).toContain((openCopy(disk, smallCopy()) as { failed?: string }).failed);
  });

  it('calls after the close', () => {
    const { store } = made();
    expect(put(store, 0, 1)).toBe('ok');
    expect(store.close(true)).toBe('ok');
    expect(store.close(true)).toBe('ok');
    expect(failedWith(put(store, 0, 1))).toBe('io-error');
    let told: StoreFailure | null = null;
    store.sync((failed) => { told = failed; });
    expect(told).toBe('sync-failed');
    store.saveState(store.state, (failed) => { told = failed; });
    expect(told).toBe('io-error');
  });
});

describe('life cycle', () => {
  it('an admission heals a lost cache, whose loss gave the copy a new incarnation', () => {
    const { disk } = made();
    disk.powerCut(new Prng(1));
    const store = must(openCopy(disk, { ...smallCopy(), bootId: 'boot-2' }));
    expect([store.lostCache, store.incarnation]).toEqual([true, 2]);
    const base: Configuration = {
      volumeId: VOLUME, lineage: 1, epoch: 3, members: [{ serverId: SERVER, incarnation: 1 }], learners: [], attachNumber: 0, sizeBytes: 2 ** 23, minCopies: 1, copiesWanted: 2, durability: 'normal',
    };
    const save = (configuration: Configuration): void => {
      store.saveState({ ...store.state, configuration }, () => undefined);
      disk.deliver();
    };
    save(base);
    expect(store.lostCache).toBe(true);
    save(changed(base, { members: [{ serverId: serverId('server-2'), incarnation: 2 }] }));
    expect(store.lostCache).toBe(true);
    save(changed(base, { members: [{ serverId: SERVER, incarnation: 2 }] }));
    expect(store.lostCache).toBe(false);
    store.close(false);
    const again = must(openCopy(disk, { ...smallCopy(), bootId: 'boot-2' }));
    expect([again.lostCache, again.incarnation, again.state.configuration?.epoch]).toEqual([false, 2, 4]);
  });

  it('a full journal says busy and calls when it may go on', () => {
    let wakes = 0;
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, { ...smallCopy({ journalBytesMax: 256 * 1024 }), wake: () => { wakes += 1; } }));
    while (store.hasRoom(5 * B)) expect(put(store, 0, 1, 4)).toBe('ok');
    for (let k = 0; k < 20 && put(store, 0, 1, 4) === 'ok'; k++);
    expect(failedWith(put(store, 0, 1, 4))).toBe('busy');
    expect(store.destageStep(10, true)).toBe('idle');
    store.commit(store.lastSeq);
    expect(wakes).toBe(1);
    expect(store.destageStep(10, true)).toBe('waiting');
    disk.deliver();
    expect(wakes).toBe(2);
    destage(disk, store);
    expect(put(store, 0, 1, 4)).toBe('ok');
    expect(store.destageStep(10, false)).toBe('idle');
  });

  it('a record larger than a segment gets one of its own', () => {
    const { disk, store } = made();
    expect(put(store, 0, 1, 40)).toBe('ok');
    expect(put(store, 50, 2, 2)).toBe('ok');
    destage(disk, store);
    for (let k = 0; k < 30; k++) {
      expect(put(store, 100 + k, k + 1, 30)).toBe('ok');
      destage(disk, store);
    }
    store.shrinkJournal();
    expect(store.figures.journalBytes).toBeLessThan(512 * 1024);
    expect(store.read(0, 40 * B, new Uint8Array(40 * B), 0)).toBe('ok');
  });

  it('copies share a cache of pages and a buffer for destaging', () => {
    const shared = { pageCache: new PageCache(2), destageBuffer: new DestageBuffer(128 * 1024) };
    const a = made(shared);
    const b = made(shared);
    for (let k = 0; k < 7; k++) {
      expect(put(a.store, k * 256, k + 1)).toBe('ok');
      expect(put(b.store, k * 256, k + 1)).toBe('ok');
    }
    for (const { disk, store } of [a, b]) {
      store.commit(store.lastSeq);
      store.sync(() => undefined);
      disk.deliver();
    }
    expect(a.store.destageStep(1, true)).toBe('waiting');
    expect(b.store.destageStep(1, true)).toBe('waiting');
    expect(b.store.destageStep(1, true)).toBe('waiting');
    a.store.close(false);
    expect(destage(b.disk, b.store)).toBe('idle');
    for (let k = 0; k < 7; k++) expect(b.store.read(k * 256 * B, B, new Uint8Array(B), 0)).toBe('ok');
    expect(b.store.listExtents(0, 100)).toEqual({ extents: [0, 1, 2, 3, 4, 5, 6], end: true });
    expect(b.store.listExtents(1, 2)).toEqual({ extents: [1, 2], end: false });
  });

  it('history is given in pieces', () => {
    const { store } = made();
    for (let k = 0; k < 9; k++) expect(put(store, k, k + 1)).toBe('ok');
    const first = (frames: readonly Frame[] | 'gone'): number[] => (frames === 'gone' ? [] : frames.map((frame) => frame.firstSeq));
    expect(first(store.history(2, 3, 1e9))).toEqual([3, 4, 5]);
    expect(first(store.history(7, 9, 1))).toEqual([8]);
    expect(first(store.history(9, 9, 1))).toEqual([]);
    expect(store.restartLog(1, { seq: 20, chain: 5 }, [{ epoch: 1, firstSeq: 1 }], store.session, 9)).toBe('ok');
    expect(store.history(9, 9, 1)).toBe('gone');
  });

  it('a restart of the log in the middle of a round loses nothing that was settled', () => {
    for (let steps = 1; steps < 14; steps++) {
      const { disk, store } = made();
      for (let k = 0; k < 12; k++) expect(put(store, k * 50, k + 1)).toBe('ok');
      destage(disk, store);
      for (let k = 0; k < 12; k++) expect(put(store, k * 50, k + 100)).toBe('ok');
      store.commit(store.lastSeq);
      store.sync(() => undefined);
      disk.deliver();
      for (let k = 0; k < steps; k++) store.destageStep(5, true);
      expect(store.restartLog(1, { seq: 40, chain: 3 }, [{ epoch: 1, firstSeq: 1 }], store.session, store.lastSeq)).toBe('ok');
      const into = new Uint8Array(600 * B);
      expect(store.read(0, into.length, into, 0), `after ${steps} steps`).toBe('ok');
      disk.deliver();
      disk.powerCut(new Prng(steps));
      const again = must(openCopy(disk, { ...smallCopy(), bootId: 'boot-2' }));
      expect(again.fault).toBe(null);
      expect(again.lastSeq).toBe(40);
      expect(again.read(0, into.length, into, 0)).toBe('ok');
    }
  });
});
