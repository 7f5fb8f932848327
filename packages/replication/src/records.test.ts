import { describe, expect, test } from 'vitest';
import { CHAINS_MAX, HISTORY_BATCHES_MAX, REPEAT_MS, SLOW_FOR_MS, SLOW_MS, TICK_MS, UNACKNOWLEDGED_MAX } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, type Operation } from './testing/group.ts';

const peerOf = (p: Alone, id = B) => p.core.state.leader?.peers.get(id);

/** A primary alone with so many records, and a copy that has said that it holds the first `theirs` of them. */
function behind(records: number, theirs: number): Alone {
  const p = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 1 }));
  for (let n = 1; n < records; n++) p.request(1, [[n, 'write', n]]);
  p.adopted(C, { incarnation: 33, lastSeq: theirs });
  return p;
}

/** A record of a hundred changes. */
function hundred(p: Alone): string[] {
  const many: Operation[] = [];
  for (let n = 1; n <= 100; n++) many.push([p.log.lastSeq + n, 'trim', n]);
  return p.request(1, many);
}

describe('where a copy goes on', () => {
  test('from what both logs have, by the journal', () => {
    const p = behind(5, 3);
    expect(p.adopted(C, { attempt: 51, lastSeq: 3 })).toEqual([
      'lease: establish c 1 60 10000',
      'c < follow epoch=1 attempt=51 afterSeq=3',
      'c < history 1 5 after 3',
    ]);
    expect(p.core.counts.journalCatchUps).toBe(2);
    expect(p.adopted(C, { attempt: 51, lastSeq: 1 })).toEqual([]);
    expect(p.adopted(C, { attempt: 52, lastSeq: 5, epoch: 2 })).toEqual([]);
    expect(p.adopted(B, { attempt: 52 })).toEqual([]);
    expect(p.adopted(C, { attempt: 52, lastSeq: 5 })).toEqual(['lease: establish c 1 60 10000', 'c < follow epoch=1 attempt=52 afterSeq=5']);
    p.log.trimmedSeq = 3;
    expect(p.adopted(C, { attempt: 53, lastSeq: 3 })).toContain('c < follow epoch=1 attempt=53 afterSeq=3');
    expect(p.adopted(C, { attempt: 54, lastSeq: 2 })[1]).toMatch('c < restart-log epoch=1 attempt=54 commonSeq=2');
    expect(p.adopted(C, { attempt: 55, lineage: 2 })[1]).toMatch('c < restart-log epoch=1 attempt=55 commonSeq=-1');
  });

  test('an answer that comes again after the relation was lost counts as a new one', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'flush']]);
    expect(p.do({ kind: 'relation-lost', peer: B })).toEqual(['b < adopt epoch=1 configuration=1']);
    expect(p.adopted(B)).toEqual(['lease: establish b 1 60 10000', 'b < follow epoch=1 attempt=50 afterSeq=1']);
    expect(peerOf(p)).toMatchObject({ phase: 'following', ackSeq: -1, durableSeq: -1, verifiedSeq: -1, syncForSeq: -1, syncOwedMs: 0 });
    expect(p.progress(B)).toEqual(['b < sync epoch=1']);
  });

  test('a relation that is lost is looked at until it is there again', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.tick(TICK_MS);
    expect(p.do({ kind: 'relation-lost', peer: B })).toEqual(['b < adopt epoch=1 configuration=1', 'timer tick +50']);
    expect(peerOf(p)?.phase).toBe('adopting');
    expect(p.request(1, [[1, 'write', 1]])).toEqual(['append 2-2 epoch=1 sender=1 committed=1 number=1']);
    expect(p.do({ kind: 'relation-lost', peer: C })).toEqual([]);
    expect(new Alone(A).do({ kind: 'relation-lost', peer: B })).toEqual([]);
  });
});

describe('history from the journal', () => {
  test('goes on piece by piece until all is sent; what is written meanwhile comes after it', () => {
    const p = behind(5, 1);
    expect(p.core.state.leader?.peers.get(C)?.historyBusy).toBe(true);
    expect(p.request(1, [[9, 'write', 9]])).toEqual([
      'append 6-6 epoch=1 sender=1 committed=5 number=9',
      'commit 6',
      'lease: committed 1 6',
      'reply 1 1 [9] ok',
    ]);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 3 })).toEqual(['c < history 1 6 after 3']);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 6 })).toEqual([]);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 99 })).toEqual([]);
    expect(p.request(1, [[10, 'write', 9]])).toEqual([
      'append 7-7 epoch=1 sender=1 committed=6 number=10',
      'c < append frame=7-7 epoch=1 sender=1 committed=6 number=10',
      'commit 7',
      'lease: committed 1 7',
      'reply 1 1 [10] ok',
    ]);
    expect(p.do({ kind: 'history-sent', to: B, throughSeq: 3 })).toEqual([]);
    expect(new Alone(A).do({ kind: 'history-sent', to: C, throughSeq: 3 })).toEqual([]);
  });

  test('of which nothing could be sent is tried again by the tick', () => {
    const p = behind(5, 1);
    p.progress(C, 1);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 1 })).toEqual([]);
    // A record behind those that it lacks is of no use to it.
    expect(p.request(1, [[50, 'write', 1]]).filter((line) => line.startsWith('c <'))).toEqual([]);
    expect(p.tick(TICK_MS)).toContain('c < history 1 6 after 1');
  });

  test('waits for acknowledgements beyond a bound, and records wait with it', () => {
    const p = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 1 }));
    p.adopted(C, { incarnation: 33 });
    p.progress(C);
    for (let k = 0; k < UNACKNOWLEDGED_MAX / 100; k++) expect(hundred(p)[1]).toMatch('c < append');
    expect(hundred(p)).toEqual(['append 4102-4201 epoch=1 sender=1 committed=1 number=4201']);
    expect(p.progress(C, 4)).toEqual(['commit 4', 'lease: committed 1 4']);
    expect(p.progress(C, 5)).toEqual(['c < history 1 4 after 4101', 'commit 5', 'lease: committed 1 5']);
  });

  test('so many batches are under way at a time, acknowledged or not: a link that is full would lose the rest', () => {
    const p = behind(40, 1);
    for (let k = 1; k < HISTORY_BATCHES_MAX; k++) expect(p.do({ kind: 'history-sent', to: C, throughSeq: 1 + k })).toEqual([`c < history 1 40 after ${1 + k}`]);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 1 + HISTORY_BATCHES_MAX })).toEqual([]);
    expect(p.progress(C, 1)).toEqual([]);
    expect(p.progress(C, 2)).toEqual([`c < history 1 40 after ${1 + HISTORY_BATCHES_MAX}`]);
    p.do({ kind: 'history-sent', to: C, throughSeq: 2 + HISTORY_BATCHES_MAX });
    // All of them were lost: none is waited for.
    expect(p.from(C, { kind: 'gap', epoch: 1, attempt: 50, seq: 2 })).toEqual(['c < history 1 40 after 2']);
  });

  test('does not wait for a first acknowledgement: it may hold most of a long log already', () => {
    const p = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 1 }));
    for (let k = 0; k < 42; k++) hundred(p);
    expect(p.adopted(C, { incarnation: 33, lastSeq: 4101 })).toContain('c < history 1 4201 after 4101');
    p.adopted(C, { incarnation: 33, attempt: 51 });
    expect(hundred(p)[1]).toMatch('c < append frame=4202-4301');
  });

  test('that was trimmed away meanwhile: it must say again where it stands', () => {
    const p = behind(5, 1);
    p.progress(C, 1);
    p.log.trimmedSeq = 3;
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 3 })).toEqual(['c < history 1 5 after 3']);
    p.log.trimmedSeq = 5;
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 4 })).toEqual(['c < adopt epoch=1 configuration=1']);
    expect(peerOf(p, C)?.phase).toBe('adopting');
    expect(p.request(1, [[51, 'write', 1]])).toEqual([
      'append 6-6 epoch=1 sender=1 committed=5 number=51',
      'commit 6',
      'lease: committed 1 6',
      'reply 1 1 [51] ok',
    ]);
  });

  test('is not needed by a copy that turns out to be further', () => {
    const p = behind(5, 1);
    p.progress(C, 4);
    expect(peerOf(p, C)?.sentSeq).toBe(4);
    expect(p.do({ kind: 'history-sent', to: C, throughSeq: 3 })).toEqual([]);
    expect(p.progress(C, 4)).toEqual(['c < history 1 5 after 4']);
  });
});

describe('a gap', () => {
  test('is filled from there, once in a while, however often it is told', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    for (let n = 1; n <= 3; n++) p.request(1, [[n, 'write', n]]);
    const gap = (seq: number, attempt = 50): string[] => p.from(B, { kind: 'gap', epoch: 1, attempt, seq });
    expect(gap(4)).toEqual([]);
    expect(gap(2, 49)).toEqual([]);
    p.nowMs += 5;
    expect(gap(2)).toEqual(['b < history 1 1 after 2']);
    expect(peerOf(p)?.lastHeardMs).toBe(p.nowMs);
    expect(gap(2)).toEqual([]);
    p.do({ kind: 'history-sent', to: B, throughSeq: 4 });
    p.nowMs += REPEAT_MS - 1;
    expect(gap(2)).toEqual([]);
    p.nowMs += 1;
    expect(gap(2)).toEqual(['b < history 1 1 after 2']);
    p.do({ kind: 'history-sent', to: B, throughSeq: 4 });
    expect(gap(3)).toEqual(['b < history 1 1 after 3']);
    // One that is none, since nothing beyond it was sent, does not hide the next.
    p.do({ kind: 'history-sent', to: B, throughSeq: 4 });
    expect(gap(4)).toEqual([]);
    p.request(1, [[4, 'write', 4]]);
    expect(gap(4)).toEqual(['b < history 1 1 after 4']);
  });
});

describe('progress', () => {
  test('of another answer, or of a copy that does not follow, counts for nothing', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    expect(p.progress(B, 2, 0, { attempt: 49 })).toEqual([]);
    p.do({ kind: 'relation-lost', peer: B });
    expect(p.progress(B, 2)).toEqual([]);
    expect(peerOf(p)?.ackSeq).toBe(1);
  });

  test('is what a copy has more of, in its journal or on its disk', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    const at = (ms: number, seq: number, durableSeq: number): number => {
      p.nowMs = ms;
      p.progress(B, seq, durableSeq);
      return peerOf(p)?.lastProgressMs ?? 0;
    };
    p.request(1, [[1, 'write', 1], [2, 'write', 2]]);
    expect([at(10_010, 1, 0), at(10_020, 2, 0), at(10_030, 2, 0), at(10_040, 2, 1), at(10_050, 2, 1), at(10_060, 3, 2), at(10_070, 3, 1)]).toEqual([10_000, 10_020, 10_020, 10_040, 10_040, 10_060, 10_060]);
    expect(peerOf(p)).toMatchObject({ ackSeq: 3, durableSeq: 2, lastHeardMs: 10_070 });
    p.nowMs = 10_080;
    p.request(1, [[3, 'write', 1]]);
    expect(peerOf(p)?.lastProgressMs).toBe(10_080);
    p.nowMs = 10_090;
    p.request(1, [[4, 'write', 1]]);
    expect(peerOf(p)?.lastProgressMs).toBe(10_080);
  });

  test('a sync is owed until it reaches what was ordered; each step towards it counts anew', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    p.progress(B, 2, 2);
    expect(peerOf(p)?.syncOwedMs).toBe(0);
    p.request(1, [[2, 'write', 1], [3, 'write', 1]]);
    p.request(1, [[4, 'flush']]);
    const owed = [10_010, 10_020, 10_030, 10_040].map((ms, i) => {
      p.nowMs = ms;
      p.progress(B, 4, [2, 3, 3, 4][i]);
      return peerOf(p)?.syncOwedMs;
    });
    expect(owed).toEqual([10_000, 10_020, 10_020, 0]);
  });
});

describe('digests', () => {
  test('of recent records are kept, so many', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    let n = 0;
    while (p.log.lastSeq < 2 * CHAINS_MAX - 1) p.request(1, [[++n, 'trim', 1]]);
    expect(p.core.state.leader?.chains).toHaveLength(2 * CHAINS_MAX);
    p.request(1, [[++n, 'trim', 1]]);
    expect(p.core.state.leader?.chains).toHaveLength(CHAINS_MAX + 1);
    expect(p.core.state.leader?.chains.at(-1)).toEqual({ seq: p.log.lastSeq, chain: p.log.chain });
  });

  test('that differ: the copy is told to be faulty, once its position is one of ours', () => {
    const p = behind(3, 3);
    expect(p.progress(C, 3, 0, { chain: 99 })).toEqual(['event log-differs server=c seq=3', 'tell suspect epoch=1 serverId=c reason=corrupt']);
    const q = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 1 }));
    q.request(1, [[1, 'trim', 1], [2, 'trim', 2]]);
    q.adopted(C, { incarnation: 33, lastSeq: 2 });
    q.progress(C, 2, 0, { chain: 99 });
    expect(peerOf(q, C)).toMatchObject({ verifiedSeq: -1, leaving: false });
  });
});

describe('a slow copy', () => {
  /** Writes that take so long to be acknowledged, one after another, for so long. */
  function writes(p: Alone, latencyMs: number, forMs: number): string[] {
    const told: string[] = [];
    const end = p.nowMs + forMs;
    for (let n = p.log.lastSeq; p.nowMs < end; n++) {
      p.request(1, [[n, 'write', 1]]);
      p.nowMs += latencyMs;
      told.push(...p.progress(B).filter((line) => line.startsWith('tell')).map((line) => `${p.nowMs}: ${line}`));
    }
    return told;
  }

  test('is told of after a while, and again after as long', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(writes(p, 2 * SLOW_MS, 3 * SLOW_FOR_MS)).toEqual([
      '23000: tell suspect epoch=1 serverId=b reason=slow',
      '33000: tell suspect epoch=1 serverId=b reason=slow',
    ]);
    expect(p.core.counts.slowCopies).toBe(2);
  });

  test('that recovers in between is not', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    const told: string[] = [];
    for (let k = 0; k < 4; k++) told.push(...writes(p, 2 * SLOW_MS, SLOW_FOR_MS / 2), ...writes(p, 1, 20));
    expect(told).toEqual([]);
    expect(peerOf(p)?.slowSinceMs).toBe(0);
  });

  test('is one whose average is above the bound, not at it', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    const peer = peerOf(p);
    if (peer) peer.latencyMs = SLOW_MS;
    expect(writes(p, SLOW_MS, 2 * SLOW_FOR_MS)).toEqual([]);
    expect(peer?.slowSinceMs).toBe(0);
    expect(peer?.latencyMs).toBe(SLOW_MS);
  });

  test('is watched one record at a time, from when it was sent', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    p.nowMs += 40;
    p.request(1, [[2, 'write', 1]]);
    p.nowMs += 40;
    p.progress(B, 1);
    expect(peerOf(p)).toMatchObject({ watchedSeq: 2, latencyMs: 0 });
    p.progress(B, 2);
    expect(peerOf(p)).toMatchObject({ watchedSeq: 0, latencyMs: 10 });
    p.progress(B, 3);
    expect(peerOf(p)).toMatchObject({ watchedSeq: 0, latencyMs: 10 });
  });

  test('a learner is not one, however slow', () => {
    const p = new Alone(A).serves(configurationOf([A, B], { learners: [C], copiesWanted: 3 }));
    p.adopted(C, { incarnation: 33, complete: false });
    p.progress(C);
    for (let n = 1; n < 100; n++) {
      p.request(1, [[n, 'write', 1]]);
      p.progress(B);
      p.nowMs += 2 * SLOW_MS;
      expect(p.progress(C).filter((line) => line.startsWith('tell'))).toEqual([]);
    }
    expect(peerOf(p, C)?.slowSinceMs).toBe(0);
  });
});
