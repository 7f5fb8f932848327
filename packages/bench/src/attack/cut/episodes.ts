import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import type { Prng } from '@ashlar/words';
import { primaryServer } from '../../site/site.ts';
import type { Rig } from '../rig.ts';
import { HOST, MACHINES, MANAGER, SERVERS, type Machines } from './machines.ts';
import type { Network } from './network.ts';

/** How often each is done, in proportion. */
export const SHARES = { 'cut-one-way': 27, 'cut': 14, 'cut-two': 10, 'flap': 11, 'kill': 12, 'kill-manager': 3, 'freeze': 10, 'server-away': 5, 'manager-away': 4, 'manager-away-and-failover': 4 } as const;
export type EpisodeKind = keyof typeof SHARES;

export interface Episode {
  readonly kind: EpisodeKind;
  readonly what: string;
  /** In flight when it began. */
  readonly inFlight: number;
  readonly stallMs: number;
  /** From its end (links whole, machines started) until every copy was in sync and requests were answered. */
  readonly healedMs: number;
  /** What should have been, and was not; null if all was right. */
  readonly wrong: string | null;
}

const HEAL_MS = 180_000;
const CUT_MS = { min: 300, max: 8000 };
const FLAP_MS = { min: 100, max: 600 };
const FLAPS = { min: 4, max: 12 };
const FREEZE_MS = { min: 300, max: 6000 };
const DOWN_MS = { min: 0, max: 2000 };
const AWAY_MS = 5000;
/** The manager is away, and nothing else is wrong: no request waits for it. The longest silence of a volume that serves; a busy machine makes some of it. */
const UNDISTURBED_MS = 2000;
/** G7: a primary whose machine is cut off. */
const CUT_OFF_MS = 2000;
/** Requests are answered when none has waited alone for longer. */
const ANSWERED_MS = 100;
const POLL_MS = 10;

/** Every two machines between which there is a link, in both directions. Hosts are not linked to each other, nor the driver to anybody but the manager. */
export const DIRECTED_LINKS: readonly (readonly [string, string])[] = MACHINES.flatMap((one) => MACHINES.filter((other) => other !== one).map((other) => [one, other] as const));

/** What is done to machines and their links, one episode after the other, each from a state in which all copies are in sync. */
export class Episodes {
  readonly #rig: Rig<Machines>;
  readonly #network: Network;
  readonly #prng: Prng;
  /** How often each direction of each link was cut: the least often cut is next. */
  readonly #cuts: Map<string, number>;

  constructor(rig: Rig<Machines>, network: Network, prng: Prng, cuts: Map<string, number>) {
    this.#rig = rig;
    this.#network = network;
    this.#prng = prng;
    this.#cuts = cuts;
  }

  async run(kind: EpisodeKind): Promise<Episode> {
    const { load } = this.#rig;
    const before = await this.#healed();
    const { inFlight } = load;
    const atMs = performance.now();
    const { what, wrong } = await this.#act(kind, before);
    await this.#network.heal();
    const endMs = performance.now();
    await this.#healed();
    return { kind, what, inFlight, stallMs: load.longestStallMsBetween(atMs, performance.now()), healedMs: performance.now() - endMs, wrong };
  }

  /** Every copy is in sync, and the program is answered: that may take longer where its own links were cut. What comes next must not be blamed for it. */
  async #healed(): Promise<VolumeView> {
    const giveUpMs = performance.now() + HEAL_MS;
    for (;;) {
      const volume = await this.#rig.healthy(HEAL_MS);
      const nowMs = performance.now();
      if (this.#rig.load.longestStallMsBetween(nowMs, nowMs) < ANSWERED_MS) return volume;
      if (nowMs > giveUpMs) throw new Error(`every copy is in sync, but no request was answered for ${HEAL_MS / 1000} s`);
      await delay(POLL_MS);
    }
  }

  async #act(kind: EpisodeKind, before: VolumeView): Promise<{ readonly what: string; readonly wrong: string | null }> {
    const right = (what: string): { what: string; wrong: null } => ({ what, wrong: null });
    switch (kind) {
      case 'cut-one-way': {
        const [from, to] = this.#leastCut();
        const forMs = this.#between(CUT_MS);
        await this.#network.cut(from, to);
        await delay(forMs);
        return right(`${from} → ${to} for ${forMs} ms`);
      }
      case 'cut': return right(await this.#cutBoth([this.#leastCut()]));
      case 'cut-two': return right(await this.#cutBoth([this.#leastCut(), this.#leastCut()]));
      case 'flap': return right(await this.#flap());
      case 'kill': return right(await this.#kill(this.#oneOf([...SERVERS, ...SERVERS, HOST])));
      case 'kill-manager': return right(await this.#kill(MANAGER));
      case 'freeze': {
        const machine = this.#oneOf(MACHINES);
        const forMs = this.#between(FREEZE_MS);
        this.#rig.site.signal(machine, 'SIGSTOP');
        await delay(forMs);
        this.#rig.site.signal(machine, 'SIGCONT');
        return right(`${machine} for ${forMs} ms`);
      }
      case 'server-away': return this.#serverAway(before);
      case 'manager-away': return this.#managerAway();
      case 'manager-away-and-failover': return this.#failoverWaits(before);
    }
  }

  async #cutBoth(links: readonly (readonly [string, string])[]): Promise<string> {
    const forMs = this.#between(CUT_MS);
    for (const [one, other] of links) {
      await this.#network.cut(one, other);
      await this.#network.cut(other, one);
    }
    await delay(forMs);
    return `${links.map(([one, other]) => `${one} – ${other}`).join(', ')} for ${forMs} ms`;
  }

  async #flap(): Promise<string> {
    const [one, other] = this.#leastCut();
    const times = this.#between(FLAPS);
    for (let i = 0; i < times; i++) {
      await this.#network.cut(one, other);
      await this.#network.cut(other, one);
      await delay(this.#between(FLAP_MS));
      await this.#network.heal();
      await delay(this.#between(FLAP_MS));
    }
    return `${one} – ${other}, ${times} times`;
  }

  async #kill(machine: string): Promise<string> {
    await this.#rig.site.kill(machine);
    const forMs = this.#between(DOWN_MS);
    await delay(forMs);
    await this.#rig.site.boot(machine);
    return `${machine}, down for ${forMs} ms and its start`;
  }

  /** From everybody: the others go on. */
  async #cutOff(away: string): Promise<void> {
    for (const machine of MACHINES) {
      if (machine === away) continue;
      await this.#network.cut(machine, away);
      await this.#network.cut(away, machine);
    }
  }

  async #serverAway(before: VolumeView): Promise<{ readonly what: string; readonly wrong: string | null }> {
    const victim = primaryServer(before);
    if (victim === undefined) return { what: 'no primary', wrong: 'there was no primary' };
    await this.#cutOff(victim);
    const stallMs = await this.#stallOver(AWAY_MS);
    return { what: `${victim}, the primary, for ${AWAY_MS} ms; longest silence ${stallMs.toFixed(0)} ms`, wrong: stallMs > CUT_OFF_MS ? `with the primary cut off I/O stood still for ${stallMs.toFixed(0)} ms` : null };
  }

  async #managerAway(): Promise<{ readonly what: string; readonly wrong: string | null }> {
    await this.#cutOff(MANAGER);
    const stallMs = await this.#stallOver(AWAY_MS);
    return { what: `I/O went on for ${AWAY_MS} ms, longest silence ${stallMs.toFixed(0)} ms`, wrong: stallMs > UNDISTURBED_MS ? `with the manager cut off I/O stood still for ${stallMs.toFixed(0)} ms` : null };
  }

  /** The primary's machine dies while the manager is away: nobody may take over, until it is back. */
  async #failoverWaits(before: VolumeView): Promise<{ readonly what: string; readonly wrong: string | null }> {
    const { site } = this.#rig;
    const victim = primaryServer(before);
    if (victim === undefined) return { what: 'no primary', wrong: 'there was no primary' };
    await this.#cutOff(MANAGER);
    const stallMs = await this.#stallOver(AWAY_MS / 2);
    await site.kill(victim);
    const waitedMs = await this.#stallOver(AWAY_MS);
    await this.#network.heal();
    const backMs = performance.now();
    const after = await this.#rig.until((volume) => primaryServer(volume) !== victim && volume.epoch > before.epoch && volume.health === 'degraded', 'a new primary that serves', HEAL_MS);
    const tookMs = performance.now() - backMs;
    await site.boot(victim);
    const wrong = stallMs > UNDISTURBED_MS ? `with the manager cut off I/O stood still for ${stallMs.toFixed(0)} ms` : waitedMs < AWAY_MS / 2 ? `I/O went on without a primary: it stood still for ${waitedMs.toFixed(0)} ms only` : null;
    return { what: `${victim} died, I/O waited; ${tookMs.toFixed(0)} ms after the manager was back ${primaryServer(after) ?? ''} served`, wrong };
  }

  /** The longest silence with requests in flight, in the time to come. */
  async #stallOver(ms: number): Promise<number> {
    const fromMs = performance.now();
    await delay(ms);
    return this.#rig.load.longestStallMsBetween(fromMs, performance.now());
  }

  #leastCut(): readonly [string, string] {
    const count = ([from, to]: readonly [string, string]): number => (this.#cuts.get(`${from} ${to}`) ?? 0) + this.#prng.fraction();
    const ranked = DIRECTED_LINKS.map((link) => ({ link, count: count(link) }));
    const { link } = ranked.reduce((least, one) => (one.count < least.count ? one : least));
    const name = link.join(' ');
    this.#cuts.set(name, (this.#cuts.get(name) ?? 0) + 1);
    return link;
  }

  #oneOf(machines: readonly string[]): string { return machines[this.#prng.below(machines.length)] as string; }
  #between({ min, max }: { readonly min: number; readonly max: number }): number { return min + this.#prng.below(max - min); }
}
