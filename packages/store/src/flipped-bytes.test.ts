import { Op } from '@ashlar/protocol';
import { Prng } from '@ashlar/words';
import { expect, it } from 'vitest';
import { createCopy, MemoryDisk, openCopy, type MemoryImage } from './index.ts';
import { logFrame, must, smallCopy } from './testing/frames.ts';
import { Content } from './testing/model.ts';

const B = 4096;
const options = smallCopy({ sizeBytes: 2 * 2 ** 20, dataFileBytes: 2 ** 20 });

/** A copy with everything in its files: settled blocks, zeroed ones, a journal that is not destaged, history, saved states. */
function madeCopy(): { images: Map<string, MemoryImage>; content: Content; lastSeq: number } {
  const disk = new MemoryDisk();
  const store = must(createCopy(disk, options));
  const content = new Content(options.sizeBytes / B);
  const change = (op: Op, offset: number, length: number, value?: number): void => {
    const frame = logFrame(store, [{ op, offset, length, value }]);
    expect(store.append(frame)).toBe('ok');
    content.apply({ kind: 'record', firstSeq: frame.firstSeq, lastSeq: frame.firstSeq, changes: [{ op, offset, length, value }] });
  };
  const settle = (): void => {
    store.commit(store.lastSeq);
    for (let outcome = store.destageStep(64, true); outcome !== 'idle'; outcome = store.destageStep(64, true)) disk.deliver();
  };
  for (let k = 0; k < 20; k++) change(Op.write, (k * 13 % 300) * B, 2 * B, k + 1);
  settle();
  for (let k = 0; k < 6; k++) change(Op.write, (k * 13 % 300) * B, B, k + 50);
  change(Op.zero, 10 * B + 512, 5 * B);
  change(Op.write, 320 * B, 16 * B, 120);
  settle();
  change(Op.write, 320 * B, 16 * B, 121);
  settle();
  change(Op.write, 336 * B, 16 * B, 122);
  store.saveState({ ...options.state, promisedEpoch: 7 }, () => undefined);
  disk.deliver();
  for (let k = 0; k < 4; k++) change(Op.write, (k * 31) * B, B, k + 90);
  change(Op.trim, 40 * B, 8 * B);
  expect(store.close(true)).toBe('ok');
  return { images: disk.images(), content, lastSeq: store.lastSeq };
}

/** Every byte of the heads of all structures; samples of the rest. */
function positions(image: MemoryImage): number[] {
  const all: number[] = [];
  for (const [index, page] of image.pages) {
    const isHead = page[0] === 0x41 && page[1] === 0x53 && page[2] === 0x48;
    const dense = isHead ? 64 : 0;
    // Of the many records a sample of each byte is enough: every record has the same head.
    for (let at = index % 3; at < dense; at += 3) all.push(index * B + at);
    for (let at = dense + (index % 97); at < B; at += isHead ? 997 : 4093) all.push(index * B + at);
  }
  return all;
}

it('notices every flipped byte, or is not harmed by it', () => {
  const { images, content, lastSeq } = madeCopy();
  const prng = new Prng(3);
  let flips = 0;
  let noticed = 0;
  for (const [name, image] of images) {
    for (const position of positions(image)) {
      const disk = MemoryDisk.fromImages(images);
      disk.flipBit(name, position, prng.below(8));
      flips += 1;
      const opened = openCopy(disk, options);
      if ('failed' in opened) {
        noticed += 1;
        continue;
      }
      const { store } = opened;
      if (store.fault !== null) noticed += 1;
      else {
        const where = `${name} at ${position}`;
        expect(store.lastSeq, where).toBe(lastSeq);
        expect(store.state.promisedEpoch, where).toBe(7);
        if (harmed(store, content, where)) noticed += 1;
      }
      store.close(false);
    }
  }
  expect(flips).toBeGreaterThan(500);
  expect(noticed).toBeGreaterThan(20);
}, 120_000);

/** True if blocks are reported; whatever is read without a report must be right. */
function harmed(store: ReturnType<typeof must>, content: Content, where: string): boolean {
  const into = new Uint8Array(256 * B);
  const bad = new Set<number>();
  for (let first = 0; first < content.states.length; first += 256) {
    const result = store.read(first * B, into.length, into, 0);
    if (result !== 'ok') for (const block of result.corrupt) bad.add(block);
  }
  if (bad.size === 0) {
    expect(content.firstDifference(store), where).toBe(-1);
    return false;
  }
  for (let block = 0; block < content.states.length; block++) {
    if (bad.has(block)) continue;
    const one = new Content(1);
    one.values.set(content.values.subarray(block * 8, block * 8 + 8));
    expect(one.differsAt(store, block), `${where}: block ${block}`).toBe(false);
  }
  return true;
}
