import { EXTENT_BLOCKS } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { MENDED_MS, REPAIR_TRIES_MAX } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH } from './testing/group.ts';

describe('its own disk', () => {
  test('when it fails for good with a mirror: steps down', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.do({ kind: 'store-failed', fault: 'sync-failed' })).toEqual([
      'save 2 promisedEpoch=1 complete=true fault=sync-failed configuration=1',
      'event copy-faulted fault=sync-failed',
      'tell report lineage=1 promisedEpoch=1 incarnation=1 lostCache=false complete=true lastEpoch=1 lastSeq=1 fault=sync-failed attachNumber=1 asked=0',
      'lease: end',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
      'b < lease-returned epoch=1',
      'event stepped-down epoch=1 for=1',
    ]);
  });

  test('when the last copy\'s fails: all that waits fails, once, and reads go on', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 2 }));
    p.synced();
    p.request(1, [[1, 'write', 1], [2, 'fua', 2]]);
    p.request(1, [[3, 'flush']]);
    p.open(2, 2);
    expect(p.do({ kind: 'store-failed', fault: 'append-failed' })).toEqual([
      'save 2 promisedEpoch=1 complete=true fault=append-failed configuration=1',
      'event copy-faulted fault=append-failed',
      'tell report lineage=1 promisedEpoch=1 incarnation=1 lostCache=false complete=true lastEpoch=1 lastSeq=4 fault=append-failed attachNumber=1 asked=0',
      'reply 1 1 [1 2] ioError',
      'reply 1 1 [3] ioError',
      'answer 2 refused sessionId=2 epoch=1 reason=gap',
      'drop reads',
    ]);
    expect(p.core.state.leader).toMatchObject({ pending: [], flushes: [] });
    expect(p.do({ kind: 'store-failed', fault: 'sync-failed' })).toEqual(['drop reads']);
    expect(p.core.durable.fault).toBe('append-failed');
  });

  test('that fails while it is made primary: another is to lead, where there is one', () => {
    const faulty = { ...FRESH, fault: 'sync-failed' } as const;
    const p = new Alone(A, faulty);
    expect(p.configure(configurationOf([A, B]))).toEqual([expect.stringMatching(/^tell report .*fault=sync-failed/)]);
    expect(p.core.role).toBe('idle');
    const q = new Alone(A);
    q.configure(configurationOf([A, B]));
    q.do({ kind: 'store-failed', fault: 'sync-failed' });
    q.saved();
    q.saved();
    expect(q.core.role).toBe('idle');
    const last = new Alone(A, faulty);
    last.leads(configurationOf([A], { copiesWanted: 2 }));
    expect(last.core.role).toBe('primary');
  });

  test('when it is full: what was not written is forgotten, what was is still committed', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.request(1, [[1, 'write', 1]]);
    p.failAppend = true;
    p.request(1, [[2, 'write', 2]]);
    expect(p.do({ kind: 'store-failed', fault: 'no-space' })).toEqual([
      'event no-space epoch=1',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
    ]);
    expect(p.core.state.leader?.pending.map(({ lastSeq }) => lastSeq)).toEqual([2]);
    expect(p.core.state.leader?.peers.get(B)?.sentSeq).toBe(2);
    p.failAppend = false;
    expect(p.progress(B)).toEqual(['commit 2', 'lease: committed 1 2']);
    expect(p.open(2, 2)).toEqual(['append 3-3 epoch=1 sender=1 committed=2 number=1', 'b < append frame=3-3 epoch=1 sender=1 committed=2 number=1']);
  });

  test('when it is full before it serves: nothing that waited is left', () => {
    const p = new Alone(A);
    p.leads(configurationOf([A, B]));
    p.open(1, 1);
    expect(p.do({ kind: 'store-failed', fault: 'no-space' })).toContain('answer 1 refused sessionId=1 epoch=1 reason=not-serving');
    p.adopted(B);
    expect(p.progress(B)).not.toContainEqual(expect.stringContaining('append'));
    p.open(2, 2, { readOnly: true });
    p.leases.untilMs = 0;
    p.request(2, [[1, 'read', 1]]);
    p.do({ kind: 'store-failed', fault: 'no-space' });
    expect(p.core.state.leader).toMatchObject({ reads: [], flushes: [] });
  });

  test('a sync that ends is followed by another for what came meanwhile, if somebody waits for it', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 2 }));
    expect(p.synced()).toEqual(['commit 1', 'answer 1 opened sessionId=1 epoch=1 generation={attachNumber=1 count=1} sizeBytes=1073741824 appliedThrough=0']);
    p.request(1, [[1, 'write', 1]]);
    p.request(1, [[2, 'write', 1]]);
    expect(p.synced(2)).toEqual(['sync', 'commit 2', 'reply 1 1 [1] ok']);
    expect(p.synced(3)).toEqual(['commit 3', 'reply 1 1 [2] ok']);
    const q = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    q.request(1, [[1, 'write', 1]]);
    q.request(1, [[2, 'flush']]);
    q.request(1, [[3, 'write', 1]]);
    expect(q.synced(2)).toEqual(['reply 1 1 [2] ok']);
    q.request(1, [[4, 'flush']]);
    q.request(1, [[5, 'write', 1]]);
    q.request(1, [[6, 'flush']]);
    expect(q.synced(3)).toEqual(['reply 1 1 [4] ok', 'sync']);
    // Of answers that need our disk too, though a mirror that must follow keeps all else from going on.
    for (const durability of ['strict', 'normal'] as const) {
      const r = new Alone(A).serves(configurationOf([A, B], { durability }));
      r.synced();
      r.progress(B, 1, 1);
      r.request(1, [[1, 'write', 1]]);
      if (durability === 'normal') r.do({ kind: 'peer-silent', peer: B });
      r.request(1, [[2, 'write', 1]]);
      r.do({ kind: 'relation-lost', peer: B });
      expect(r.synced(2).filter((line) => line === 'sync')).toHaveLength(1);
    }
  });
});

describe('a write of a part of a block that is bad', () => {
  const block = EXTENT_BLOCKS + 3;
  function bad(p: Alone): string[] {
    p.failAppend = true;
    p.request(1, [[1, 'write', 1], [2, 'write', block + 0.5], [3, 'fua', block - 0.5], [4, 'write', block], [5, 'trim', block + 1]], { number: 1 });
    const lines = p.do({ kind: 'append-corrupt', block });
    p.failAppend = false;
    const generation = p.core.state.leader?.newest ?? { count: 0 };
    p.open(1, generation.count + 1);
    for (const mirror of p.core.state.leader?.required ?? []) p.progress(mirror.serverId);
    return lines;
  }

  test('nobody can mend it: just those operations fail', () => {
    const p = new Alone(A).serves(configurationOf([A], { copiesWanted: 1 }));
    p.failAppend = true;
    p.request(1, [[1, 'write', 1], [2, 'write', block + 0.5], [3, 'fua', block - 0.5], [4, 'write', block], [5, 'trim', block + 1], [6, 'write', block + 9.5]]);
    expect(p.do({ kind: 'append-corrupt', block })).toEqual([
      'event write-failed block=259 tries=0',
      'reply 1 1 [2 3] ioError',
      'event no-space epoch=1',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
    ]);
  });

  test('and nothing that was written before them', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    p.do({ kind: 'relation-lost', peer: B });
    p.request(1, [[1, 'write', block + 0.5]]);
    p.failAppend = true;
    p.request(1, [[2, 'write', block + 0.5]]);
    expect(p.do({ kind: 'append-corrupt', block })).toContain('reply 1 1 [2] ioError');
    expect(p.core.state.leader?.pending.map(({ lastSeq }) => lastSeq)).toEqual([2]);
  });

  test('mirrors are asked in turn, so many times, and again after a long while', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    expect(bad(p)).toEqual([
      'event repair-asked extent=1 from=b',
      'b < repair epoch=1 extent=1',
      'event no-space epoch=1',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
    ]);
    const asked: string[] = [];
    for (let n = 1; n <= REPAIR_TRIES_MAX; n++) {
      p.nowMs += MENDED_MS - 1;
      const count = p.core.state.leader?.newest.count ?? 0;
      p.failAppend = true;
      p.request(1, [[1, 'write', block + 0.5]], { number: 1, count });
      asked.push(p.do({ kind: 'append-corrupt', block }).filter((line) => line.includes('repair ') || line.includes('write-failed') || line.startsWith('reply')).join(', '));
      p.failAppend = false;
      p.open(1, count + 1);
      for (const mirror of [B, C]) p.progress(mirror);
    }
    expect(asked).toEqual([
      'c < repair epoch=1 extent=1',
      'b < repair epoch=1 extent=1',
      'c < repair epoch=1 extent=1',
      'b < repair epoch=1 extent=1',
      'c < repair epoch=1 extent=1',
      'event write-failed block=259 tries=6, reply 1 1 [1] ioError',
    ]);
    p.nowMs += MENDED_MS;
    p.failAppend = true;
    p.request(1, [[1, 'write', block + 0.5]], { number: 1, count: p.core.state.leader?.newest.count ?? 0 });
    expect(p.do({ kind: 'append-corrupt', block })).toEqual([
      'event repair-asked extent=1 from=b',
      'b < repair epoch=1 extent=1',
      'event no-space epoch=1',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
    ]);
  });

  test('only a mirror that follows is asked, and a copy that does not lead asks nobody', () => {
    const p = new Alone(A).serves(configurationOf([A, B, C]));
    p.do({ kind: 'relation-lost', peer: B });
    expect(p.do({ kind: 'append-corrupt', block })).toEqual([
      'event repair-asked extent=1 from=c',
      'c < repair epoch=1 extent=1',
      'event no-space epoch=1',
      'answer 1 refused sessionId=1 epoch=1 reason=not-serving',
      'drop reads',
    ]);
    expect(new Alone(A).do({ kind: 'append-corrupt', block })).toEqual([]);
  });
});
