import { Frame, FRAME_HEADER_BYTES, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { checksum } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { createCopy, MemoryDisk, openCopy, type CopyStore } from './index.ts';
import { frameFits, headMatches, parseRecordHeader, RECORD_HEADER_BYTES, sealRecord } from './record.ts';
import { readSegmentHeader, writeSegmentHeader, type SegmentHeader } from './segment.ts';
import { logFrame, must, smallCopy, VOLUME } from './testing/frames.ts';

const B = 4096;
const PLACE = { serial: 3, position: 16384, life: 2 };
const DURABLE = { serial: 2, position: 4096 };

function put(store: CopyStore, block: number): void {
  expect(store.append(logFrame(store, [{ op: Op.write, offset: block * B, length: B, value: block }]))).toBe('ok');
}
function sealed(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES);
  sealRecord(new DataView(bytes.buffer), bytes, frame, PLACE, DURABLE);
  return bytes;
}

describe('the header of a record', () => {
  const frame = Frame.create(FrameKind.log, 1, 1, new Uint8Array(B));
  frame.seal();

  it('is taken only whole, and at the place and in the life for which it was made', () => {
    const bytes = sealed(frame);
    const header = parseRecordHeader(bytes, 0, PLACE);
    expect(header).toEqual({ tiles: 0, tableChecksum: 0, headBytes: frame.head.length, payloadBytes: B, frameChecksum: frame.view.getUint32(4, true), durable: DURABLE });
    for (const other of [{ ...PLACE, serial: 4 }, { ...PLACE, position: 0 }, { ...PLACE, life: 3 }]) expect(parseRecordHeader(bytes, 0, other)).toBeNull();
    expect(parseRecordHeader(bytes, 1, PLACE)).toBeNull();
    for (let at = 0; at < bytes.length; at++) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] as number) ^ 1;
      expect(parseRecordHeader(flipped, 0, PLACE)).toBeNull();
    }
  });

  it('that names fewer bytes than a frame has is none, though its checksum fits', () => {
    const bytes = sealed(frame);
    const view = new DataView(bytes.buffer);
    view.setUint32(16, FRAME_HEADER_BYTES - 1, true);
    view.setUint32(4, checksum(bytes.subarray(8)), true);
    expect(parseRecordHeader(bytes, 0, PLACE)).toBeNull();
  });

  it('fits one frame only', () => {
    const header = parseRecordHeader(sealed(frame), 0, PLACE);
    if (header === null) throw new Error('it is whole');
    const made = (kind: FrameKind, count: number, blocks: number, bytes: number): Frame => {
      const other = Frame.create(kind, count, blocks, new Uint8Array(bytes));
      other.seal();
      return other;
    };
    expect(headMatches(frame, header)).toBe(true);
    for (const other of [made(FrameKind.log, 1, 1, 2 * B), made(FrameKind.log, 2, 1, B), made(FrameKind.fill, 1, 1, B)]) expect(headMatches(other, header)).toBe(false);
    const checksumOf = (other: Frame): typeof header => ({ ...header, frameChecksum: other.view.getUint32(4, true) });
    expect(headMatches(made(FrameKind.request, 1, 1, B), checksumOf(made(FrameKind.request, 1, 1, B)))).toBe(false);
    const long = made(FrameKind.log, 1, 1, 2 * B);
    expect(headMatches(long, checksumOf(long))).toBe(false);
    const wide = made(FrameKind.log, 1, 9, B);
    expect(headMatches(wide, checksumOf(wide))).toBe(false);
  });

  it('and its frame names nothing beyond its bytes and checksums', () => {
    const fits = (op: Op, offset: number, length: number, payloadAt: number, crcIndex: number): boolean => {
      const other = Frame.create(FrameKind.log, 1, 1, new Uint8Array(B));
      other.setOperation(0, 1, op, 0, offset, length, payloadAt, crcIndex);
      return frameFits(other);
    };
    expect([fits(Op.write, 0, B, 0, 0), fits(Op.trim, 0, 99 * B, 0, 0), fits(Op.zero, 512, 512, 0, 0)]).toEqual([true, true, true]);
    expect([fits(Op.write, 0, B, 1, 0), fits(Op.write, 0, B, 0, 1), fits(Op.write, 512, B, 0, 0), fits(Op.zero, 512, B, 0, 0)]).toEqual([false, false, false, false]);
  });
});

describe('the header of a segment', () => {
  const header: SegmentHeader = {
    serial: 1, restarts: 0, life: 1, start: { lineage: 1, seq: 0, chain: 1, epochStarts: [], session: { attachNumber: 0, count: 0, appliedThrough: 0 } } as unknown as SegmentHeader['start'],
    previousEnd: 0, durable: { serial: 0, position: 0 },
  };

  it('is read from its second half if the first is bad, and not if it is of another volume or both are bad', () => {
    const disk = new MemoryDisk();
    const file = disk.create('segment');
    if ('code' in file) throw new Error(file.code);
    expect(writeSegmentHeader(file, volumeTag(VOLUME), header, false)).toBeNull();
    const { low, high } = volumeTag(VOLUME);
    expect(readSegmentHeader(file, { low, high })).toMatchObject({ serial: 1 });
    expect(readSegmentHeader(file, { low: low + 1, high })).toBeNull();
    expect(readSegmentHeader(file, { low, high: high + 1 })).toBeNull();
    disk.flipBit('segment', 40, 1);
    expect(readSegmentHeader(file, { low, high })).toMatchObject({ serial: 1 });
    disk.flipBit('segment', 8192, 1);
    expect(readSegmentHeader(file, { low, high })).toBeNull();
    disk.faults = (operation) => (operation.kind === 'read' ? 'EIO' : null);
    expect(readSegmentHeader(file, { low, high })).toMatchObject({ code: 'EIO' });
  });
});

describe('a journal of which something is gone', () => {
  function crashed(): { disk: MemoryDisk; segments: string[] } {
    const disk = new MemoryDisk();
    const store = must(createCopy(disk, smallCopy()));
    for (let block = 0; block < 40; block++) put(store, block);
    disk.processCrash();
    return { disk, segments: disk.list().filter((name) => name.includes('journal')).toSorted() };
  }

  it('a segment in the middle, and no cache was lost: corrupt, never a shorter log', () => {
    const { disk, segments } = crashed();
    expect(segments.length).toBeGreaterThan(3);
    expect(disk.remove(segments[1] as string)).toBeNull();
    expect(must(openCopy(disk, smallCopy())).fault).toBe('corrupt');
  });

  it('the first of its segments: the same', () => {
    const { disk, segments } = crashed();
    expect(disk.remove(segments[0] as string)).toBeNull();
    expect(must(openCopy(disk, smallCopy())).fault).toBe('corrupt');
  });

  it('a disk that does not read says so instead', () => {
    const { disk, segments } = crashed();
    for (const bad of segments) {
      disk.faults = (operation) => (operation.kind === 'read' && operation.file === bad ? 'EIO' : null);
      expect(openCopy(disk, smallCopy())).toMatchObject({ failed: 'io-error' });
    }
    disk.faults = null;
    expect(must(openCopy(disk, smallCopy())).lastSeq).toBe(40);
  });
});
