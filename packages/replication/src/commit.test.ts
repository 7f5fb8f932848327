import { describe, expect, test } from 'vitest';
import { LEASE_MS, REPEAT_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

describe('what an answer waits for', () => {
  test('each required copy, and only for what it has', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    expect(p.request(1, [[1, 'write', 1]])).toEqual([
      'append 2-2 epoch=1 sender=1 committed=1 number=1',
      'b < append frame=2-2 epoch=1 sender=1 committed=1 number=1',
      'c < append frame=2-2 epoch=1 sender=1 committed=1 number=1',
    ]);
    expect(p.request(1, [[2, 'write', 2], [3, 'write', 3]])).toEqual([
      'append 3-4 epoch=1 sender=1 committed=1 number=3',
      'b < append frame=3-4 epoch=1 sender=1 committed=1 number=3',
      'c < append frame=3-4 epoch=1 sender=1 committed=1 number=3',
    ]);
    expect(p.progress(B, 4)).toEqual([]);
    expect(p.progress(C, 2)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    expect(p.progress(C, 2)).toEqual([]);
    expect(p.progress(C, 4)).toEqual(['commit 4', 'lease: committed 1 4', 'reply 1 1 [2 3] ok']);
  });

  test('one copy alone tells nobody of its commits', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    p.tick(TICK_MS);
    expect(p.request(1, [[1, 'write', 1]])).toEqual(['append 2-2 epoch=1 sender=1 committed=1 number=1', 'commit 2', 'reply 1 1 [1] ok']);
    expect(p.request(1, [[2, 'write', 1], [3, 'fua', 1]])).toEqual(['append 3-4 epoch=1 sender=1 committed=2 number=3', 'commit 4', 'reply 1 1 [2] ok', 'sync']);
  });

  test('a session that was replaced meanwhile hears of nothing that it had under way', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    p.request(1, [[2, 'flush']]);
    expect(p.open(2, 2)).toEqual([
      'answer 1 refused sessionId=1 epoch=1 reason=old-session',
      'append 3-3 epoch=1 sender=1 committed=1 number=1',
      'b < append frame=3-3 epoch=1 sender=1 committed=1 number=1',
    ]);
    expect(p.progress(B)).toEqual([
      'commit 3',
      'lease: committed 1 3',
      'answer 2 opened sessionId=2 epoch=1 generation={attachNumber=1 count=2} sizeBytes=1073741824 appliedThrough=1',
    ]);
    p.synced();
    expect(p.progress(B, 3, 3)).toEqual([]);
  });

  test('a flush waits for our disk and for that of each mirror; each is told once', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.synced(1);
    p.progress(B, 1, 1);
    expect(p.request(1, [[1, 'flush']])).toEqual(['c < sync epoch=1']);
    expect(p.request(1, [[2, 'flush']])).toEqual([]);
    expect(p.progress(C, 1, 1)).toEqual(['reply 1 1 [1] ok', 'reply 1 1 [2] ok']);
    p.request(1, [[3, 'write', 1]]);
    expect(p.request(1, [[4, 'flush']])).toEqual(['sync', 'b < sync epoch=1', 'c < sync epoch=1']);
    p.progress(B, 2);
    p.progress(C, 2, 2);
    p.request(1, [[5, 'write', 1]]);
    expect(p.request(1, [[6, 'flush']])).toEqual(['b < sync epoch=1', 'c < sync epoch=1']);
    expect(p.synced(2)).toEqual(['sync']);
    expect(p.progress(B, 3, 2)).toEqual(['reply 1 1 [4] ok']);
    expect(p.progress(C, 3, 2)).toEqual(['commit 3', 'lease: committed 1 3', 'reply 1 1 [5] ok']);
    p.synced(3);
    expect(p.progress(B, 3, 3)).toEqual([]);
    expect(p.progress(C, 3, 3)).toEqual(['reply 1 1 [6] ok']);
  });

  test('a forced write is answered when it is everywhere and stable, what came beside it before', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'fua', 1], [2, 'write', 2]]);
    expect(p.progress(B, 3)).toEqual(['commit 3', 'lease: committed 1 3', 'reply 1 1 [2] ok', 'sync', 'b < sync epoch=1']);
    expect(p.request(1, [[3, 'fua', 1]])).toEqual([
      'append 4-4 epoch=1 sender=1 committed=3 number=3',
      'b < append frame=4-4 epoch=1 sender=1 committed=3 number=3',
    ]);
    expect(p.synced()).toEqual([]);
    expect(p.progress(B, 4, 3)).toEqual(['commit 4', 'lease: committed 1 4', 'b < sync epoch=1', 'reply 1 1 [1] ok']);
    expect(p.progress(B, 4, 4)).toEqual(['reply 1 1 [3] ok']);
  });

  test('strict: everything waits for both disks', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B], { durability: 'strict' }));
    p.adopted(B);
    p.progress(B);
    expect(p.open(1, 1)).toEqual(['append 1-1 epoch=1 sender=1 committed=0 number=0', 'b < append frame=1-1 epoch=1 sender=1 committed=0 number=0', 'sync']);
    expect(p.progress(B, 1, 1)).toEqual([]);
    expect(p.synced()).toEqual([
      'commit 1',
      'lease: committed 1 1',
      'answer 1 opened sessionId=1 epoch=1 generation={attachNumber=1 count=1} sizeBytes=1073741824 appliedThrough=0',
    ]);
    p.request(1, [[1, 'write', 1]]);
    p.synced();
    expect(p.progress(B, 2, 1)).toEqual([]);
    p.request(1, [[2, 'write', 1]]);
    expect(p.progress(B, 3, 2)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    expect(p.synced(2)).toEqual(['sync']);
  });
});

describe('when a primary begins to serve', () => {
  test('not before the mirror has all that it began with', () => {
    const p = longer(3);
    p.leads(configurationOf([A, B], { epoch: 2 }));
    p.adopted(B, { lastSeq: 2 });
    expect(p.progress(B, 2)).toEqual([]);
    expect(p.open(9, 9)).toEqual([]);
    expect(p.progress(B, 3)).toEqual([
      'event serving epoch=2 seq=3',
      'tell status 2 serving: a in-sync, b in-sync',
      'commit 3',
      'lease: committed 2 3',
      'append 4-4 epoch=2 sender=2 committed=3 number=2',
    ]);
  });

  test('not while its own grant to the one before runs, to the millisecond', () => {
    const p = longer(1);
    p.leases.given = { to: B, epoch: 2, untilMs: p.nowMs + 75 };
    p.leads(configurationOf([A, C], { epoch: 2 }));
    p.adopted(C);
    p.progress(C);
    expect(p.core.serving).toBe(false);
    p.tick(74);
    expect(p.core.serving).toBe(false);
    p.tick(1);
    expect(p.core.serving).toBe(true);
    expect(p.core.state.grants.size).toBe(0);
  });

  test('a grant that has run out is not waited for, and what it gave itself is none', () => {
    for (const given of [{ to: B, epoch: 2, untilMs: 10_000 }, { to: A, epoch: 2, untilMs: 99_000 }]) {
      const p = longer(1);
      p.leases.given = given;
      p.leads(configurationOf([A], { epoch: 2, copiesWanted: 1 }));
      expect(p.core.serving).toBe(true);
      expect(p.core.state.lastLed).toEqual(given.to === B ? { by: B, heardMs: 10_000 - LEASE_MS } : null);
    }
  });

  test('not with a mirror that had followed and does so no more', () => {
    const p = longer(1);
    p.leases.given = { to: C, epoch: 2, untilMs: p.nowMs + 75 };
    p.leads(configurationOf([A, B], { epoch: 2 }));
    p.adopted(B);
    p.progress(B);
    expect(p.do({ kind: 'relation-lost', peer: B })).toEqual(['b < adopt epoch=2 configuration=2']);
    p.tick(80);
    expect(p.core.serving).toBe(false);
    p.adopted(B, { attempt: 51 });
    p.progress(B, 1, 0, { attempt: 51 });
    expect(p.core.serving).toBe(true);
  });
});

describe('orders that may be lost', () => {
  test('a flush is ordered again of those who owe it, once in a while', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.request(1, [[1, 'flush']]);
    p.progress(C, 1, 1);
    p.leases.heard.set(B, p.nowMs + 300);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    p.tick(TICK_MS);
    p.tick(TICK_MS);
    expect(p.tick(TICK_MS)).toEqual(['b < sync epoch=1', 'timer tick +50']);
    p.synced();
    expect(p.tick(REPEAT_MS - 1)).toEqual(['timer tick +50']);
    expect(p.tick(1)).toEqual(['b < sync epoch=1', 'timer tick +50']);
    expect(p.progress(B, 1, 1)).toEqual(['reply 1 1 [1] ok']);
    expect(p.tick(REPEAT_MS)).toEqual([]);
  });

  test('strict: a mirror that owes a sync of a write is told, one that owes nothing is not', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B], { durability: 'strict' }));
    p.adopted(B);
    p.progress(B);
    p.open(1, 1);
    expect(p.tick(REPEAT_MS)).toEqual(['b < sync epoch=1', 'timer tick +50']);
    p.synced();
    p.progress(B, 1, 1);
    expect(p.tick(REPEAT_MS)).toEqual([]);
  });

  test('strict: settling what was found needs both disks, and nothing else tells a mirror to', () => {
    const p = longer(2);
    p.leads(configurationOf([A, B], { epoch: 2, durability: 'strict' }));
    p.adopted(B);
    expect(p.progress(B)).toEqual(['sync']);
    expect(p.tick(REPEAT_MS)).toEqual([
      'b < sync epoch=2',
      'tell status 2 not serving: a in-sync, b in-sync',
      'timer tick +50',
    ]);
    p.synced();
    expect(p.progress(B, 2, 2)).toEqual([
      'event serving epoch=2 seq=2',
      'tell status 2 serving: a in-sync, b in-sync',
      'commit 2',
      'lease: committed 2 2',
    ]);
  });

  test('reads that wait for a lease go on with the next word of a mirror', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.leases.untilMs = p.nowMs;
    expect(p.request(1, [[1, 'read', 1]])).toEqual(['lease: wait']);
    expect(p.progress(B)).toEqual(['lease: wait']);
    p.leases.untilMs = p.nowMs + 1;
    expect(p.progress(B)).toEqual(['read 1 [1:1] until 0']);
  });
});

describe('a copy that catches up', () => {
  test('is required, synced, and proposed as soon as it has all', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { learners: [C], copiesWanted: 3 }));
    p.request(1, [[1, 'write', 1]]);
    p.progress(B);
    p.adopted(C, { lastSeq: 0, epochStarts: [], incarnation: 33 });
    expect(p.progress(C, 1)).toEqual([]);
    expect(p.progress(C, 2)).toEqual(['c < sync epoch=1', 'sync', 'b < sync epoch=1']);
    p.request(1, [[2, 'write', 1]]);
    expect(p.progress(B)).toEqual([]);
    expect(p.progress(C, 3)).toEqual(['commit 3', 'lease: committed 1 3', 'reply 1 1 [2] ok']);
    expect(p.progress(C, 3, 3)).toEqual([]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50', 'tell propose baseEpoch=1 change={add member={serverId=c incarnation=33}} reason=caught up']);
  });
});

/** A copy that has followed B in epoch 1, with so many records of it. */
function longer(records: number): Alone {
  const before = new Alone(B).serves(configurationOf([B], { copiesWanted: 1 }));
  for (let n = 1; n < records; n++) before.request(1, [[n, 'write', n]]);
  return new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) }, before.log);
}
