import { KERNEL, type ActorContext, type Message } from '@ashlar/actor';
import type { ServerMessage } from '@ashlar/protocol';
import { serverId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { SERVER_STATUS_INTERVAL_MS, ServerActor, type CopyHouse, type ServerIdentity } from './server-actor.ts';

const SERVER = serverId('server-1');
const IDENTITY: ServerIdentity = {
  serverId: SERVER, instance: 'life-1', address: 'here', pid: 7, rack: 'a', siteId: '', disk: 'ssd', build: { version: '0.0.0', wireLowest: 1, wireHighest: 2, formats: {} },
};

interface Tested {
  readonly actor: ServerActor;
  readonly told: ServerMessage[];
  /** Timers. */
  readonly cleared: string[];
  /** Its copies are sent so many requests a second. */
  run(seconds: number, requestsPerSecond: number): void;
  patrols(): number;
  /** The sync of all copies that was asked for ends. */
  synced(): void;
}

function server(): Tested {
  let nowMs = 1000;
  let requests = 0;
  let patrols = 0;
  let synced = (): void => undefined;
  const told: ServerMessage[] = [];
  const cleared: string[] = [];
  const context = {
    self: `${SERVER}/server`, nowMs: () => nowMs, send: (_to: string, message: Message) => (told.push(message as ServerMessage), 'ok' as const), setTimer: () => {}, clearTimer: (name: string) => { cleared.push(name); }, monitor: () => {}, watch: () => {},
    log: { debug() {}, info() {}, warn() {}, error() {} },
  } as unknown as ActorContext;
  const house = {
    volumeIds: () => [], copies: () => [], space: () => ({ capacityBytes: 10, usedBytes: 1, copies: 0 }), requests: () => requests, patrol: () => { patrols += 1; }, reportFaulted: () => {},
    sync: (done: () => void) => { synced = done; }, ledger: { mark: null }, directories: () => [{ path: '/d', health: 'suspect', ioErrors: 1, mismatches: 0, syncMs: 2 }],
  } as unknown as CopyHouse;
  const actor = new ServerActor(context, IDENTITY, 'manager/manager', house);
  const run = (seconds: number, requestsPerSecond: number): void => {
    for (let ms = 0; ms < seconds * 1000; ms += SERVER_STATUS_INTERVAL_MS) {
      nowMs += SERVER_STATUS_INTERVAL_MS;
      requests += (requestsPerSecond * SERVER_STATUS_INTERVAL_MS) / 1000;
      actor.receive({ kind: 'timer', name: 'status' }, `${SERVER}/server`);
    }
  };
  return { actor, cleared, run, patrols: () => patrols, told, synced: () => synced() };
}

describe('a storage server', () => {
  it('says where it stands, on what, how busy it is and how its disks are', () => {
    const { run, told } = server();
    expect(told[0]).toMatchObject({ kind: 'server-hello', rack: 'a', disk: 'ssd' });
    run(60, 1000);
    const status = told.at(-1) as ServerMessage & { readonly kind: 'server-status' };
    expect(status).toMatchObject({ kind: 'server-status', directories: [{ health: 'suspect', ioErrors: 1 }] });
    expect(Math.round(status.requestsPerSecond)).toBe(1000);
  });

  it('scrubs by turns while it has little to do, and pauses under load', () => {
    const { run, patrols } = server();
    run(10, 10);
    expect(patrols()).toBeGreaterThan(15);
    const before = patrols();
    run(10, 5000);
    expect(patrols()).toBe(before);
    run(10, 0);
    expect(patrols()).toBe(before + 20);
  });

  it('is left only when what its copies were given is stable, or that takes too long', () => {
    for (const how of ['synced', 'late'] as const) {
      const { actor, told, cleared, synced } = server();
      const leaving = (): number => told.filter(({ kind }) => kind === 'server-leaving').length;
      let left = 0;
      actor.receive({ kind: 'hand-over', done: () => { left += 1; } }, KERNEL);
      expect(leaving()).toBe(0);
      if (how === 'synced') synced();
      else actor.receive({ kind: 'timer', name: 'hand-over' }, `${SERVER}/server`);
      expect([leaving(), left]).toEqual([1, 1]);
      // Or it would be said once more.
      expect(cleared).toContain('hand-over');
      synced();
      expect([leaving(), left], 'once').toEqual([1, 1]);
    }
  });
});
