import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What a process of the site takes for its machine, where an attack on the system gives it another: the clock, the boot id, and the
 * sockets behind which others are. `ASHLAR_SURROUNDINGS` names a folder with a `NAME.json` for each process, read at its start.
 */
export interface Surroundings {
  /** Added to the monotonic clock. */
  readonly clockShiftMs: number;
  /** Null: the kernel's. */
  readonly bootId: string | null;
  /** Party → path of the unix socket that is dialled for it, in place of its own. */
  readonly links: Readonly<Record<string, string>>;
}

export const UNCHANGED: Surroundings = { clockShiftMs: 0, bootId: null, links: {} };

export function surroundingsOf(name: string, env: Readonly<Record<string, string | undefined>>): Surroundings {
  const folder = env['ASHLAR_SURROUNDINGS'];
  if (folder === undefined || folder === '') return UNCHANGED;
  const path = join(folder, `${name}.json`);
  return existsSync(path) ? { ...UNCHANGED, ...(JSON.parse(readFileSync(path, 'utf8')) as Partial<Surroundings>) } : UNCHANGED;
}

/** CLOCK_MONOTONIC, shifted. */
export function shiftedClock(shiftMs: number): () => number {
  const startMs = Number(process.hrtime.bigint()) / 1e6 - performance.now() + shiftMs;
  return () => startMs + performance.now();
}
