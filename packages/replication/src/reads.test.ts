import { Frame, FrameKind } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { REPAIR_TRIES_MAX, REPEAT_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf } from './testing/group.ts';

/** The read that was granted last meets a bad block. */
function corrupt(p: Alone, extent: number, which = p.granted.length - 1): string[] {
  const read = p.granted[which];
  if (!read) throw new Error('nothing was granted');
  return p.do({ kind: 'read-corrupt', read, extent });
}
function fill(p: Alone, extent: number, epoch = 1): string[] {
  return p.from(B, { kind: 'fill', epoch, extent, frame: Frame.create(FrameKind.fill, 1, 0) });
}

describe('reads and leases', () => {
  test('a lease holds to the millisecond, of everybody whose acknowledgement a write needs', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.tick(TICK_MS);
    p.leases.untilMs = p.nowMs + 1;
    expect(p.request(1, [[1, 'read', 1]])).toEqual(['read 1 [1:1] until 0']);
    p.leases.untilMs = p.nowMs;
    expect(p.request(1, [[2, 'read', 1], [3, 'status', 1]])).toEqual(['lease: wait', 'timer tick +50']);
    expect(p.do({ kind: 'lease-granted' })).toEqual(['lease: wait']);
    p.leases.untilMs = p.nowMs + 100;
    expect(p.do({ kind: 'lease-granted' })).toEqual(['read 1 [1:2 1:3] until 0']);
    expect(p.do({ kind: 'lease-granted' })).toEqual([]);
    expect(new Alone(A).do({ kind: 'lease-granted' })).toEqual([]);
  });

  test('the tick looks at it too, and reads of sessions that are gone are dropped', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.leases.untilMs = 0;
    p.open(5, 5, { readOnly: true });
    p.open(6, 6, { readOnly: true });
    p.request(5, [[1, 'read', 1]]);
    p.request(6, [[1, 'read', 1]]);
    p.do({ kind: 'session-gone', key: 5 });
    p.leases.untilMs = Infinity;
    expect(p.tick(TICK_MS)).toEqual(['read 1 [6:1] until 0']);
    p.leases.untilMs = 0;
    p.request(6, [[2, 'read', 1]]);
    p.do({ kind: 'session-gone', key: 6 });
    p.leases.untilMs = Infinity;
    expect(p.tick(TICK_MS)).toEqual([]);
  });

  test('a lease that is granted is no sync that has ended', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.request(1, [[1, 'flush']])).toContain('sync');
    expect(p.do({ kind: 'lease-granted' })).toEqual([]);
    p.request(1, [[2, 'write', 1]]);
    expect(p.request(1, [[3, 'flush']])).not.toContain('sync');
  });

  test('a read that waits is not carried out by a primary that has stepped down and leads again', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.leases.untilMs = 0;
    p.request(1, [[1, 'read', 1]]);
    p.configure(configurationOf([A, B], { epoch: 2 }));
    p.saved();
    expect(p.do({ kind: 'lease-granted' })).toEqual([]);
    expect(p.core.state.leader?.reads).toEqual([]);
  });
});

describe('reads and writes under way', () => {
  test('only what overlaps waits, and for the last that does', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 4], [2, 'write', 5]]);
    p.request(1, [[3, 'write', 5.5]]);
    p.request(1, [[4, 'trim', 9]]);
    expect(p.request(1, [[10, 'read', 3], [11, 'read', 4], [12, 'read', 3.5], [13, 'read', 7], [14, 'read', 6.5]])).toEqual([
      'read 1 [1:10 1:13 1:14] until 0',
      'read 1 [1:11 1:12] until 3',
    ]);
    expect(p.request(1, [[15, 'read', 5], [16, 'status', 9]])).toEqual(['read 1 [1:15 1:16] until 5']);
    expect(p.request(1, [[17, 'read', 1]])).toEqual(['read 1 [1:17] until 0']);
    p.progress(B, 3);
    expect(p.request(1, [[18, 'read', 4], [19, 'read', 5]])).toEqual(['read 1 [1:18] until 0', 'read 1 [1:19] until 4']);
  });
});

describe('a read that meets a bad block', () => {
  test('has it mended by a mirror that follows, and is made anew', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.tick(TICK_MS);
    p.request(1, [[1, 'read', 1], [2, 'read', 300]]);
    expect(corrupt(p, 1)).toEqual(['event repair-asked extent=1 from=b', 'b < repair epoch=1 extent=1', 'timer tick +50']);
    expect(corrupt(p, 0, 0)).toEqual(['event repair-asked extent=0 from=b', 'b < repair epoch=1 extent=0']);
    expect(fill(p, 1, 2)).toEqual([]);
    expect(fill(p, 0)).toEqual(['fill 0-0 epoch=0 sender=0 committed=0 number=0', 'read 1 [1:1] until 0']);
    expect(p.core.state.leader?.repairs).toMatchObject([{ extent: 1 }]);
    p.do({ kind: 'relation-lost', peer: B });
    p.request(1, [[3, 'read', 1]]);
    expect(corrupt(p, 0)).toEqual(['event repair-asked extent=0 from=c', 'c < repair epoch=1 extent=0']);
  });

  test('of a session that is gone is mended, and not made', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.open(5, 5, { readOnly: true });
    p.request(5, [[1, 'read', 1]]);
    corrupt(p, 0);
    p.do({ kind: 'session-gone', key: 5 });
    expect(fill(p, 0)).not.toContain('read 1 [5:1] until 0');
  });

  test('asks the mirrors in turn, once in a while, so many times; then it fails', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.request(1, [[1, 'read', 1]]);
    corrupt(p, 0);
    expect(p.tick(REPEAT_MS - 1)).toEqual(['timer tick +50']);
    const asked: string[] = [];
    p.nowMs += 1;
    for (let n = 1; n <= REPAIR_TRIES_MAX; n++) asked.push(...p.tick(n === 1 ? 0 : REPEAT_MS).filter((line) => !line.startsWith('timer')));
    expect(asked).toEqual([
      'event repair-asked extent=0 from=c',
      'c < repair epoch=1 extent=0',
      'event repair-asked extent=0 from=b',
      'b < repair epoch=1 extent=0',
      'event repair-asked extent=0 from=c',
      'c < repair epoch=1 extent=0',
      'event repair-asked extent=0 from=b',
      'b < repair epoch=1 extent=0',
      'event repair-asked extent=0 from=c',
      'c < repair epoch=1 extent=0',
      'event read-failed extent=0 tried=6',
      'reply 1 1 [1] ioError',
    ]);
    expect(p.tick(REPEAT_MS)).toEqual([]);
  });

  test('two of them are both asked for again', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'read', 1], [2, 'read', 300]]);
    corrupt(p, 0, 0);
    corrupt(p, 1, 1);
    expect(p.tick(REPEAT_MS).filter((line) => line.includes('<'))).toEqual(['b < repair epoch=1 extent=0', 'b < repair epoch=1 extent=1']);
  });

  test('in an epoch that is over, or at a copy that does not lead: fails, and never lies', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'read', 1]]);
    p.configure(configurationOf([A, B], { epoch: 2 }));
    p.saved();
    p.adopted(B);
    p.progress(B);
    expect(corrupt(p, 0)).toEqual(['event read-failed extent=0 tried=0', 'reply 1 1 [1] ioError']);
    const q = new Alone(B);
    q.open(1, 1, { epoch: 0, readOnly: true });
    q.request(1, [[1, 'read', 1]], { epoch: 0 });
    expect(corrupt(q, 0)).toEqual(['event read-failed extent=0 tried=0', 'reply 1 0 [1] ioError']);
  });
});
