import { Frame, FrameKind, Op, Status, type Configuration, type CopyFault, type CopyMessage, type SessionReply } from '@ashlar/protocol';
import { BeaconTable } from '@ashlar/replication';
import { BlockState, EXTENT_ENTRIES_BYTES, blockEntry, setBlockEntry, type CopyStore, type FillRead, type StoreDone } from '@ashlar/store';
import { BLOCK_BYTES, EXTENT_BLOCKS, Prng, serverId, volumeId } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { CopyDriver, type CopyPort } from './copy-driver.ts';

const VOLUME = volumeId('vol-0123456789abcdef0');
const A = serverId('server-a');
const B = serverId('server-b');
const C = serverId('server-c');
const CONFIGURATION: Configuration = {
  volumeId: VOLUME, lineage: 1, epoch: 1, members: [{ serverId: A, incarnation: 1 }, { serverId: B, incarnation: 1 }], learners: [], attachNumber: 1,
  sizeBytes: 2 ** 30, minCopies: 2, copiesWanted: 2, durability: 'normal',
};

/** As much of a store as a primary touches; full or failing when the test says so. */
class Stub {
  readonly volumeId = VOLUME;
  readonly lineage = 1;
  readonly incarnation = 1;
  readonly lostCache = false;
  lastSeq = 0;
  readonly chain = 7;
  durableSeq = 0;
  readonly journalStartSeq = 0;
  readonly epochStarts = [];
  readonly session = { attachNumber: 0, count: 0, appliedThrough: 0 };
  readonly sizeBytes = 2 ** 30;
  readonly state = { promisedEpoch: 0, configuration: null, complete: true, fault: null };
  fault: CopyFault | null = null;
  saves = 0;
  retries = 0;
  committedSeq = 0;
  roomForSeq = Infinity;
  fails = false;
  /** Appends find the rest of this block bad. */
  bad: number | null = null;
  readonly syncs: StoreDone[] = [];
  get lastEpoch(): number { return this.lastSeq > 0 ? 1 : 0; }
  hasRoom(): boolean { return this.lastSeq - this.committedSeq < this.roomForSeq; }
  append(frame: Frame): unknown {
    if (this.fails) return { failed: 'no-space', detail: 'by the test' };
    if (this.bad !== null && frame.op(0) === Op.write) return { failed: 'corrupt-block', block: this.bad, detail: 'by the test' };
    this.lastSeq = frame.lastSeq;
    return 'ok';
  }
  sync(done: StoreDone): void { this.syncs.push(done); }
  saveState(_state: unknown, done: StoreDone): void {
    this.saves++;
    done(null);
  }
  commit(seq: number): void { this.committedSeq = seq; }
  listExtents(): unknown { return { extents: [], end: true }; }
  /** Of every extent. */
  readonly blocks = new Uint8Array(EXTENT_ENTRIES_BYTES);
  readonly bytesBad = new Set<number>();
  bytesOfFill = 0;
  readonly backed = false;
  holds(blocks: readonly number[], seq: number): void {
    for (const i of blocks) setBlockEntry(this.blocks, i, BlockState.written, seq, 9);
  }
  extentBlocks(): Uint8Array { return this.blocks.slice(); }
  readFill(extent: number, blocks: readonly number[]): FillRead {
    const frame = Frame.create(FrameKind.fill, blocks.length, 0, new Uint8Array(this.bytesOfFill));
    blocks.forEach((i, n) => { frame.setOperation(n, blockEntry(this.blocks, i).seq, this.bytesBad.has(i) ? Op.lost : Op.zero, 0, (extent * EXTENT_BLOCKS + i) * BLOCK_BYTES, BLOCK_BYTES, 0, 0); });
    return { frame, corrupt: blocks.filter((i) => this.bytesBad.has(i)).map((i) => extent * EXTENT_BLOCKS + i) };
  }
  /** One record at a time. */
  history(afterSeq: number): Frame[] {
    const frame = Frame.create(FrameKind.log, 1, 0);
    frame.firstSeq = afterSeq + 1;
    return [frame];
  }
  destageStep(): 'idle' { return 'idle'; }
  retryRound(): void { this.retries += 1; }
  endSyncs(): void {
    this.durableSeq = this.lastSeq;
    for (const done of this.syncs.splice(0)) done(null);
  }
}

function serving(configuration = CONFIGURATION): { store: Stub; driver: CopyDriver; answers: SessionReply[]; sent: CopyMessage[]; timers: number[]; acknowledge: () => void; rest: () => void; wanted: () => number; request: (session: number, frame: number, ...ops: Op[]) => void } {
  const store = new Stub();
  let nowMs = 1000;
  let wants = 0;
  const sent: CopyMessage[] = [];
  const answers: SessionReply[] = [];
  const timers: number[] = [];
  const port: CopyPort = {
    nowMs: () => (nowMs += 1), send: (_to, message) => sent.push(message), answer: (_key, reply) => answers.push(reply), tell: () => {}, setTimer: (_name, atMs) => timers.push(atMs), wantWork: () => { wants += 1; }, traffic: () => sent.length, event: () => {},
  };
  const driver = new CopyDriver(VOLUME, A, store as unknown as CopyStore, new BeaconTable(1), new Prng(1), port);
  driver.receive({ kind: 'started' });
  driver.receive({ kind: 'manager', command: { kind: 'configure', configuration, predecessorEnded: false, founding: true } });
  const from = (message: CopyMessage): void => driver.receive({ kind: 'peer', from: B, message });
  from({ kind: 'adopted', epoch: 1, attempt: 5, instance: 2, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: true });
  const acknowledge = (): void => from({ kind: 'progress', epoch: 1, attempt: 5, seq: store.lastSeq, durableSeq: store.lastSeq, chain: 7 });
  acknowledge();
  const request = (session: number, number: number, ...ops: Op[]): void => {
    const writes = ops.filter((op) => op === Op.write).length;
    const frame = Frame.create(FrameKind.request, ops.length, writes, new Uint8Array(writes * BLOCK_BYTES));
    frame.epoch = 1;
    frame.attachNumber = 1;
    frame.sessionCount = session;
    frame.number = number;
    ops.forEach((op, i) => frame.setOperation(i, 10 * number + i, op, 0, 512, op === Op.write ? BLOCK_BYTES - 512 : 0, 0, 0));
    frame.seal();
    driver.receive({ kind: 'session', key: session, message: { kind: 'requests', sessionId: session, frame } });
  };
  const rest = (): void => { nowMs = Math.max(nowMs, driver.errandDueMs); };
  return { store, driver, answers, sent, timers, acknowledge, rest, wanted: () => wants, request };
}

function open(driver: CopyDriver, session: number): void {
  driver.receive({ kind: 'session', key: session, message: { kind: 'open', sessionId: session, epoch: 1, generation: { attachNumber: 1, count: session }, readOnly: false } });
}

describe('a journal without room', () => {
  test('what a mirror acknowledges does not wait behind the writes that wait for room', () => {
    const { store, driver, answers, acknowledge, request } = serving();
    open(driver, 1);
    acknowledge();
    expect(answers.map(({ kind }) => kind)).toEqual(['opened']);
    store.roomForSeq = 1;
    request(1, 1, Op.write);
    request(1, 2, Op.write);
    expect(store.lastSeq).toBe(2);
    acknowledge();
    driver.work(false, false);
    acknowledge();
    driver.work(false, false);
    expect(store.lastSeq).toBe(3);
    expect(answers.map(({ kind }) => kind)).toEqual(['opened', 'replies', 'replies']);
  });

  test('destaging that found no room tries again now and then, if there is need, and not for each write', () => {
    const { store, driver, request, acknowledge } = serving();
    const retriesOf = (idle: boolean, look: boolean): number => {
      const before = store.retries;
      driver.work(idle, look);
      return store.retries - before;
    };
    expect([retriesOf(false, true), retriesOf(true, false), retriesOf(true, true)]).toEqual([0, 0, 1]);
    open(driver, 1);
    acknowledge();
    store.roomForSeq = 0;
    request(1, 1, Op.write);
    expect([retriesOf(false, false), retriesOf(false, true)]).toEqual([0, 1]);
  });

  test('a mirror that was restarted says where it stands, and takes records when it hears by beacon what is committed', () => {
    const { store, driver, sent } = serving();
    const followed = { ...CONFIGURATION, epoch: 2, members: [...CONFIGURATION.members].toReversed() };
    store.lastSeq = 5;
    store.roomForSeq = 5;
    const from = (message: CopyMessage): void => driver.receive({ kind: 'peer', from: B, message });
    const append = (seq: number): void => {
      const frame = Frame.create(FrameKind.log, 1, 0);
      Object.assign(frame, { epoch: 2, senderEpoch: 2, firstSeq: seq, committedSeq: seq - 1 });
      from({ kind: 'append', frame });
    };
    from({ kind: 'adopt', epoch: 2, configuration: followed });
    append(6);
    expect(sent.filter(({ kind }) => kind === 'adopted')).toHaveLength(2);
    const adopted = sent.findLast((message) => message.kind === 'adopted');
    from({ kind: 'follow', epoch: 2, attempt: adopted?.attempt ?? 0, afterSeq: 5 });
    append(6);
    driver.work(false, false);
    expect(store.lastSeq).toBe(5);
    driver.receive({ kind: 'committed', from: B, epoch: 2, seq: 5 });
    driver.work(false, false);
    expect(store.lastSeq).toBe(6);
  });
});

describe('an append that failed', () => {
  test('a sync that nobody but the end of the server waits for makes the copy faulted all the same', () => {
    const { store, driver } = serving();
    let over = 0;
    driver.syncAhead(() => { over += 1; });
    store.endSyncs();
    expect([over, driver.report().fault]).toEqual([1, null]);
    driver.syncAhead(() => { over += 1; });
    for (const done of store.syncs.splice(0)) done('sync-failed');
    expect([over, driver.report().fault]).toEqual([2, 'sync-failed']);
  });

  test('what failed in the background makes the copy faulted, and is told once', () => {
    for (const notice of [(driver: CopyDriver) => driver.wake(), (driver: CopyDriver) => driver.work(true, false)]) {
      const { store, driver } = serving();
      store.fault = 'append-failed';
      notice(driver);
      expect(driver.report().fault).toBe('append-failed');
      const { saves } = store;
      notice(driver);
      expect(store.saves).toBe(saves);
    }
  });

  test('a sync that failed is told once, also where the store says so again: the last copy’s sessions, opened anew, go on reading', () => {
    const { store, driver, answers } = serving({ ...CONFIGURATION, members: CONFIGURATION.members.slice(0, 1), minCopies: 1 });
    open(driver, 1);
    store.endSyncs();
    driver.syncAhead(() => undefined);
    store.fault = 'sync-failed';
    for (const done of store.syncs.splice(0)) done('sync-failed');
    open(driver, 2);
    driver.wake();
    driver.work(true, false);
    expect(answers.map(({ kind }) => kind)).toEqual(['opened', 'refused', 'opened']);
  });

  test('a sync of the same turn is not lost: the next flush is answered', () => {
    const { store, driver, answers, acknowledge, request } = serving();
    open(driver, 1);
    acknowledge();
    store.fails = true;
    request(1, 1, Op.write, Op.flush);
    expect(answers.map(({ kind }) => kind)).toEqual(['opened', 'refused']);
    store.fails = false;
    open(driver, 2);
    acknowledge();
    request(2, 1, Op.flush);
    store.endSyncs();
    store.endSyncs();
    expect(answers.map(({ kind }) => kind)).toEqual(['opened', 'refused', 'opened', 'replies']);
  });
});

describe('what is asked for in a turn in which an append failed', () => {
  test('a timer is set all the same: nothing else would set it again', () => {
    const { store, driver, answers, timers, acknowledge, request } = serving();
    open(driver, 1);
    acknowledge();
    driver.receive({ kind: 'timer', name: 'tick' });
    const before = timers.length;
    store.fails = true;
    request(1, 1, Op.write);
    expect(timers).toHaveLength(before + 1);
    expect(answers.at(-1)?.kind).toBe('refused');
  });
});

describe('a partial write of a bad block', () => {
  test('is mended by a mirror, or fails after some tries; what comes behind it is not lost', () => {
    const { store, driver, answers, sent, acknowledge, request } = serving();
    store.bad = 0;
    let session = 1;
    const kinds = (): string[] => answers.splice(0).map((reply) => (reply.kind === 'replies' ? `status ${reply.frame.status(0)}` : reply.kind));
    for (let tries = 0; tries < 6; tries++) {
      open(driver, session);
      acknowledge();
      request(session++, 1, Op.write);
      expect(kinds()).toEqual(['opened', 'refused']);
      expect(sent.filter(({ kind }) => kind === 'repair')).toHaveLength(tries + 1);
    }
    open(driver, session);
    acknowledge();
    request(session++, 1, Op.write);
    expect(kinds()).toEqual(['opened', `status ${Status.ioError}`, 'refused']);
    store.bad = null;
    open(driver, session);
    acknowledge();
    request(session, 1, Op.write);
    acknowledge();
    expect(kinds()).toEqual(['opened', `status ${Status.ok}`]);
  });
});

describe('a copy that catches up', () => {
  const adopted = (attempt: number, complete: boolean, lastSeq: number): CopyMessage => ({ kind: 'adopted', epoch: 1, attempt, instance: 2, incarnation: 1, lineage: 1, lastSeq, durableSeq: lastSeq, epochStarts: [], complete });

  test('is sent a piece of history in each step of work, so that requests do not wait behind all of it', () => {
    const { store, driver, sent, rest } = serving();
    store.lastSeq = 3;
    driver.receive({ kind: 'peer', from: B, message: adopted(6, true, 0) });
    const appends = (): number => sent.filter(({ kind }) => kind === 'append').length;
    expect(appends()).toBe(0);
    expect(driver.work(false, false)).toBe('errands');
    expect(appends()).toBe(1);
    // Requests have their turn first.
    expect(driver.work(false, false)).toBe('errands');
    expect(appends()).toBe(1);
    rest();
    // It begins anew: what was to come next is sent from where it stands now, and only that.
    driver.receive({ kind: 'peer', from: B, message: adopted(7, true, 2) });
    expect(driver.work(false, false)).toBe('idle');
    expect(appends()).toBe(2);
    expect(driver.state.leader?.peers.get(B)).toMatchObject({ sentSeq: 3, historyBusy: false });
  });

  test('waits less for requests while there is no second copy in sync', () => {
    const restAfterHistory = (configuration: Configuration, to = C): number => {
      const { store, driver } = serving(configuration);
      store.lastSeq = 3;
      driver.receive({ kind: 'peer', from: to, message: adopted(6, true, 0) });
      driver.work(false, false);
      // The clock of the test moves on by 1 ms with each look at it.
      return driver.errandDueMs;
    };
    const besideTwo = restAfterHistory({ ...CONFIGURATION, learners: [C] });
    const alone = restAfterHistory({ ...CONFIGURATION, members: CONFIGURATION.members.filter(({ serverId }) => serverId === A), learners: [C] });
    expect(besideTwo - alone).toBeGreaterThan(0);
    // The only mirror is what catches up: until it has, it is no second copy.
    expect(restAfterHistory(CONFIGURATION, B)).toBe(alone);
  });

  test('an extent that it held before it began anew is not compared any more', () => {
    const { driver, sent, rest } = serving();
    const from = (message: CopyMessage): void => driver.receive({ kind: 'peer', from: B, message });
    const begin = (attempt: number): void => {
      from(adopted(attempt, false, 0));
      from({ kind: 'progress', epoch: 1, attempt, seq: 0, durableSeq: 0, chain: 7 });
      from({ kind: 'extents', epoch: 1, from: 0, extents: [4], end: true });
    };
    begin(6);
    from({ kind: 'compared', epoch: 1, attempt: 6, extent: 4, seq: 0, blocks: new Uint8Array(EXTENT_ENTRIES_BYTES) });
    begin(7);
    driver.work(false, false);
    rest();
    expect(driver.state.leader?.peers.get(B)?.comparison?.open.has(4)).toBe(true);
    from({ kind: 'compared', epoch: 1, attempt: 7, extent: 4, seq: 0, blocks: new Uint8Array(EXTENT_ENTRIES_BYTES) });
    driver.work(false, false);
    expect(driver.state.leader?.peers.get(B)?.comparison?.open.has(4)).toBe(false);
    expect(sent.at(-1)?.kind).toBe('complete');
  });
});

describe('an extent that differs', () => {
  const LEARNER_SEQ = 5;
  const ALL = Array.from({ length: EXTENT_BLOCKS }, (_, i) => i);
  const NOTHING = new Uint8Array(EXTENT_ENTRIES_BYTES);

  /** A primary of two, whose mirror, or a third copy beside it, holds nothing, is to learn it all and was asked for extent 4. */
  function learning(held: readonly number[], learner = B, members = [A, B]): ReturnType<typeof serving> & { from: (message: CopyMessage) => void; answers4: (theirs?: Uint8Array) => void; step: () => string[] } {
    const all = serving({ ...CONFIGURATION, members: CONFIGURATION.members.filter(({ serverId }) => members.includes(serverId)), learners: learner === C ? [C] : [] });
    const { store, driver, sent, rest } = all;
    store.lastSeq = LEARNER_SEQ;
    store.holds(held, LEARNER_SEQ);
    const from = (message: CopyMessage): void => driver.receive({ kind: 'peer', from: learner, message });
    from({ kind: 'adopted', epoch: 1, attempt: 6, instance: 2, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: false });
    from({ kind: 'progress', epoch: 1, attempt: 6, seq: LEARNER_SEQ, durableSeq: LEARNER_SEQ, chain: 7 });
    from({ kind: 'extents', epoch: 1, from: 0, extents: [4], end: true });
    const answers4 = (theirs: Uint8Array = NOTHING): void => from({ kind: 'compared', epoch: 1, attempt: 6, extent: 4, seq: LEARNER_SEQ, blocks: theirs });
    const step = (): string[] => {
      const before = sent.length;
      rest();
      driver.work(false, false);
      return sent.slice(before).map((message) => (message.kind === 'fill' ? `fill ${blocksOf(message.frame)}` : message.kind));
    };
    return { ...all, from, answers4, step };
  }
  /** First to last, and how many; those that are lost, by name. */
  function blocksOf(frame: Frame): string {
    const blocks = Array.from({ length: frame.count }, (_, i) => (frame.offsetBytes(i) / BLOCK_BYTES) % EXTENT_BLOCKS);
    const lost = blocks.filter((_, i) => frame.op(i) === Op.lost);
    return `${blocks[0]}-${blocks.at(-1)}: ${blocks.length}${lost.length > 0 ? `, lost ${lost.join(' ')}` : ''}`;
  }
  const open = (driver: CopyDriver): unknown => driver.state.leader?.peers.get(B)?.comparison?.open.get(4);

  test('is sent in pieces of 32 blocks, one in a step of work, and compared again when all are in place', () => {
    const { driver, from, answers4, step } = learning(ALL);
    answers4();
    expect(step()).toEqual([]);
    for (let first = 0; first < EXTENT_BLOCKS; first += 32) {
      expect(open(driver)).toMatchObject({ pieces: 0 });
      expect(step()).toEqual([`fill ${first}-${first + 31}: 32`]);
      if (first < 192) from({ kind: 'filled', epoch: 1, extent: 4 });
    }
    expect(open(driver)).toMatchObject({ pieces: 8, filled: 6 });
    expect(step()).toEqual([]);
  });

  test('has two pieces on their way at most, and more when there is no other copy in sync', () => {
    const { driver, from, answers4, step, wanted } = learning(ALL, C);
    answers4();
    step();
    expect([step(), step(), step()]).toEqual([['fill 0-31: 32'], ['fill 32-63: 32'], []]);
    // There is nothing to come back for until one is in place.
    expect(driver.work(false, false)).toBe('idle');
    const before = wanted();
    from({ kind: 'filled', epoch: 1, extent: 4 });
    expect(wanted()).toBeGreaterThan(before);
    expect([step(), step()]).toEqual([['fill 64-95: 32'], []]);
    // The last: the mirror itself is compared, so that nobody else has all that was answered.
    for (const alone of [learning(ALL, C, [A]), learning(ALL, B)]) {
      alone.answers4();
      alone.step();
      for (let first = 0; first < EXTENT_BLOCKS; first += 32) expect(alone.step()).toEqual([`fill ${first}-${first + 31}: 32`]);
    }
  });

  test('is sent no faster than its share of the budget for rebuilds, while records of the journal go on', () => {
    const { driver, from, answers4, step, store } = learning(ALL, C, [A]);
    store.bytesOfFill = 1000;
    driver.limitFills(1000);
    answers4();
    step();
    const at: number[] = [];
    for (let i = 0; i < 4; i++) {
      expect(step()).toHaveLength(1);
      at.push(driver.errandDueMs);
      from({ kind: 'filled', epoch: 1, extent: 4 });
    }
    // One second each, but for what the clock of the test moves on by itself.
    expect(at.slice(1).map((ms, i) => Math.round((ms - (at[i] as number)) / 100))).toEqual([10, 10, 10]);
    expect(driver.work(false, false)).toBe('errands');
    from({ kind: 'adopted', epoch: 1, attempt: 7, instance: 2, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: true });
    expect(driver.errandDueMs).toBeLessThan(at.at(-1) as number);
  });

  test('keeps to its share when it is told of it again, or of another', () => {
    const { driver, from, answers4, step, store } = learning(ALL, C, [A]);
    store.bytesOfFill = 1000;
    driver.limitFills(1000);
    answers4();
    step();
    const at: number[] = [];
    for (const told of [1000, 1000, 1000, 500, 250]) {
      expect(step()).toHaveLength(1);
      driver.limitFills(told);
      at.push(driver.errandDueMs);
      from({ kind: 'filled', epoch: 1, extent: 4 });
    }
    expect(at.slice(1).map((ms, i) => Math.round((ms - (at[i] as number)) / 100))).toEqual([10, 10, 20, 40]);
    driver.limitFills(0);
    expect(driver.errandDueMs).toBeLessThan(at.at(-1) as number);
  });

  test('that was asked for again has room for its pieces, whatever became of those of the answer before', () => {
    const { answers4, step } = learning(ALL, C);
    answers4();
    step();
    expect([step(), step(), step()]).toEqual([['fill 0-31: 32'], ['fill 32-63: 32'], []]);
    answers4();
    step();
    expect([step(), step(), step()]).toEqual([['fill 0-31: 32'], ['fill 32-63: 32'], []]);
  });

  test('is not parted within a tile, and what lies apart comes together', () => {
    const { from, answers4, step } = learning([...ALL.slice(3, 16), ...ALL.slice(16, 26), ...ALL.slice(38, 48), ...ALL.slice(48, 72), 100, 255]);
    answers4();
    step();
    expect([step(), step()]).toEqual([['fill 3-25: 23'], ['fill 38-63: 26']]);
    from({ kind: 'filled', epoch: 1, extent: 4 });
    expect([step(), step()]).toEqual([['fill 64-255: 10'], []]);
  });

  test('what changes meanwhile is left to the records, and does not differ when it is all', () => {
    const { store, driver, sent, answers4, step } = learning(ALL.slice(0, 64));
    answers4();
    step();
    store.holds(ALL.slice(8, 40), LEARNER_SEQ + 1);
    expect([step(), step()]).toEqual([['fill 0-7: 8'], ['fill 40-63: 24']]);
    expect(open(driver)).toMatchObject({ pieces: 2 });
    const other = learning([1, 2]);
    other.answers4();
    other.step();
    other.store.holds([1, 2], LEARNER_SEQ + 1);
    expect(other.step()).toEqual(['complete']);
    expect(open(other.driver)).toBeUndefined();
    expect(sent.at(-1)?.kind).toBe('fill');
  });

  test('what is left of it is not sent when it was asked for again, answered again, or the learner began anew', () => {
    const { driver, from, answers4, step } = learning(ALL.slice(0, 96));
    answers4();
    step();
    expect(step()).toEqual(['fill 0-31: 32']);
    answers4();
    // The comparison of the newer answer, then all its pieces; none of the older one's.
    expect(step()).toEqual([]);
    expect([step(), step()]).toEqual([['fill 0-31: 32'], ['fill 32-63: 32']]);
    const before = open(driver);
    from({ kind: 'adopted', epoch: 1, attempt: 7, instance: 2, incarnation: 1, lineage: 1, lastSeq: 0, durableSeq: 0, epochStarts: [], complete: false });
    expect(open(driver)).not.toBe(before);
    expect(step()).toEqual([]);
  });

  test('of what nobody has good bytes, it is sent that it is lost; what is known there to be so does not differ', () => {
    const { store, driver, answers4, step } = learning(ALL.slice(0, 64));
    const theirs = NOTHING.slice();
    for (const i of [2, 3, ...ALL.slice(32, 64)]) setBlockEntry(theirs, i, BlockState.corrupt, 0, 0);
    for (const i of [1, 2, ...ALL.slice(32, 64)]) store.bytesBad.add(i);
    answers4(theirs);
    step();
    expect([step(), step()]).toEqual([['fill 0-31: 31, lost 1'], []]);
    expect(open(driver)).toMatchObject({ pieces: 1 });
  });

  test('what a mirror may mend is not sent, and the mirror is asked for it once', () => {
    const { store, driver, answers4, step } = learning(ALL.slice(0, 96), C);
    for (const i of [5, ...ALL.slice(32, 64), 65]) store.bytesBad.add(i);
    answers4();
    step();
    expect([step(), step(), step()]).toEqual([['fill 0-31: 31'], [], ['fill 64-95: 31', 'repair']]);
    expect(driver.state.leader?.peers.get(C)?.comparison?.open.get(4)).toMatchObject({ pieces: 2 });
    expect(driver.state.leader?.peers.get(C)?.comparison).toMatchObject({ filledBlocks: 96 });
  });
});
