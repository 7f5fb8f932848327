import { describe, expect, test } from 'vitest';
import { LEASE_MS } from '../limits.ts';
import { A, B, C, Client, configurationOf, Group } from '../testing/group.ts';

/**
 * The shortest runs in which the specification of the protocol breaks when one of its rules is switched off, played on the real cores. Each ends with what
 * a user would see of it. Block 7 is the one that is written and read; what a copy shows of it is the number of the write that it found.
 */
function served(members = [A, B], more = {}): { group: Group; host: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const host = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  return { group, host };
}

describe('a former primary', () => {
  // epochFence
  test('cannot write into a mirror that follows its successor: what the successor answers is in every copy', () => {
    const { group, host } = served([A, B, C]);
    group.holds = (from, to, { kind }) => from === A && to === C && kind === 'append';
    group.cut.add(`${A}>${B}`);
    host.request([1, 'write', 7]);
    host.request([2, 'write', 7]);
    group.settle();
    group.down.add(A);
    group.promote(B).change({ members: [{ serverId: B, incarnation: 1 }, { serverId: C, incarnation: 1 }] }, true).run(1000);
    const next = new Client(group.b, group.configuration.epoch, 2, 2).open();
    group.settle();
    group.deliverLate();
    next.request([3, 'write', 7]);
    group.settle();
    expect(next.answered).toEqual([3]);
    group.down.add(B);
    group.promote(C).run(2000);
    expect(group.c.log.shows(7)).toBe(3);
  });

  // truncateByEpoch
  test('comes back without what nobody else had, and with what was answered instead', () => {
    const { group, host } = served();
    group.cut.add(`${A}>${B}`);
    host.request([1, 'write', 7]);
    host.request([2, 'write', 7]);
    group.settle();
    group.down.add(A);
    group.promote(B).run(3000);
    const next = new Client(group.b, group.configuration.epoch, 2, 2).open();
    group.settle();
    next.request([3, 'write', 7]);
    group.settle();
    expect(next.answered).toEqual([3]);
    group.cut.clear();
    group.down.delete(A);
    group.restart(A);
    group.change({ learners: [A] }).run(3000);
    group.down.add(B);
    group.promote(A).run(2000);
    expect(group.a.core.serving).toBe(true);
    expect(group.a.log.shows(7)).toBe(3);
  });

  // truncateOnOrder
  test('an order to cut the log that comes a second time, late, does not take away what was answered since', () => {
    const group = new Group(configurationOf([A, B]));
    group.holds = (_from, _to, message) => {
      if (message.kind === 'follow' && group.late.length === 0) group.late.push({ from: A, to: B, message });
      return false;
    };
    group.start().run(1000);
    const host = new Client(group.a, 1).open();
    group.settle();
    host.request([1, 'write', 7]);
    group.settle();
    expect(host.answered).toEqual([1]);
    expect(group.late).toHaveLength(1);
    group.deliverLate();
    group.down.add(A);
    group.promote(B).run(2000);
    expect(group.b.log.shows(7)).toBe(1);
  });
});

describe('a new primary', () => {
  // promiseFsync
  test('answers nothing before its promise is on its disk: after a power cut the former one would be believed, and what was answered cut off', () => {
    const { group } = served();
    group.deaf.add(A);
    for (const way of [`${A}>${B}`, `${B}>${A}`]) group.cut.add(way);
    group.b.manual = true;
    group.promote(B).change({ members: [{ serverId: B, incarnation: 1 }] }, true);
    const next = new Client(group.b, group.configuration.epoch, 2, 2);
    for (let k = 0; k < 300; k++) {
      group.run(10);
      while (group.b.syncs > 0) group.b.endSync(); // and no save ends
      if (group.b.core.serving && next.answers.length === 0) next.open();
      if (next.answers.at(-1) === 'opened' && next.number === 0) next.request([2, 'write', 7]);
    }
    const answered = next.answered.includes(2);
    const { log } = group.cutPower(B);
    group.cut.clear();
    group.run(2000);
    group.down.add(A);
    group.change({ members: [{ serverId: B, incarnation: log.incarnation }] }, true).run(2000);
    expect(group.b.core.serving).toBe(true);
    expect(answered && log.shows(7) !== 2, 'an answered write is gone').toBe(false);
  });

  // settleFirst
  test('shows nothing of its tail before the others have it: what is read never vanishes', () => {
    const { group, host } = served([A, B, C]);
    group.cut.add(`${A}>${C}`);
    group.cut.add(`${B}>${A}`);
    host.request([1, 'write', 7]); // B alone has it besides A
    group.settle();
    group.down.add(A);
    group.holds = (from, to, { kind }) => from === B && to === C && kind === 'append';
    group.promote(B).settle().change({ members: [{ serverId: B, incarnation: 1 }, { serverId: C, incarnation: 1 }] }, true).run(600);
    const reader = new Client(group.b, group.configuration.epoch, 2).open(true);
    reader.request([1, 'read', 7]);
    group.run(100);
    const shown = reader.shown(1) ?? 0;
    group.down.add(B);
    group.late.length = 0;
    group.change({ members: [{ serverId: C, incarnation: 1 }] }, true).run(1000);
    expect(group.c.core.serving).toBe(true);
    expect(group.c.log.shows(7)).toBe(shown);
  });
});

describe('once a newer session was answered, an older one writes nothing', () => {
  const generations = { frozen: 2, restarted: 3 };

  // sessionFence
  test('at the same primary, whose opening came late', () => {
    const { group } = served();
    const { epoch } = group.configuration;
    const restarted = new Client(group.a, epoch, 3, generations.restarted).open();
    group.settle();
    restarted.request([1, 'write', 7]);
    group.settle();
    expect(restarted.answered).toEqual([1]);
    const frozen = new Client(group.a, epoch, 2, generations.frozen).open();
    group.settle();
    frozen.request([2, 'write', 7]);
    group.settle();
    expect(frozen.answered).toEqual([]);
    expect(group.a.log.shows(7)).toBe(1);
  });

  // sessionInJournal
  test('at its successor', () => {
    const { group } = served();
    const restarted = new Client(group.a, group.configuration.epoch, 3, generations.restarted).open();
    group.settle();
    restarted.request([1, 'read', 7]);
    group.run(300);
    expect(restarted.shown(1)).toBe(0);
    group.down.add(A);
    group.promote(B).run(2000);
    const frozen = new Client(group.b, group.configuration.epoch, 2, generations.frozen).open();
    group.settle();
    frozen.request([2, 'write', 7]);
    group.settle();
    expect(frozen.answered).toEqual([]);
    expect(group.b.log.shows(7)).toBe(0);
  });

  // sessionCommitted
  test('at its successor, of whom the one that answered has not heard', () => {
    const { group } = served();
    const { epoch } = group.configuration;
    group.deaf.add(A);
    for (const way of [`${A}>${B}`, `${B}>${A}`]) group.cut.add(way);
    const restarted = new Client(group.a, epoch, 3, generations.restarted).open();
    restarted.request([1, 'read', 7]);
    group.settle();
    group.promote(B, false).run(3 * LEASE_MS);
    const frozen = new Client(group.b, group.configuration.epoch, 2, generations.frozen).open();
    group.settle();
    frozen.request([2, 'write', 7]);
    group.settle();
    expect(group.b.core.serving).toBe(true);
    // One of the two may be answered: the older one here, because the newer one was not.
    expect({ newer: restarted.answered, older: frozen.answered }).toEqual({ newer: [], older: [2] });
  });
});
