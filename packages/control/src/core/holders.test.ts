import { primaryOf, type ManagerCommand } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld, type ModelServer } from '../testing/model-world.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };
const CREATION = { kind: 'volume-create', sizeBytes: 2 ** 20, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} } as const;

const membersOf = (world: ModelWorld, id: VolumeId): ModelServer[] => world.volume(id).configuration.members.map((member) => world.server(member.serverId));
const idle = (world: ModelWorld, id: VolumeId): ModelServer => world.servers.find((server) => !world.volume(id).holders.includes(server.id))!;
const began = (world: ModelWorld, id: VolumeId): number => world.names(id).filter((name) => name === 'learner-added').length;

function watchCommands(world: ModelWorld, seen: (to: ServerId, command: ManagerCommand) => void): void {
  const toServer = world.toServer.bind(world);
  world.toServer = (to, command) => {
    seen(to, command);
    toServer(to, command);
  };
}

describe('a copy that comes back where no other server can take one', () => {
  it('is kept until it has said how it stands, and catches up', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const away = membersOf(world, id)[1]!;
    world.kill(away);
    expect(world.until(() => world.names(id).includes('no-server-for-copy'), 20_000)).toBe(true);
    const { incarnation } = away.copies.get(id)!;
    const epochs: number[] = [];
    watchCommands(world, (to, command) => { if (to === away.id && command.kind === 'discard') epochs.push(command.epoch); });
    away.opening = true;
    world.revive(away);
    expect(world.until(() => epochs.length > 1, 5000)).toBe(true);
    expect(new Set(epochs)).toEqual(new Set([0]));
    expect(away.copies.get(id)?.incarnation).toBe(incarnation);
    expect(world.volume(id).holders).toContain(away.id);
    world.tellReports(away);
    expect(world.until(() => world.view(id).health === 'healthy', 10_000)).toBe(true);
    expect(away.copies.get(id)?.incarnation).toBe(incarnation);
  });

  it('counts no more when its server says that it has none, and a new one is built there', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const emptied = membersOf(world, id)[1]!;
    world.kill(emptied);
    expect(world.until(() => world.names(id).includes('no-server-for-copy'), 20_000)).toBe(true);
    emptied.copies.clear();
    world.revive(emptied);
    expect(world.until(() => world.view(id).health === 'healthy', 20_000)).toBe(true);
    expect(world.names(id)).toContain('copy-discarded');
  });

  it('is not forgotten for an answer from before its report', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const away = membersOf(world, id)[1]!;
    world.kill(away);
    expect(world.until(() => world.names(id).includes('no-server-for-copy'), 20_000)).toBe(true);
    Object.assign(away.copies.get(id)!, { fault: 'no-space', unopened: true });
    world.revive(away);
    world.run(500);
    world.manager.receive(world.nowMs, { kind: 'from-copy', from: away.id, message: { kind: 'discarded', volumeId: id, epoch: 0 } }, world);
    world.run(500);
    expect(world.names(id)).not.toContain('copy-discarded');
  });
});

describe('a server that can make no copy', () => {
  it('is passed over for another, holds up no other rebuild, and is not asked again at once', () => {
    for (const fault of ['no-space', 'append-failed'] as const) {
      const world = new ModelWorld(4, { ...FAST, rebuildsMax: 1 });
      const id = world.create(1);
      const spares = world.servers.filter((server) => !world.volume(id).holders.includes(server.id));
      const unable = spares[0]!;
      unable.unable = fault;
      const mirror = membersOf(world, id)[1]!;
      world.kill(mirror);
      world.ask({ kind: 'server-lost', serverId: mirror.id });
      expect(world.until(() => world.view(id).health === 'healthy' && world.volume(id).holders.length === 2, 10_000), fault).toBe(true);
      expect(membersOf(world, id)[1]).toBe(spares[1]);
      expect(began(world, id)).toBe(2);
    }
  });

  it('is asked again after a while where there is no other', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const unable = idle(world, id);
    unable.unable = 'no-space';
    const mirror = membersOf(world, id)[1]!;
    world.kill(mirror);
    world.ask({ kind: 'server-lost', serverId: mirror.id });
    expect(world.until(() => world.names(id).includes('learner-removed'), 10_000)).toBe(true);
    const { epoch } = world.run(5000).volume(id).configuration;
    world.run(200_000);
    expect(world.volume(id)).toMatchObject({ configuration: { epoch, learners: [] }, holders: expect.arrayContaining([unable.id]) as unknown });
    unable.unable = null;
    expect(world.until(() => world.view(id).health === 'healthy', 120_000)).toBe(true);
    expect(membersOf(world, id)[1]).toBe(unable);
    expect(began(world, id)).toBe(2);
  });

  it.each(['both up', 'one of them gone'] as const)('is asked again as seldom where there is another that cannot: %s', (fate) => {
    const world = new ModelWorld(4, FAST);
    const id = world.create(1);
    const spares = world.servers.filter((server) => !world.volume(id).holders.includes(server.id));
    for (const server of spares) server.unable = 'no-space';
    const mirror = membersOf(world, id)[1]!;
    world.kill(mirror);
    world.ask({ kind: 'server-lost', serverId: mirror.id });
    const asked = (): number => world.names(id).filter((name) => name === 'learner-added').length;
    world.run(20_000);
    expect(asked()).toBe(2);
    if (fate === 'one of them gone') world.kill(spares[0]!);
    world.run(600_000);
    expect(asked()).toBeLessThanOrEqual(6);
    for (const server of spares) server.unable = null;
    expect(world.until(() => world.view(id).health === 'healthy', 320_000)).toBe(true);
  });

  it('is asked again when it was restarted', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const unable = idle(world, id);
    unable.unable = 'append-failed';
    const mirror = membersOf(world, id)[1]!;
    world.kill(mirror);
    world.ask({ kind: 'server-lost', serverId: mirror.id });
    expect(world.until(() => world.names(id).includes('learner-removed'), 10_000)).toBe(true);
    world.kill(unable);
    unable.unable = null;
    world.revive(unable);
    expect(world.until(() => world.view(id).health === 'healthy', 20_000)).toBe(true);
  });

  it('ends a creation that has no other at once, with the reason; and the volume can be deleted, or comes to be when it can', () => {
    for (const [fault, code] of [['no-space', 'no-space'], ['append-failed', 'io-error']] as const) {
      const world = new ModelWorld(1, FAST);
      const [server] = world.servers as [ModelServer];
      server.unable = fault;
      expect(world.ask({ ...CREATION, mirrors: 0 }, 5000)).toMatchObject({ ok: false, code, message: expect.stringContaining('server-1') as unknown });
      const volumes = (): VolumeId[] => world.store.snapshot().records.filter(({ kind }) => kind === 'volume').map((record) => record.id as VolumeId);
      const [id] = volumes() as [VolumeId];
      if (fault === 'no-space') {
        server.unable = null;
        expect(world.until(() => world.volume(id).state === 'available', 5000)).toBe(true);
      }
      expect(world.ask({ kind: 'volume-delete', volumeId: id })).toMatchObject({ ok: true });
      expect(volumes()).toEqual([]);
    }
  });

  it('is left out of a creation where another can lead, and named where nobody can go on without it', () => {
    const world = new ModelWorld(2, FAST);
    world.servers[1]!.unable = 'no-space';
    expect(world.ask({ ...CREATION, mirrors: 1, minCopies: 2 }, 40_000)).toMatchObject({ ok: false, code: 'timeout', message: expect.stringContaining('server-2 is faulted: no-space') as unknown });
  });
});

describe('rebuilds', () => {
  it('of a volume that is being deleted keep no other waiting, however long a server that has a copy of it stays away', () => {
    const world = new ModelWorld(6, { ...FAST, rebuildsMax: 1 });
    const deleted = world.create(1);
    const [source, away] = membersOf(world, deleted) as [ModelServer, ModelServer];
    world.kill(away);
    world.ask({ kind: 'server-lost', serverId: away.id });
    expect(world.until(() => world.volume(deleted).configuration.learners.length > 0, 20_000)).toBe(true);
    // What it was being filled on stays away, so that the deletion does not end; the copy counts as being filled.
    const learner = world.server(world.volume(deleted).configuration.learners[0]!);
    learner.busy = true;
    world.command({ kind: 'volume-delete', volumeId: deleted });
    world.run(1000);
    expect(world.volume(deleted).state).toBe('deleting');
    const other = world.servers.filter((server) => ![source, away, learner].includes(server)).length;
    expect(other).toBe(3);
    const id = world.create(0);
    world.ask({ kind: 'volume-modify', volumeId: id, mirrors: 1 });
    expect(world.until(() => world.view(id).health === 'healthy', 30_000)).toBe(true);
    expect(world.volume(deleted).state).toBe('deleting');
  });
});

describe('a complaint or a suspicion from long ago', () => {
  function toldSlow(world: ModelWorld, id: VolumeId, slow: ServerId): void {
    const { configuration } = world.volume(id);
    world.manager.receive(world.nowMs, { kind: 'from-copy', from: primaryOf(configuration), message: { kind: 'suspect', volumeId: id, epoch: configuration.epoch, serverId: slow, reason: 'slow' } }, world);
  }

  it('of a slow copy of another volume does not keep this one from being replaced', () => {
    const world = new ModelWorld(5, FAST);
    const [other, id] = [world.create(1), world.create(1)];
    const slow = membersOf(world, id)[1]!;
    const elsewhere = membersOf(world, other)[1]!;
    expect(membersOf(world, id)).not.toContain(elsewhere);
    toldSlow(world, other, elsewhere.id);
    // Its deletion waits for a server, and nobody looks at how it goes until then.
    elsewhere.busy = true;
    world.command({ kind: 'volume-delete', volumeId: other });
    world.run(world.manager.state.options.slowMs + 1000);
    expect(world.manager.state.volumes.get(other)!.slow.size).toBe(1);
    toldSlow(world, id, slow.id);
    expect(world.until(() => world.volume(id).configuration.learners.length > 0, 10_000)).toBe(true);
  });

  it('of a host does not have its volume looked at for ever', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
    const { epoch, members } = world.volume(id).configuration;
    world.manager.receive(world.nowMs, { kind: 'from-host', from: world.host, message: { kind: 'primary-silent', volumeId: id, epoch, serverId: members[0].serverId, silentMs: 1000 } }, world);
    const settled = (): boolean => world.manager.state.volumes.get(id)?.complaint === null;
    expect(settled()).toBe(false);
    expect(world.until(settled, world.manager.state.options.complaintMs + 2000)).toBe(true);
  });
});

describe('deletions that are remembered', () => {
  it('are in their order in the next life of the manager too, so that the oldest is forgotten first', () => {
    const world = new ModelWorld(2, FAST);
    const ids = Array.from({ length: 8 }, () => world.create(0));
    for (const id of ids) world.ask({ kind: 'volume-delete', volumeId: id });
    const { revision, records } = world.store.snapshot();
    world.endManager();
    // As a store answers that has an index by id.
    world.store.rollBack({ revision, records: [...records].sort((a, b) => (a.id < b.id ? -1 : 1)) });
    world.restartManager();
    world.run(1000);
    expect([...world.manager.state.keeping.deleted.keys()]).toEqual(ids);
  });
});
