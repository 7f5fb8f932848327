import { changed } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { LEASE_MS } from './limits.ts';
import { Alone } from './testing/alone.ts';
import { A, B, C, configurationOf, FRESH, VOLUME } from './testing/group.ts';

describe('configurations', () => {
  test('a report is made when it is asked for', () => {
    const p = new Alone(B);
    expect(p.do({ kind: 'manager', command: { kind: 'ask-report', volumeId: VOLUME, token: 9 } })).toEqual([
      'tell report lineage=1 promisedEpoch=0 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=null attachNumber=0 asked=9',
    ]);
    expect(p.core.report().asked).toBe(9);
  });

  test('older or known ones change nothing; one without us, or with us as a mirror, is only answered with a report', () => {
    const first = configurationOf([A, B]);
    const p = new Alone(B, { ...FRESH, promisedEpoch: 3, configuration: { ...first, epoch: 3 } });
    expect(p.configure({ ...first, epoch: 2 })).toEqual([]);
    expect(p.configure({ ...first, epoch: 3 })).toEqual([]);
    expect(p.configure({ ...first, epoch: 4 })).toEqual([
      'tell report lineage=1 promisedEpoch=3 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=null attachNumber=0 asked=0',
    ]);
    expect(p.core.durable.promisedEpoch).toBe(3);
    const q = new Alone(B, { ...FRESH, promisedEpoch: 3, configuration: null });
    expect(q.configure({ ...configurationOf([B]), epoch: 3 })).toEqual([
      'tell report lineage=1 promisedEpoch=3 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=null attachNumber=0 asked=0',
    ]);
    expect(q.configure({ ...configurationOf([B]), epoch: 2 })).toEqual([]);
    expect(q.configure({ ...configurationOf([A]), epoch: 4 })).toEqual([
      'tell report lineage=1 promisedEpoch=3 incarnation=1 lostCache=false complete=true lastEpoch=0 lastSeq=0 fault=null attachNumber=0 asked=0',
    ]);
  });

  test('one that names us a member or a learner leaves us with whom we follow, one that does not ends that', () => {
    for (const [next, follows] of [[configurationOf([A, B]), true], [configurationOf([A], { learners: [B] }), true], [configurationOf([A, C]), false]] as const) {
      const p = new Alone(B);
      p.from(A, { kind: 'adopt', epoch: 1, configuration: configurationOf([A, B]) });
      p.saved();
      p.configure(changed(next, {}));
      expect(p.core.state.follower !== null).toBe(follows);
    }
  });

  test('a primary that is told of a later one steps down', () => {
    const p = new Alone(A).serves(configurationOf([A, B]));
    expect(p.configure(changed(configurationOf([B, A]), {}))).toEqual([
      'lease: end',
      'answer 1 refused sessionId=1 epoch=2 reason=not-serving',
      'drop reads',
      'b < lease-returned epoch=1',
      'event stepped-down epoch=1 for=2',
      'tell report lineage=1 promisedEpoch=1 incarnation=1 lostCache=false complete=true lastEpoch=1 lastSeq=1 fault=null attachNumber=1 asked=0',
    ]);
  });

  test('proof that the one before has ended ends the leases of all before it', () => {
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) });
    p.leases.given = { to: B, epoch: 2, untilMs: p.nowMs + 500 };
    const configuration = configurationOf([A, C], { epoch: 2 });
    p.leads(configuration);
    p.adopted(C);
    p.progress(C);
    expect(p.configure(configuration, false)).toEqual([]);
    expect(p.core.serving).toBe(false);
    expect(p.configure(configuration, true)[0]).toBe('event serving epoch=2 seq=0');
    // Also when we never heard of its epoch, and after a restart, when we do not know to whom we gave one.
    for (const proven of [true, false]) {
      const q = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([B, A]) });
      q.do({ kind: 'started' });
      q.leases.given = { to: B, epoch: 2, untilMs: q.nowMs + 500 };
      q.configure(configurationOf([A], { epoch: 3 }), proven);
      q.saved();
      expect(q.core.serving).toBe(proven);
    }
    // Nor is a primary that led itself gone by the end of its former life.
    const r = new Alone(A).serves(configurationOf([A, B]));
    expect(r.configure(configurationOf([A, B], { epoch: 2 }), true)).toContain('event stepped-down epoch=1 for=2');
    r.saved();
    expect(r.core.state.leader?.predecessor).toBe(A);
  });

  test('after a restart a copy assumes that it had given a lease, if it ever was one', () => {
    const p = new Alone(A, { ...FRESH, promisedEpoch: 1, configuration: configurationOf([A, B]) });
    p.do({ kind: 'started' });
    expect([...p.core.state.grants]).toEqual([['', { epoch: 0, untilMs: p.nowMs + LEASE_MS }]]);
    const q = new Alone(A);
    q.do({ kind: 'started' });
    expect(q.core.state.grants.size).toBe(0);
  });

  test('a larger one grows the volume, the same does not', () => {
    const p = new Alone(A);
    // After the promise: a disk that cannot grow drops what is asked for behind it.
    expect(p.configure(configurationOf([A], { sizeBytes: 2 ** 30 + 4096 }))).toEqual(['lease: promise 1 -', 'save 1 promisedEpoch=1 complete=true fault=null configuration=1']);
    expect(p.saved()[0]).toBe(`grow ${2 ** 30 + 4096}`);
    expect(new Alone(A).configure(configurationOf([A]))).toEqual(['lease: promise 1 -', 'save 1 promisedEpoch=1 complete=true fault=null configuration=1']);
  });

  test('a promise that was overtaken before it was stable leads to nothing', () => {
    const p = new Alone(A);
    p.configure(configurationOf([A]));
    p.from(B, { kind: 'adopt', epoch: 2, configuration: configurationOf([B, A], { epoch: 2 }) });
    expect(p.saved()).toEqual([]);
    expect(p.core.role).toBe('idle');
    p.saved();
    expect(p.core.state.follower?.promised).toBe(true);
  });
});
