import { memberOf, primaryOf, type VolumeView } from '@ashlar/protocol';
import type { VolumeId } from '@ashlar/words';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';

type Act = { readonly kind: 'kill' | 'kill-unseen' | 'lost' | 'freeze' | 'revive' | 'manager-ends' | 'manager-starts' | 'store-silent' | 'reply-lost' | 'store-back' | 'attach' | 'failover' | 'grow' | 'move' | 'move-ends' | 'drain' | 'drain-ends' | 'mirrors'; readonly server: number; readonly forMs: number };

const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom('kill', 'kill-unseen', 'lost', 'freeze', 'revive', 'revive', 'manager-ends', 'manager-starts', 'manager-starts', 'store-silent', 'reply-lost', 'store-back', 'store-back', 'attach', 'failover', 'grow', 'move', 'move', 'move-ends', 'drain', 'drain-ends', 'mirrors'),
  server: fc.nat(3), forMs: fc.constantFrom(50, 100, 300, 1200, 4000),
});

function perform(world: ModelWorld, id: VolumeId, { kind, server: index, forMs }: Act, grown: { bytes: number }): void {
  const server = world.servers[index]!;
  switch (kind) {
    case 'kill': return world.kill(server);
    case 'kill-unseen': return world.kill(server, false);
    case 'lost':
      world.kill(server);
      return void world.command({ kind: 'server-lost', serverId: server.id });
    case 'freeze': return world.freeze(server);
    case 'revive': return world.revive(server);
    case 'manager-ends': return world.endManager();
    case 'manager-starts': return world.managerUp ? undefined : world.restartManager();
    case 'store-silent': world.fate = 'request-lost'; return;
    case 'reply-lost': world.fate = 'reply-lost'; return;
    case 'store-back': world.fate = 'answered'; return;
    case 'attach': void world.command({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false }); return;
    case 'failover': void world.command({ kind: 'volume-failover', volumeId: id }); return;
    case 'move': void world.command({ kind: 'volume-move', volumeId: id, from: world.volume(id).configuration.members[forMs % 2 === 0 ? 0 : world.volume(id).configuration.members.length - 1]!.serverId, to: server.id }); return;
    case 'move-ends': void world.command({ kind: 'volume-move', volumeId: id, from: world.volume(id).move?.from ?? server.id }); return;
    case 'drain': void world.command({ kind: 'server-drain', serverId: server.id }); return;
    case 'drain-ends': void world.command({ kind: 'server-drain', serverId: server.id, cancel: true }); return;
    case 'mirrors': void world.command({ kind: 'volume-modify', volumeId: id, mirrors: 1 + (index % 2) }); return;
    case 'grow': void world.command({ kind: 'volume-grow', volumeId: id, sizeBytes: (grown.bytes += 2 ** 20) }); return;
  }
}

/** What must hold at every moment, whatever happened. */
function check(world: ModelWorld, id: VolumeId, primaries: Map<number, string>): void {
  const { configuration, holders } = world.volume(id);
  const primary = primaryOf(configuration);
  const known = primaries.get(configuration.epoch);
  if (known !== undefined && known !== primary) throw new Error(`two primaries of epoch ${configuration.epoch}`);
  primaries.set(configuration.epoch, primary);
  const involved = [...configuration.members.map((member) => member.serverId), ...configuration.learners];
  if (new Set(involved).size !== involved.length) throw new Error(`a server twice in ${involved.join(' ')}`);
  if (involved.some((server) => !holders.includes(server))) throw new Error('a member is not known as a holder');
  if (configuration.members.length < configuration.minCopies) throw new Error('below the minimum of copies');
  for (const member of configuration.members) {
    const copy = world.server(member.serverId).copies.get(id);
    if (world.volume(id).state !== 'creating' && copy === undefined) throw new Error(`the files of member ${member.serverId} were removed`);
    if (copy && !copy.complete && memberOf(configuration, member.serverId)?.incarnation === copy.incarnation) throw new Error(`${member.serverId} is a member before it was filled`);
  }
}

function isSaidHealthy(world: ModelWorld, id: VolumeId): boolean {
  const answer = world.ask({ kind: 'volume-describe', volumeId: id });
  return answer.ok && (answer.value as VolumeView).health === 'healthy';
}

it('keeps its rules whatever happens, and every volume is healthy again once faults stop', () => {
  fc.assert(fc.property(fc.array(act, { minLength: 3, maxLength: 25 }), fc.integer({ min: 1, max: 1e6 }), (acts, seed) => {
    const world = new ModelWorld(4, { rebuildDelayMs: 3000, learnerPatienceMs: 3000, startGraceMs: 1000 }, seed);
    const id = world.create(1);
    const primaries = new Map<number, string>();
    const grown = { bytes: 2 ** 30 };
    for (const one of acts) {
      perform(world, id, one, grown);
      for (let ms = 0; ms < one.forMs; ms += 50) {
        world.step();
        check(world, id, primaries);
      }
    }
    world.fate = 'answered';
    if (!world.managerUp) world.restartManager();
    for (const server of world.servers) world.revive(server);
    world.run(2000);
    for (const server of world.servers) world.ask({ kind: 'server-drain', serverId: server.id, cancel: true });
    const healthy = (): boolean => {
      const { configuration, holders, move } = world.volume(id);
      return move === null && configuration.members.length === configuration.copiesWanted && configuration.learners.length === 0 && holders.length === configuration.copiesWanted;
    };
    const healed = world.until(() => {
      check(world, id, primaries);
      return healthy() && isSaidHealthy(world, id);
    }, 60_000);
    if (!healed) throw new Error(`not healthy: ${JSON.stringify(world.volume(id))}\n${world.events().slice(-15).map((event) => `${event.atMs} ${event.name} ${event.reason} ${JSON.stringify(event.detail)}`).join('\n')}`);
  }), { numRuns: 150 });
  expect(true).toBe(true);
});
