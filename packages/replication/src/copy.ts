import { memberOf, primaryOf, type Configuration, type CopyMessage, type CopyReport } from '@ashlar/protocol';
import { unreachable, type Prng, type ServerId, type VolumeId } from '@ashlar/words';
import type { Leases } from './beacon.ts';
import { onCompared, onExtentCompared, onExtents, onFilled, onCompleted } from './catch-up.ts';
import type { DurableState, Effects, LogView } from './effects.ts';
import { advance } from './commit.ts';
import * as follower from './follower.ts';
import { LEASE_MS } from './limits.ts';
import { onSaved, promise, report } from './durable.ts';
import { lead, memberEnded, onAppendCorrupt, onFenced, onMemberEnded, onPeerSilent, onPeerUp, onSynced as leaderSynced, onStoreFailed as leaderFailed, onTick } from './leader.ts';
import { onLeaseReturned } from './lease-return.ts';
import { stepDown } from './leading.ts';
import { onAdopted, onGap, onHistorySent, onProgress, onRelationLost } from './peers.ts';
import { onReadCorrupt, onRepaired, releaseReads } from './reads.ts';
import { missedAs, onRetiring, retire, type MissedAs } from './retiring.ts';
import { answerOpens, onSession, onSessionGone } from './sessions.ts';
import { tellStatus } from './status.ts';
import { newCounts, type Copy, type CopyInput, type Counts } from './state.ts';

/**
 * One copy of one volume: primary, mirror or learner, as its configuration says. Deterministic; does no I/O.
 * After PacificA (Lin et al. 2008); the rules and the losses they prevent are in docs/ARCHITECTURE.md.
 */
export class CopyCore {
  readonly #copy: Copy;

  constructor(volumeId: VolumeId, self: ServerId, log: LogView, durable: DurableState, leases: Leases, prng: Prng) {
    this.#copy = {
      volumeId, self, log, leases, prng, durable, fx: undefined as unknown as Effects, nowMs: 0, saveToken: 0, savingWhole: false, syncs: { asked: 0, ended: 0 }, asked: 0, saving: [],
      follower: null, leader: null, lastLed: null, grants: new Map(), returned: null, dismissedEpoch: 0, counts: newCounts(),
    };
  }

  receive(nowMs: number, input: CopyInput, effects: Effects): void {
    const copy = this.#copy;
    copy.nowMs = nowMs;
    copy.fx = effects;
    dispatch(copy, input);
    if (copy.leader) answerOpens(copy, copy.leader);
  }

  get counts(): Counts { return this.#copy.counts; }
  get durable(): DurableState { return this.#copy.durable; }
  get role(): 'primary' | 'following' | 'idle' { return this.#copy.leader ? 'primary' : this.#copy.follower?.following ? 'following' : 'idle'; }
  get serving(): boolean { return this.#copy.leader?.serving ?? false; }
  /** As what it would be missed if its process ended now; null: by nobody, or nobody can help it. */
  get missedAs(): MissedAs | null { return missedAs(this.#copy); }
  /** For checks and `inspect` only. */
  get state(): Readonly<Copy> { return this.#copy; }

  report(): CopyReport { return report(this.#copy); }
}

function dispatch(c: Copy, input: CopyInput): void {
  switch (input.kind) {
    case 'started': return started(c);
    case 'peer': return onPeer(c, input.from, input.message);
    case 'session': return onSession(c, input.key, input.message);
    case 'session-gone': return onSessionGone(c, input.key);
    case 'manager':
      if (input.command.kind === 'member-ended') return onMemberEnded(c, input.command.serverId, input.command.instance);
      if (input.command.kind === 'ask-report') return onAskReport(c, input.command.token);
      return onConfigure(c, input.command.configuration, input.command.predecessorEnded);
    case 'relation-lost': return onRelationLost(c, input.peer);
    case 'peer-silent': return onPeerSilent(c, input.peer);
    case 'manager-up': return tellAll(c);
    case 'retire': return retire(c);
    case 'peer-up': return onPeerUp(c, input.peer);
    case 'committed': return follower.onCommitted(c, input.from, input.epoch, input.seq);
    case 'lease-granted': return releaseReads(c);
    case 'synced':
      c.syncs.ended++;
      if (c.leader) leaderSynced(c, c.leader);
      else follower.onSynced(c);
      return;
    case 'saved': return onSaved(c, input.token);
    case 'store-failed':
      if (c.leader) leaderFailed(c, c.leader, input.fault);
      else follower.onStoreFailed(c, input.fault);
      return;
    case 'history-sent': return onHistorySent(c, input.to, input.throughSeq);
    case 'extent-compared': return onExtentCompared(c, input.to, input.extent, input.differing, input.pieces);
    case 'read-corrupt': return onReadCorrupt(c, input.read, input.extent);
    case 'corrupt-found': return follower.onCorruptFound(c, input.extent);
    case 'append-corrupt':
      if (c.leader) onAppendCorrupt(c, c.leader, input.block);
      return;
    case 'timer': return onTick(c);
    default: return unreachable(input);
  }
}

function onPeer(c: Copy, from: ServerId, message: CopyMessage): void {
  switch (message.kind) {
    case 'adopt': return follower.onAdopt(c, from, message);
    case 'follow': return follower.onFollow(c, from, message);
    case 'restart-log': return follower.onRestartLog(c, from, message);
    case 'append': return follower.onAppend(c, from, message.frame);
    case 'sync': return follower.onSync(c, from, message.epoch);
    case 'list-extents': return follower.onListExtents(c, from, message);
    case 'compare': return follower.onCompare(c, from, message);
    case 'complete': return follower.onComplete(c, from, message);
    case 'fill':
      if (c.leader) onRepaired(c, c.leader, message);
      else follower.onFill(c, from, message);
      return;
    case 'repair': return follower.onRepair(c, from, message);
    case 'adopted': return onAdopted(c, from, message);
    case 'progress': return onProgress(c, from, message);
    case 'gap': return onGap(c, from, message);
    case 'fenced': return onFenced(c, from, message.epoch);
    case 'leaving': return follower.onLeaving(c, from, message);
    case 'lease-returned': return onLeaseReturned(c, from, message.epoch);
    case 'retiring': return onRetiring(c, from, message.epoch);
    case 'extents': return onExtents(c, from, message);
    case 'compared': return onCompared(c, from, message);
    case 'filled': return onFilled(c, from, message);
    case 'completed': return onCompleted(c, from, message);
    default: return unreachable(message);
  }
}

/** A copy comes back without a role, and must assume that it had just given a lease to somebody. */
function started(c: Copy): void {
  if (c.durable.configuration) c.grants.set('', { epoch: 0, untilMs: c.nowMs + LEASE_MS });
  tellAll(c);
}

function tellAll(c: Copy): void {
  c.fx.tell({ kind: 'report', copy: report(c) });
  if (c.leader) tellStatus(c, c.leader, true);
}

function onAskReport(c: Copy, token: number): void {
  c.asked = token;
  tellAll(c);
}

/** The metadata store's configuration, perhaps late, perhaps repeated. */
function onConfigure(c: Copy, configuration: Configuration, predecessorEnded: boolean): void {
  const known = c.durable.configuration;
  if (c.leader && configuration.epoch === c.leader.epoch) {
    if (predecessorEnded) predecessorIsGone(c, c.leader.predecessor);
    return;
  }
  if (configuration.epoch < c.durable.promisedEpoch || (known && configuration.epoch <= known.epoch)) return;
  const me = memberOf(configuration, c.self);
  const promotable = primaryOf(configuration) === c.self && me?.incarnation === c.log.incarnation && c.durable.complete && mayLead(c, configuration) && c.durable.promisedEpoch < configuration.epoch;
  if (c.leader) stepDown(c, configuration.epoch);
  if (!promotable) {
    // A mirror hears the same from its new primary, and promises then. Until that it keeps what it promised.
    if (!me && !configuration.learners.includes(c.self)) {
      c.follower = null;
      c.dismissedEpoch = configuration.epoch;
    }
    c.fx.tell({ kind: 'report', copy: report(c) });
    return;
  }
  const predecessor = known?.epoch === configuration.epoch - 1 ? primaryOf(known) : null;
  promise(c, configuration, () => {
    // Its disk may have failed meanwhile, which the manager was told.
    if (!mayLead(c, configuration)) return;
    lead(c, configuration, predecessor);
    if (predecessorEnded) predecessorIsGone(c, predecessor);
  });
}

/** The last copy goes on answering reads with a disk that has failed; where there are others one of them is to lead. */
function mayLead(c: Copy, { members }: Configuration): boolean { return c.durable.fault === null || members.length === 1; }

/**
 * Its supervisor saw the process end, and it had outlasted the leases of those before it: none that we gave is anybody's any more, nor one of our
 * former life that we do not know of.
 */
function predecessorIsGone(c: Copy, predecessor: ServerId | null): void {
  c.grants.clear();
  if (!c.leader) return;
  if (predecessor === null || predecessor === c.self) return advance(c, c.leader);
  // Whoever has answered us in this epoch is another life than the one that ended before it.
  if (c.leader.peers.get(predecessor)?.instance === 0) memberEnded(c, c.leader, predecessor);
  advance(c, c.leader);
}
