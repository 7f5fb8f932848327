import type { Prng } from '@ashlar/words';
import type { SimHost } from './sim-host.ts';
import type { SimManager } from './sim-manager.ts';
import type { SimServer } from './server.ts';
import type { World } from './world.ts';

/** How long what was harmed stays so. */
export const DURATIONS_MS = [30, 200, 700, 1_100, 2_000, 4_500];

/** Somebody's process ends, with or without its machine, and comes back after a while. */
export function kill(world: World, prng: Prng, sim: SimServer | SimHost | SimManager | null, power: boolean): boolean {
  const backMs = prng.pick(DURATIONS_MS) * (0.5 + prng.fraction());
  if (sim === null || !sim.process.up) return false;
  world.end(sim, power);
  world.after(backMs, () => world.start(sim));
  return true;
}
