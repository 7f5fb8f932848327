import { randomUUID } from 'node:crypto';
import { uptime } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import type { Prng } from '@ashlar/words';
import { freeze, signal } from '../harm.ts';
import { isMemberInSync } from '../rig.ts';
import type { Arena } from './arena.ts';
import { failCalls, type DiskFault } from './injection.ts';

/** How often each is done, in proportion. About 24 cuts an hour and kind come on top of them, by a clock of their own. */
export const SHARES = {
  'kill-primary': 26, 'kill-mirror': 20, 'freeze-primary': 14, 'freeze-mirror': 10, 'kill-both': 12, 'kill-primary-and-host': 4, 'kill-host': 4, 'freeze-host': 3,
  'restart-machine': 5, 'restart-all-machines': 1, 'full-disk': 4, 'failing-disk': 4,
} as const;
export type EpisodeKind = keyof typeof SHARES;

/** What one episode did. */
export interface Episode {
  readonly kind: EpisodeKind;
  readonly what: string;
  /** Kills and freezes of a process that held an in-sync copy of the main volume while requests were in flight. */
  readonly hits: number;
  /** The same of the host's process. */
  readonly hostHits: number;
  /** A disk failed calls. */
  readonly injected: number;
  readonly stallMs: number;
  /** Until the main volume was whole; null if the next episode came before that. */
  readonly healedMs: number | null;
}

/** After these, and before, every volume is whole: a second copy lost meanwhile would rightly be gone. */
const CAREFUL: ReadonlySet<EpisodeKind> = new Set(['restart-machine', 'restart-all-machines', 'full-disk', 'failing-disk']);
const HEAL_MS = 120_000;
const BUSY_MS = 2000;
const POLL_MS = 25;
const FREEZE_MS = { min: 200, max: 2600 };
/** A server process's clock is that of another machine after its restart: up to a day before or ahead. */
const CLOCK_SHIFT_MS = 86_400_000;
const INJECT = { longestMs: 4000, afterFirstMs: 800 };

interface Ended {
  readonly party: string;
  readonly pid: number;
}

interface Done {
  readonly what: string;
  readonly hits: number;
  readonly hostHits?: number;
  readonly injected?: number;
  readonly ended?: readonly Ended[];
  /** A server one of whose disks is given up. */
  readonly withBadDisk?: string;
}

interface Victim {
  readonly party: string;
  readonly isMember: boolean;
}

export class Episodes {
  readonly #arena: Arena;
  readonly #prng: Prng;
  /** No link is cut meanwhile. */
  careful = false;

  constructor(arena: Arena, prng: Prng) {
    this.#arena = arena;
    this.#prng = prng;
  }

  /** `patienceMs`: how long the main volume is given to become whole before the next episode. */
  async run(kind: EpisodeKind, patienceMs: number): Promise<Episode> {
    const { rig } = this.#arena;
    const careful = CAREFUL.has(kind);
    if (careful) {
      this.careful = true;
      await this.#arena.healthy(HEAL_MS);
    }
    const volume = await rig.until((now) => now.copies.some((copy) => copy.role === 'primary' && copy.state === 'in-sync'), 'a primary in sync', HEAL_MS);
    const atMs = performance.now();
    const done = await this.#act(kind, volume);
    const healedMs = await this.#healed(done.ended ?? [], careful ? HEAL_MS : patienceMs, careful, atMs);
    if (done.withBadDisk !== undefined) await this.#replaceDisk(done.withBadDisk);
    this.careful = false;
    return { kind, what: done.what, hits: done.hits, hostHits: done.hostHits ?? 0, injected: done.injected ?? 0, stallMs: rig.load.longestStallMsBetween(atMs, performance.now()), healedMs };
  }

  async #healed(ended: readonly Ended[], patienceMs: number, must: boolean, atMs: number): Promise<number | null> {
    // What is said of the volume before is said of the dead.
    if (!(await this.#succeeded(ended, must ? HEAL_MS : patienceMs))) return null;
    if (must) await this.#arena.healthy(patienceMs);
    else {
      try {
        await this.#arena.rig.healthy(patienceMs);
      } catch {
        // Struck again before it is whole: that is an attack, too.
        return null;
      }
    }
    return performance.now() - atMs;
  }

  /** The processes that were ended have successors. */
  async #succeeded(ended: readonly Ended[], withinMs: number): Promise<boolean> {
    const giveUpMs = performance.now() + withinMs;
    for (const { party, pid } of ended) {
      for (let now = await this.#arena.rig.pidOf(party); now === null || now === pid; now = await this.#arena.rig.pidOf(party)) {
        if (performance.now() > giveUpMs) return false;
        await delay(POLL_MS);
      }
    }
    return true;
  }

  #act(kind: EpisodeKind, volume: VolumeView): Promise<Done> {
    const members = volume.copies.filter(isMemberInSync);
    const primary = members.find(({ role }) => role === 'primary')?.serverId as string;
    const mirror = members.find(({ role }) => role !== 'primary')?.serverId ?? primary;
    const member = (party: string): Victim => ({ party, isMember: true });
    const host: Victim = { party: this.#arena.host, isMember: false };
    const either = this.#prng.below(2) === 0 ? primary : mirror;
    switch (kind) {
      case 'kill-primary': return this.#kill([member(primary)]);
      case 'kill-mirror': return this.#kill([member(mirror)]);
      case 'kill-both': return this.#kill([...new Set([primary, mirror])].map(member));
      case 'kill-primary-and-host': return this.#kill([member(primary), host]);
      case 'kill-host': return this.#kill([host]);
      case 'freeze-primary': return this.#freeze(member(primary));
      case 'freeze-mirror': return this.#freeze(member(mirror));
      case 'freeze-host': return this.#freeze(host);
      case 'restart-machine': return this.#restart([member(either)]);
      case 'restart-all-machines': return this.#restart(this.#arena.servers.map((party) => ({ party, isMember: members.some(({ serverId }) => serverId === party) })));
      case 'full-disk':
      case 'failing-disk': return this.#failDisk(kind, either);
    }
  }

  async #pids(victims: readonly Victim[]): Promise<readonly (number | null)[]> {
    return Promise.all(victims.map(({ party }) => this.#arena.rig.pidOf(party)));
  }

  /** Requests are in flight: at a bounded rate there are moments without any. */
  async #busy(): Promise<boolean> {
    const endMs = performance.now() + BUSY_MS;
    while (this.#arena.rig.load.inFlight === 0 && performance.now() < endMs) await delay(1);
    return this.#arena.rig.load.inFlight > 0;
  }

  async #kill(victims: readonly Victim[]): Promise<Done> {
    const pids = await this.#pids(victims);
    const busy = await this.#busy();
    const struck = victims.filter((_, i) => pids[i] !== null && signal(pids[i] as number, 'SIGKILL'));
    const ended = struck.map(({ party }) => ({ party, pid: pids[victims.findIndex((victim) => victim.party === party)] as number }));
    return { what: `SIGKILL ${struck.map(({ party }) => party).join(', ')}`, ended, ...counted(struck, busy) };
  }

  async #freeze(victim: Victim): Promise<Done> {
    const [pid] = await this.#pids([victim]);
    const forMs = FREEZE_MS.min + this.#prng.below(FREEZE_MS.max - FREEZE_MS.min);
    const busy = await this.#busy();
    const hit = pid !== null && pid !== undefined && (await freeze(pid, forMs));
    return { what: `SIGSTOP ${victim.party} for ${forMs} ms`, ...counted(hit ? [victim] : [], busy) };
  }

  /** What a machine that restarts without warning looks like to the store: another boot id, no clean close, and another clock. */
  async #restart(victims: readonly Victim[]): Promise<Done> {
    // A machine's monotonic clock begins at nothing, and never shows less.
    const backMs = Math.min(CLOCK_SHIFT_MS, Math.floor(uptime() * 1000));
    const shifts = victims.map(() => this.#prng.below(backMs + CLOCK_SHIFT_MS) - backMs);
    for (const [i, { party }] of victims.entries()) this.#arena.surround(party, { clockShiftMs: shifts[i] as number, bootId: randomUUID() });
    const done = await this.#kill(victims);
    return { ...done, what: `${done.what} with new boot ids, clocks by ${shifts.map((ms) => `${(ms / 3_600_000).toFixed(1)} h`).join(', ')}` };
  }

  async #failDisk(fault: DiskFault, party: string): Promise<Done> {
    const pid = await this.#arena.rig.pidOf(party);
    const injected = pid === null ? 0 : await failCalls(pid, fault, INJECT);
    return { what: `${fault === 'full-disk' ? 'ENOSPC' : 'EIO'} in ${injected} calls of ${party}`, hits: 0, injected, ...(fault === 'failing-disk' ? { withBadDisk: party } : {}) };
  }

  /** No copy is placed on a server whose disk lost a sync, until an operator has seen to it and started it again. That counts as no hit. */
  async #replaceDisk(party: string): Promise<void> {
    const { ended } = await this.#kill([{ party, isMember: false }]);
    await this.#healed(ended ?? [], HEAL_MS, true, performance.now());
  }
}

function counted(struck: readonly Victim[], busy: boolean): Pick<Done, 'hits' | 'hostHits'> {
  return busy ? { hits: struck.filter(({ isMember }) => isMember).length, hostHits: struck.filter(({ isMember }) => !isMember).length } : { hits: 0, hostHits: 0 };
}
