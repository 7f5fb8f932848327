import { showCluster, type Configuration, type CopyReport, type StoreMark } from '@ashlar/protocol';
import type { HostId, ServerId, VolumeId } from '@ashlar/words';
import { keepOn, newKeeper, owe, takeStored, whenKept } from './keeping.ts';
import type { StoreSnapshot } from './metadata-store.ts';
import type { OriginRecord } from './records.ts';
import { eventOf, hostOf, serverOf, type Manager, type Server } from './state.ts';
import { load, note, transactRaw } from './store-access.ts';

/**
 * Whether the manager may act on its store. `waiting`: not enough was heard yet to know that the store is the newest. `keeping`: it is, and the servers
 * do not have all of it yet. `refusing`: somebody knows more than the store; only `ashlar recover` ends that. docs/adr/0019.
 */
export type Standing = { readonly state: 'waiting' | 'keeping' | 'acting' } | { readonly state: 'refusing'; readonly reason: string };

/** Lives kept in the store. A server that was away for longer is judged by the first revision of the oldest. */
const LIVES_MAX = 256;
const LIFE_MAX = 2 ** 47;

export function acts(m: Manager): boolean { return m.standing.state === 'acting'; }

/** The store was read and this life of the manager is not in it yet. */
export function takeCluster(m: Manager, snapshot: StoreSnapshot): void {
  const stored = snapshot.records.find((record) => record.kind === 'origin');
  m.origin = stored?.kind === 'origin' ? stored.value : null;
  m.originRevision = stored?.revision ?? 0;
  m.begun = m.origin?.lives.at(-1)?.life === m.life;
  // As it was found: what this life noted before its beginning could be written must not be taken for what the one before it wrote.
  if (!m.begun && !m.loaded) m.loadedRevision = snapshot.revision;
  // In the order in which they came: of deletions, the oldest are forgotten first.
  for (const record of [...snapshot.records].sort((a, b) => a.revision - b.revision)) {
    takeStored(m, record);
    if (record.kind === 'server' && record.value.removed !== true) m.knownServers.add(record.id as ServerId);
  }
  // Once it is written, nothing that this life notes can be taken for the past that a restored store lacks.
  if (m.origin !== null && !m.begun) begin(m, m.origin);
  for (const server of m.servers.values()) {
    if (server.keeper === null || !judgeKeeper(m, server)) continue;
    for (const report of server.reports.values()) judgeReport(m, server.serverId, report);
  }
  for (const { hostId, shown } of m.hosts.values()) if (shown !== null) judgeHost(m, hostId, shown.configurations);
}

function begin(m: Manager, before: OriginRecord): void {
  if (m.nowMs - m.beganMs < m.options.repeatMs) return;
  m.beganMs = m.nowMs;
  const value = { cluster: before.cluster, lives: [...before.lives, { life: m.life, first: m.loadedRevision + 1 }].slice(-LIVES_MAX) };
  const key = { kind: 'origin', id: 'origin' } as const;
  transactRaw(m, { conditions: [{ ...key, revision: m.originRevision }], puts: [{ ...key, value }], deletes: [], events: [] }, (outcome) => {
    // It may have been made all the same, and stand in its own way.
    if (outcome.kind !== 'applied') return load(m);
    m.begun = true;
    m.origin = value;
    m.originRevision = outcome.revision;
    takeStored(m, { kind: 'origin', id: 'origin', revision: outcome.revision, value });
    mayBeginToAct(m);
  });
}

export function refuseToAct(m: Manager, subject: string, reason: string): void {
  if (m.standing.state === 'refusing') return;
  m.standing = { state: 'refusing', reason };
  m.refused = true;
  note(m, [eventOf(m, 'store-behind', subject, `${reason}: the system manager does not act until \`ashlar recover\` has rebuilt its store; attached volumes go on`)]);
  keepOn(m);
}

// ---------------------------------------------------------------------------------------------------------------- what others know

/** A server said hello, with what it was last told. False: it belongs to another cluster, and nothing more of it is heard. */
export function onKeeperHello(m: Manager, server: Server, keeps: boolean, mark: StoreMark | null): boolean {
  server.keeper = newKeeper(keeps, mark);
  return judgeKeeper(m, server);
}

function judgeKeeper(m: Manager, server: Server): boolean {
  const { keeper, serverId } = server;
  const mark = keeper?.mark ?? null;
  const foreign = mark !== null && m.origin !== null && mark.cluster !== m.origin.cluster;
  if (foreign && !server.foreign) {
    note(m, [eventOf(m, 'server-foreign', serverId, `it keeps copies of ${showCluster(mark.cluster)}, and this is ${showCluster(m.origin?.cluster ?? 0)}: it is not used`)]);
  }
  server.foreign = foreign;
  if (foreign || keeper === null) return !foreign;
  const reason = mark === null ? null : judgeMark(m, serverId, mark);
  if (reason !== null) refuseToAct(m, serverId, reason);
  owe(m, server, keeper);
  return true;
}

/** Why the store is not the one that has seen this mark; null if it is. */
export function judgeMark(m: Manager, from: ServerId, mark: StoreMark): string | null {
  if (mark.life === m.life) return null;
  const { origin } = m;
  if (origin === null) return `the metadata store is lost: it is ${m.volumes.size === 0 ? 'empty' : 'of no cluster'}, and ${from} keeps copies of ${showCluster(mark.cluster)}`;
  const lives = m.begun ? origin.lives : [...origin.lives, { life: m.life, first: m.loadedRevision + 1 }];
  const at = lives.findIndex(({ life }) => life === mark.life);
  const behind = `the metadata store is an old one: ${from} was told of revision ${mark.revision}`;
  if (at < 0) return mark.revision < (lives[0]?.first ?? 0) ? null : `${behind} by a life of the system manager that the store does not know`;
  const end = lives[at + 1]?.first ?? Infinity;
  return mark.revision < end ? null : `${behind}, which the store has never had`;
}

/** A copy knows of something that the store has not reached. */
export function judgeReport(m: Manager, from: ServerId, report: CopyReport): void {
  const configuration = m.keeping.latest.get(report.volumeId)?.record.configuration;
  if (configuration === undefined) {
    if (m.origin === null && m.keeping.latest.size === 0) refuseToAct(m, from, `the metadata store is lost: it is empty, and ${from} holds copies`);
    return;
  }
  if (report.promisedEpoch > configuration.epoch) refuseToAct(m, report.volumeId, `the metadata store is an old one: ${from} has promised epoch ${report.promisedEpoch} of ${report.volumeId}, the store is at ${configuration.epoch}`);
  else if (report.attachNumber > configuration.attachNumber) refuseToAct(m, report.volumeId, `the metadata store is an old one: ${from} knows attach ${report.attachNumber} of ${report.volumeId}, the store is at ${configuration.attachNumber}`);
}

export function judgeHost(m: Manager, from: HostId, configurations: readonly Configuration[]): void {
  for (const { volumeId, epoch } of configurations) {
    const known = m.keeping.latest.get(volumeId)?.record.configuration;
    if (known === undefined && m.origin === null && m.keeping.latest.size === 0) refuseToAct(m, from, `the metadata store is lost: it is empty, and ${from} shows ${volumeId}`);
    if (known !== undefined && epoch > known.epoch) refuseToAct(m, volumeId, `the metadata store is an old one: ${from} knows epoch ${epoch} of ${volumeId}, the store is at ${known.epoch}`);
  }
}

// ---------------------------------------------------------------------------------------------------------------- when it may act

/** Goes on from waiting, if enough was heard. */
export function mayBeginToAct(m: Manager): void {
  if (m.standing.state !== 'waiting' || !m.loaded || !heardEnough(m)) return;
  if (m.origin === null) begin(m, { cluster: m.prng.between(1, LIFE_MAX), lives: [] });
  if (m.begun) beginToAct(m);
}

/** When the servers have what the store has: what the life before decided last it may have told nobody. */
export function beginToAct(m: Manager): void {
  m.standing = { state: 'keeping' };
  const act = (): void => {
    if (m.standing.state !== 'keeping') return;
    m.standing = { state: 'acting' };
    m.startActing();
  };
  whenKept(m, m.keeping.newest, act, () => undefined);
}

/** Servers and hosts that the store knows of and that have not said hello in this life of the manager. */
export function unheard(m: Manager): { readonly servers: readonly ServerId[]; readonly hosts: readonly HostId[] } {
  const attached = new Set<HostId>();
  for (const { record } of m.keeping.latest.values()) for (const { hostId } of record.attachments) attached.add(hostId);
  const known = isNew(m) ? m.options.expected : [...m.knownServers];
  return { servers: known.filter((id) => serverOf(m, id).keeper === null), hosts: [...attached].filter((id) => hostOf(m, id).shown === null) };
}

function isNew(m: Manager): boolean { return m.origin === null && m.keeping.latest.size === 0; }

/**
 * All that the store knows of; after a grace, half of the servers: whoever decided something while more than half were up has told one of those. An
 * empty store waits for every server that there should be, and at least one: it cannot know what it does not know.
 */
function heardEnough(m: Manager): boolean {
  const { servers, hosts } = unheard(m);
  if (isNew(m)) return servers.length === 0 && [...m.servers.values()].some(({ keeper }) => keeper !== null);
  if (servers.length === 0 && hosts.length === 0) return true;
  return m.nowMs - m.startedMs >= m.options.startGraceMs && servers.length * 2 <= m.knownServers.size;
}

/** For people: what the manager does, and why not. */
export function standingView(m: Manager): { readonly state: Standing['state']; readonly reason: string; readonly cluster: string | null; readonly unheard: readonly string[] } {
  const { standing, origin } = m;
  const { servers, hosts } = unheard(m);
  const missing: readonly (ServerId | HostId)[] = [...servers, ...hosts];
  const reason = standing.state === 'refusing' ? standing.reason : standing.state === 'acting' ? '' : waitingReason(m, missing);
  return { state: standing.state === 'keeping' ? 'waiting' : standing.state, reason, cluster: origin === null ? null : showCluster(origin.cluster), unheard: missing };
}

function waitingReason(m: Manager, missing: readonly string[]): string {
  if (m.standing.state === 'keeping') return 'the system manager has just started, and waits until the servers have written down what its store has';
  if (!m.begun && m.loaded && heardEnough(m)) return 'the system manager cannot write its metadata store; see its log';
  const foreign = [...m.servers.values()].filter((server) => server.foreign).map(({ serverId }) => serverId);
  return `the system manager has just started, and waits to hear that nobody knows more than its store${missing.length > 0 ? `; not heard yet: ${missing.join(', ')}` : ''}${foreign.length > 0 ? `; of another cluster: ${foreign.join(', ')}` : ''}`;
}

/** Volumes of which a server holds a copy and that the store does not know; told once. */
export function noteUnknown(m: Manager, server: Server, volumeId: VolumeId): void {
  if (server.unknown.has(volumeId) || m.keeping.deleted.has(volumeId)) return;
  server.unknown.add(volumeId);
  note(m, [eventOf(m, 'copy-unknown', volumeId, 'a copy of a volume that the metadata store does not know; it is left alone', { serverId: server.serverId })]);
}
