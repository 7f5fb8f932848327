import { primaryOf } from '@ashlar/protocol';
import { describe, expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';

/** What the system manager must not say: the runs in which the specification of the protocol breaks when it does, played on the real core. */
const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };

describe('the system manager', () => {
  // newPrimaryWaits
  it('gives no new primary the word that the one before it is gone, while that one may wake and read under its lease', () => {
    const world = new ModelWorld(3, FAST);
    const id = world.create(1);
    const before = world.server(primaryOf(world.volume(id).configuration));
    const told = new Set<boolean>();
    const toServer = world.toServer.bind(world);
    world.toServer = (to, command) => {
      if (command.kind === 'configure' && to !== before.id && primaryOf(command.configuration) === to) told.add(command.predecessorEnded);
      toServer(to, command);
    };
    world.freeze(before);
    expect(world.until(() => primaryOf(world.volume(id).configuration) !== before.id, 5000)).toBe(true);
    world.run(3000);
    expect([...told]).toEqual([false]);
  });

  // admitNamesBoot
  it('admits a copy as what it was when it was proposed: one that has lost its cache since is not promoted, and what was answered is not lost', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const [first, second] = world.volume(id).configuration.members.map(({ serverId }) => world.server(serverId)) as [ModelWorld['servers'][number], ModelWorld['servers'][number]];
    world.kill(second);
    expect(world.until(() => world.volume(id).configuration.members.length === 1, 5000)).toBe(true);
    world.revive(second);
    expect(world.until(() => world.volume(id).configuration.learners.includes(second.id), 5000)).toBe(true);
    const copy = second.copies.get(id);
    const { epoch } = world.volume(id).configuration;
    const proposed = { serverId: second.id, incarnation: copy!.incarnation };
    world.kill(second);
    copy!.incarnation += 1000; // its machine lost its power behind the last sync
    world.revive(second);
    world.manager.receive(world.nowMs, { kind: 'from-copy', from: first.id, message: { kind: 'propose', volumeId: id, baseEpoch: epoch, change: { kind: 'add', member: proposed }, reason: 'caught up' } }, world);
    expect(world.until(() => world.volume(id).configuration.members.length === 2, 500)).toBe(true);
    world.kill(first);
    world.run(10_000);
    expect(primaryOf(world.volume(id).configuration)).toBe(first.id);
    expect(world.names(id)).toContain('no-promotable-copy');
  });
});
