import { changed, type CopyMessage } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { REPEAT_MS, STUCK_MS, TICK_MS } from './limits.ts';
import { A, B, C, Client, configurationOf, Group } from './testing/group.ts';

function served(members = [A, B], more = {}): { group: Group; client: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const client = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  return { group, client };
}

function kinds(group: Group, copy: 'a' | 'b' | 'c'): string[] {
  return group[copy].sent.map(({ to, message }) => `${to}:${message.kind}`);
}

describe('messages that come late, twice, or from the wrong copy', () => {
  test('everything of another epoch is ignored by a follower', () => {
    const { group } = served();
    const epoch = group.configuration.epoch + 1;
    const position = { seq: 0, chain: 0 };
    const session = { attachNumber: 0, count: 0, appliedThrough: 0 };
    const strays: CopyMessage[] = [
      { kind: 'follow', epoch, attempt: 1, afterSeq: 0 },
      { kind: 'restart-log', epoch, attempt: 1, commonSeq: -1, lineage: 1, position, epochStarts: [], session },
      { kind: 'sync', epoch }, { kind: 'list-extents', epoch, from: 0 }, { kind: 'compare', epoch, extent: 0 },
      { kind: 'complete', epoch, attempt: 1 }, { kind: 'repair', epoch, extent: 0 },
    ];
    const before = group.b.log.lastSeq;
    for (const message of strays) group.b.from(A, message);
    for (const message of strays) group.b.from(C, message);
    expect(group.b.sent).toEqual([]);
    expect(group.b.log.lastSeq).toBe(before);
  });

  test('everything of another epoch is ignored by a primary', () => {
    const { group } = served();
    const epoch = group.configuration.epoch + 1;
    const strays: CopyMessage[] = [
      { kind: 'adopted', epoch, attempt: 1, instance: 1, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: true },
      { kind: 'progress', epoch, attempt: 1, seq: 99, durableSeq: 99, chain: 0 }, { kind: 'gap', epoch, attempt: 1, seq: 0 },
      { kind: 'leaving', epoch, fault: 'corrupt' }, { kind: 'extents', epoch, from: 0, extents: [], end: true },
      { kind: 'compared', epoch, attempt: 1, extent: 0, seq: 0, blocks: new Uint8Array(1) }, { kind: 'filled', epoch, extent: 0 }, { kind: 'completed', epoch, attempt: 1 },
    ];
    for (const message of strays) group.a.from(B, message);
    for (const message of strays) group.a.from(C, message);
    for (const message of strays) group.b.from(A, message);
    expect(group.a.sent).toEqual([]);
    expect(group.a.core.serving).toBe(true);
  });

  test('in the right epoch, but not asked for: no harm', () => {
    const { group } = served();
    const { epoch } = group.configuration;
    const known = group.a.log.extents.size;
    group.a.from(B, { kind: 'extents', epoch, from: 0, extents: [5], end: true });
    group.a.from(B, { kind: 'compared', epoch, attempt: 1, extent: 0, seq: 0, blocks: new Uint8Array(1) });
    group.a.from(B, { kind: 'filled', epoch, extent: 5 });
    group.a.from(B, { kind: 'completed', epoch, attempt: 1 });
    group.a.from(B, { kind: 'progress', epoch, attempt: 12345, seq: 10 ** 6, durableSeq: 10 ** 6, chain: 0 });
    group.a.from(B, { kind: 'gap', epoch, attempt: 12345, seq: 0 });
    group.a.from(B, { kind: 'fenced', epoch });
    group.a.receive({ kind: 'extent-compared', to: B, extent: 0, differing: 0, pieces: 0 });
    group.a.receive({ kind: 'history-sent', to: B, throughSeq: 10 ** 6 });
    group.a.receive({ kind: 'peer-silent', peer: C });
    group.a.receive({ kind: 'peer-up', peer: C });
    group.a.receive({ kind: 'relation-lost', peer: C });
    expect(group.a.sent).toEqual([]);
    expect(group.a.log.extents.size).toBe(known);
  });

  test('an order of an older epoch is answered with the epoch that was promised', () => {
    const { group } = served();
    group.change({}).run(500);
    group.b.from(A, { kind: 'adopt', epoch: 1, configuration: configurationOf([A, B]) });
    group.b.from(A, { kind: 'sync', epoch: 1 });
    expect(kinds(group, 'b')).toEqual([`${A}:fenced`, `${A}:fenced`]);
  });

  test('an order to truncate counts once: a late one cuts nothing that was acknowledged since', () => {
    const { group, client } = served();
    group.takesProposals = false;
    const attempt = group.a.core.state.leader?.peers.get(B)?.attempt ?? 0;
    client.request([1, 'write', 1]);
    group.settle();
    const before = group.b.log.lastSeq;
    group.b.from(A, { kind: 'follow', epoch: group.configuration.epoch, attempt, afterSeq: 0 });
    group.b.from(A, { kind: 'restart-log', epoch: group.configuration.epoch, attempt, commonSeq: -1, lineage: 1, position: { seq: 0, chain: 0 }, epochStarts: [], session: { attachNumber: 0, count: 0, appliedThrough: 0 } });
    expect(group.b.log.lastSeq).toBe(before);
    expect(kinds(group, 'b')).toEqual([`${A}:progress`, `${A}:progress`]);
  });

  test('records lost on the way are asked for, and repeated ones acknowledged again', () => {
    const { group, client } = served();
    group.takesProposals = false;
    group.cut.add(`${A}>${B}`);
    client.request([1, 'write', 1]);
    group.settle();
    group.cut.clear();
    client.request([2, 'write', 2]);
    group.settle();
    expect(group.seen).toContain(`${B}>${A}:gap`);
    expect(client.answered).toEqual([1, 2]);
    const frame = group.a.log.frames.at(-1);
    if (frame) group.b.from(A, { kind: 'append', frame });
    expect(kinds(group, 'b')).toEqual([`${A}:progress`]);
  });

  test('an adopt that is repeated is answered alike, one from another server not at all', () => {
    const { group } = served();
    const { configuration } = group;
    group.b.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
    expect(kinds(group, 'b')).toEqual([`${A}:adopted`]);
    group.b.sent.length = 0;
    group.b.from(C, { kind: 'adopt', epoch: configuration.epoch, configuration });
    group.a.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
    expect(group.b.sent).toEqual([]);
    expect(group.a.sent).toEqual([]);
  });

  test('a repeated adopt while the promise is being made stable is answered once it is', () => {
    const { group } = served();
    group.b.manual = true;
    const configuration = changed(group.configuration, {});
    group.b.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
    group.b.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
    expect(group.b.sent).toEqual([]);
    group.b.endSave();
    expect(kinds(group, 'b')).toEqual([`${A}:adopted`]);
  });

  test('a record before the promise is stable is not taken', () => {
    const { group, client } = served();
    client.request([1, 'write', 1]);
    const frame = group.a.log.frames.at(-1);
    if (!frame) throw new Error('it was appended');
    group.settle();
    group.b.manual = true;
    const configuration = changed(group.configuration, {});
    group.b.from(A, { kind: 'adopt', epoch: configuration.epoch, configuration });
    frame.senderEpoch = configuration.epoch;
    group.b.from(A, { kind: 'append', frame });
    expect(group.b.sent).toEqual([]);
    group.b.endSave();
    group.b.sent.length = 0;
    group.b.from(A, { kind: 'append', frame });
    expect(kinds(group, 'b')).toEqual([`${A}:adopted`]);
  });

  test('a promise that was overtaken is not answered', () => {
    const { group } = served();
    group.b.manual = true;
    const second = changed(group.configuration, {});
    const third = changed(second, { members: [{ serverId: C, incarnation: 1 }, { serverId: B, incarnation: 1 }] });
    group.b.from(A, { kind: 'adopt', epoch: second.epoch, configuration: second });
    group.b.from(C, { kind: 'adopt', epoch: third.epoch, configuration: third });
    group.b.endSave();
    expect(group.b.sent).toEqual([]);
    group.b.endSave();
    expect(kinds(group, 'b')).toEqual([`${C}:adopted`]);
  });

  test('a primary that is asked to follow a later one steps down', () => {
    const { group, client } = served();
    const configuration = changed(group.configuration, { members: [{ serverId: B, incarnation: 1 }, { serverId: A, incarnation: 1 }] });
    group.a.from(B, { kind: 'adopt', epoch: configuration.epoch, configuration });
    expect(group.a.core.serving).toBe(false);
    expect(client.answers.at(-1)).toBe('refused:not-serving');
    group.a.from(B, { kind: 'leaving', epoch: configuration.epoch, fault: 'corrupt' });
    group.a.from(B, { kind: 'fenced', epoch: 99 });
    group.a.receive({ kind: 'peer-up', peer: B });
    group.a.tick();
    expect(group.a.core.role).not.toBe('primary');
  });

  test('a fenced primary asks what has become of it', () => {
    const { group } = served();
    group.a.from(B, { kind: 'fenced', epoch: group.configuration.epoch + 3 });
    expect(group.a.tells.at(-1)).toMatchObject({ kind: 'ask' });
  });

  test('a manager that comes back is told how everything stands', () => {
    const { group } = served();
    group.a.tells.length = 0;
    group.b.tells.length = 0;
    group.a.receive({ kind: 'manager-up' });
    group.b.receive({ kind: 'manager-up' });
    expect(group.a.tells.map((message) => message.kind)).toEqual(['report', 'status']);
    expect(group.b.tells.map((message) => message.kind)).toEqual(['report']);
  });

  test('a larger volume is grown by all, and its clients see it when they come again', () => {
    const { group } = served();
    group.change({ sizeBytes: 2 ** 31 }).run(1000);
    expect([group.a.log.sizeBytes, group.b.log.sizeBytes]).toEqual([2 ** 31, 2 ** 31]);
    const next = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    next.request([1, 'read', 2 ** 18 + 5]);
    group.run(400);
    expect(next.answered).toEqual([1]);
  });
});

describe('links that break at a bad moment', () => {
  test.each(['follow', 'progress', 'adopted', 'sync', 'extents', 'compare', 'compared', 'fill', 'filled', 'complete', 'completed', 'restart-log', 'list-extents', 'append'])(
    'the first `%s` is lost, and the copy joins all the same',
    (kind) => {
      const { group, client } = served([A, B], { copiesWanted: 3 });
      for (let n = 1; n <= 10; n++) client.request([n, 'write', n]);
      group.settle();
      for (let extent = 0; extent < 12; extent++) group.a.log.extents.add(extent);
      group.c.log.extents.add(40);
      group.a.log.trimmedSeq = group.a.log.lastSeq;
      let lost = false;
      for (const copy of group.copies.values()) {
        const send = copy.send.bind(copy);
        copy.send = (to, message) => {
          if (!lost && message.kind === kind && (to === C || copy.self === C)) {
            lost = true;
            return;
          }
          send(to, message);
        };
      }
      group.change({ learners: [C] }).run(200);
      const other = new Client(group.a, group.configuration.epoch, 4, 4).open();
      group.run(200);
      other.request([11, 'write', 3], [12, 'flush']);
      group.run(6000);
      expect(lost).toBe(true);
      expect(group.configuration.members.map((m) => m.serverId)).toContain(C);
      expect(group.c.log.chain).toBe(group.a.log.chain);
    },
  );

  test('a flush whose order was lost is ordered again', () => {
    const { group, client } = served();
    group.takesProposals = false;
    client.request([1, 'write', 1]);
    group.settle();
    group.cut.add(`${A}>${B}`);
    client.request([2, 'flush']);
    group.run(300);
    group.cut.clear();
    group.run(REPEAT_MS + 2 * TICK_MS);
    expect(client.answered).toEqual([1, 2]);
  });

  test('strict: the same', () => {
    const { group, client } = served([A, B], { durability: 'strict' });
    group.takesProposals = false;
    group.cut.add(`${B}>${A}`);
    client.request([1, 'write', 1]);
    group.run(300);
    group.cut.clear();
    group.run(REPEAT_MS + 6 * TICK_MS);
    expect(client.answered).toEqual([1]);
  });

  test('a joiner that is lost before it was proposed is required no more', () => {
    const { group, client } = served([A, B], { copiesWanted: 3 });
    group.c.manual = true; // its sync never ends
    group.change({ learners: [C] });
    for (let i = 0; i < 20; i++) {
      while (group.c.saves.length > 0) group.c.endSave();
      group.run(20);
    }
    const next = new Client(group.a, group.configuration.epoch, 4, 4).open();
    group.run(100);
    group.down.add(C);
    group.a.receive({ kind: 'relation-lost', peer: C });
    group.run(200);
    next.request([1, 'write', 1]);
    group.run(200);
    expect(next.answered).toEqual([1]);
    expect(client.answered).toEqual([]);
  });

  test('a joiner that falls silent before it was proposed holds nothing up', () => {
    const { group } = served([A, B], { copiesWanted: 3 });
    group.a.log.trimmedSeq = group.a.log.lastSeq;
    group.c.manual = true;
    group.change({ learners: [C] });
    for (let i = 0; i < 20; i++) {
      while (group.c.saves.length > 0) group.c.endSave();
      group.run(20);
    }
    group.c.endSync();
    const next = new Client(group.a, group.configuration.epoch, 4, 4).open();
    group.run(100);
    group.c.endSave(); // whole; but its next sync never ends
    group.run(100);
    expect(group.a.core.state.leader?.joiner?.serverId).toBe(C);
    group.down.add(C);
    next.request([1, 'write', 1]);
    group.run(500);
    expect(next.answered).toEqual([]);
    group.run(1500);
    expect(next.answered).toEqual([1]);
  });

  test('a mirror that answers beacons but makes no progress is removed after a while', () => {
    const { group, client } = served();
    const send = group.b.send.bind(group.b);
    group.b.send = (to, message) => { if (message.kind !== 'progress') send(to, message); };
    client.request([1, 'write', 1]);
    group.run(STUCK_MS / 2);
    expect(group.configuration.members).toHaveLength(2);
    group.run(STUCK_MS);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
  });

  test('a mirror whose disk is full leaves and comes back', () => {
    const { group, client } = served();
    group.b.failAppend = 'no-space';
    client.request([1, 'write', 1]);
    group.run(1500);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
    group.b.failAppend = null;
    group.change({ learners: [B] }).run(3000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, B]);
  });

  test('an outcome is not known before the store has moved on: the removed mirror is still required', () => {
    const { group, client } = served();
    group.takesProposals = false;
    group.down.add(B);
    client.request([1, 'write', 1]);
    group.run(10_000);
    expect(group.a.tells.filter((message) => message.kind === 'propose').length).toBeGreaterThan(3);
    expect(client.answered).toEqual([]);
  });
});

describe('a primary that did not run for a while', () => {
  test('takes nothing that it did not hear meanwhile for silence', () => {
    const { group, client } = served();
    client.request([1, 'write', 1]);
    group.nowMs += 5000;
    group.a.tick();
    group.settle();
    expect(group.configuration.members).toHaveLength(2);
    expect(client.answered).toEqual([1]);
  });
});
