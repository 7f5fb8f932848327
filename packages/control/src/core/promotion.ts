import { primaryOf, type CopyReport, type Member } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { isDown, isUp } from './servers.ts';
import { serverOf, type Manager, type Volume } from './state.ts';

/** Why another primary, or a new epoch for the same one, is needed. `exclude`: it must be another server. */
export interface PromotionNeed {
  readonly reason: string;
  readonly exclude: boolean;
  /** Nothing is known against it but that it does not say that it leads. */
  readonly unconfirmed?: true;
}

export function reportOf(m: Manager, v: Volume, id: ServerId): CopyReport | undefined {
  return serverOf(m, id).reports.get(v.volumeId);
}

export function isFaulted(m: Manager, v: Volume, id: ServerId): boolean {
  return (reportOf(m, v, id)?.fault ?? null) !== null;
}

/** Its server could not make its files, or cannot open them: another attempt there is likely to end alike. */
export function isUnmade(m: Manager, v: Volume, id: ServerId): boolean {
  const report = reportOf(m, v, id);
  return report?.lineage === 0 && (report.fault === 'no-space' || report.fault === 'append-failed');
}

/**
 * Its machine restarted, or its files are gone, since it was admitted: what was answered may not be in its log. Decided by the admission
 * in the store and not by what the copy thinks of itself: only a new admission heals.
 */
export function isLost(v: Volume, member: Member, report: CopyReport): boolean {
  return report.incarnation !== member.incarnation || !report.complete || report.lineage !== v.record.configuration.lineage;
}

/** True: may be made primary. Undefined: its server is up for long and it has not reported, so that its report was lost and nothing is known against it. */
export function isPromotable(m: Manager, v: Volume, member: Member): boolean | undefined {
  if (!isUp(m, serverOf(m, member.serverId))) return false;
  const report = reportOf(m, v, member.serverId);
  // Its report follows the hello of its server: it may be that its cache was lost.
  if (report === undefined) return m.nowMs - serverOf(m, member.serverId).helloMs >= m.options.reportGraceMs ? undefined : false;
  return report.fault === null && !isLost(v, member, report);
}

/** Whether the primary can go on, from every source; null while it can. */
export function promotionNeed(m: Manager, v: Volume): PromotionNeed | null {
  const { configuration, primaryInstance } = v.record;
  const member = configuration.members[0];
  const server = serverOf(m, member.serverId);
  const report = reportOf(m, v, member.serverId);
  if (server.ended) return { reason: 'its process ended', exclude: true };
  if (server.leaving) return { reason: 'its server is shutting down', exclude: true };
  if (server.lost) return { reason: 'its server is lost', exclude: true };
  if (isDown(m, server)) return { reason: 'silent', exclude: true };
  if (report !== undefined && report.fault !== null) return { reason: `copy faulted: ${report.fault}`, exclude: true };
  if (report !== undefined && isLost(v, member, report)) return { reason: 'it lost its cache', exclude: true };
  if (complainedLong(m, v)) return { reason: 'its host cannot reach it', exclude: true };
  if (!server.heard || server.record === null) return null;
  // No copy resumes its role after a restart: not even where it was the only one.
  if (server.record.instance !== primaryInstance) return { reason: 'its process was restarted', exclude: false };
  if (v.reportedMs !== null && m.nowMs - v.reportedMs >= m.options.confirmMs) return { reason: 'its copy was restarted', exclude: false };
  // A copy that was restarted while no manager ran waits for a new epoch: where nobody else can take over, it gets one.
  if (neverConfirmed(m, v)) return { reason: 'it does not take its role', exclude: candidate(m, v, member.serverId) !== null, unconfirmed: true };
  return null;
}

/** The manager hears the server, but its host has not for long: the link between the two is cut. */
function complainedLong(m: Manager, v: Volume): boolean {
  const { complaint } = v;
  if (complaint === null || complaint.epoch !== v.record.configuration.epoch) return false;
  return m.nowMs - complaint.lastMs <= m.options.complaintMs && complaint.lastMs - complaint.sinceMs >= m.options.complaintBelievedMs;
}

/** Pushes of the configuration without a word of it; twice as many after each promotion that came to nothing, up to this many times. */
const PUSHES_MAX = 10;
const DOUBLINGS_MAX = 5;

/** A server that is slow because two thousand volumes start at once must not be given two thousand more promotions for it. */
function neverConfirmed(m: Manager, v: Volume): boolean {
  const patienceMs = PUSHES_MAX * m.options.repeatMs * 2 ** Math.min(v.unconfirmed, DOUBLINGS_MAX);
  return v.status?.epoch !== v.record.configuration.epoch && m.nowMs - v.firstPushedMs >= patienceMs;
}

/** The first in-sync member, in the order of the configuration, that may be promoted; one that has not reported only if none has. */
export function candidate(m: Manager, v: Volume, exclude: ServerId | null): Member | null {
  let unreported: Member | null = null;
  for (const member of v.record.configuration.members) {
    if (member.serverId === exclude) continue;
    const promotable = isPromotable(m, v, member);
    if (promotable === true) return member;
    if (promotable === undefined) unreported ??= member;
  }
  return unreported;
}

/**
 * The primary is gone, was restarted, or has lost its cache, and nobody may take over: until somebody comes back, or says how its copy stands, there is nothing
 * that a copy could be filled from.
 */
export function isStuck(m: Manager, v: Volume): boolean {
  const [primary] = v.record.configuration.members;
  const report = reportOf(m, v, primary.serverId);
  const server = serverOf(m, primary.serverId);
  const restarted = server.heard && server.record !== null && server.record.instance !== v.record.primaryInstance;
  const gone = restarted || isDown(m, server) || (report !== undefined && isLost(v, primary, report));
  return gone && candidate(m, v, null) === null;
}

export interface Recovery {
  readonly winner: CopyReport;
  readonly answered: readonly CopyReport[];
  /** Members that were given up, without an answer or faulted. */
  readonly givenUp: readonly ServerId[];
}

/**
 * Every member lost its cache. The longest log wins, by (epoch, seq), once all have answered or the operator has given up the rest:
 * any other choice could take back what a member still has. A faulted one has not answered: it may have kept its cache, and of one that cannot be opened
 * nobody knows the log. Null: not so, or not yet.
 */
export function recovery(m: Manager, v: Volume): Recovery | null {
  const answered: CopyReport[] = [];
  const givenUp: ServerId[] = [];
  for (const member of v.record.configuration.members) {
    const server = serverOf(m, member.serverId);
    const report = isUp(m, server) ? server.reports.get(v.volumeId) : undefined;
    if (report === undefined || report.fault !== null) {
      if (!v.record.givenUp.includes(member.serverId) && !server.lost) return null;
      givenUp.push(member.serverId);
      continue;
    }
    if (!isLost(v, member, report)) return null; // promotable
    if (report.complete && report.lineage === v.record.configuration.lineage) answered.push(report);
  }
  // A report from before may be short of what the copy was sent since: now that nobody leads, none grows any more.
  if (!askedAnew(m, v, answered)) return null;
  const winner = answered.reduce<CopyReport | null>((best, report) => (best === null || isLonger(report, best) ? report : best), null);
  return winner === null ? null : { winner, answered, givenUp };
}

function askedAnew(m: Manager, v: Volume, reports: readonly CopyReport[]): boolean {
  const { epoch, members } = v.record.configuration;
  // Drawn, not counted: a manager that was restarted must not take answers to its former life for answers to itself.
  if (v.recovery?.epoch !== epoch) v.recovery = { epoch, token: m.prng.between(1, 2 ** 31), askedMs: -Infinity };
  const { recovery: asked } = v;
  if (reports.every((report) => report.asked === asked.token)) return true;
  if (m.nowMs - asked.askedMs < m.options.repeatMs) return false;
  asked.askedMs = m.nowMs;
  for (const { serverId } of members) m.fx.toServer(serverId, { kind: 'ask-report', volumeId: v.volumeId, token: asked.token });
  return false;
}

function isLonger(a: CopyReport, b: CopyReport): boolean {
  return a.lastEpoch !== b.lastEpoch ? a.lastEpoch > b.lastEpoch : a.lastSeq > b.lastSeq;
}

/** Whether every earlier primary's lease is over: the one before is proven to be gone, and had itself outlasted those before it. */
export function predecessorEnded(m: Manager, v: Volume): boolean {
  const before = serverOf(m, primaryOf(v.record.configuration));
  const proven = v.record.primaryInstance !== '' && before.endedInstances.has(v.record.primaryInstance);
  return proven && (v.record.predecessorEnded || v.served);
}
