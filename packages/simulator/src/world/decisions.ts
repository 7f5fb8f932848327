import { type Configuration, primaryOf } from '@ashlar/protocol';
import type { Prng, ServerId } from '@ashlar/words';
import { DURATIONS_MS, kill } from './ends.ts';
import type { SimServer } from './server.ts';
import type { World } from './world.ts';

/** Whom a change of the configuration is about: who came, who went, or who is primary now. */
export function subjectOf(former: Configuration, next: Configuration): ServerId {
  const lives = (configuration: Configuration): Set<string> => new Set(configuration.members.map((member) => `${member.serverId} ${member.incarnation}`));
  const [before, after] = [lives(former), lives(next)];
  const came = next.members.find((member) => !before.has(`${member.serverId} ${member.incarnation}`));
  const went = former.members.find((member) => !after.has(`${member.serverId} ${member.incarnation}`));
  return (came ?? went)?.serverId ?? primaryOf(next);
}

/**
 * At the next decision about the set of copies, when it is asked for or when it was just made, somebody whom it is about ends, loses power, or does
 * not hear of it; perhaps the store fails meanwhile, perhaps another is made primary soon after. The moments are too short to be met by chance.
 */
export function harmAtDecision(world: World, prng: Prng, counted: () => void): boolean {
  const wanted = prng.pick(['proposed', 'decided'] as const);
  world.atDecision = (moment, about) => {
    if (moment !== wanted || world.healed) return;
    world.atDecision = null;
    const { primary } = world;
    const target = prng.chance(0.6) ? world.server(about) : primary;
    if (target === null) return;
    // Not in the middle of whoever is being told just now.
    world.after(prng.fraction() * 2, () => {
      if (harm(world, prng, target)) counted();
    });
    if (moment === 'proposed' && prng.chance(0.5)) {
      world.storeDown = true;
      world.after(prng.pick(DURATIONS_MS), () => { world.storeDown = false; });
    }
    if (prng.chance(0.5)) world.after(20 + prng.fraction() * 600, () => failover(world, about));
  };
  return false;
}

function harm(world: World, prng: Prng, target: SimServer): boolean {
  const how = prng.pick(['kill', 'power', 'deaf', 'cut off'] as const);
  if (how === 'kill' || how === 'power') return kill(world, prng, target, how === 'power');
  const forMs = prng.pick([700, 2_000, 4_000]);
  world.links.cut(world.manager.process, target.process, forMs);
  // A host that hears nothing either stays with the primary that it knows.
  if (prng.chance(0.5)) world.links.cut(world.manager.process, prng.pick(world.hosts).process, forMs);
  if (how === 'deaf') return true;
  for (const other of [...world.servers, world.manager]) {
    if (other === target) continue;
    world.links.cut(target.process, other.process, forMs);
    world.links.cut(other.process, target.process, forMs);
  }
  return true;
}

/** To whom the decision was about, or else to the next one. */
function failover(world: World, about: ServerId): void {
  const members = world.ghost.configuration?.members ?? [];
  const to = members.find((member) => member.serverId === about && world.server(about) !== world.primary) ?? members[1];
  if (to !== undefined && !world.healed) world.command({ kind: 'volume-failover', volumeId: world.volumeId, to: to.serverId });
}
