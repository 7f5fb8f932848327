import type { Configuration } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { JOIN_AGAIN_MS, JOIN_HELD_MS, JOIN_LAG_MAX, JOIN_PATIENCE_MS, REPEAT_MS, SILENT_MS, STUCK_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

/** A primary with a mirror, and a learner that has all records. */
function withLearner(more: Partial<Configuration> = {}): Alone {
  const p = new Alone(A).serves(configurationOf([A, B], { learners: [C], copiesWanted: 3, ...more }));
  p.adopted(C, { incarnation: 33 });
  return p;
}

/** The next tick, in which beacons of these have come. */
function hears(p: Alone, ...peers: readonly ServerId[]): string[] {
  for (const peer of peers) p.leases.heard.set(peer, p.nowMs + TICK_MS);
  return p.tick(TICK_MS);
}

describe('a copy is let in', () => {
  test('when it has all that was answered: required, then synced, then proposed', () => {
    const p = withLearner();
    p.request(1, [[1, 'write', 1]]);
    expect(p.progress(C, 1)).toEqual(['c < sync epoch=1', 'sync', 'b < sync epoch=1']);
    const { leader } = p.core.state;
    expect(leader?.required.map(({ serverId }) => serverId)).toEqual([B, C]);
    expect(p.progress(B)).toEqual([]);
    expect(p.progress(C)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    expect(p.tick(REPEAT_MS - 1)).toEqual(['timer tick +50']);
    expect(p.tick(1)).toEqual(['c < sync epoch=1', 'timer tick +50']);
    expect(p.progress(C, 2, 1)).toEqual([]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.progress(C, 2, 2)).toEqual([]);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50', 'tell propose baseEpoch=1 change={add member={serverId=c incarnation=33}} reason=caught up']);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.core.counts.joins).toBe(1);
  });

  test('the members sync with it, since a cut of their logs may follow; nobody owes that, and what is stable is not synced again', () => {
    const p = withLearner();
    p.request(1, [[1, 'write', 1]]);
    p.progress(B);
    p.synced(p.log.lastSeq);
    expect(p.progress(C)).toEqual(['c < sync epoch=1', 'b < sync epoch=1']);
    for (let ms = 0; ms < STUCK_MS + REPEAT_MS; ms += TICK_MS) {
      const lines = hears(p, B, C);
      expect(lines.filter((line) => line.startsWith('b < sync') || line.includes('serverId=b'))).toEqual([]);
    }
    const alone = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 2 }));
    alone.request(1, [[1, 'write', 1]]);
    alone.adopted(C, { incarnation: 33 });
    expect(alone.progress(C)).toEqual(['c < sync epoch=1']);
  });

  test('one at a time, and nobody is taken out meanwhile', () => {
    const p = withLearner();
    p.progress(C);
    expect(p.core.state.leader?.joiner?.serverId).toBe(C);
    expect(p.do({ kind: 'peer-silent', peer: B })).toEqual(['tell suspect epoch=1 serverId=b reason=no beacon is answered']);
    p.progress(C, 1, 1);
    p.tick(TICK_MS);
    expect(p.core.state.leader?.proposal?.change.kind).toBe('add');
    expect(p.do({ kind: 'peer-silent', peer: B })).toEqual(['tell suspect epoch=1 serverId=b reason=no beacon is answered']);
    expect(p.core.counts.removals).toBe(0);
  });

  test('not while it lacks data, or is compared, or is behind what was answered', () => {
    const p = withLearner();
    p.log.extents.add(3);
    p.adopted(C, { incarnation: 33, attempt: 51, complete: false });
    expect(p.progress(C, 1, 0, { attempt: 51 })).toEqual(['c < list-extents epoch=1 from=0']);
    p.tick(TICK_MS);
    expect(p.core.state.leader?.joiner).toBeNull();
    const q = withLearner();
    q.request(1, [[1, 'write', 1]]);
    q.progress(B);
    q.tick(TICK_MS);
    expect(q.progress(C, 1)).toEqual([]);
    expect(q.core.state.leader?.joiner).toBeNull();
  });

  test('after a while also one that is always a moment behind; it has all before it is proposed', () => {
    const p = withLearner();
    const { leader } = p.core.state;
    let request = 0;
    const oneBehind = (): void => {
      p.request(1, [[++request, 'write', 1]]);
      p.progress(B);
      p.progress(C, p.log.lastSeq - 1, p.log.lastSeq - 1);
    };
    oneBehind();
    for (let ms = 0; ms < JOIN_PATIENCE_MS; ms += TICK_MS) {
      expect(leader?.joiner).toBeNull();
      oneBehind();
      p.tick(TICK_MS);
    }
    expect(leader?.joiner?.serverId).toBe(C);
    const had = p.log.lastSeq;
    p.request(1, [[++request, 'write', 1]]);
    expect(p.progress(B).filter((line) => line.startsWith('reply'))).toEqual([]); // nothing is answered without it any more
    p.progress(C, had - 1, had - 1);
    p.tick(TICK_MS);
    expect(leader?.proposal).toBeNull();
    expect(p.progress(C, had + 1, had).some((line) => line.startsWith('reply'))).toBe(true);
    p.tick(TICK_MS);
    expect(leader?.proposal?.change.kind).toBe('add');
  });

  test('never one that is far behind', () => {
    const p = withLearner();
    for (let request = 1; request <= JOIN_LAG_MAX + 1; request++) p.request(1, [[request, 'write', 1]]);
    p.progress(B);
    p.progress(C, 1, 1);
    for (let ms = 0; ms < 2 * JOIN_PATIENCE_MS; ms += TICK_MS) p.tick(TICK_MS);
    expect(p.core.state.leader?.joiner).toBeNull();
  });

  test('not one that leaves', () => {
    const p = withLearner();
    p.from(C, { kind: 'leaving', epoch: 1, fault: 'corrupt' });
    p.progress(C);
    expect(p.core.state.leader?.joiner).toBeNull();
  });

  test('its digest must be ours at the position from which it was required', () => {
    const p = withLearner();
    p.progress(C, 1, 0);
    p.progress(C, 1, 1, { chain: 5 });
    expect(p.core.state.leader?.peers.get(C)?.leaving).toBe(true);
    const q = withLearner();
    q.do({ kind: 'peer', from: C, message: { kind: 'progress', epoch: 1, attempt: 50, seq: 1, durableSeq: 1, chain: 1 } });
    expect(q.core.state.leader?.joiner).toBeNull();
    expect(q.core.state.leader?.peers.get(C)?.leaving).toBe(true);
  });

  test('not as long as a digest is missing', () => {
    const p = withLearner();
    p.request(1, [[1, 'write', 1], [2, 'write', 2]]);
    p.progress(B);
    p.from(C, { kind: 'progress', epoch: 1, attempt: 50, seq: 3, durableSeq: 3, chain: p.log.chain });
    p.tick(TICK_MS);
    expect(p.core.counts.joins).toBe(1);
    const q = withLearner();
    q.request(1, [[1, 'write', 1], [2, 'write', 2]]);
    q.progress(B);
    const { leader } = q.core.state;
    leader?.chains.splice(0);
    q.from(C, { kind: 'progress', epoch: 1, attempt: 50, seq: 3, durableSeq: 3, chain: q.log.chain });
    q.tick(TICK_MS);
    expect(leader?.joiner?.serverId).toBe(C);
    expect(q.core.counts.joins).toBe(0);
  });

  test('when it is lost before it was proposed: required no more', () => {
    for (const lose of [
      (p: Alone) => p.do({ kind: 'relation-lost', peer: C }),
      (p: Alone) => p.from(C, { kind: 'leaving', epoch: 1, fault: 'sync-failed' }),
      (p: Alone) => p.adopted(C, { attempt: 51, incarnation: 33, lastSeq: 0, epochStarts: [] }),
    ]) {
      const p = withLearner();
      p.progress(C);
      expect(p.core.state.leader?.required).toHaveLength(2);
      lose(p);
      p.tick(TICK_MS);
      p.tick(TICK_MS);
      expect(p.core.state.leader?.required.map(({ serverId }) => serverId)).toEqual([B]);
      expect(p.core.state.leader?.joiner).toBeNull();
    }
  });

  test('lost after it was proposed: still required, somebody may think it a member', () => {
    const p = withLearner();
    p.progress(C);
    p.progress(C, 1, 1);
    p.tick(TICK_MS);
    p.adopted(C, { attempt: 51, incarnation: 33 });
    expect(p.core.state.leader?.required).toHaveLength(2);
    for (let gone = 0; gone < 2 * SILENT_MS; gone += TICK_MS) p.tick(TICK_MS);
    expect(p.core.state.leader?.required).toHaveLength(2);
  });

  test('that a mirror falls silent meanwhile does not cost the one that joins', () => {
    const p = withLearner();
    p.progress(C);
    p.request(1, [[1, 'write', 1]]);
    for (let gone = 0; gone < JOIN_HELD_MS - TICK_MS; gone += TICK_MS) hears(p, C);
    expect(p.core.state.leader?.joiner?.serverId).toBe(C);
  });

  test('but only for a moment: what it waits for may never come', () => {
    const p = withLearner();
    p.progress(C);
    p.request(1, [[1, 'write', 1]]);
    p.progress(C, 2, 0);
    for (let gone = 0; gone < JOIN_HELD_MS + SILENT_MS; gone += TICK_MS) hears(p, C);
    expect(p.core.state.leader?.proposal?.change).toEqual({ kind: 'remove', serverId: B });
    expect(p.core.state.leader?.joiner).toBeNull();
  });

  test('one whose disk ends no sync is let go, and not waited for again at once', () => {
    const p = withLearner();
    p.progress(C);
    const waits = (): boolean => p.core.state.leader?.joiner?.serverId === C;
    for (let gone = 0; gone < STUCK_MS - TICK_MS; gone += TICK_MS) hears(p, B, C);
    expect(waits()).toBe(true);
    for (let gone = 0; gone < JOIN_AGAIN_MS - TICK_MS; gone += TICK_MS) {
      hears(p, B, C);
      if (gone > 2 * TICK_MS) expect(waits()).toBe(false);
    }
    // Its sync has ended meanwhile.
    p.progress(C, 1, 1);
    for (let gone = 0; gone < 10 * TICK_MS; gone += TICK_MS) hears(p, B, C);
    expect(p.core.state.leader?.proposal?.change.kind).toBe('add');
  });

  test('one that has fallen silent is let go, and not chosen before it is heard', () => {
    const p = withLearner();
    p.progress(C);
    for (let gone = 0; gone <= SILENT_MS; gone += TICK_MS) hears(p, B);
    for (let gone = 0; gone <= JOIN_AGAIN_MS; gone += TICK_MS) {
      expect(p.core.state.leader?.joiner).toBeNull();
      hears(p, B);
    }
    hears(p, B, C);
    expect(p.core.state.leader?.joiner?.serverId).toBe(C);
  });

  test('reads do not wait for the lease of one that is gone', () => {
    const p = withLearner();
    p.progress(C);
    p.leases.none.add(C);
    expect(p.request(1, [[1, 'read', 1]])).toContain('lease: wait');
    const lines: string[] = [];
    for (let gone = 0; gone <= SILENT_MS; gone += TICK_MS) lines.push(...hears(p, B));
    expect(lines).toContain('read 1 [1:1] until 0');
  });

  test('a mirror that grants no lease, though it is heard, is taken out when reads have waited for long', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    for (let gone = 0; gone < 3 * STUCK_MS; gone += TICK_MS) hears(p, B);
    p.leases.none.add(B);
    p.request(1, [[1, 'read', 1]]);
    for (let gone = 0; gone < STUCK_MS; gone += TICK_MS) hears(p, B);
    expect(p.core.state.leader?.proposal).toBeNull();
    for (let gone = 0; gone < 3 * TICK_MS; gone += TICK_MS) hears(p, B);
    expect(p.core.state.leader?.proposal?.change).toEqual({ kind: 'remove', serverId: B });
  });

  test('a lease is not owed for ever to reads that went with their session', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    for (let gone = 0; gone < 3 * TICK_MS; gone += TICK_MS) hears(p, B);
    const read = (session: number): void => {
      p.open(session, session, { readOnly: true });
      p.leases.none.add(B);
      expect(p.request(session, [[1, 'read', 1]])).toContain('lease: wait');
    };
    read(2);
    p.do({ kind: 'session-gone', key: 2 });
    hears(p, B);
    p.leases.none.clear();
    p.nowMs += 3_600_000;
    read(3);
    hears(p, B);
    expect(p.core.state.leader?.proposal).toBeNull();
  });

  test('that a mirror starts anew changes nothing for the one that joins', () => {
    const p = withLearner();
    p.progress(C);
    p.adopted(B, { attempt: 51 });
    expect(p.core.state.leader?.joiner?.serverId).toBe(C);
  });
});

describe('at the minimum of copies', () => {
  test('nobody is taken out, but one who leaves by itself', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { minCopies: 2 }));
    p.tick(TICK_MS);
    expect(p.do({ kind: 'peer-silent', peer: B })).toEqual(['tell suspect epoch=1 serverId=b reason=no beacon is answered', 'timer tick +50']);
    expect(p.from(B, { kind: 'leaving', epoch: 1, fault: 'no-space' })).toEqual(['tell suspect epoch=1 serverId=b reason=no-space']);
    expect(new Alone(A).from(B, { kind: 'leaving', epoch: 1, fault: 'no-space' })).toEqual([]);
    const q = new Alone(A).serves(configurationOf([A, B], { minCopies: 2 }));
    q.tick(TICK_MS);
    expect(q.from(B, { kind: 'leaving', epoch: 1, fault: 'no-space' })).toEqual(['tell suspect epoch=1 serverId=b reason=no-space', 'timer tick +50']);
    p.synced();
    expect(p.from(B, { kind: 'leaving', epoch: 1, fault: 'sync-failed' })).toEqual([
      'tell suspect epoch=1 serverId=b reason=sync-failed',
      'tell propose baseEpoch=1 change={remove serverId=b} reason=sync-failed',
    ]);
    expect(p.from(C, { kind: 'leaving', epoch: 1, fault: 'sync-failed' })).toEqual([]);
    expect(p.from(B, { kind: 'leaving', epoch: 2, fault: 'sync-failed' })).toEqual([]);
  });

  test('a member that lost its cache is admitted anew, as what it is now', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { minCopies: 2 }));
    p.adopted(B, { attempt: 51, incarnation: 5 });
    p.progress(B, 1, 0, { attempt: 51 });
    expect(p.tick(TICK_MS)).toContain('b < sync epoch=1');
    expect(p.core.state.leader?.joiner?.serverId).toBe(B);
    p.progress(B, 1, 1, { attempt: 51 });
    expect(p.tick(TICK_MS)).toContain('tell propose baseEpoch=1 change={add member={serverId=b incarnation=5}} reason=caught up');
    const q = new Alone(A).serves(configurationOf([A, B]));
    q.tick(TICK_MS);
    expect(q.adopted(B, { attempt: 51, incarnation: 5 })).toEqual([
      'lease: establish b 1 60 10050',
      'timer tick +50',
      'sync',
      'b < follow epoch=1 attempt=51 afterSeq=1',
    ]);
  });

  test('another may join a primary that cannot serve, once no grant of it runs, and it has all that was found', () => {
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) }, new Alone(B).serves(configurationOf([B], { copiesWanted: 1 })).log);
    p.leases.given = { to: B, epoch: 2, untilMs: p.nowMs + 100 };
    p.leads(configurationOf([A, B], { epoch: 2, minCopies: 2, learners: [C] }));
    p.adopted(C, { incarnation: 33, lastSeq: 0, epochStarts: [] });
    p.progress(C, 1);
    expect(p.tick(99)).not.toContain('c < sync epoch=2');
    expect(p.tick(1)).toContain('c < sync epoch=2');
    expect(p.core.state.leader?.joiner?.serverId).toBe(C);
    const q = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) }, p.log);
    q.leads(configurationOf([A, B], { epoch: 2, minCopies: 2, learners: [C] }));
    q.adopted(C, { incarnation: 33, lastSeq: 0, epochStarts: [] });
    q.progress(C, 0);
    q.tick(TICK_MS);
    expect(q.core.state.leader?.joiner).toBeNull();
  });

  test('above it a primary that does not serve admits nobody', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B], { minCopies: 1, learners: [C] }));
    p.adopted(C, { incarnation: 33 });
    p.progress(C);
    p.tick(TICK_MS);
    expect(p.core.state.leader?.joiner).toBeNull();
  });
});

describe('a copy is taken out', () => {
  test('the last mirror only when ours is on the disk', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.tick(TICK_MS);
    expect(p.from(B, { kind: 'leaving', epoch: 1, fault: 'no-space' })).toEqual(['tell suspect epoch=1 serverId=b reason=no-space', 'sync', 'timer tick +50']);
    expect(p.tick(TICK_MS)).toEqual(['timer tick +50']);
    expect(p.synced()).toEqual(['tell propose baseEpoch=1 change={remove serverId=b} reason=no-space']);
    expect(p.core.state.leader?.syncAnswers).toBe(true);
    p.request(1, [[1, 'write', 1]]);
    expect(p.progress(B)).toEqual([]);
    expect(p.synced()).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
  });

  test('one of several at once, and proposed again until a later epoch is known', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.tick(TICK_MS);
    p.nowMs = 50;
    expect(p.from(B, { kind: 'leaving', epoch: 1, fault: 'append-failed' })).toEqual([
      'tell suspect epoch=1 serverId=b reason=append-failed',
      'timer tick +50',
      'tell propose baseEpoch=1 change={remove serverId=b} reason=append-failed',
    ]);
    expect(p.from(C, { kind: 'leaving', epoch: 1, fault: 'append-failed' })).toEqual(['tell suspect epoch=1 serverId=c reason=append-failed']);
    expect(p.synced(0)).toEqual([]);
    expect(p.tick(REPEAT_MS)).toEqual([
      'tell propose baseEpoch=1 change={remove serverId=b} reason=append-failed',
      'tell status 1 serving: a in-sync, b faulted, c faulted',
      'timer tick +50',
    ]);
  });

  test('for the reason of now, if the one before has passed', () => {
    const p = withLearner();
    p.synced();
    p.progress(C);
    expect(p.from(B, { kind: 'leaving', epoch: 1, fault: 'no-space' })).toEqual(['tell suspect epoch=1 serverId=b reason=no-space']);
    p.do({ kind: 'relation-lost', peer: C });
    p.tick(TICK_MS);
    expect(p.do({ kind: 'peer-silent', peer: B })).toContain('tell propose baseEpoch=1 change={remove serverId=b} reason=silent');
  });

  test('a member that has lost its cache, or lacks data', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    expect(p.adopted(B, { attempt: 51, incarnation: 5 })).toEqual([
      'lease: establish b 1 60 10000',
      'tell propose baseEpoch=1 change={remove serverId=b} reason=lost-cache',
      'b < follow epoch=1 attempt=51 afterSeq=1',
    ]);
    const q = new Alone(A).serves(configurationOf([A, B, C]));
    expect(q.adopted(B, { attempt: 51, complete: false })).toEqual([
      'lease: establish b 1 60 10000',
      'tell propose baseEpoch=1 change={remove serverId=b} reason=incomplete',
      'b < restart-log epoch=1 attempt=51 commonSeq=1 lineage=1 position={seq=1 chain=2552552123} epochStarts=[epoch=1 firstSeq=1] session={attachNumber=1 count=1 appliedThrough=0}',
    ]);
  });
});

describe('how the copies stand', () => {
  function stands(p: Alone): string | undefined {
    return p.do({ kind: 'manager-up' }).at(-1)?.replace(/^.*: /, '');
  }

  test('is told when asked, and when it changes', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { learners: [C], copiesWanted: 3 }));
    p.log.extents.add(1).add(2);
    expect(stands(p)).toBe('a in-sync, b in-sync, c catching-up');
    for (let gone = TICK_MS; gone < SILENT_MS; gone += TICK_MS) p.tick(TICK_MS);
    expect(p.tick(TICK_MS)).toEqual(['c < adopt epoch=1 configuration=1', 'timer tick +50']);
    expect(p.tick(1)).toEqual([
      'tell status 1 serving: a in-sync, b in-sync, c offline',
      'timer tick +50',
    ]);
    p.leases.heard.set(C, p.nowMs);
    expect(p.tick(TICK_MS)).toEqual([
      'tell status 1 serving: a in-sync, b in-sync, c catching-up',
      'timer tick +50',
    ]);
    p.adopted(C, { incarnation: 33, complete: false });
    p.progress(C);
    p.from(C, { kind: 'extents', epoch: 1, from: 0, extents: [], end: true });
    expect(stands(p)).toBe('a in-sync, b in-sync, c rebuilding (moved 0, remaining 2097152)');
    p.do({ kind: 'extent-compared', to: C, extent: 1, differing: 4, pieces: 1 });
    expect(stands(p)).toBe('a in-sync, b in-sync, c rebuilding (moved 16384, remaining 2097152)');
    p.from(B, { kind: 'leaving', epoch: 1, fault: 'corrupt' });
    expect(stands(p)).toBe('a in-sync, b faulted, c rebuilding (moved 16384, remaining 2097152)');
    p.adopted(B, { attempt: 51, incarnation: 4 });
    p.core.state.leader?.peers.forEach((peer) => { peer.leaving = false; });
    expect(stands(p)).toBe('a in-sync, b catching-up, c rebuilding (moved 16384, remaining 2097152)');
  });

  test('each time with a higher number, so that an old word is known for one', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    const before = p.core.state.leader?.statusNumber ?? 0;
    stands(p);
    expect(p.core.state.leader?.statusNumber).toBe(before + 1);
  });

  test('a copy with a fault says so', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    p.do({ kind: 'store-failed', fault: 'corrupt' });
    expect(stands(p)).toBe('a faulted');
  });
});
