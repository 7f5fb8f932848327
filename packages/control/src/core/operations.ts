import { FOUNDING_INCARNATION, memberOf, primaryOf, type Configuration, type VolumeLimits, type ApiAnswer, type ApiCommand, type PlacementView } from '@ashlar/protocol';
import { AshlarError, BLOCK_BYTES, newVolumeId, unreachable, VOLUME_BYTES_MAX, type ErrorCode, type HostId, type ServerId, type VolumeId } from '@ashlar/words';
import { authorize, type Principal } from './authorize.ts';
import { sameAttachment, specOf, without } from './attachments.ts';
import { cancelled } from './moves.ts';
import { place, weigh, type Placement, type PlacementRequest } from './placement.ts';
import { candidate, isFaulted, isPromotable, isUnmade, promotionNeed, reportOf } from './promotion.ts';
import { placementServers } from './rebuilds.ts';
import { promote, reconcile } from './reconcile.ts';
import type { AttachmentRecord, VolumeRecord } from './records.ts';
import { reportOn } from './report.ts';
import { checkRestart, drainServer, modifyCluster, removeServer, serverLost } from './server-operations.ts';
import { isUp } from './servers.ts';
import { acts, standingView } from './standing.ts';
import { change, create, note, reconfigured, type ChangeOutcome } from './store-access.ts';
import { recoverStore } from './store-recovery.ts';
import { changeAndPush, involvedIn, push } from './telling.ts';
import { DEFAULT_LIMITS, eventOf, serverOf, wallMs, type Creation, type Manager, type Volume, type Waiter } from './state.ts';
import { clusterStatus } from './cluster-views.ts';
import { hostViews, serverViews, volumeView } from './views.ts';

export type Of<K extends ApiCommand['kind']> = ApiCommand & { readonly kind: K };

const MIRRORS_MAX = 4;
const TAGS_MAX = 50;
/**
 * Creations under way at a time. Each costs a server a few syncs of its disk, in which it serves nobody: on a slow disk 16 of them took 1.4 s,
 * and its copies were taken for silent.
 */
const CREATIONS_MAX = 4;
/** One that is not done after so long waits for something else than a busy disk: it holds nobody up. */
const CREATION_PATIENCE_MS = 5000;
/** Creations that wait for those. */
const CREATIONS_WAITING_MAX = 10_000;

/** For so long a command waits for what is just being done to its volume: a change of its record takes milliseconds, with slow disks of servers some hundred. */
const HELD_MS = 5000;
/** Commands that wait so. */
const HELD_MAX = 1000;

/** One command of the API: checked, carried out, answered exactly once; refused commands change nothing. */
export function onCommand(m: Manager, requestId: number, principal: Principal, command: ApiCommand, deadlineMs = m.nowMs + HELD_MS): void {
  try {
    carryOut(m, requestId, principal, command, deadlineMs);
  } catch (error) {
    if (!(error instanceof AshlarError)) throw error;
    m.fx.answer(requestId, { ok: false, code: error.code, message: error.message });
  }
}

/** In their order, those whose volume is not being changed any more, those that waited for the servers to write down what the store has, and those that have waited long enough. */
export function goOnWithHeld(m: Manager): void {
  if (m.held.length === 0) return;
  const keeping = m.standing.state === 'keeping';
  const waiting = new Set<VolumeId>();
  for (const one of m.held.splice(0)) {
    const volumeId = 'volumeId' in one.command ? one.command.volumeId : null;
    const free = !keeping && (volumeId === null || (!waiting.has(volumeId) && m.volumes.get(volumeId)?.pending !== true));
    if (free || m.nowMs >= one.deadlineMs) onCommand(m, one.requestId, one.principal, one.command, one.deadlineMs);
    else {
      if (volumeId !== null) waiting.add(volumeId);
      m.held.push(one);
    }
  }
}

function carryOut(m: Manager, requestId: number, principal: Principal, command: ApiCommand, deadlineMs: number): void {
  const v = 'volumeId' in command ? m.volumes.get(command.volumeId) : undefined;
  if (!authorize(principal, command.kind, v?.record)) throw new AshlarError('unauthorized', 'this needs the token of the site');
  const ok = (value: unknown): void => m.fx.answer(requestId, { ok: true, value });
  switch (command.kind) {
    case 'server-list': return ok(serverViews(m));
    case 'host-list': return ok(hostViews(m));
    case 'manager-describe': return ok(standingView(m));
    case 'cluster-status': return ok(clusterStatus(m));
    case 'recover': return recoverStore(m, requestId, command);
    default:
      // That takes a few syncs.
      if (m.standing.state === 'keeping' && m.nowMs < deadlineMs && m.held.length < HELD_MAX) return void m.held.push({ requestId, principal, command, deadlineMs });
      checkStanding(m);
  }
  switch (command.kind) {
    case 'volume-create': return createVolume(m, requestId, principal, command);
    case 'volume-list': return ok([...m.volumes.values()].map((volume) => volumeView(m, volume)));
    case 'report': return ok(reportOn(m, new Date(wallMs(m)).toISOString()));
    case 'server-lost': return serverLost(m, requestId, command);
    case 'server-restart': return ok(checkRestart(m, command));
    case 'server-drain': return drainServer(m, requestId, command);
    case 'server-remove': return removeServer(m, requestId, command);
    case 'cluster-modify': return modifyCluster(m, requestId, command);
    case 'server-add': throw new AshlarError('invalid-argument', 'the servers of this site are not started by it; start one where it is to be');
    case 'server-stop':
    case 'server-start':
      if (!m.servers.has(command.serverId)) throw new AshlarError('not-found', `there is no server ${command.serverId}`);
      throw new AshlarError('invalid-argument', 'this server is no process that the system manager has started (`ashlar up --processes`): where it is on another machine, end the daemon there');
    case 'cluster-invite':
    case 'machine-list':
    case 'machine-remove': throw bad('this site is one machine (`ashlar up`): it has no others to invite, list or remove; see `ashlard --config`');
    default: break;
  }
  if (v === undefined) throw new AshlarError('not-found', `there is no volume ${command.volumeId}`);
  if (command.kind === 'volume-describe') return ok(volumeView(m, v));
  if (v.record.state === 'deleting' && command.kind !== 'volume-delete') throw new AshlarError('not-found', `${v.volumeId} is being deleted`);
  if (v.pending) {
    // One thing at a time.
    if (m.nowMs >= deadlineMs || m.held.length >= HELD_MAX) throw new AshlarError('busy', `${v.volumeId} is just being changed`, { retry: 'now' });
    m.held.push({ requestId, principal, command, deadlineMs });
    return;
  }
  switch (command.kind) {
    case 'volume-modify': return modify(m, v, requestId, command);
    case 'volume-grow': return grow(m, v, requestId, command);
    case 'volume-attach': return attach(m, v, requestId, command);
    case 'volume-detach': return detach(m, v, requestId, command);
    case 'volume-delete': return deleteVolume(m, v, requestId);
    case 'volume-scrub': return scrub(m, v, requestId);
    case 'volume-failover': return failover(m, v, requestId, command);
    case 'volume-move': return move(m, v, requestId, command);
    default: unreachable(command);
  }
}

/** Nothing is done on a store that may have forgotten something, and nothing that it says is passed on. */
function checkStanding(m: Manager): void {
  if (acts(m)) return;
  const { state, reason } = standingView(m);
  if (state === 'refusing') throw new AshlarError('store-behind', reason);
  if (state === 'waiting') throw new AshlarError('busy', reason, { retry: 'later' });
}

function bad(message: string): AshlarError { return new AshlarError('invalid-argument', message); }

function wait(m: Manager, v: Volume, requestId: number, check: Waiter['check']): void {
  v.waiters.push({ requestId, deadlineMs: m.nowMs + m.options.commandTimeoutMs, check });
  m.unsettled.add(v.volumeId);
}

/** A change that was not applied: somebody was faster, or the store did not answer. */
function refuse(m: Manager, requestId: number, outcome: 'conflict' | 'unknown'): void {
  const code: ErrorCode = outcome === 'conflict' ? 'busy' : 'unavailable';
  m.fx.answer(requestId, { ok: false, code, message: outcome === 'conflict' ? 'somebody else changed it at the same moment' : 'the metadata store did not answer; look at the state before trying again' });
}

/** The last copy's disk has failed: another epoch would end even its reads. */
function checkChangeable(m: Manager, v: Volume): void {
  if (isFaulted(m, v, primaryOf(v.record.configuration))) throw new AshlarError('io-error', `the disk of the last copy of ${v.volumeId} failed; it can only be read, by the attachment that it has or a read-only one`);
}

function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) throw bad(`a size of ${sizeBytes} bytes is none`);
  if (sizeBytes % BLOCK_BYTES !== 0) throw bad(`the size must be a multiple of ${BLOCK_BYTES} bytes`);
  if (sizeBytes > VOLUME_BYTES_MAX) throw bad(`a volume has at most ${VOLUME_BYTES_MAX / 2 ** 40} TiB`);
}

function checkLimits(limits: Partial<VolumeLimits>): void {
  const { ioTimeoutMs = 0, iops = 0, bandwidthBytes = 0, priority = 5 } = limits;
  if (!(ioTimeoutMs >= 0 && ioTimeoutMs <= 86_400_000)) throw bad('the I/O timeout is between 0 (for ever) and a day');
  if (!(Number.isSafeInteger(iops) && iops >= 0)) throw bad('--iops is a whole number, 0 for no limit');
  if (!(Number.isSafeInteger(bandwidthBytes) && bandwidthBytes >= 0)) throw bad('--bandwidth is a number of bytes a second, 0 for no limit');
  if (!(Number.isSafeInteger(priority) && priority >= 0 && priority <= 9)) throw bad('--priority is between 0 (first) and 9 (last)');
}

function checkCopies(mirrors: number, minCopies: number): void {
  if (!(Number.isSafeInteger(mirrors) && mirrors >= 0 && mirrors <= MIRRORS_MAX)) throw bad(`a volume has 0 to ${MIRRORS_MAX} mirrors`);
  if (!(Number.isSafeInteger(minCopies) && minCopies >= 1 && minCopies <= mirrors + 1)) throw bad(`the minimum of copies is between 1 and ${mirrors + 1} (the primary and ${mirrors} mirrors)`);
}

function checkTags(tags: Readonly<Record<string, string>>): void {
  const entries = Object.entries(tags);
  if (entries.length > TAGS_MAX) throw bad(`at most ${TAGS_MAX} tags`);
  for (const [key, value] of entries) if (key.length === 0 || key.length > 128 || value.length > 256) throw bad('a tag has a key of 1 to 128 characters and a value of up to 256');
}

function createVolume(m: Manager, requestId: number, principal: Principal, command: Of<'volume-create'>): void {
  const { sizeBytes, mirrors, minCopies, durability, tags, clientToken = '', disk = null } = command;
  checkSize(sizeBytes);
  checkCopies(mirrors, minCopies);
  checkLimits(command.limits);
  checkTags(tags);
  const { siteId } = m.options;
  const request: PlacementRequest = { siteId, count: mirrors + 1, exclude: [], apartFrom: [], disk };
  if (command.dryRun === true) return m.fx.answer(requestId, { ok: true, value: placementView(weigh(request, placementServers(m))) });
  const same = clientToken === '' ? undefined : [...m.volumes.values()].find((known) => known.record.clientToken === clientToken);
  if (same !== undefined) return wait(m, same, requestId, (known) => whenAvailable(m, known));
  const known = m.creations.get(clientToken);
  if (known && known.asking.length > 0) {
    known.asking.push(requestId);
    return;
  }
  if (m.creating.size >= CREATIONS_MAX) {
    if (m.waitingCreations.length >= CREATIONS_WAITING_MAX) throw new AshlarError('busy', `${CREATIONS_WAITING_MAX} creations are waiting`, { retry: 'later' });
    m.waitingCreations.push(() => onCommand(m, requestId, principal, command));
    return;
  }
  const servers = placementServers(m);
  const holders = place(request, servers);
  const placement = command.explain === true ? placementView(weigh(request, servers)) : null;
  const creation: Creation = { volumeId: known?.volumeId ?? newVolumeId(m.prng), asking: [requestId] };
  if (clientToken !== '') m.creations.set(clientToken, creation);
  const { volumeId } = creation;
  m.creating.set(volumeId, m.nowMs);
  const configuration: Configuration = {
    volumeId, lineage: 1, epoch: 1, members: holders.map((serverId) => ({ serverId, incarnation: FOUNDING_INCARNATION })), learners: [], attachNumber: 0, sizeBytes, minCopies,
    copiesWanted: mirrors + 1, durability,
  };
  const record: VolumeRecord = {
    volumeId, siteId, owner: principal.kind === 'user' ? principal.name : 'operator', accessList: [], tags, state: 'creating', createdAtMs: wallMs(m),
    limits: { ...DEFAULT_LIMITS, ...command.limits }, attachments: [], configuration, predecessorEnded: true, primaryInstance: serverOf(m, holders[0] as ServerId).record?.instance ?? '',
    holders, givenUp: [], disk, move: null, clientToken,
  };
  const detail = { sizeBytes, mirrors, servers: holders.join(' ') };
  create(m, record, [eventOf(m, 'volume-created', volumeId, 'asked for', detail, 'operator')], (outcome) => {
    const asking = creation.asking.splice(0);
    const v = m.volumes.get(volumeId);
    if (v === undefined) m.creating.delete(volumeId);
    const ours = outcome !== 'conflict' || (clientToken !== '' && v?.record.clientToken === clientToken);
    if (v === undefined || !ours) return asking.forEach((id) => refuse(m, id, outcome === 'conflict' ? 'conflict' : 'unknown'));
    m.creations.delete(clientToken);
    for (const id of asking) wait(m, v, id, (available) => whenAvailable(m, available, placement));
    push(m, v);
    reconcile(m, v);
  });
}

/** As many of the waiting creations as there is room for. One that takes too long, because a server of it is away, is not waited for. */
export function beginCreations(m: Manager): void {
  if (m.waitingCreations.length === 0 && m.creating.size < CREATIONS_MAX) return;
  for (const [id, sinceMs] of m.creating) {
    const v = m.volumes.get(id);
    const under = v === undefined ? m.nowMs - sinceMs < m.options.commandTimeoutMs : v.record.state === 'creating' && m.nowMs - sinceMs < CREATION_PATIENCE_MS;
    if (!under) m.creating.delete(id);
  }
  while (m.creating.size < CREATIONS_MAX) {
    const next = m.waitingCreations.shift();
    if (next === undefined) return;
    next();
  }
}

function whenAvailable(m: Manager, v: Volume, placement: PlacementView | null = null): ApiAnswer | null {
  if (v.record.state !== 'creating') return { ok: true, value: { ...volumeView(m, v), ...(placement === null ? {} : { placement }) } };
  const { members } = v.record.configuration;
  // One that can be made is enough: the others are let go of, and made anew elsewhere.
  if (!members.every(({ serverId }) => isUnmade(m, v, serverId))) return null;
  const [{ serverId }] = members;
  const noSpace = reportOf(m, v, serverId)?.fault === 'no-space';
  return { ok: false, code: noSpace ? 'no-space' : 'io-error', message: `${members.map((member) => member.serverId).join(', ')}: no copy of ${v.volumeId} can be made there, the disk ${noSpace ? 'is full' : 'fails'}; it is tried again until \`ashlar volume delete ${v.volumeId}\`` };
}

function placementView({ chosen, verdicts }: Placement): PlacementView {
  return { servers: chosen, verdicts };
}

function modify(m: Manager, v: Volume, requestId: number, command: Of<'volume-modify'>): void {
  const { configuration } = v.record;
  const mirrors = command.mirrors ?? configuration.copiesWanted - 1;
  const minCopies = command.minCopies ?? configuration.minCopies;
  checkCopies(mirrors, minCopies);
  checkLimits(command.limits ?? {});
  checkTags(command.tags ?? {});
  const durability = command.durability ?? configuration.durability;
  const more = mirrors + 1 - v.record.holders.length;
  if (mirrors > configuration.copiesWanted - 1 && more > 0) place({ siteId: v.record.siteId, count: more, exclude: v.record.holders, apartFrom: involvedIn(configuration), disk: v.record.disk }, placementServers(m));
  const limits = { ...v.record.limits, ...command.limits };
  const base = { ...v.record, limits, tags: command.tags ?? v.record.tags };
  const touches = mirrors + 1 !== configuration.copiesWanted || minCopies !== configuration.minCopies || durability !== configuration.durability;
  if (touches) checkChangeable(m, v);
  const record = touches ? reconfigured(base, { minCopies, copiesWanted: mirrors + 1, durability }) : base;
  const events = [eventOf(m, 'volume-modified', v.volumeId, 'asked for', { minCopies, mirrors, durability, iops: limits.iops, bandwidthBytes: limits.bandwidthBytes }, 'operator')];
  const answer = (outcome: ChangeOutcome): void => {
    if (outcome !== 'applied') return refuse(m, requestId, outcome);
    for (const hostId of new Set(v.record.attachments.map((attachment) => attachment.hostId))) m.fx.toHost(hostId, { kind: 'limits', volumeId: v.volumeId, limits });
    m.fx.answer(requestId, { ok: true, value: volumeView(m, v) });
    reconcile(m, v);
  };
  if (touches) changeAndPush(m, v, record, events, answer);
  else change(m, v, record, events, answer);
}

function grow(m: Manager, v: Volume, requestId: number, command: Of<'volume-grow'>): void {
  checkSize(command.sizeBytes);
  const { sizeBytes } = v.record.configuration;
  if (command.sizeBytes <= sizeBytes) throw bad(`${v.volumeId} has ${sizeBytes} bytes; a volume only grows`);
  checkChangeable(m, v);
  const record = reconfigured(v.record, { sizeBytes: command.sizeBytes });
  const { epoch } = record.configuration;
  changeAndPush(m, v, record, [eventOf(m, 'volume-grown', v.volumeId, 'asked for', { from: sizeBytes, to: command.sizeBytes, epoch }, 'operator')], (outcome) => {
    if (outcome !== 'applied' && v.record.configuration.sizeBytes < command.sizeBytes) return refuse(m, requestId, outcome);
    wait(m, v, requestId, (known) => (known.record.configuration.epoch >= epoch && known.status?.epoch === known.record.configuration.epoch && known.status.serving ? { ok: true, value: volumeView(m, known) } : null));
    reconcile(m, v);
  });
}

function attach(m: Manager, v: Volume, requestId: number, command: Of<'volume-attach'>): void {
  const { readOnly, tcp } = command;
  const copy = command.copy ?? null;
  if (v.record.state === 'creating') throw new AshlarError('busy', `${v.volumeId} is still being created`, { retry: 'later' });
  if (copy !== null && !readOnly) throw bad('one copy alone can only be attached with --read-only');
  if (copy !== null && !v.record.holders.includes(copy)) throw new AshlarError('not-found', `${copy} holds no copy of ${v.volumeId}`);
  const hostId = hostFor(m, command.hostId);
  const known = v.record.attachments.find((attachment) => sameAttachment(attachment, { hostId, readOnly, copy }));
  if (known?.state === 'detaching') throw new AshlarError('busy', `${v.volumeId} is just being detached`, { retry: 'later' });
  const writer = v.record.attachments.find((attachment) => !attachment.readOnly);
  if (!readOnly && writer !== undefined) throw new AshlarError('in-use', `${v.volumeId} has a writer already, on ${writer.hostId}${isHostUp(m, writer.hostId) ? '' : `, which is not up; if it is gone, \`ashlar volume detach ${v.volumeId} --force\` ends that`}`);
  const waitFor = (): void => wait(m, v, requestId, (volume) => whenAttached(volume, { hostId, readOnly, copy }));
  if (known !== undefined) {
    m.fx.toHost(hostId, { kind: 'attach', spec: specOf(v, known), configuration: v.record.configuration });
    waitFor();
    return reconcile(m, v);
  }
  if (!readOnly) checkChangeable(m, v);
  // Only a writer fences others; a reader carries the number that is current.
  const attachNumber = v.record.configuration.attachNumber + (readOnly ? 0 : 1);
  const attachment: AttachmentRecord = { hostId, readOnly, tcp, copy, attachNumber, state: 'attaching', nbd: null, attachedAtMs: wallMs(m) };
  const base: VolumeRecord = { ...v.record, state: 'in-use', attachments: [...v.record.attachments, attachment] };
  const events = [eventOf(m, 'attaching', v.volumeId, 'asked for', { host: hostId, readOnly, attachNumber }, 'operator')];
  v.hostToldMs = -Infinity;
  const then = (): void => {
    if (!v.record.attachments.some((other) => sameAttachment(other, attachment) && other.attachNumber === attachNumber)) return refuse(m, requestId, 'conflict');
    waitFor();
    reconcile(m, v);
  };
  if (readOnly) change(m, v, base, events, then);
  else changeAndPush(m, v, reconfigured(base, { attachNumber }), events, then);
}

function whenAttached(v: Volume, key: { hostId: HostId; readOnly: boolean; copy: ServerId | null }): ApiAnswer | null {
  const attachment = v.record.attachments.find((known) => sameAttachment(known, key));
  if (attachment === undefined) return { ok: false, code: 'unavailable', message: `${key.hostId} could not attach ${v.volumeId}; see the events` };
  if (attachment.state !== 'attached') return null;
  return { ok: true, value: { volumeId: v.volumeId, host: key.hostId, readOnly: key.readOnly, copy: key.copy, nbd: attachment.nbd } };
}

function isHostUp(m: Manager, id: HostId): boolean { return hostViews(m).some((host) => host.hostId === id && host.state === 'up'); }

function hostFor(m: Manager, asked: HostId | undefined): HostId {
  const up = hostViews(m).filter((host) => host.state === 'up');
  if (asked !== undefined) {
    if (!up.some((host) => host.hostId === asked)) throw new AshlarError('not-found', `no host ${asked} is up`);
    return asked;
  }
  if (up.length === 0) throw new AshlarError('unavailable', 'no host is up', { retry: 'later' });
  if (up.length > 1) throw bad(`say which host: ${up.map((host) => host.hostId).join(', ')}`);
  return (up[0] as { hostId: HostId }).hostId;
}

function detach(m: Manager, v: Volume, requestId: number, command: Of<'volume-detach'>): void {
  const copy = command.copy ?? null;
  const candidates = v.record.attachments.filter((attachment) => (command.hostId === undefined || attachment.hostId === command.hostId) && (command.copy === undefined || attachment.copy === copy));
  const writer = candidates.filter((attachment) => !attachment.readOnly);
  const chosen = writer.length > 0 ? writer : candidates;
  if (chosen.length === 0) throw new AshlarError('not-attached', `${v.volumeId} is not attached`);
  if (command.force === true) return forget(m, v, requestId, chosen);
  const attachments = v.record.attachments.map((attachment) => (chosen.includes(attachment) ? { ...attachment, state: 'detaching' as const } : attachment));
  v.hostToldMs = -Infinity;
  change(m, v, { ...v.record, attachments }, [eventOf(m, 'detaching', v.volumeId, 'asked for', { hosts: chosen.map((attachment) => attachment.hostId).join(' ') }, 'operator')], (outcome) => {
    if (outcome !== 'applied') return refuse(m, requestId, outcome);
    wait(m, v, requestId, (known) => (known.record.attachments.some((attachment) => chosen.some((gone) => sameAttachment(attachment, gone))) ? null : { ok: true, value: { volumeId: v.volumeId } }));
    reconcile(m, v);
  });
}

/** Hosts that do not answer are not waited for: a number of attach that nobody was given shuts out their writer, and what they show they are told to end when they are back. */
function forget(m: Manager, v: Volume, requestId: number, chosen: readonly AttachmentRecord[]): void {
  const base = without(m, v, chosen);
  // The last copy's disk takes no writes anyway, and another epoch would end its reads.
  const { configuration } = v.record;
  const lastFailed = configuration.members.length === 1 && isFaulted(m, v, primaryOf(configuration));
  const fences = chosen.some((attachment) => !attachment.readOnly) && !lastFailed;
  const record = fences ? reconfigured(base, { attachNumber: configuration.attachNumber + 1 }) : base;
  changeAndPush(m, v, record, [eventOf(m, 'detached', v.volumeId, 'forced: its host was not waited for', { hosts: chosen.map((attachment) => attachment.hostId).join(' ') }, 'operator')], (outcome) => {
    if (outcome !== 'applied') return refuse(m, requestId, outcome);
    for (const { hostId, readOnly, copy } of chosen) m.fx.toHost(hostId, { kind: 'detach', volumeId: v.volumeId, readOnly, copy });
    m.fx.answer(requestId, { ok: true, value: { volumeId: v.volumeId } });
    reconcile(m, v);
  });
}

function deleteVolume(m: Manager, v: Volume, requestId: number): void {
  if (v.record.attachments.length > 0) throw new AshlarError('in-use', `${v.volumeId} is attached on ${v.record.attachments.map((attachment) => attachment.hostId).join(', ')}`);
  // Answered when no copy can come back; a server that is away is told when it comes back.
  const check: Waiter['check'] = () => (v.gone ? { ok: true, value: { volumeId: v.volumeId } } : null);
  if (v.record.state === 'deleting') return wait(m, v, requestId, check);
  change(m, v, { ...v.record, state: 'deleting' }, [eventOf(m, 'volume-deleting', v.volumeId, 'asked for', {}, 'operator')], (outcome) => {
    if (outcome !== 'applied') return refuse(m, requestId, outcome);
    wait(m, v, requestId, check);
    reconcile(m, v);
  });
}

function scrub(m: Manager, v: Volume, requestId: number): void {
  for (const { serverId } of v.record.configuration.members) m.fx.toServer(serverId, { kind: 'scrub', volumeId: v.volumeId });
  note(m, [eventOf(m, 'scrub-asked', v.volumeId, 'asked for', {}, 'operator')]);
  m.fx.answer(requestId, { ok: true, value: { volumeId: v.volumeId, servers: v.record.configuration.members.map((member) => member.serverId) } });
}

function failover(m: Manager, v: Volume, requestId: number, command: Of<'volume-failover'>): void {
  const { configuration } = v.record;
  if (command.giveUp !== undefined) {
    if (memberOf(configuration, command.giveUp) === undefined) throw new AshlarError('not-found', `${command.giveUp} is not a member of ${v.volumeId}`);
    // Given up beforehand, it would not be waited for on the day on which it has what the others lack.
    if (promotionNeed(m, v) === null || candidate(m, v, null) !== null) throw bad(`nothing of ${v.volumeId} waits for ${command.giveUp}: ${primaryOf(configuration)} leads it, or a copy in sync may take over`);
    const record = { ...v.record, givenUp: [...new Set([...v.record.givenUp, command.giveUp])] };
    return change(m, v, record, [eventOf(m, 'copy-given-up', v.volumeId, 'asked for', { serverId: command.giveUp }, 'operator')], (outcome) => {
      if (outcome !== 'applied') return refuse(m, requestId, outcome);
      m.fx.answer(requestId, { ok: true, value: { volumeId: v.volumeId, givenUp: command.giveUp } });
      reconcile(m, v);
    });
  }
  const before = primaryOf(configuration);
  const to = command.to ?? candidate(m, v, before)?.serverId;
  if (to === undefined) throw new AshlarError('unavailable', `no other copy of ${v.volumeId} in sync may take over`, { retry: 'later' });
  const member = memberOf(configuration, to);
  if (member === undefined) throw new AshlarError('not-found', `${to} is not a member of ${v.volumeId}`);
  if (isPromotable(m, v, member) !== true) throw new AshlarError('unavailable', `the copy on ${to} may not take over now`, { retry: 'later' });
  promote(m, v, to, 'asked for by the operator', 'operator', () => {
    wait(m, v, requestId, (known) => (primaryOf(known.record.configuration) === to && known.status?.epoch === known.record.configuration.epoch && known.status.serving ? { ok: true, value: volumeView(m, known) } : null));
    reconcile(m, v);
  });
}

/** Begins a move, or ends one. The rest is the reconciler's: the copy is built, takes over if the old one is the primary, and the old one leaves. */
function move(m: Manager, v: Volume, requestId: number, { from, to }: Of<'volume-move'>): void {
  const { configuration, move: underWay } = v.record;
  const answer = (outcome: ChangeOutcome): void => {
    if (outcome !== 'applied') return refuse(m, requestId, outcome);
    m.fx.answer(requestId, { ok: true, value: volumeView(m, v) });
    reconcile(m, v);
  };
  if (to === undefined) {
    if (underWay?.from !== from) throw new AshlarError('not-found', `no copy of ${v.volumeId} is being moved away from ${from}`);
    if (memberOf(configuration, underWay.to) !== undefined) throw new AshlarError('busy', `the copy on ${underWay.to} is in sync already; move it back instead`);
    return changeAndPush(m, v, cancelled(v), [eventOf(m, 'move-ended', v.volumeId, 'asked for', { ...underWay }, 'operator')], answer);
  }
  checkChangeable(m, v);
  if (v.record.state === 'creating') throw new AshlarError('busy', `${v.volumeId} is still being created`, { retry: 'later' });
  if (underWay !== null && underWay.from === from && underWay.to === to) return m.fx.answer(requestId, { ok: true, value: volumeView(m, v) });
  if (underWay !== null) throw new AshlarError('busy', `the copy of ${v.volumeId} on ${underWay.from} is just being moved to ${underWay.to}`, { retry: 'later' });
  if (memberOf(configuration, from) === undefined) throw new AshlarError('not-found', `${from} holds no copy of ${v.volumeId} that is in sync`);
  if (involvedIn(configuration).includes(to)) throw new AshlarError('in-use', `${to} holds a copy of ${v.volumeId} already`);
  if (!isUp(m, serverOf(m, to))) throw new AshlarError('unavailable', `there is no server ${to}, or it is not up`, { retry: 'later' });
  // A former copy there is worth something: only what else stands against it counts.
  const stay = configuration.members.map((member) => member.serverId).filter((id) => id !== from);
  const request = { siteId: v.record.siteId, count: 1, exclude: [], apartFrom: stay, disk: v.record.disk };
  place(request, placementServers(m).filter((server) => server.serverId === to || stay.includes(server.serverId)).map((server) => (server.serverId === to ? server : { ...server, state: 'down' as const })));
  change(m, v, { ...v.record, move: { from, to } }, [eventOf(m, 'move-began', v.volumeId, 'asked for', { from, to }, 'operator')], answer);
}
