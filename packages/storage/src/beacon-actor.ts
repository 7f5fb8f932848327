import { partyOf, type Actor, type ActorContext, type Address, type Message, type Signal } from '@ashlar/actor';
import type { BeaconMessage, CommitPoint } from '@ashlar/protocol';
import { BEACON_INTERVAL_MS, type BeaconEffects, type BeaconTable } from '@ashlar/replication';
import type { ServerId, VolumeId } from '@ashlar/words';
import { copyAddress, type LocalNotice } from './copy-actor.ts';

export function beaconAddress(serverId: ServerId): Address {
  return `${serverId}/beacon`;
}

/** A copy leads, and a mirror follows it: until the first beacon is answered, its reads wait. A server without led volumes has no timer. */
export interface BeaconWanted { readonly kind: 'beacon-wanted' }

/** Leases and commit points of all volumes of one server, towards each other server. */
export class BeaconActor implements Actor<BeaconMessage | BeaconWanted>, BeaconEffects {
  readonly #context: ActorContext;
  readonly #serverId: ServerId;
  readonly #table: BeaconTable;
  #ticking = false;

  constructor(context: ActorContext, serverId: ServerId, table: BeaconTable) {
    this.#context = context;
    this.#serverId = serverId;
    this.#table = table;
    this.#keepTicking();
  }

  receive(message: BeaconMessage | BeaconWanted | Signal, from: Address): void {
    switch (message.kind) {
      case 'beacon':
      case 'grant':
        if (from !== beaconAddress(partyOf(from) as ServerId)) return;
        return this.#table.receive(this.#context.nowMs(), partyOf(from) as ServerId, message, this);
      case 'timer':
        this.#ticking = false;
        this.#table.tick(this.#context.nowMs(), this);
        return this.#keepTicking();
      case 'beacon-wanted':
        this.#ticking = true;
        return this.#context.setTimer('beacon', this.#context.nowMs());
      default: return;
    }
  }

  inspect(): unknown {
    return { serverId: this.#serverId, instance: this.#table.instance, active: this.#table.active };
  }

  #keepTicking(): void {
    if (this.#ticking || !this.#table.active) return;
    this.#ticking = true;
    this.#context.setTimer('beacon', this.#context.nowMs() + BEACON_INTERVAL_MS);
  }

  // ---- BeaconEffects

  sendBeacon(to: ServerId, message: BeaconMessage): void {
    this.#context.send(beaconAddress(to), message);
  }

  leaseGranted(volumeIds: readonly VolumeId[]): void {
    for (const volumeId of volumeIds) this.#tell(volumeId, { kind: 'lease-granted' });
  }

  relationLost(peer: ServerId, volumeId: VolumeId): void {
    this.#tell(volumeId, { kind: 'relation-lost', peer });
  }

  peerSilent(peer: ServerId, volumeIds: Iterable<VolumeId>): void {
    for (const volumeId of volumeIds) this.#tell(volumeId, { kind: 'peer-silent', peer });
  }

  committed(from: ServerId, point: CommitPoint): void {
    this.#tell(point.volumeId, { kind: 'committed', peer: from, epoch: point.epoch, seq: point.committedSeq });
  }

  #tell(volumeId: VolumeId, notice: LocalNotice): void {
    this.#context.send(copyAddress(this.#serverId, volumeId), notice as Message);
  }
}
