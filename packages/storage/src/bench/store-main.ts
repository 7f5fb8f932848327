import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { createCopy, DestageBuffer, openCopy, PageCache, type CopyStore, type StoreOptions } from '@ashlar/store';
import { BLOCK_BYTES, checksum, Prng, serverId, volumeId } from '@ashlar/words';
import { NodeDisk } from '../disk/node-disk.ts';

/**
 * What the store of one copy costs on this machine: `pnpm bench:store [--dir PATH] [--seconds 1]`. One line a measurement, each in
 * microseconds of processor time (the kernel's included) per block of 4 KiB: what others do on the machine hardly shows in it, waiting for the disk not at all.
 * Give a directory on a tmpfs (/dev/shm) to leave the file system's share out.
 */
const VOLUME = volumeId('vol-0123456789abcdef0');
const VOLUME_BYTES = 2 ** 30;
const BLOCKS = VOLUME_BYTES / BLOCK_BYTES;
const MICRO = 1000;

const { values } = parseArgs({ options: { dir: { type: 'string' }, seconds: { type: 'string', default: '1' } } });
const directory = mkdtempSync(join(values.dir ?? tmpdir(), 'ashlar-bench-'));
const budgetMs = Number(values.seconds) * MICRO;
const prng = new Prng(1);

/** Processor time of this process. */
function nowMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / MICRO;
}

let woken: () => void = () => undefined;
const options: StoreOptions = { volumeId: VOLUME, serverId: serverId('server-1'), bootId: 'bench', pageCache: new PageCache(4096), destageBuffer: new DestageBuffer(32 * 2 ** 20), wake: () => woken() };
const bytes = new Uint8Array(32 * BLOCK_BYTES).map((_, i) => (i * 31) & 0xff);
const crcs = Array.from({ length: 32 }, (_, k) => checksum(bytes.subarray(k * BLOCK_BYTES, (k + 1) * BLOCK_BYTES)));

/** One record of `count` writes of a block each; the checksums are there already, as they are when the NBD server has made them. */
function record(firstSeq: number, count: number, blockOf: (i: number) => number): Frame {
  const frame = Frame.create(FrameKind.log, count, count, bytes.subarray(0, count * BLOCK_BYTES));
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.epoch = 1;
  frame.firstSeq = firstSeq;
  frame.lineage = 1;
  frame.number = firstSeq + count;
  for (let i = 0; i < count; i++) {
    frame.setOperation(i, firstSeq + i, Op.write, 0, blockOf(i) * BLOCK_BYTES, BLOCK_BYTES, i * BLOCK_BYTES, i);
    frame.setCrc(i, crcs[i] as number);
  }
  return frame;
}

function say(what: string, ms: number, blocks: number): void {
  process.stdout.write(`${what.padEnd(46)} ${((ms * MICRO) / blocks).toFixed(2).padStart(8)} µs a block, ${blocks} blocks\n`);
}

async function synced(store: CopyStore): Promise<void> {
  await new Promise<void>((resolve, reject) => store.sync((failed) => (failed === null ? resolve() : reject(new Error(failed)))));
}

/** Processor time of the copy's own thread, and of all: the thread that works in the background and those that sync. */
async function destage(store: CopyStore): Promise<{ readonly ownMs: number; readonly allMs: number }> {
  store.commit(store.lastSeq);
  const startMs = nowMs();
  const own = process.threadCpuUsage();
  for (;;) {
    const wake = new Promise<void>((resolve) => { woken = resolve; });
    const outcome = store.destageStep(128, true);
    if (outcome === 'waiting') await wake;
    if (outcome !== 'idle') continue;
    const { user, system } = process.threadCpuUsage(own);
    return { ownMs: (user + system) / MICRO, allMs: nowMs() - startMs };
  }
}

async function append(store: CopyStore, what: string, count: number, blockOf: (k: number) => number): Promise<void> {
  let spentMs = 0;
  let blocks = 0;
  for (let round = 0; round < 3 || (spentMs < budgetMs && round < 20); round++) {
    while (store.hasRoom(16 * 2 ** 20) && store.figures.backlogBytes < 100 * 2 ** 20) {
      // The clock costs as much as ten records: it is asked once for many of them.
      const first = store.lastSeq + 1;
      const frames = Array.from({ length: 64 }, (_, n) => record(first + n * count, count, (i) => blockOf(blocks + n * count + i)));
      const startMs = nowMs();
      for (const frame of frames) if (store.append(frame) !== 'ok') throw new Error('append');
      spentMs += nowMs() - startMs;
      blocks += 64 * count;
    }
    await synced(store);
    const before = store.figures.destagedBlocks;
    const { ownMs, allMs } = await destage(store);
    if (round === 0 || spentMs < budgetMs) continue;
    const moved = store.figures.destagedBlocks - before;
    say(`  its destaging, round ${round}: own thread`, ownMs, moved);
    say('  all threads, with syncs', allMs, moved);
  }
  say(what, spentMs, blocks);
}

function reads(store: CopyStore, what: string): void {
  const into = new Uint8Array(BLOCK_BYTES);
  const startMs = nowMs();
  let count = 0;
  while (nowMs() - startMs < budgetMs) {
    for (let k = 0; k < 1000; k++, count++) if (store.read(prng.below(BLOCKS) * BLOCK_BYTES, BLOCK_BYTES, into, 0) !== 'ok') throw new Error('corrupt');
  }
  say(what, nowMs() - startMs, count);
}

const disk = new NodeDisk([directory]);
const created = createCopy(disk, { ...options, sizeBytes: VOLUME_BYTES, lineage: 1, incarnation: 1, state: { promisedEpoch: 1, configuration: null, complete: true, fault: null } });
if ('failed' in created) throw new Error(created.detail);
let { store } = created;
try {
  await append(store, 'append, 32 writes a record, in sequence', 32, (k) => k % BLOCKS);
  await append(store, 'append, 32 writes a record, anywhere in 1 GiB', 32, () => prng.below(BLOCKS));
  await append(store, 'append, 1 write a record, anywhere in 1 GiB', 1, () => prng.below(BLOCKS));
  reads(store, 'read, anywhere in 1 GiB, settled');
  for (const cuts of [false, true]) {
    for (let k = 0; k < 10_000; k++) if (store.append(record(store.lastSeq + 1, 1, () => prng.below(BLOCKS))) !== 'ok') throw new Error('append');
    await synced(store);
    const cutMs = nowMs();
    if (cuts && store.truncate(store.lastSeq - 3) !== 'ok') throw new Error('truncate');
    if (cuts) process.stdout.write(`the last three of 10000 records cut off in ${(nowMs() - cutMs).toFixed(1)} ms\n`);
    store.close(false);
    const startMs = nowMs();
    const opened = openCopy(disk, options);
    if ('failed' in opened) throw new Error(opened.detail);
    ({ store } = opened);
    process.stdout.write(`opened after a crash in ${(nowMs() - startMs).toFixed(1)} ms, ${store.figures.indexEntries} blocks to be destaged${cuts ? ', with records that were cut off' : ''}\n`);
    await destage(store);
  }
} finally {
  store.close(false);
  rmSync(directory, { recursive: true, force: true });
}
