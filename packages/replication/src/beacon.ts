import type { BeaconMessage, CommitPoint, Release } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';
import { BEACON_INTERVAL_MS, LATE_MS, LEASE_MARGIN_MS, LEASE_MS, SILENT_MS } from './limits.ts';

/** What a copy asks of its server's beacons. */
export interface Leases {
  /** Names this life of the process. */
  readonly instance: number;
  /** Leader: this peer follows us in this epoch. */
  establish(peer: ServerId, volumeId: VolumeId, epoch: number, instance: number, nowMs: number): void;
  /** Leader: until when reads may be answered, as far as this peer is concerned. 0: not at all. */
  leaseUntilMs(peer: ServerId, volumeId: VolumeId, epoch: number): number;
  /** Leader: leads this volume no more. */
  end(volumeId: VolumeId): void;
  /** Leader: tell the mirrors in the next beacon. */
  committed(volumeId: VolumeId, epoch: number, seq: number): void;
  heardAtMs(peer: ServerId): number;
  /** Leader: a read waits for a lease; say when a grant arrives. */
  wait(volumeId: VolumeId): void;
  /** Grantor: from now on only `leader` in `epoch` gets grants of this volume. Returns the end of what was granted to the one before, in its epoch. */
  promise(volumeId: VolumeId, epoch: number, leader: ServerId | null, nowMs: number): Given | null;
}

/** A lease that was granted. */
export interface Given {
  readonly to: ServerId;
  readonly epoch: number;
  readonly untilMs: number;
}

interface Relation {
  readonly epoch: number;
  readonly sinceMs: number;
}

/** All that is known of one other server. */
interface Pair {
  /** As leader: what we lead and it follows, in this life of its process. */
  readonly leads: Map<VolumeId, Relation>;
  instance: number;
  grantedSentAtMs: number;
  /** When the last beacon went to it. */
  askedAtMs: number;
  heardAtMs: number;
  silent: boolean;
  releasesSeen: number;
  /** What it followed in a former life, and has not been told of yet. */
  readonly lost: Set<VolumeId>;
  /** The highest epoch of each volume that the peer has released. Promises are durable, so this holds across its lives, and guards against a late `adopted`. */
  readonly released: Map<VolumeId, number>;
  readonly commits: Map<VolumeId, CommitPoint>;
  /** As grantor: leases given to it end here. */
  grantUntilMs: number;
  releases: Release[];
}

export interface BeaconEffects {
  sendBeacon(to: ServerId, message: BeaconMessage): void;
  /** Waiting reads of these volumes may go on. */
  leaseGranted(volumeIds: readonly VolumeId[]): void;
  /** The peer lives a new life, or follows somebody else: adopt it again. */
  relationLost(peer: ServerId, volumeId: VolumeId): void;
  peerSilent(peer: ServerId, volumeIds: Iterable<VolumeId>): void;
  committed(from: ServerId, point: CommitPoint): void;
}

/**
 * Leases and commit points between this server and each other one, for all volumes in one message, so that an idle
 * volume costs nothing. Pure; the driver calls `tick` every BEACON_INTERVAL_MS while `active`.
 */
export class BeaconTable implements Leases {
  readonly instance: number;
  readonly #pairs = new Map<ServerId, Pair>();
  /** As grantor: whom we follow, by volume. */
  readonly #follows = new Map<VolumeId, { readonly leader: ServerId; readonly epoch: number }>();
  readonly #waiting = new Set<VolumeId>();
  #releaseNumber = 0;
  #lastTickMs = 0;

  readonly #onRelation: () => void;

  /** `onRelation`: a relation began, and its lease waits for the next `tick`. */
  constructor(instance: number, onRelation: () => void = () => {}) {
    this.instance = instance;
    this.#onRelation = onRelation;
  }

  establish(peer: ServerId, volumeId: VolumeId, epoch: number, instance: number, nowMs: number): void {
    const pair = this.#pair(peer);
    if (pair.leads.size === 0) pair.heardAtMs = nowMs;
    if ((pair.released.get(volumeId) ?? 0) >= epoch) return;
    if (instance !== pair.instance) this.#newLife(pair, instance);
    pair.leads.set(volumeId, { epoch, sinceMs: nowMs });
    pair.askedAtMs = -Infinity;
    this.#onRelation();
  }

  leaseUntilMs(peer: ServerId, volumeId: VolumeId, epoch: number): number {
    const pair = this.#pairs.get(peer);
    const relation = pair?.leads.get(volumeId);
    if (!pair || !relation || relation.epoch !== epoch) return 0;
    // A grant counts only if its beacon was sent after the relation was known on both sides.
    if (pair.grantedSentAtMs < relation.sinceMs) return 0;
    return pair.grantedSentAtMs + LEASE_MS - LEASE_MARGIN_MS;
  }

  end(volumeId: VolumeId): void {
    for (const pair of this.#pairs.values()) {
      pair.leads.delete(volumeId);
      pair.commits.delete(volumeId);
    }
  }

  committed(volumeId: VolumeId, epoch: number, seq: number): void {
    for (const pair of this.#pairs.values()) {
      if (!pair.leads.has(volumeId)) continue;
      const known = pair.commits.get(volumeId) as { epoch: number; committedSeq: number } | undefined;
      if (known) {
        known.epoch = epoch;
        known.committedSeq = seq;
      } else pair.commits.set(volumeId, { volumeId, epoch, committedSeq: seq });
    }
  }

  wait(volumeId: VolumeId): void {
    this.#waiting.add(volumeId);
  }

  heardAtMs(peer: ServerId): number {
    return this.#pairs.get(peer)?.heardAtMs ?? 0;
  }

  promise(volumeId: VolumeId, epoch: number, leader: ServerId | null, _nowMs: number): Given | null {
    const former = this.#follows.get(volumeId);
    if (leader === null) this.#follows.delete(volumeId);
    else this.#follows.set(volumeId, { leader, epoch });
    if (!former) return null;
    const pair = this.#pair(former.leader);
    if (former.epoch < epoch) pair.releases.push({ number: ++this.#releaseNumber, volumeId, epoch: epoch - 1 });
    return { to: former.leader, epoch: former.epoch, untilMs: pair.grantUntilMs };
  }

  /** True while some volume is led here with followers elsewhere: beacons are due. */
  get active(): boolean {
    for (const pair of this.#pairs.values()) if (pair.leads.size > 0) return true;
    return false;
  }

  tick(nowMs: number, effects: BeaconEffects): void {
    const lateMs = nowMs - this.#lastTickMs - BEACON_INTERVAL_MS;
    this.#lastTickMs = nowMs;
    if (lateMs > LATE_MS) for (const pair of this.#pairs.values()) pair.heardAtMs = Math.min(nowMs, pair.heardAtMs + lateMs);
    for (const [peer, pair] of this.#pairs) {
      this.#tellLost(peer, pair, effects);
      if (pair.leads.size === 0) continue;
      this.#ask(nowMs, peer, pair, effects);
      if (nowMs - pair.heardAtMs > SILENT_MS && !pair.silent) {
        pair.silent = true;
        effects.peerSilent(peer, pair.leads.keys());
      }
    }
  }

  /** Not again so soon: what went with the last grant was this beacon. */
  #ask(nowMs: number, peer: ServerId, pair: Pair, effects: BeaconEffects): void {
    if (nowMs - pair.askedAtMs < BEACON_INTERVAL_MS / 2) return;
    pair.askedAtMs = nowMs;
    effects.sendBeacon(peer, { kind: 'beacon', sentAtMs: nowMs, instance: this.instance, releasesOf: pair.instance, releasesSeen: pair.releasesSeen, commits: [...pair.commits.values()] });
    pair.commits.clear();
  }

  receive(nowMs: number, from: ServerId, message: BeaconMessage, effects: BeaconEffects): void {
    const pair = this.#pair(from);
    if (message.kind === 'beacon') this.#onBeacon(nowMs, from, pair, message, effects);
    else this.#onGrant(nowMs, from, pair, message, effects);
  }

  #onBeacon(nowMs: number, from: ServerId, pair: Pair, message: BeaconMessage & { kind: 'beacon' }, effects: BeaconEffects): void {
    if (message.releasesOf === this.instance) pair.releases = pair.releases.filter((release) => release.number > message.releasesSeen);
    pair.grantUntilMs = Math.max(pair.grantUntilMs, nowMs + LEASE_MS);
    effects.sendBeacon(from, { kind: 'grant', sentAtMs: message.sentAtMs, instance: this.instance, releases: pair.releases });
    // Two servers that follow each other ask in one rhythm, the second with its grant: a quarter of the messages, a third of the wake-ups less.
    if (pair.leads.size > 0) this.#ask(nowMs, from, pair, effects);
    for (const point of message.commits) {
      const followed = this.#follows.get(point.volumeId);
      if (followed?.leader === from && followed.epoch === point.epoch) effects.committed(from, point);
    }
  }

  #onGrant(nowMs: number, from: ServerId, pair: Pair, message: BeaconMessage & { kind: 'grant' }, effects: BeaconEffects): void {
    pair.heardAtMs = nowMs;
    pair.silent = false;
    if (message.instance !== pair.instance) {
      this.#newLife(pair, message.instance);
      return this.#tellLost(from, pair, effects);
    }
    for (const release of message.releases) {
      pair.releasesSeen = Math.max(pair.releasesSeen, release.number);
      pair.released.set(release.volumeId, Math.max(release.epoch, pair.released.get(release.volumeId) ?? 0));
      const relation = pair.leads.get(release.volumeId);
      if (!relation || relation.epoch > release.epoch) continue;
      pair.leads.delete(release.volumeId);
      effects.relationLost(from, release.volumeId);
    }
    if (message.sentAtMs <= pair.grantedSentAtMs) return;
    pair.grantedSentAtMs = message.sentAtMs;
    const waited = [...this.#waiting].filter((volumeId) => pair.leads.has(volumeId));
    for (const volumeId of waited) this.#waiting.delete(volumeId);
    if (waited.length > 0) effects.leaseGranted(waited);
  }

  /** The peer's process started anew: what its former life promised is void. */
  #newLife(pair: Pair, instance: number): void {
    pair.instance = instance;
    for (const volumeId of pair.leads.keys()) pair.lost.add(volumeId);
    pair.leads.clear();
    pair.grantedSentAtMs = -1;
    pair.releasesSeen = 0;
  }

  /** Volumes of which the new life has said nothing yet: they are to be adopted again. One that is led no more is told in vain. */
  #tellLost(peer: ServerId, pair: Pair, effects: BeaconEffects): void {
    if (pair.lost.size === 0) return;
    const lost = [...pair.lost].filter((volumeId) => !pair.leads.has(volumeId));
    pair.lost.clear();
    for (const volumeId of lost) effects.relationLost(peer, volumeId);
  }

  #pair(peer: ServerId): Pair {
    let pair = this.#pairs.get(peer);
    if (!pair) {
      pair = {
        leads: new Map(), instance: 0, grantedSentAtMs: -1, askedAtMs: -Infinity, heardAtMs: 0, silent: false, releasesSeen: 0, lost: new Set(), released: new Map(), commits: new Map(),
        grantUntilMs: 0, releases: [],
      };
      this.#pairs.set(peer, pair);
    }
    return pair;
  }
}

export { BEACON_INTERVAL_MS };
