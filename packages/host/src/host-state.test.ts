import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errorCode, volumeId } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HostState } from './host-state.ts';
import { configurationOf, S1, S2, specOf, VOLUME } from './testing/fake-site.ts';

let directory: string;
beforeEach(() => { directory = mkdtempSync(join(tmpdir(), 'ashlar-state-')); });
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** As after a SIGKILL: what was not stable when a call returned is gone, since nothing is closed. */
function reopened(): HostState {
  return HostState.open(directory);
}

const usage = { readBytes: 1, writeBytes: 2, readRequests: 3, writeRequests: 4, flushRequests: 5, failedRequests: 6, longestStallMs: 7.5 };

describe('the state of a host', () => {
  test('remembers attachments, and never gives a number twice', () => {
    const state = HostState.open(directory);
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    const first = state.beginLife(VOLUME);
    expect(first).toMatchObject({ name: VOLUME, spec: specOf(), configuration: configurationOf(1, S1), reservation: { restartCount: 1, sessionCount: 1024 } });
    expect(reopened().get(VOLUME)).toEqual(first);
    state.reserve(VOLUME, { restartCount: 1, sessionCount: 2048 });
    const next = reopened();
    next.beginAll();
    expect(next.beginLife(VOLUME).reservation).toEqual({ restartCount: 2, sessionCount: 3072 });
    expect(next.beginLife(VOLUME).reservation).toEqual({ restartCount: 3, sessionCount: 4096 });
    expect(reopened().get(VOLUME)?.reservation).toEqual({ restartCount: 3, sessionCount: 4096 });
  });

  test('goes on with the numbers of the same attach, and begins anew with another', () => {
    const state = HostState.open(directory);
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    state.change(VOLUME, { usage });
    state.attach(VOLUME, specOf({ tcp: true }), configurationOf(1, S1));
    expect(state.beginLife(VOLUME)).toMatchObject({ reservation: { restartCount: 2, sessionCount: 2048 }, usage });
    state.attach(VOLUME, specOf({ attachNumber: 2 }), configurationOf(2, S1));
    expect(state.beginLife(VOLUME)).toMatchObject({ reservation: { restartCount: 1, sessionCount: 1024 }, usage: { readBytes: 0 } });
  });

  test('saves hints later, all at once', () => {
    const state = HostState.open(directory);
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    state.change(VOLUME, { configuration: configurationOf(2, S2) });
    state.change(VOLUME, { usage });
    expect(state.dirty).toBe(true);
    expect(reopened().get(VOLUME)?.configuration.epoch).toBe(1);
    state.saveChanged();
    state.saveChanged();
    expect(state.dirty).toBe(false);
    expect(reopened().get(VOLUME)).toMatchObject({ configuration: configurationOf(2, S2), usage });
    state.change(VOLUME, { configuration: configurationOf(3, S1) });
    state.close();
    expect(reopened().get(VOLUME)?.configuration.epoch).toBe(3);
  });

  test('forgets what is detached', () => {
    const state = HostState.open(directory);
    state.beginAll();
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    state.detach(VOLUME);
    expect(state.all()).toEqual([]);
    expect(reopened().all()).toEqual([]);
    expect(() => state.beginLife(VOLUME)).toThrow();
  });

  test('keeps the TCP port', () => {
    const state = HostState.open(directory);
    expect(state.tcpPort).toBe(0);
    state.tcpPort = 4000;
    state.tcpPort = 4001;
    expect(reopened().tcpPort).toBe(4001);
  });

  test('refuses a later format, and what is no state', () => {
    HostState.open(directory).close();
    const path = join(directory, 'host.sqlite');
    const database = new DatabaseSync(path);
    database.exec('PRAGMA user_version = 2');
    database.close();
    expect(attempt()).toBe('format-unsupported');
    writeFileSync(path, 'x'.repeat(8192));
    expect(attempt()).toBe('corrupt');
  });

  test('says so when the disk is full, changes nothing, and goes on when there is room', () => {
    const state = HostState.open(directory);
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    state.limitPagesForTests(8);
    const attached = (n: number): string => {
      const id = volumeId(`vol-${n.toString(16).padStart(17, '0')}`);
      return tried(() => state.attach(id, specOf({ volumeId: id }), configurationOf(1, S1, { volumeId: id })));
    };
    let n = 1;
    while (attached(n) === 'done') n++;
    expect(attached(n)).toBe('no-space');
    expect(state.all()).toHaveLength(n);
    for (const { name } of state.all()) state.change(name, { configuration: { ...configurationOf(2, S2), learners: Array.from({ length: 50 }, () => S1) } });
    expect(tried(() => state.saveChanged())).toBe('no-space');
    expect(state.dirty).toBe(true);
    state.limitPagesForTests(1000);
    state.saveChanged();
    expect(attached(n)).toBe('done');
    expect(reopened().all()).toHaveLength(n + 1);
  });

  test('says so where it cannot be made', () => {
    expect(attempt(join(directory, 'not', 'there'))).toBe('io-error');
  });

  test('refuses rows that are damaged', () => {
    const state = HostState.open(directory);
    state.attach(VOLUME, specOf(), configurationOf(1, S1));
    state.close();
    const database = new DatabaseSync(join(directory, 'host.sqlite'));
    database.exec(`UPDATE attachment SET spec = '{"vol'`);
    database.close();
    expect(attempt()).toBe('corrupt');
  });
});

function attempt(path = directory): string {
  return tried(() => HostState.open(path).close());
}

function tried(work: () => void): string {
  try {
    work();
    return 'done';
  } catch (error) {
    return errorCode(error);
  }
}
