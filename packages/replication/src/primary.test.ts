import { describe, expect, test } from 'vitest';
import { LATE_MS, REPEAT_MS, SILENT_MS, STUCK_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

/** Ticks as the timer would, for so long; what the last of them did. */
function ticks(p: Alone, ms: number): string[] {
  let lines: string[] = [];
  for (let gone = 0; gone < ms; gone += TICK_MS) lines = p.tick(TICK_MS);
  return lines;
}

describe('a copy begins to lead', () => {
  test('it asks everybody to follow, and says so', () => {
    const p = new Alone(A);
    expect(p.leads(configurationOf([A, B], { learners: [B, C] }))).toEqual([
      'b < adopt epoch=1 configuration=1',
      'c < adopt epoch=1 configuration=1',
      'event leading epoch=1 members=2 settleSeq=0',
      'timer tick +50',
      'tell status 1 not serving: a in-sync, b catching-up, c catching-up',
    ]);
    expect(p.core.counts.promotions).toBe(1);
    expect(p.core.role).toBe('primary');
  });

  test('alone, without mirrors, it serves at once', () => {
    expect(new Alone(A).leads(configurationOf([A], { copiesWanted: 1 }))).toEqual([
      'event leading epoch=1 members=1 settleSeq=0',
      'timer tick +50',
      'tell status 1 not serving: a in-sync',
      'event serving epoch=1 seq=0',
      'tell status 1 serving: a in-sync',
    ]);
  });

  test('whom it followed has been silent since it was last heard', () => {
    const before = configurationOf([B, A, C]);
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: before });
    p.leases.given = { to: B, epoch: 2, untilMs: p.nowMs };
    p.leads(configurationOf([A, B, C], { epoch: 2 }));
    const heard = [B, C].map((id) => p.core.state.leader?.peers.get(id)?.lastHeardMs);
    expect(heard).toEqual([p.nowMs - 800, p.nowMs]);
  });
});

describe('each look at what is unfinished', () => {
  test('asks again whoever does not follow, at most once in a while', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B]));
    expect(p.tick(REPEAT_MS - 1)).toEqual(['timer tick +50']);
    expect(p.tick(1)).toEqual(['b < adopt epoch=1 configuration=1', 'timer tick +50']);
    p.adopted(B);
    expect(p.tick(REPEAT_MS - 1)).toEqual([
      'tell status 1 not serving: a in-sync, b in-sync',
      'timer tick +50',
    ]);
    expect(p.core.state.leader?.peers.get(B)?.phase).toBe('following');
    // Neither our order nor its first progress arrived.
    expect(p.tick(1)).toEqual([
      'tell status 1 not serving: a in-sync, b catching-up',
      'timer tick +50',
    ]);
    expect(p.tick(TICK_MS)).toEqual(['b < adopt epoch=1 configuration=1', 'timer tick +50']);
  });

  test('ends when nothing is unfinished: an idle healthy volume has no timer', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.tick(TICK_MS)).toEqual([]);
    p.request(1, [[1, 'write', 1]]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    p.progress(B);
    expect(p.tick(TICK_MS)).toEqual([]);
    p.request(1, [[2, 'flush']]);
    p.do({ kind: 'peer-up', peer: B });
    expect(p.request(1, [[3, 'write', 1]])).toEqual([
      'append 3-3 epoch=1 sender=1 committed=2 number=3',
      'b < append frame=3-3 epoch=1 sender=1 committed=2 number=3',
      'timer tick +50',
      'b < sync epoch=1',
    ]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
  });

  test.each([
    ['reads that wait for a lease', (p: Alone) => {
      p.leases.untilMs = 0;
      p.request(1, [[1, 'read', 1]]);
    }],
    ['reads that wait for good bytes', (p: Alone) => {
      p.request(1, [[1, 'read', 1]]);
      for (const read of p.granted) p.do({ kind: 'read-corrupt', read, extent: 0 });
    }],
    ['flushes', (p: Alone) => {
      p.request(1, [[1, 'flush']]);
      p.progress(B, 1, 1);
    }],
    ['writes that wait for our own disk', (p: Alone) => {
      p.do({ kind: 'peer-silent', peer: B });
      p.request(1, [[1, 'write', 1]]);
      p.progress(B);
    }],
    ['a mirror that does not follow', (p: Alone) => p.do({ kind: 'relation-lost', peer: B })],
  ] as const)('goes on while there are %s', (_, begin) => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.tick(TICK_MS)).toEqual([]);
    begin(p);
    expect(p.tick(TICK_MS)).toContain('timer tick +50');
    expect(p.tick(TICK_MS)).toContain('timer tick +50');
  });

  test('goes on while sessions wait for it to serve', () => {
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) });
    p.leases.given = { to: B, epoch: 2, untilMs: p.nowMs + 60 };
    p.leads(configurationOf([A], { epoch: 2, copiesWanted: 1 }));
    expect(p.open(1, 1)).toEqual([]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.tick(TICK_MS)).toContain('answer 1 opened sessionId=1 epoch=2 generation={attachNumber=1 count=1} sizeBytes=1073741824 appliedThrough=0');
    expect(p.tick(TICK_MS)).toEqual([]);
  });

  test('sends again what a broken link has lost, from what the mirror has', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.nowMs += 10_000;
    p.leases.heard.set(B, p.nowMs + 10_000);
    p.request(1, [[1, 'write', 1]]);
    p.request(1, [[2, 'write', 2]]);
    p.tick(TICK_MS);
    expect(p.progress(B, 2)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    for (const _ of [1, 2]) expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    p.tick(TICK_MS);
    expect(p.tick(TICK_MS - 1)).toEqual(['timer tick +50']);
    // The commit point too, by the beacons: the mirror may have no room for records before it knows what is committed.
    expect(p.tick(1)).toEqual(['lease: committed 1 2', 'b < history 1 2 after 2', 'timer tick +50']);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.do({ kind: 'history-sent', to: B, throughSeq: 3 })).toEqual([]);
    expect(p.progress(B)).toEqual(['commit 3', 'lease: committed 1 3', 'reply 1 1 [2] ok']);
  });
});

describe('silence', () => {
  test('of a mirror that owes an answer: it is proposed to be taken out; what it answers meanwhile still counts', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.request(1, [[1, 'write', 1]]);
    p.progress(C);
    p.leases.heard.set(C, p.nowMs + 5000);
    ticks(p, SILENT_MS - TICK_MS);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.tick(1)).toEqual(['timer tick +50', 'tell propose baseEpoch=1 change={remove serverId=b} reason=silent']);
    expect(p.core.counts.removals).toBe(1);
    expect(p.tick(REPEAT_MS - 1)).toEqual(['timer tick +50']);
    expect(p.tick(1)).toEqual(['tell propose baseEpoch=1 change={remove serverId=b} reason=silent', 'timer tick +50']);
    expect(p.progress(B)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    expect(p.tick(STUCK_MS)).toEqual(['tell propose baseEpoch=1 change={remove serverId=b} reason=silent', 'timer tick +50']);
  });

  test('of a mirror that owes nothing is none, however long our own disk takes for a flush', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    ticks(p, SILENT_MS + STUCK_MS);
    p.request(1, [[1, 'flush']]);
    p.progress(B, 1, 1);
    ticks(p, 2 * STUCK_MS);
    expect(p.core.counts.removals).toBe(0);
    expect(p.synced()).toEqual(['reply 1 1 [1] ok']);
  });

  test('strict: of a mirror that takes records and whose sync never ends', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B], { durability: 'strict' }));
    p.adopted(B);
    p.progress(B);
    p.open(1, 1);
    p.synced();
    p.progress(B, 1, 0);
    while (p.core.counts.removals === 0 && p.nowMs < 60_000) {
      p.leases.heard.set(B, p.nowMs);
      p.tick(TICK_MS);
    }
    expect(p.nowMs).toBe(10_000 + STUCK_MS + TICK_MS);
  });

  test.each([
    ['beacons are answered and nothing moves', 0],
    ['records are taken and no sync ends', 1],
  ])('of the disk of a mirror: %s', (_, records) => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.synced();
    const from = p.nowMs;
    if (records > 0) p.request(1, [[1, 'flush']]);
    let n = 1;
    while (p.core.counts.removals === 0 && p.nowMs < 60_000) {
      p.leases.heard.set(B, p.nowMs);
      if (records > 0 || n === 1) p.request(1, [[++n, 'write', 1]]);
      if (records > 0) p.progress(B);
      p.tick(TICK_MS);
    }
    expect(p.nowMs - from).toBe(STUCK_MS + TICK_MS);
  });

  test('of a mirror that has all, but was lost and does not follow', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.do({ kind: 'relation-lost', peer: B });
    ticks(p, SILENT_MS);
    expect(p.core.counts.removals).toBe(0);
    expect(p.tick(TICK_MS)).toContain('tell propose baseEpoch=1 change={remove serverId=b} reason=silent');
  });

  test('is none while the mirror still speaks, though of the same position', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    for (let gone = 0; gone < 2 * STUCK_MS; gone += TICK_MS) {
      p.progress(B, 1);
      p.tick(TICK_MS);
    }
    expect(p.core.counts.removals).toBe(0);
  });

  test('of a process that did not run itself is not counted', () => {
    for (const late of [LATE_MS, LATE_MS + 1]) {
      const p = new Alone(A).serves(configurationOf([A, B]));
      p.synced();
      p.tick(TICK_MS);
      p.request(1, [[1, 'write', 1]]);
      p.request(1, [[2, 'flush']]);
      p.tick(TICK_MS + late);
      const peer = p.core.state.leader?.peers.get(B);
      const excused = late > LATE_MS ? late : 0;
      expect([peer?.lastHeardMs, peer?.lastProgressMs, peer?.syncOwedMs]).toEqual([10_000 + excused, 10_050 + excused, 10_050 + excused]);
    }
  });

  test('is excused up to now, and a sync that nobody owes stays so', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.tick(TICK_MS);
    p.request(1, [[1, 'write', 1]]);
    p.nowMs += 4000;
    p.do({ kind: 'peer', from: B, message: { kind: 'progress', epoch: 1, attempt: 50, seq: 1, durableSeq: 1, chain: 0 } });
    p.tick();
    const peer = p.core.state.leader?.peers.get(B);
    expect([peer?.lastHeardMs, peer?.lastProgressMs, peer?.syncOwedMs]).toEqual([p.nowMs, p.nowMs, 0]);
  });

  test('that the beacons tell of', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { learners: [C] }));
    expect(p.do({ kind: 'peer-silent', peer: B })).toEqual(['tell suspect epoch=1 serverId=b reason=no beacon is answered', 'sync']);
    expect(p.do({ kind: 'peer-silent', peer: C })).toEqual([]);
    const q = new Alone(A).serves(configurationOf([A, B, C]));
    q.tick(TICK_MS);
    expect(q.do({ kind: 'peer-silent', peer: C })).toEqual([
      'tell suspect epoch=1 serverId=c reason=no beacon is answered',
      'timer tick +50',
      'tell propose baseEpoch=1 change={remove serverId=c} reason=silent',
    ]);
    expect(new Alone(A).do({ kind: 'peer-silent', peer: B })).toEqual([]);
  });
});

describe('ends that somebody saw', () => {
  test('of the life that follows: it is taken out, and waited for no more', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.tick(TICK_MS);
    expect(ended(p, 61)).toEqual([]);
    expect(ended(new Alone(A), 60)).toEqual([]);
    expect(ended(p, 60)).toEqual(['timer tick +50', 'tell propose baseEpoch=1 change={remove serverId=b} reason=ended']);
    expect(p.core.state.leader?.peers.get(B)).toMatchObject({ ended: true, phase: 'adopting' });
    expect(p.tick(TICK_MS)).toEqual([
      'tell status 1 serving: a in-sync, b catching-up, c in-sync',
      'timer tick +50',
    ]);
    p.adopted(B, { attempt: 51 });
    expect(p.core.state.leader?.peers.get(B)?.ended).toBe(false);
  });

  test('at the minimum of copies are looked at until they are made up for', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { minCopies: 2 }));
    p.tick(TICK_MS);
    expect(ended(p, 60)).toEqual(['timer tick +50']);
  });

  test.each([['leaves', (p: Alone) => p.from(B, { kind: 'leaving', epoch: 1, fault: 'sync-failed' })], ['has ended', (p: Alone) => ended(p, 60)]] as const)(
    'a mirror that %s while another joins is taken out when that other is lost', (_, happens) => {
      const p = new Alone(A).serves(configurationOf([A, B], { learners: [C], copiesWanted: 3 }));
      p.synced();
      p.adopted(C, { incarnation: 33 });
      p.progress(C);
      expect(happens(p).filter((line) => line.startsWith('tell propose'))).toEqual([]);
      p.adopted(B, { attempt: 51 });
      p.progress(B, 1, 1, { attempt: 51 });
      happens(p);
      p.do({ kind: 'relation-lost', peer: C });
      expect([...p.tick(TICK_MS), ...p.tick(TICK_MS)].filter((line) => line.startsWith('tell propose'))).toHaveLength(1);
    },
  );

  test('of a learner are nobody\'s business, and a member is taken out as soon as it may', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { learners: [C] }));
    p.adopted(C);
    p.tick(TICK_MS);
    expect(p.do({ kind: 'manager', command: { kind: 'member-ended', volumeId: p.core.report().volumeId, serverId: C, instance: (60).toString(36) } })).toEqual([]);
    expect(p.core.state.leader?.peers.get(C)?.ended).toBe(false);
  });

  function ended(p: Alone, instance: number): string[] {
    return p.do({ kind: 'manager', command: { kind: 'member-ended', volumeId: p.core.report().volumeId, serverId: B, instance: instance.toString(36) } });
  }
});

describe('a link comes up', () => {
  test('what was under way on the old one is sent again', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    p.request(1, [[2, 'flush']]);
    expect(p.do({ kind: 'peer-up', peer: B })).toEqual(['b < history 1 1 after 1', 'b < adopt epoch=1 configuration=1']);
    expect(p.core.state.leader?.peers.get(B)).toMatchObject({ sentSeq: 1, syncForSeq: 0 });
    expect(p.do({ kind: 'peer-up', peer: C })).toEqual([]);
    expect(new Alone(A).do({ kind: 'peer-up', peer: B })).toEqual([]);
  });

  test('one that has not said where it stands is only asked', () => {
    const p = new Alone(A).serves(configurationOf([A], { learners: [B, C], copiesWanted: 1 }));
    expect(p.do({ kind: 'peer-up', peer: B })).toEqual(['b < adopt epoch=1 configuration=1']);
    p.adopted(C, { lastSeq: 0, epochStarts: [] });
    p.do({ kind: 'history-sent', to: C, throughSeq: 1 });
    expect(p.do({ kind: 'peer-up', peer: C })).toEqual(['c < adopt epoch=1 configuration=1']);
    p.adopted(C, { lastSeq: 0, epochStarts: [], attempt: 51 });
    p.do({ kind: 'history-sent', to: C, throughSeq: 1 });
    p.progress(C, 0, 0, { attempt: 51 });
    expect(p.do({ kind: 'peer-up', peer: C })).toEqual(['c < history 1 1 after 0', 'c < adopt epoch=1 configuration=1']);
    expect(p.do({ kind: 'relation-lost', peer: C })).toEqual(['c < adopt epoch=1 configuration=1']);
    expect(p.do({ kind: 'peer-up', peer: C })).toEqual(['c < adopt epoch=1 configuration=1']);
  });
});

test('fenced by a later epoch it asks; by its own it does not', () => {
  const p = new Alone(A).serves(configurationOf([A, B]));
  expect(p.from(B, { kind: 'fenced', epoch: 1 })).toEqual([]);
  expect(p.from(B, { kind: 'fenced', epoch: 2 })).toEqual(['tell ask epoch=1']);
  expect(new Alone(A).from(B, { kind: 'fenced', epoch: 2 })).toEqual([]);
});
