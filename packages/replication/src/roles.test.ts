import { changed } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { REPEAT_MS, STUCK_MS, TICK_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

/** B follows A in this epoch. */
function follow(p: Alone, configuration = configurationOf([A, B])): number {
  p.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
  p.saved();
  const attempt = p.core.state.follower?.attempt ?? 0;
  p.from(A, { kind: 'follow', epoch: configuration.epoch, attempt, afterSeq: 0 });
  return attempt;
}

describe('a copy that is appointed primary', () => {
  test('leads, when it is the one that was admitted, and whole', () => {
    const p = new Alone(B);
    expect(p.configure(configurationOf([B, A], { epoch: 2 }))).toContainEqual(expect.stringMatching(/^save .*promisedEpoch=2/));
    p.saved();
    expect(p.core.role).toBe('primary');
  });

  test('does not, while data below its log is missing: it promises nothing, and says how it stands', () => {
    const p = new Alone(B, { ...FRESH, complete: false });
    expect(p.configure(configurationOf([B, A], { epoch: 2 }))).toEqual([expect.stringMatching(/^tell report /)]);
    expect(p.core.role).toBe('idle');
    expect(p.core.durable.promisedEpoch).toBe(0);
  });

  test('takes proof that its predecessor ended for the life that led, and not for the one that follows it now', () => {
    const p = new Alone(B);
    const first = configurationOf([A, B]);
    follow(p, first);
    const second = changed(first, { members: [{ serverId: B, incarnation: 1 }, { serverId: A, incarnation: 1 }] });
    p.configure(second);
    p.saved();
    p.from(A, { kind: 'adopted', epoch: 2, attempt: 5, instance: 8, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: true });
    expect(p.configure(second, true)).not.toContainEqual(expect.stringContaining('propose'));
    expect(p.core.state.leader?.peers.get(A)?.phase).toBe('following');
  });
});

describe('a mirror that cannot go on', () => {
  test('is taken out for its fault, though nothing could be proposed when it said so and it has been silent since', () => {
    const p = new Alone(A);
    p.configure(configurationOf([A, B, C], { minCopies: 3 }));
    p.saved();
    p.from(B, { kind: 'leaving', epoch: 1, fault: 'corrupt' });
    const proposal = p.core.state.leader?.proposal;
    expect(proposal).toMatchObject({ change: { kind: 'remove', serverId: B }, reason: 'corrupt' });
    p.from(C, { kind: 'leaving', epoch: 1, fault: 'sync-failed' }); // one proposal at a time
    p.configure(configurationOf([A, C], { epoch: 2, minCopies: 3 }));
    p.saved();
    p.from(C, { kind: 'leaving', epoch: 2, fault: 'sync-failed' });
    for (let ms = 0; ms < STUCK_MS + REPEAT_MS; ms += TICK_MS) p.tick(TICK_MS);
    expect(p.core.state.leader?.proposal).toMatchObject({ change: { kind: 'remove', serverId: C }, reason: 'sync-failed' });
  });

  test('is taken out for it by the tick, when another proposal was under way', () => {
    const p = new Alone(A);
    p.configure(configurationOf([A, B, C], { minCopies: 3 }));
    p.saved();
    const { leader } = p.core.state;
    if (!leader) throw new Error('it leads');
    p.from(B, { kind: 'leaving', epoch: 1, fault: 'corrupt' });
    leader.proposal = null; // as if it had never been made
    p.tick(TICK_MS);
    expect(leader.proposal).toMatchObject({ change: { serverId: B }, reason: 'corrupt' });
  });
});

describe('syncs of a former role', () => {
  test('do not make a learner whole: what it was filled with since may not be stable', () => {
    const p = new Alone(B, { ...FRESH, complete: false });
    const first = configurationOf([A], { learners: [B] });
    follow(p, first);
    p.log.durableSeq = -1;
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual(['sync']);
    const attempt = follow(p, changed(first, {}));
    expect(p.from(A, { kind: 'complete', epoch: 2, attempt })).toEqual(['sync']);
    p.synced(); // of the first epoch
    expect(p.core.durable.complete).toBe(false);
    p.synced();
    expect(p.core.durable.complete).toBe(true);
  });

  test('a copy is called whole only when that is stable, however often it is asked', () => {
    const p = new Alone(B, { ...FRESH, complete: false });
    const configuration = configurationOf([A], { learners: [B] });
    const attempt = follow(p, configuration);
    p.from(A, { kind: 'complete', epoch: 1, attempt });
    expect(p.synced()).toContainEqual(expect.stringMatching(/^save .*complete=true/));
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt })).toEqual([]);
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual([]);
    expect(p.saved()).toContainEqual(expect.stringContaining('completed'));
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual([expect.stringContaining('complete=true')]);
  });
});
