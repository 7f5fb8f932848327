import { primaryOf, type Build, type ClusterStatus } from '@ashlar/protocol';
import { serverId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld, type ModelServer } from '../testing/model-world.ts';

const buildOf = (version: string): Build => ({ version, wireLowest: 1, wireHighest: 2, formats: { copy: 2 } });

function status(world: ModelWorld): ClusterStatus {
  const answer = world.ask({ kind: 'cluster-status' });
  if (!answer.ok) throw new Error(answer.message);
  return answer.value as ClusterStatus;
}

/** Ended, and started again from this build. */
function replace(world: ModelWorld, server: ModelServer, build: Build): void {
  server.build = build;
  world.kill(server);
  world.revive(server);
  world.run(200);
}

describe('cluster status', () => {
  it('says of every process what it is, and that an upgrade is unfinished while builds are mixed', () => {
    const self = { name: 'manager', pid: 1, build: buildOf('2.0') };
    const world = new ModelWorld(2, { self });
    for (const server of world.servers) replace(world, server, buildOf('2.0'));
    const [first, second] = world.servers as [ModelServer, ModelServer];
    expect(status(world).processes.map(({ name, role, state, build }) => [name, role, state, build?.version])).toEqual([
      ['manager', 'system manager', 'up', '2.0'], ['server-1', 'storage server', 'up', '2.0'], ['server-2', 'storage server', 'up', '2.0'], ['host-1', 'host', 'up', undefined],
    ]);
    // The host does not say: it is of a build from before that.
    expect(status(world).upgradeUnfinished).toBe(true);
    replace(world, first, buildOf('3.0'));
    expect(status(world).processes.map(({ build }) => build?.version)).toEqual(['2.0', '3.0', '2.0', undefined]);
    world.kill(second);
    world.run(200);
    expect(status(world).processes.find(({ name }) => name === 'server-2')?.state).toBe('down');
  });

  it('is finished when all that are up are of one build', () => {
    const world = new ModelWorld(2);
    expect(status(world).upgradeUnfinished).toBe(false);
    const [first, second] = world.servers as [ModelServer, ModelServer];
    replace(world, first, buildOf('3.0'));
    expect(status(world).upgradeUnfinished).toBe(true);
    // One that is down says nothing about what it will be started from.
    world.kill(first);
    world.run(200);
    expect(status(world).upgradeUnfinished).toBe(false);
    expect(second.state).toBe('up');
  });

  it('counts the volumes that have as many copies in sync as they want', () => {
    const world = new ModelWorld(2);
    const id = world.create(1);
    expect(status(world)).toMatchObject({ volumes: 1, healthyVolumes: 1 });
    world.kill(world.server(primaryOf(world.volume(id).configuration)));
    world.run(3000);
    expect(status(world)).toMatchObject({ volumes: 1, healthyVolumes: 0 });
  });
});

describe('the restart of a server', () => {
  const may = (world: ModelWorld, id: string, anyway = false): unknown => {
    const answer = world.ask({ kind: 'server-restart', serverId: serverId(id), anyway });
    return answer.ok || answer.code;
  };
  const others = (world: ModelWorld, id: VolumeId): string => world.volume(id).configuration.members[1]?.serverId as string;

  it('may be while every volume of it has another copy in sync, and then again when the one that was away is back', () => {
    const world = new ModelWorld(2);
    const id = world.create(1);
    const [primary, mirror] = [primaryOf(world.volume(id).configuration), others(world, id)];
    expect([may(world, primary), may(world, mirror)]).toEqual([true, true]);
    world.kill(world.server(primary));
    world.run(3000);
    expect(may(world, mirror)).toBe('busy');
    expect(may(world, mirror, true)).toBe(true);
    // A restart of what is down already takes nothing away.
    expect(may(world, primary)).toBe(true);
    world.revive(world.server(primary));
    expect(world.until(() => world.view(id).health === 'healthy', 20_000)).toBe(true);
    expect(may(world, mirror)).toBe(true);
  });

  it('does not wait for copies that nobody wants, and knows its servers', () => {
    const world = new ModelWorld(2);
    const id = world.create(0);
    expect(may(world, primaryOf(world.volume(id).configuration))).toBe(true);
    expect(may(world, 'server-9')).toBe('not-found');
  });
});
