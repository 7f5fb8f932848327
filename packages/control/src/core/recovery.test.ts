import { primaryOf } from '@ashlar/protocol';
import type { VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld, type ModelServer } from '../testing/model-world.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };

/** A volume of two copies: its primary, and its mirror. */
function pair(servers = 2): { world: ModelWorld; id: VolumeId; first: ModelServer; second: ModelServer } {
  const world = new ModelWorld(servers, FAST);
  const id = world.create(1);
  const [first, second] = world.volume(id).configuration.members.map((member) => world.server(member.serverId)) as [ModelServer, ModelServer];
  return { world, id, first, second };
}

function endAll(world: ModelWorld, ...servers: readonly ModelServer[]): void {
  for (const server of servers) world.kill(server);
}

const recovered = (world: ModelWorld, id: VolumeId): boolean => world.names(id).includes('recovered-after-cache-loss');
const lostCache = (server: ModelServer, id: VolumeId): void => { server.copies.get(id)!.incarnation += 1000; };

describe('a member that is given up', () => {
  it('beforehand is refused: while a primary leads, and while a copy may take over', () => {
    const world = new ModelWorld(2, FAST);
    const ids = Array.from({ length: 100 }, () => world.create(1));
    const giveUp = (volumeId: VolumeId): object => world.ask({ kind: 'volume-failover', volumeId, giveUp: world.servers[0]!.id });
    expect(giveUp(ids[0]!)).toMatchObject({ ok: false, code: 'invalid-argument', message: expect.stringContaining('leads it') as unknown });
    // Its mirrors take over by turns.
    world.kill(world.servers[0]!);
    const waiting = ids.filter((id) => primaryOf(world.volume(id).configuration) === world.servers[0]!.id).at(-1)!;
    expect(giveUp(waiting)).toMatchObject({ ok: false, code: 'invalid-argument', message: expect.stringContaining('may take over') as unknown });
    expect(world.volume(waiting).givenUp).toEqual([]);
  });

  it.each(['promotion', 'return'] as const)('is waited for again after the %s of another that had been waited for too', (what) => {
    const { world, id, first, second } = pair();
    endAll(world, second, first);
    world.run(3000);
    expect(world.ask({ kind: 'volume-failover', volumeId: id, giveUp: second.id })).toMatchObject({ ok: true });
    expect(world.volume(id).givenUp).toEqual([second.id]);
    const atPromotion: string[][] = [];
    const transact = world.transact.bind(world);
    world.transact = (token, transaction) => {
      if (transaction.events.some(({ name }) => name === 'promoted')) for (const put of transaction.puts) if (put.kind === 'volume') atPromotion.push([...put.value.givenUp]);
      transact(token, transaction);
    };
    world.revive(what === 'promotion' ? first : second);
    if (what === 'return') world.revive(first);
    expect(world.until(() => world.view(id).health !== 'faulted', 10_000)).toBe(true);
    expect(world.volume(id).givenUp).toEqual([]);
    expect(atPromotion[0]).toEqual([]);
  });

  it('is waited for again where the primary only had not been heard for a while', () => {
    const { world, id, first, second } = pair();
    world.ask({ kind: 'volume-modify', volumeId: id, minCopies: 2 });
    world.freeze(first);
    world.kill(second);
    world.run(4000);
    expect(world.ask({ kind: 'volume-failover', volumeId: id, giveUp: second.id })).toMatchObject({ ok: true });
    world.revive(first);
    world.revive(second);
    expect(world.until(() => world.volume(id).givenUp.length === 0, 10_000)).toBe(true);
    expect(primaryOf(world.volume(id).configuration)).toBe(first.id);
  });
});

describe('a faulted member, when all others have lost their cache', () => {
  it('is waited for, and its files are kept, until it is given up: it may have what they lack', () => {
    for (const damage of ['sync-failed', 'cannot be opened'] as const) {
      const { world, id, first, second } = pair(3);
      endAll(world, first, second);
      const copy = first.copies.get(id)!;
      copy.fault = damage === 'sync-failed' ? 'sync-failed' : 'corrupt';
      if (damage === 'cannot be opened') copy.unopened = true;
      lostCache(second, id);
      const { epoch } = world.volume(id).configuration;
      world.revive(first);
      world.revive(second);
      world.run(30_000);
      expect(recovered(world, id), damage).toBe(false);
      expect(world.volume(id).configuration.epoch).toBe(epoch);
      expect(first.copies.has(id)).toBe(true);
      expect(world.ask({ kind: 'volume-failover', volumeId: id, giveUp: first.id })).toMatchObject({ ok: true });
      expect(world.until(() => recovered(world, id), 5000), damage).toBe(true);
      expect(primaryOf(world.volume(id).configuration)).toBe(second.id);
      expect(world.volume(id).givenUp).toEqual([]);
      expect(world.until(() => world.view(id).health === 'healthy', 60_000), damage).toBe(true);
    }
  });

  it('is not waited for when its server is said to be lost', () => {
    const { world, id, first, second } = pair();
    endAll(world, first, second);
    first.copies.get(id)!.fault = 'sync-failed';
    lostCache(second, id);
    world.revive(first);
    world.revive(second);
    world.run(5000);
    expect(recovered(world, id)).toBe(false);
    world.kill(first);
    world.ask({ kind: 'server-lost', serverId: first.id });
    expect(world.until(() => recovered(world, id), 5000)).toBe(true);
  });
});
