import { Frame } from '@ashlar/protocol';
import { Prng } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { CopyCore } from './copy.ts';
import { LEASE_MS } from './limits.ts';
import { A, B, C, Client, configurationOf, Group, VOLUME } from './testing/group.ts';

function served(members = [A, B], more = {}): { group: Group; client: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const client = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  return { group, client };
}

describe('promotion', () => {
  test('a mirror that is promoted has everything that was answered', () => {
    const { group, client } = served();
    for (let n = 1; n <= 50; n++) client.request([n, 'write', n]);
    group.settle();
    group.down.add(A);
    group.promote(B).run(2000);
    expect(group.b.core.serving).toBe(true);
    expect(group.b.log.session.appliedThrough).toBe(50);
  });

  test('what was under way is settled, and its retry applies once', () => {
    const { group, client } = served();
    group.cut.add(`${B}>${A}`); // the mirror has it, the answer never comes
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    group.down.add(A);
    group.promote(B).run(3000);
    const records = group.b.log.frames.length;
    const again = new Client(group.b, group.configuration.epoch, 2, 2).open();
    group.settle();
    again.request([1, 'write', 7], [2, 'write', 8]);
    group.settle();
    expect(again.answered).toEqual([1, 2]);
    expect(group.b.core.counts.deduplicatedRetries).toBe(1);
    // The session's record, and one with the second write alone.
    expect(group.b.log.frames.length).toBe(records + 2);
    expect(group.b.log.frames.at(-1)?.count).toBe(1);
  });

  test('a retried forced write that was applied is answered only when it is on the disk', () => {
    const { group, client } = served([A], { copiesWanted: 1 });
    client.request([1, 'write', 7]);
    group.settle();
    const again = new Client(group.a, 1, 2, 2).open();
    group.settle();
    group.a.manual = true;
    again.request([1, 'fua', 7]);
    expect(again.answered).toEqual([]);
    while (group.a.syncs > 0) group.a.endSync();
    expect(again.answered).toEqual([1]);
  });

  test('what only the dead primary had is cut off when it comes back', () => {
    const { group, client } = served();
    group.cut.add(`${A}>${B}`);
    client.request([1, 'write', 7]);
    client.request([2, 'write', 8]);
    group.settle();
    group.down.add(A);
    group.promote(B).run(3000);
    const next = new Client(group.b, group.configuration.epoch, 2, 2).open();
    group.settle();
    next.request([3, 'write', 9]);
    group.settle();
    group.cut.clear();
    group.down.delete(A);
    group.restart(A);
    group.change({ learners: [A] }).run(3000);
    expect(group.a.core.counts.truncations).toBe(1);
    expect(group.a.log.chain).toBe(group.b.log.chain);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([B, A]);
  });

  test('without proof of the end of the old primary nothing is served before its lease has run out', () => {
    const { group } = served();
    group.down.add(A);
    group.takesProposals = false;
    group.promote(B, false);
    group.change({ members: [{ serverId: B, incarnation: 1 }] });
    group.settle();
    group.run(100);
    expect(group.b.core.serving).toBe(false);
    group.run(LEASE_MS);
    expect(group.b.core.serving).toBe(true);
  });

  test('with proof it serves at once', () => {
    const { group } = served();
    group.down.add(A);
    group.takesProposals = false;
    group.change({ members: [{ serverId: B, incarnation: 1 }] }, true);
    group.settle();
    expect(group.b.core.serving).toBe(true);
  });

  test('proof may come after the promotion', () => {
    const { group } = served();
    group.down.add(A);
    group.takesProposals = false;
    group.change({ members: [{ serverId: B, incarnation: 1 }] }, false);
    group.settle();
    expect(group.b.core.serving).toBe(false);
    group.push(true);
    group.settle();
    expect(group.b.core.serving).toBe(true);
  });

  test('no copy resumes its role after a restart', () => {
    const { group } = served();
    group.restart(A);
    group.push();
    group.run(3000);
    expect(group.a.core.serving).toBe(false);
    expect(group.a.core.role).toBe('idle');
    group.promote(A).run(2000);
    expect(group.a.core.serving).toBe(true);
  });

  test('after a restart a copy assumes that it had just given a lease', () => {
    const { group } = served();
    group.restart(B);
    group.down.add(A);
    group.takesProposals = false;
    group.change({ members: [{ serverId: B, incarnation: 1 }] }, false);
    group.run(300);
    expect(group.b.core.serving).toBe(false);
    group.run(LEASE_MS);
    expect(group.b.core.serving).toBe(true);
  });

  test('a woken primary is fenced, and its late records are refused', () => {
    const { group, client } = served([A, B, C]);
    group.down.add(A);
    group.promote(B).run(3000);
    group.down.delete(A);
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    expect(group.b.core.counts.fencedFrames + group.c.core.counts.fencedFrames).toBeGreaterThan(0);
    group.push();
    group.settle();
    expect(group.a.core.serving).toBe(false);
    expect(client.answers.at(-1)).toBe('refused:not-serving');
  });

  test('a copy that has lost its cache is not made primary', () => {
    const { group } = served();
    group.b.log.incarnation = 9;
    group.down.add(A);
    group.promote(B).run(3000);
    expect(group.b.core.role).not.toBe('primary');
  });

  test('configurations that come late or twice change nothing', () => {
    const { group } = served();
    const old = group.configuration;
    group.change({ minCopies: 1 }).run(1000);
    group.a.configure(old);
    group.a.configure(group.configuration);
    group.settle();
    expect(group.a.core.serving).toBe(true);
    expect(group.a.core.durable.promisedEpoch).toBe(group.configuration.epoch);
  });

  test('a promise is answered only when it is stable', () => {
    const { group } = served();
    group.b.manual = true;
    group.change({});
    group.settle();
    expect(group.a.core.serving).toBe(false);
    while (group.b.saves.length > 0) group.b.endSave();
    group.run(500);
    expect(group.a.core.serving).toBe(true);
  });
});

describe('sessions', () => {
  test('an older one is refused as soon as a newer one is recorded, here and by the successor', () => {
    const { group, client } = served();
    const newer = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    expect(newer.answers).toEqual(['opened']);
    expect(client.answers.at(-1)).toBe('refused:old-session');
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    group.down.add(A);
    group.promote(B).run(2000);
    const late = new Client(group.b, group.configuration.epoch, 3, 1).open();
    group.settle();
    expect(late.answers).toEqual(['refused:old-session']);
  });

  test('the newer one is opened only when its record is committed', () => {
    const { group } = served();
    group.cut.add(`${A}>${B}`);
    const newer = new Client(group.a, group.configuration.epoch, 2, 2).open();
    newer.request([1, 'read', 7]);
    group.settle();
    expect(newer.answers).not.toContain('opened');
    expect(newer.answered).toEqual([]);
  });

  test('a gap ends the session; so does a stray frame', () => {
    const { client } = served();
    client.number = 4;
    client.request([1, 'write', 7]);
    expect(client.answers.at(-1)).toBe('refused:gap');
    client.request([2, 'write', 7]);
    expect(client.answers.at(-1)).toBe('refused:gap');
  });

  test('a repeated frame is ignored, and one of another epoch counted', () => {
    const { group, client } = served();
    const frame = client.request([1, 'write', 7]);
    client.send(frame);
    group.settle();
    expect(client.answered).toEqual([1]);
    const { refusedSessions } = group.a.core.counts;
    client.epoch += 5;
    client.request([2, 'write', 7]);
    expect(group.a.core.counts.refusedSessions).toBe(refusedSessions + 1);
  });

  test('opened again with the same generation: the answer is repeated', () => {
    const { group, client } = served();
    client.open();
    group.settle();
    expect(client.answers).toEqual(['opened', 'opened']);
  });

  test('of an older attach: refused; of one not known yet: asked about', () => {
    const { group } = served([A, B], { attachNumber: 3 });
    const old = new Client(group.a, group.configuration.epoch, 5, 9, 2).open();
    const next = new Client(group.a, group.configuration.epoch, 6, 1, 4).open();
    expect(old.answers).toEqual(['refused:old-attach']);
    expect(next.answers).toEqual(['refused:not-serving']);
  });

  test('of another epoch, or at a mirror: not here', () => {
    const { group } = served();
    expect(new Client(group.a, 99, 7).open().answers).toEqual(['refused:not-primary']);
    expect(new Client(group.b, group.configuration.epoch, 8).open().answers).toEqual(['refused:not-primary']);
  });

  test('a new attachment begins to count anew', () => {
    const { group, client } = served();
    client.request([500, 'write', 1]);
    group.settle();
    group.change({ attachNumber: 2 }).run(1000);
    const next = new Client(group.a, group.configuration.epoch, 2, 1, 2).open();
    group.settle();
    next.request([1, 'write', 2]);
    group.settle();
    expect(next.answered).toEqual([1]);
    expect(group.a.core.counts.deduplicatedRetries).toBe(0);
  });

  test('closed and lost ones are forgotten; a probe tells them so', () => {
    const { group, client } = served();
    const probe = (): void => group.a.receive({ kind: 'session', key: 1, message: { kind: 'probe', sessionId: 1, epoch: group.configuration.epoch, sentAtMs: 5 } });
    probe();
    expect(client.answers.at(-1)).toBe('alive');
    group.a.receive({ kind: 'session-gone', key: 1 });
    probe();
    expect(client.answers.at(-1)).toBe('refused:gap');
    group.a.receive({ kind: 'session', key: 1, message: { kind: 'close', sessionId: 1 } });
  });

  test('opened before the primary serves: answered when it does', () => {
    const group = new Group(configurationOf([A, B]));
    group.down.add(B);
    group.push();
    group.settle();
    const client = new Client(group.a, 1).open();
    group.settle();
    expect(client.answers).toEqual([]);
    group.down.delete(B);
    group.b.configure(group.configuration);
    group.run(1500);
    expect(client.answers).toEqual(['opened']);
  });

  test('one copy alone is read without a session of the volume', () => {
    const { group } = served();
    const direct = new Client(group.b, 0, 9).open(true);
    expect(direct.answers).toEqual(['opened']);
    direct.request([1, 'read', 3], [2, 'write', 3], [3, 'status', 0], [4, 'read', 2 ** 20]);
    expect(direct.answered).toEqual([1, 3]);
    expect(direct.failed).toEqual([2, 4]);
    expect(new Client(group.b, 0, 10).open().answers).toEqual(['refused:not-primary']);
  });
});

describe('copies that were away', () => {
  test('a short absence is made up from the journal', () => {
    const { group, client } = served();
    group.cut.add(`${A}>${B}`);
    group.takesProposals = false;
    for (let n = 1; n <= 300; n++) client.request([n, 'write', n]);
    group.run(500);
    group.cut.clear();
    group.run(1500);
    expect(client.answered).toHaveLength(300);
    expect(group.b.log.chain).toBe(group.a.log.chain);
    expect(group.a.core.counts.comparisons).toBe(0);
  });

  test('a long one is compared, filled, and joins complete', () => {
    const { group, client } = served([A, B], {});
    group.down.add(B);
    client.request([1, 'write', 1]);
    group.run(3000);
    const alone = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    for (let n = 2; n <= 100; n++) alone.request([n, 'write', n]);
    group.run(100);
    group.a.log.trimmedSeq = group.a.log.lastSeq - 5;
    for (let extent = 0; extent < 30; extent++) group.a.log.extents.add(extent * 3);
    group.down.delete(B);
    group.restart(B);
    group.change({ learners: [B] }).run(6000);
    expect(group.a.core.counts.comparisons).toBe(1);
    expect(group.b.log.extents.size).toBe(30);
    expect(group.b.core.durable.complete).toBe(true);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, B]);
    expect(group.b.log.chain).toBe(group.a.log.chain);
  });

  test('an interrupted comparison does not leave a copy that looks whole', () => {
    const { group } = served([A, B], {});
    for (let extent = 0; extent < 30; extent++) group.a.log.extents.add(extent);
    group.a.log.trimmedSeq = group.a.log.lastSeq;
    group.cut.add(`${A}>${C}`);
    group.change({ learners: [C] }).run(500);
    expect(group.c.core.durable.complete).toBe(false);
    group.cut.clear();
    group.run(100);
    group.down.add(C);
    group.run(300);
    expect(group.c.saved.complete).toBe(false);
    group.down.delete(C);
    group.restart(C);
    group.run(5000);
    expect(group.c.core.durable.complete).toBe(true);
  });

  test('a learner calls itself whole only after a sync that began after the last fill', () => {
    const { group } = served([A, B], { durability: 'strict' });
    for (let extent = 0; extent < 3; extent++) group.a.log.extents.add(extent);
    group.a.log.trimmedSeq = group.a.log.lastSeq;
    group.c.manual = true;
    group.change({ learners: [C] });
    group.settle();
    group.c.endSave();
    group.settle();
    group.cut.add(`${C}>${A}`);
    group.c.endSave();
    new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    expect(group.c.syncs).toBe(1); // of a record, before anything was filled
    group.cut.clear();
    group.run(1500);
    expect(group.c.log.extents.size).toBe(3);
    expect(group.c.core.state.follower?.wholeAfterSyncs).toBeGreaterThan(0);
    group.c.endSync();
    expect(group.c.core.durable.complete).toBe(false);
    group.c.endSync();
    expect(group.c.core.durable.complete).toBe(true);
  });

  test.each([1, 2])('a mirror that alone was restarted in its process is followed again by the next record, with a minimum of %i', (minCopies) => {
    const { group, client } = served([A, B], { minCopies });
    const { epoch } = group.configuration;
    client.request([1, 'write', 1]);
    group.settle();
    group.b.core = new CopyCore(VOLUME, B, group.b.log, group.b.saved, group.b.beacons, new Prng(99));
    group.b.receive({ kind: 'started' });
    client.request([2, 'write', 2]);
    group.run(200);
    expect(client.answered).toEqual([1, 2]);
    client.request([3, 'flush']);
    group.b.core = new CopyCore(VOLUME, B, group.b.log, group.b.saved, group.b.beacons, new Prng(100));
    group.b.receive({ kind: 'started' });
    group.run(1000);
    expect(client.answered).toEqual([1, 2, 3]);
    expect(group.configuration.epoch).toBe(epoch);
  });

  test('a log that differs from ours is never let in', () => {
    const { group, client } = served([A, B], { copiesWanted: 3 });
    client.request([1, 'write', 1]);
    group.settle();
    group.c.log.frames = group.a.log.frames.map((frame) => new Frame(frame.head.slice(), frame.payload));
    (group.c.log.frames.at(-1) as Frame).chain ^= 1;
    group.c.saved = { ...group.c.saved, complete: true };
    group.restart(C);
    group.change({ learners: [C] }).run(2000);
    expect(group.a.events.some((event) => event.name === 'log-differs')).toBe(true);
    expect(group.configuration.members.map((m) => m.serverId)).not.toContain(C);
  });

  test('a member that lost its cache is taken out, catches up and is admitted anew', () => {
    const { group, client } = served([A, B, C]);
    for (let n = 1; n <= 10; n++) client.request([n, 'write', n]);
    group.settle();
    group.b.log.incarnation = 5;
    group.restart(B);
    group.run(2000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, C]);
    group.change({ learners: [B] }).run(3000);
    expect(group.configuration.members.find((m) => m.serverId === B)?.incarnation).toBe(5);
  });

  test('with the minimum of copies it is admitted anew without leaving first', () => {
    const { group, client } = served([A, B], { minCopies: 2 });
    client.request([1, 'write', 1]);
    group.settle();
    group.b.log.incarnation = 5;
    group.restart(B);
    group.run(4000);
    expect(group.configuration.members.find((m) => m.serverId === B)?.incarnation).toBe(5);
    expect(group.a.core.serving).toBe(true);
  });

  test('at the minimum of copies, a member that never comes back is replaced by a copy that joins before anything is served', () => {
    const { group, client } = served([A, B], { minCopies: 2 });
    client.request([1, 'write', 1]);
    group.settle();
    for (let extent = 0; extent < 30; extent++) group.a.log.extents.add(extent);
    group.a.log.trimmedSeq = group.a.log.lastSeq;
    group.down.add(B);
    group.run(3000);
    group.change({ learners: [C] });
    group.run(1000);
    expect(group.a.core.serving).toBe(false);
    group.run(5000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, C]);
    expect(group.c.log.extents.size).toBe(30);
    expect(group.a.core.serving).toBe(true);
  });

  test('below the minimum of copies nothing is served until another has joined', () => {
    const { group } = served([A, B], { minCopies: 2 });
    group.b.receive({ kind: 'store-failed', fault: 'sync-failed' });
    group.run(1000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
    expect(group.a.core.serving).toBe(false);
    group.takesProposals = false;
    group.change({ learners: [C] }).run(3000);
    expect(group.a.core.state.leader?.proposal?.change.kind).toBe('add');
    expect(group.a.core.serving).toBe(false);
    group.takesProposals = true;
    group.run(1000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, C]);
    expect(group.a.core.serving).toBe(true);
  });

  test('a member that is behind the journal of its primary has lost data, and leaves', () => {
    const { group, client } = served([A, B, C]);
    client.request([1, 'write', 1]);
    group.settle();
    group.a.log.trimmedSeq = group.a.log.lastSeq;
    group.b.log.frames = [];
    group.restart(B);
    group.run(1500);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, C]);
  });

  test('slow acknowledgements are reported, and the copy stays', () => {
    const { group, client } = served();
    group.takesProposals = false;
    for (let n = 1; n <= 60; n++) {
      client.request([n, 'write', n]);
      group.nowMs += 400;
      group.settle();
    }
    expect(group.a.tells.some((message) => message.kind === 'suspect' && message.reason === 'slow')).toBe(true);
    expect(group.configuration.members).toHaveLength(2);
  });
});

describe('bad blocks', () => {
  test('a read that meets one is answered with the good bytes of a mirror', () => {
    const { group, client } = served();
    client.request([1, 'read', 7]);
    group.settle();
    const read = group.a.granted.at(-1);
    if (!read) throw new Error('the read was granted');
    const before = group.a.granted.length;
    group.a.receive({ kind: 'read-corrupt', read, extent: 0 });
    group.settle();
    expect(group.a.granted.length).toBe(before + 1);
    expect(client.failed).toEqual([]);
  });

  test('with no good copy it fails', () => {
    const { group, client } = served([A], { copiesWanted: 1 });
    client.request([1, 'read', 7]);
    const read = group.a.granted.at(-1);
    if (!read) throw new Error('the read was granted');
    group.a.receive({ kind: 'read-corrupt', read, extent: 0 });
    expect(client.failed).toEqual([1]);
  });

  test('a mirror that is silent is asked again, and in the end the read fails', () => {
    const { group, client } = served([A, B]);
    client.request([1, 'read', 7]);
    const read = group.a.granted.at(-1);
    if (!read) throw new Error('the read was granted');
    group.cut.add(`${B}>${A}`);
    group.takesProposals = false;
    group.a.receive({ kind: 'read-corrupt', read, extent: 0 });
    group.run(3000);
    expect(client.failed).toEqual([1]);
  });

  test('a scrub mends from the other copy, whichever found it', () => {
    const { group } = served();
    group.a.receive({ kind: 'corrupt-found', extent: 3 });
    group.b.receive({ kind: 'corrupt-found', extent: 4 });
    group.settle();
    expect(group.a.log.extents.has(3)).toBe(true);
    expect(group.b.log.extents.has(4)).toBe(true);
  });
});

describe('ends that somebody saw', () => {
  test('a primary that is proven to be gone is taken out at once, after a sync of the one that is left', () => {
    const { group } = served();
    group.down.add(A);
    group.b.manual = true;
    group.promote(B, true);
    while (group.b.saves.length > 0) group.b.endSave();
    group.settle();
    expect(group.configuration.members).toHaveLength(2);
    expect(group.b.syncs).toBe(1);
    group.b.endSync();
    group.b.manual = false;
    group.run(100);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([B]);
    expect(group.b.core.serving).toBe(true);
  });

  test('a mirror too; but not the next life of it', () => {
    const { group, client } = served();
    const instance = group.b.beacons.instance;
    const ended = (of: number): void => group.a.receive({ kind: 'manager', command: { kind: 'member-ended', volumeId: group.configuration.volumeId, serverId: B, instance: of.toString(36) } });
    group.restart(B);
    group.settle();
    ended(instance);
    group.run(100);
    expect(group.configuration.members).toHaveLength(2);
    group.down.add(B);
    client.request([1, 'write', 1]);
    ended(group.b.beacons.instance);
    group.run(100);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
  });
});

describe('failover after a silence', () => {
  test('the primary that was silent is not waited for a second time', () => {
    const { group } = served();
    group.down.add(A);
    group.run(1100);
    group.promote(B, false);
    group.run(150);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([B]);
    group.run(100);
    expect(group.b.core.serving).toBe(true);
  });

  test('a read above a write that is lost with its primary is not answered', () => {
    const { group, client } = served();
    group.cut.add(`${A}>${B}`);
    client.request([1, 'write', 7]);
    client.request([2, 'read', 7]);
    expect(group.a.heldReads).toHaveLength(1);
    group.cut.clear();
    group.cut.add(`${B}>${A}`);
    group.promote(B, false).run(2500);
    expect(client.answered).toEqual([]);
    expect(group.a.heldReads).toEqual([]);
  });
});
