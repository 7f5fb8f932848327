/** A figure as Prometheus knows it. Names and units by its conventions: base units, `_total` for what only rises. */
export type Figure =
  | { readonly type: 'counter' | 'gauge'; readonly help: string; readonly labels: readonly string[] }
  | { readonly type: 'histogram'; readonly help: string; readonly labels: readonly string[]; readonly bounds: readonly number[] };

/** Seconds. A cached 4k request takes 30 to 300 µs; the I/O timeout is a minute. */
export const LATENCY_BOUNDS = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60] as const;
/** Seconds. Timers are set to the millisecond; beyond 0.3 others take a thread for silent. */
export const DELAY_BOUNDS = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1, 3, 10] as const;

const counter = (help: string, ...labels: readonly string[]): Figure => ({ type: 'counter', help, labels });
const gauge = (help: string, ...labels: readonly string[]): Figure => ({ type: 'gauge', help, labels });
const histogram = (bounds: readonly number[], help: string, ...labels: readonly string[]): Figure => ({ type: 'histogram', help, labels, bounds });

/**
 * Every figure there is. None is labelled by anything that grows with requests or clients: by volume are two (they grow with the number of volumes), by
 * server, host, thread and a fixed list of words all others. docs/metrics.md says of each what it is good for.
 */
export const FIGURES = {
  ashlar_build_info: gauge('1; the version of the system manager.', 'version'),
  ashlar_party_answered: gauge('1 if the party gave its figures for this answer, 0 if it did not in time: its figures are then missing.', 'party'),

  ashlar_host_request_duration_seconds: histogram(LATENCY_BOUNDS, 'Time from the admission of a request by the node manager to the answer of the primary, of requests that succeeded.', 'host', 'operation'),
  ashlar_host_transferred_bytes_total: counter('Bytes read and written by programs.', 'host', 'operation'),
  ashlar_host_failed_requests_total: counter('Requests that were answered with an error.', 'host'),
  ashlar_host_timed_out_requests_total: counter('Requests that stalled for longer than the I/O timeout of their volume; they are among the failed ones.', 'host'),
  ashlar_host_resent_frames_total: counter('Frames of requests that were sent again in another session.', 'host'),
  ashlar_host_refused_sessions_total: counter('Refusals by storage servers to open or go on with a session.', 'host', 'reason'),
  ashlar_host_attachments: gauge('Attachments that are open.', 'host'),
  ashlar_host_up: gauge('1 if the system manager is linked with the host.', 'host'),

  ashlar_server_up: gauge('1 if the system manager hears the server.', 'server'),
  ashlar_server_capacity_bytes: gauge('Size of the file systems of its directories.', 'server'),
  ashlar_server_used_bytes: gauge('Used of that, by whomever.', 'server'),
  ashlar_server_copies: gauge('Copies on the server, by what they do.', 'server', 'role'),
  ashlar_server_faulted_copies: gauge('Copies that stay down or accept nothing new: a disk error, corruption, or too many restarts.', 'server'),

  ashlar_disk_healthy: gauge('1 while nothing speaks against the directory, 0 when it made errors, was slow, or has failed.', 'server', 'directory'),
  ashlar_disk_io_errors_total: counter('Reads, writes and syncs that failed there.', 'server', 'directory'),
  ashlar_disk_sync_seconds: gauge('Of a sync there, averaged over the last few.', 'server', 'directory'),

  ashlar_journal_bytes: gauge('Journals of all copies of the server, history kept for catch-up included.', 'server'),
  ashlar_journal_backlog_bytes: gauge('Of that, what is not destaged yet.', 'server'),
  ashlar_journal_fullest_ratio: gauge('Backlog of the copy whose journal is fullest, as a part of what a journal may hold; writes of that volume wait at 1.', 'server'),
  ashlar_journal_appended_bytes_total: counter('Payload appended to journals.', 'server'),
  ashlar_journal_syncs_total: counter('Syncs of journals that were asked for.', 'server'),
  ashlar_destaged_bytes_total: counter('Moved from journals to the extents.', 'server'),
  ashlar_destage_coalesced_bytes_total: counter('Overwritten in a journal before it had to be moved.', 'server'),
  ashlar_destage_rounds_total: counter('Rounds of destaging that were completed.', 'server'),

  ashlar_mirror_lag_records: gauge('Records that the mirror has not acknowledged, of the volume where it is furthest behind.', 'server', 'mirror'),
  ashlar_mirror_lag_seconds: gauge('Time since a mirror that owes something last acknowledged anything, of the volume where that is longest.', 'server', 'mirror'),
  ashlar_promotions_total: counter('Times that a copy of the server became primary.', 'server'),
  ashlar_removed_members_total: counter('Copies that primaries of this server took out of the set in sync.', 'server'),
  ashlar_joined_members_total: counter('Copies that primaries of this server took into the set in sync.', 'server'),
  ashlar_catch_ups_total: counter('Copies that were brought up to date: from the journal, or by comparison of extents.', 'server', 'way'),
  ashlar_rebuilds_total: counter('Copies that were built from nothing, and are whole.', 'server'),
  ashlar_rebuild_sent_bytes_total: counter('Bytes sent to copies that were built or compared.', 'server'),
  ashlar_rebuild_received_bytes_total: counter('Bytes that copies of the server took in to be built, compared or repaired.', 'server'),
  ashlar_checksum_errors_total: counter('Times that blocks of an extent were found not to match their checksums.', 'server'),
  ashlar_repair_sent_bytes_total: counter('Good bytes sent to a copy whose own were bad.', 'server'),
  ashlar_scrubbed_bytes_total: counter('Bytes checked by scrubs.', 'server'),
  ashlar_scrubs_total: counter('Scrubs of a copy that came to their end.', 'server'),
  ashlar_refused_sessions_total: counter('Sessions that were refused because a newer one or another attachment exists.', 'server'),
  ashlar_fenced_frames_total: counter('Frames of an earlier epoch that copies of the server refused.', 'server'),
  ashlar_deduplicated_retries_total: counter('Repeated requests that had been applied already.', 'server'),

  ashlar_volumes: gauge('Volumes, by state.', 'state'),
  ashlar_volumes_by_health: gauge('Volumes, by health.', 'health'),
  ashlar_volume_copies_in_sync: gauge('Copies of the volume that are in sync; one less than wanted is one failure nearer to loss.', 'volume'),
  ashlar_volume_copies_wanted: gauge('Copies that the volume is to have.', 'volume'),
  ashlar_rebuilding_copies: gauge('Copies that are being built, or compared, now.'),
  ashlar_rebuild_remaining_bytes: gauge('Still to be compared for them, as far as it is known.'),
  ashlar_failovers_total: counter('Times that another copy was made primary, since the system manager started.'),
  ashlar_events_total: counter('Events, by name, since the system manager started.', 'event'),
  ashlar_api_refused_requests_total: counter('Requests to the API that were refused, by code of the error.', 'code'),

  ashlar_process_resident_memory_bytes: gauge('Memory of the process.', 'process'),
  ashlar_process_cpu_seconds_total: counter('Processor time of the process.', 'process'),
  ashlar_process_start_time_seconds: gauge('When the process started, since 1970.', 'process'),
  ashlar_thread_heap_used_bytes: gauge('JavaScript heap in use.', 'thread'),
  ashlar_thread_heap_limit_bytes: gauge('What the heap may grow to before the thread ends.', 'thread'),
  ashlar_thread_buffer_bytes: gauge('Buffers outside of the heap.', 'thread'),
  ashlar_thread_event_loop_delay_seconds: histogram(DELAY_BOUNDS, 'How late timers of the thread ran.', 'thread'),
  ashlar_thread_event_loop_active_seconds_total: counter('Time that the thread did not wait for anything.', 'thread'),
  ashlar_thread_messages_total: counter('Messages handled by actors of the thread.', 'thread'),
  ashlar_link_up: gauge('1 for each party that the thread has a link to.', 'thread', 'peer'),
  ashlar_link_sent_bytes_total: counter('Bytes sent over the present link.', 'thread', 'peer'),
  ashlar_link_received_bytes_total: counter('Bytes received over the present link.', 'thread', 'peer'),
  ashlar_link_buffered_bytes: gauge('Bytes that wait in the link.', 'thread', 'peer'),
  ashlar_link_refused_messages_total: counter('Messages refused because too much waited in the present link.', 'thread', 'peer'),
} as const satisfies Readonly<Record<string, Figure>>;

export type FigureName = keyof typeof FIGURES;
export const FIGURE_NAMES = Object.keys(FIGURES) as readonly FigureName[];
