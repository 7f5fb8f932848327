import { describe, expect, test } from 'vitest';
import { A, B, C, Client, configurationOf, Group } from '../testing/group.ts';

/** The runs in which the specification of the protocol loses a write when one of its rules about joining is switched off, played on the real cores. */

/** A and B serve; C is to be filled with what the journal does not reach back to. */
function withLearner(): { group: Group; host: Client } {
  const group = new Group(configurationOf([A, B])).start().run(1000);
  const host = new Client(group.a, 1).open();
  group.settle();
  for (let n = 1; n <= 5; n++) host.request([n, 'write', n]);
  group.run(100);
  for (const copy of [group.a, group.b]) {
    for (let extent = 0; extent < 30; extent++) copy.log.extents.add(extent);
    copy.log.trimmedSeq = copy.log.lastSeq;
    copy.log.synced();
  }
  return { group, host };
}

/** A disk that ends each sync only after so many steps, while what is saved is stable at once. */
function runWithSlowDisk(group: Group, copy: Group['c'], until: () => boolean, steps: number): void {
  let slow = 0;
  for (let k = 0; k < 2000 && !until(); k++) {
    group.run(10);
    while (copy.saves.length > 0) copy.endSave();
    slow = copy.syncs > 0 ? slow + 1 : 0;
    if (slow < steps) continue;
    while (copy.syncs > 0) copy.endSync();
    slow = 0;
  }
}

describe('a learner', () => {
  // joinFsync
  test('that lost its power while it was filled does not take itself for whole: every extent is there when it takes over', () => {
    const { group } = withLearner();
    group.c.manual = true;
    group.change({ learners: [C] });
    runWithSlowDisk(group, group.c, () => group.c.saved.complete, 100);
    group.cutPower(C);
    group.run(6000);
    expect(group.configuration.members.map(({ serverId }) => serverId)).toContain(C);
    group.down.add(A).add(B);
    group.change({ members: group.configuration.members.filter(({ serverId }) => serverId === C) }, true).run(2000);
    expect(group.c.core.serving).toBe(true);
    expect(group.c.log.extents.size).toBe(30);
  });

  // joinFsync
  test('has on its disk, when it is let in, what was flushed before', () => {
    const group = new Group(configurationOf([A, B])).start().run(1000);
    group.down.add(B);
    group.change({ members: [{ serverId: A, incarnation: 1 }] }).run(100);
    const host = new Client(group.a, group.configuration.epoch).open();
    group.settle();
    host.request([1, 'write', 7]);
    host.request([2, 'flush']);
    group.settle();
    expect(host.answered).toEqual([1, 2]);
    group.down.delete(B);
    group.restart(B).manual = true;
    group.change({ learners: [B] });
    const isMember = (): boolean => group.configuration.members.length === 2;
    runWithSlowDisk(group, group.b, isMember, 60);
    expect(isMember()).toBe(true);
    // The power fails, and the server of the first copy is gone for good.
    group.down.add(A);
    const { log } = group.cutPower(B);
    group.change({ members: [{ serverId: B, incarnation: log.incarnation }] }, true).run(2000);
    expect(group.b.core.serving).toBe(true);
    expect(log.shows(7)).toBe(1);
  });

  // outcomeKnown
  test('that was proposed is waited for however long the store takes: it may become a member any time', () => {
    const group = new Group(configurationOf([A], { learners: [C], copiesWanted: 2 }));
    group.takesProposals = false;
    group.start().run(1000);
    const proposed = group.a.tells.find((message) => message.kind === 'propose');
    const host = new Client(group.a, 1).open();
    group.settle();
    for (const way of [`${A}>${C}`, `${C}>${A}`]) group.cut.add(way);
    host.request([1, 'write', 7]);
    group.run(10_000);
    const answered = host.answered.includes(1);
    expect(proposed && group.decide(proposed)).toBe(true);
    group.down.add(A);
    group.promote(C).change({ members: [{ serverId: C, incarnation: 77 }] }, true).run(2000);
    expect(group.c.core.serving).toBe(true);
    expect(answered && group.c.log.shows(7) !== 1, 'an answered write is gone').toBe(false);
  });
});
