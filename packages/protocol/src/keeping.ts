import type { ServerId, VolumeId } from '@ashlar/words';
import type { Configuration } from './configuration.ts';
import type { CopyReport } from './messages.ts';

/**
 * How far the metadata store was when a server was last told: the cluster, the life of the system manager that told it, and the revision of the
 * store's newest change. Servers keep it durably; a store that does not know a mark that it hears of is an old one. docs/adr/0019.
 */
export interface StoreMark {
  readonly cluster: number;
  readonly life: number;
  readonly revision: number;
}

/** A volume's record as the store had it at this revision, as JSON: servers keep it beside their copies and do not look into it. */
export interface KeptRecord {
  readonly volumeId: VolumeId;
  readonly revision: number;
  readonly text: string;
}

/** A volume whose deletion was completed: no file of it is left anywhere. Kept for a time, so that it is not taken for one that was forgotten. */
export interface DeletedVolume {
  readonly volumeId: VolumeId;
  readonly revision: number;
}

/** What a server knows of one copy on its disks. */
export interface HeldCopy {
  readonly report: CopyReport;
  /** The newest that it has promised. */
  readonly configuration: Configuration | null;
}

/** What the manager asks a server to keep. */
export interface Keep {
  /** What the manager takes the server's mark to be. A manager that was replaced does not know it any more. */
  readonly expected: StoreMark | null;
  readonly mark: StoreMark;
  readonly servers: readonly ServerId[];
  readonly records: readonly KeptRecord[];
  readonly deleted: readonly DeletedVolume[];
  /** Named by the answer. */
  readonly number: number;
}

function sameMark(a: StoreMark | null, b: StoreMark | null): boolean {
  if (a === null || b === null) return a === b;
  return a.cluster === b.cluster && a.life === b.life && a.revision === b.revision;
}

/**
 * Whether a server takes it: from the life of the manager that it knows, or from another that knows what this server was told last. Two managers at a
 * time exclude each other by that.
 */
export function mayKeep(mark: StoreMark | null, keep: Keep): boolean {
  return sameMark(mark, keep.expected) || (mark !== null && mark.cluster === keep.mark.cluster && mark.life === keep.mark.life);
}

/** The mark after it: within a life it never goes back. */
export function markAfter(mark: StoreMark | null, keep: Keep): StoreMark {
  return mark !== null && mark.life === keep.mark.life && mark.revision > keep.mark.revision ? mark : keep.mark;
}

/** For people. */
export function showCluster(cluster: number): string {
  return `cluster-${cluster.toString(16).padStart(12, '0')}`;
}
