import { showCluster, type ServerMessage, type ApiCommand, type RecoveryView } from '@ashlar/protocol';
import { AshlarError, type ServerId } from '@ashlar/words';
import { DELETED_MAX, newKeeping, owe, takeStored } from './keeping.ts';
import type { AnyStored, Put, TransactionOutcome } from './metadata-store.ts';
import type { NewEvent } from './records.ts';
import { acts, beginToAct } from './standing.ts';
import { restoreRaw } from './store-access.ts';
import { planRecovery, type RecoveryPlan, type ServerLedger } from './store-recovery-plan.ts';
import { dropVolume, eventOf, takeVolume, wallMs, type Manager } from './state.ts';

type LedgerPart = ServerMessage & { readonly kind: 'server-ledger' };
type RecoverCommand = ApiCommand & { readonly kind: 'recover' };

/** A recovery that is asking the servers what they keep. */
export interface Gathering {
  readonly requestId: number;
  readonly command: RecoverCommand;
  readonly token: number;
  readonly sinceMs: number;
  askedMs: number;
  readonly parts: Map<ServerId, LedgerPart[]>;
  /** The plan is being carried out. */
  applying: boolean;
}

/** Servers that are there answer in this time, with thousands of copies too; those that do not count as not heard. */
const GATHER_MS = 10_000;
const REPEAT_MS = 2_000;
const LIFE_MAX = 2 ** 47;

/** `ashlar recover`: asks every server what it keeps, makes a plan, and carries it out unless it is to be shown only. */
export function recoverStore(m: Manager, requestId: number, command: RecoverCommand): void {
  if (acts(m)) throw new AshlarError('invalid-argument', 'there is nothing to recover: the metadata store is as new as anything that the servers know');
  if (m.gathering !== null) throw new AshlarError('busy', 'a recovery is under way already', { retry: 'later' });
  m.gathering = { requestId, command, token: m.prng.between(1, 2 ** 31), sinceMs: m.nowMs, askedMs: -Infinity, parts: new Map(), applying: false };
  gatherOn(m);
}

export function onLedger(m: Manager, from: ServerId, part: LedgerPart): void {
  const { gathering } = m;
  if (gathering === null || gathering.applying || part.token !== gathering.token) return;
  const parts = gathering.parts.get(from) ?? [];
  parts[part.part] = part;
  gathering.parts.set(from, parts);
  gatherOn(m);
}

function isWhole(parts: readonly (LedgerPart | undefined)[] | undefined): boolean {
  if (parts === undefined) return false;
  const { length } = parts;
  return parts[length - 1]?.last === true && Array.from({ length }, (_, i) => parts[i]).every((part) => part !== undefined);
}

/** Asks again whoever has not answered; goes on when all have, or their time is over. */
export function gatherOn(m: Manager): void {
  const { gathering } = m;
  if (gathering === null || gathering.applying) return;
  // `ended`: while it was under way the store was heard to be good after all.
  if (acts(m)) return end(m, { code: 'invalid-argument', message: 'there is nothing to recover any more' });
  const there = [...m.servers.values()].filter(({ linked, greeted, foreign, keeper }) => linked && greeted && !foreign && keeper?.keeps === true);
  const open = there.filter(({ serverId }) => !isWhole(gathering.parts.get(serverId)));
  if (open.length > 0 && m.nowMs - gathering.sinceMs < GATHER_MS) {
    if (m.nowMs - gathering.askedMs < REPEAT_MS) return;
    gathering.askedMs = m.nowMs;
    for (const { serverId } of open) m.fx.toServer(serverId, { kind: 'ask-ledger', token: gathering.token });
    return;
  }
  decide(m, gathering, there.map(({ serverId }) => serverId).filter((id) => !open.some((server) => server.serverId === id)));
}

function decide(m: Manager, gathering: Gathering, heard: readonly ServerId[]): void {
  const { command } = gathering;
  const plan = planRecovery({
    siteId: m.options.siteId, wallMs: wallMs(m), ledgers: heard.map((id) => ledgerOf(id, gathering.parts.get(id) ?? [])), without: command.without,
    hosts: [...m.hosts.values()].flatMap(({ hostId, shown }) => (shown === null ? [] : [{ hostId, ...shown }])),
    store: { cluster: m.origin?.cluster ?? null, revision: m.loadedRevision, servers: [...m.knownServers], volumes: m.keeping.latest, deleted: m.keeping.deleted },
  });
  if (command.dryRun) return answer(m, view(plan, heard, command, false));
  if (plan.blocked.length > 0) return end(m, { code: 'store-behind', message: `the metadata store cannot be rebuilt yet: ${plan.blocked.join('; ')}` });
  restore(m, gathering, plan, view(plan, heard, command, true));
}

function ledgerOf(serverId: ServerId, parts: readonly LedgerPart[]): ServerLedger {
  const [first] = parts;
  return {
    serverId, mark: first?.mark ?? null, servers: first?.servers ?? [], records: parts.flatMap((part) => part.records), deleted: parts.flatMap((part) => part.deleted), copies: parts.flatMap((part) => part.copies),
  };
}

function view(plan: RecoveryPlan, heard: readonly ServerId[], { without }: RecoverCommand, applied: boolean): RecoveryView {
  const volumes = plan.volumes.map(({ record: _record, ...volume }) => volume);
  const lost = ['events before the last ones of the store that was found', 'usage figures of attachments that ended', 'of a store that was lost altogether: which servers were drained, and the budget for rebuilds'];
  return { applied, cluster: plan.cluster === null ? '' : showCluster(plan.cluster), heard, without, volumes, blocked: plan.blocked, lost };
}

function answer(m: Manager, value: RecoveryView): void {
  const { gathering } = m;
  m.gathering = null;
  if (gathering !== null) m.fx.answer(gathering.requestId, { ok: true, value });
}

function end(m: Manager, { code, message }: { readonly code: 'invalid-argument' | 'store-behind' | 'unavailable'; readonly message: string }): void {
  const { gathering } = m;
  m.gathering = null;
  if (gathering !== null) m.fx.answer(gathering.requestId, { ok: false, code, message });
}

/** One transaction: a manager that is ended in the middle still has the store that it refused, or has the new one. */
function restore(m: Manager, gathering: Gathering, plan: RecoveryPlan, done: RecoveryView): void {
  gathering.applying = true;
  const life = m.prng.between(1, LIFE_MAX);
  const origin = { cluster: plan.cluster ?? m.prng.between(1, LIFE_MAX), lives: [{ life, first: plan.revision }] };
  const puts: Put[] = [{ kind: 'origin', id: 'origin', value: origin }];
  for (const { record } of plan.volumes) if (record !== null) puts.push({ kind: 'volume', id: record.volumeId, value: record });
  for (const volumeId of plan.deleted.slice(-DELETED_MAX)) puts.push({ kind: 'deleted', id: volumeId, value: { volumeId, atMs: wallMs(m) } });
  for (const server of m.servers.values()) if (server.record !== null && !server.foreign && !gathering.command.without.includes(server.serverId)) puts.push({ kind: 'server', id: server.serverId, value: server.record });
  if (m.rebuildBudget !== null) puts.push({ kind: 'site', id: m.options.siteId, value: { siteId: m.options.siteId, createdAtMs: wallMs(m), rebuilds: m.rebuildBudget } });
  for (const host of m.hosts.values()) if (host.record !== null) puts.push({ kind: 'host', id: host.hostId, value: host.record });
  for (const [id, value] of m.usage) if (plan.volumes.some(({ record }) => record?.volumeId === id)) puts.push({ kind: 'usage', id, value });
  restoreRaw(m, plan.revision, puts, eventsOf(m, plan, done), (outcome) => restored(m, outcome, puts, plan.revision, life, done));
}

function eventsOf(m: Manager, plan: RecoveryPlan, done: RecoveryView): NewEvent[] {
  const detail = { volumes: plan.volumes.filter(({ outcome }) => outcome === 'restored').length, heard: done.heard.join(' '), without: done.without.join(' ') };
  const each = plan.volumes.map(({ volumeId, outcome, epoch, notes }) => eventOf(m, outcome === 'restored' ? 'volume-recovered' : 'volume-not-recovered', volumeId, notes.join('; '), { outcome, epoch }));
  return [...each, eventOf(m, 'store-recovered', done.cluster, 'rebuilt from what the servers keep', detail, 'operator')];
}

function restored(m: Manager, outcome: TransactionOutcome, puts: readonly Put[], revision: number, life: number, done: RecoveryView): void {
  for (const v of m.volumes.values()) {
    for (const { requestId } of v.waiters.splice(0)) m.fx.answer(requestId, { ok: false, code: 'unavailable', message: 'the metadata store was rebuilt meanwhile; look at the state before trying again' });
    dropVolume(m, v);
  }
  m.life = life;
  m.knownServers.clear();
  Object.assign(m.keeping, { ...newKeeping(m.keeping.number), waiting: m.keeping.waiting });
  if (outcome.kind !== 'applied') {
    // It may have been made: what the store is now is read, and judged as at a start.
    Object.assign(m, { standing: { state: 'waiting' }, loaded: false, begun: false, origin: null, loadAskedMs: m.nowMs });
    m.fx.load();
    return end(m, { code: 'unavailable', message: 'the metadata store did not answer; look at `ashlar server list` before trying again' });
  }
  m.begun = true;
  m.loadedRevision = revision;
  m.originRevision = revision;
  for (const put of puts) take(m, { ...put, revision } as AnyStored);
  for (const server of m.servers.values()) {
    if (server.record !== null && !puts.some(({ kind, id }) => kind === 'server' && id === server.serverId)) server.record = null;
    if (server.keeper !== null && !server.foreign) owe(m, server, server.keeper);
  }
  answer(m, done);
  beginToAct(m);
}

function take(m: Manager, stored: AnyStored): void {
  if (stored.kind === 'origin') m.origin = stored.value;
  if (stored.kind === 'server') m.knownServers.add(stored.value.serverId);
  if (stored.kind === 'volume') takeVolume(m, stored.value.volumeId, stored.value, stored.revision);
  takeStored(m, stored);
}
