import { nameOf, partyOf, type Actor, type ActorContext, type Address, type Signal, type StopReason } from '@ashlar/actor';
import type { CopyMessage, CopyReport, Frame, ManagerCommand, ManagerMessage, SessionMessage, SessionReply } from '@ashlar/protocol';
import type { Leases, TimerName } from '@ashlar/replication';
import type { CopyStore } from '@ashlar/store';
import type { Prng, ServerId, VolumeId } from '@ashlar/words';
import { CopyDriver, type CopyPort } from './copy-driver.ts';
import type { CopyTotals } from './figures.ts';
import type { FillPace } from './fill-pace.ts';
import type { ReplyMemory } from './reply-memory.ts';
import { SessionKeys } from './session-keys.ts';

/** From the actors of the same server: what the beacons found out, and that the system manager can be reached. */
export type LocalNotice =
  | { readonly kind: 'relation-lost' | 'peer-silent'; readonly peer: ServerId }
  | { readonly kind: 'committed'; readonly peer: ServerId; readonly epoch: number; readonly seq: number }
  | { readonly kind: 'lease-granted' }
  | { readonly kind: 'manager-up' }
  | { readonly kind: 'retire' };

export type CopyActorMessage = CopyMessage | SessionMessage | LocalNotice | (ManagerCommand & { readonly kind: 'configure' | 'scrub' | 'fill-rate' | 'member-ended' | 'ask-report' });

/** What the copies of one server share. */
export interface CopySurroundings {
  readonly serverId: ServerId;
  readonly managerAddress: Address;
  readonly leases: Leases;
  readonly replies: ReplyMemory;
  readonly pace: FillPace;
  /** What it was sent so far: messages, and the requests and records in them. */
  readonly traffic: { messages: number; requests: number };
  /** So many blocks did not fit their checksums. Copies are striped: which of several directories has them is not told. */
  readonly mismatched: (blocks: number) => void;
  readonly totals: CopyTotals;
  readonly prng: Prng;
  /** True if that server lives in this thread. */
  readonly hosts: (serverId: ServerId) => boolean;
}

/** When its server was asked nothing for so long, what the journal still holds is moved to the extents, so that a restart has little to do. */
const IDLE_MS = 1000;
/**
 * Beside other volumes at work, what was written is moved after about so long: a round costs several syncs, and a thousand volumes with a write now and then
 * would make one for each write. It also bounds what the journals of all of them hold, and with it the memory of their indexes.
 */
const AGE_MS = 30_000;
/** Less than this waits for its age even then: two thousand sessions that are opened leave two thousand records. */
const LITTLE_BYTES = 16 * 1024;
/** A reply that did not fit into a full link breaks its session; how soon the host is told. */
const BROKEN_RETRY_MS = 50;

export function copyAddress(serverId: ServerId, volumeId: VolumeId): Address {
  return `${serverId}/copy/${volumeId}`;
}

/** One copy of one volume as an actor: the driver, its timers, and who is who in its messages. */
export class CopyActor implements Actor<CopyActorMessage>, CopyPort {
  readonly driver: CopyDriver;
  readonly #context: ActorContext;
  readonly #surroundings: CopySurroundings;
  readonly #volumeId: VolumeId;
  readonly #peers = new Map<ServerId, Address>();
  readonly #watched = new Set<string>();
  readonly #senders = new Map<Address, ServerId>();
  readonly #sessions = new SessionKeys();
  readonly #broken = new Map<number, { readonly to: Address; readonly sessionId: number }>();
  #workWanted = false;
  #idleTimer = false;
  #lastAppended = 0;
  /** Since when the journal holds something that was not moved; null: nothing. */
  #heldSinceMs: number | null = null;
  /** Not the same for all: a thousand that began to be written at one time are not moved at one time. */
  readonly #ageMs: number;
  /** Rounds of moving when the age of what is held asked for one more; null: it does not. */
  #roundsAtAge: number | null = null;
  /** The traffic of the server as it was last seen, and when that changed. */
  #trafficSeen: number;
  #trafficMs: number;

  constructor(context: ActorContext, volumeId: VolumeId, store: CopyStore, surroundings: CopySurroundings) {
    this.#context = context;
    this.#volumeId = volumeId;
    this.#surroundings = surroundings;
    this.#trafficSeen = surroundings.traffic.messages;
    this.#trafficMs = context.nowMs();
    this.#ageMs = AGE_MS * (0.75 + surroundings.prng.fraction() / 2);
    this.driver = new CopyDriver(volumeId, surroundings.serverId, store, surroundings.leases, surroundings.prng, this, surroundings.replies, surroundings.pace);
    this.driver.receive({ kind: 'started' });
    this.#watchPeers();
    // What an earlier life left in the journal.
    if (store.figures.backlogBytes > 0) this.wantWork();
    surroundings.totals.began(this.driver);
  }

  receive(message: CopyActorMessage | Signal, from: Address): void {
    switch (message.kind) {
      case 'requests':
      case 'open':
      case 'close':
      case 'probe':
        return this.#onSession(message, from);
      case 'timer': return this.#onTimer(message.name);
      case 'configure':
        this.driver.receive({ kind: 'manager', command: message });
        return this.#watchPeers();
      case 'member-ended':
      case 'ask-report':
        return this.driver.receive({ kind: 'manager', command: message });
      case 'scrub': return this.driver.scrub();
      case 'fill-rate': return this.driver.limitFills(message.bytesPerSecond);
      case 'relation-lost': return this.driver.receive({ kind: 'relation-lost', peer: message.peer });
      case 'peer-silent': return this.driver.receive({ kind: 'peer-silent', peer: message.peer });
      case 'committed': return this.driver.receive({ kind: 'committed', from: message.peer, epoch: message.epoch, seq: message.seq });
      case 'lease-granted': return this.driver.receive({ kind: 'lease-granted' });
      case 'manager-up':
      case 'retire':
        return this.driver.receive({ kind: message.kind });
      case 'link-up':
        if (this.#peers.has(message.party as ServerId)) this.driver.receive({ kind: 'peer-up', peer: message.party as ServerId });
        return;
      case 'link-down':
        for (const key of this.#sessions.ofParty(message.party)) this.#sessionGone(key);
        return;
      case 'down':
        for (const key of this.#sessions.ofAddress(message.address)) this.#sessionGone(key);
        return;
      default: return this.#onPeer(message, from);
    }
  }

  report(): CopyReport { return this.driver.report(); }

  inspect(): unknown {
    const { store, core } = this.driver;
    return {
      volumeId: this.#volumeId, role: core.role, serving: core.serving, epoch: core.durable.promisedEpoch, complete: core.durable.complete, fault: core.durable.fault,
      lastSeq: store.lastSeq, durableSeq: store.durableSeq, committedSeq: store.committedSeq, incarnation: store.incarnation, sessions: this.#sessions.size,
      counts: core.counts, figures: store.figures,
    };
  }

  stop(reason: StopReason): void {
    this.#context.log.info({ volumeId: this.#volumeId, reason, ...this.driver.store.figures }, 'a copy is closed');
    this.#surroundings.totals.ended(this.driver);
    this.driver.close(reason === 'shutdown');
  }

  // ---- CopyPort

  nowMs(): number { return this.#context.nowMs(); }

  send(to: ServerId, message: CopyMessage): void {
    let address = this.#peers.get(to);
    if (!address) {
      address = copyAddress(to, this.#volumeId);
      this.#peers.set(to, address);
    }
    // A message that a full or broken link refuses is one that a broken link loses: its sender repeats it.
    this.#context.send(address, message);
    if (message.kind === 'fill') this.#handled(message.frame);
  }

  answer(key: number, reply: SessionReply): void {
    const session = this.#sessions.get(key);
    if (!session) return;
    const outcome = this.#context.send(session.from, { ...reply, sessionId: session.sessionId } as SessionReply);
    if (reply.kind === 'refused') this.#sessions.delete(key);
    if (outcome !== 'busy') return;
    // The answers of a session that lost one can no longer be complete: the host must open another and ask again.
    this.#broken.set(key, { to: session.from, sessionId: session.sessionId });
    this.#sessionGone(key);
    this.#context.setTimer('broken', this.#context.nowMs() + BROKEN_RETRY_MS);
  }

  tell(message: ManagerMessage): void {
    this.#context.send(this.#surroundings.managerAddress, message);
  }

  setTimer(name: TimerName, atMs: number): void {
    this.#context.setTimer(name, atMs);
  }

  wantWork(): void {
    if (this.#workWanted) return;
    this.#workWanted = true;
    this.#context.atTurnEnd('work', () => {
      this.#workWanted = false;
      this.#work(false);
    });
  }

  traffic(): number { return this.#surroundings.traffic.messages; }

  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void {
    this.#context.log.info({ volumeId: this.#volumeId, ...detail }, name);
    if (name === 'blocks-corrupt') this.#surroundings.mismatched(Number(detail['blocks']));
    this.tell({ kind: 'event', volumeId: this.#volumeId, name, detail });
  }

  // ---- parts

  /** Only the copies of one volume speak to each other. */
  #onPeer(message: CopyMessage, from: Address): void {
    let peer = this.#senders.get(from);
    if (peer === undefined) {
      if (nameOf(from) !== `copy/${this.#volumeId}`) return this.#context.log.warn({ from, volumeId: this.#volumeId, kind: message.kind }, 'not from a copy of this volume; ignored');
      peer = partyOf(from) as ServerId;
      this.#senders.set(from, peer);
    }
    if (message.kind === 'append') this.#count(message.frame);
    this.driver.receive({ kind: 'peer', from: peer, message });
    if (message.kind === 'append' || message.kind === 'fill') this.#handled(message.frame);
    if (message.kind === 'adopt') this.#watchPeers();
  }

  /**
   * The driver has returned: the frame is in the journal, or refused, or held as a copy, and links to others copy what they are given. Only a
   * copy in this same thread may still have it before it; then its memory is left to the garbage collector.
   */
  #handled(frame: Frame): void {
    if (frame.lease === null) return;
    for (const peer of this.#peers.keys()) if (this.#surroundings.hosts(peer)) return;
    frame.lease.release();
    frame.lease = null;
  }

  #count(frame: Frame): void {
    this.#surroundings.traffic.messages++;
    this.#surroundings.traffic.requests += frame.count;
  }

  #onSession(message: SessionMessage, from: Address): void {
    const key = this.#sessions.keyOf(from, message.sessionId);
    if (message.kind === 'open') {
      // One attachment has one session at a time; this one takes the place of those before it.
      for (const other of this.#sessions.ofAddress(from)) if (other !== key) this.#sessionGone(other);
      this.#watch(partyOf(from));
      this.#context.monitor(from);
    }
    if (message.kind === 'requests') this.#count(message.frame);
    this.driver.receive({ kind: 'session', key, message });
    if (message.kind === 'requests') this.#handled(message.frame);
    if (message.kind === 'close') this.#sessions.delete(key);
  }

  #sessionGone(key: number): void {
    this.#sessions.delete(key);
    this.driver.receive({ kind: 'session-gone', key });
  }

  #onTimer(name: string): void {
    if (name === 'tick') return this.driver.receive({ kind: 'timer', name: 'tick' });
    if (name === 'work') return this.#work(false);
    if (name === 'broken') return this.#tellBroken();
    this.#idleTimer = false;
    this.#work(true);
  }

  /** `look`: it is time to look whether what the journal holds is to be moved. */
  #work(look: boolean): void {
    const nowMs = this.#context.nowMs();
    const { appendedBytes, backlogBytes, rounds } = this.driver.store.figures;
    if (appendedBytes !== this.#lastAppended) {
      // Also what a copy is filled with, which is no traffic of its server: it is not idle.
      this.#lastAppended = appendedBytes;
      this.#trafficMs = nowMs;
    }
    // Woken by a sync or a commit that moving waited for: it goes on as it began.
    const quiet = this.#isQuiet(nowMs);
    const eager = (quiet && backlogBytes >= LITTLE_BYTES) || this.#isAged(nowMs, rounds);
    const outcome = this.driver.work(eager, look);
    this.#holds(backlogBytes > 0 && this.driver.store.fault === null, nowMs, look);
    if (outcome === 'errands') return this.#context.setTimer('work', this.driver.errandDueMs);
    // Through a timer, so that what came in meanwhile goes first.
    if (outcome === 'more') this.#context.setTimer('work', nowMs);
  }

  /** As long as the journal holds something it is looked at now and then, whatever it is: records without bytes, and what an earlier life left, too. */
  #holds(something: boolean, nowMs: number, looked: boolean): void {
    if (!something) {
      this.#heldSinceMs = null;
      this.#roundsAtAge = null;
      return;
    }
    if (this.#heldSinceMs === null || looked) this.#setIdleTimer(nowMs + IDLE_MS);
    this.#heldSinceMs ??= nowMs;
  }

  #isQuiet(nowMs: number): boolean {
    const { messages } = this.#surroundings.traffic;
    if (messages === this.#trafficSeen) return nowMs - this.#trafficMs >= IDLE_MS;
    this.#trafficSeen = messages;
    this.#trafficMs = nowMs;
    return false;
  }

  /** One round, which takes all that there is of a volume with little to do. */
  #isAged(nowMs: number, rounds: number): boolean {
    if (this.#heldSinceMs === null || nowMs - this.#heldSinceMs < this.#ageMs) return false;
    this.#roundsAtAge ??= rounds;
    if (rounds === this.#roundsAtAge) return true;
    this.#roundsAtAge = null;
    this.#heldSinceMs = nowMs;
    return false;
  }

  #setIdleTimer(atMs: number): void {
    if (this.#idleTimer) return;
    this.#idleTimer = true;
    this.#context.setTimer('idle', atMs);
  }

  #tellBroken(): void {
    for (const [key, { to, sessionId }] of this.#broken) {
      const { promisedEpoch: epoch } = this.driver.core.durable;
      const reply: SessionReply = { kind: 'refused', sessionId, epoch, reason: 'gap' };
      if (this.#context.send(to, reply) === 'busy') return this.#context.setTimer('broken', this.#context.nowMs() + BROKEN_RETRY_MS);
      this.#broken.delete(key);
    }
  }

  #watchPeers(): void {
    const { configuration } = this.driver.core.durable;
    if (!configuration) return;
    for (const { serverId } of configuration.members) this.#watchPeer(serverId);
    for (const serverId of configuration.learners) this.#watchPeer(serverId);
  }

  #watchPeer(serverId: ServerId): void {
    if (serverId === this.#surroundings.serverId) return;
    if (!this.#peers.has(serverId)) this.#peers.set(serverId, copyAddress(serverId, this.#volumeId));
    this.#watch(serverId);
  }

  #watch(party: string): void {
    if (this.#watched.has(party)) return;
    this.#watched.add(party);
    this.#context.watch(party);
  }
}
