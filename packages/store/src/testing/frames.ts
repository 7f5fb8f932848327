import { Frame, FrameKind, Op, blocksTouched, volumeTag } from '@ashlar/protocol';
import { BLOCK_BYTES, checksum, serverId, volumeId } from '@ashlar/words';
import type { CopyStore, CreateOptions, Opened } from '../copy-store.ts';

/** What tests of this package make frames and copies from. */
export const VOLUME = volumeId('vol-0123456789abcdef0');
export const SERVER = serverId('server-1');

export interface Change {
  readonly op: Op;
  readonly offset: number;
  readonly length: number;
  /** What a write fills its bytes with. */
  readonly value?: number;
}

/** A record as a primary makes it: chain 0, to be completed by the store. */
export function logFrame(store: CopyStore, changes: readonly Change[], epoch = 1): Frame {
  let bytes = 0;
  let blocks = 0;
  for (const change of changes) {
    if (change.op !== Op.write) continue;
    bytes += change.length;
    blocks += blocksTouched(change.offset, change.length);
  }
  const frame = Frame.create(FrameKind.log, changes.length, blocks, new Uint8Array(bytes));
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.epoch = epoch;
  frame.senderEpoch = epoch;
  frame.firstSeq = store.lastSeq + 1;
  frame.lineage = store.lineage;
  frame.attachNumber = 1;
  frame.sessionCount = 1;
  frame.number = store.session.appliedThrough + changes.length;
  let at = 0;
  let crc = 0;
  changes.forEach((change, i) => {
    const { op, offset, length } = change;
    frame.setOperation(i, store.session.appliedThrough + i + 1, op, 0, offset, length, op === Op.write ? at : 0, crc);
    if (op !== Op.write) return;
    fillBytes(frame.payload.subarray(at, at + length), change.value ?? 0, offset);
    for (let from = offset; from < offset + length;) {
      const until = Math.min(offset + length, (Math.floor(from / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      frame.setCrc(crc++, checksum(frame.payload.subarray(at + from - offset, at + until - offset)));
      from = until;
    }
    at += length;
  });
  frame.seal();
  return frame;
}

/** Bytes that tell value and place, so that a block at a wrong place is noticed. */
export function fillBytes(into: Uint8Array, value: number, offset: number): void {
  for (let i = 0; i < into.length; i += 512) {
    const sector = Math.floor((offset + i) / 512);
    into.fill((value * 31 + sector * 7) & 0xff, i, i + 512);
    into[i] = value & 0xff;
    into[i + 1] = sector & 0xff;
  }
}

export function must(opened: Opened): CopyStore {
  if ('failed' in opened) throw new Error(`${opened.failed}: ${opened.detail}`);
  return opened.store;
}

export function smallCopy(overrides: Partial<CreateOptions> = {}): CreateOptions {
  return {
    volumeId: VOLUME, serverId: SERVER, bootId: 'boot-1', sizeBytes: 8 * 2 ** 20, lineage: 1, incarnation: 1,
    state: { promisedEpoch: 1, configuration: null, complete: true, fault: null },
    segmentBytes: 64 * 1024, journalBytesMax: 1024 * 1024, dataFileBytes: 4 * 2 ** 20, ...overrides,
  };
}
