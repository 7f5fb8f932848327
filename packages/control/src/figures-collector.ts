import { partyOf, type Actor, type Address, type Party, type Signal } from '@ashlar/actor';
import { acceptSamples, prometheusText, Samples, type Sample } from '@ashlar/figures';
import type { ApiCommand, HostView, ManagerView, ServerView, VolumeHealth, VolumeState, VolumeView } from '@ashlar/protocol';
import { figuresAddress, type FiguresTold, type FiguresWanted, type Runtime } from '@ashlar/runtime';
import type { MetadataStore, StoreChange } from './core/index.ts';
import { MANAGER_PARTY } from './manager-actor.ts';

export interface FiguresCollectorOptions {
  readonly runtime: Runtime;
  readonly store: MetadataStore;
  readonly version: string;
  /** A command of our own. Null: refused. */
  readonly ask: <T>(command: ApiCommand) => Promise<T | null>;
  /** Requests to the API that were refused, by code. */
  readonly refused: () => ReadonlyMap<string, number>;
}

/** A party that takes longer is busy or gone: what it says would come too late for Prometheus, which waits for 10 s. */
const ANSWER_MS = 1000;
/** Names of events come from other parties too. */
const EVENT_NAMES_MAX = 200;
const OTHER_EVENTS = 'other';
const SHUTDOWN_MS = 1000;
const HEALTHS: readonly VolumeHealth[] = ['healthy', 'degraded', 'faulted', 'unknown'];
const STATES: readonly VolumeState[] = ['creating', 'available', 'in-use', 'deleting', 'error'];

interface Round {
  readonly token: number;
  readonly missing: Set<Party>;
  readonly samples: Sample[];
  readonly complete: () => void;
}

/** Asks every party for its figures and makes one text of them, with the manager's own. */
export class FiguresCollector {
  readonly #options: FiguresCollectorOptions;
  readonly #events = new Map<string, number>();
  readonly #endWatch: () => void;
  #failovers = 0;
  #token = 0;
  #round: Round | null = null;
  #running: Promise<string> | null = null;

  constructor(options: FiguresCollectorOptions) {
    this.#options = options;
    this.#endWatch = options.store.watch((change) => this.#onChange(change));
    const address = figuresAddress(MANAGER_PARTY);
    const actor: Actor<FiguresTold> = { receive: (message, from) => this.#receive(message, from), inspect: () => ({ collecting: this.#round !== null }) };
    options.runtime.start({ kind: 'actor', id: address, address, restart: 'permanent', shutdownMs: SHUTDOWN_MS, start: () => actor });
  }

  /** One text for all who ask at the same time. */
  text(): Promise<string> {
    this.#running ??= this.#collect().finally(() => { this.#running = null; });
    return this.#running;
  }

  async close(): Promise<void> {
    this.#endWatch();
    await this.#options.runtime.stop(figuresAddress(MANAGER_PARTY));
  }

  async #collect(): Promise<string> {
    const { runtime, version, refused } = this.#options;
    const ask = <T>(command: ApiCommand): Promise<T | null> => soon(this.#options.ask<T>(command));
    const [servers, hosts, manager] = [await ask<ServerView[]>({ kind: 'server-list' }) ?? [], await ask<HostView[]>({ kind: 'host-list' }) ?? [], await ask<ManagerView>({ kind: 'manager-describe' })];
    // One that does not act yet would let us wait for them.
    const volumes = manager?.state === 'acting' ? await ask<VolumeView[]>({ kind: 'volume-list' }) : null;
    const parties: Party[] = [...servers.map(({ serverId }) => serverId), ...hosts.map(({ hostId }) => hostId)];
    const { samples: told, missing } = await this.#askAll(parties);
    const samples = new Samples();
    samples.add('ashlar_build_info', 1, version);
    for (const party of parties) samples.add('ashlar_party_answered', missing.has(party) ? 0 : 1, party);
    collectParties(samples, servers, hosts);
    samples.add('ashlar_manager_acting', manager?.state === 'acting' ? 1 : 0);
    // Nothing, and not none, where it cannot be known.
    if (volumes !== null) collectVolumes(samples, volumes);
    samples.add('ashlar_failovers_total', this.#failovers);
    for (const [event, count] of this.#events) samples.add('ashlar_events_total', count, event);
    for (const [code, count] of refused()) samples.add('ashlar_api_refused_requests_total', count, code);
    runtime.collect(samples);
    return prometheusText([...samples.all, ...told]);
  }

  async #askAll(parties: readonly Party[]): Promise<Round> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const round: Round = { token: ++this.#token, missing: new Set(parties), samples: [], complete: resolve };
    this.#round = round;
    const wanted: FiguresWanted = { kind: 'figures-wanted', token: round.token };
    const from = figuresAddress(MANAGER_PARTY);
    const late = setTimeout(resolve, ANSWER_MS);
    const asked = parties.filter((party) => this.#options.runtime.send(figuresAddress(party), wanted, from) === 'ok');
    // Who could not be asked is not waited for.
    if (asked.length > 0) await promise;
    clearTimeout(late);
    this.#round = null;
    return round;
  }

  #receive(message: FiguresTold | Signal, from: Address): void {
    const round = this.#round;
    const party = partyOf(from);
    if (message.kind !== 'figures-told' || round === null || message.token !== round.token || !round.missing.delete(party)) return;
    round.samples.push(...acceptSamples(message.samples));
    if (round.missing.size === 0) round.complete();
  }

  #onChange({ events }: StoreChange): void {
    for (const { name, detail } of events) {
      const known = this.#events.has(name) || this.#events.size < EVENT_NAMES_MAX ? name : OTHER_EVENTS;
      this.#events.set(known, (this.#events.get(known) ?? 0) + 1);
      if (name === 'promoted' && detail['from'] !== detail['to']) this.#failovers++;
    }
  }
}

/** Null after a while: a manager that crashes loses what it was asked, and never answers that. */
async function soon<T>(answer: Promise<T | null>): Promise<T | null> {
  const { promise, resolve } = Promise.withResolvers<null>();
  const late = setTimeout(() => resolve(null), ANSWER_MS);
  return Promise.race([answer, promise]).finally(() => clearTimeout(late));
}

function collectParties(samples: Samples, servers: readonly ServerView[], hosts: readonly HostView[]): void {
  for (const { serverId, state, capacityBytes, usedBytes, directories } of servers) {
    samples.add('ashlar_server_up', state === 'up' || state === 'draining' ? 1 : 0, serverId);
    samples.add('ashlar_server_capacity_bytes', capacityBytes, serverId);
    samples.add('ashlar_server_used_bytes', usedBytes, serverId);
    for (const { path, health, ioErrors, syncMs } of directories) {
      samples.add('ashlar_disk_healthy', health === 'ok' ? 1 : 0, serverId, path);
      samples.add('ashlar_disk_io_errors_total', ioErrors, serverId, path);
      samples.add('ashlar_disk_sync_seconds', syncMs / 1000, serverId, path);
    }
  }
  for (const { hostId, state } of hosts) samples.add('ashlar_host_up', state === 'up' ? 1 : 0, hostId);
}

function collectVolumes(samples: Samples, volumes: readonly VolumeView[]): void {
  const byHealth = new Map<string, number>(HEALTHS.map((health) => [health, 0]));
  const byState = new Map<string, number>(STATES.map((state) => [state, 0]));
  let rebuilding = 0;
  let remainingBytes = 0;
  for (const { volumeId, health, state, mirrors, copies } of volumes) {
    byHealth.set(health, (byHealth.get(health) ?? 0) + 1);
    byState.set(state, (byState.get(state) ?? 0) + 1);
    samples.add('ashlar_volume_copies_in_sync', copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length, volumeId);
    samples.add('ashlar_volume_copies_wanted', mirrors + 1, volumeId);
    for (const copy of copies) {
      if (copy.state !== 'rebuilding') continue;
      rebuilding++;
      remainingBytes += copy.remainingBytes;
    }
  }
  for (const [health, count] of byHealth) samples.add('ashlar_volumes_by_health', count, health);
  for (const [state, count] of byState) samples.add('ashlar_volumes', count, state);
  samples.add('ashlar_rebuilding_copies', rebuilding);
  samples.add('ashlar_rebuild_remaining_bytes', remainingBytes);
}
