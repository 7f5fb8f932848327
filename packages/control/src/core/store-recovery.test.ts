import { memberOf, primaryOf, type Keep, type ManagerView, type RecoveryView, type VolumeView } from '@ashlar/protocol';
import { serverId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';
import { MemoryStore } from './memory-store.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };

function standing(world: ModelWorld): ManagerView {
  const answer = world.ask({ kind: 'manager-describe' });
  if (!answer.ok) throw new Error(answer.message);
  return answer.value as ManagerView;
}

function recover(world: ModelWorld, options: { dryRun?: boolean; without?: string[] } = {}): RecoveryView {
  const answer = world.ask({ kind: 'recover', dryRun: options.dryRun ?? false, without: (options.without ?? []).map(serverId) });
  if (!answer.ok) throw new Error(answer.message);
  return answer.value as RecoveryView;
}

/** The manager's process ends, its store becomes what it was, and it is started again. */
function setBack(world: ModelWorld, to: ReturnType<MemoryStore['snapshot']> = new MemoryStore().snapshot()): void {
  world.endManager();
  world.store.rollBack(to);
  world.restartManager();
  world.run(1000);
}

const primary = (world: ModelWorld, id: VolumeId): ModelWorld['servers'][number] => world.server(primaryOf(world.volume(id).configuration));
const isHealthy = (world: ModelWorld, id: VolumeId): boolean => world.view(id).health === 'healthy' && world.volume(id).configuration.learners.length === 0;

describe('what the store has', () => {
  it('is kept by the servers before anybody acts on it', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const order: string[] = [];
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (command.kind === 'configure') order.push(`epoch ${command.configuration.epoch}`);
      toServer(to, command);
    };
    for (const server of world.servers) {
      const keep = server.ledger.keep.bind(server.ledger);
      server.ledger.keep = (asked: Keep) => {
        for (const { text } of asked.records) order.push(`kept ${(JSON.parse(text) as { configuration: { epoch: number } }).configuration.epoch}`);
        return keep(asked);
      };
    }
    world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 });
    expect(order.indexOf('epoch 2')).toBe(2);
    expect(order.slice(0, 2)).toEqual(['kept 2', 'kept 2']);
  });

  it('is beside every copy, with its newest revision', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { team: 'blue' } });
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    const holders = world.servers.filter((server) => server.copies.has(id));
    expect(holders).toHaveLength(2);
    for (const { ledger } of holders) expect(JSON.parse(ledger.records.get(id)!.text)).toEqual(world.volume(id));
    expect(world.servers.find((server) => !server.copies.has(id))!.ledger.records.has(id)).toBe(false);
  });

  it('reaches a server that was away, when it is back', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [first] = world.servers.filter((server) => server.copies.has(id));
    world.kill(first!);
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { team: 'red' } });
    world.revive(first!);
    world.run(1000);
    expect(JSON.parse(first!.ledger.records.get(id)!.text)).toMatchObject({ tags: { team: 'red' } });
  });

  it('is not taken for kept because a server that comes back has heard of it: it may not be on its disk yet', () => {
    const world = new ModelWorld(1, FAST);
    const id = world.create(0);
    const server = world.servers[0]!;
    world.freeze(server);
    const requestId = world.command({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    const [command] = server.held;
    if (command?.kind !== 'keep') throw new Error('nothing is to be kept');
    const { mark } = server.ledger.keep(command.keep);
    const hello = { kind: 'server-hello', serverId: server.id, pid: server.pid, instance: server.instance, address: 'here', rack: '', siteId: '', disk: 'unknown', build: null, keeps: true, mark } as const;
    world.manager.receive(world.nowMs, { kind: 'from-server', from: server.id, message: hello }, world);
    world.run(500);
    expect(world.answers.has(requestId)).toBe(false);
    world.revive(server);
    expect(world.answers.get(requestId)).toMatchObject({ ok: true });
  });

  it('is waited for by a manager that was itself away, as by any other', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    for (const server of world.servers) world.freeze(server);
    const requestId = world.command({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    world.nowMs += 60_000;
    world.run(500);
    expect(world.answers.has(requestId)).toBe(false);
    for (const server of world.servers) world.revive(server);
    expect(world.answers.get(requestId)).toMatchObject({ ok: true });
  });

  it('is waited for by the next command to the same volume, and so is that by the one after', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    for (const server of world.servers) world.freeze(server);
    const asked = ['b', 'c', 'd'].map((a) => world.command({ kind: 'volume-modify', volumeId: id, tags: { a } }));
    expect(asked.map((requestId) => world.answers.get(requestId))).toEqual([undefined, undefined, undefined]);
    for (const server of world.servers) world.revive(server);
    expect(asked.map((requestId) => world.answers.get(requestId))).toMatchObject(['b', 'c', 'd'].map((a) => ({ ok: true, value: { tags: { a } } })));
  });

  it('waits for no server that cannot write it', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    for (const server of world.servers) server.full = true;
    expect(world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 }, 5000)).toMatchObject({ ok: true });
    for (const server of world.servers) server.full = false;
    world.run(2000);
    expect(JSON.parse(world.servers[0]!.ledger.records.get(id)!.text)).toEqual(world.volume(id));
  });
});

describe('a manager that starts', () => {
  it('acts when all that its store knows of were heard, and not before', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.freeze(world.servers[2]!);
    world.endManager();
    world.restartManager();
    expect(standing(world)).toMatchObject({ state: 'waiting', unheard: ['server-3'] });
    expect(world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 }, 50)).toMatchObject({ ok: false, code: 'busy' });
    world.revive(world.servers[2]!);
    expect(standing(world).state).toBe('acting');
  });

  it('acts on nothing that the life before decided and no server has kept, before they have', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const toServer = world.toServer.bind(world);
    const held: Parameters<typeof toServer>[] = [];
    world.toServer = (to, command) => (command.kind === 'keep' ? void held.push([to, command]) : toServer(to, command));
    world.command({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 });
    expect(world.volume(id).configuration.epoch).toBe(2);
    world.endManager();
    held.length = 0;
    world.restartManager();
    world.run(1000);
    const promised = (): readonly unknown[] => world.servers.map((server) => server.copies.get(id)?.promisedEpoch);
    expect(promised()).toEqual([1, 1]);
    expect(standing(world)).toMatchObject({ state: 'waiting', reason: expect.stringContaining('written down') });
    // What is asked for meanwhile waits with it.
    const asked = world.commands({ kind: 'volume-describe', volumeId: id }, { kind: 'volume-list' });
    expect(asked.map((requestId) => world.answers.has(requestId))).toEqual([false, false]);
    world.toServer = toServer;
    for (const [to, command] of held) toServer(to, command);
    world.run(100);
    expect(standing(world).state).toBe('acting');
    expect(asked.map((requestId) => world.answers.get(requestId))).toMatchObject([{ ok: true, value: { volumeId: id } }, { ok: true, value: [{ volumeId: id }] }]);
    expect(promised()).toEqual([2, 2]);
  });

  it('is not stopped by one server that is down: after a while half of them are enough', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const dead = primary(world, id);
    world.endManager();
    world.kill(dead, false);
    world.restartManager();
    expect(world.until(() => standing(world).state === 'acting', 6000)).toBe(true);
    expect(world.until(() => primary(world, id) !== dead && world.view(id).epoch > 1, 6000)).toBe(true);
  });

  it('waits for no server that was removed, and neither does a recovery', () => {
    const world = new ModelWorld(7, FAST);
    const id = world.create(1);
    const removed = world.servers.filter((server) => !server.copies.has(id)).slice(0, 4);
    for (const server of removed) {
      world.ask({ kind: 'server-drain', serverId: server.id });
      expect(world.ask({ kind: 'server-remove', serverId: server.id })).toMatchObject({ ok: true });
      world.kill(server);
    }
    expect(standing(world).unheard).toEqual([]);
    const yesterday = world.store.snapshot();
    world.endManager();
    world.restartManager();
    expect(standing(world)).toMatchObject({ state: 'acting', unheard: [] });
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    setBack(world, yesterday);
    expect(recover(world)).toMatchObject({ applied: true, blocked: [] });
  });

  it('knows a removed server as removed, whatever was noted of it while it was', () => {
    const world = new ModelWorld(4, FAST);
    const [gone, other] = world.servers as [ModelWorld['servers'][number], ModelWorld['servers'][number]];
    world.ask({ kind: 'server-drain', serverId: gone.id });
    for (const server of [gone, other]) world.freeze(server);
    expect(world.ask({ kind: 'server-remove', serverId: gone.id })).toMatchObject({ ok: true });
    world.run(10_000);
    world.endManager();
    world.restartManager();
    world.run(6000);
    const servers = world.ask({ kind: 'server-list' });
    expect(servers.ok && (servers.value as readonly { serverId: string }[]).map(({ serverId: name }) => name)).not.toContain(gone.id);
  });

  it('waits for more where more than half are away', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(2);
    world.endManager();
    for (const server of world.servers.slice(0, 2)) world.kill(server, false);
    world.restartManager();
    world.run(20_000);
    expect(standing(world)).toMatchObject({ state: 'waiting' });
    expect(world.volume(id).configuration.epoch).toBe(1);
    world.revive(world.servers[0]!);
    expect(world.until(() => standing(world).state === 'acting', 1000)).toBe(true);
  });

  it('does not act while it cannot write its store, and does not try all the time', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    world.endManager();
    let tried = 0;
    let isWritable = false;
    const { transact } = world.store;
    world.store.transact = (transaction, done) => {
      if (transaction.puts.some(({ kind }) => kind === 'origin')) tried++;
      if (isWritable) transact.call(world.store, transaction, done);
      else done({ kind: 'unknown' });
    };
    world.restartManager();
    world.run(2000);
    world.kill(primary(world, id));
    world.run(1000);
    expect(tried).toBeLessThanOrEqual(7);
    expect(world.volume(id).configuration.epoch).toBe(1);
    expect(standing(world).reason).toMatch(/cannot write/);
    isWritable = true;
    expect(world.until(() => standing(world).state === 'acting', 4000)).toBe(true);
    expect(world.until(() => world.volume(id).configuration.epoch > 1, 4000)).toBe(true);
  });

  it('with an empty store waits for every server that there should be', () => {
    const world = new ModelWorld(2, { ...FAST, expected: ['server-1', 'server-2', 'server-3'].map(serverId) });
    world.run(10_000);
    expect(standing(world)).toMatchObject({ state: 'waiting', unheard: ['server-3'] });
  });

  it('leaves a server of another cluster alone', () => {
    const [world, other] = [new ModelWorld(2, FAST), new ModelWorld(2, FAST, 2)];
    world.create(1);
    other.create(1);
    const stranger = world.servers[1]!;
    world.kill(stranger);
    Object.assign(stranger, { ledger: other.servers[1]!.ledger });
    world.revive(stranger);
    world.run(1000);
    expect(world.names('server-2')).toContain('server-foreign');
    expect(stranger.ledger.mark).toEqual(other.servers[0]!.ledger.mark);
    expect(standing(world).state).toBe('acting');
    expect(world.ask({ kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} })).toMatchObject({ ok: false, code: 'too-few-servers' });
  });
});

describe('a store that was set back', () => {
  const changes: readonly [string, (world: ModelWorld, id: VolumeId, other: VolumeId) => void][] = [
    ['a change of a volume', (world, id) => world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 })],
    ['a tag', (world, id) => world.ask({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } })],
    ['a new volume', (world) => world.create(1)],
    ['a deletion', (world, _id, other) => world.ask({ kind: 'volume-delete', volumeId: other })],
    ['an attachment that is over again', (world, id) => {
      world.ask({ kind: 'volume-attach', volumeId: id, readOnly: true, tcp: false });
      world.ask({ kind: 'volume-detach', volumeId: id });
    }],
  ];

  it.each(changes)('is noticed by %s since then, and stays so whatever it notes meanwhile', (_what, change) => {
    const world = new ModelWorld(3, FAST);
    const [id, other] = [world.create(1), world.create(1)];
    const yesterday = world.store.snapshot();
    change(world, id, other);
    setBack(world, yesterday);
    for (let life = 0; life < 12; life++) {
      world.endManager();
      world.restartManager();
      world.run(200);
    }
    expect(standing(world)).toMatchObject({ state: 'refusing' });
    expect(standing(world).reason).toMatch(/is an old one/);
    expect(world.ask({ kind: 'volume-list' })).toMatchObject({ ok: false, code: 'store-behind' });
    expect(world.names()).toContain('store-behind');
    const before = JSON.stringify(world.store.snapshot().records.filter((record) => record.kind === 'volume'));
    world.kill(world.servers[0]!);
    world.run(20_000);
    expect(JSON.stringify(world.store.snapshot().records.filter((record) => record.kind === 'volume'))).toBe(before);
  });

  it('is noticed by a change as small as what the manager noted before its beginning could be written', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(2);
    const yesterday = world.store.snapshot();
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    world.endManager();
    for (const server of world.servers) world.kill(server);
    world.store.rollBack(yesterday);
    const { transact } = world.store;
    world.store.transact = (transaction, done) => {
      if (!transaction.puts.some(({ kind }) => kind === 'origin')) return transact.call(world.store, transaction, done);
      world.store.transact = transact;
      done({ kind: 'unknown' });
    };
    world.restartManager();
    world.run(2000);
    for (const server of world.servers) world.revive(server);
    world.run(1000);
    expect(standing(world)).toMatchObject({ state: 'refusing' });
  });

  it('is noticed when it went on by itself, by a server that it did not hear then', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(2);
    const yesterday = world.store.snapshot();
    const [a, b, c] = world.servers as [ModelWorld['servers'][number], ModelWorld['servers'][number], ModelWorld['servers'][number]];
    // Both are away when it is decided, so that nobody who is heard afterwards knows of it.
    world.kill(b);
    world.kill(c);
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    world.endManager();
    world.kill(a);
    world.store.rollBack(yesterday);
    world.revive(b);
    world.revive(c);
    world.restartManager();
    expect(world.until(() => standing(world).state === 'acting', 6000)).toBe(true);
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { c: 'd' } });
    world.revive(a);
    world.run(500);
    expect(standing(world).state).toBe('refusing');
  });

  it('a manager that was replaced and wakes up is refused by the servers, and stops', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const { manager } = world;
    world.endManager();
    world.restartManager();
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { by: 'the new one' } });
    const sent: string[] = [];
    const effects = { ...Object.fromEntries(['load', 'transact', 'restore', 'toHost', 'answer', 'setTick'].map((name) => [name, () => undefined])), toServer: (_to: unknown, { kind }: { kind: string }) => sent.push(kind) } as never;
    const mark = world.servers[0]!.ledger.mark!;
    manager.receive(world.nowMs, { kind: 'from-server', from: world.servers[0]!.id, message: { kind: 'server-kept', serverId: world.servers[0]!.id, mark, taken: false, failed: false, number: 0 } }, effects);
    expect(manager.state.standing.state).toBe('refusing');
    manager.receive(world.nowMs + 60_000, { kind: 'tick', wallMs: 0 }, effects);
    expect(sent).toEqual([]);
  });
});

describe('ashlar recover', () => {
  it('rebuilds a lost store while volumes go on, and the manager acts again', () => {
    const world = new ModelWorld(3, FAST);
    const [id, small] = [world.create(1), world.create(0)];
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { team: 'blue' }, limits: { iops: 500 } });
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    world.kill(primary(world, id));
    world.run(2000);
    for (const server of world.servers) world.revive(server);
    expect(world.until(() => isHealthy(world, id), 20_000)).toBe(true);
    const before = [world.volume(id), world.volume(small)];
    setBack(world);
    expect(standing(world)).toMatchObject({ state: 'refusing' });
    expect(standing(world).reason).toMatch(/store is lost/);

    expect(recover(world, { dryRun: true })).toMatchObject({ applied: false, blocked: [], volumes: [{ outcome: 'restored' }, { outcome: 'restored' }] });
    expect(standing(world).state).toBe('refusing');
    expect(recover(world)).toMatchObject({ applied: true });
    expect(standing(world).state).toBe('acting');
    world.run(500);
    // Nobody was moved: what is in sync goes on in its epoch.
    for (const known of before) expect(world.volume(known.volumeId)).toEqual(known);
    expect(world.attached.get(id)).toEqual(before[0]!.configuration);
    expect(isHealthy(world, id)).toBe(true);

    const failed = primary(world, id);
    world.kill(failed);
    expect(world.until(() => primary(world, id) !== failed && world.view(id).copies[0]?.state === 'in-sync', 5000)).toBe(true);
    world.revive(failed);
    const made = world.create(1);
    expect(world.ask({ kind: 'volume-delete', volumeId: made })).toMatchObject({ ok: true });
    expect(world.ask({ kind: 'recover', dryRun: true, without: [] })).toMatchObject({ ok: false, code: 'invalid-argument' });
  });

  it('the rebuilt store is good for the next life of the manager', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    setBack(world);
    recover(world);
    world.ask({ kind: 'volume-modify', volumeId: id, tags: { a: 'b' } });
    world.endManager();
    world.restartManager();
    world.run(200);
    expect(standing(world).state).toBe('acting');
    expect(world.view(id)).toMatchObject({ tags: { a: 'b' }, health: 'healthy' });
  });

  it('brings nothing back whose deletion was completed, from an old store or from a copy that turns up', () => {
    const world = new ModelWorld(3, FAST);
    const [id, gone] = [world.create(1), world.create(1)];
    const yesterday = world.store.snapshot();
    const [holder] = world.servers.filter((server) => server.copies.has(gone));
    const files = new Map(holder!.copies);
    const record = holder!.ledger.records.get(gone)!;
    world.ask({ kind: 'volume-delete', volumeId: gone });
    expect(world.servers.filter((server) => server.ledger.records.has(gone))).toEqual([]);
    // A disk that was put back from a backup.
    holder!.copies.set(gone, files.get(gone)!);
    holder!.ledger.records.set(gone, record);
    setBack(world, yesterday);
    const { volumes } = recover(world);
    expect(volumes.find(({ volumeId }) => volumeId === gone)).toMatchObject({ outcome: 'deleted', notes: [expect.stringContaining(holder!.id)] });
    expect(world.ask({ kind: 'volume-describe', volumeId: gone })).toMatchObject({ ok: false, code: 'not-found' });
    world.run(5000);
    expect(holder!.copies.has(gone)).toBe(true);
    expect(isHealthy(world, id)).toBe(true);
  });

  it('goes on with a deletion that was under way', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [first, second] = world.servers.filter((server) => server.copies.has(id));
    world.kill(second!);
    world.command({ kind: 'volume-delete', volumeId: id });
    world.run(500);
    expect(first!.copies.has(id)).toBe(false);
    world.revive(second!);
    world.endManager();
    world.store.rollBack(new MemoryStore().snapshot());
    world.restartManager();
    world.run(1000);
    if (standing(world).state === 'refusing') recover(world);
    world.run(3000);
    expect(world.store.volume(id)?.state ?? 'no volume').not.toBe('available');
  });

  it('does not delete on the word of one server alone', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(2);
    const { ledger } = world.servers[0]!;
    const kept = ledger.records.get(id)!;
    world.endManager();
    ledger.records.set(id, { ...kept, revision: kept.revision + 1, text: JSON.stringify({ ...world.volume(id), state: 'deleting' }) });
    world.store.rollBack(new MemoryStore().snapshot());
    world.restartManager();
    world.run(1000);
    const { volumes } = recover(world);
    expect(volumes[0]).toMatchObject({ outcome: 'restored', notes: [expect.stringContaining('only server-1 says that it was being deleted')] });
    world.run(5000);
    expect(world.view(id)).toMatchObject({ state: 'available' });
    expect(world.servers.every((server) => server.copies.has(id))).toBe(true);
  });

  it('goes by the others where a disk has damaged a record', () => {
    for (const text of ['{"volu', '{}', 'null']) {
      const world = new ModelWorld(3, FAST);
      const id = world.create(1);
      world.ask({ kind: 'volume-modify', volumeId: id, tags: { team: 'blue' } });
      const [holder] = world.servers.filter((server) => server.copies.has(id));
      holder!.ledger.records.set(id, { ...holder!.ledger.records.get(id)!, text });
      setBack(world);
      expect(recover(world).volumes).toMatchObject([{ outcome: 'restored', notes: [`its record cannot be read on ${holder!.id}`] }]);
      expect(world.view(id)).toMatchObject({ tags: { team: 'blue' } });
    }
  });

  it('waits for a server that may know more, until it is given up', () => {
    const world = new ModelWorld(3, FAST);
    const [id, only] = [world.create(1), world.create(0)];
    const away = primary(world, only);
    world.endManager();
    world.kill(away);
    world.store.rollBack(new MemoryStore().snapshot());
    world.restartManager();
    world.run(1000);
    const { blocked } = recover(world, { dryRun: true });
    expect(blocked).toEqual([expect.stringContaining(`${away.id} has not been heard`)]);
    expect(world.ask({ kind: 'recover', dryRun: false, without: [] })).toMatchObject({ ok: false, code: 'store-behind' });
    const highest = Math.max(...world.servers.map((server) => server.copies.get(id)?.promisedEpoch ?? 0));
    const { volumes } = recover(world, { without: [away.id] });
    expect(volumes.some(({ volumeId }) => volumeId === only)).toBe(false);
    expect(standing(world).state).toBe('acting');
    expect(world.until(() => isHealthy(world, id), 30_000)).toBe(true);
    // It comes back with what nobody else knew: neither is the store taken for an old one, nor is anything of it removed.
    world.revive(away);
    world.run(20_000);
    expect(standing(world).state).toBe('acting');
    expect(away.copies.has(only)).toBe(true);
    expect(world.names(only)).toContain('copy-unknown');
    if (memberOf(world.volume(id).configuration, away.id) !== undefined) expect(world.volume(id).configuration.epoch).toBeGreaterThan(highest);
  });

  it('puts epochs of a volume above what a member that is given up may have promised, and chooses no copy that is not known to be in sync', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [first, second] = world.volume(id).configuration.members.map(({ serverId: member }) => world.server(member)) as [ModelWorld['servers'][number], ModelWorld['servers'][number]];
    world.kill(second);
    expect(world.until(() => world.volume(id).configuration.members.length === 1, 3000)).toBe(true);
    // The one that is left goes too; what comes back is behind.
    world.endManager();
    world.kill(first);
    world.revive(second);
    world.store.rollBack(new MemoryStore().snapshot());
    world.restartManager();
    world.run(1000);
    expect(recover(world, { dryRun: true }).blocked.join()).toContain(first.id);
    const { volumes } = recover(world, { without: [first.id] });
    world.run(10_000);
    // It still believes that both were members, and nobody can say otherwise: what is given up by name is given up.
    expect(volumes[0]!.notes.join()).toContain(`${first.id} is given up`);
    const { epoch } = world.volume(id).configuration;
    world.revive(first);
    world.run(20_000);
    expect(epoch).toBeGreaterThan(2 ** 20);
    expect(standing(world).state).toBe('acting');
    expect(world.until(() => isHealthy(world, id), 30_000)).toBe(true);
  });

  it('says so where two managers have decided about one volume', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [first, second] = world.volume(id).configuration.members.map(({ serverId: member }) => world.server(member)) as [ModelWorld['servers'][number], ModelWorld['servers'][number]];
    world.endManager();
    second.copies.get(id)!.configuration = { ...second.copies.get(id)!.configuration, members: [...world.volume(id).configuration.members].reverse() };
    world.store.rollBack(new MemoryStore().snapshot());
    world.restartManager();
    world.run(1000);
    const { volumes, blocked } = recover(world, { dryRun: true });
    expect(volumes[0]).toMatchObject({ outcome: 'unknown' });
    expect(blocked.join()).toMatch(/two configurations of epoch 1/);
    expect(world.ask({ kind: 'recover', dryRun: false, without: [] })).toMatchObject({ ok: false, code: 'store-behind' });
    expect(first.copies.has(id)).toBe(true);
  });

  it('finds out what became of it when the store does not answer', () => {
    for (const fate of ['reply-lost', 'request-lost'] as const) {
      const world = new ModelWorld(2, FAST);
      const id = world.create(1);
      setBack(world);
      world.fate = fate;
      expect(world.ask({ kind: 'recover', dryRun: false, without: [] }, 2000)).toMatchObject({ ok: false, code: 'unavailable' });
      world.fate = 'answered';
      world.run(3000);
      if (standing(world).state === 'refusing') recover(world);
      expect(standing(world).state).toBe('acting');
      const view = world.ask({ kind: 'volume-describe', volumeId: id });
      expect(view.ok && (view.value as VolumeView).state).toBe('available');
    }
  });
});
