import { markAfter, mayKeep, type DeletedVolume, type HeldCopy, type Keep, type KeptRecord, type ServerMessage, type StoreMark } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';

/** What a server keeps, in memory, for tests and the simulator: the contract of storage's ledger. It outlives the server's process. */
export class MemoryLedger {
  mark: StoreMark | null = null;
  servers: readonly ServerId[] = [];
  readonly records = new Map<VolumeId, KeptRecord>();
  readonly deleted = new Map<VolumeId, DeletedVolume>();

  keep(keep: Keep): { readonly mark: StoreMark | null; readonly taken: boolean; readonly failed: boolean } {
    const taken = mayKeep(this.mark, keep);
    if (taken) {
      for (const record of keep.records) if ((this.records.get(record.volumeId)?.revision ?? 0) <= record.revision) this.records.set(record.volumeId, record);
      for (const volume of keep.deleted) {
        this.deleted.set(volume.volumeId, volume);
        if ((this.records.get(volume.volumeId)?.revision ?? Infinity) < volume.revision) this.records.delete(volume.volumeId);
      }
      this.mark = markAfter(this.mark, keep);
      this.servers = keep.servers;
    }
    return { mark: this.mark, taken, failed: false };
  }

  told(serverId: ServerId, token: number, copies: readonly HeldCopy[]): ServerMessage & { readonly kind: 'server-ledger' } {
    const { mark, servers, records, deleted } = this;
    return { kind: 'server-ledger', serverId, token, part: 0, last: true, mark, servers, records: [...records.values()], deleted: [...deleted.values()], copies };
  }

  /** Becomes what another one is; without one, empty. */
  become(other: MemoryLedger = new MemoryLedger()): void {
    this.mark = other.mark;
    this.servers = other.servers;
    this.records.clear();
    this.deleted.clear();
    for (const [id, record] of other.records) this.records.set(id, record);
    for (const [id, volume] of other.deleted) this.deleted.set(id, volume);
  }
}
