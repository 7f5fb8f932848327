import { unreachable, type Prng, type VolumeId } from '@ashlar/words';
import { saveUsage } from './attachments.ts';
import type { ManagerEffects, ManagerInput, ManagerOptions } from './manager-messages.ts';
import type { StoreSnapshot } from './metadata-store.ts';
import { beginCreations, onCommand } from './operations.ts';
import { onCopyMessage, onHostMessage } from './observations.ts';
import { beginRebuilds, shareRebuildBudget } from './rebuilds.ts';
import { reconcile } from './reconcile.ts';
import { onLink, onServerMessage, onSupervisor, watchServers } from './servers.ts';
import { takeSnapshot, type Manager } from './state.ts';
import { Unsettled } from './unsettled.ts';

/** Time that the manager itself was not running is not counted beyond so many ticks. */
const ATTENTIVE_TICKS = 3;
/** Messages kept until the store has answered; later ones are lost like those of a broken link, and said again. */
const EARLY_MAX = 10_000;

/** The system manager: a reconciler over the metadata store. May be ended at any point; the next one goes on from what the store has. */
export class ManagerCore {
  readonly #m: Manager;
  #lastTickMs = 0;

  constructor(options: ManagerOptions, prng: Prng, nowMs: number) {
    this.#lastTickMs = nowMs;
    this.#m = {
      options, prng, fx: undefined as unknown as ManagerEffects, nowMs, wallOffsetMs: 0, attentiveMs: 0, startedMs: nowMs, loaded: false, loadAskedMs: -Infinity, token: 0,
      transactions: new Map(), afterLoad: [], servers: new Map(), hosts: new Map(), volumes: new Map(), creations: new Map(), creating: new Map(), waitingCreations: [], usage: new Map(), usageRunning: new Map(), usageSavedMs: nowMs,
      usageDirty: new Set(), unsettled: new Unsettled(), rebuildBudget: null, removedServers: new Set(), rebuildsWanted: new Map(),
    };
  }

  /** For checks and `inspect` only. */
  get state(): Readonly<Manager> { return this.#m; }

  start(nowMs: number, wallMs: number, effects: ManagerEffects): void {
    this.#m.nowMs = nowMs;
    this.#m.wallOffsetMs = wallMs - nowMs;
    this.#m.fx = effects;
    this.#load();
    effects.setTick(nowMs + this.#m.options.tickMs);
  }

  receive(nowMs: number, input: ManagerInput, effects: ManagerEffects): void {
    const m = this.#m;
    m.nowMs = nowMs;
    m.fx = effects;
    if (!m.loaded && input.kind !== 'loaded' && input.kind !== 'tick') return this.#beforeLoad(input);
    switch (input.kind) {
      case 'loaded': return this.#loaded(input.snapshot);
      case 'stored': return this.#stored(input);
      case 'tick': return this.#tick(input.wallMs);
      case 'from-server':
        onServerMessage(m, input.from, input.message);
        return this.#reconcileHeard();
      case 'from-copy':
        onCopyMessage(m, input.from, input.message);
        return beginRebuilds(m);
      case 'from-host': return onHostMessage(m, input.from, input.message);
      case 'from-supervisor':
        onSupervisor(m, input.message);
        return this.#reconcileHeard();
      case 'link':
        onLink(m, input.node, input.up);
        return this.#reconcileHeard();
      case 'command': return onCommand(m, input.requestId, input.principal, input.command);
      default: unreachable(input);
    }
  }

  /** What comes before the store has answered is said again by its senders; only commands must be answered. */
  #beforeLoad(input: ManagerInput): void {
    if (input.kind === 'command') this.#m.fx.answer(input.requestId, { ok: false, code: 'busy', message: 'the system manager is starting' });
    else if (input.kind === 'stored') this.#stored(input);
    else if (this.#early.length < EARLY_MAX) this.#early.push(input);
  }

  readonly #early: ManagerInput[] = [];

  #load(): void {
    this.#m.loadAskedMs = this.#m.nowMs;
    this.#m.fx.load();
  }

  #loaded(snapshot: StoreSnapshot | null): void {
    const m = this.#m;
    if (snapshot === null) return; // asked again by the tick
    takeSnapshot(m, snapshot);
    const first = !m.loaded;
    m.loaded = true;
    for (const then of m.afterLoad.splice(0)) then();
    if (first) for (const input of this.#early.splice(0)) this.receive(m.nowMs, input, m.fx);
    this.#reconcileHeard();
  }

  #stored({ token, outcome }: ManagerInput & { readonly kind: 'stored' }): void {
    const then = this.#m.transactions.get(token);
    this.#m.transactions.delete(token);
    then?.(outcome);
    this.#reconcileHeard();
  }

  #tick(wallMs: number): void {
    const m = this.#m;
    m.wallOffsetMs = wallMs - m.nowMs;
    m.attentiveMs += Math.min(m.nowMs - this.#lastTickMs, ATTENTIVE_TICKS * m.options.tickMs);
    this.#lastTickMs = m.nowMs;
    m.fx.setTick(m.nowMs + m.options.tickMs);
    if ((!m.loaded || m.afterLoad.length > 0) && m.nowMs - m.loadAskedMs >= m.options.repeatMs) this.#load();
    if (!m.loaded) return;
    watchServers(m);
    this.#reconcile([...m.unsettled]);
    shareRebuildBudget(m);
    saveUsage(m);
  }

  #reconcileHeard(): void { this.#reconcile(this.#m.unsettled.heard()); }

  #reconcile(ids: readonly VolumeId[]): void {
    const m = this.#m;
    for (const id of ids) {
      const v = m.volumes.get(id);
      if (v) reconcile(m, v);
      else m.unsettled.delete(id);
    }
    beginRebuilds(m);
    beginCreations(m);
  }
}
