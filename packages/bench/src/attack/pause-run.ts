import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { Prng } from '@ashlar/words';
import { primaryServer } from '../site/site.ts';
import { signal } from './harm.ts';
import type { Rig } from './rig.ts';

export interface PauseOptions {
  readonly signal: 'SIGKILL' | 'SIGSTOP';
  readonly failovers: number;
  /** After so long there are no more, however few they were. */
  readonly minutesMax: number;
  readonly seed: number;
}

export interface Failover {
  readonly from: string;
  readonly to: string;
  /** Longest silence the client saw from the signal until the new primary served; Infinity if a request failed. */
  readonly stallMs: number;
  /** The same from then on, while the old primary came back and joined. */
  readonly rejoinStallMs: number;
  readonly healedMs: number;
}

const HEAL_TIMEOUT_MS = 300_000;
/** A frozen server is let go so long after its successor serves: late enough to be the past, early enough to have requests of its old epoch. */
const WAKE_AFTER_MS = 300;
const SEEN_MS = 50;
const CALM_MS = { min: 100, max: 700 };

/** Ends or freezes the primary, again and again, each time from a state in which all copies are in sync. */
export async function failOverAgainAndAgain(rig: Rig, options: PauseOptions, onFailover: (failover: Failover) => void): Promise<void> {
  const prng = new Prng(options.seed);
  const endsMs = performance.now() + options.minutesMax * 60_000;
  for (let i = 0; i < options.failovers && performance.now() < endsMs; i++) {
    const before = await rig.healthy(HEAL_TIMEOUT_MS);
    await delay(CALM_MS.min + prng.below(CALM_MS.max - CALM_MS.min));
    onFailover(await failOver(rig, before, options.signal));
  }
}

async function failOver(rig: Rig, before: VolumeView, name: PauseOptions['signal']): Promise<Failover> {
  const from = primaryServer(before);
  const pid = from === undefined ? null : await rig.pidOf(from);
  if (from === undefined || pid === null) throw new Error('no primary to fail over from');
  const { errorCount } = rig.load;
  const atMs = performance.now();
  if (!signal(pid, name)) throw new Error(`${from} (${pid}) was gone already`);
  let after: VolumeView;
  let servedMs: number;
  try {
    after = await rig.until((volume) => primaryServer(volume) !== from && volume.epoch > before.epoch && (volume.health === 'degraded' || volume.health === 'healthy'), 'a new primary that serves', HEAL_TIMEOUT_MS);
    servedMs = performance.now();
    if (name === 'SIGSTOP') await delay(WAKE_AFTER_MS);
  } finally {
    if (name === 'SIGSTOP') signal(pid, 'SIGCONT');
  }
  await rig.healthy(HEAL_TIMEOUT_MS);
  const endMs = performance.now();
  return {
    from, to: primaryServer(after) ?? '', healedMs: endMs - atMs,
    // A stall is counted whole if any of it lies between; what is seen as served may not have reached the client yet.
    stallMs: rig.load.errorCount > errorCount ? Infinity : rig.load.longestStallMsBetween(atMs, servedMs + SEEN_MS),
    rejoinStallMs: rig.load.longestStallMsBetween(servedMs + SEEN_MS, endMs),
  };
}
