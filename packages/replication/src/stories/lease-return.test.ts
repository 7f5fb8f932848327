import type { CopyMessage } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { LEASE_MS } from '../limits.ts';
import { A, B, C, Client, configurationOf, Group } from '../testing/group.ts';

/** The first leads, holds leases from all the others, and has a session; a beacon was answered a moment ago. */
function served(members = [A, B], more = {}): { group: Group; host: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const host = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  host.request([1, 'write', 7]);
  group.settle();
  return { group, host };
}

function cutOff(group: Group, lost: typeof A): void {
  group.deaf.add(lost);
  for (const other of group.copies.keys()) {
    group.cut.add(`${lost}>${other}`);
    group.cut.add(`${other}>${lost}`);
  }
}

function isReturn(message: { readonly kind: string }): message is CopyMessage & { readonly kind: 'lease-returned' } { return message.kind === 'lease-returned'; }

describe('a lease that is given back', () => {
  test('is not waited for: the successor serves before any time has passed', () => {
    const { group } = served();
    group.promote(B, false).settle();
    expect([group.a.core.serving, group.b.core.serving]).toEqual([false, true]);
  });

  test('if that is not heard, is waited for as ever', () => {
    const { group } = served();
    group.holds = (_from, _to, message) => isReturn(message);
    group.promote(B, false).settle();
    expect(group.b.core.serving).toBe(false);
    group.deliverLate();
    expect(group.b.core.serving).toBe(true);
    const again = served().group;
    again.holds = (_from, _to, message) => isReturn(message);
    again.promote(B, false).run(LEASE_MS + 100);
    expect(again.b.core.serving).toBe(true);
  });

  test('may be before its successor is known, and counts then', () => {
    const { group } = served();
    group.deaf.add(B);
    group.promote(B, false);
    for (const { to, message } of group.a.sent.splice(0)) if (isReturn(message)) group.copy(to).from(A, message);
    group.deaf.clear();
    group.push();
    group.settle();
    expect(group.b.core.serving).toBe(true);
  });

  test('ends nobody else\'s: a primary that was never reached goes on reading under its own', () => {
    const { group, host } = served([A, B, C]);
    cutOff(group, A);
    // C is to lead, hears at once that B is, and gives back what it was granted: nothing that matters to A.
    group.change({ members: [{ serverId: C, incarnation: 1 }, { serverId: B, incarnation: 1 }] }).settle();
    group.promote(B, false).settle();
    expect(group.seen).toContain(`${C}>${B}:lease-returned`);
    host.request([2, 'read', 7]);
    expect(host.shown(2)).toBe(1);
    expect(group.b.core.serving).toBe(false);
    group.run(LEASE_MS);
    expect(group.b.core.serving).toBe(true);
    host.request([3, 'read', 7]);
    expect(host.shown(3)).toBeUndefined();
  });

  test('is the one of its epoch: a word that was long on its way does not end one that was granted since', () => {
    const { group } = served();
    group.holds = (from, to, message) => from === A && to === B && isReturn(message);
    group.promote(B, false).run(2 * LEASE_MS);
    group.holds = () => false;
    group.promote(A, false).run(1000);
    const host = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    cutOff(group, A);
    group.change({ members: [{ serverId: B, incarnation: 1 }] }).settle();
    const late = group.late.map(({ message }) => message).filter(isReturn);
    expect(late.length).toBeGreaterThan(0);
    for (const message of late) group.b.from(A, message);
    group.settle();
    host.request([2, 'read', 7]);
    expect(host.shown(2)).toBe(1);
    expect(group.b.core.serving).toBe(false);
    group.run(LEASE_MS);
    expect(group.b.core.serving).toBe(true);
  });

  test('by whom it was not given to is not given back', () => {
    const { group } = served([A, B, C]);
    cutOff(group, A);
    group.change({ members: [{ serverId: B, incarnation: 1 }, { serverId: C, incarnation: 1 }] }).settle();
    group.b.from(C, { kind: 'lease-returned', epoch: 1 });
    group.settle();
    expect(group.b.core.serving).toBe(false);
  });
});

describe('a mirror whose process is about to end', () => {
  test('is let go while it still acknowledges, when the other has synced what both had', () => {
    const { group, host } = served();
    group.b.receive({ kind: 'retire' });
    group.settle();
    expect(group.configuration.members.map(({ serverId }) => serverId)).toEqual([A]);
    expect(group.b.core.state.dismissedEpoch).toBe(group.configuration.epoch);
    expect(group.a.core.serving).toBe(true);
    expect(group.a.log.durableSeq).toBe(group.a.log.lastSeq);
    expect(host.failed).toEqual([]);
  });

  test('stays where the minimum of copies does not allow it', () => {
    const { group } = served([A, B], { minCopies: 2 });
    group.b.receive({ kind: 'retire' });
    group.settle();
    expect(group.configuration.members.map(({ serverId }) => serverId)).toEqual([A, B]);
  });

  test('of an earlier epoch stays: it may have come back since', () => {
    const { group } = served();
    const { epoch } = group.configuration;
    group.change({}).run(200);
    group.a.from(B, { kind: 'retiring', epoch });
    group.settle();
    expect(group.configuration.members.map(({ serverId }) => serverId)).toEqual([A, B]);
  });
});
