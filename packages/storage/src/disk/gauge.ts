import type { DirectoryHealth } from '@ashlar/protocol';
import type { DiskError } from '@ashlar/store';

/** A disk whose syncs take so long on average is about to make its copies slow: replication reports those at 250 ms an acknowledgement. */
const SLOW_SYNC_MS = 500;
/** The last so many syncs make the average. */
const SYNCS = 16;

/** How one directory of a server behaves, as all copies in it meet it. */
export class Gauge {
  readonly path: string;
  #ioErrors = 0;
  #mismatches = 0;
  #syncMs = 0;
  #final = false;

  constructor(path: string) {
    this.path = path;
  }

  /** A full disk is no bad disk. */
  failed(error: DiskError): void {
    if (error.code !== 'ENOSPC' && error.code !== 'ENOENT') this.#ioErrors += 1;
  }

  synced(tookMs: number): void {
    this.#syncMs += (tookMs - this.#syncMs) / SYNCS;
  }

  /** What was written before it is not to be trusted, and it is not tried again (G3). One that found no room says nothing about the disk. */
  syncFailed(error: DiskError): void {
    this.failed(error);
    if (error.code !== 'ENOSPC') this.#final = true;
  }

  /** Blocks read from it did not fit their checksums. */
  mismatched(blocks: number): void {
    this.#mismatches += blocks;
  }

  health(): DirectoryHealth {
    const suspect = this.#ioErrors > 0 || this.#mismatches > 0 || this.#syncMs > SLOW_SYNC_MS;
    return { path: this.path, health: this.#final ? 'failed' : suspect ? 'suspect' : 'ok', ioErrors: this.#ioErrors, mismatches: this.#mismatches, syncMs: Math.round(this.#syncMs * 100) / 100 };
  }
}
