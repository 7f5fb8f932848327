import { primaryOf, type HostMessage, type ServerMessage } from '@ashlar/protocol';
import { unreachable, type HostId, type Prng, type ServerId, type VolumeId } from '@ashlar/words';
import { afterHello, saveUsage } from './attachments.ts';
import { keepOn, newKeeping, onKept, takeStored, whenKept } from './keeping.ts';
import type { ManagerEffects, ManagerInput, ManagerOptions } from './manager-messages.ts';
import type { StoreSnapshot } from './metadata-store.ts';
import { beginCreations, goOnWithHeld, onCommand } from './operations.ts';
import { onCopyMessage, onHostMessage } from './observations.ts';
import { beginRebuilds, shareRebuildBudget } from './rebuilds.ts';
import { reconcile } from './reconcile.ts';
import { onLink, onServerMessage, onSupervisor, watchServers } from './servers.ts';
import { acts, judgeMark, mayBeginToAct, onKeeperHello, refuseToAct, takeCluster } from './standing.ts';
import { serverOf, takeSnapshot, type Manager } from './state.ts';
import { load } from './store-access.ts';
import { gatherOn, onLedger } from './store-recovery.ts';
import { Turns } from './turns.ts';
import { Unsettled } from './unsettled.ts';

/** Time that the manager itself was not running is not counted beyond so many ticks. */
const ATTENTIVE_TICKS = 3;
const LIFE_MAX = 2 ** 47;
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
      standing: { state: 'waiting' }, startActing: () => this.#startActing(), life: prng.between(1, LIFE_MAX), begun: false, beganMs: -Infinity, refused: false, origin: null, originRevision: 0, loadedRevision: 0, knownServers: new Set(),
      keeping: newKeeping(prng.between(1, 2 ** 31)), gathering: null,
      transactions: new Map(), afterLoad: [], servers: new Map(), hosts: new Map(), volumes: new Map(), creations: new Map(), creating: new Map(), waitingCreations: [], usage: new Map(), usageRunning: new Map(), usageSavedMs: nowMs,
      usageDirty: new Set(), held: [], unsettled: new Unsettled(), rebuildBudget: null, learning: new Set(), promotions: new Turns(), removals: new Turns(), rebuildsBegun: new Turns(), removedServers: new Set(), rebuildsWanted: new Map(),
    };
  }

  /** For checks and `inspect` only. */
  get state(): Readonly<Manager> { return this.#m; }

  start(nowMs: number, wallMs: number, effects: ManagerEffects): void {
    this.#m.nowMs = nowMs;
    this.#m.wallOffsetMs = wallMs - nowMs;
    this.#m.fx = effects;
    load(this.#m);
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
      case 'from-server': return this.#fromServer(input.from, input.message);
      case 'from-copy':
        onCopyMessage(m, input.from, input.message);
        return acts(m) ? beginRebuilds(m) : undefined;
      case 'from-host': return this.#fromHost(input.from, input.message);
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

  #fromServer(from: ServerId, message: ServerMessage): void {
    const m = this.#m;
    const server = serverOf(m, from);
    if (message.kind === 'server-hello' ? !onKeeperHello(m, server, message.keeps, message.mark) : server.foreign) return;
    onServerMessage(m, from, message);
    if (message.kind === 'server-kept') {
      onKept(m, server, message);
      const reason = message.mark === null || message.mark.cluster !== m.origin?.cluster ? null : judgeMark(m, from, message.mark);
      if (reason !== null) refuseToAct(m, from, reason);
    }
    if (message.kind === 'server-ledger') onLedger(m, from, message);
    if (message.kind !== 'server-status') keepOn(m);
    mayBeginToAct(m);
    this.#reconcileHeard();
  }

  #fromHost(from: HostId, message: HostMessage): void {
    const m = this.#m;
    // What hosts say once, and say again only to a manager that asks.
    if (!acts(m) && m.standing.state !== 'refusing' && message.kind !== 'host-hello' && this.#early.length < EARLY_MAX) this.#early.push({ kind: 'from-host', from, message });
    else if (acts(m) || message.kind === 'host-hello' || message.kind === 'usage') onHostMessage(m, from, message);
    mayBeginToAct(m);
  }

  /** Enough was heard, or the store was made anew. */
  #startActing(): void {
    const m = this.#m;
    for (const host of m.hosts.values()) if (host.shown !== null) afterHello(m, host.hostId, host.shown.attachments);
    for (const input of this.#early.splice(0)) this.receive(m.nowMs, input, m.fx);
    for (const v of m.volumes.values()) {
      m.unsettled.add(v.volumeId);
      // Whoever leads says so when something changes, and when it greets a manager: this one may not have known the volume then.
      if (v.status === null && m.refused) m.fx.toServer(primaryOf(v.record.configuration), { kind: 'ask-report', volumeId: v.volumeId, token: m.prng.between(1, 2 ** 31) });
    }
    keepOn(m);
    this.#reconcileHeard();
  }

  /** What comes before the store has answered is said again by its senders; only commands must be answered. */
  #beforeLoad(input: ManagerInput): void {
    if (input.kind === 'command') this.#m.fx.answer(input.requestId, { ok: false, code: 'busy', message: 'the system manager is starting' });
    else if (input.kind === 'stored') this.#stored(input);
    else if (this.#early.length < EARLY_MAX) this.#early.push(input);
  }

  readonly #early: ManagerInput[] = [];

  #loaded(snapshot: StoreSnapshot | null): void {
    const m = this.#m;
    if (snapshot === null) return; // asked again by the tick
    if (m.begun && acts(m)) {
      // A change whose outcome was not known may be in it: nobody acts on it before it is kept.
      for (const stored of snapshot.records) takeStored(m, stored);
      const read = (): void => this.#read(snapshot);
      return whenKept(m, Math.min(m.keeping.newest, snapshot.revision), read, read);
    }
    if (!m.begun) takeCluster(m, snapshot);
    this.#read(snapshot);
  }

  #read(snapshot: StoreSnapshot): void {
    const m = this.#m;
    takeSnapshot(m, snapshot);
    const first = !m.loaded;
    m.loaded = true;
    for (const then of m.afterLoad.splice(0)) then();
    if (first) for (const input of this.#early.splice(0)) this.receive(m.nowMs, input, m.fx);
    mayBeginToAct(m);
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
    if ((!m.loaded || m.afterLoad.length > 0 || (!m.begun && m.nowMs - m.beganMs >= m.options.repeatMs)) && m.nowMs - m.loadAskedMs >= m.options.repeatMs) load(this.#m);
    if (!m.loaded) return;
    watchServers(m);
    keepOn(m);
    gatherOn(m);
    mayBeginToAct(m);
    this.#reconcile([...m.unsettled]);
    if (!acts(m)) return;
    shareRebuildBudget(m);
    saveUsage(m);
  }

  #reconcileHeard(): void { this.#reconcile(this.#m.unsettled.heard()); }

  #reconcile(ids: readonly VolumeId[]): void {
    const m = this.#m;
    goOnWithHeld(m);
    for (const id of ids) {
      const v = m.volumes.get(id);
      if (v) reconcile(m, v);
      else m.unsettled.delete(id);
    }
    if (!acts(m)) return;
    beginRebuilds(m);
    beginCreations(m);
  }
}
