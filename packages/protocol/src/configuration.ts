import type { ServerId, VolumeId } from '@ashlar/words';

/** A member's admission: which life of that copy was let into the in-sync set. A copy whose machine restarted has a higher one. */
export interface Member {
  readonly serverId: ServerId;
  readonly incarnation: number;
}

/**
 * Incarnation of the copies with which a volume begins (while it is being created, before anything can have been written). Every copy made later draws
 * a number of its own above it, so that an emptied disk is never taken for the member that it was.
 */
export const FOUNDING_INCARNATION = 1;

export type Durability = 'normal' | 'strict';

/**
 * Who holds a volume, as the metadata store has it. Changes only by compare-and-swap on `epoch`; every change raises it.
 * `members[0]` is the primary; the rest are the in-sync mirrors in the order in which they are to be promoted.
 */
export interface Configuration {
  readonly volumeId: VolumeId;
  readonly lineage: number;
  readonly epoch: number;
  readonly members: readonly Member[];
  readonly learners: readonly ServerId[];
  /** Raised by every attach with write access. */
  readonly attachNumber: number;
  readonly sizeBytes: number;
  readonly minCopies: number;
  /** Members wanted: 1 + mirrors. */
  readonly copiesWanted: number;
  readonly durability: Durability;
}

export function primaryOf(configuration: Configuration): ServerId {
  return (configuration.members[0] as Member).serverId;
}

export function memberOf(configuration: Configuration, serverId: ServerId): Member | undefined {
  return configuration.members.find((member) => member.serverId === serverId);
}

/** The next configuration, with the raised epoch. */
export function changed(configuration: Configuration, change: Partial<Omit<Configuration, 'volumeId' | 'epoch'>>): Configuration {
  return { ...configuration, ...change, epoch: configuration.epoch + 1 };
}

/** (attach number from the store, count kept by the node manager): compared in that order. */
export interface SessionGeneration {
  readonly attachNumber: number;
  readonly count: number;
}

export function compareGenerations(a: SessionGeneration, b: SessionGeneration): number {
  return a.attachNumber - b.attachNumber || a.count - b.count;
}
