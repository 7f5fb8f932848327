import { Frame, FrameKind, Op, OpFlag, volumeTag } from '@ashlar/protocol';
import { BLOCK_BYTES } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, configurationOf, FRESH, VOLUME } from './testing/group.ts';

const LAST = 2 ** 30 / BLOCK_BYTES - 1;
const alone = (): Alone => new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));

describe('a session is opened', () => {
  test('with a record of its generation, that names nothing else', () => {
    const p = alone();
    const record = p.log.frames[0];
    expect(record).toMatchObject({ count: 1, blockCount: 0, attachNumber: 1, sessionCount: 1, lineage: 1, epoch: 1, senderEpoch: 1, firstSeq: 1, number: 0, payloadBytes: 0 });
    expect(record?.op(0)).toBe(Op.session);
    expect(record?.hasVolumeTag(volumeTag(VOLUME))).toBe(true);
    expect(p.core.state.leader?.pending).toEqual([]);
  });

  test('in the place of an older one; those that only read stay', () => {
    const p = alone();
    p.open(7, 0, { readOnly: true });
    expect(p.open(2, 2)).toEqual([
      'answer 1 refused sessionId=1 epoch=1 reason=old-session',
      'append 2-2 epoch=1 sender=1 committed=1 number=0',
      'commit 2',
      'answer 2 opened sessionId=2 epoch=1 generation={attachNumber=1 count=2} sizeBytes=1073741824 appliedThrough=0',
    ]);
    expect(p.core.counts.refusedSessions).toBe(1);
    expect(p.request(7, [[1, 'read', 1]], { count: 0 })).toEqual(['read 1 [7:1] until 0']);
    expect(p.request(1, [[1, 'read', 1]])).toEqual(['answer 1 refused sessionId=1 epoch=1 reason=old-session']);
    expect(p.core.counts.refusedSessions).toBe(2);
    expect(p.request(3, [[1, 'read', 1]])).toEqual(['answer 3 refused sessionId=3 epoch=1 reason=gap']);
    expect(p.core.counts.refusedSessions).toBe(2);
  });

  test('again: the answer is repeated if there was one; another with the same generation is refused', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.open(2, 2);
    expect(p.open(2, 2)).toEqual([]);
    p.progress(B);
    expect(p.open(2, 2)).toEqual(['answer 2 opened sessionId=2 epoch=1 generation={attachNumber=1 count=2} sizeBytes=1073741824 appliedThrough=0']);
    expect(p.open(3, 2)).toEqual(['answer 3 refused sessionId=3 epoch=1 reason=old-session']);
    expect(p.open(4, 4, { readOnly: true })).toEqual([
      'answer 4 opened sessionId=4 epoch=1 generation={attachNumber=1 count=4} sizeBytes=1073741824 appliedThrough=0',
    ]);
    expect(p.open(4, 2)).toEqual(['answer 4 refused sessionId=4 epoch=1 reason=old-session']);
    expect(p.open(2, 5)).toEqual([
      'answer 2 refused sessionId=2 epoch=1 reason=old-session',
      'append 3-3 epoch=1 sender=1 committed=2 number=0',
      'b < append frame=3-3 epoch=1 sender=1 committed=2 number=0',
    ]);
    expect(p.open(2, 4)).toEqual(['answer 2 refused sessionId=2 epoch=1 reason=old-session']);
    expect(p.core.counts.refusedSessions).toBe(5);
  });

  test('of another attach: an older is refused, a newer makes us ask', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1, attachNumber: 1 }));
    expect(p.open(2, 2, { attachNumber: 0 })).toEqual(['answer 2 refused sessionId=2 epoch=1 reason=old-attach']);
    expect(p.core.counts.refusedSessions).toBe(1);
    expect(p.open(2, 2, { attachNumber: 2 })).toEqual(['tell ask epoch=1', 'answer 2 refused sessionId=2 epoch=1 reason=not-serving']);
    expect(p.open(2, 2, { epoch: 2 })).toEqual(['answer 2 refused sessionId=2 epoch=1 reason=not-primary']);
    expect(p.core.counts.refusedSessions).toBe(1);
  });

  test('where nobody leads', () => {
    const p = new Alone(A);
    expect(p.open(1, 1, { epoch: 4 })).toEqual(['answer 1 refused sessionId=1 epoch=0 reason=not-primary']);
    expect(new Alone(A, { ...FRESH, promisedEpoch: 3, configuration: configurationOf([B, A], { epoch: 3 }) }).open(1, 1, { epoch: 2 })).toEqual([
      'answer 1 refused sessionId=1 epoch=3 reason=not-primary',
    ]);
    p.do({ kind: 'session-gone', key: 1 });
  });

  test('before the primary serves: answered when it does, unless it has gone', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B]));
    p.tick(TICK_MS);
    for (const key of [1, 2, 3]) expect(p.open(key, key)).toEqual([]);
    p.do({ kind: 'session', key: 1, message: { kind: 'close', sessionId: 1 } });
    p.do({ kind: 'session-gone', key: 2 });
    p.adopted(B);
    expect(p.progress(B)).toEqual([
      'event serving epoch=1 seq=0',
      'tell status 1 serving: a in-sync, b in-sync',
      'append 1-1 epoch=1 sender=1 committed=0 number=0',
      'b < append frame=1-1 epoch=1 sender=1 committed=0 number=0',
    ]);
    expect(p.core.state.leader?.opens.size).toBe(0);
  });

  test('before the primary serves: keeps it looking', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B]));
    const { leader } = p.core.state;
    if (leader) leader.ticking = false;
    expect(p.open(1, 1)).toEqual(['timer tick +50']);
  });

  test('and closed, or lost with its host', () => {
    const p = alone();
    p.open(2, 2, { readOnly: true });
    const probe = (key: number): string[] => p.do({ kind: 'session', key, message: { kind: 'probe', sessionId: key, epoch: 1, sentAtMs: 77 } });
    expect(probe(1)).toEqual(['answer 1 alive sessionId=1 epoch=1 sentAtMs=77']);
    p.do({ kind: 'session', key: 1, message: { kind: 'close', sessionId: 1 } });
    expect(probe(1)).toEqual(['answer 1 refused sessionId=1 epoch=1 reason=gap']);
    expect(probe(2)).toEqual(['answer 2 alive sessionId=2 epoch=1 sentAtMs=77']);
    p.do({ kind: 'session-gone', key: 2 });
    expect(probe(2)).toEqual(['answer 2 refused sessionId=2 epoch=1 reason=gap']);
  });

  test('while its record is under way nothing is taken, and a replaced one is never opened', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.open(2, 2);
    expect(p.request(2, [[1, 'write', 1]])).toEqual(['answer 2 refused sessionId=2 epoch=1 reason=gap']);
    expect(p.progress(B)).toEqual(['commit 2', 'lease: committed 1 2']);
    p.open(3, 3);
    p.do({ kind: 'store-failed', fault: 'no-space' });
    expect(p.progress(B)).toEqual(['commit 3', 'lease: committed 1 3']);
  });

  test('on the last copy whose disk has failed: without a record', () => {
    const p = alone();
    p.do({ kind: 'store-failed', fault: 'sync-failed' });
    expect(p.open(2, 2)).toEqual(['answer 2 opened sessionId=2 epoch=1 generation={attachNumber=1 count=2} sizeBytes=1073741824 appliedThrough=0']);
    expect(p.request(2, [[1, 'read', 1]])).toEqual(['read 1 [2:1] until 0']);
    expect(p.request(2, [[2, 'write', 1], [3, 'fua', 1], [4, 'flush'], [5, 'cache', 1]])).toEqual(['reply 2 1 [5] ok', 'reply 2 1 [2 3 4] ioError']);
    expect(p.request(2, [[6, 'fua', 1]])).toEqual(['reply 2 1 [6] ioError']);
  });
});

describe('requests', () => {
  test('of another generation than the session\'s are counted, and not carried out', () => {
    const p = alone();
    expect(p.request(1, [[1, 'write', 1]], { count: 2 })).toEqual([]);
    expect(p.request(1, [[1, 'write', 1]], { attachNumber: 2 })).toEqual([]);
    expect(p.request(1, [[1, 'write', 1]], { epoch: 2 })).toEqual([]);
    expect(p.core.counts.refusedSessions).toBe(3);
    expect(p.request(1, [[1, 'write', 1]], { number: 1 })).toHaveLength(3);
    expect(p.request(1, [[1, 'write', 1]], { number: 1 })).toEqual([]);
    expect(p.request(1, [[1, 'write', 1]], { number: 3 })).toEqual(['answer 1 refused sessionId=1 epoch=1 reason=gap']);
  });

  test('each kind has its way', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.request(1, [[1, 'read', 1], [2, 'status', 1], [3, 'cache', 1], [4, 'trim', 1], [5, 'write', 2], [6, 'fua', 3], [7, 'flush']])).toEqual([
      'reply 1 1 [3] ok',
      'read 1 [1:1 1:2] until 0',
      'append 2-4 epoch=1 sender=1 committed=1 number=6',
      'b < append frame=2-4 epoch=1 sender=1 committed=1 number=6',
      'sync',
      'b < sync epoch=1',
    ]);
    expect(p.request(1, [[8, 'cache', 1]])).toEqual(['reply 1 1 [8] ok']);
    expect(p.request(1, [[9, 'read', 100]])).toEqual(['read 1 [1:9] until 0']);
    expect(p.progress(B)).toEqual(['commit 4', 'lease: committed 1 4', 'reply 1 1 [4 5] ok']);
  });

  test('read what was written before them in the same frame, and wait for nothing else in it', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.request(1, [[1, 'read', 1], [2, 'write', 1], [3, 'read', 1], [4, 'read', 2], [5, 'trim', 2], [6, 'read', 1.5]])).toEqual([
      'read 1 [1:1 1:4] until 0',
      'append 2-3 epoch=1 sender=1 committed=1 number=5',
      'b < append frame=2-3 epoch=1 sender=1 committed=1 number=5',
      'read 1 [1:3 1:6] until 3',
    ]);
  });

  test('beyond the end are invalid, at the end they are not', () => {
    const p = alone();
    expect(p.request(1, [[1, 'write', LAST + 0.5], [2, 'read', LAST + 0.5], [3, 'write', LAST], [4, 'read', LAST], [5, 'trim', LAST + 1]])).toEqual([
      'reply 1 1 [1 2 5] invalid',
      'append 2-2 epoch=1 sender=1 committed=1 number=3',
      'read 1 [1:4] until 2',
      'commit 2',
      'reply 1 1 [3] ok',
    ]);
    expect(p.log.frames.at(-1)?.requestNumber(0)).toBe(3);
    expect(p.request(1, [[6, 'write', LAST + 0.5]])).toEqual(['reply 1 1 [6] invalid']);
  });

  test('of a client are never records of sessions', () => {
    const p = alone();
    const frame = Frame.create(FrameKind.request, 2, 0);
    Object.assign(frame, { epoch: 1, attachNumber: 1, sessionCount: 1, number: 1 });
    frame.setOperation(0, 1, Op.session, 0, 0, 0, 0, 0);
    frame.setOperation(1, 2, Op.trim, 0, 0, BLOCK_BYTES, 0, 0);
    expect(p.sends(1, frame)).toEqual(['reply 1 1 [1] invalid', 'append 2-2 epoch=1 sender=1 committed=1 number=2', 'commit 2', 'reply 1 1 [2] ok']);
    expect(p.log.frames.at(-1)?.count).toBe(1);
  });

  test('of a session that only reads: nothing is changed', () => {
    const p = alone();
    p.open(2, 0, { readOnly: true });
    expect(p.request(2, [[1, 'write', 1], [2, 'trim', 1], [3, 'read', 1], [4, 'flush']], { count: 0 })).toEqual([
      'reply 2 1 [1 2] invalid',
      'read 1 [2:3] until 0',
      'sync',
    ]);
  });
});

describe('the record of a frame', () => {
  test('has its changes, their bytes and checksums, and the highest number', () => {
    const p = alone();
    p.request(1, [[1, 'read', 9], [2, 'write', 1.5], [3, 'trim', 8], [4, 'flush'], [5, 'fua', 2], [6, 'cache', 3], [7, 'write', 7]]);
    const record = p.log.frames.at(-1);
    if (!record) throw new Error('there is a record');
    expect(record).toMatchObject({ count: 4, blockCount: 4, firstSeq: 2, lastSeq: 5, number: 7, committedSeq: 1, payloadBytes: 3 * BLOCK_BYTES, attachNumber: 1, sessionCount: 1 });
    const operations = [0, 1, 2, 3].map((i) => [record.requestNumber(i), record.op(i), record.opFlags(i), record.offsetBytes(i) / BLOCK_BYTES, record.lengthBytes(i), record.payloadAt(i) / BLOCK_BYTES, record.crcIndex(i)]);
    expect(operations).toEqual([
      [2, Op.write, 0, 1.5, BLOCK_BYTES, 0, 0],
      [3, Op.trim, 0, 8, BLOCK_BYTES, 0, 2],
      [5, Op.write, OpFlag.fua, 2, BLOCK_BYTES, 1, 2],
      [7, Op.write, 0, 7, BLOCK_BYTES, 2, 3],
    ]);
    expect([0, 1, 2, 3].map((k) => record.crc(k))).toEqual([2000, 2001, 5000, 7000]);
  });

  test('without bytes has no payload', () => {
    const p = alone();
    p.request(1, [[1, 'trim', 1], [2, 'read', 1]]);
    expect(p.log.frames.at(-1)).toMatchObject({ payloadBytes: 0, blockCount: 0, count: 1 });
  });

  test('leaves out what was applied before; that is answered, a forced write as a flush', () => {
    const p = alone();
    p.request(1, [[1, 'write', 1], [2, 'write', 2], [3, 'fua', 3]]);
    p.open(2, 2);
    expect(p.request(2, [[1, 'write', 1], [2, 'write', 2], [3, 'fua', 3], [4, 'write', 4]])).toEqual([
      'reply 2 1 [1 2] ok',
      'append 6-6 epoch=1 sender=1 committed=5 number=4',
      'commit 6',
      'reply 2 1 [4] ok',
    ]);
    expect(p.core.counts.deduplicatedRetries).toBe(3);
    const record = p.log.frames.at(-1);
    expect(record).toMatchObject({ count: 1, blockCount: 1, number: 4 });
    expect([record?.requestNumber(0), record?.crc(0), record?.payloadAt(0)]).toEqual([4, 4000, 3 * BLOCK_BYTES]);
    expect(p.synced()).toEqual(['reply 2 1 [3] ok']);
    expect(p.request(2, [[2, 'write', 2]])).toEqual(['reply 2 1 [2] ok']);
    p.request(2, [[2, 'write', 2], [5, 'trim', 5]]);
    expect(p.log.frames.at(-1)).toMatchObject({ count: 1, blockCount: 0, payloadBytes: 0, number: 5 });
  });

  test('of a new attach counts anew', () => {
    const p = alone();
    p.request(1, [[100, 'write', 1]]);
    p.configure(configurationOf([A], { copiesWanted: 1, epoch: 2, attachNumber: 2 }));
    p.saved();
    expect(p.open(2, 1, { attachNumber: 2 })).toEqual([
      'append 3-3 epoch=2 sender=2 committed=2 number=0',
      'commit 3',
      'answer 2 opened sessionId=2 epoch=2 generation={attachNumber=2 count=1} sizeBytes=1073741824 appliedThrough=0',
    ]);
    expect(p.request(2, [[1, 'write', 1]], { attachNumber: 2, count: 1 })[0]).toBe('append 4-4 epoch=2 sender=2 committed=3 number=1');
  });
});

describe('one copy\'s own bytes', () => {
  const copy = (): Alone => new Alone(B);

  test('are read without a session of the volume, whatever its role', () => {
    const p = copy();
    p.log.sizeBytes = 2 ** 31;
    expect(p.open(5, 9, { epoch: 0, readOnly: true })).toEqual([
      'answer 5 opened sessionId=5 epoch=0 generation={attachNumber=1 count=9} sizeBytes=2147483648 appliedThrough=0',
    ]);
    expect(p.open(5, 9, { epoch: 0 })).toEqual(['answer 5 refused sessionId=5 epoch=0 reason=not-primary']);
    expect(p.request(5, [[1, 'read', 2 * LAST + 1], [2, 'read', 2 * LAST + 1.5], [3, 'status', 1], [4, 'write', 1], [5, 'flush']], { epoch: 0 })).toEqual([
      'reply 5 0 [2 4 5] invalid',
      'read 0 [5:1 5:3] until 0',
    ]);
    expect(p.request(5, [[1, 'read', 1]], { epoch: 0 })).toEqual(['read 0 [5:1] until 0']);
    expect(p.request(5, [[1, 'flush']], { epoch: 0 })).toEqual(['reply 5 0 [1] invalid']);
  });

  test('a probe of it is answered', () => {
    expect(copy().do({ kind: 'session', key: 5, message: { kind: 'probe', sessionId: 5, epoch: 0, sentAtMs: 3 } })).toEqual([
      'answer 5 alive sessionId=5 epoch=0 sentAtMs=3',
    ]);
    expect(copy().do({ kind: 'session', key: 5, message: { kind: 'close', sessionId: 5 } })).toEqual([
      'answer 5 refused sessionId=5 epoch=0 reason=not-primary',
    ]);
  });
});
