import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { Prng } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { decodeJson, encodeJson } from './ascii.ts';
import { BlockIndex } from './block-index.ts';
import { createCopy, BlockState, blockEntry, blocksToFill, DestageBuffer, EPOCH_STARTS_MAX, EXTENT_ENTRIES_BYTES, INDEX_ENTRIES_MAX, MemoryDisk, PageCache, RANGES_MAX, setBlockEntry } from './index.ts';
import { chainAfter, emptyLog, LogTail } from './log-tail.ts';
import { edgeBlocks, payloadIntact } from './record.ts';
import { logFrame, must, smallCopy, VOLUME } from './testing/frames.ts';

const B = 4096;

describe('what a learner lacks', () => {
  const entries = (list: readonly (readonly [BlockState, number, number])[]): Uint8Array => {
    const bytes = new Uint8Array(EXTENT_ENTRIES_BYTES);
    list.forEach(([state, seq, crc], i) => setBlockEntry(bytes, i, state, seq, crc));
    return bytes;
  };

  it('is what differs and does not reach it by the log', () => {
    const { absent, written, zero, corrupt } = BlockState;
    const cases: readonly (readonly [readonly [BlockState, number, number], readonly [BlockState, number, number], boolean])[] = [
      [[absent, 0, 0], [absent, 0, 0], false],
      [[zero, 4, 0], [absent, 0, 0], false],
      [[absent, 0, 0], [written, 3, 1], true],
      [[written, 5, 1], [written, 5, 1], false],
      [[written, 5, 1], [written, 5, 2], true],
      [[written, 5, 1], [written, 4, 1], true],
      [[written, 0, 1], [written, 0, 1], true],
      [[written, 5, 1], [corrupt, 5, 1], true],
      [[written, 99, 1], [absent, 0, 0], false],
      [[written, 5, 1], [zero, 5, 0], true],
    ];
    const wanted = blocksToFill(entries(cases.map(([mine]) => mine)), entries(cases.map(([, other]) => other)), 50, false);
    expect(wanted).toEqual(cases.flatMap(([, , differs], i) => (differs ? [i] : [])));
    expect(blocksToFill(entries([[zero, 4, 0], [absent, 0, 0], [absent, 0, 0]]), entries([[absent, 0, 0], [zero, 3, 0], [absent, 0, 0]]), 50, true)).toEqual([0, 1]);
  });

  it('versions beyond 32 bits are kept', () => {
    const bytes = entries([[BlockState.written, 2 ** 40 + 17, 0xfedcba98]]);
    expect(blockEntry(bytes, 0)).toEqual({ state: BlockState.written, seq: 2 ** 40 + 17, crc: 0xfedcba98 });
  });
});

describe('the index of blocks', () => {
  it('is a map from block to newest entry, that forgets what is destaged', () => {
    const prng = new Prng(9);
    const index = new BlockIndex();
    const wanted = new Map<number, number>();
    expect(index.find(3)).toBe(-1);
    for (let k = 1; k <= 5000; k++) {
      const block = prng.below(1500) * 977;
      index.put(block, Math.ceil(k / 500), k, k * 3, 2 ** 33 + k, BlockState.written);
      wanted.set(block, k);
      if (k % 1000 !== 0) continue;
      index.destagedSerial = Math.ceil(k / 500) - 1;
      if (k % 2000 === 0) index.compact();
      for (const [key, value] of wanted) {
        const at = index.find(key);
        if (Math.ceil(value / 500) <= index.destagedSerial) expect(at).toBe(-1);
        else expect([index.serial(at), index.position(at), index.crc(at), index.seq(at), index.state(at)]).toEqual([Math.ceil(value / 500), value, value * 3, 2 ** 33 + value, BlockState.written]);
      }
    }
    const live = [...wanted].filter(([, value]) => Math.ceil(value / 500) > index.destagedSerial).map(([key]) => key).sort((a, b) => a - b);
    expect([...index.blocksThrough(1000)]).toEqual(live);
    index.clear();
    index.clear();
    index.compact();
    expect(index.count).toBe(0);
    expect([...index.blocksThrough(1000)]).toEqual([]);
  });
});

describe('shared resources', () => {
  it('a page in use gets a second chance', () => {
    const cache = new PageCache(2);
    const dropped: string[] = [];
    const page = (name: string, used: boolean): { used: boolean; drop: () => void } => ({ used, drop: () => dropped.push(name) });
    cache.add(page('a', true));
    cache.add(page('b', false));
    cache.add(page('c', true));
    expect(dropped).toEqual(['b']);
    cache.add(page('d', true));
    expect(dropped).toEqual(['b', 'a']);
  });

  it('one owner at a time, the others in turn', () => {
    const buffer = new DestageBuffer(10);
    const [a, b, c] = [{}, {}, {}];
    const woken: string[] = [];
    expect(buffer.acquire(a, 5, () => undefined)?.length).toBe(10);
    expect(buffer.acquire(a, 50, () => undefined)?.length).toBe(50);
    expect(buffer.acquire(b, 5, () => woken.push('b'))).toBe(null);
    expect(buffer.acquire(c, 5, () => woken.push('c'))).toBe(null);
    buffer.forget(b);
    buffer.release(b);
    buffer.release(a);
    expect(woken).toEqual(['c']);
  });
});

describe('the end of the log', () => {
  const record = (epoch: number, seq: number, blocks = 0): Frame => {
    const frame = Frame.create(FrameKind.log, 1, blocks);
    frame.setVolumeTag(volumeTag(VOLUME));
    frame.epoch = epoch;
    frame.firstSeq = seq;
    frame.setOperation(0, seq, Op.session, 0, 0, 0, 0, 0);
    return frame;
  };

  it('keeps the newest epochs', () => {
    const tail = new LogTail(emptyLog(1));
    for (let epoch = 1; epoch <= EPOCH_STARTS_MAX + 10; epoch++) tail.advance(record(epoch, epoch), epoch);
    expect(tail.epochStarts).toHaveLength(EPOCH_STARTS_MAX);
    expect(tail.epochStarts[EPOCH_STARTS_MAX - 1]).toEqual({ epoch: EPOCH_STARTS_MAX + 10, firstSeq: EPOCH_STARTS_MAX + 10 });
  });

  it('its digest does not depend on what differs between copies, and on all else', () => {
    const plain = chainAfter(1, record(1, 1));
    const other = record(1, 1);
    other.senderEpoch = 9;
    other.committedSeq = 4;
    other.durableSeq = 3;
    other.traceId = 8;
    other.setPayloadAt(0, 77);
    expect(chainAfter(1, other)).toBe(plain);
    expect(chainAfter(2, record(1, 1))).not.toBe(plain);
    expect(chainAfter(1, record(2, 1))).not.toBe(plain);
    expect(chainAfter(1, record(1, 2))).not.toBe(plain);
    const large = record(1, 1, 8000);
    large.setCrc(7999, 5);
    expect(chainAfter(1, large)).not.toBe(chainAfter(1, record(1, 1, 8000)));
  });
});

describe('pieces', () => {
  it('edges of a range', () => {
    expect(edgeBlocks(0, 0)).toEqual([]);
    expect(edgeBlocks(0, B)).toEqual([]);
    expect(edgeBlocks(512, 512)).toEqual([0]);
    expect(edgeBlocks(0, 512)).toEqual([0]);
    expect(edgeBlocks(512, B)).toEqual([0, 1]);
    expect(edgeBlocks(B, 2 * B + 512)).toEqual([3]);
    expect(edgeBlocks(512, 2 * B - 512)).toEqual([0]);
  });

  it('JSON beyond ASCII', () => {
    expect(decodeJson(encodeJson({ text: 'Größe 漢' }))).toEqual({ text: 'Größe 漢' });
    expect(() => decodeJson(Uint8Array.of(0x80))).toThrow('ASCII');
  });

  it('checksums of a request whose operations touch parts of blocks', () => {
    const store = must(createCopy(new MemoryDisk(), smallCopy()));
    const frame = logFrame(store, [{ op: Op.write, offset: 512, length: 2 * B, value: 3 }]);
    expect(payloadIntact(frame)).toBe(true);
    frame.payload[B] = (frame.payload[B] as number) ^ 1;
    expect(payloadIntact(frame)).toBe(false);
  });

  it('zeroes without room in the index or the list of ranges wait for destaging', () => {
    const disk = new MemoryDisk();
    const large = must(createCopy(disk, smallCopy({ sizeBytes: 2 ** 40, dataFileBytes: 2 ** 40, journalBytesMax: 2 ** 24 })));
    const ranges = Array.from({ length: 128 }, (_, k) => ({ op: Op.zero, offset: k * 2 ** 23, length: 2 ** 23 }));
    let appended = 0;
    while (large.hasRoom(B)) {
      expect(large.append(logFrame(large, ranges))).toBe('ok');
      appended += ranges.length;
    }
    expect(appended).toBe(RANGES_MAX);
    expect(large.append(logFrame(large, ranges))).toMatchObject({ failed: 'busy' });
    expect(large.blockStatus(0, 2 ** 21)).toEqual([{ lengthBytes: 2 ** 21, state: 'zero' }]);
    large.commit(large.lastSeq);
    for (let outcome = large.destageStep(64, true); outcome !== 'idle'; outcome = large.destageStep(64, true)) disk.deliver();
    expect(large.hasRoom(B)).toBe(true);
    expect(large.blockStatus(0, 2 ** 21)).toEqual([{ lengthBytes: 2 ** 21, state: 'zero' }]);
    expect(INDEX_ENTRIES_MAX).toBeGreaterThan(RANGES_MAX);
  });
});
