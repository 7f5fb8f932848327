import { Op } from '@ashlar/protocol';
import { BLOCK_BYTES, SECTOR_BYTES } from '@ashlar/words';
import type { CopyStore } from '../../copy-store.ts';
import { MemoryDisk } from '../../memory-disk.ts';
import { openCopy } from '../../open.ts';
import { TILE_BLOCKS } from '../../places.ts';
import { fillBytes, logFrame } from '../frames.ts';
import type { Content, Entry } from '../model.ts';
import type { Images } from './states.ts';
import type { Moment, Workload } from './workload.ts';

/** What may be found after a power cut: the promises of the last moment hold, and what the next one brings may be there. */
export interface Expectation {
  readonly held: Moment;
  readonly next: Moment | null;
}

export function expectationAt(workload: Workload, at: number): Expectation {
  let k = 0;
  while (k + 1 < workload.moments.length && (workload.moments[k + 1] as Moment).at <= at) k += 1;
  return { held: workload.moments[k] as Moment, next: workload.moments[k + 1] ?? null };
}

/** Opens copies on crash states and says what is wrong with one; null if nothing is. */
export class Checker {
  readonly #workload: Workload;
  readonly #contents = new WeakMap<Moment, Map<number, Map<number, Uint8Array>>>();
  readonly #into = new Uint8Array(BLOCK_BYTES);
  /** What the copy holds that was looked at last. */
  #found: ReadonlyMap<number, Uint8Array> = new Map();

  constructor(workload: Workload) {
    this.#workload = workload;
  }

  /** `recorded`: set to be told what the recovery itself changed. */
  problem(images: Images, expectation: Expectation, boot: string, goOn: boolean, disk: MemoryDisk = MemoryDisk.fromImages(images)): string | null {
    const opened = openCopy(disk, { ...this.#workload.options, bootId: boot });
    if ('failed' in opened) return `does not open: ${opened.failed}, ${opened.detail}`;
    const { store } = opened;
    if (store.fault !== null) return `opens with the fault ${store.fault}`;
    const problem = this.#problemOf(store, expectation);
    if (problem !== null) return problem;
    return goOn ? this.#goesOn(disk, store, boot) : null;
  }

  #problemOf(store: CopyStore, { held, next }: Expectation): string | null {
    const { promisedEpoch } = store.state;
    const asked = next?.askedEpoch ?? held.askedEpoch;
    if (promisedEpoch < held.savedEpoch || promisedEpoch > asked) return `the saved epoch is ${promisedEpoch}, not ${held.savedEpoch} to ${asked}`;
    const reasons: string[] = [];
    for (const moment of next === null ? [held] : [held, next]) {
      const durable = moment.life === held.life ? held.durable : moment.durable;
      const reason = this.#differs(store, moment, durable, store.lostCache ? 0 : held.entries.length);
      if (reason === null) return null;
      reasons.push(reason);
    }
    return reasons.join('; nor ');
  }

  /** Null if the copy is a beginning of this moment's log that holds the first `durable` entries; `all`: if it does not say that it lost its cache. */
  #differs(store: CopyStore, moment: Moment, durable: number, all: number): string | null {
    let reason = `the log ends at ${store.lastSeq}; durable was ${lastSeqOf(moment.entries, durable, moment.baseSeq)}, written ${lastSeqOf(moment.entries, moment.entries.length, moment.baseSeq)}`;
    for (let count = moment.entries.length; count >= Math.max(durable, Math.min(all, moment.entries.length)); count--) {
      if (lastSeqOf(moment.entries, count, moment.baseSeq) !== store.lastSeq) continue;
      const content = this.#contentOf(moment, count);
      const wrong = this.#wrongBlock(store, content);
      if (wrong === null) {
        this.#found = content;
        return null;
      }
      reason = `with the first ${count} entries up to ${store.lastSeq}, ${wrong}`;
    }
    return reason;
  }

  #wrongBlock(store: CopyStore, content: ReadonlyMap<number, Uint8Array>): string | null {
    const into = this.#into;
    for (const [block, wanted] of content) {
      if (store.read(block * BLOCK_BYTES, BLOCK_BYTES, into, 0) !== 'ok') return `block ${block} is corrupt`;
      for (let i = 0; i < BLOCK_BYTES; i += SECTOR_BYTES) {
        if (into[i] !== wanted[i] || into[i + 1] !== wanted[i + 1] || into[i + 511] !== wanted[i + 511]) return `block ${block} differs in sector ${i / SECTOR_BYTES}`;
      }
    }
    return null;
  }

  #contentOf(moment: Moment, count: number): ReadonlyMap<number, Uint8Array> {
    let byCount = this.#contents.get(moment);
    if (byCount === undefined) this.#contents.set(moment, (byCount = new Map()));
    const known = byCount.get(count);
    if (known !== undefined) return known;
    const content = moment.base.clone();
    for (const entry of moment.entries.slice(0, count)) content.apply(entry);
    const bytes = new Map(this.#workload.blocks.map((block) => [block, blockBytes(content, block)]));
    byCount.set(count, bytes);
    return bytes;
  }

  /** After recovery the copy takes writes, and keeps them and all else over the next crash of its process and of the machine. */
  #goesOn(disk: MemoryDisk, store: CopyStore, boot: string): string | null {
    const seq = store.lastSeq + 1;
    const changes = [{ block: 2, blocks: 1 }, { block: TILE_BLOCKS, blocks: TILE_BLOCKS }, { block: 40 * TILE_BLOCKS, blocks: 2 * TILE_BLOCKS }];
    const frame = logFrame(store, changes.map(({ block, blocks }, k) => ({ op: Op.write, offset: block * BLOCK_BYTES, length: blocks * BLOCK_BYTES, value: 251 + k })), store.lastEpoch + 1);
    const appended = store.append(frame);
    // A journal that is full says so; then there is nothing to be kept.
    if (appended !== 'ok' && appended.failed === 'busy') return null;
    if (appended !== 'ok') return `cannot be written to: ${appended.failed}, ${appended.detail}`;
    let synced = false;
    store.sync((failed) => { synced = failed === null; });
    disk.deliver();
    if (!synced) return 'cannot be synced';
    disk.processCrash();
    const opened = openCopy(disk, { ...this.#workload.options, bootId: boot });
    if ('failed' in opened) return `does not open again: ${opened.failed}, ${opened.detail}`;
    if (opened.store.fault !== null) return `opens again with the fault ${opened.store.fault}`;
    if (opened.store.lastSeq !== seq + changes.length - 1) return `the log ends at ${opened.store.lastSeq} after ${seq + changes.length - 1} was synced`;
    const wanted = new Map(this.#found);
    for (const [k, { block, blocks }] of changes.entries()) overwrite(wanted, block, blocks, 251 + k);
    const wrong = this.#wrongBlock(opened.store, wanted) ?? this.#usesPlacesAgain(disk, opened.store, wanted);
    return wrong === null ? null : `after it was written to again, ${wrong}`;
  }

  /** Settles everything and lets history go, again and again: a place that belongs to two would show in one of them. */
  #usesPlacesAgain(disk: MemoryDisk, store: CopyStore, wanted: Map<number, Uint8Array>): string | null {
    for (let round = 1; round <= 3; round++) {
      store.commit(store.lastSeq);
      for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
      store.shrinkJournal();
      const block = (48 + round) * TILE_BLOCKS;
      const frame = logFrame(store, [{ op: Op.write, offset: block * BLOCK_BYTES, length: 4 * TILE_BLOCKS * BLOCK_BYTES, value: round }], store.lastEpoch + 1);
      const appended = store.append(frame);
      if (appended !== 'ok') return `it cannot be written to in round ${round}: ${appended.failed}, ${appended.detail}`;
      overwrite(wanted, block, 4 * TILE_BLOCKS, round);
    }
    return this.#wrongBlock(store, wanted);
  }
}

function overwrite(wanted: Map<number, Uint8Array>, first: number, blocks: number, value: number): void {
  for (let block = first; block < first + blocks; block++) {
    const bytes = new Uint8Array(BLOCK_BYTES);
    fillBytes(bytes, value, block * BLOCK_BYTES);
    wanted.set(block, bytes);
  }
}

function blockBytes(content: Content, block: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const sectors = BLOCK_BYTES / SECTOR_BYTES;
  for (let k = 0; k < sectors; k++) {
    const value = content.values[block * sectors + k] as number;
    if (value !== 0) fillBytes(bytes.subarray(k * SECTOR_BYTES, (k + 1) * SECTOR_BYTES), value, (block * sectors + k) * SECTOR_BYTES);
  }
  return bytes;
}

function lastSeqOf(entries: readonly Entry[], count: number, baseSeq: number): number {
  for (let k = count - 1; k >= 0; k--) {
    const entry = entries[k] as Entry;
    if (entry.kind === 'record') return entry.lastSeq;
  }
  return baseSeq;
}
