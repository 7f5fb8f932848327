import { describe, expect, test } from 'vitest';
import { A, B, C, Client, configurationOf, Group } from '../testing/group.ts';

/**
 * The runs in which the specification of the protocol shows a stale read when one of its rules about leases is switched off, played on the real cores. In
 * each a former primary is cut off and goes on, as far as it may, while another one takes over and answers a write of block 7.
 */
function served(members = [A, B], more = {}): { group: Group; host: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const host = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  host.request([1, 'write', 7]);
  group.settle();
  return { group, host };
}

/** Neither hears the other, and the first is not reached by the system manager. */
function cutOff(group: Group, lost: typeof A, others: readonly (typeof A)[]): void {
  group.deaf.add(lost);
  for (const other of others) {
    group.cut.add(`${lost}>${other}`);
    group.cut.add(`${other}>${lost}`);
  }
}

interface Shown { readonly answered: number; readonly shown: number }

/** As soon as there is another primary it is written to; all the while block 7 is read from the old one. Says what each answered read showed, and what it should have. */
function race(group: Group, old: Client, successor: typeof A, ms: number): Shown[] {
  const reads: Shown[] = [];
  const writers: Client[] = [];
  for (let k = 0; k < ms / 20; k++) {
    group.run(20);
    const { epoch } = group.configuration;
    if (group.copy(successor).core.serving && writers.at(-1)?.epoch !== epoch) writers.push(new Client(group.copy(successor), epoch, 2, 2 + k).open());
    group.settle();
    const writer = writers.at(-1);
    if (writer?.answers.at(-1) === 'opened' && writer.number === 0) writer.request([2, 'write', 7]);
    group.settle();
    const answered = wrote(group.copy(successor)) ? 2 : 1;
    const read = 100 + old.number;
    old.request([read, 'read', 7]);
    const shown = old.shown(read);
    if (shown !== undefined) reads.push({ answered, shown });
  }
  return reads;
}

/** Of those that showed what was no longer the newest answered write. */
function stale(reads: readonly Shown[]): number {
  return reads.filter(({ answered, shown }) => shown < answered).length;
}

function wrote(successor: Group['a']): boolean {
  return successor.replied.some((reply) => reply.number === 2 && reply.status === 0);
}

describe('no read at a former primary is stale', () => {
  // grantAfterRestart
  test('when the copy that gave the lease was restarted, and promoted', () => {
    const { group, host } = served();
    cutOff(group, A, [B]);
    group.restart(B);
    group.promote(B, false);
    expect(stale(race(group, host, B, 8000))).toBe(0);
    expect(wrote(group.b)).toBe(true);
  });

  // leaseEvery
  test('when one of two mirrors still grants, and the other one took over', () => {
    const { group, host } = served([A, B, C]);
    cutOff(group, A, [B]);
    for (const way of [`${C}>${B}`, `${B}>${C}`]) group.cut.add(way);
    group.deaf.add(C);
    group.promote(B, false);
    expect(stale(race(group, host, B, 6000))).toBe(0);
    expect(wrote(group.b)).toBe(true);
  });

  // leaseJoiner
  test('when a copy that it had proposed was let in without its hearing of it, and promoted', () => {
    const group = new Group(configurationOf([A], { learners: [C], copiesWanted: 2 }));
    group.takesProposals = false;
    group.start().run(1000);
    const proposed = group.a.tells.find((message) => message.kind === 'propose');
    const host = new Client(group.a, 1).open();
    group.settle();
    host.request([1, 'write', 7]);
    group.settle();
    cutOff(group, A, [B, C]);
    group.takesProposals = true;
    expect(proposed && group.decide(proposed)).toBe(true);
    group.promote(C, false);
    expect(stale(race(group, host, C, 8000))).toBe(0);
    expect(wrote(group.c)).toBe(true);
  });

  // joinAfterGrant
  test('when a new primary that still waits for the end of its grant lets a copy in, which takes over', () => {
    const { group, host } = served([A, B], { minCopies: 2 });
    cutOff(group, A, [B, C]);
    group.change({ members: [{ serverId: B, incarnation: 1 }, { serverId: A, incarnation: 1 }], learners: [C] });
    const reads: Shown[] = [];
    // B's process dies as soon as C is a member, and C hears the proof of it from the system manager, and from B's next life.
    for (let k = 0; k < 400 && group.configuration.members.length < 3; k++) reads.push(...race(group, host, C, 20));
    expect(group.configuration.members.map(({ serverId }) => serverId)).toEqual([B, A, C]);
    group.restart(B);
    group.promote(C, false).settle().push(true);
    reads.push(...race(group, host, C, 8000));
    expect(stale(reads)).toBe(0);
    expect(wrote(group.c)).toBe(true);
  });

  // readLease
  test('when a grant was on its way for longer than the lease that it grants', () => {
    const { group, host } = served();
    group.holds = (from, to, message) => from === B && to === A && message.kind === 'grant';
    group.run(300);
    cutOff(group, A, [B]);
    group.promote(B, false);
    const before = race(group, host, B, 4000);
    expect(wrote(group.b)).toBe(true);
    group.cut.clear();
    group.deliverLate();
    for (const way of [`${A}>${B}`, `${B}>${A}`]) group.cut.add(way);
    expect(stale([...before, ...race(group, host, B, 400)])).toBe(0);
  });
});
