import { memberOf, primaryOf, type PlacementView, type ServerView, type VolumeView } from '@ashlar/protocol';
import { serverId, type ServerId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld, type ModelServer } from '../testing/model-world.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };
const LIMITS = { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 };

const membersOf = (world: ModelWorld, id: VolumeId): ServerId[] => world.volume(id).configuration.members.map((member) => member.serverId);
const idle = (world: ModelWorld, id: VolumeId): ServerId => world.servers.find((server) => !world.volume(id).holders.includes(server.id))!.id;

/** Lets time pass until nothing is left to do; at every step there must be as many copies in sync as are wanted. */
function settles(world: ModelWorld, id: VolumeId, wanted: number, withinMs = 30_000): void {
  const done = (): boolean => {
    const { configuration, holders, move } = world.volume(id);
    if (configuration.members.length < wanted) throw new Error(`${configuration.members.length} copies in epoch ${configuration.epoch}`);
    return move === null && configuration.members.length === wanted && configuration.learners.length === 0 && holders.length === wanted;
  };
  if (!world.until(done, withinMs)) throw new Error(`not settled: ${JSON.stringify(world.volume(id))}\n${world.events().slice(-15).map((event) => `${event.name} ${event.reason} ${JSON.stringify(event.detail)}`).join('\n')}`);
}

describe('a copy that is moved', () => {
  it('is built, takes the place of the mirror, and the old one goes: never with fewer copies than wanted', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [primary, from] = membersOf(world, id) as [ServerId, ServerId];
    const to = idle(world, id);
    expect(world.ask({ kind: 'volume-move', volumeId: id, from, to })).toMatchObject({ ok: true, value: { move: { from, to } } });
    settles(world, id, 2);
    expect(membersOf(world, id)).toEqual([primary, to]);
    expect(world.server(from).copies.has(id)).toBe(false);
    expect(world.names(id).filter((name) => name === 'promoted')).toEqual([]);
    expect(world.names(id)).toContain('copy-moved');
  });

  it('hands over first when it is the primary, to the one that came in its stead', () => {
    for (const mirrors of [0, 1, 2]) {
      const world = new ModelWorld(mirrors + 2, FAST);
      const id = world.create(mirrors);
      const [from] = membersOf(world, id) as [ServerId];
      const to = idle(world, id);
      world.ask({ kind: 'volume-move', volumeId: id, from, to });
      settles(world, id, mirrors + 1);
      expect(primaryOf(world.volume(id).configuration)).toBe(to);
      expect(memberOf(world.volume(id).configuration, from)).toBeUndefined();
      const names = world.names(id);
      expect(names.indexOf('copy-joined')).toBeLessThan(names.indexOf('promoted'));
      expect(names.indexOf('promoted')).toBeLessThan(names.indexOf('copy-removed'));
    }
  });

  it('is begun at once, without the delay for copies that may come back', () => {
    const world = new ModelWorld(3, { ...FAST, rebuildDelayMs: 600_000 });
    const id = world.create(1);
    world.ask({ kind: 'volume-move', volumeId: id, from: membersOf(world, id)[1]!, to: idle(world, id) });
    settles(world, id, 2);
  });

  it('goes on in the next life of a manager that was ended at any moment of it', () => {
    for (let endAtMs = 0; endAtMs <= 3000; endAtMs += 100) {
      const world = new ModelWorld(3, { ...FAST, startGraceMs: 1000 });
      const id = world.create(1);
      const from = primaryOf(world.volume(id).configuration);
      const to = idle(world, id);
      world.command({ kind: 'volume-move', volumeId: id, from, to });
      world.run(endAtMs);
      const began = world.volume(id).move !== null || world.names(id).includes('move-began');
      world.endManager();
      world.run(1000).restartManager();
      settles(world, id, 2);
      if (began) expect(membersOf(world, id)).toContain(to);
    }
  });

  it('is given up when the server that it goes to ends, and then nothing has changed', () => {
    for (const diesAtMs of [0, 300, 600]) {
      const world = new ModelWorld(3, FAST);
      const id = world.create(1);
      const before = membersOf(world, id);
      const to = idle(world, id);
      world.ask({ kind: 'volume-move', volumeId: id, from: before[1]!, to });
      world.run(diesAtMs);
      world.kill(world.server(to));
      expect(world.until(() => world.volume(id).move === null, 20_000)).toBe(true);
      expect([...membersOf(world, id)].sort()).toEqual([...before].sort());
      world.revive(world.server(to));
      settles(world, id, 2);
      expect([...membersOf(world, id)].sort()).toEqual([...before].sort());
      expect(world.names(id)).toContain('move-ended');
    }
  });

  it('needs no second new copy when the server that it leaves ends', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [from] = membersOf(world, id) as [ServerId];
    const to = idle(world, id);
    world.ask({ kind: 'volume-move', volumeId: id, from, to });
    world.run(300);
    world.kill(world.server(from));
    expect(world.until(() => membersOf(world, id).includes(to) && !membersOf(world, id).includes(from), 20_000)).toBe(true);
    world.revive(world.server(from));
    settles(world, id, 2);
    expect(membersOf(world, id)).toContain(to);
  });

  it('goes where it was told to, though an older copy comes back meanwhile', () => {
    const world = new ModelWorld(4, { ...FAST, rebuildsMax: 1 });
    const id = world.create(1);
    const away = world.server(membersOf(world, id)[1]!);
    world.kill(away);
    expect(world.until(() => membersOf(world, id).length === 2 && !membersOf(world, id).includes(away.id), 30_000)).toBe(true);
    const to = world.servers.find((server) => server !== away && !membersOf(world, id).includes(server.id))!.id;
    const from = membersOf(world, id)[1]!;
    // It has to wait for another move, and what only catches up waits for nobody.
    const other = world.create(0);
    world.ask({ kind: 'volume-move', volumeId: other, from: membersOf(world, other)[0]!, to: world.servers.find((server) => server !== away && !membersOf(world, other).includes(server.id))!.id });
    world.ask({ kind: 'volume-move', volumeId: id, from, to });
    expect(world.volume(id).configuration.learners).toEqual([]);
    world.revive(away);
    settles(world, id, 2);
    expect(membersOf(world, id)).toContain(to);
    expect(membersOf(world, id)).not.toContain(from);
    expect(away.copies.has(id)).toBe(false);
  });

  it('is taken back on the operator’s word while it is being built', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const before = membersOf(world, id);
    world.ask({ kind: 'volume-move', volumeId: id, from: before[1]!, to: idle(world, id) });
    world.run(300);
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: before[1]! })).toMatchObject({ ok: true, value: { move: null } });
    settles(world, id, 2);
    expect(membersOf(world, id)).toEqual(before);
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: before[1]! })).toMatchObject({ ok: false, code: 'not-found' });
  });

  it('is refused where it makes no sense, and nothing is changed', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [a, b] = membersOf(world, id) as [ServerId, ServerId];
    const to = idle(world, id);
    const before = world.volume(id);
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: to, to: a })).toMatchObject({ ok: false, code: 'not-found' });
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: a, to: b })).toMatchObject({ ok: false, code: 'in-use' });
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: a, to: serverId('server-9') })).toMatchObject({ ok: false, code: 'unavailable' });
    world.ask({ kind: 'server-drain', serverId: to });
    expect(world.ask({ kind: 'volume-move', volumeId: id, from: a, to })).toMatchObject({ ok: false, code: 'too-few-servers' });
    expect(world.volume(id)).toEqual(before);
  });
});

describe('a server that is drained', () => {
  it('gives all its copies away while they are in use, takes no new one, and can be removed then, not before', () => {
    const world = new ModelWorld(4, FAST);
    const ids = Array.from({ length: 6 }, () => world.create(1));
    const drained = world.servers.find((server) => ids.some((id) => membersOf(world, id)[0] === server.id))!;
    const removal = { kind: 'server-remove', serverId: drained.id } as const;
    expect(world.ask(removal)).toMatchObject({ ok: false, code: 'in-use' });
    expect(world.ask({ kind: 'server-drain', serverId: drained.id })).toMatchObject({ ok: true, value: { state: 'draining' } });
    // They begin one after the other.
    for (let i = 0; i < ids.length; i++) {
      for (const id of ids) settles(world, id, 2, 60_000);
      world.run(100);
    }
    expect(drained.copies.size).toBe(0);
    expect(ids.flatMap((id) => membersOf(world, id))).not.toContain(drained.id);
    world.create(2);
    expect(drained.copies.size).toBe(0);
    expect(world.ask(removal)).toMatchObject({ ok: true });
    const names = (): readonly string[] => (world.ask({ kind: 'server-list' }) as { value: ServerView[] }).value.map((server) => server.serverId);
    expect(names()).not.toContain(drained.id);
    // Its process still runs, and greets the next life of the manager.
    world.endManager();
    world.run(500).restartManager();
    world.run(1000);
    expect(names()).toHaveLength(3);
    expect(names()).not.toContain(drained.id);
  });

  /** Drained, empty, and forgotten; its process ends. */
  function removed(world: ModelWorld, id: ServerId): void {
    world.ask({ kind: 'server-drain', serverId: id });
    expect(world.ask({ kind: 'server-remove', serverId: id })).toMatchObject({ ok: true });
    world.kill(world.server(id));
  }

  it('and removed is not waited for by the next life of the manager, however many there were', () => {
    const world = new ModelWorld(5, FAST);
    for (const id of ['server-1', 'server-2', 'server-3']) removed(world, serverId(id));
    const id = world.create(1);
    world.endManager();
    world.run(500).restartManager();
    world.run(60_000);
    expect(world.ask({ kind: 'manager-describe' })).toMatchObject({ ok: true, value: { state: 'acting', unheard: [] } });
    expect(world.view(id).health).toBe('healthy');
  });

  it('and removed stays so, whatever is heard of it before its removal is kept everywhere', () => {
    for (const moment of ['ends', 'another life', 'drain cancelled'] as const) {
      const world = new ModelWorld(3, FAST);
      const id = serverId('server-1');
      world.ask({ kind: 'server-drain', serverId: id });
      // The store has it at once; the other servers are slow to keep it.
      for (const other of world.servers.slice(1)) world.freeze(other);
      const asked = world.command({ kind: 'server-remove', serverId: id });
      expect(world.answers.has(asked)).toBe(false);
      if (moment === 'drain cancelled') world.command({ kind: 'server-drain', serverId: id, cancel: true });
      else world.kill(world.server(id));
      if (moment === 'another life') world.revive(world.server(id));
      for (const other of world.servers.slice(1)) world.revive(other);
      expect(world.until(() => world.answers.has(asked), 10_000)).toBe(true);
      world.endManager();
      world.run(500).restartManager();
      world.run(1000);
      const listed = (world.ask({ kind: 'server-list' }) as { value: ServerView[] }).value.map((server) => server.serverId);
      expect(listed, moment).toEqual(['server-2', 'server-3']);
    }
  });

  it('is still being drained after it and the manager were restarted', () => {
    const world = new ModelWorld(3, FAST);
    world.ask({ kind: 'server-drain', serverId: serverId('server-2') });
    world.kill(world.servers[1]!);
    world.endManager();
    world.run(500).restartManager();
    world.revive(world.servers[1]!);
    world.run(500);
    const states = (): readonly string[] => (world.ask({ kind: 'server-list' }) as { value: ServerView[] }).value.map((server) => server.state);
    expect(states()).toEqual(['up', 'draining', 'up']);
    world.ask({ kind: 'server-drain', serverId: serverId('server-2'), cancel: true });
    expect(states()).toEqual(['up', 'up', 'up']);
  });

  it('keeps what has nowhere to go, and says so', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    world.ask({ kind: 'server-drain', serverId: serverId('server-1') });
    world.run(10_000);
    expect(membersOf(world, id)).toHaveLength(2);
    expect(world.names(id)).toContain('no-server-for-copy');
  });
});

describe('a volume of which nobody may lead', () => {
  it('keeps whatever is left of it, faulted copies too, and is given no empty ones', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [source, mirror] = membersOf(world, id).map((one) => world.server(one)) as [ModelServer, ModelServer];
    const spare = world.server(idle(world, id));
    world.kill(spare);
    world.kill(mirror);
    expect(world.until(() => membersOf(world, id).length === 1, 10_000)).toBe(true);
    world.kill(source);
    mirror.copies.get(id)!.fault = 'sync-failed';
    world.revive(mirror);
    world.revive(spare);
    world.run(60_000);
    expect(mirror.copies.get(id)?.fault).toBe('sync-failed');
    expect(world.volume(id).configuration.learners).toEqual([]);
    expect(spare.copies.has(id)).toBe(false);
    world.revive(source);
    expect(world.until(() => world.view(id).health === 'healthy' && world.volume(id).holders.length === 2, 60_000)).toBe(true);
  });
});

describe('a server that is lost', () => {
  it('is not waited for: volumes are deleted, and it can be removed', () => {
    const world = new ModelWorld(4, FAST);
    const [kept, deleted] = [world.create(1), world.create(1)];
    const lost = world.server(membersOf(world, kept)[0]!);
    world.kill(lost);
    world.ask({ kind: 'server-lost', serverId: lost.id });
    settles(world, kept, 2, 60_000);
    expect(world.volume(kept).holders).not.toContain(lost.id);
    expect(world.ask({ kind: 'volume-delete', volumeId: deleted })).toMatchObject({ ok: true });
    world.ask({ kind: 'server-drain', serverId: lost.id });
    expect(world.ask({ kind: 'server-remove', serverId: lost.id })).toMatchObject({ ok: true });
  });

  it('gives up its files when it comes back after all', () => {
    const world = new ModelWorld(4, FAST);
    const id = world.create(1);
    const lost = world.server(membersOf(world, id)[0]!);
    world.kill(lost);
    world.ask({ kind: 'server-lost', serverId: lost.id });
    settles(world, id, 2, 60_000);
    world.revive(lost);
    expect(world.until(() => !lost.copies.has(id), 10_000)).toBe(true);
    settles(world, id, 2);
    expect(membersOf(world, id)).not.toContain(lost.id);
  });
});

describe('a slow copy', () => {
  function toldSlow(world: ModelWorld, id: VolumeId, slow: ServerId): void {
    const { configuration } = world.volume(id);
    world.manager.receive(world.nowMs, { kind: 'from-copy', from: primaryOf(configuration), message: { kind: 'suspect', volumeId: id, epoch: configuration.epoch, serverId: slow, reason: 'slow' } }, world);
  }

  it('is replaced when another is in sync, and not before', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const [primary, slow] = membersOf(world, id) as [ServerId, ServerId];
    const spare = idle(world, id);
    toldSlow(world, id, slow);
    settles(world, id, 2);
    expect(world.until(() => world.volume(id).configuration.learners.length > 0, 10_000)).toBe(true);
    settles(world, id, 2);
    expect(membersOf(world, id)).toEqual([primary, spare]);
  });

  it('that became primary is one as any other: nobody else leads but by a promotion', () => {
    const world = new ModelWorld(4, FAST);
    const id = world.create(1);
    const [primary, slow] = membersOf(world, id) as [ServerId, ServerId];
    world.ask({ kind: 'server-drain', serverId: primary });
    toldSlow(world, id, slow);
    const unpromoted: string[] = [];
    const transact = world.transact.bind(world);
    world.transact = (token, transaction) => {
      for (const put of transaction.puts) {
        if (put.kind !== 'volume' || primaryOf(put.value.configuration) === primaryOf(world.volume(id).configuration)) continue;
        if (!transaction.events.some(({ name }) => name === 'promoted')) unpromoted.push(`${primaryOf(put.value.configuration)} in epoch ${put.value.configuration.epoch}`);
      }
      transact(token, transaction);
    };
    expect(world.until(() => !world.volume(id).holders.includes(primary) && world.volume(id).holders.length === 2, 60_000)).toBe(true);
    expect(unpromoted).toEqual([]);
    expect(primaryOf(world.volume(id).configuration)).toBe(slow);
  });
});

describe('a former copy', () => {
  it('is not forgotten when it was given a role again, and lost it, before its removal was heard of', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 });
    expect(world.until(() => membersOf(world, id).length === 3, 20_000)).toBe(true);
    world.run(500);
    const former = world.server(membersOf(world, id)[2]!);
    const discards: number[] = [];
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (to === former.id && command.kind === 'discard') {
        discards.push(world.nowMs);
        former.busy = true;
      }
      toServer(to, command);
    };
    expect(world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 1 })).toMatchObject({ ok: true });
    expect(world.until(() => discards.length > 0, 10_000)).toBe(true);
    expect(world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 })).toMatchObject({ ok: true });
    expect(world.until(() => world.volume(id).configuration.learners.includes(former.id), 300)).toBe(true);
    expect(world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 1 })).toMatchObject({ ok: true });
    expect(world.until(() => world.volume(id).configuration.learners.length === 0, 300)).toBe(true);
    expect(discards).toHaveLength(1);
    world.toServer = toServer;
    world.relieve(former);
    settles(world, id, 2);
    expect(former.copies.has(id)).toBe(false);
  });
});

describe('records of the version before', () => {
  it('are read with the defaults of what it did not know, and can be moved and drained', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.endManager();
    const older = world.store.snapshot().records.map((stored) => {
      const { disk: _disk, move: _move, draining: _draining, removed: _removed, ...value } = stored.value as unknown as Record<string, unknown>;
      return { ...stored, value } as unknown as typeof stored;
    });
    world.store.rollBack({ revision: world.store.snapshot().revision, records: older });
    world.restartManager();
    expect(world.until(() => world.view(id).health === 'healthy', 10_000)).toBe(true);
    expect(world.view(id)).toMatchObject({ disk: null, move: null });
    const from = membersOf(world, id)[1]!;
    const to = idle(world, id);
    world.ask({ kind: 'volume-move', volumeId: id, from, to });
    settles(world, id, 2);
    expect(membersOf(world, id)).toContain(to);
  });
});

describe('a server found silent', () => {
  it('counts as silent until it is heard itself, also when those that complained have gone over to another', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    const frozen = world.server(primaryOf(world.volume(id).configuration));
    world.freeze(frozen);
    const state = (): string | undefined => (world.ask({ kind: 'server-list' }) as { value: ServerView[] }).value.find((server) => server.serverId === frozen.id)?.state;
    expect(world.until(() => state() === 'suspect', 3000)).toBe(true);
    // The host speaks with the new primary from here on, and says no more about this one.
    for (let ms = 0; ms < 5000; ms += 100) {
      world.run(100);
      expect(state()).toBe('suspect');
    }
    world.revive(frozen);
    expect(world.until(() => state() === 'up', 1000)).toBe(true);
  });
});

describe('where copies are placed', () => {
  function racked(racks: readonly string[]): ModelWorld {
    const world = new ModelWorld(racks.length, FAST);
    racks.forEach((rack, i) => { world.servers[i]!.rack = rack; world.servers[i]!.disk = i % 2 === 0 ? 'ssd' : 'hdd'; });
    for (const server of world.servers) { world.kill(server); world.revive(server); }
    world.run(500);
    return world;
  }
  const rackOf = (world: ModelWorld, id: ServerId): string => world.server(id).rack;
  const create = { kind: 'volume-create', sizeBytes: 2 ** 20, mirrors: 1, minCopies: 1, durability: 'normal', limits: LIMITS, tags: {} } as const;

  it('is in racks of their own, also for a mirror that is added', () => {
    const world = racked(['a', 'a', 'b', 'b', 'c']);
    for (let i = 0; i < 5; i++) {
      const id = world.create(1);
      expect(new Set(membersOf(world, id).map((one) => rackOf(world, one))).size).toBe(2);
      world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 });
      expect(world.until(() => membersOf(world, id).length === 3, 20_000)).toBe(true);
      expect(new Set(membersOf(world, id).map((one) => rackOf(world, one))).size).toBe(3);
      expect(world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 3 })).toMatchObject({ ok: false, code: 'too-few-servers' });
    }
  });

  it('is explained, and a dry run creates nothing', () => {
    const world = racked(['a', 'a', 'b']);
    const dry = world.ask({ ...create, disk: 'ssd', dryRun: true });
    expect(dry).toMatchObject({ ok: true, value: { servers: expect.arrayContaining(['server-1', 'server-3']) as unknown } });
    expect((dry as { value: PlacementView }).value.verdicts.find((verdict) => verdict.serverId === 'server-2')).toMatchObject({ chosen: false, why: expect.stringContaining('its disk is hdd, not ssd') as unknown });
    expect(world.store.snapshot().records.filter((record) => record.kind === 'volume')).toEqual([]);
    const made = world.ask({ ...create, disk: 'ssd', explain: true });
    expect((made as { value: VolumeView }).value).toMatchObject({ disk: 'ssd', placement: { verdicts: expect.arrayContaining([expect.objectContaining({ serverId: 'server-2', chosen: false })]) as unknown } });
    expect(world.ask({ ...create, disk: 'nvme' })).toMatchObject({ ok: false, code: 'too-few-servers', message: expect.stringContaining('server-2: its disk is hdd, not nvme') as unknown });
  });

  it('is where racks stay apart when a server is drained: beside it, or nowhere', () => {
    const world = racked(['a', 'b', 'b']);
    const id = world.create(1);
    const drained = world.server(membersOf(world, id).find((one) => rackOf(world, one) === 'b')!);
    world.ask({ kind: 'server-drain', serverId: drained.id });
    settles(world, id, 2);
    expect(membersOf(world, id)).not.toContain(drained.id);
    expect(new Set(membersOf(world, id).map((one) => rackOf(world, one))).size).toBe(2);
    world.ask({ kind: 'server-drain', serverId: serverId('server-1') });
    world.run(10_000);
    expect(membersOf(world, id)).toContain('server-1');
    expect(world.names(id)).not.toContain('copy-misplaced');
    expect(world.names(id)).toContain('no-server-for-copy');
  });

  it('is in the same rack, or on another disk, rather than nowhere when a copy is lost; and that is said', () => {
    const world = racked(['a', 'a', 'b']);
    const answer = world.ask({ ...create, disk: 'ssd' });
    const id = (answer as { value: VolumeView }).value.volumeId;
    world.kill(world.server('server-3'));
    expect(world.until(() => membersOf(world, id).includes(serverId('server-2')), 20_000)).toBe(true);
    expect(world.names(id)).toContain('copy-misplaced');
  });
});

describe('rebuilds', () => {
  it('begin with the volumes that have the fewest copies, no more at a time than the budget says, and share its bytes', () => {
    const world = new ModelWorld(6, { ...FAST, rebuildsMax: 2 });
    expect(world.ask({ kind: 'cluster-modify', rebuildBudgetBytes: 1_000_000, rebuildsAtOnce: 0 })).toMatchObject({ ok: false, code: 'invalid-argument' });
    world.ask({ kind: 'cluster-modify', rebuildBudgetBytes: 1_000_000 });
    // Two of the copies of these are lost, and one of the copies of those.
    const all = Array.from({ length: 20 }, () => world.create(2));
    const [a, b] = [world.servers[0]!, world.servers[1]!];
    const lostOf = (id: VolumeId): number => [a, b].filter((server) => memberOf(world.volume(id).configuration, server.id)).length;
    const lost = new Map(all.map((id) => [id, lostOf(id)]));
    const rates = new Map<VolumeId, number>();
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (command.kind === 'fill-rate') rates.set(command.volumeId, command.bytesPerSecond);
      toServer(to, command);
    };
    world.kill(a);
    world.kill(b);
    const atOnce: number[] = [];
    const done = world.until(() => {
      const learners = all.filter((id) => world.volume(id).configuration.learners.length > 0);
      atOnce.push(learners.reduce((sum, id) => sum + world.volume(id).configuration.learners.length, 0));
      expect(learners.reduce((sum, id) => sum + (rates.get(id) ?? Infinity), 0)).toBeLessThanOrEqual(1_000_000);
      return all.every((id) => membersOf(world, id).length === 3 && !membersOf(world, id).includes(a.id) && !membersOf(world, id).includes(b.id));
    }, 120_000);
    expect(done).toBe(true);
    expect(Math.max(...atOnce)).toBe(2);
    const began = world.events().filter((event) => event.name === 'learner-added').map((event) => lost.get(event.subject as VolumeId));
    const twice = all.filter((id) => lost.get(id) === 2).length;
    expect(twice).toBeGreaterThan(0);
    // A volume that lost two gets one of them first, before any that lost one.
    expect(began.slice(0, twice)).toEqual(Array.from({ length: twice }, () => 2));
  });

  it('keep the turn of a volume whose record is just being changed', () => {
    const world = new ModelWorld(6, { ...FAST, rebuildsMax: 1 });
    const all = Array.from({ length: 30 }, () => world.create(2));
    const [a, b] = [world.servers[0]!, world.servers[1]!];
    const lostOf = (id: VolumeId): number => [a, b].filter((server) => memberOf(world.volume(id).configuration, server.id)).length;
    const twice = all.filter((id) => lostOf(id) === 2);
    expect(twice.length).toBeGreaterThan(1);
    const learning = (ids: readonly VolumeId[]): VolumeId[] => ids.filter((id) => world.volume(id).configuration.learners.length > 0);
    world.kill(a);
    world.kill(b);
    expect(world.until(() => learning(twice).length === 1, 60_000)).toBe(true);
    world.run(200);
    // All that are left of them are just being changed when the first rebuild ends.
    const transact = world.transact.bind(world);
    const held: Parameters<typeof transact>[] = [];
    world.transact = (...transaction) => { held.push(transaction); };
    const [first] = learning(twice);
    const waiting = twice.filter((id) => id !== first);
    for (const id of waiting) world.command({ kind: 'volume-modify', volumeId: id, limits: { iops: 10 } });
    world.transact = transact;
    expect(held.length).toBe(waiting.length);
    expect(world.until(() => learning([first as VolumeId]).length === 0, 60_000)).toBe(true);
    world.run(1000);
    // The first one has more copies than they by now, and waits with the second that it lacks.
    expect(world.events().filter((event) => event.name === 'learner-added').length).toBe(1);
    for (const transaction of held) transact(...transaction);
    expect(world.until(() => learning(all).length > 0, 10_000)).toBe(true);
    expect(learning(all).every((id) => waiting.includes(id))).toBe(true);
  });

  it.each([{ heldMs: 1000, begins: 'it' }, { heldMs: 20_000, begins: 'the other' }])('keep the turn of a volume whose primary is about to serve, for a moment: $begins begins if that takes $heldMs ms', ({ heldMs, begins }) => {
    const world = new ModelWorld(6, { ...FAST, rebuildsMax: 1 });
    const fewer = world.create(1);
    const lost = world.server(primaryOf(world.volume(fewer).configuration));
    expect(Array.from({ length: 10 }, () => world.create(2)).some((id) => membersOf(world, id).includes(lost.id))).toBe(true);
    const { epoch } = world.volume(fewer).configuration;
    const atMs = world.nowMs;
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      // Without it nobody leads the epoch without the lost copy.
      if (command.kind === 'configure' && command.configuration.volumeId === fewer && command.configuration.epoch > epoch && world.nowMs - atMs < heldMs) return;
      toServer(to, command);
    };
    world.kill(lost);
    world.command({ kind: 'server-lost', serverId: lost.id });
    const begun = (): readonly string[] => world.events().filter((event) => event.name === 'learner-added').map((event) => event.subject);
    expect(world.until(() => begun().length > 0, 60_000)).toBe(true);
    if (begins === 'it') expect(begun()[0]).toBe(fewer);
    else expect(begun()[0]).not.toBe(fewer);
  });

  it('keep no turn of a volume that is being deleted, however long a server that has a copy of it stays away', () => {
    const world = new ModelWorld(7, { ...FAST, rebuildsMax: 1 });
    const deleted = world.create(2);
    const [away, , lost] = membersOf(world, deleted).map((id) => world.server(id)) as [ModelServer, ModelServer, ModelServer];
    const others = Array.from({ length: 10 }, () => world.create(2)).filter((id) => membersOf(world, id).includes(lost.id) && !membersOf(world, id).includes(away.id));
    expect(others.length).toBeGreaterThan(0);
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => { if (command.kind !== 'configure' || command.configuration.volumeId !== deleted) toServer(to, command); };
    world.kill(away);
    world.kill(lost);
    world.command({ kind: 'server-lost', serverId: lost.id });
    world.command({ kind: 'volume-delete', volumeId: deleted });
    const begun = (): boolean => world.events().some((event) => event.name === 'learner-added' && others.includes(event.subject as VolumeId));
    expect(world.until(begun, 20_000)).toBe(true);
    expect(world.volume(deleted).state).toBe('deleting');
  });

  it('of volumes that have lost what they are filled from keep nobody else waiting', () => {
    const world = new ModelWorld(6, { ...FAST, rebuildsMax: 1 });
    const stuck = world.create(1);
    const [source, mirror] = membersOf(world, stuck).map((id) => world.server(id)) as [ModelServer, ModelServer];
    world.kill(mirror);
    expect(world.until(() => world.volume(stuck).configuration.learners.length > 0, 20_000)).toBe(true);
    world.run(200);
    world.kill(source);
    world.run(1000);
    expect(world.view(stuck).health).toBe('faulted');
    const other = world.create(1);
    const lost = world.server(membersOf(world, other)[1]!);
    world.kill(lost);
    expect(world.until(() => membersOf(world, other).length === 2 && !membersOf(world, other).includes(lost.id), 60_000)).toBe(true);
    world.revive(source);
    expect(world.until(() => membersOf(world, stuck).length === 2 && world.view(stuck).health === 'healthy', 60_000)).toBe(true);
  });

  it('are told that there is no limit any more, also where only an earlier life of the manager told of one', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const rates: number[] = [];
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (command.kind === 'fill-rate') rates.push(command.bytesPerSecond);
      toServer(to, command);
    };
    world.ask({ kind: 'cluster-modify', rebuildBudgetBytes: 1000 });
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 });
    expect(world.until(() => membersOf(world, id).length === 3, 20_000)).toBe(true);
    world.ask({ kind: 'cluster-modify', rebuildBudgetBytes: 0 });
    world.endManager();
    world.restartManager();
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 1 });
    expect(world.until(() => world.volume(id).holders.length === 2, 20_000)).toBe(true);
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 2 });
    expect(world.until(() => membersOf(world, id).length === 3, 20_000)).toBe(true);
    expect(new Set(rates)).toEqual(new Set([1000, 0]));
    expect(rates.at(-1)).toBe(0);
  });

  it('keep to a budget of an earlier life of the manager', () => {
    const world = new ModelWorld(2);
    world.ask({ kind: 'cluster-modify', rebuildBudgetBytes: 5_000_000, rebuildsAtOnce: 7 });
    world.endManager();
    world.restartManager();
    world.run(500);
    expect(world.ask({ kind: 'cluster-modify' })).toMatchObject({ ok: true, value: { rebuilds: { bytesPerSecond: 5_000_000, atOnce: 7 } } });
  });
});

describe('after the loss of a server with many copies', () => {
  it('volumes in use get their next epoch at once, the others take turns', () => {
    const world = new ModelWorld(3, FAST);
    const all = Array.from({ length: 200 }, () => world.create(1));
    const lost = world.servers[0] as ModelServer;
    const held = all.filter((id) => membersOf(world, id)[0] === lost.id);
    const used = held.slice(-5);
    for (const id of used) world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    world.run(1000);
    world.kill(lost);
    world.run(200);
    const without = (ids: readonly VolumeId[]): number => ids.filter((id) => membersOf(world, id)[0] !== lost.id).length;
    expect(without(used)).toBe(used.length);
    expect(without(held)).toBeLessThan(held.length / 2);
    expect(world.until(() => without(held) === held.length, 30_000)).toBe(true);
  });

  it('what its primaries said is not believed any more when it is back before their volumes had their turn', () => {
    const world = new ModelWorld(3, FAST);
    const all = Array.from({ length: 200 }, () => world.create(1));
    const lost = world.servers[0] as ModelServer;
    const held = all.filter((id) => membersOf(world, id)[0] === lost.id);
    const before = new Map(held.map((id) => [id, world.volume(id).configuration.epoch]));
    world.run(1000);
    world.kill(lost);
    world.revive(lost);
    world.run(100);
    const waiting = held.filter((id) => world.volume(id).configuration.epoch === before.get(id));
    expect(waiting.length).toBeGreaterThan(10);
    for (const id of waiting) expect(world.view(id)).toMatchObject({ health: 'unknown', copies: [{ state: 'catching-up' }, { state: 'catching-up' }] });
    expect(world.until(() => held.every((id) => world.view(id).health === 'healthy'), 30_000)).toBe(true);
  });

  it.each([['its server is shutting down', true], ['ended', false]])('a mirror is let go because %s: all at once is %s', (reason, atOnce) => {
    const world = new ModelWorld(2, FAST);
    const ids = Array.from({ length: 40 }, () => world.create(1));
    for (const id of ids) {
      const { epoch, members } = world.volume(id).configuration;
      const message = { kind: 'propose', volumeId: id, baseEpoch: epoch, change: { kind: 'remove', serverId: members[1]!.serverId }, reason } as const;
      world.manager.receive(world.nowMs, { kind: 'from-copy', from: members[0].serverId, message }, world);
    }
    world.run(20);
    expect(ids.every((id) => membersOf(world, id).length === 1)).toBe(atOnce);
    expect(ids.some((id) => membersOf(world, id).length === 1)).toBe(true);
  });

  it('copies are begun one after the other, and all of them', () => {
    const world = new ModelWorld(3, FAST);
    const ids = Array.from({ length: 40 }, () => world.create(1));
    const lost = world.servers[0] as ModelServer;
    const held = ids.filter((id) => membersOf(world, id).includes(lost.id));
    world.ask({ kind: 'cluster-modify', rebuildsAtOnce: 16 });
    world.kill(lost);
    world.ask({ kind: 'server-lost', serverId: lost.id });
    world.run(500);
    const begun = (): number => world.events().filter((event) => event.name === 'learner-added').length;
    expect(begun()).toBeGreaterThan(2);
    expect(begun()).toBeLessThan(10);
    expect(world.until(() => held.every((id) => world.volume(id).configuration.members.length === 2), 60_000)).toBe(true);
  });
});
