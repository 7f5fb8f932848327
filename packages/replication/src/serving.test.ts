import { describe, expect, test } from 'vitest';
import { A, B, C, Client, configurationOf, Group } from './testing/group.ts';

function served(members = [A, B], more = {}): { group: Group; client: Client } {
  const group = new Group(configurationOf(members, more)).start().run(1000);
  const client = new Client(group.copy(members[0] as typeof A), group.configuration.epoch).open();
  group.settle();
  return { group, client };
}

describe('a primary and its mirror', () => {
  test('serves once the mirror has its log, and answers when the mirror has the write', () => {
    const { group, client } = served();
    expect(client.answers).toEqual(['opened']);
    client.request([1, 'write', 7]);
    expect(client.answered).toEqual([]);
    group.settle();
    expect(client.answered).toEqual([1]);
    expect(group.b.log.lastSeq).toBe(group.a.log.lastSeq);
    expect(group.b.log.chain).toBe(group.a.log.chain);
  });

  test('answers nothing that the mirror does not have', () => {
    const { group, client } = served();
    group.cut.add(`${A}>${B}`);
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
  });

  test('answers in the order of the log', () => {
    const { group, client } = served();
    client.request([1, 'write', 1], [2, 'write', 2]);
    client.request([3, 'write', 3]);
    group.settle();
    expect(client.answered).toEqual([1, 2, 3]);
  });

  test('a read waits for the write beneath it, and only for that', () => {
    const { group, client } = served();
    client.request([1, 'write', 7]);
    client.request([2, 'read', 7], [3, 'read', 8]);
    expect(client.answered).toEqual([3]);
    group.settle();
    expect(client.answered.toSorted((a, b) => a - b)).toEqual([1, 2, 3]);
  });

  test('reads need a lease from the mirror', () => {
    const { group, client } = served();
    group.cut.add(`${B}>${A}`);
    group.nowMs += 900;
    client.request([1, 'read', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    group.cut.clear();
    group.run(400);
    expect(client.answered).toEqual([1]);
  });

  test('a flush is answered when it is on both disks, a forced write too', () => {
    const { group, client } = served();
    for (const copy of [group.a, group.b]) copy.manual = true;
    client.request([1, 'write', 7]);
    client.request([2, 'flush']);
    client.request([3, 'fua', 8]);
    group.settle();
    expect(client.answered).toEqual([1]);
    while (group.a.syncs > 0) group.a.endSync();
    group.settle();
    expect(client.answered).toEqual([1]);
    while (group.b.syncs > 0) {
      group.b.endSync();
      group.settle();
    }
    expect(client.answered.toSorted((a, b) => a - b)).toEqual([1, 2, 3]);
  });

  test('a flush that has nothing to wait for is answered at once', () => {
    const { group, client } = served();
    client.request([1, 'write', 1]);
    client.request([2, 'flush']);
    group.settle();
    client.request([3, 'flush']);
    expect(client.answered).toEqual([1, 2, 3]);
  });

  test('refuses what lies beyond its size, and what a reader must not do', () => {
    const { group, client } = served();
    client.request([1, 'read', 2 ** 20]);
    expect(client.failed).toEqual([1]);
    const reader = new Client(group.a, group.configuration.epoch, 2).open(true);
    reader.request([1, 'write', 7]);
    reader.request([2, 'read', 7]);
    group.settle();
    expect(reader.failed).toEqual([1]);
    expect(reader.answered).toEqual([2]);
  });

  test('cache is answered and changes nothing', () => {
    const { client } = served();
    client.request([1, 'cache', 7]);
    expect(client.answered).toEqual([1]);
  });

  test('a trim goes through the log as a write does', () => {
    const { group, client } = served();
    const before = group.a.log.lastSeq;
    client.request([1, 'trim', 7]);
    group.settle();
    expect(client.answered).toEqual([1]);
    expect(group.b.log.lastSeq).toBe(before + 1);
  });
});

describe('strict durability and the last copy', () => {
  test('strict: no answer before both disks have it', () => {
    const { group, client } = served([A, B], { durability: 'strict' });
    for (const copy of [group.a, group.b]) copy.manual = true;
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    for (let i = 0; i < 5; i++) {
      for (const copy of [group.a, group.b]) while (copy.syncs > 0) copy.endSync();
      group.run(250);
    }
    expect(client.answered).toEqual([1]);
  });

  test('a mirrored volume with one copy left answers from stable storage only', () => {
    const { group, client } = served([A, B]);
    group.down.add(B);
    client.request([1, 'write', 7]);
    group.run(3000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
    const again = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    expect(again.answers).toEqual(['opened']);
    group.a.manual = true;
    again.request([2, 'write', 8]);
    group.settle();
    expect(again.answered).toEqual([]);
    while (group.a.syncs > 0) group.a.endSync();
    expect(again.answered).toEqual([2]);
  });

  test('a volume that was never mirrored answers from its journal', () => {
    const { group, client } = served([A], { copiesWanted: 1 });
    group.a.manual = true;
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([1]);
  });

  test('below the minimum of copies nothing is answered', () => {
    const { group, client } = served([A, B], { minCopies: 2 });
    group.down.add(B);
    client.request([1, 'write', 7]);
    group.run(5000);
    expect(group.configuration.members).toHaveLength(2);
    expect(client.answered).toEqual([]);
    group.down.delete(B);
    group.run(1000);
    expect(client.answered).toEqual([1]);
  });
});

describe('failing disks', () => {
  test('a mirror that cannot sync leaves, and is never mended', () => {
    const { group, client } = served([A, B]);
    client.request([1, 'write', 7]);
    group.settle();
    group.b.receive({ kind: 'store-failed', fault: 'sync-failed' });
    group.run(1000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
    expect(group.b.core.durable.fault).toBe('sync-failed');
    group.change({ learners: [B] }).run(3000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
  });

  test('a primary whose disk failed steps down while there is a mirror', () => {
    const { group, client } = served([A, B]);
    group.a.receive({ kind: 'store-failed', fault: 'append-failed' });
    expect(group.a.core.serving).toBe(false);
    expect(client.answers.at(-1)).toBe('refused:not-serving');
    group.promote(B).run(2000);
    expect(group.b.core.serving).toBe(true);
  });

  test('the last copy answers EIO to writes and flushes, and goes on reading', () => {
    const { group, client } = served([A], { copiesWanted: 1 });
    client.request([1, 'write', 7]);
    group.settle();
    group.a.manual = true;
    client.request([2, 'flush']);
    group.a.receive({ kind: 'store-failed', fault: 'sync-failed' });
    expect(client.failed).toEqual([2]);
    expect(client.answers.at(-1)).toBe('refused:gap');
    const again = new Client(group.a, group.configuration.epoch, 2, 2).open();
    again.request([3, 'write', 7]);
    again.request([4, 'read', 7]);
    again.request([5, 'flush']);
    group.settle();
    expect(again.failed).toEqual([3, 5]);
    expect(again.answered).toEqual([4]);
  });

  test('a full disk lets the sessions come again, and nothing is lost', () => {
    const { group, client } = served([A, B]);
    group.a.failAppend = 'no-space';
    client.request([1, 'write', 7]);
    group.settle();
    expect(client.answered).toEqual([]);
    expect(client.answers.at(-1)).toBe('refused:not-serving');
    group.a.failAppend = null;
    const again = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    again.request([1, 'write', 7]);
    group.settle();
    expect(again.answered).toEqual([1]);
    expect(group.b.log.chain).toBe(group.a.log.chain);
  });

  test('a third copy joins while the others go on', () => {
    const { group, client } = served([A, B], { copiesWanted: 3 });
    for (let n = 1; n <= 20; n++) client.request([n, 'write', n]);
    group.settle();
    group.change({ learners: [C] }).run(3000);
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A, B, C]);
    expect(group.c.log.lastSeq).toBe(group.a.log.lastSeq);
    expect(group.c.core.durable.complete).toBe(true);
  });
});

describe('disks that are half alive', () => {
  test('a mirror that takes records and never ends a sync leaves, and the flush is answered', () => {
    const { group, client } = served([A, B]);
    group.b.manual = true;
    client.request([1, 'write', 1]);
    client.request([2, 'flush']);
    for (let n = 3; n < 80; n++) {
      client.request([n, 'write', n]);
      group.run(100);
      if (group.configuration.members.length === 1) break;
    }
    expect(group.configuration.members.map((m) => m.serverId)).toEqual([A]);
  });

  test('the last copy with a failed disk opens sessions for verified reads', () => {
    const { group, client } = served([A], { copiesWanted: 1 });
    client.request([1, 'write', 7]);
    group.settle();
    group.a.receive({ kind: 'store-failed', fault: 'sync-failed' });
    const again = new Client(group.a, group.configuration.epoch, 2, 2).open();
    group.settle();
    expect(again.answers).toEqual(['opened']);
    again.request([1, 'write', 7]);
    again.request([2, 'read', 7]);
    group.settle();
    expect(again.failed).toEqual([1]);
    expect(again.answered).toEqual([2]);
  });
});
