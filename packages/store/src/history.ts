import { type Frame, FrameKind } from '@ashlar/protocol';
import type { Journal } from './journal.ts';
import { payloadIntact } from './record.ts';
import type { Segment } from './segment.ts';

/** The journal's records after `afterSeq` up to `lastSeq`, as many as the bounds allow, at least one; or up to where they cannot be read. */
export function readHistory(journal: Journal, afterSeq: number, lastSeq: number, recordsMax: number, bytesMax: number): readonly Frame[] | number {
  const frames: Frame[] = [];
  let bytes = 0;
  let next = afterSeq + 1;
  while (next <= lastSeq) {
    const wanted = next;
    const segment = journal.segments.find((candidate) => candidate.startSeq < wanted && wanted <= candidate.endSeq);
    if (segment === undefined) return afterSeq;
    for (let position = positionOf(journal, segment, next); position < segment.endPosition && next <= segment.endSeq;) {
      const record = journal.read(segment, position, 'whole');
      if (record === null || 'code' in record) return segment.endSeq;
      position = record.nextPosition;
      // Nobody needs the bytes of fills either.
      if (record.frame.kind !== FrameKind.log) continue;
      if (!payloadIntact(record.frame)) return segment.endSeq;
      if (frames.length === recordsMax || (frames.length > 0 && bytes + record.frame.payload.length > bytesMax)) return frames;
      frames.push(record.frame);
      bytes += record.frame.payload.length;
      next = record.frame.lastSeq + 1;
    }
    if (next <= segment.endSeq) return segment.endSeq;
  }
  return frames;
}

/**
 * Where the record with this sequence number lies; the segment's end if it cannot be found. Of the records before it nobody needs the bytes: it does
 * not matter that blocks were settled in their tiles.
 */
function positionOf(journal: Journal, segment: Segment, seq: number): number {
  for (let position = segment.positionBefore(seq - 1); position < segment.endPosition;) {
    const record = journal.read(segment, position, 'none');
    if (record === null || 'code' in record) break;
    if (record.frame.kind === FrameKind.log && record.frame.lastSeq >= seq) return position;
    position = record.nextPosition;
  }
  return segment.endPosition;
}
