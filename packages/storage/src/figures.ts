import type { Samples } from '@ashlar/figures';
import type { Counts } from '@ashlar/replication';
import { JOURNAL_BYTES_MAX, type StoreFigures } from '@ashlar/store';
import { BLOCK_BYTES, type ServerId } from '@ashlar/words';
import type { CopyDriver, DriverCounts } from './copy-driver.ts';

type Sums = { [K in keyof Counts | keyof DriverCounts | keyof StoreFigures]: number };

/** What the copies of a server did since its process started, those that are gone included: a counter never falls. */
export class CopyTotals {
  readonly #live = new Set<CopyDriver>();
  /** Of lives that have ended; only what is counted, not what is there, is used of it. */
  readonly #ended: Partial<Sums> = {};

  began(driver: CopyDriver): void { this.#live.add(driver); }

  ended(driver: CopyDriver): void {
    if (this.#live.delete(driver)) addTo(this.#ended, driver);
  }

  collect(samples: Samples, serverId: ServerId, faulted: number, nowMs: number): void {
    const sums: Partial<Sums> = { ...this.#ended };
    const there = { journalBytes: 0, backlogBytes: 0, fullestBytes: 0, faulted };
    const roles = new Map<string, number>([['primary', 0], ['following', 0], ['idle', 0]]);
    const lags = new Map<ServerId, Lag>();
    for (const driver of this.#live) {
      const { journalBytes, backlogBytes } = driver.store.figures;
      addTo(sums, driver);
      there.journalBytes += journalBytes;
      there.backlogBytes += backlogBytes;
      there.fullestBytes = Math.max(there.fullestBytes, backlogBytes);
      if (driver.core.durable.fault !== null) there.faulted++;
      roles.set(driver.core.role, (roles.get(driver.core.role) ?? 0) + 1);
      lagsOf(driver, nowMs, lags);
    }
    for (const [role, count] of roles) samples.add('ashlar_server_copies', count, serverId, role);
    samples.add('ashlar_server_faulted_copies', there.faulted, serverId);
    samples.add('ashlar_journal_bytes', there.journalBytes, serverId);
    samples.add('ashlar_journal_backlog_bytes', there.backlogBytes, serverId);
    samples.add('ashlar_journal_fullest_ratio', there.fullestBytes / JOURNAL_BYTES_MAX, serverId);
    for (const [mirror, { records, seconds }] of lags) {
      samples.add('ashlar_mirror_lag_records', records, serverId, mirror);
      samples.add('ashlar_mirror_lag_seconds', seconds, serverId, mirror);
    }
    count(samples, serverId, (key) => sums[key] ?? 0);
  }
}

function addTo(sums: Partial<Sums>, { core, store, counts }: CopyDriver): void {
  for (const figures of [core.counts, store.figures, counts]) {
    for (const [key, value] of Object.entries(figures) as [keyof Sums, number][]) sums[key] = (sums[key] ?? 0) + value;
  }
}

interface Lag {
  records: number;
  seconds: number;
}

/** By mirror, the worst of all volumes that are led here. */
function lagsOf({ state, store }: CopyDriver, nowMs: number, lags: Map<ServerId, Lag>): void {
  for (const { serverId, ackSeq, lastProgressMs, phase } of state.leader?.peers.values() ?? []) {
    let lag = lags.get(serverId);
    if (lag === undefined) lags.set(serverId, (lag = { records: 0, seconds: 0 }));
    const owed = store.lastSeq - Math.max(0, ackSeq);
    if (owed <= 0) continue;
    lag.records = Math.max(lag.records, owed);
    // One that does not follow yet owes everything since it was last heard of; its figures begin anew with it.
    if (phase === 'following') lag.seconds = Math.max(lag.seconds, (nowMs - lastProgressMs) / 1000);
  }
}

function count(samples: Samples, serverId: ServerId, of: (key: keyof Sums) => number): void {
  samples.add('ashlar_journal_appended_bytes_total', of('appendedBytes'), serverId);
  samples.add('ashlar_journal_syncs_total', of('syncs'), serverId);
  samples.add('ashlar_destaged_bytes_total', of('destagedBlocks') * BLOCK_BYTES, serverId);
  samples.add('ashlar_destage_coalesced_bytes_total', of('coalescedBlocks') * BLOCK_BYTES, serverId);
  samples.add('ashlar_destage_rounds_total', of('rounds'), serverId);
  samples.add('ashlar_promotions_total', of('promotions'), serverId);
  samples.add('ashlar_removed_members_total', of('removals'), serverId);
  samples.add('ashlar_joined_members_total', of('joins'), serverId);
  samples.add('ashlar_catch_ups_total', of('journalCatchUps'), serverId, 'journal');
  samples.add('ashlar_catch_ups_total', of('comparisons'), serverId, 'comparison');
  samples.add('ashlar_rebuilds_total', of('rebuilds'), serverId);
  samples.add('ashlar_rebuild_sent_bytes_total', of('rebuildSentBytes'), serverId);
  samples.add('ashlar_rebuild_received_bytes_total', of('filledBytes'), serverId);
  samples.add('ashlar_checksum_errors_total', of('checksumErrors'), serverId);
  samples.add('ashlar_repair_sent_bytes_total', of('repairSentBytes'), serverId);
  samples.add('ashlar_scrubbed_bytes_total', of('scrubbedBlocks') * BLOCK_BYTES, serverId);
  samples.add('ashlar_scrubs_total', of('scrubs'), serverId);
  samples.add('ashlar_refused_sessions_total', of('refusedSessions'), serverId);
  samples.add('ashlar_fenced_frames_total', of('fencedFrames'), serverId);
  samples.add('ashlar_deduplicated_retries_total', of('deduplicatedRetries'), serverId);
}
