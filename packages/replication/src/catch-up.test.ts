import type { CopyMessage } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { COMPARES_MAX, REPAIR_TRIES_MAX, REPEAT_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

const BLOCKS = new Uint8Array(3);

/** A primary alone, which holds these extents, and a new copy that follows in its comparison. */
function fills(extents: readonly number[], members = [A]): Alone {
  const p = new Alone(A).serves(configurationOf(members, { learners: [C] }));
  for (const extent of extents) p.log.extents.add(extent);
  p.synced();
  p.nowMs = 20_000;
  p.adopted(C, { incarnation: 33, complete: false, lastSeq: 0, epochStarts: [] });
  return p;
}
function listed(p: Alone, from: number, extents: readonly number[], end = true): string[] {
  return p.from(C, { kind: 'extents', epoch: 1, from, extents, end });
}
function compared(p: Alone, extent: number, more: Partial<CopyMessage & { kind: 'compared' }> = {}): string[] {
  return p.from(C, { kind: 'compared', epoch: 1, attempt: 50, extent, seq: 1, blocks: BLOCKS, ...more });
}
function agreed(p: Alone, extent: number, differing = 0, pieces = Math.min(differing, 1)): string[] { return p.do({ kind: 'extent-compared', to: C, extent, differing, pieces }); }
function filled(p: Alone, extent: number): string[] { return p.from(C, { kind: 'filled', epoch: 1, extent }); }

describe('a copy that is compared', () => {
  test('begins its log anew at our end, and is asked what it holds when it has', () => {
    const p = fills([]);
    expect(p.core.counts.comparisons).toBe(1);
    expect(p.core.state.leader?.peers.get(C)).toMatchObject({ complete: false, sentSeq: 1 });
    expect(p.tick(TICK_MS)).toEqual([
      'lease: committed 1 1',
      'tell status 1 serving: a in-sync, c rebuilding',
      'timer tick +50',
    ]);
    expect(p.progress(C, 0)).toEqual(['c < list-extents epoch=1 from=0']);
    const q = fills([]);
    expect(q.adopted(C, { attempt: 51, lineage: 2 })).toEqual([
      'lease: establish c 1 60 20000',
      'c < restart-log epoch=1 attempt=51 commonSeq=-1 lineage=1 position={seq=1 chain=2552552123} epochStarts=[epoch=1 firstSeq=1] session={attachNumber=1 count=1 appliedThrough=0}',
    ]);
  });

  test('is asked for each extent that either of us holds, so many at a time', () => {
    const ours = Array.from({ length: COMPARES_MAX }, (_, i) => 10 * i + 2);
    const p = fills(ours);
    p.progress(C, 1);
    const all = [0, 2, 5, ...ours.slice(1), 995];
    const asked = (extent: number): string => `c < compare epoch=1 extent=${extent}`;
    expect(listed(p, 0, [0, 2, 5, 995])).toEqual(all.slice(0, COMPARES_MAX).map(asked));
    expect(p.core.state.leader?.peers.get(C)?.comparison?.open.size).toBe(COMPARES_MAX);
    expect(agreed(p, 5)).toEqual([asked(all[COMPARES_MAX] as number)]);
    for (const extent of all.slice(0, -1)) if (extent !== 5) agreed(p, extent);
    expect(agreed(p, 995)).toEqual(['c < complete epoch=1 attempt=50']);
  });

  test('is asked for the rest of its list when that is used up', () => {
    const p = fills([9]);
    expect(p.progress(C, 1)).toEqual(['c < list-extents epoch=1 from=0']);
    expect(listed(p, 0, [0, 1, 3], false)).toEqual([
      'c < compare epoch=1 extent=0',
      'c < compare epoch=1 extent=1',
      'c < compare epoch=1 extent=3',
      'c < list-extents epoch=1 from=4',
    ]);
    expect(listed(p, 0, [0, 1, 3], false)).toEqual([]);
    expect(listed(p, 4, [6, 12])).toEqual(['c < compare epoch=1 extent=6', 'c < compare epoch=1 extent=9', 'c < compare epoch=1 extent=12']);
    expect(listed(p, 13, [40])).toEqual([]);
    for (const extent of [0, 1, 3, 6, 9]) agreed(p, extent);
    expect(agreed(p, 12)).toEqual(['c < complete epoch=1 attempt=50']);
    const q = fills([]);
    q.progress(C, 1);
    expect(listed(q, 0, [], false)).toEqual(['c < list-extents epoch=1 from=1']);
    expect(listed(q, 1, [], true)).toEqual(['c < complete epoch=1 attempt=50']);
  });

  test('has its differences filled, and each extent is compared again until none is left', () => {
    const p = fills([2]);
    p.progress(C, 1);
    listed(p, 0, []);
    expect(compared(p, 2)).toEqual(['compare with c 1 2 1 3, bad blocks as lost']);
    expect(agreed(p, 2, 5)).toEqual([]);
    expect(filled(p, 2)).toEqual(['c < compare epoch=1 extent=2']);
    expect(filled(p, 3)).toEqual([]);
    expect(compared(p, 2)).toEqual(['compare with c 1 2 1 3, bad blocks as lost']);
    expect(agreed(p, 2)).toEqual(['c < complete epoch=1 attempt=50']);
    expect(agreed(p, 2)).toEqual([]);
    expect(compared(p, 2)).toEqual([]);
  });

  test('is told that it is whole only once all is committed that was filled', () => {
    const p = fills([2, 3], [A, B]);
    p.request(1, [[1, 'write', 1]]);
    p.request(1, [[2, 'write', 2]]);
    p.progress(C, 3);
    listed(p, 0, []);
    compared(p, 2, { seq: 3 });
    compared(p, 3, { seq: 2 });
    agreed(p, 2);
    expect(agreed(p, 3)).toEqual([]);
    expect(p.progress(B, 2)).toEqual(['commit 2', 'lease: committed 1 2', 'reply 1 1 [1] ok']);
    expect(p.tick(TICK_MS)).toEqual([
      'lease: committed 1 2',
      'tell status 1 serving: a in-sync, b in-sync, c rebuilding',
      'timer tick +50',
    ]);
    expect(p.progress(B, 3)).toEqual(['commit 3', 'lease: committed 1 3', 'reply 1 1 [2] ok']);
    expect(p.tick(TICK_MS)).toEqual(['lease: committed 1 3', 'c < complete epoch=1 attempt=50', 'timer tick +50']);
    expect(p.tick(REPEAT_MS - 1)).toEqual(['lease: committed 1 3', 'timer tick +50']);
    expect(p.tick(1)).toEqual(['lease: committed 1 3', 'c < complete epoch=1 attempt=50', 'timer tick +50']);
  });

  test('that is a member is asked again too, while nobody writes', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B], { minCopies: 2 }));
    p.adopted(B, { incarnation: 1, complete: false, lastSeq: 0, epochStarts: [] });
    p.progress(B, 0);
    p.from(B, { kind: 'extents', epoch: 1, from: 0, extents: [4], end: true });
    expect(p.core.state.leader?.serving).toBe(true);
    expect(p.core.state.leader?.peers.get(B)?.comparison?.open.size).toBe(1);
    let asked = 0;
    for (let ms = 0; ms < 6 * REPEAT_MS; ms += TICK_MS) {
      const lines = p.tick(TICK_MS);
      asked += lines.filter((line) => line === 'b < compare epoch=1 extent=4').length;
      expect(lines).toContain('timer tick +50');
    }
    expect(asked).toBe(1);
  });

  test('that is whole, for the answer that it was meant for, is let in', () => {
    const p = fills([2]);
    p.progress(C, 1);
    listed(p, 0, []);
    agreed(p, 2, 1);
    agreed(p, 2);
    expect(p.from(C, { kind: 'completed', epoch: 1, attempt: 49 })).toEqual([]);
    expect(p.from(C, { kind: 'completed', epoch: 1, attempt: 50 })).toEqual(['event copy-filled server=c extents=1 filled=1 filledBytes=4096', 'c < sync epoch=1']);
    expect(p.from(C, { kind: 'completed', epoch: 1, attempt: 50 })).toEqual([]);
    expect(p.core.counts.rebuilds).toBe(1);
  });

  test('that had a part of our log is not counted as made from nothing', () => {
    const p = new Alone(A).serves(configurationOf([A], { learners: [C], copiesWanted: 1 }));
    p.request(1, [[1, 'write', 1]]);
    p.log.trimmedSeq = 2;
    p.adopted(C, { incarnation: 33, lastSeq: 1 });
    p.progress(C, 2);
    listed(p, 0, []);
    expect(p.from(C, { kind: 'completed', epoch: 1, attempt: 50 })).toContain('event copy-filled server=c extents=0 filled=0 filledBytes=0');
    expect(p.core.counts.rebuilds).toBe(0);
  });

  test('by a primary that cannot serve without it: takes the risk', () => {
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([A]) }, new Alone(B).serves(configurationOf([B], { copiesWanted: 1 })).log);
    p.leads(configurationOf([A, B], { epoch: 2, minCopies: 2, learners: [C] }));
    p.adopted(C, { incarnation: 33, complete: false, lastSeq: 0, epochStarts: [] });
    p.progress(C, 1);
    expect(p.from(C, { kind: 'extents', epoch: 2, from: 0, extents: [], end: true })).toEqual(['c < complete epoch=2 attempt=50']);
    expect(p.from(C, { kind: 'completed', epoch: 2, attempt: 50 })).toEqual(['event copy-filled server=c extents=0 filled=0 filledBytes=0', 'c < sync epoch=2', 'sync', 'b < sync epoch=2']);
    const q = new Alone(A);
    q.leads(configurationOf([A, B], { learners: [C] }));
    q.adopted(C, { incarnation: 33, complete: false, lastSeq: 0, epochStarts: [] });
    q.progress(C, 0);
    expect(listed(q, 0, [])).toEqual([]);
  });
});

describe('an extent that is filled in pieces', () => {
  const AGAIN = ['c < compare epoch=1 extent=2'];
  function begun(): Alone {
    const p = fills([2]);
    p.progress(C, 1);
    listed(p, 0, []);
    compared(p, 2);
    return p;
  }

  test('is compared again when all of them are in place', () => {
    const p = begun();
    expect(agreed(p, 2, 80, 3)).toEqual([]);
    expect(filled(p, 2)).toEqual([]);
    expect(filled(p, 2)).toEqual([]);
    expect(filled(p, 2)).toEqual(AGAIN);
    expect(p.core.state.leader?.peers.get(C)?.comparison).toMatchObject({ filledExtents: 1, filledBlocks: 80 });
  });

  test('is not compared before the last of them was sent, however many are in place', () => {
    const p = begun();
    for (let n = 0; n < 3; n++) expect(filled(p, 2)).toEqual([]);
    expect(agreed(p, 2, 80, 3)).toEqual(AGAIN);
    const q = begun();
    filled(q, 2);
    expect(agreed(q, 2, 80, 3)).toEqual([]);
    filled(q, 2);
    expect(filled(q, 2)).toEqual(AGAIN);
  });

  test('that were acknowledged twice: is compared early, and once for each time that it was asked for', () => {
    const p = begun();
    agreed(p, 2, 40, 2);
    filled(p, 2);
    expect(filled(p, 2)).toEqual(AGAIN);
    expect(filled(p, 2)).toEqual([]);
    expect(filled(p, 2)).toEqual([]);
    compared(p, 2);
    // What came before the answer is of the pieces before it.
    expect(agreed(p, 2, 40, 2)).toEqual([]);
    filled(p, 2);
    expect(filled(p, 2)).toEqual(AGAIN);
    compared(p, 2);
    expect(agreed(p, 2)).toEqual(['c < complete epoch=1 attempt=50']);
    expect(filled(p, 2)).toEqual([]);
  });

  test('of which one is lost: is asked for again after a while without any acknowledgement, and counted anew', () => {
    const p = begun();
    agreed(p, 2, 80, 3);
    filled(p, 2);
    p.nowMs += 5 * REPEAT_MS - 1;
    expect(filled(p, 2)).toEqual([]);
    expect(p.tick(5 * REPEAT_MS - 1)).not.toContain(AGAIN[0]);
    expect(p.tick(1)).toContain(AGAIN[0]);
    expect(filled(p, 2)).toEqual([]);
    compared(p, 2);
    agreed(p, 2, 40, 2);
    expect(filled(p, 2)).toEqual([]);
    expect(filled(p, 2)).toEqual(AGAIN);
  });

  test('of which the last was just sent is not asked for again, long as they took', () => {
    const p = begun();
    p.nowMs += 5 * REPEAT_MS - 1;
    agreed(p, 2, 80, 3);
    expect(p.tick(5 * REPEAT_MS - 1)).not.toContain(AGAIN[0]);
    expect(p.tick(1)).toContain(AGAIN[0]);
  });

  test('of which none could be sent waits for its time: what is bad may be mended', () => {
    const p = begun();
    filled(p, 2);
    expect(agreed(p, 2, 1, 0)).toEqual([]);
    expect(filled(p, 2)).toEqual([]);
    expect(p.tick(5 * REPEAT_MS)).toContain(AGAIN[0]);
  });

  test('is another for what sends them each time that it is asked for or answered', () => {
    const p = begun();
    const entry = (): unknown => p.core.state.leader?.peers.get(C)?.comparison?.open.get(2);
    const first = entry();
    agreed(p, 2, 80, 3);
    filled(p, 2);
    expect(entry()).toBe(first);
    compared(p, 2);
    const second = entry();
    expect(second).not.toBe(first);
    expect(second).toMatchObject({ pieces: 0, filled: 0, repeats: 0 });
    p.tick(5 * REPEAT_MS);
    expect(entry()).not.toBe(second);
    expect(entry()).toMatchObject({ pieces: 0, filled: 0, repeats: 1 });
  });
});

describe('what is lost on the way', () => {
  test('a list is asked for again', () => {
    const p = fills([]);
    p.progress(C, 1);
    expect(p.tick(REPEAT_MS - 1)).toEqual([
      'lease: committed 1 1',
      'tell status 1 serving: a in-sync, c rebuilding',
      'timer tick +50',
    ]);
    expect(p.tick(1)).toEqual(['lease: committed 1 1', 'c < list-extents epoch=1 from=0', 'timer tick +50']);
    expect(p.tick(TICK_MS)).toEqual(['lease: committed 1 1', 'timer tick +50']);
  });

  test('extents are asked for again after a longer while in which nothing was answered', () => {
    const p = fills([2, 3]);
    p.progress(C, 1);
    listed(p, 0, []);
    p.nowMs += 500;
    compared(p, 2);
    p.nowMs += 5 * REPEAT_MS - 1;
    expect(p.tick()).toEqual([
      'lease: committed 1 1',
      'tell status 1 serving: a in-sync, c rebuilding (moved 0, remaining 2097152)',
      'timer tick +50',
    ]);
    expect(p.tick(1)).toEqual(['lease: committed 1 1', 'c < compare epoch=1 extent=2', 'c < compare epoch=1 extent=3', 'timer tick +50']);
    expect(p.tick(5 * REPEAT_MS - 1)).toEqual(['lease: committed 1 1', 'timer tick +50']);
    expect(p.tick(1)).toContain('c < compare epoch=1 extent=2');
  });

  test('what is committed: a copy whose journal is full of fills has no other room, and nothing may be written here', () => {
    const p = fills([2], [A, B]);
    p.progress(B, 1);
    p.progress(C, 1);
    listed(p, 0, []);
    expect(p.tick(TICK_MS)).toContain('lease: committed 1 1');
    expect(p.tick(TICK_MS)).toContain('lease: committed 1 1');
  });

  test('nothing is asked of a copy that does not follow any more', () => {
    const p = fills([2]);
    p.progress(C, 1);
    p.tick(5 * REPEAT_MS);
    p.do({ kind: 'relation-lost', peer: C });
    expect(p.tick(5 * REPEAT_MS)).toEqual(['c < adopt epoch=1 configuration=1', 'timer tick +50']);
  });

  test('answers of another epoch or another start count for nothing', () => {
    const p = fills([2]);
    p.progress(C, 1);
    expect(p.from(C, { kind: 'extents', epoch: 2, from: 0, extents: [], end: true })).toEqual([]);
    listed(p, 0, []);
    expect(compared(p, 2, { attempt: 49 })).toEqual([]);
    expect(compared(p, 2, { epoch: 2 })).toEqual([]);
    expect(compared(p, 7)).toEqual([]);
    expect(p.do({ kind: 'extent-compared', to: B, extent: 2, differing: 0, pieces: 0 })).toEqual([]);
    expect(new Alone(A).do({ kind: 'extent-compared', to: C, extent: 2, differing: 0, pieces: 0 })).toEqual([]);
    expect(p.core.state.leader?.peers.get(C)?.comparison?.open.has(2)).toBe(true);
  });
});

describe('a bad block of ours', () => {
  test('is filled as lost when there is nobody to mend it', () => {
    const p = fills([2]);
    p.progress(C, 1);
    listed(p, 0, []);
    expect(compared(p, 2)).toEqual(['compare with c 1 2 1 3, bad blocks as lost']);
  });

  test('is waited for as long as a mirror may mend it', () => {
    const p = fills([2], [A, B]);
    p.progress(C, 1);
    listed(p, 0, []);
    for (let repeats = 0; repeats < REPAIR_TRIES_MAX; repeats++) {
      expect(compared(p, 2)).toEqual(['compare with c 1 2 1 3']);
      p.leases.heard.set(B, p.nowMs + 50_000);
      p.tick(5 * REPEAT_MS);
    }
    expect(compared(p, 2)).toEqual(['compare with c 1 2 1 3, bad blocks as lost']);
    const q = fills([2], [A, B]);
    q.progress(C, 1);
    listed(q, 0, []);
    q.do({ kind: 'relation-lost', peer: B });
    expect(compared(q, 2)).toEqual(['compare with c 1 2 1 3, bad blocks as lost']);
    // A member that is compared itself can mend nothing.
    const r = new Alone(A).serves(configurationOf([A, B], { minCopies: 2 }));
    r.log.extents.add(2);
    r.adopted(B, { attempt: 51, complete: false });
    r.progress(B, 1, 0, { attempt: 51 });
    r.from(B, { kind: 'extents', epoch: 1, from: 0, extents: [], end: true });
    expect(r.from(B, { kind: 'compared', epoch: 1, attempt: 51, extent: 2, seq: 1, blocks: BLOCKS })).toEqual(['compare with b 1 2 1 3, bad blocks as lost']);
  });
});
