import { Op, Status } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { REQUESTS_PER_RESTART, SESSIONS_RESERVED } from './limits.ts';
import { nextReservation } from './reservation.ts';
import { A, B, configurationOf, requestOf, TestClient } from './testing/requests.ts';
import { Rig } from './testing/rig.ts';

const HIGH = REQUESTS_PER_RESTART;

describe('numbers', () => {
  test('rise by one over all clients, above those of earlier lives', () => {
    const rig = new Rig({}, configurationOf(5), nextReservation(nextReservation(null))).open();
    const other = new TestClient();
    rig.submit({ op: Op.write, tag: 7 }, { op: Op.read, tag: 8 }).submitTo(other, { op: Op.write, tag: 7 });
    const [first, second] = rig.requests();
    expect([first.requestNumber(0), first.requestNumber(1), second.requestNumber(0)]).toEqual([2 * HIGH + 1, 2 * HIGH + 2, 2 * HIGH + 3]);
    expect([first.number, second.number]).toEqual([1, 2]);
    expect([first.epoch, first.attachNumber, first.sessionCount]).toEqual([5, 3, SESSIONS_RESERVED + 1]);
    expect(first.headIntact).toBe(true);
    rig.reply(second).reply(first);
    expect(rig.answered()).toEqual([7, 8]);
    expect([...other.answers.keys()]).toEqual([7]);
  });

  test('go on in a new reservation before they would run into those of the next life', () => {
    const rig = new Rig({}, configurationOf(5), nextReservation(null), HIGH - 3).open().write(1).write(2).write(3);
    expect(rig.reserved).toEqual([{ restartCount: 2, sessionCount: SESSIONS_RESERVED }]);
    expect(rig.requests().map((frame) => frame.requestNumber(0))).toEqual([2 * HIGH - 2, 2 * HIGH - 1, 2 * HIGH + 1]);
    expect(nextReservation(rig.reserved[0])).toEqual({ restartCount: 3, sessionCount: 2 * SESSIONS_RESERVED });
  });

  test('of sessions are reserved in blocks, and stable before they are used', () => {
    const rig = new Rig().open();
    for (let i = 0; i < SESSIONS_RESERVED; i++) rig.refuse('gap').pass(300);
    expect(rig.reserved).toEqual([{ restartCount: 1, sessionCount: 2 * SESSIONS_RESERVED }]);
    expect(rig.lastOpen.generation).toEqual({ attachNumber: 3, count: SESSIONS_RESERVED + 1 });
  });

  test('that somebody else has used end the attachment: what it sends would be taken for done', () => {
    const rig = new Rig().start().write(1).opened({ appliedThrough: HIGH + 2 });
    expect(rig.client.answers.get(1)).toBe(Status.ioError);
    expect(rig.client.failures.get(1)).toBe('numbers-used');
    expect(rig.core.phase).toBe('ended');
    expect(rig.requests()).toEqual([]);
    const fine = new Rig().start().write(1).opened({ appliedThrough: HIGH + 1 });
    expect(fine.core.phase).toBe('open');
  });
});

describe('a session', () => {
  test('is opened with the primary of the newest configuration, and nothing goes out before it is open', () => {
    const rig = new Rig().start().write(1).write(2);
    expect(rig.sent.map(({ to, message }) => [to, message.kind])).toEqual([[A, 'open']]);
    expect(rig.lastOpen).toMatchObject({ epoch: 5, generation: { attachNumber: 3, count: 1 }, readOnly: false });
    rig.opened();
    expect(rig.requests().map((frame) => frame.number)).toEqual([1, 2]);
  });

  test('is asked for again while there is no answer', () => {
    const rig = new Rig().start().pass(450);
    expect(rig.opens()).toHaveLength(3);
    expect(new Set(rig.opens().map(({ sessionId }) => sessionId)).size).toBe(1);
    rig.opened().opened();
    expect(rig.core.phase).toBe('open');
  });

  test('that is not the one asked for is ignored', () => {
    const rig = new Rig().start();
    rig.opened({ epoch: 4 }).opened({ sessionId: 99 }).opened({ generation: { attachNumber: 3, count: 9 } });
    rig.hear({ kind: 'opened', sessionId: 1, epoch: 5, generation: rig.lastOpen.generation, sizeBytes: 1, appliedThrough: 0 }, B);
    expect(rig.core.phase).toBe('opening');
  });

  test('after a lost link sends everything unanswered first, in its old order, under its old numbers', () => {
    const rig = new Rig().open();
    rig.submit({ op: Op.write, tag: 1, value: 11 }, { op: Op.read, tag: 2 }, { op: Op.write, tag: 3, blocks: 2, value: 33 }, { op: Op.zero, tag: 4 }).write(5);
    const [first] = rig.requests();
    rig.reply(first, [0, 1]).link(false).write(6);
    expect(rig.requests()).toHaveLength(2);
    rig.link(true).write(7).opened().write(8);
    const again = rig.requests().slice(2);
    expect(again.map((frame) => frame.number)).toEqual([1, 2, 3, 4, 5]);
    expect(again.flatMap((frame) => Array.from({ length: frame.count }, (_, i) => frame.requestNumber(i) - HIGH))).toEqual([3, 4, 5, 6, 7, 8]);
    expect(again[0].sessionCount).toBe(2);
    expect([again[0].crc(again[0].crcIndex(0)), again[0].crc(again[0].crcIndex(0) + 1), again[0].blockCount]).toEqual([33, 33, 2]);
    expect(again[0].payload).toBe(first.payload);
    // Whoever has the old frame still reads what it said.
    expect([first.sessionCount, first.number, first.count]).toEqual([1, 1, 4]);
    for (const frame of again) rig.reply(frame);
    expect(rig.answered().sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(rig.core.idle).toBe(true);
  });

  test('with a new primary begins at once, and answers of the old one do not count', () => {
    const rig = new Rig().open().write(1);
    const [old] = rig.requests();
    rig.configure(configurationOf(6, [B]));
    expect(rig.lastTo).toBe(B);
    expect(rig.lastOpen).toMatchObject({ epoch: 6, generation: { attachNumber: 3, count: 2 } });
    rig.input({ kind: 'session', from: A, message: { kind: 'replies', sessionId: 1, frame: old } });
    expect(rig.answered()).toEqual([]);
    rig.configure(configurationOf(5)).configure(configurationOf(6, [A]));
    expect(rig.opens()).toHaveLength(2);
    rig.opened();
    const again = rig.requests()[1];
    again.epoch = 5;
    rig.reply(again);
    expect(rig.answered()).toEqual([]);
    again.epoch = 6;
    rig.reply(again);
    expect(rig.answered()).toEqual([1]);
  });

  test.each(['gap', 'old-session'] as const)('refused for %s is opened again under the next count', (reason) => {
    const rig = new Rig().open().write(1).refuse(reason).pass(0);
    expect(rig.lastOpen.generation.count).toBe(2);
    expect(rig.told).toEqual([]);
    rig.opened();
    expect(rig.requests()).toHaveLength(2);
  });

  test.each(['not-primary', 'not-serving'] as const)('refused for %s is opened again soon, then less often, and the configuration is asked for', (reason) => {
    const rig = new Rig().start();
    for (let i = 0; i < 20; i++) rig.refuse(reason).pass(i < 3 ? 30 : 250);
    expect(new Set(rig.opens().map(({ sessionId }) => sessionId)).size).toBeLessThanOrEqual(21);
    expect(rig.told.length).toBeGreaterThan(1);
    expect(rig.told.every(({ kind }) => kind === 'ask-configuration')).toBe(true);
    expect(rig.told.length).toBeLessThan(21);
  });

  test('does not spin when it is refused again and again', () => {
    const rig = new Rig().open().write(1);
    for (let i = 0; i < 100; i++) {
      rig.refuse('gap').pass(10);
      if (rig.core.phase === 'opening') rig.opened();
    }
    expect(rig.opens().length).toBeLessThan(100);
  });

  test('that is opened waits for the link where there is none', () => {
    const rig = new Rig();
    rig.outcome = 'unreachable';
    rig.start().write(1).pass(500);
    expect(rig.core.phase).toBe('waiting');
    rig.outcome = 'ok';
    rig.link(true, B);
    expect(rig.core.phase).toBe('waiting');
    rig.link(true).opened();
    expect(rig.requests()).toHaveLength(1);
    rig.link(true);
    expect(rig.opens()).toHaveLength(1);
  });

  test('is closed when the link is found broken by sending', () => {
    const rig = new Rig().open().write(1);
    rig.outcome = 'unreachable';
    rig.write(2);
    expect(rig.core.phase).toBe('waiting');
    rig.outcome = 'ok';
    rig.pass(1).opened();
    expect(rig.requests().slice(1).map((frame) => frame.requestNumber(0) - HIGH)).toEqual([1, 2]);
  });

  test('and a probe that finds the link broken', () => {
    const rig = new Rig().open();
    rig.outcome = 'unreachable';
    rig.pass(300);
    expect(rig.core.phase).toBe('waiting');
    const opening = new Rig().start();
    opening.outcome = 'unreachable';
    opening.pass(220);
    expect(opening.core.phase).toBe('waiting');
  });

  test('tells how large the volume is', () => {
    const rig = new Rig().open();
    rig.hear({ kind: 'resized', sessionId: 1, epoch: 5, sizeBytes: 2 ** 31 });
    expect(rig.core.sizeBytes).toBe(2 ** 31);
    rig.configure(configurationOf(6, [A], { sizeBytes: 2 ** 32 })).opened();
    expect(rig.core.sizeBytes).toBe(2 ** 32);
    expect(rig.eventNames().filter((name) => name === 'grown')).toHaveLength(2);
  });
});

describe('a full link', () => {
  test('is tried again, in order', () => {
    const rig = new Rig().open();
    rig.outcome = 'busy';
    rig.write(1).write(2).pass(5);
    rig.outcome = 'ok';
    rig.write(3).pass(5);
    expect(rig.requests().map((frame) => frame.requestNumber(0) - HIGH)).toEqual([1, 2, 3]);
    expect(rig.requests().map((frame) => frame.number)).toEqual([1, 2, 3]);
  });

  test('also for the opening', () => {
    const rig = new Rig();
    rig.outcome = 'busy';
    rig.start().pass(5);
    rig.outcome = 'ok';
    rig.pass(2);
    expect(rig.opens()).toHaveLength(1);
    rig.opened();
  });

  test('keeps frames that are sent again in order too', () => {
    const rig = new Rig().open().write(1).write(2).link(false).pass(0);
    rig.outcome = 'busy';
    rig.opened().pass(10);
    rig.outcome = 'ok';
    rig.pass(2);
    expect(rig.requests().slice(2).map((frame) => frame.requestNumber(0) - HIGH)).toEqual([1, 2]);
    for (const frame of rig.requests().slice(2)) rig.reply(frame);
    expect(rig.lease.released).toBe(0);
  });
});

describe('answers', () => {
  test('come in pieces, repeated and unasked for, and reach the client once each', () => {
    const rig = new Rig().open().submit({ op: Op.read, tag: 1 }, { op: Op.read, tag: 2, block: 1 }, { op: Op.flush, tag: 3 });
    const [request] = rig.requests();
    rig.reply(request, [2]).reply(request, [2]).reply(request, [0, 2, 1]);
    expect(rig.answered()).toEqual([3, 1, 2]);
    const last = rig.client.frames[1];
    expect([last.count, last.bytes(1).length]).toEqual([2, 4096]);
    rig.reply(request);
    const stray = requestOf([{ op: Op.read, tag: 1 }]);
    stray.epoch = 5;
    stray.sessionCount = 1;
    stray.number = 1;
    rig.reply(stray);
    expect(rig.answered()).toHaveLength(3);
  });

  test('for numbers that are none of the frame are dropped', () => {
    const rig = new Rig().open().read(1).read(2);
    const [one, two] = rig.requests();
    two.number = one.number;
    rig.reply(two);
    expect(rig.answered()).toEqual([]);
    rig.reply(one);
    expect(rig.answered()).toEqual([1]);
  });

  test('let the payload go when all is well, and keep it when somebody may still read it', () => {
    const rig = new Rig().open().write(1);
    rig.reply(rig.requests()[0]);
    expect(rig.lease.released).toBe(1);
    rig.write(2);
    rig.reply(rig.requests()[1], [0], Status.ioError);
    expect(rig.lease.released).toBe(1);
    rig.configure(configurationOf(6, [A, B], { learners: [B] })).opened().write(3);
    rig.reply(rig.requests()[2]);
    expect(rig.lease.released).toBe(1);
    rig.submit();
    expect(rig.lease.released).toBe(2);
  });

  test('are counted', () => {
    const rig = new Rig().open().submit(
      { op: Op.read, tag: 1, blocks: 3 }, { op: Op.write, tag: 2, blocks: 2 }, { op: Op.zero, tag: 3 }, { op: Op.trim, tag: 4 }, { op: Op.flush, tag: 5 }, { op: Op.cache, tag: 6 },
    );
    rig.pass(40).reply(rig.requests()[0]).write(7).reply(rig.requests()[1], [0], Status.noSpace);
    expect(rig.core.usage).toEqual({
      readBytes: 3 * 4096, writeBytes: 2 * 4096, readRequests: 1, writeRequests: 3, flushRequests: 1, failedRequests: 1, longestStallMs: 40,
    });
    expect(rig.client.answers.get(7)).toBe(Status.noSpace);
    expect(rig.core.view()).toMatchObject({ phase: 'open', epoch: 5, server: A, inFlight: 0, queued: 0, held: 0, sessions: 1 });
  });

  test('may make the client ask for more at once', () => {
    const rig = new Rig().open().write(1);
    rig.client.onReply = () => {
      rig.client.onReply = null;
      rig.write(2);
    };
    rig.reply(rig.requests()[0]);
    expect(rig.requests()).toHaveLength(2);
    rig.reply(rig.requests()[1]);
    expect(rig.answered()).toEqual([1, 2]);
  });

  test('of a frame with many operations find their clients', () => {
    const rig = new Rig().open();
    const operations = Array.from({ length: 200 }, (_, tag) => ({ op: Op.write, tag, block: tag }));
    rig.submit(...operations).reply(rig.requests()[0]);
    expect(rig.answered()).toEqual(operations.map(({ tag }) => tag));
  });
});

describe('silence', () => {
  test('with something unanswered is told after a second, and again', () => {
    const rig = new Rig().open().write(1).pass(999);
    expect(rig.told).toEqual([]);
    rig.pass(1);
    expect(rig.told).toEqual([
      { kind: 'primary-silent', volumeId: rig.core.configuration.volumeId, epoch: 5, serverId: A, silentMs: 1000 },
      { kind: 'ask-configuration', volumeId: rig.core.configuration.volumeId, epoch: 5 },
    ]);
    rig.pass(1000);
    expect(rig.told.filter(({ kind }) => kind === 'primary-silent')).toHaveLength(3);
    expect(rig.eventNames().filter((name) => name === 'primary-silent')).toHaveLength(1);
    rig.configure(configurationOf(6, [B])).pass(999);
    expect(rig.told.filter(({ kind }) => kind === 'primary-silent')).toHaveLength(3);
    rig.pass(1);
    expect(rig.told.filter(({ kind }) => kind === 'primary-silent').at(-1)).toMatchObject({ epoch: 6, serverId: B });
  });

  test('of an idle primary is found by probing', () => {
    const rig = new Rig().open().pass(1300);
    expect(rig.probes().length).toBeGreaterThan(3);
    expect(rig.told.map(({ kind }) => kind)).toContain('primary-silent');
  });

  test('is none while probes are answered, and probes become rare', () => {
    const rig = new Rig().open();
    let probes = 0;
    const run = (ms: number): number => {
      const before = probes;
      for (let t = 0; t < ms; t += 10) {
        rig.pass(10);
        if (rig.probes().length > probes) {
          probes = rig.probes().length;
          rig.alive();
        }
      }
      return probes - before;
    };
    rig.read(1).reply(rig.requests()[0]);
    expect(run(4000)).toBeGreaterThan(10);
    run(60_000);
    expect(run(60_000)).toBeLessThan(15);
    expect(rig.told).toEqual([]);
    rig.read(2).pass(1000);
    expect(rig.told.map(({ kind }) => kind)).toContain('primary-silent');
  });

  test('of idle primaries is looked for in common turns', () => {
    const turns = [10, 20, 30].map((begins) => {
      const rig = new Rig();
      rig.nowMs += begins;
      rig.open();
      const probedMs: number[] = [];
      while (rig.nowMs < 200_000) {
        rig.pass(1);
        if (rig.probes().length === probedMs.length) continue;
        probedMs.push(rig.nowMs);
        rig.alive();
      }
      return probedMs.filter((ms) => ms > 70_000);
    });
    expect(turns[0]?.length).toBeGreaterThan(2);
    expect(turns.slice(1)).toEqual([turns[0], turns[0]]);
  });

  test('is none where the primary stalls but is there', () => {
    const rig = new Rig().open().write(1);
    for (let i = 0; i < 15; i++) rig.pass(100).alive();
    expect(rig.told).toEqual([]);
  });

  test('alive in another epoch says nothing', () => {
    const rig = new Rig().open().write(1);
    for (let i = 0; i < 10; i++) rig.pass(100).hear({ kind: 'alive', sessionId: 1, epoch: 4, sentAtMs: 0 });
    expect(rig.told.map(({ kind }) => kind)).toContain('primary-silent');
  });

  test('is not believed by one who was frozen itself', () => {
    const rig = new Rig().open().write(1).pass(100);
    rig.nowMs += 5000;
    rig.timerAtMs = Number.POSITIVE_INFINITY;
    rig.input({ kind: 'timer' });
    expect(rig.told).toEqual([]);
    rig.pass(1000);
    expect(rig.told.map(({ kind }) => kind)).toContain('primary-silent');
  });

  test('during opening is probed too', () => {
    const rig = new Rig().start().pass(450);
    expect(rig.probes().length).toBeGreaterThan(0);
    rig.pass(600);
    expect(rig.told.map(({ kind }) => kind)).toContain('primary-silent');
  });

  test('a request that a living primary does not answer is sent again in a new session, less and less often', () => {
    const rig = new Rig().open().write(1);
    const live = (ms: number): void => {
      for (let t = 0; t < ms; t += 50) {
        rig.pass(50);
        if (rig.core.phase === 'opening') rig.opened();
        else rig.alive();
      }
    };
    live(2200);
    expect(rig.opens()).toHaveLength(2);
    expect(rig.requests().map((frame) => frame.requestNumber(0))).toEqual([HIGH + 1, HIGH + 1]);
    live(3500);
    expect(rig.opens()).toHaveLength(2);
    live(1000);
    expect(rig.opens()).toHaveLength(3);
  });
});

describe('the time limit', () => {
  test('fails what is too old, and never sends it again', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 2000, iops: 0, bandwidthBytes: 0, priority: 5 } }).open().write(1).pass(1000).write(2);
    const [sent] = rig.requests();
    rig.link(false);
    rig.outcome = 'unreachable';
    rig.pass(1000);
    expect([...rig.client.answers]).toEqual([[1, Status.ioError]]);
    expect([...rig.client.failures]).toEqual([[1, 'timed-out']]);
    rig.outcome = 'ok';
    rig.write(3).link(true).opened();
    expect(rig.requests().slice(2).map((frame) => frame.requestNumber(0) - HIGH)).toEqual([2, 3]);
    // Its late answer reaches nobody, and its bytes are not released: who knows who reads them.
    rig.reply(sent);
    expect(rig.lease.released).toBe(0);
    expect(rig.core.usage.failedRequests).toBe(1);
    expect(rig.core.view().timedOutRequests).toBe(1);
    expect(rig.eventNames()).toContain('requests-timed-out');
  });

  test('in an open session too', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 300, iops: 0, bandwidthBytes: 0, priority: 5 } }).open().submit({ op: Op.write, tag: 1 }, { op: Op.read, tag: 2 });
    const [request] = rig.requests();
    rig.reply(request, [1]).pass(600);
    expect(rig.client.answers.get(1)).toBe(Status.ioError);
    rig.reply(request);
    expect(rig.core.usage.failedRequests).toBe(1);
    expect(rig.core.usage.longestStallMs).toBeGreaterThanOrEqual(300);
  });

  test('of what was never sent gives its bytes back', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 300, iops: 0, bandwidthBytes: 0, priority: 5 } }).start().write(1).pass(600);
    expect(rig.answered()).toEqual([1]);
    expect(rig.lease.released).toBe(1);
  });

  test('gives nothing up in the moment in which a frozen host wakes up: the answers may be there', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 2000, iops: 0, bandwidthBytes: 0, priority: 5 } }).open().write(1).pass(100);
    rig.nowMs += 5000;
    rig.timerAtMs = Number.POSITIVE_INFINITY;
    rig.input({ kind: 'timer' }).reply(rig.requests()[0]).write(2).pass(3000);
    expect([...rig.client.answers]).toEqual([[1, Status.ok], [2, Status.ioError]]);
  });

  test('0 means for ever', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 } }).open().write(1).pass(600_000);
    expect(rig.answered()).toEqual([]);
  });
});

describe('rate limits', () => {
  function run(rig: Rig, ms: number): void {
    for (let t = 0; t < ms; t += 5) {
      rig.pass(5);
      for (const frame of rig.requests()) rig.reply(frame);
    }
  }

  test('of requests', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 1000, iops: 100, bandwidthBytes: 0, priority: 5 } }).open();
    for (let tag = 0; tag < 400; tag++) rig.write(tag);
    run(rig, 3000);
    expect(rig.answered().length).toBeGreaterThan(290);
    expect(rig.answered().length).toBeLessThan(330);
    // Waiting for the limit is no stall.
    expect(rig.core.usage.failedRequests).toBe(0);
    expect(rig.answered()).toEqual(rig.answered().sort((a, b) => a - b));
  });

  test('of bytes, changed while in use, and lifted', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 40_960, priority: 5 } }).open();
    for (let tag = 0; tag < 200; tag++) rig.submit({ op: tag % 2 ? Op.read : Op.write, tag });
    run(rig, 1000);
    expect(rig.answered().length).toBeGreaterThan(8);
    expect(rig.answered().length).toBeLessThan(14);
    rig.input({ kind: 'limits', limits: { ioTimeoutMs: 0, iops: 50, bandwidthBytes: 0, priority: 5 } });
    run(rig, 1000);
    expect(rig.answered().length).toBeGreaterThan(50);
    expect(rig.answered().length).toBeLessThan(75);
    rig.input({ kind: 'limits', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 } });
    run(rig, 10);
    expect(rig.answered()).toHaveLength(200);
  });
});

describe('the end', () => {
  test.each([['old-attach', 'taken-over'], ['deleted', 'deleted']] as const)('comes with a refusal for %s', (refusal, reason) => {
    const rig = new Rig().open().write(1).refuse(refusal).write(2).pass(10_000);
    expect([...rig.client.answers]).toEqual([[1, Status.ioError], [2, Status.ioError]]);
    expect([...rig.client.failures]).toEqual([[1, reason], [2, reason]]);
    expect(rig.events.at(-1)).toEqual({ name: 'ended', detail: { reason } });
    expect(rig.opens()).toHaveLength(1);
    rig.link(true).configure(configurationOf(9)).alive();
    expect(rig.opens()).toHaveLength(1);
  });

  test('comes with a configuration of another attach, but not for a reader', () => {
    const rig = new Rig().open().write(1).configure(configurationOf(6, [A], { attachNumber: 4 }));
    expect(rig.core.phase).toBe('ended');
    expect(rig.answered()).toEqual([1]);
    expect(new Rig({}, configurationOf(6, [A], { attachNumber: 4 })).start().core.phase).toBe('ended');
    const reader = new Rig({ readOnly: true }).open().configure(configurationOf(6, [A], { attachNumber: 4 }));
    expect(reader.core.phase).toBe('opening');
    expect(reader.lastOpen.readOnly).toBe(true);
  });

  test('on order closes the session and fails what is unanswered', () => {
    const rig = new Rig({ limits: { ioTimeoutMs: 0, iops: 10, bandwidthBytes: 0, priority: 5 } }).open().write(1).write(2).write(3);
    rig.input({ kind: 'detach' }).input({ kind: 'detach' }).input({ kind: 'timer' });
    expect(rig.sent.at(-1)?.message).toEqual({ kind: 'close', sessionId: 1 });
    expect(rig.answered()).toEqual([1, 2, 3]);
    const waiting = new Rig();
    waiting.outcome = 'unreachable';
    waiting.start().input({ kind: 'detach' });
    expect(waiting.core.phase).toBe('ended');
  });
});

describe('a request that crashes copies', () => {
  test('is found by sending its like one by one, and refused when it has ended two', () => {
    const rig = new Rig().open().submit({ op: Op.write, tag: 1, value: 1 }, { op: Op.write, tag: 2, value: 2 }, { op: Op.write, tag: 3, value: 3 }).write(4);
    rig.crash().write(5).pass(0).opened();
    const sent = (): number[] => rig.requests().slice(2).flatMap((frame) => Array.from({ length: frame.count }, (_, i) => frame.requestNumber(i) - HIGH));
    expect(sent()).toEqual([1]);
    expect(rig.requests().at(-1)?.crc(0)).toBe(1);
    rig.reply(rig.requests().at(-1)!);
    expect(sent()).toEqual([1, 2]);
    rig.configure(configurationOf(6, [B])).opened();
    expect(sent()).toEqual([1, 2, 2]);
    rig.crash(A);
    expect(rig.answered()).toEqual([1]);
    rig.crash(B);
    expect(rig.client.answers.get(2)).toBe(Status.ioError);
    expect([...rig.client.failures]).toEqual([[2, 'quarantined']]);
    expect(rig.events.filter(({ name }) => name === 'request-quarantined')).toHaveLength(1);
    rig.pass(0).opened();
    expect(sent()).toEqual([1, 2, 2, 3]);
    rig.reply(rig.requests().at(-1)!);
    rig.reply(rig.requests().at(-1)!);
    expect(sent()).toEqual([1, 2, 2, 3, 4, 5]);
    // What was not in hand at the crash goes out as usual.
    rig.write(6).write(7);
    expect(sent()).toEqual([1, 2, 2, 3, 4, 5, 6, 7]);
    for (const frame of rig.requests().slice(-3)) rig.reply(frame);
    expect(rig.answered()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(rig.core.view()).toMatchObject({ quarantinedRequests: 1, inFlight: 0, queued: 0 });
    expect(rig.core.usage.failedRequests).toBe(1);
    expect(rig.lease.released).toBe(3);
  });

  test('is alone also when nothing else waits', () => {
    const rig = new Rig().open().write(1).crash().pass(0).opened().write(2);
    expect(rig.requests()).toHaveLength(2);
    rig.reply(rig.requests()[1]);
    expect(rig.requests().map((frame) => frame.requestNumber(0) - HIGH)).toEqual([1, 1, 2]);
  });

  test('and was the last of its frame', () => {
    const rig = new Rig().open().write(1).crash().pass(0).opened().crash().pass(10).opened().write(2);
    expect([...rig.client.answers]).toEqual([[1, Status.ioError]]);
    expect(rig.requests().at(-1)?.requestNumber(0)).toBe(HIGH + 2);
  });
});

describe("one server's own copy", () => {
  test('is read in epoch 0, whatever the configuration, and has nothing to flush', () => {
    const rig = new Rig({ readOnly: true, copy: B }).open().submit({ op: Op.read, tag: 1 }, { op: Op.flush, tag: 2 }, { op: Op.cache, tag: 3 }, { op: Op.write, tag: 4 });
    expect(rig.lastOpen).toMatchObject({ epoch: 0, readOnly: true });
    const [request] = rig.requests();
    expect([rig.lastTo, request.epoch]).toEqual([B, 0]);
    rig.reply(request, [0]).reply(request, [1, 2, 3], Status.invalid);
    expect([...rig.client.answers]).toEqual([[1, Status.ok], [2, Status.ok], [3, Status.ok], [4, Status.invalid]]);
    rig.configure(configurationOf(9, [A])).read(5).pass(5000);
    expect(rig.opens().every(({ epoch }) => epoch === 0)).toBe(true);
    expect(rig.told).toEqual([]);
  });
});
