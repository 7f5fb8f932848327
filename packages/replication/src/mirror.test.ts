import { changed, Frame, FrameKind, type Configuration, type CopyMessage } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { newCopyState } from './durable.ts';
import { EXTENT_LIST_MAX, LEASE_MS, SYNC_ALONG_BYTES } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

const position = { seq: 0, chain: 0 };
const session = { attachNumber: 0, count: 0, appliedThrough: 0 };

/** B, which has promised epoch 1 to A and follows it from an empty log. */
function follows(more: Partial<Configuration> = {}, durable = FRESH): { p: Alone; attempt: number; configuration: Configuration } {
  const configuration = configurationOf([A, B], more);
  const p = new Alone(B, durable);
  const { attempt } = adopted(p, configuration);
  p.from(A, { kind: 'follow', epoch: 1, attempt, afterSeq: 0 });
  return { p, attempt, configuration };
}

function adopted(p: Alone, configuration: Configuration): { attempt: number } {
  p.from(configuration.members[0]?.serverId ?? A, { kind: 'adopt', epoch: configuration.epoch, configuration });
  p.saved();
  return { attempt: p.core.state.follower?.attempt ?? 0 };
}

/** A record of a primary that nobody else knows. */
function record(firstSeq: number, { committed = 0, sender = 1, count = 1 } = {}): CopyMessage & { kind: 'append' } {
  const frame = Frame.create(FrameKind.log, count, 0);
  frame.epoch = 1;
  frame.senderEpoch = sender;
  frame.firstSeq = firstSeq;
  frame.committedSeq = committed;
  frame.chain = 1000 + firstSeq;
  return { kind: 'append', frame };
}

describe('a copy that is made anew on a server that held one', () => {
  const now = changed(configurationOf([A, C]), { learners: [B] });

  test('refuses the primary of an earlier epoch, which may still count on the copy before it', () => {
    const p = new Alone(B, newCopyState(now, false));
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration: configurationOf([A, B]) })).toEqual(['a < fenced epoch=2']);
    expect(p.from(C, { kind: 'adopt', epoch: 2, configuration: now })).toEqual([]);
  });

  test('follows the primary of the epoch in which it was made', () => {
    const p = new Alone(B, newCopyState(now, false));
    expect(p.from(A, { kind: 'adopt', epoch: 2, configuration: now }).at(-1)).toMatch(/^a < adopted epoch=2 .* complete=false$/);
  });

  test('a founding copy has promised nothing yet, and lacks nothing', () => {
    expect(newCopyState(configurationOf([A, B]), true)).toEqual({ promisedEpoch: 0, configuration: null, complete: true, fault: null });
  });
});

describe('a copy that is adopted', () => {
  test('asked again while its promise is on the way to the disk, and its role was taken meanwhile, answers when the promise is there', () => {
    const p = new Alone(B);
    const configuration = configurationOf([A, B]);
    p.from(A, { kind: 'adopt', epoch: 1, configuration });
    p.configure(changed(configurationOf([A, C]), {}));
    expect(p.core.state.follower).toBeNull();
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual(['lease: promise 1 a']);
    expect(p.saved().at(-1)).toMatch(/^a < adopted epoch=1 /);
  });

  test('promises first, and answers with where it stands', () => {
    const p = new Alone(B);
    const configuration = configurationOf([A, B], { sizeBytes: 2 ** 31 });
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual([
      'lease: promise 1 a',
      'save 1 promisedEpoch=1 complete=true fault=null configuration=1',
    ]);
    expect(p.saved()).toEqual(['grow 2147483648', 'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true']);
    expect(p.core.role).toBe('idle');
    expect(p.from(A, { kind: 'follow', epoch: 1, attempt: 99, afterSeq: 0 })).toEqual([]);
    const attempt = p.core.state.follower?.attempt ?? 0;
    expect(p.from(A, { kind: 'follow', epoch: 1, attempt, afterSeq: 0 })).toEqual(['a < progress epoch=1 attempt=901 seq=0 durableSeq=0 chain=0']);
    expect(p.core.role).toBe('following');
  });

  test('with a fault it promises nothing', () => {
    const p = new Alone(B, { ...FRESH, promisedEpoch: 1, fault: 'corrupt' });
    expect(p.from(A, { kind: 'adopt', epoch: 2, configuration: configurationOf([A, B], { epoch: 2 }) })).toEqual(['a < leaving epoch=2 fault=corrupt']);
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration: configurationOf([A, B]) })).toEqual(['a < leaving epoch=1 fault=corrupt']);
  });

  test('answers a promise that is no longer the newest only when it follows in that epoch', () => {
    const p = new Alone(B);
    const first = configurationOf([A, B]);
    p.from(A, { kind: 'adopt', epoch: 1, configuration: first });
    p.configure(changed(first, { members: [{ serverId: B, incarnation: 1 }] }));
    expect(p.saved()).toEqual([]);
    expect(p.saved()).toEqual([
      'event leading epoch=2 members=1 settleSeq=0',
      'timer tick +50',
      'tell status 2 not serving: b in-sync',
      'event serving epoch=2 seq=0',
      'tell status 2 serving: b in-sync',
    ]);
  });

  test('after a restart it follows the same primary again, under its old promise', () => {
    const configuration = configurationOf([A, B]);
    const p = new Alone(B, { ...FRESH, promisedEpoch: 1, configuration });
    expect(p.do({ kind: 'started' })).toEqual([
      'tell report lineage=1 promisedEpoch=1 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=null attachNumber=0 asked=0',
    ]);
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual([
      'lease: promise 1 a',
      'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true',
    ]);
    expect(p.from(A, { kind: 'adopt', epoch: 1, configuration })).toEqual([
      'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true',
    ]);
  });

  test('after a restart records and orders bring it back, if they are of the primary of its promise', () => {
    const configuration = configurationOf([A, B]);
    const back = (more = {}): Alone => new Alone(B, { ...FRESH, promisedEpoch: 1, configuration, ...more });
    expect(back().from(A, record(1))).toEqual([
      'lease: promise 1 a',
      'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true',
    ]);
    expect(back().from(A, { kind: 'sync', epoch: 1 })).toEqual([
      'lease: promise 1 a',
      'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true',
    ]);
    // One that was being filled while nobody writes hears of nothing else.
    for (const order of [{ kind: 'list-extents', epoch: 1, from: 0 }, { kind: 'compare', epoch: 1, extent: 5 }, { kind: 'complete', epoch: 1, attempt: 900 }] as const) {
      expect(back({ complete: false }).from(A, order)).toEqual([
        'lease: promise 1 a',
        'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=false',
      ]);
      expect(back().from(C, order)).toEqual([]);
      expect(back({ fault: 'corrupt' }).from(A, order)).toEqual(['lease: promise 1 a']);
    }
    expect(back().from(C, record(1))).toEqual([]);
    expect(back().from(C, { kind: 'sync', epoch: 1 })).toEqual([]);
    expect(back({ configuration: null }).from(A, { kind: 'sync', epoch: 1 })).toEqual([]);
    expect(back({ promisedEpoch: 2 }).from(A, { kind: 'sync', epoch: 3 })).toEqual([]);
    expect(back({ fault: 'corrupt' }).from(A, { kind: 'sync', epoch: 1 })).toEqual(['lease: promise 1 a']);
    expect(back({ promisedEpoch: 2 }).from(A, record(1))).toEqual(['a < fenced epoch=2']);
    expect(back({ promisedEpoch: 2 }).from(A, { kind: 'sync', epoch: 1 })).toEqual(['a < fenced epoch=2']);
  });

  test('one that leads is not brought back by its own records', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    expect(p.from(A, record(2))).toEqual([]);
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual([]);
    expect(p.core.state.follower).toBeNull();
  });

  test('an order to sync before it is told where to go on is answered with where it stands', () => {
    const p = new Alone(B);
    const configuration = configurationOf([A, B]);
    p.from(A, { kind: 'adopt', epoch: 1, configuration });
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual([]);
    p.saved();
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual([
      'a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true',
    ]);
  });

  test('one that led steps down, and tells everybody', () => {
    const p = new Alone(B).serves(configurationOf([B], { copiesWanted: 1 }));
    p.leases.given = { to: C, epoch: 2, untilMs: p.nowMs + 100 };
    expect(p.from(A, { kind: 'adopt', epoch: 2, configuration: configurationOf([A, B], { epoch: 2 }) })).toEqual([
      'lease: end',
      'answer 1 refused sessionId=1 epoch=2 reason=not-serving',
      'drop reads',
      'event stepped-down epoch=1 for=2',
      'lease: promise 2 a',
      'save 2 promisedEpoch=2 complete=true fault=null configuration=2',
    ]);
    expect(p.core.state.lastLed).toEqual({ by: C, heardMs: p.nowMs + 100 - LEASE_MS });
  });
});

describe('records', () => {
  test('are journaled, acknowledged, and committed as far as the primary says', () => {
    const { p } = follows();
    expect(p.from(A, record(1))).toEqual([
      'append 1-1 epoch=1 sender=1 committed=0 number=0',
      'a < progress epoch=1 attempt=901 seq=1 durableSeq=0 chain=1001',
    ]);
    expect(p.from(A, record(2, { count: 3, committed: 1 }))).toEqual([
      'append 2-4 epoch=1 sender=1 committed=1 number=0',
      'a < progress epoch=1 attempt=901 seq=4 durableSeq=0 chain=1002',
      'commit 1',
    ]);
    expect(p.from(A, record(5, { committed: 1 }))).toEqual([
      'append 5-5 epoch=1 sender=1 committed=1 number=0',
      'a < progress epoch=1 attempt=901 seq=5 durableSeq=0 chain=1005',
    ]);
    expect(p.from(A, record(7))).toEqual(['a < gap epoch=1 attempt=901 seq=5']);
    expect(p.from(A, record(5))).toEqual(['a < progress epoch=1 attempt=901 seq=5 durableSeq=0 chain=1005']);
    expect(p.do({ kind: 'committed', from: A, epoch: 1, seq: 4 })).toEqual(['commit 4']);
    expect(p.do({ kind: 'committed', from: A, epoch: 1, seq: 3 })).toEqual([]);
    expect(p.do({ kind: 'committed', from: C, epoch: 1, seq: 5 })).toEqual([]);
    expect(p.do({ kind: 'committed', from: A, epoch: 2, seq: 5 })).toEqual([]);
    expect(p.do({ kind: 'committed', from: A, epoch: 1, seq: 99 })).toEqual(['commit 5']);
  });

  test('a commit point that comes before the copy follows waits for the next', () => {
    const { p: before, configuration } = follows();
    before.from(A, record(1));
    const p = new Alone(B, { ...FRESH, promisedEpoch: 1, configuration }, before.log);
    p.from(A, { kind: 'adopt', epoch: 1, configuration });
    expect(p.do({ kind: 'committed', from: A, epoch: 1, seq: 1 })).toEqual([]);
  });

  test('of a copy with a fault are not taken', () => {
    const { p } = follows();
    p.do({ kind: 'store-failed', fault: 'append-failed' });
    expect(p.from(A, record(1))).toEqual([]);
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual([]);
    const { attempt } = p.core.state.follower ?? { attempt: 0 };
    expect(p.from(A, { kind: 'follow', epoch: 1, attempt, afterSeq: 0 })).toEqual([]);
  });

  test('strict: each begins a sync, one at a time, and the last is covered', () => {
    const { p } = follows({ durability: 'strict' });
    expect(p.from(A, record(1))).toEqual([
      'append 1-1 epoch=1 sender=1 committed=0 number=0',
      'sync',
      'a < progress epoch=1 attempt=901 seq=1 durableSeq=0 chain=1001',
    ]);
    expect(p.from(A, record(2))).toEqual([
      'append 2-2 epoch=1 sender=1 committed=0 number=0',
      'a < progress epoch=1 attempt=901 seq=2 durableSeq=0 chain=1002',
    ]);
    expect(p.from(A, record(3))).toEqual([
      'append 3-3 epoch=1 sender=1 committed=0 number=0',
      'a < progress epoch=1 attempt=901 seq=3 durableSeq=0 chain=1003',
    ]);
    expect(p.synced(1)).toEqual(['sync', 'a < progress epoch=1 attempt=901 seq=3 durableSeq=1 chain=1003']);
    expect(p.synced(3)).toEqual(['a < progress epoch=1 attempt=901 seq=3 durableSeq=3 chain=1003']);
    expect(p.synced(3)).toEqual([]);
  });
});

describe('orders', () => {
  test('to sync: answered at once when all is stable, else when it is', () => {
    const { p } = follows();
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual(['a < progress epoch=1 attempt=901 seq=0 durableSeq=0 chain=0']);
    p.from(A, record(1));
    expect(p.from(A, { kind: 'sync', epoch: 1 })).toEqual(['sync']);
    expect(p.synced()).toEqual(['a < progress epoch=1 attempt=901 seq=1 durableSeq=1 chain=1001']);
  });

  test('to cut: once an answer, and never what was acknowledged since', () => {
    const { p } = follows();
    for (const seq of [1, 2, 3]) p.from(A, record(seq));
    const next = configurationOf([A, B], { epoch: 2 });
    const { attempt } = adopted(p, next);
    expect(p.from(A, { kind: 'follow', epoch: 2, attempt: attempt + 1, afterSeq: 1 })).toEqual([]);
    expect(p.from(A, { kind: 'follow', epoch: 2, attempt, afterSeq: 2 })).toEqual([
      'truncate 2',
      'a < progress epoch=2 attempt=902 seq=2 durableSeq=0 chain=1002',
    ]);
    expect(p.from(A, { kind: 'follow', epoch: 2, attempt, afterSeq: 1 })).toEqual(['a < progress epoch=2 attempt=902 seq=2 durableSeq=0 chain=1002']);
    expect(p.core.counts.truncations).toBe(1);
  });

  test('to begin the log anew: incomplete first, stable, and only for the answer that it was meant for', () => {
    const p = new Alone(B);
    const { attempt } = adopted(p, configurationOf([A, B]));
    const order = { kind: 'restart-log', epoch: 1, attempt, commonSeq: -1, lineage: 4, position: { seq: 70, chain: 5 }, epochStarts: [{ epoch: 1, firstSeq: 60 }], session } as const;
    expect(p.from(A, { ...order, attempt: attempt + 1 })).toEqual([]);
    expect(p.from(A, order)).toEqual(['save 2 promisedEpoch=1 complete=false fault=null configuration=1']);
    expect(p.saved()).toEqual([
      'restart-log 4 seq=70 chain=5 [epoch=1 firstSeq=60] attachNumber=0 count=0 appliedThrough=0 -1',
      expect.stringMatching(/^tell report .*complete=false lastEpoch=1 lastSeq=70/),
      'a < progress epoch=1 attempt=901 seq=70 durableSeq=70 chain=5',
    ]);
    expect(p.from(A, order)).toEqual(['a < progress epoch=1 attempt=901 seq=70 durableSeq=70 chain=5']);
    // The journal of the primary was trimmed past us meanwhile: only another answer gets us on.
    expect(p.from(A, { ...order, position: { seq: 90, chain: 5 } })).toEqual([
      'a < adopted epoch=1 attempt=902 instance=7 incarnation=1 lineage=4 lastSeq=70 durableSeq=70 epochStarts=[epoch=1 firstSeq=60] complete=false',
    ]);
    expect(p.core.state.follower?.attempt).not.toBe(attempt);
    expect(p.core.role).toBe('idle');
  });

  test('to begin the log anew twice, or by a primary that was replaced: once', () => {
    const p = new Alone(B);
    const { attempt } = adopted(p, configurationOf([A, B]));
    const order = { kind: 'restart-log', epoch: 1, attempt, commonSeq: -1, lineage: 4, position, epochStarts: [], session } as const;
    p.from(A, order);
    p.from(A, order);
    expect(p.saved()).toContainEqual(expect.stringContaining('restart-log'));
    expect(p.saved()).toEqual([]);
    const q = new Alone(B);
    q.from(A, { ...order, attempt: adopted(q, configurationOf([A, B])).attempt });
    q.from(C, { kind: 'adopt', epoch: 2, configuration: configurationOf([C, B], { epoch: 2 }) });
    expect(q.saved()).toEqual([]);
  });

  test('to name its extents, to be compared, and filled', () => {
    const { p } = follows();
    for (let extent = 0; extent < EXTENT_LIST_MAX + 4; extent++) p.log.extents.add(extent);
    const lines = p.from(A, { kind: 'list-extents', epoch: 1, from: 3 });
    expect(lines[0]).toMatch(/^a < extents epoch=1 from=3 extents=\[3 4 .* 4098\] end=false$/);
    expect(p.from(A, { kind: 'list-extents', epoch: 1, from: 4097 })).toEqual(['a < extents epoch=1 from=4097 extents=[4097 4098 4099] end=true']);
    expect(p.from(A, { kind: 'compare', epoch: 1, extent: 5 })).toEqual(['a < compared 1 901 5']);
    expect(p.from(A, { kind: 'fill', epoch: 1, extent: 5, frame: Frame.create(FrameKind.fill, 1, 0) })).toEqual([
      'fill 0-0 epoch=0 sender=0 committed=0 number=0',
      'a < filled epoch=1 extent=5',
    ]);
    expect(p.core.counts.filledExtents).toBe(1);
  });

  test('to catch up: what it took in is synced along the way, unless it is a member', () => {
    const piece = (): CopyMessage => ({ kind: 'fill', epoch: 1, extent: 5, frame: Frame.create(FrameKind.fill, 1, 0, new Uint8Array(SYNC_ALONG_BYTES / 2)) });
    const { p } = follows({ members: [{ serverId: A, incarnation: 1 }], learners: [B] });
    expect(p.from(A, piece())).not.toContain('sync');
    expect(p.from(A, piece())).toContain('sync');
    // One at a time; then what came meanwhile is enough for another.
    for (let k = 0; k < 4; k++) expect(p.from(A, piece())).not.toContain('sync');
    p.synced();
    expect(p.from(A, piece())).toContain('sync');
    const { p: member } = follows();
    for (let k = 0; k < 4; k++) expect(member.from(A, piece())).not.toContain('sync');
  });

  test('of filling before it follows: not carried out, answered with where it stands', () => {
    const p = new Alone(B);
    adopted(p, configurationOf([A, B]));
    const stands = ['a < adopted epoch=1 attempt=901 instance=7 incarnation=1 lineage=1 lastSeq=0 durableSeq=0 epochStarts=[] complete=true'];
    expect(p.from(A, { kind: 'list-extents', epoch: 1, from: 0 })).toEqual(stands);
    expect(p.from(A, { kind: 'compare', epoch: 1, extent: 5 })).toEqual(stands);
    expect(p.from(A, { kind: 'fill', epoch: 1, extent: 5, frame: Frame.create(FrameKind.fill, 1, 0) })).toEqual([]);
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt: p.core.state.follower?.attempt ?? 0 })).toEqual(stands);
    expect(new Alone(B).from(A, { kind: 'fill', epoch: 0, extent: 5, frame: Frame.create(FrameKind.fill, 1, 0) })).toEqual([]);
  });

  test('to call itself whole: after a sync and a save', () => {
    const { p, attempt } = follows({}, { ...FRESH, complete: false });
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt: attempt + 1 })).toEqual([]);
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt })).toEqual(['sync']);
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt })).toEqual([]);
    expect(p.synced()).toEqual([
      'save 2 promisedEpoch=1 complete=true fault=null configuration=1',
      'a < progress epoch=1 attempt=901 seq=0 durableSeq=0 chain=0',
    ]);
    expect(p.saved()).toEqual([expect.stringMatching(/^tell report .*complete=true/), 'a < completed epoch=1 attempt=901']);
    expect(p.from(A, { kind: 'complete', epoch: 1, attempt })).toEqual(['a < completed epoch=1 attempt=901']);
  });

  test('to call itself whole, by a primary that was replaced before the save ended: only the system manager is told', () => {
    const { p, attempt } = follows({}, { ...FRESH, complete: false });
    p.from(A, { kind: 'complete', epoch: 1, attempt });
    p.synced();
    p.from(C, { kind: 'adopt', epoch: 2, configuration: configurationOf([C, B], { epoch: 2 }) });
    expect(p.saved()).toEqual([expect.stringMatching(/^tell report .*complete=true/)]);
  });
});

describe('syncs that end', () => {
  test('while it is adopted anew, are nobody\'s', () => {
    const { p, configuration } = follows();
    p.from(A, record(1));
    p.from(A, { kind: 'sync', epoch: 1 });
    p.from(A, { kind: 'adopt', epoch: 2, configuration: changed(configuration, {}) });
    expect(p.synced()).toEqual([]);
    p.saved();
    expect(p.synced()).toEqual([]);
    expect(new Alone(B).synced()).toEqual([]);
  });
});

describe('a disk that fails', () => {
  test('for good: is remembered, told to all, once; and the primary takes it out', () => {
    const { p } = follows();
    expect(p.do({ kind: 'store-failed', fault: 'sync-failed' })).toEqual([
      'save 2 promisedEpoch=1 complete=true fault=sync-failed configuration=1',
      'event copy-faulted fault=sync-failed',
      'tell report lineage=1 promisedEpoch=1 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=sync-failed attachNumber=0 asked=0',
      'a < leaving epoch=1 fault=sync-failed',
    ]);
    expect(p.do({ kind: 'store-failed', fault: 'append-failed' })).toEqual(['a < leaving epoch=1 fault=append-failed']);
    expect(new Alone(B).do({ kind: 'store-failed', fault: 'corrupt' })).toEqual([
      'save 1 promisedEpoch=0 complete=true fault=corrupt configuration=0',
      'event copy-faulted fault=corrupt',
      'tell report lineage=1 promisedEpoch=0 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=corrupt attachNumber=0 asked=0',
    ]);
  });

  test('when it is full: the primary is told, and nothing is remembered', () => {
    const { p } = follows();
    expect(p.do({ kind: 'store-failed', fault: 'no-space' })).toEqual(['a < leaving epoch=1 fault=no-space']);
    expect(p.core.durable.fault).toBeNull();
  });

  test('before it was promised: the primary hears it when it asks', () => {
    const p = new Alone(B);
    p.from(A, { kind: 'adopt', epoch: 1, configuration: configurationOf([A, B]) });
    expect(p.do({ kind: 'store-failed', fault: 'no-space' })).toEqual([]);
  });
});

describe('bad blocks', () => {
  test('a mirror asks its primary, and gives to it', () => {
    const { p } = follows();
    expect(p.do({ kind: 'corrupt-found', extent: 9 })).toEqual(['a < repair epoch=1 extent=9']);
    expect(p.from(A, { kind: 'repair', epoch: 1, extent: 9 })).toEqual(['a < extent 1 9']);
    expect(p.from(C, { kind: 'repair', epoch: 1, extent: 9 })).toEqual([]);
    expect(p.from(A, { kind: 'repair', epoch: 0, extent: 9 })).toEqual([]);
    expect(new Alone(B).from(A, { kind: 'repair', epoch: 0, extent: 9 })).toEqual([]);
    expect(new Alone(B).do({ kind: 'corrupt-found', extent: 9 })).toEqual([]);
  });

  test('a primary asks a mirror that follows, and gives to those that it knows', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B, C]));
    expect(p.do({ kind: 'corrupt-found', extent: 9 })).toEqual([]);
    p.adopted(C);
    expect(p.do({ kind: 'corrupt-found', extent: 9 })).toEqual(['c < repair epoch=1 extent=9']);
    expect(p.from(B, { kind: 'repair', epoch: 1, extent: 9 })).toEqual(['b < extent 1 9']);
    expect(p.from(A, { kind: 'repair', epoch: 1, extent: 9 })).toEqual([]);
    const alone = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    expect(alone.do({ kind: 'corrupt-found', extent: 9 })).toEqual([]);
  });
});
