import { Op } from '@ashlar/protocol';
import { Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { createCopy, DestageBuffer, MemoryDisk, openCopy, type CopyStore, type DiskOperation } from './index.ts';
import { logFrame, must, smallCopy } from './testing/frames.ts';

const B = 4096;
const put = (store: CopyStore, block: number, value: number, blocks = 1, epoch = 1) => store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: blocks * B, value }], epoch));
const isOf = (kind: string, file: string) => (operation: DiskOperation) => operation.kind === kind && (operation as { file?: string }).file === file;

function full(disk: MemoryDisk, which: (operation: DiskOperation) => boolean): void {
  disk.faults = (operation) => (which(operation) ? 'ENOSPC' : null);
}

/** Five blocks that a round has moved; its syncs are asked for, and not over. */
function atSync(overrides = {}) {
  const disk = new MemoryDisk();
  const store = must(createCopy(disk, smallCopy(overrides)));
  for (let k = 0; k < 5; k++) expect(put(store, k * 3, k + 1)).toBe('ok');
  store.sync(() => undefined);
  disk.deliver();
  store.commit(store.lastSeq);
  let mapped = false;
  full(disk, (operation) => {
    mapped ||= isOf('write', 'presence')(operation);
    return false;
  });
  while (!mapped) if (store.destageStep(64, true) === 'waiting' && !mapped) disk.deliver();
  disk.faults = null;
  return { disk, store };
}

function restarted(store: CopyStore) {
  const seq = store.lastSeq;
  return store.restartLog(store.lineage, { seq, chain: 9 }, [{ epoch: 2, firstSeq: 1 }], store.session, seq);
}

/** What is left after a power cut. */
function expectWhole(disk: MemoryDisk, blocks: readonly number[] = [0, 3, 6, 9, 12]): void {
  disk.powerCut(new Prng(1));
  const store = must(openCopy(disk, { ...smallCopy(), bootId: 'boot-2' }));
  for (const block of blocks) {
    const bytes = new Uint8Array(B);
    expect(store.read(block * B, B, bytes, 0)).toBe('ok');
    expect(new Set(bytes), `block ${block}`).not.toEqual(new Set([0]));
  }
}

function moveAll(disk: MemoryDisk, store: CopyStore): void {
  store.retryRound();
  for (let k = 0; k < 1000 && store.destageStep(64, true) !== 'idle'; k++) disk.deliver();
  expect([store.fault, store.figures.backlogBytes]).toEqual([null, 0]);
}

describe('a round that is carried to its end while its sync is under way', () => {
  it('makes stable what that sync is to cover, though the one of the round before it ends meanwhile', () => {
    const { disk, store } = atSync();
    const earlier = disk.pendingCompletions;
    expect(restarted(store)).toBe('ok');
    for (let k = 0; k < 5; k++) expect(put(store, k * 3 + 1, k + 1, 1, 2)).toBe('ok');
    const kept = store.lastSeq;
    expect(put(store, 20, 1, 1, 2)).toBe('ok');
    expect(store.truncate(kept)).toBe('ok');
    store.commit(kept);
    let atSyncs = false;
    full(disk, (operation) => {
      atSyncs ||= isOf('write', 'presence')(operation);
      return false;
    });
    while (!atSyncs) if (store.destageStep(64, true) === 'waiting' && !atSyncs) disk.settle();
    disk.faults = null;
    disk.deliver(earlier);
    expect(restarted(store)).toBe('ok');
    expectWhole(disk, [1, 4, 7, 10, 13]);
  });
});

describe('a sync of a round that finds no room', () => {
  it('goes on with the buffer of the thread, whatever another was filled with in between', () => {
    const destageBuffer = new DestageBuffer(2 ** 20);
    const { disk, store } = atSync({ destageBuffer });
    destageBuffer.acquire(disk, 10, () => undefined)?.fill(77);
    destageBuffer.release(disk);
    full(disk, isOf('sync', 'data-0000'));
    disk.deliver();
    expect(store.fault).toBe(null);
    full(disk, isOf('write', 'data-0000'));
    expect(restarted(store)).toMatchObject({ failed: 'no-space' });
    disk.faults = null;
    moveAll(disk, store);
    expectWhole(disk);
  });

  it('in a buffer of its own, when the log is restarted twice', () => {
    const { disk, store } = atSync();
    full(disk, isOf('sync', 'data-0000'));
    disk.deliver();
    full(disk, isOf('write', 'data-0000'));
    expect(restarted(store)).toMatchObject({ failed: 'no-space' });
    disk.faults = null;
    expect(restarted(store)).toBe('ok');
    expectWhole(disk);
  });

  it.each(['data-0000', 'extents', 'presence'])('is not over with the first of its files: %s', (file) => {
    const { disk, store } = atSync();
    let hit = false;
    full(disk, (operation) => isOf('sync', file)(operation) && (hit = true));
    while (!hit) disk.deliver(1);
    disk.faults = null;
    expect(restarted(store)).toMatchObject({ failed: 'sync-failed' });
    expectWhole(disk);
  });

  it('is not taken for over when an earlier wait of the same round is', () => {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, smallCopy()));
    // Tiles of records: the superblock vouches for them before blocks are written.
    for (let k = 0; k < 5; k++) expect(put(store, k * 16, k + 1, 16)).toBe('ok');
    store.sync(() => undefined);
    disk.deliver();
    store.commit(store.lastSeq);
    let saved = false;
    full(disk, (operation) => {
      saved ||= isOf('write', 'superblock')(operation);
      return false;
    });
    while (!saved) if (store.destageStep(64, true) === 'waiting' && !saved) disk.deliver(1);
    // The superblock's sync is under way. The round is carried on by another, until it finds no room.
    full(disk, isOf('write', 'extents'));
    expect(restarted(store)).toMatchObject({ failed: 'no-space' });
    let atSyncs = false;
    full(disk, (operation) => {
      atSyncs ||= isOf('write', 'presence')(operation);
      return false;
    });
    const earlier = disk.pendingCompletions;
    while (!atSyncs) if (store.destageStep(64, true) === 'waiting' && !atSyncs) disk.settle();
    // All that was to come before the round's syncs, and none of those.
    disk.deliver(earlier);
    let named = false;
    full(disk, (operation) => {
      named ||= isOf('write', 'superblock')(operation);
      return false;
    });
    for (let k = 0; k < 10; k++) store.destageStep(64, true);
    expect(named).toBe(false);
    disk.faults = null;
    moveAll(disk, store);
    expectWhole(disk, [0, 16, 32, 48, 64]);
  });

  it('is final when it may be of what another was told is stable', () => {
    const { disk, store } = atSync();
    expect(put(store, 512, 5, 16)).toBe('ok');
    const kept = store.lastSeq;
    expect(put(store, 7, 5)).toBe('ok');
    // Makes the tile stable, as far as it is told.
    expect(store.truncate(kept)).toBe('ok');
    full(disk, isOf('sync', 'data-0000'));
    disk.deliver();
    disk.faults = null;
    expect(store.fault).toBe('sync-failed');
    expectWhole(disk);
  });

  it('leaves no wake-up behind that another copy waits for', () => {
    const destageBuffer = new DestageBuffer(2 ** 20);
    const { disk, store } = atSync({ destageBuffer });
    const other = {};
    expect(destageBuffer.acquire(other, 10, () => undefined)).not.toBe(null);
    full(disk, isOf('sync', 'extents'));
    disk.deliver();
    disk.faults = null;
    expect(store.destageStep(64, true)).toBe('waiting');
    let woken = 0;
    expect(destageBuffer.acquire({}, 10, () => { woken += 1; })).toBe(null);
    expect(restarted(store)).toBe('ok');
    destageBuffer.release(other);
    expect(woken).toBe(1);
  });

  it('is made again at once the first time, then when somebody asks', () => {
    const { disk, store } = atSync();
    let syncs = 0;
    full(disk, (operation) => isOf('sync', 'extents')(operation) && ++syncs > 0);
    disk.deliver();
    for (let k = 0; k < 100 && syncs < 2; k++) {
      store.destageStep(64, false);
      disk.deliver();
    }
    expect(syncs).toBe(2);
    for (let k = 0; k < 100; k++) {
      expect(store.destageStep(64, true)).toBe('waiting');
      disk.deliver();
    }
    expect([syncs, store.fault]).toEqual([2, null]);
    store.retryRound();
    for (let k = 0; k < 100; k++) {
      store.destageStep(64, true);
      disk.deliver();
    }
    expect([syncs, store.fault]).toEqual([3, null]);
    disk.faults = null;
    moveAll(disk, store);
    expectWhole(disk);
  });
});
