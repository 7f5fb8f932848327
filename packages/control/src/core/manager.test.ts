import { primaryOf, type VolumeView } from '@ashlar/protocol';
import { serverId, volumeId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };

function primary(world: ModelWorld, id: VolumeId): ReturnType<ModelWorld['server']> {
  return world.server(primaryOf(world.volume(id).configuration));
}

function mirror(world: ModelWorld, id: VolumeId): ReturnType<ModelWorld['server']> {
  return world.server(world.volume(id).configuration.members[1]!.serverId);
}

function isHealthy(world: ModelWorld, id: VolumeId): boolean {
  const { configuration, holders } = world.volume(id);
  return configuration.members.length === configuration.copiesWanted && configuration.learners.length === 0 && holders.length === configuration.copiesWanted
    && configuration.members.every((member) => world.server(member.serverId).state === 'up');
}

describe('creating', () => {
  it('places copies on distinct servers, and is available when all have adopted it', () => {
    const world = new ModelWorld(3);
    const id = world.create(1);
    const view = world.view(id);
    expect(view).toMatchObject({ state: 'available', health: 'healthy', epoch: 1 });
    expect(view.copies.map((copy) => [copy.role, copy.state])).toEqual([['primary', 'in-sync'], ['mirror', 'in-sync']]);
    expect(new Set(view.copies.map((copy) => copy.serverId)).size).toBe(2);
    expect(world.names(id)).toEqual(['volume-created', 'volume-available']);
  });

  it('spreads primaries', () => {
    const world = new ModelWorld(3);
    const ids = Array.from({ length: 6 }, () => world.create(1));
    expect(new Set(ids.map((id) => primary(world, id).id)).size).toBe(3);
  });

  it.each([
    [{ mirrors: 3 }, 'too-few-servers'], [{ mirrors: -1 }, 'invalid-argument'], [{ sizeBytes: 0 }, 'invalid-argument'], [{ sizeBytes: 4097 }, 'invalid-argument'],
    [{ sizeBytes: 2 ** 50 }, 'invalid-argument'], [{ minCopies: 3 }, 'invalid-argument'], [{ tags: { '': 'x' } }, 'invalid-argument'],
  ])('refuses %j with %s, and nothing is changed', (change, code) => {
    const world = new ModelWorld(3);
    const limits = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };
    const answer = world.ask({ kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits, tags: {}, ...change } as never);
    expect(answer).toMatchObject({ ok: false, code });
    expect(world.store.snapshot().records.filter((record) => record.kind === 'volume')).toEqual([]);
  });

  it('gives the same volume for the same client token', () => {
    const world = new ModelWorld(3);
    const command = { kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {}, clientToken: 'once' } as const;
    const [first, second] = [world.ask(command), world.ask(command)];
    expect(first.ok && second.ok && (first.value as VolumeView).volumeId === (second.value as VolumeView).volumeId).toBe(true);
  });

  it('makes one volume of creations with one client token that come together', () => {
    const world = new ModelWorld(3);
    const command = { kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {}, clientToken: 'once' } as const;
    const requestIds = world.commands(command, command, command);
    expect(world.until(() => requestIds.every((id) => world.answers.has(id)), 5000)).toBe(true);
    const ids = requestIds.map((id) => world.answers.get(id)).map((answer) => answer?.ok && (answer.value as VolumeView).volumeId);
    expect(ids[0]).toMatch(/^vol-/);
    expect(new Set(ids).size).toBe(1);
    expect(world.store.snapshot().records.filter((record) => record.kind === 'volume')).toHaveLength(1);
  });

  it('makes all of many volumes asked for at once, a few at a time', () => {
    const world = new ModelWorld(3);
    const command = { kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} } as const;
    const requestIds = world.commands(...Array.from({ length: 20 }, () => command));
    expect(world.until(() => requestIds.every((id) => world.answers.get(id)?.ok === true), 20_000)).toBe(true);
    let creating = 0;
    const inFlight = world.names().map((name) => (creating += Number(name === 'volume-created') - Number(name === 'volume-available')));
    expect(Math.max(...inFlight)).toBe(4);
    expect(creating).toBe(0);
  });

  it('goes on with a creation that the manager was ended in the middle of', () => {
    const world = new ModelWorld(3);
    world.command({ kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 0, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} });
    world.endManager();
    world.run(2000).restartManager();
    const stored = (): VolumeId | undefined => world.store.snapshot().records.filter((record) => record.kind === 'volume').map((record) => volumeId(record.id))[0];
    expect(world.until(() => stored() === undefined || world.volume(stored()!).state === 'available', 5000)).toBe(true);
  });
});

describe('losing the primary', () => {
  it('promotes the mirror at once when the process was reaped, and the lease need not be waited for', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [before, after] = [primary(world, id), mirror(world, id)];
    world.kill(before);
    expect(primary(world, id)).toBe(after);
    expect(world.volume(id)).toMatchObject({ predecessorEnded: true, configuration: { epoch: 2 } });
    expect(world.names(id)).toContain('promoted');
  });

  it('promotes after silence when it is frozen, without that proof', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    const before = primary(world, id);
    world.freeze(before);
    world.run(600);
    expect(primary(world, id)).toBe(before);
    expect(world.until(() => primary(world, id) !== before, 1200)).toBe(true);
    expect(world.volume(id).predecessorEnded).toBe(false);
  });

  it('does not act on silence that it slept through itself', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const before = primary(world, id);
    world.nowMs += 60_000;
    world.run(2000);
    expect(primary(world, id)).toBe(before);
  });

  it('never promotes a learner, nor a copy that left the set', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [first, second] = [primary(world, id), mirror(world, id)];
    world.kill(second);
    expect(world.until(() => world.volume(id).configuration.members.length === 1, 3000)).toBe(true);
    world.kill(first);
    world.revive(second);
    world.run(20_000);
    expect(primary(world, id)).toBe(first);
    expect(world.names(id)).toContain('no-promotable-copy');
    world.revive(first);
    expect(world.until(() => isHealthy(world, id), 20_000)).toBe(true);
  });

  it('gives a restarted sole copy a new epoch: no copy resumes its role', () => {
    const world = new ModelWorld(1, FAST);
    const id = world.create(0);
    const { epoch } = world.volume(id).configuration;
    const [server] = world.servers;
    world.kill(server!);
    world.revive(server!);
    expect(world.until(() => world.volume(id).configuration.epoch > epoch && world.view(id).health === 'healthy', 3000)).toBe(true);
  });

  it('tells no other life of the primary\'s process than the one that was appointed', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [first, second] = [primary(world, id), mirror(world, id)];
    world.freeze(second);
    world.kill(first);
    world.run(100);
    const { epoch } = world.volume(id).configuration;
    expect(primary(world, id)).toBe(second); // it has not heard of it
    world.kill(second);
    const told: number[] = [];
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (command.kind === 'configure' && to === second.id) told.push(command.configuration.epoch);
      toServer(to, command);
    };
    world.manager.receive(world.nowMs, { kind: 'link', node: second.id, up: true }, world); // who it is has not been said
    world.run(1500);
    expect(told).toEqual([]);
    world.revive(second);
    expect(world.until(() => told.length > 0, 3000)).toBe(true);
    expect(Math.min(...told)).toBeGreaterThan(epoch);
  });

  it('chooses the longest log when every member lost its cache, once all have answered', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [first, second] = [primary(world, id), mirror(world, id)];
    world.kill(first);
    world.kill(second);
    for (const server of [first, second]) server.copies.get(id)!.incarnation += 1000;
    const { epoch } = world.volume(id).configuration;
    world.revive(second);
    world.run(3000);
    expect(world.names(id)).not.toContain('recovered-after-cache-loss');
    world.revive(first);
    expect(world.until(() => world.names(id).includes('recovered-after-cache-loss'), 3000)).toBe(true);
    expect(world.volume(id).configuration.epoch).toBeGreaterThan(epoch);
  });

  it('or recovers without a member that the operator gives up', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [first, second] = [primary(world, id), mirror(world, id)];
    world.kill(first);
    world.kill(second);
    second.copies.get(id)!.incarnation += 1000;
    world.revive(second);
    world.run(3000);
    world.ask({ kind: 'volume-failover', volumeId: id, giveUp: first.id });
    expect(world.until(() => world.names(id).includes('recovered-after-cache-loss'), 3000)).toBe(true);
    expect(primary(world, id)).toBe(second);
  });
});

describe('servers that are there, and too busy for anything', () => {
  it('are given fewer and fewer promotions, not more, and serve when they come to it', () => {
    const world = new ModelWorld(2);
    const id = world.create(1);
    for (const server of world.servers) server.busy = true;
    world.command({ kind: 'volume-failover', volumeId: id });
    const before = world.volume(id).configuration.epoch;
    world.run(150_000);
    const promotions = world.volume(id).configuration.epoch - before;
    expect(promotions).toBeGreaterThan(2);
    expect(promotions).toBeLessThan(7);
    for (const server of world.servers) world.relieve(server);
    expect(world.until(() => isHealthy(world, id), 10_000)).toBe(true);
    // Whoever served has all of the patience again.
    for (const server of world.servers) server.busy = true;
    const { epoch } = world.volume(id).configuration;
    world.command({ kind: 'volume-failover', volumeId: id });
    expect(world.until(() => world.volume(id).configuration.epoch >= epoch + 2, 7000)).toBe(true);
  });
});

describe('keeping copies', () => {
  it('lets a mirror that comes back soon catch up, without a new copy', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const lost = mirror(world, id);
    world.kill(lost);
    world.run(2000).revive(lost);
    expect(world.until(() => isHealthy(world, id), 10_000)).toBe(true);
    expect(world.volume(id).holders).toContain(lost.id);
    expect(world.names(id)).not.toContain('copy-discarded');
  });

  it('builds a new mirror elsewhere after the delay, and discards the old copy when it comes back', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const lost = mirror(world, id);
    world.kill(lost);
    world.run(4000);
    expect(world.volume(id).configuration.learners).toEqual([]);
    expect(world.until(() => world.view(id).health === 'healthy', 6000)).toBe(true);
    expect(world.volume(id).configuration.members.map((member) => member.serverId)).not.toContain(lost.id);
    world.revive(lost);
    expect(world.until(() => isHealthy(world, id), 5000)).toBe(true);
    expect(lost.copies.has(id)).toBe(false);
  });

  it('does not wait when the server is known to be lost', () => {
    const world = new ModelWorld(3, { ...FAST, rebuildDelayMs: 600_000 });
    const id = world.create(1);
    const lost = mirror(world, id);
    world.kill(lost);
    world.ask({ kind: 'server-lost', serverId: lost.id });
    expect(world.until(() => world.view(id).health === 'healthy', 10_000)).toBe(true);
  });

  it('replaces a copy whose disk failed', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const bad = mirror(world, id);
    bad.copies.get(id)!.fault = 'sync-failed';
    expect(world.until(() => isHealthy(world, id) && !world.volume(id).holders.includes(bad.id), 20_000)).toBe(true);
  });

  it('leaves the last copy alone when its disk fails, so that its reads go on', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(0);
    const last = primary(world, id);
    last.copies.get(id)!.fault = 'sync-failed';
    world.tellFault(last, id);
    world.run(10_000);
    expect(world.volume(id).configuration.epoch).toBe(1);
    expect(world.view(id).health).toBe('faulted');
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false })).toMatchObject({ ok: false, code: 'io-error' });
  });

  it('never shrinks below the minimum of copies', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1, 2);
    world.kill(mirror(world, id));
    world.run(10_000);
    expect(world.volume(id).configuration.members).toHaveLength(2);
    expect(world.view(id).health).toBe('faulted');
  });

  it('replaces a primary that never comes back where the minimum does not let it go, though nothing is served meanwhile', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1, 2);
    const gone = primary(world, id);
    world.kill(gone);
    const replaced = (): boolean => {
      const { members, learners } = world.volume(id).configuration;
      return learners.length === 0 && members.length === 2 && members.every((member) => member.serverId !== gone.id);
    };
    expect(world.until(replaced, 40_000)).toBe(true);
  });

  it('changes the number of mirrors while in use', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(0);
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 });
    expect(world.until(() => isHealthy(world, id) && world.volume(id).configuration.members.length === 3, 20_000)).toBe(true);
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 1 });
    expect(world.until(() => isHealthy(world, id) && world.volume(id).configuration.members.length === 2, 20_000)).toBe(true);
  });

  it('refuses to act on a volume of which a copy knows more than the store', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const old = world.store.snapshot();
    world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 });
    world.store.rollBack(old);
    world.endManager();
    world.restartManager();
    world.run(3000);
    expect(world.names()).toContain('store-behind');
    world.kill(primary(world, id));
    world.run(5000);
    expect(world.volume(id).configuration.epoch).toBe(1);
  });
});

describe('attaching', () => {
  it('raises the attach number, and refuses a second writer', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false })).toMatchObject({ ok: true, value: { nbd: 'nbd+unix:///' } });
    expect(world.volume(id)).toMatchObject({ state: 'in-use', configuration: { attachNumber: 1 } });
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false })).toMatchObject({ ok: false, code: 'in-use' });
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: true, tcp: false })).toMatchObject({ ok: true });
    expect(world.ask({ kind: 'volume-delete', volumeId: id })).toMatchObject({ ok: false, code: 'in-use' });
    expect(world.ask({ kind: 'volume-detach', volumeId: id })).toMatchObject({ ok: true });
    expect(world.ask({ kind: 'volume-detach', volumeId: id })).toMatchObject({ ok: true });
    expect(world.ask({ kind: 'volume-detach', volumeId: id })).toMatchObject({ ok: false, code: 'not-attached' });
    expect(world.volume(id)).toMatchObject({ state: 'available', attachments: [] });
  });

  it('on a host that was restarted, though the end of its former life is heard of later', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    world.hostRestarted();
    expect(world.ask({ kind: 'volume-attach', volumeId: id, hostId: world.host, readOnly: false, tcp: false })).toMatchObject({ ok: true });
  });

  it('tells attached hosts of every change', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    world.kill(primary(world, id));
    expect(world.attached.get(id)).toEqual(world.volume(id).configuration);
  });

  it('attaches one copy alone only to read', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false, copy: serverId('server-1') })).toMatchObject({ ok: false, code: 'invalid-argument' });
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: true, tcp: false, copy: serverId('server-9') })).toMatchObject({ ok: false, code: 'not-found' });
    expect(world.ask({ kind: 'volume-attach', volumeId: id, readOnly: true, tcp: false, copy: serverId('server-1') })).toMatchObject({ ok: true });
  });
});

describe('growing, failing over, deleting', () => {
  it('grows under a new epoch, never shrinks', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    expect(world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 29 })).toMatchObject({ ok: false, code: 'invalid-argument' });
    expect(world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 })).toMatchObject({ ok: true, value: { sizeBytes: 2 ** 31, epoch: 2 } });
  });

  it('fails over on the operator’s word', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [before, after] = [primary(world, id), mirror(world, id)];
    expect(world.ask({ kind: 'volume-failover', volumeId: id })).toMatchObject({ ok: true });
    expect(primary(world, id)).toBe(after);
    expect(world.until(() => world.view(id).health === 'healthy', 3000)).toBe(true);
    expect(world.volume(id).configuration.members.map((member) => member.serverId)).toContain(before.id);
  });

  it('deletes every file, also on a server that is away', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const away = mirror(world, id);
    world.kill(away);
    const request = world.command({ kind: 'volume-delete', volumeId: id });
    world.run(3000);
    expect(world.volume(id)?.state).toBe('deleting');
    world.revive(away);
    expect(world.until(() => world.answers.has(request), 5000)).toBe(true);
    expect(world.answers.get(request)).toMatchObject({ ok: true });
    expect(world.servers.every((server) => !server.copies.has(id))).toBe(true);
    expect(world.ask({ kind: 'volume-describe', volumeId: id })).toMatchObject({ ok: false, code: 'not-found' });
  });
});

describe('a store that does not answer', () => {
  it('is read back before anything else is decided, whether or not the change was made', () => {
    for (const fate of ['reply-lost', 'request-lost'] as const) {
      const world = new ModelWorld(3, FAST);
      const id = world.create(1);
      world.fate = fate;
      world.kill(primary(world, id));
      world.fate = 'answered';
      expect(world.until(() => world.view(id).epoch >= 2 && primary(world, id).state === 'up', 3000)).toBe(true);
      expect(world.volume(id).configuration.epoch).toBe(2);
    }
  });

  it('is read at once where the founding of the cluster was not answered: whether it was made, and its own record stands in the way of another, is in there', () => {
    let founded = false;
    class Unanswered extends ModelWorld {
      override transact(...[token, transaction]: Parameters<ModelWorld['transact']>): void {
        if (!founded && transaction.puts.some(({ kind }) => kind === 'origin')) {
          founded = true;
          this.fate = 'reply-lost';
        }
        super.transact(token, transaction);
      }

      override load(): void {
        this.fate = 'answered';
        super.load();
      }
    }
    const world = new Unanswered(3, FAST);
    expect(founded).toBe(true);
    // A tenth of a second after its start: not at a later look of a tick, which reports that come in between put off again and again.
    expect(world.manager.state.standing.state).toBe('acting');
  });

  it('answers no command with a change that was not made', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    for (const command of [{ kind: 'volume-modify', volumeId: id, mirrors: 2 }, { kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 }] as const) {
      world.run(1000);
      world.fate = 'request-lost';
      const asked = world.command(command);
      world.run(200);
      world.fate = 'answered';
      world.run(1000);
      // The epoch that it would have had comes by another change.
      world.ask({ kind: 'volume-failover', volumeId: id });
      world.run(2000);
      expect(world.answers.get(asked), command.kind).toMatchObject({ ok: false, code: 'unavailable' });
    }
    expect(world.view(id)).toMatchObject({ mirrors: 1, sizeBytes: 2 ** 30 });
  });

  it('does not keep commands waiting for ever', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.fate = 'request-lost';
    const answer = world.ask({ kind: 'volume-grow', volumeId: id, sizeBytes: 2 ** 31 }, 1000);
    world.fate = 'answered';
    expect(answer.ok).toBe(false);
  });
});

describe('what the store did not answer', () => {
  it('is not told as done if it was not', () => {
    const commands = [(volumeId: VolumeId) => ({ kind: 'volume-grow', volumeId, sizeBytes: 2 ** 31 }) as const, (volumeId: VolumeId) => ({ kind: 'volume-modify', volumeId, minCopies: 2 }) as const];
    for (const command of commands) {
      const world = new ModelWorld(3, FAST);
      const id = world.create(1);
      world.fate = 'request-lost';
      const requestId = world.command(command(id));
      world.fate = 'answered';
      world.run(1000);
      world.kill(primary(world, id));
      world.run(35_000);
      expect(world.answers.get(requestId)).toMatchObject({ ok: false, code: 'unavailable' });
      expect(world.volume(id).configuration).toMatchObject({ sizeBytes: 2 ** 30, minCopies: 1 });
    }
  });

  it('ends a deletion all the same, if it was done', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const { transact } = world.store;
    world.store.transact = (transaction, done) => transact.call(world.store, transaction, (outcome) => done(transaction.deletes.length > 0 ? { kind: 'unknown' } : outcome));
    expect(world.ask({ kind: 'volume-delete', volumeId: id }, 5000)).toMatchObject({ ok: true });
    expect(world.volume(id)).toBeUndefined();
  });
});

describe('a store that fails', () => {
  it('is tried again after a while, not all the time', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    let calls = 0;
    const { transact } = world.store;
    world.store.transact = (transaction, done) => {
      if (transaction.conditions.length > 0) calls++;
      transact.call(world.store, transaction, done);
    };
    world.fate = 'request-lost';
    world.kill(primary(world, id));
    world.until(() => false, 200);
    world.fate = 'answered';
    world.run(100);
    expect(calls).toBeLessThanOrEqual(2);
    expect(world.until(() => primary(world, id).state === 'up', 2000)).toBe(true);
  });
});
