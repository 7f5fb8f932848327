import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { Prng } from '@ashlar/words';
import { freeze, signal, wayOf, type SingleWay, type Way } from './harm.ts';
import { isMemberInSync, type Rig } from './rig.ts';

export interface KillOptions {
  readonly way: Way;
  readonly kills: number;
  readonly seed: number;
  /** After so long no more processes are harmed, however few they were. */
  readonly minutesMax: number;
}

/** One signal to one process. It counts if the process held an in-sync copy (or is the host) and requests were in flight. */
export interface Harm {
  readonly way: SingleWay;
  readonly atMs: number;
  readonly party: string;
  readonly role: string;
  readonly pid: number;
  readonly inFlight: number;
  readonly counts: boolean;
  /** Longest time in which the client got no answer, from the harm until all copies were in sync again. */
  readonly stallMs: number;
  /** From the harm until all copies were in sync again. */
  readonly healedMs: number;
}

const HEAL_TIMEOUT_MS = 300_000;
/** Between two harms the load runs undisturbed for a while: from so long to so long. */
const CALM_MS = { min: 200, max: 1500 };
/** Shorter than the time after which a silent server is suspected, and much longer. */
const FREEZE_MS = { min: 300, max: 4000 };

interface Victim {
  readonly party: string;
  readonly role: string;
}

/** Harms one process after the other, each time after all copies are in sync again, until enough have counted or the time is over. */
export async function harmAgainAndAgain(rig: Rig, options: KillOptions, onHarm: (harm: Harm) => void): Promise<readonly Harm[]> {
  const prng = new Prng(options.seed);
  const between = ({ min, max }: typeof CALM_MS): number => min + prng.below(max - min);
  const harms: Harm[] = [];
  const endsMs = performance.now() + options.minutesMax * 60_000;
  while (harms.filter((harm) => harm.counts).length < options.kills && performance.now() < endsMs) {
    const volume = await rig.healthy(HEAL_TIMEOUT_MS);
    await delay(between(CALM_MS));
    const way = wayOf(options.way, prng);
    for (const harm of await harmOnce(rig, way, victimsOf(volume, way, harms.length, prng), way === 'freeze' ? between(FREEZE_MS) : null)) {
      harms.push(harm);
      onHarm(harm);
    }
    if (rig.load.violationCount > 0) throw new Error(`${rig.load.violationCount} blocks were wrong after ${harms.length} harms`);
  }
  return harms;
}

/** Half of them primaries. */
function victimsOf(volume: VolumeView, way: SingleWay, turn: number, prng: Prng): readonly Victim[] {
  const members = volume.copies.filter(isMemberInSync).map(({ serverId, role }) => ({ party: serverId as string, role: role as string }));
  const host = { party: volume.attachments[0]?.host ?? 'host-1', role: 'host' };
  const primary = members.filter(({ role }) => role === 'primary');
  const mirrors = members.filter(({ role }) => role !== 'primary');
  switch (way) {
    case 'kill-host': return [host];
    case 'kill-several': return turn % 4 < 2 ? members : [primary[0] as Victim, host];
    default: return turn % 2 === 0 ? primary.slice(0, 1) : [mirrors[prng.below(mirrors.length)] as Victim];
  }
}

async function harmOnce(rig: Rig, way: SingleWay, victims: readonly Victim[], freezeMs: number | null): Promise<readonly Harm[]> {
  const pids = await Promise.all(victims.map(({ party }) => rig.pidOf(party)));
  // Looked at again: the calm before may have ended a role.
  const before = await rig.describe();
  const atMs = performance.now();
  const done = await Promise.all(victims.map(async ({ party, role }, i) => {
    const pid = pids[i] ?? null;
    const { inFlight } = rig.load;
    const member = before.copies.find((copy) => copy.serverId === party);
    const hit = pid !== null && (freezeMs === null ? signal(pid, 'SIGKILL') : await freeze(pid, freezeMs));
    return { way, atMs, party, role: member?.role ?? role, pid: pid ?? 0, inFlight, counts: hit && inFlight > 0 && (member === undefined ? role === 'host' : isMemberInSync(member)) };
  }));
  await healed(rig, victims, done.map(({ pid }) => pid), freezeMs === null);
  const endMs = performance.now();
  return done.map((harm) => ({ ...harm, stallMs: rig.load.longestStallMsBetween(atMs, endMs), healedMs: endMs - atMs }));
}

/** The harmed processes have successors (what is written about them before is of the dead), and every copy is in sync. */
async function healed(rig: Rig, victims: readonly Victim[], deadPids: readonly number[], dead: boolean): Promise<void> {
  const giveUpMs = performance.now() + HEAL_TIMEOUT_MS;
  for (const [i, { party }] of victims.entries()) {
    for (let pid = await rig.pidOf(party); pid === null || (dead && pid === deadPids[i]); pid = await rig.pidOf(party)) {
      if (performance.now() > giveUpMs) throw new Error(`${party} did not come back`);
      await delay(25);
    }
  }
  await rig.healthy(HEAL_TIMEOUT_MS);
}
