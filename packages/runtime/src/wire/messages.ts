import type { Address, DownReason } from '@ashlar/actor';
import { DISK_KINDS } from '@ashlar/protocol';
import type {
  AttachmentSpec, BeaconMessage, Build, CommitPoint, Configuration, ConfigurationChange, CopyMessage, CopyReport, CopyStatus, DeletedVolume, DirectoryHealth, DiskKind, EpochStart, HeldCopy, HostCommand, HostMessage, Keep, KeptRecord, LogPosition,
  ManagerCommand, ManagerMessage, Member, Release, ServerMessage, SessionGeneration, SessionMark, SessionMessage, SessionReply, StoreMark, SupervisorMessage, Usage, VolumeLimits,
} from '@ashlar/protocol';
import { COLD_BYTES_MAX, LIST_MAX, PARTIES_MAX, RECORD_TEXT_MAX } from '../limits.ts';
import { aHostId, aServerId, aVolumeId, bytes, choice, flag, list, Malformed, nullable, real, record, register, scalars, text, u32, whole, type RecordShape, type Shape } from './shape.ts';

/** Between the kernels of two processes. */
export type KernelMessage =
  /** Tell `from` when the actor that this is addressed to ends. */
  | { readonly kind: 'monitor' }
  | { readonly kind: 'down'; readonly address: Address; readonly reason: DownReason }
  /** The sender hosts these parties now: all of them, not only new ones. */
  | { readonly kind: 'parties'; readonly parties: readonly string[] };

/** Everything that can cross a link. */
export type WireMessage =
  | CopyMessage | BeaconMessage | SessionMessage | SessionReply | ManagerMessage | ManagerCommand | HostCommand | HostMessage | ServerMessage | SupervisorMessage | KernelMessage;
export type WireKind = WireMessage['kind'];
/** Those with a fixed binary layout: frame.ts. */
export type HotKind = 'append' | 'progress' | 'requests' | 'replies' | 'fill';
export type ColdKind = Exclude<WireKind, HotKind>;

type BodyOf<K extends WireKind> = Omit<Extract<WireMessage, { kind: K }>, 'kind'>;

const reasonText = text(2000);
const shortText = text(500);

const member = record<Member>('Member', { serverId: aServerId, incarnation: whole });
const configuration = record<Configuration>('Configuration', {
  volumeId: aVolumeId, lineage: whole, epoch: whole, members: list(member, LIST_MAX), learners: list(aServerId, LIST_MAX), attachNumber: whole,
  sizeBytes: whole, minCopies: whole, copiesWanted: whole, durability: choice('normal', 'strict'),
});
const epochStart = record<EpochStart>('EpochStart', { epoch: whole, firstSeq: whole });
const epochStarts = list(epochStart, LIST_MAX);
const position = record<LogPosition>('LogPosition', { seq: whole, chain: u32 });
const sessionMark = record<SessionMark>('SessionMark', { attachNumber: whole, count: whole, appliedThrough: whole });
const generation = record<SessionGeneration>('SessionGeneration', { attachNumber: whole, count: whole });
const copyFault = choice('sync-failed', 'append-failed', 'corrupt', 'no-space', 'restarts');
const commitPoint = record<CommitPoint>('CommitPoint', { volumeId: aVolumeId, epoch: whole, committedSeq: whole });
const release = record<Release>('Release', { number: whole, volumeId: aVolumeId, epoch: whole });
const copyReport = record<CopyReport>('CopyReport', {
  volumeId: aVolumeId, lineage: whole, promisedEpoch: whole, incarnation: whole, lostCache: flag, complete: flag, lastEpoch: whole, lastSeq: whole,
  fault: nullable(copyFault), attachNumber: whole, asked: whole,
});
const storeMark = record<StoreMark>('StoreMark', { cluster: whole, life: whole, revision: whole });
const keptRecord = record<KeptRecord>('KeptRecord', { volumeId: aVolumeId, revision: whole, text: text(RECORD_TEXT_MAX) });
const deletedVolume = record<DeletedVolume>('DeletedVolume', { volumeId: aVolumeId, revision: whole });
const heldCopy = record<HeldCopy>('HeldCopy', { report: copyReport, configuration: nullable(configuration) });
const serverIds = list(aServerId, LIST_MAX);
const keep = record<Keep>('Keep', { expected: nullable(storeMark), mark: storeMark, servers: serverIds, records: list(keptRecord, LIST_MAX), deleted: list(deletedVolume, LIST_MAX), number: whole });
const copyStatus = record<CopyStatus>('CopyStatus', {
  serverId: aServerId, state: choice('in-sync', 'catching-up', 'rebuilding', 'offline', 'faulted'), movedBytes: whole, remainingBytes: whole,
});
const volumeLimits = record<VolumeLimits>('VolumeLimits', { ioTimeoutMs: whole, iops: whole, bandwidthBytes: whole, priority: whole });
const attachmentSpec = record<AttachmentSpec>('AttachmentSpec', {
  volumeId: aVolumeId, hostId: aHostId, readOnly: flag, attachNumber: whole, tcp: flag, copy: nullable(aServerId), limits: volumeLimits,
});
const build = record<Build>('Build', { version: shortText, wireLowest: whole, wireHighest: whole, formats: scalars });
const usage = record<Usage>('Usage', {
  readBytes: whole, writeBytes: whole, readRequests: whole, writeRequests: whole, flushRequests: whole, failedRequests: whole, longestStallMs: real,
});

const diskKinds = choice(...DISK_KINDS);
/** A server of the version before does not say. */
const diskKind: Shape<DiskKind> = { ...diskKinds, fromWire: (raw) => (raw === undefined ? 'unknown' : diskKinds.fromWire(raw)) };
const directoryHealth = record<DirectoryHealth>('DirectoryHealth', {
  path: reasonText, health: choice('ok', 'suspect', 'failed'), ioErrors: whole, mismatches: whole, syncMs: real,
});

interface FlatChange {
  readonly remove: Member['serverId'] | null;
  readonly add: Member | null;
}
const flatChange = record<FlatChange>('ConfigurationChange', { remove: nullable(aServerId), add: nullable(member) });

/** A union on the wire: exactly one of its fields is there. */
const configurationChange: Shape<ConfigurationChange> = {
  proto: flatChange.proto, nested: flatChange.nested, example: { of: 'record', fields: {} },
  toWire: (change) => flatChange.toWire(change.kind === 'remove' ? { remove: change.serverId, add: null } : { remove: null, add: change.member }),
  fromWire(raw) {
    const { remove, add } = flatChange.fromWire(raw);
    if (remove !== null && add === null) return { kind: 'remove', serverId: remove };
    if (add !== null && remove === null) return { kind: 'add', member: add };
    throw new Malformed('a change must remove or add');
  },
};

const address = text(256) as unknown as Shape<Address>;

export interface ColdMessage<K extends ColdKind> {
  /** On the wire for ever: never reused for another message. */
  readonly code: number;
  /** The first wire version that has it. A link of an older one does not carry it: the peer would take it for garbage. */
  readonly since: number;
  readonly body: RecordShape<BodyOf<K>>;
}

function cold<K extends ColdKind>(code: number, kind: K, fields: { readonly [F in keyof BodyOf<K>]-?: Shape<BodyOf<K>[F]> }, since = 1): ColdMessage<K> {
  const body = record<BodyOf<K>>(`${kind.replaceAll('-', '_')}_body`, fields);
  register(body);
  return { code, since, body };
}

/**
 * Every message that travels as protobuf, with its code and the shape of each field. A new field is appended; a receiver of the version before
 * ignores it, a receiver of the version after finds it missing and takes its zero. A new message, and a new word of a choice, needs a new wire version.
 */
export const COLD_MESSAGES: { readonly [K in ColdKind]: ColdMessage<K> } = {
  'adopt': cold(64, 'adopt', { epoch: whole, configuration }),
  'adopted': cold(65, 'adopted', { epoch: whole, incarnation: whole, lineage: whole, attempt: whole, instance: whole, lastSeq: whole, durableSeq: whole, epochStarts, complete: flag }),
  'follow': cold(66, 'follow', { epoch: whole, attempt: whole, afterSeq: whole }),
  'restart-log': cold(67, 'restart-log', { epoch: whole, attempt: whole, commonSeq: whole, lineage: whole, position, epochStarts, session: sessionMark }),
  'gap': cold(68, 'gap', { epoch: whole, attempt: whole, seq: whole }),
  'sync': cold(69, 'sync', { epoch: whole }),
  'fenced': cold(70, 'fenced', { epoch: whole }),
  'leaving': cold(71, 'leaving', { epoch: whole, fault: copyFault }),
  'list-extents': cold(72, 'list-extents', { epoch: whole, from: whole }),
  'extents': cold(73, 'extents', { epoch: whole, from: whole, extents: list(whole, LIST_MAX), end: flag }),
  'compare': cold(74, 'compare', { epoch: whole, extent: whole }),
  'compared': cold(75, 'compared', { epoch: whole, attempt: whole, extent: whole, seq: whole, blocks: bytes(COLD_BYTES_MAX) }),
  'filled': cold(76, 'filled', { epoch: whole, extent: whole }),
  'complete': cold(77, 'complete', { epoch: whole, attempt: whole }),
  'completed': cold(78, 'completed', { epoch: whole, attempt: whole }),
  'repair': cold(79, 'repair', { epoch: whole, extent: whole }),
  'lease-returned': cold(82, 'lease-returned', { epoch: whole }, 2),
  'retiring': cold(83, 'retiring', { epoch: whole }, 2),
  'beacon': cold(80, 'beacon', { sentAtMs: real, instance: whole, releasesOf: whole, releasesSeen: whole, commits: list(commitPoint, LIST_MAX) }),
  'grant': cold(81, 'grant', { sentAtMs: real, instance: whole, releases: list(release, LIST_MAX) }),
  'open': cold(96, 'open', { sessionId: whole, epoch: whole, generation, readOnly: flag }),
  'close': cold(97, 'close', { sessionId: whole }),
  'probe': cold(98, 'probe', { sessionId: whole, epoch: whole, sentAtMs: real }),
  'opened': cold(99, 'opened', { sessionId: whole, epoch: whole, generation, sizeBytes: whole, appliedThrough: whole }),
  'refused': cold(100, 'refused', { sessionId: whole, epoch: whole, reason: choice('not-primary', 'not-serving', 'old-session', 'old-attach', 'gap', 'deleted') }),
  'resized': cold(101, 'resized', { sessionId: whole, epoch: whole, sizeBytes: whole }),
  'alive': cold(102, 'alive', { sessionId: whole, epoch: whole, sentAtMs: real }),
  'report': cold(112, 'report', { copy: copyReport }),
  'propose': cold(113, 'propose', { volumeId: aVolumeId, baseEpoch: whole, change: configurationChange, reason: reasonText }),
  'ask': cold(114, 'ask', { volumeId: aVolumeId, epoch: whole }),
  'suspect': cold(115, 'suspect', { volumeId: aVolumeId, epoch: whole, serverId: aServerId, reason: reasonText }),
  'status': cold(116, 'status', { volumeId: aVolumeId, epoch: whole, number: whole, serving: flag, copies: list(copyStatus, LIST_MAX) }),
  'event': cold(117, 'event', { volumeId: aVolumeId, name: shortText, detail: scalars }),
  'discarded': cold(118, 'discarded', { volumeId: aVolumeId, epoch: whole }),
  'configure': cold(128, 'configure', { configuration, predecessorEnded: flag, founding: flag }),
  'discard': cold(129, 'discard', { volumeId: aVolumeId, epoch: whole }),
  'scrub': cold(130, 'scrub', { volumeId: aVolumeId }),
  'member-ended': cold(131, 'member-ended', { volumeId: aVolumeId, serverId: aServerId, instance: shortText }),
  'ask-report': cold(132, 'ask-report', { volumeId: aVolumeId, token: whole }),
  'fill-rate': cold(133, 'fill-rate', { volumeId: aVolumeId, bytesPerSecond: whole }, 2),
  'keep': cold(134, 'keep', { keep }, 2),
  'ask-ledger': cold(135, 'ask-ledger', { token: whole }, 2),
  'attach': cold(144, 'attach', { spec: attachmentSpec, configuration }),
  'detach': cold(145, 'detach', { volumeId: aVolumeId, readOnly: flag, copy: nullable(aServerId) }),
  'limits': cold(146, 'limits', { volumeId: aVolumeId, limits: volumeLimits }),
  'configuration': cold(147, 'configuration', { configuration }),
  'host-hello': cold(160, 'host-hello', { hostId: aHostId, pid: whole, attachments: list(attachmentSpec, LIST_MAX), build: nullable(build), configurations: list(configuration, LIST_MAX) }),
  'attached': cold(161, 'attached', { spec: attachmentSpec, nbd: reasonText }),
  'attach-failed': cold(162, 'attach-failed', { spec: attachmentSpec, code: shortText, message: reasonText }),
  'detached': cold(163, 'detached', { volumeId: aVolumeId, readOnly: flag, copy: nullable(aServerId) }),
  'ask-configuration': cold(164, 'ask-configuration', { volumeId: aVolumeId, epoch: whole }),
  'primary-silent': cold(165, 'primary-silent', { volumeId: aVolumeId, epoch: whole, serverId: aServerId, silentMs: real }),
  'usage': cold(166, 'usage', { volumeId: aVolumeId, usage }),
  'host-event': cold(167, 'host-event', { volumeId: aVolumeId, name: shortText, detail: scalars }),
  'server-hello': cold(176, 'server-hello', { serverId: aServerId, pid: whole, instance: shortText, address: reasonText, build: nullable(build), rack: shortText, siteId: shortText, disk: diskKind, keeps: flag, mark: nullable(storeMark) }),
  'server-status': cold(177, 'server-status', { serverId: aServerId, capacityBytes: whole, usedBytes: whole, copies: whole, requestsPerSecond: real, directories: list(directoryHealth, LIST_MAX) }),
  'server-leaving': cold(178, 'server-leaving', { serverId: aServerId, reason: reasonText }),
  'server-kept': cold(179, 'server-kept', { serverId: aServerId, mark: nullable(storeMark), taken: flag, failed: flag, number: whole }, 2),
  'server-ledger': cold(180, 'server-ledger', {
    serverId: aServerId, token: whole, part: whole, last: flag, mark: nullable(storeMark), servers: serverIds, records: list(keptRecord, LIST_MAX), deleted: list(deletedVolume, LIST_MAX),
    copies: list(heldCopy, LIST_MAX),
  }, 2),
  'process-ended': cold(192, 'process-ended', { name: shortText, pid: whole, signal: nullable(shortText), code: nullable(whole) }),
  'process-started': cold(193, 'process-started', { name: shortText, pid: whole }),
  'monitor': cold(208, 'monitor', {}),
  'down': cold(209, 'down', { address, reason: choice('stopped', 'crashed', 'no-such-actor', 'unreachable', 'thread-ended') }),
  'parties': cold(210, 'parties', { parties: list(text(63), PARTIES_MAX) }),
};

const LATER: ReadonlyMap<string, number> = new Map(Object.entries(COLD_MESSAGES).flatMap(([kind, { since }]) => (since > 1 ? [[kind, since]] : [])));

/** The first wire version that has messages of this kind. */
export function sinceVersion(kind: string): number {
  return LATER.get(kind) ?? 1;
}
