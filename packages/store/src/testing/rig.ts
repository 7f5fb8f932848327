import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { assert, BLOCK_BYTES, checksum, type Prng } from '@ashlar/words';
import { BlockState, blockEntry } from '../blocks.ts';
import type { CopyStore, CreateOptions } from '../copy-store.ts';
import { MemoryDisk } from '../memory-disk.ts';
import { createCopy, openCopy } from '../open.ts';
import { fillBytes, logFrame, must, smallCopy, VOLUME, type Change } from './frames.ts';
import { Content, Model, type FilledBlock } from './model.ts';

/** What can be done to a copy. Plain data, so that a failing sequence can be shrunk and pasted. */
export type Command =
  | { readonly kind: 'append'; readonly changes: readonly Change[] }
  | { readonly kind: 'fill'; readonly extent: number; readonly blocks: readonly number[]; readonly value: number; readonly age: number; readonly lag?: number }
  | { readonly kind: 'sync' | 'commit' | 'check' | 'scrub' | 'shrink' | 'process-crash' | 'clean-restart' | 'clean-reopen' | 'history' }
  /** At most so many, oldest first, or whichever. */
  | { readonly kind: 'deliver'; readonly max: number; readonly seed?: number }
  /** `ends`: what comes to its end where destaging waits: everything, one thing, work in the background and no sync, nothing. */
  | { readonly kind: 'destage'; readonly steps: number; readonly eager: boolean; readonly ends: 'all' | 'one' | 'work' | 'nothing' }
  | { readonly kind: 'truncate'; readonly back: number }
  | { readonly kind: 'restart-log'; readonly ahead: number; readonly common: 'none' | 'committed' | 'last'; readonly otherLineage: boolean }
  | { readonly kind: 'power-cut'; readonly seed: number }
  | { readonly kind: 'grow'; readonly blocks: number }
  | { readonly kind: 'save'; readonly epoch: number };

/** A copy over a disk in memory beside the model of it; every command is carried out on both and compared. */
export class Rig {
  readonly disk = new MemoryDisk();
  readonly model: Model;
  readonly options: CreateOptions;
  store: CopyStore;
  boot = 1;
  epoch = 1;
  savedEpoch = 1;
  /** Asked for, oldest first, and not confirmed. */
  #asked: number[] = [];
  #crashed = false;
  /** Also what a crash has made the copy forget: a log is never cut below it. */
  #committedSeq = 0;
  /** What each version of a block was written with: what may be left of it in the extents. */
  readonly #versions = new Map<string, Int32Array>();
  readonly #random: (seed: number) => Prng;
  /** Called when something was promised to be stable. */
  onPromise: (() => void) | null = null;
  /** Asked at the end of each sync that nobody waits for: true if it finds no room. */
  isFull: ((file: string) => boolean) | null = null;

  constructor(random: (seed: number) => Prng, overrides: Partial<CreateOptions> = {}) {
    this.options = smallCopy(overrides);
    this.#random = random;
    this.model = new Model(this.options.sizeBytes / BLOCK_BYTES);
    this.store = must(createCopy(this.disk, this.options));
  }

  run(command: Command): void {
    switch (command.kind) {
      case 'append': return this.#append(command.changes);
      case 'fill': return this.#fill(command);
      case 'sync': return this.#sync();
      case 'commit': return this.store.commit(this.store.lastSeq);
      case 'deliver': return this.#deliver(command.max, command.seed);
      case 'destage': return this.#destage(command.steps, command.eager, command.ends);
      case 'truncate': return this.#truncate(command.back);
      case 'restart-log': return this.#restartLog(command.ahead, command.common, command.otherLineage);
      case 'process-crash': return this.#reopen(() => this.disk.processCrash(), false, true);
      case 'clean-restart': return this.#cleanRestart(true);
      case 'clean-reopen': return this.#cleanRestart(false);
      case 'power-cut': return this.#reopen(() => this.disk.powerCut(this.#random(command.seed)), true, false);
      case 'grow': return expectOk(this.store.grow(this.store.sizeBytes + command.blocks * BLOCK_BYTES));
      case 'save': return this.#save(command.epoch);
      case 'shrink': return this.store.shrinkJournal();
      case 'scrub': return this.#scrub();
      case 'history': return this.#history();
      case 'check': return this.check();
    }
  }

  #append(changes: readonly Change[]): void {
    const bounded = changes.map((change) => bound(change, this.model.blocks));
    this.#makeRoom(bounded.reduce((bytes, change) => bytes + (change.op === Op.write ? change.length + 2 * BLOCK_BYTES : 2 * BLOCK_BYTES), 16 * 1024));
    const frame = logFrame(this.store, bounded, this.epoch);
    const firstSeq = frame.firstSeq;
    expectOk(this.store.append(frame));
    this.model.add({ kind: 'record', firstSeq, lastSeq: firstSeq + changes.length - 1, changes: bounded });
    this.#rememberVersions(bounded);
    assert(this.store.lastSeq === this.model.lastSeq, 'the record was appended');
  }

  #rememberVersions(changes: readonly Change[]): void {
    const content = this.model.current;
    for (const { offset, length } of changes) {
      for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < offset + length; block++) this.#remember(content, block);
    }
  }

  #remember(content: Content, block: number): void {
    this.#versions.set(`${block}:${content.seqs[block]}`, content.values.slice(block * 8, block * 8 + 8));
  }

  #makeRoom(wanted = 0): void {
    const bytes = Math.max(wanted, 256 * 1024);
    if (this.store.hasRoom(bytes)) return;
    this.store.commit(this.store.lastSeq);
    this.#destage(100_000, true, 'all');
    assert(this.store.hasRoom(bytes), 'destaging makes room');
  }

  #sync(): void {
    const { model } = this;
    const { life } = model;
    const count = model.entries.length;
    const { lastSeq } = this.store;
    this.store.sync((failed) => {
      assert(failed === null, 'the sync succeeds');
      if (life !== model.life) return;
      model.durableEntries = Math.max(model.durableEntries, count);
      assert(this.store.durableSeq >= lastSeq, 'what was synced is durable');
      this.onPromise?.();
    });
  }

  #destage(steps: number, eager: boolean, ends: 'all' | 'one' | 'work' | 'nothing'): void {
    for (let k = 0; k < steps; k++) {
      if (eager) this.store.retryRound();
      const outcome = this.store.destageStep(64, eager);
      if (outcome === 'idle' || (outcome === 'waiting' && ends === 'nothing')) return;
      if (outcome !== 'waiting') continue;
      if (ends === 'work') this.disk.settle();
      else this.#deliver(ends === 'all' ? Infinity : 1, ends === 'all' ? undefined : k);
    }
  }

  #deliver(max: number, seed?: number): void {
    const order = seed === undefined ? null : this.#random(seed);
    this.disk.faults = (operation) => (operation.kind === 'sync' && this.isFull?.(operation.file) === true ? 'ENOSPC' : null);
    this.disk.deliver(max, order === null ? undefined : (count) => order.below(count));
    this.disk.faults = null;
  }

  #truncate(back: number): void {
    // Only to the end of a record, and never below what is committed.
    const committedSeq = Math.max(this.#committedSeq, this.store.committedSeq);
    const ends = this.model.entries.flatMap((entry) => (entry.kind === 'record' && entry.lastSeq >= committedSeq ? [entry.lastSeq] : []));
    const afterSeq = ends[ends.length - 1 - back];
    if (afterSeq === undefined) return;
    expectOk(this.store.truncate(afterSeq));
    if (afterSeq < this.model.lastSeq) {
      this.model.truncate(afterSeq);
      this.onPromise?.();
    }
    this.epoch += 1;
    assert(this.store.lastSeq === afterSeq, 'the log was cut');
    this.check();
  }

  #restartLog(ahead: number, common: 'none' | 'committed' | 'last', otherLineage: boolean): void {
    const position = this.store.lastSeq + ahead;
    const commonSeq = common === 'none' ? -1 : common === 'committed' ? this.store.committedSeq : this.store.lastSeq;
    const lineage = this.store.lineage + (otherLineage ? 1 : 0);
    this.epoch += 1;
    expectOk(this.store.restartLog(lineage, { seq: position, chain: 17 + ahead }, [{ epoch: this.epoch, firstSeq: 1 }], this.store.session, commonSeq));
    this.#committedSeq = 0;
    const bad: number[] = [];
    const left = this.#whatIsLeft(otherLineage ? -1 : commonSeq, bad);
    this.model.restart(position, left);
    this.#repair(bad, position);
    assert(this.store.lastSeq === position && this.store.lineage === lineage, 'the log begins at the new position');
    this.check();
    this.onPromise?.();
  }

  /** As the comparison with a primary does it: what a round that was cut short by a crash has overwritten no longer matches its checksums. */
  #repair(blocks: readonly number[], version: number): void {
    assert(blocks.length === 0 || this.#crashed, 'only a crash leaves blocks half settled');
    if (blocks.length === 0) return;
    const filled = blocks.map((block): FilledBlock => ({ block, version, value: 7 }));
    expectOk(this.store.applyFill(fillFrame(this.store, filled, version), true));
    this.model.add({ kind: 'fill', blocks: filled });
    for (const block of blocks) this.#remember(this.model.current, block);
    this.#sync();
    this.disk.deliver();
  }

  /** After a restart of the log the extents may hold anything that was written up to where the histories part. */
  #whatIsLeft(commonSeq: number, bad: number[]): Content {
    const content = new Content(this.model.blocks);
    for (const extent of this.#extents()) {
      const entries = this.store.extentBlocks(extent, true);
      for (let i = 0; i < 256; i++) {
        const { state, seq } = blockEntry(entries, i);
        const block = extent * 256 + i;
        if (state === BlockState.absent) continue;
        if (state === BlockState.corrupt) {
          bad.push(block);
          continue;
        }
        assert(seq <= commonSeq, `block ${block} has version ${seq}, beyond the common ${commonSeq}`);
        content.states[block] = state;
        content.seqs[block] = seq;
        if (state !== BlockState.written) continue;
        const values = this.#versions.get(`${block}:${seq}`);
        assert(values !== undefined, `block ${block} has version ${seq}, which was never written`);
        content.values.set(values, block * 8);
      }
    }
    return content;
  }

  #extents(): number[] {
    const all: number[] = [];
    for (let extent = 0; extent * 256 < this.model.blocks; extent++) all.push(extent);
    return all;
  }

  #fill(command: Command & { readonly kind: 'fill' }): void {
    const { lastSeq } = this.store;
    const extent = command.extent % Math.ceil(this.model.blocks / 256);
    const version = Math.max(0, lastSeq - command.age);
    const blocks = [...new Set(command.blocks)].filter((i) => extent * 256 + i < this.model.blocks);
    if (blocks.length === 0) return;
    this.#makeRoom();
    const fillSeq = lastSeq - (command.lag ?? 0);
    if (fillSeq < 0) return;
    // No copy of the same log has an older version of a block than this one.
    const { seqs } = this.model.current;
    const filled = blocks
      .map((i): FilledBlock => ({ block: extent * 256 + i, version: Math.max(Math.min(version, fillSeq), seqs[extent * 256 + i] as number), value: command.value }))
      // A version of a block has one content.
      .filter(({ block, version: offered }) => !this.#versions.has(`${block}:${offered}`) && (fillSeq === lastSeq || this.#versionKept(block)));
    if (filled.length === 0) return;
    const accepted = filled.filter(({ block }) => (seqs[block] as number) <= fillSeq);
    expectOk(this.store.applyFill(fillFrame(this.store, filled, fillSeq), true));
    if (accepted.length === 0) return;
    this.model.add({ kind: 'fill', blocks: accepted });
    for (const { block } of accepted) this.#remember(this.model.current, block);
  }

  /** Of what was zeroed as a whole extent only the newest that the version can be is known: an older fill may or may not apply. */
  #versionKept(block: number): boolean {
    const { state, seq } = blockEntry(this.store.extentBlocks(Math.floor(block / 256), false), block % 256);
    return state !== BlockState.zero || seq === this.model.current.seqs[block];
  }

  #save(epoch: number): void {
    const state = { ...this.options.state, promisedEpoch: epoch };
    this.#asked.push(epoch);
    this.store.saveState(state, (failed) => {
      assert(failed === null, 'the state is saved');
      this.savedEpoch = epoch;
      this.#asked.shift();
      this.onPromise?.();
    });
  }

  /** Closed in order, and opened again: after a restart of the machine, or in the same boot. */
  #cleanRestart(newBoot: boolean): void {
    this.disk.deliver();
    expectOk(this.store.close(true));
    this.model.durableEntries = this.model.entries.length;
    this.#reopen(() => (newBoot ? this.disk.powerCut(this.#random(1)) : this.disk.processCrash()), newBoot, true);
  }

  /** `exact`: nothing may be missing. */
  #reopen(cut: () => void, newBoot: boolean, exact: boolean): void {
    const before = this.store;
    this.#crashed = true;
    this.#committedSeq = Math.max(this.#committedSeq, before.committedSeq);
    cut();
    if (newBoot) this.boot += 1;
    this.store = must(openCopy(this.disk, { ...this.options, bootId: `boot-${this.boot}` }));
    assert(this.store.fault === null, `opened with ${this.store.fault}`);
    assert(this.store.lostCache || exact, 'a lost cache is noticed');
    if (exact) assert(this.store.lastSeq === before.lastSeq, `the log ends at ${this.store.lastSeq} instead of ${before.lastSeq}`);
    const wrong = this.model.adoptPrefix(this.store);
    assert(wrong === null, wrong ?? '');
    const { promisedEpoch } = this.store.state;
    assert(promisedEpoch === this.savedEpoch || this.#asked.includes(promisedEpoch), `the saved state is of epoch ${promisedEpoch}, not ${this.savedEpoch}`);
    this.savedEpoch = promisedEpoch;
    this.#asked = [];
    this.epoch += 1;
    this.check();
  }

  #scrub(): void {
    for (let k = 0; k < 1000; k++) {
      const { corrupt, wrapped } = this.store.scrubStep(256);
      assert(corrupt.length === 0, `scrub finds ${corrupt.join(' ')}`);
      if (wrapped) return;
    }
    assert(false, 'scrub comes to an end');
  }

  /** What history holds must be the end of the log, record by record, with nothing left out. */
  #history(): void {
    const from = this.store.journalStartSeq;
    const frames = this.store.history(from, 10_000, Infinity);
    if (frames === 'gone') {
      // What a power cut left of files that were being used again is found out when it is read; less is announced then.
      assert(this.store.journalStartSeq > from, 'the history that is announced is there');
      return this.#history();
    }
    let next = from + 1;
    for (const frame of frames) {
      assert(frame.firstSeq === next && frame.headIntact, `history goes on at ${frame.firstSeq} instead of ${next}`);
      next = frame.lastSeq + 1;
    }
    assert(next === this.store.lastSeq + 1, `history ends at ${next - 1}`);
  }

  check(): void {
    const bytes = this.model.current.firstDifference(this.store);
    assert(bytes < 0, `block ${bytes} holds other bytes`);
    const state = this.model.current.firstStateDifference(this.store);
    assert(state < 0, `block ${state} has another state or version`);
  }
}

function expectOk(result: ReturnType<CopyStore['append']>): void {
  assert(result === 'ok', result === 'ok' ? '' : `${result.failed}: ${result.detail}`);
}

function bound(change: Change, blocks: number): Change {
  const end = blocks * BLOCK_BYTES;
  const offset = change.offset % end;
  return { ...change, offset, length: Math.min(change.length, end - offset) };
}

export function fillFrame(store: CopyStore, blocks: readonly FilledBlock[], fillSeq: number): Frame {
  const written = blocks.filter(({ value }) => value !== 0).length;
  const frame = Frame.create(FrameKind.fill, blocks.length, written, new Uint8Array(written * BLOCK_BYTES));
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.lineage = store.lineage;
  frame.firstSeq = fillSeq;
  let k = 0;
  blocks.forEach(({ block, version, value }, n) => {
    const offset = block * BLOCK_BYTES;
    frame.setOperation(n, version, value === 0 ? Op.zero : Op.write, 0, offset, BLOCK_BYTES, value === 0 ? 0 : k * BLOCK_BYTES, k);
    if (value === 0) return;
    const bytes = frame.payload.subarray(k * BLOCK_BYTES, (k + 1) * BLOCK_BYTES);
    fillBytes(bytes, value, offset);
    frame.setCrc(k++, checksum(bytes));
  });
  frame.seal();
  return frame;
}
