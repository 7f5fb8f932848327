import { compareGenerations, type Configuration, type Frame, memberOf, type Member, primaryOf } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { valueOf } from '../world/values.ts';
import { History } from './history.ts';
import { requestKey, ShadowLog, type ShadowRecord, shadowRecord } from './shadow-log.ts';
import { check, Violation } from './violation.ts';

/** What the checker knows of one copy. */
export interface GhostCopy {
  readonly serverId: ServerId;
  log: ShadowLog;
  /** What its disk held before it was wiped: an answer that was under way then counted on it. */
  wipedLog: ShadowLog | null;
  /** As the opened store said; -1 from a cut of the power until it is opened again. */
  incarnation: number;
  /** As the store claims: what must survive a loss of power. */
  durableSeq: number;
  /** Saved, stable. */
  promisedEpoch: number;
  complete: boolean;
  /** Its disk was emptied; cleared when it is made anew. */
  wiped: boolean;
}

export interface OpenedCopy {
  readonly incarnation: number;
  readonly lastSeq: number;
  readonly chain: number;
  readonly durableSeq: number;
  readonly promisedEpoch: number;
  readonly complete: boolean;
}

/** What its disk went through. */
export interface Harm {
  /** Since the copy was last open. */
  readonly lostPower: boolean;
  /** Since the copy was made it lied, or rotted, where a record of the log may have its bytes: what it called durable may be gone with the power. */
  readonly spoiled: boolean;
}

/** Counts of what the checks saw, for the summary of a run. */
export interface GhostCounts {
  configurations: number;
  losses: number;
  answeredWrites: number;
  answeredFlushes: number;
  joinsVerified: number;
}

/** Knows what was answered and where it is, and is asked after every event that touched either. */
export class Ghost {
  readonly history = new History();
  readonly copies = new Map<ServerId, GhostCopy>();
  /** The metadata store's. */
  configuration: Configuration | null = null;
  readonly counts: GhostCounts = { configurations: 0, losses: 0, answeredWrites: 0, answeredFlushes: 0, joinsVerified: 0 };
  /** Who acted as primary of an epoch: server and life. */
  readonly #primaries = new Map<number, string>();
  /** Every record that was ever appended anywhere, by its position and the digest of the log up to it. */
  readonly #known = new Map<string, ShadowRecord>();
  /** Reads every block of a copy without faults, and compares; set by the world. */
  verifyContent: (serverId: ServerId) => string | null = () => null;

  copy(serverId: ServerId): GhostCopy {
    let copy = this.copies.get(serverId);
    if (copy === undefined) {
      copy = { serverId, log: new ShadowLog(), wipedLog: null, incarnation: -1, durableSeq: 0, promisedEpoch: 0, complete: false, wiped: false };
      this.copies.set(serverId, copy);
    }
    return copy;
  }

  // ------------------------------------------------------------------------------------------ what copies do

  /** A store was opened: it holds a prefix of what it held, and all that it had called durable. */
  opened(serverId: ServerId, now: OpenedCopy, { lostPower, spoiled }: Harm): void {
    const copy = this.copy(serverId);
    if (!copy.wiped && copy.log.records.length > 0) {
      const durable = spoiled ? 0 : copy.durableSeq;
      const mustReach = lostPower ? durable : copy.log.lastSeq;
      check(now.lastSeq >= mustReach, 'store-survives', () => `${serverId} opens at ${now.lastSeq}, but ${mustReach} was ${lostPower ? 'durable' : 'in its journal'}`);
      const expected = copy.log.chainAt(now.lastSeq);
      check(expected === now.chain, 'store-survives', () => `${serverId} opens at ${now.lastSeq} with digest ${now.chain.toString(16)}, it had ${expected?.toString(16) ?? 'no such record'}`);
    }
    if (!copy.wiped) check(now.promisedEpoch >= copy.promisedEpoch, 'promise-kept', () => `${serverId} opens with promise ${now.promisedEpoch}, it had answered ${copy.promisedEpoch}`);
    if (copy.wiped || copy.log.records.length === 0) this.#restart(copy, now.lastSeq, now.chain);
    else copy.log.truncate(now.lastSeq);
    copy.wiped = false;
    copy.wipedLog = null;
    copy.incarnation = now.incarnation;
    // A process that starts anew may not know how far its predecessor had synced; the disk keeps it all the same.
    copy.durableSeq = Math.min(lostPower ? now.durableSeq : Math.max(now.durableSeq, copy.durableSeq), now.lastSeq);
    copy.promisedEpoch = now.promisedEpoch;
    copy.complete = now.complete;
    this.#promotableHasAll(copy);
  }

  powerCut(serverId: ServerId): void {
    const copy = this.copy(serverId);
    copy.incarnation = -1;
  }

  wiped(serverId: ServerId): void {
    const copy = this.copy(serverId);
    copy.incarnation = -1;
    copy.wiped = true;
    copy.wipedLog = copy.log;
    copy.log = new ShadowLog();
    copy.promisedEpoch = 0;
    copy.complete = false;
    copy.durableSeq = 0;
    this.#restart(copy, 0, 0);
  }

  appended(serverId: ServerId, frame: Frame): void {
    const copy = this.copy(serverId);
    check(frame.senderEpoch === 0 || frame.senderEpoch >= copy.promisedEpoch, 'promised-epoch', () =>
      `${serverId} applied a frame that the primary of epoch ${frame.senderEpoch} sent, and has promised ${copy.promisedEpoch}`);
    check(frame.firstSeq === copy.log.lastSeq + 1, 'defect', () => `${serverId} appends ${frame.firstSeq} after ${copy.log.lastSeq}`);
    copy.log.append(this.#record(frame, copy.log.last));
  }

  /** Mirrors append the same records: taken apart once. */
  #record(frame: Frame, before: ShadowRecord | null): ShadowRecord {
    const key = position(frame.lastSeq, frame.chain);
    const known = this.#known.get(key);
    if (known !== undefined && known.firstSeq === frame.firstSeq && known.epoch === frame.epoch) return known;
    const record = shadowRecord(frame, before, valueOf);
    this.#known.set(key, record);
    return record;
  }

  #restart(copy: GhostCopy, seq: number, chain: number): void {
    const base = this.#known.get(position(seq, chain)) ?? null;
    check(base !== null || seq === 0, 'committed-prefix', () => `${copy.serverId} begins its log at ${seq} with digest ${chain.toString(16)}, where no copy ever was`);
    copy.log.restart(seq, chain, base);
  }

  /** A store that syncs as it cuts has more on its disk than before. */
  truncated(serverId: ServerId, afterSeq: number, durableSeq: number): void {
    const copy = this.copy(serverId);
    copy.log.truncate(afterSeq);
    copy.durableSeq = Math.min(Math.max(copy.durableSeq, durableSeq), afterSeq);
    this.#promotableHasAll(copy);
    this.#memberKeepsFlushed(copy);
  }

  logRestarted(serverId: ServerId, seq: number, chain: number): void {
    const copy = this.copy(serverId);
    this.#restart(copy, seq, chain);
    copy.durableSeq = 0;
    copy.complete = false;
    this.#promotableHasAll(copy);
  }

  durable(serverId: ServerId, seq: number): void {
    const copy = this.copy(serverId);
    if (seq > copy.durableSeq) copy.durableSeq = seq;
  }

  saved(serverId: ServerId, promisedEpoch: number, complete: boolean): void {
    const copy = this.copy(serverId);
    copy.promisedEpoch = Math.max(copy.promisedEpoch, promisedEpoch);
    copy.complete = complete;
    this.#memberKeepsFlushed(copy);
  }

  /** This life of a server does what only the primary of `epoch` does. Invariant 1. */
  acts(serverId: ServerId, life: string, epoch: number): void {
    const known = this.#primaries.get(epoch);
    const who = `${serverId}/${life}`;
    if (known === who) return;
    check(known === undefined, 'one-primary', () => `${who} acts as primary of epoch ${epoch}, as ${known} did`);
    this.#primaries.set(epoch, who);
  }

  /** A leader commits. Invariant 4. */
  committed(serverId: ServerId, seq: number): void {
    const { log } = this.copy(serverId);
    const at = log.indexOf(seq);
    // A copy that was filled with prepared records and became primary settles them before it has any record of its own.
    if (at >= 0 || seq === log.baseSeq) this.history.commit(log, at >= 0 ? log.records[at].lastSeq : seq, serverId);
  }

  // ------------------------------------------------------------------------------------------ what is answered

  /** A primary answers a write, trim or zero with success. */
  answered(serverId: ServerId, epoch: number, attachNumber: number, sessionCount: number, requestNumber: number): void {
    const { history } = this;
    const copy = this.copy(serverId);
    this.counts.answeredWrites++;
    const key = requestKey(attachNumber, requestNumber);
    const seq = history.seqOfRequest(key) ?? copy.log.seqOfRequest(key, history.lastSeq);
    if (seq === undefined) throw new Violation('answered-everywhere', `${serverId} answers request ${requestNumber} of attach ${attachNumber}, which is in no journal that counts`);
    this.committed(serverId, seq);
    this.#generationAnswered(attachNumber, sessionCount);
    this.#enoughCopies(serverId, epoch, seq);
    this.#soleIsSynced(copy, seq);
    if (seq <= history.answeredSeq) return;
    const record = history.records[history.indexOf(seq)];
    history.answeredSeq = record === undefined ? seq : record.lastSeq;
    this.everyPromotableHasAll();
  }

  /** A session hears something of its primary: older generations are over. */
  #generationAnswered(attachNumber: number, count: number): void {
    const generation = { attachNumber, count };
    const { history } = this;
    // A former primary may still answer what its successor settled: what counts is that nothing more is applied.
    if (compareGenerations(generation, history.answeredGeneration) > 0) history.answeredGeneration = generation;
  }

  sessionOpened(attachNumber: number, count: number): void {
    this.#generationAnswered(attachNumber, count);
  }

  /** A copy tells a primary that it has promised this epoch: it must be on its disk. Invariant 2. */
  promised(serverId: ServerId, epoch: number): void {
    const copy = this.copy(serverId);
    check(copy.promisedEpoch >= epoch, 'promise-kept', () => `${serverId} answers that it has promised ${epoch}; stable is ${copy.promisedEpoch}`);
  }

  /** Invariant "minimum": counted where the write really is. */
  #enoughCopies(serverId: ServerId, epoch: number, seq: number): void {
    const { configuration } = this;
    if (configuration === null || configuration.minCopies <= 1) return;
    const primary = this.copy(serverId);
    const record = primary.log.records[primary.log.indexOf(seq)];
    if (record === undefined) return;
    let holders = 0;
    const holds = (log: ShadowLog): boolean => log.chainAt(record.lastSeq) === record.chain || log.baseSeq >= record.lastSeq;
    for (const copy of this.copies.values()) if (holds(copy.log) || (copy.wipedLog !== null && holds(copy.wipedLog))) holders++;
    check(holders >= configuration.minCopies, 'minimum', () => `${serverId} answers seq ${seq} in epoch ${epoch} with ${holders} copies, the minimum is ${configuration.minCopies}`);
  }

  /** One copy in sync of a mirrored volume: its page cache alone is not enough. */
  #soleIsSynced(copy: GhostCopy, seq: number): void {
    const { configuration } = this;
    if (configuration === null || configuration.copiesWanted === 1 && configuration.durability !== 'strict') return;
    if (configuration.members.length > 1 || primaryOf(configuration) !== copy.serverId) return;
    check(copy.durableSeq >= seq, 'sole-synced', () => `${copy.serverId} is the only copy in sync and answers ${seq}; stable is ${copy.durableSeq}`);
  }

  /** A client was told that everything through `seq` is on stable storage everywhere. */
  flushed(seq: number): void {
    this.counts.answeredFlushes++;
    const { history } = this;
    const reached = Math.min(seq, history.lastSeq);
    if (reached <= history.flushedSeq) return;
    history.flushedSeq = reached;
    for (const copy of this.copies.values()) this.#memberKeepsFlushed(copy);
  }

  // ------------------------------------------------------------------------------------------ invariants of states

  lost(member: Member): boolean {
    const copy = this.copies.get(member.serverId);
    return copy === undefined || copy.wiped || copy.incarnation !== member.incarnation;
  }

  member(serverId: ServerId): Member | undefined {
    return this.configuration === null ? undefined : memberOf(this.configuration, serverId);
  }

  /** Invariant 3, for all members. */
  everyPromotableHasAll(): void {
    if (this.configuration === null) return;
    for (const member of this.configuration.members) this.#promotableHasAll(this.copy(member.serverId));
  }

  /** Invariant 3, for one copy: if it may be promoted, everything answered is in its journal. */
  #promotableHasAll(copy: GhostCopy): void {
    const member = this.member(copy.serverId);
    if (member === undefined || this.lost(member)) return;
    const { history } = this;
    const at = history.indexOf(history.answeredSeq);
    if (at < 0) return;
    const record = history.records[at];
    if (copy.log.baseSeq > record.lastSeq) return;
    const chain = copy.log.chainAt(record.lastSeq);
    check(chain === record.chain, 'answered-everywhere', () =>
      `${copy.serverId} is in sync in epoch ${this.configuration?.epoch} and lacks answered seq ${record.lastSeq}: its log ends at ${copy.log.lastSeq}, digest there ${chain?.toString(16) ?? 'none'}, answered ${record.chain.toString(16)}`);
  }

  /**
   * Invariant "flushed-survives": what a member could still lose was not flushed. One that is compared with its primary, and has said so on its
   * disk, is promoted by nobody before it is whole again; that must be true after a loss of power as well.
   */
  #memberKeepsFlushed(copy: GhostCopy): void {
    const member = this.member(copy.serverId);
    const { history } = this;
    if (member === undefined || this.lost(member) || history.flushedSeq === 0) return;
    if (!copy.complete) return this.#othersAreWhole(copy);
    check(copy.durableSeq >= history.flushedSeq, 'flushed-survives', () =>
      `${copy.serverId} is in sync in epoch ${this.configuration?.epoch} and would keep ${copy.durableSeq} if its power failed; ${history.flushedSeq} was flushed`);
  }

  /** While one member is compared, there is one that is whole; it is held to have all that was flushed. Unless one was lost: that is another failure. */
  #othersAreWhole(copy: GhostCopy): void {
    const { members = [], epoch } = this.configuration ?? {};
    check(members.some((other) => this.lost(other) || this.copy(other.serverId).complete), 'flushed-survives', () =>
      `${copy.serverId} is in the set of epoch ${epoch} and not whole, and no other member is`);
  }

  // ------------------------------------------------------------------------------------------ configurations

  readonly #told = new Map<number, string>();
  #newestTold: Configuration | null = null;

  /** The manager tells somebody. */
  told(configuration: Configuration): void {
    const { epoch, members, learners, attachNumber, sizeBytes } = configuration;
    const text = JSON.stringify([members.map(({ serverId, incarnation }) => [serverId, incarnation]), learners, attachNumber, sizeBytes]);
    const known = this.#told.get(epoch);
    check(known === undefined || known === text, 'decided-once', () => `epoch ${epoch} is told as ${text}, and was told as ${known}`);
    this.#told.set(epoch, text);
    if (epoch > (this.#newestTold?.epoch ?? 0)) this.#newestTold = configuration;
  }

  /** What the store had decided and nobody was told of never was. */
  storeSetBack(): void {
    if ((this.configuration?.epoch ?? 0) > (this.#newestTold?.epoch ?? 0)) this.configuration = this.#newestTold;
  }

  configured(next: Configuration): void {
    const former = this.configuration;
    if (former !== null && next.epoch <= former.epoch) return;
    this.counts.configurations++;
    if (former !== null && this.#recovers(former, next)) this.#recovered(former, next);
    this.givenUp.clear();
    this.configuration = next;
    for (const member of next.members) this.#admitted(former, member);
    this.everyPromotableHasAll();
    this.#aloneIsSynced(next);
    for (const member of next.members) this.#memberKeepsFlushed(this.copy(member.serverId));
  }

  /** A copy was moved, drained away or taken away: nobody but the manager wanted it to go. */
  leftOnOrder(next: Configuration): void {
    check(next.members.length >= next.copiesWanted, 'copies-kept', () => `${next.members.length} copies are left in sync in epoch ${next.epoch}, ${next.copiesWanted} are wanted`);
  }

  /** What two page caches held was good enough; the one that is left must have it on its disk. */
  #aloneIsSynced(next: Configuration): void {
    if (next.members.length > 1 || next.copiesWanted === 1) return;
    const copy = this.copy(primaryOf(next));
    const { answeredSeq } = this.history;
    check(copy.durableSeq >= answeredSeq || this.lost(next.members[0]), 'sole-synced', () => `${copy.serverId} is left alone in sync in epoch ${next.epoch} with ${copy.durableSeq} on its disk; ${answeredSeq} was answered`);
  }

  /** By the operator: what only they have is lost. */
  readonly givenUp = new Set<ServerId>();

  /** Every member of the former configuration lost its cache, or was given up, and one of them is admitted anew. */
  #recovers(former: Configuration, next: Configuration): boolean {
    const primary = next.members[0] as Member;
    const before = memberOf(former, primary.serverId);
    return before !== undefined && before.incarnation !== primary.incarnation && former.members.every((member) => this.lost(member) || this.givenUp.has(member.serverId));
  }

  #recovered(former: Configuration, next: Configuration): void {
    const { history } = this;
    const winner = this.copy(primaryOf(next));
    const keeps = this.#commonWith(winner);
    this.counts.losses++;
    check(keeps >= history.flushedSeq, 'flushed-survives', () => `${winner.serverId} is recovered with ${keeps} after all copies lost their power; ${history.flushedSeq} was flushed`);
    check(keeps >= history.answeredSeq || former.members.length > 1 || former.copiesWanted === 1, 'answered-everywhere', () =>
      `the loss of power of one machine took back answered writes after ${keeps}`);
    if (keeps < history.answeredSeq) this.#noneHasMore(former, winner, keeps);
    history.lose(keeps);
  }

  #noneHasMore(former: Configuration, winner: GhostCopy, keeps: number): void {
    for (const member of former.members) {
      const other = this.copy(member.serverId);
      if (other === winner || other.wiped || this.givenUp.has(other.serverId)) continue;
      const reach = this.#commonWith(other);
      check(reach <= keeps, 'answered-everywhere', () => `${winner.serverId} was recovered with ${keeps} of the answered writes although ${other.serverId} still has ${reach}`);
    }
  }

  /** How much of the committed order a copy holds. */
  #commonWith(copy: GhostCopy): number {
    const { records } = this.history;
    for (let i = records.length - 1; i >= 0; i--) {
      if (copy.log.baseSeq > records[i].lastSeq || copy.log.chainAt(records[i].lastSeq) === records[i].chain) return records[i].lastSeq;
    }
    return 0;
  }

  /** Invariant 7: whoever is new in the set (or new in this life) holds all data, verified here block by block. */
  #admitted(former: Configuration | null, member: Member): void {
    const before = former === null ? undefined : memberOf(former, member.serverId);
    if (former === null || before?.incarnation === member.incarnation) return;
    const copy = this.copy(member.serverId);
    if (this.lost(member)) return;
    check(copy.complete, 'joined-verified', () => `${member.serverId} was admitted in epoch ${this.configuration?.epoch}, and says itself that data below its log is missing`);
    const wrong = this.verifyContent(member.serverId);
    check(wrong === null, 'joined-verified', () => `${member.serverId} was admitted in epoch ${this.configuration?.epoch}: ${wrong}`);
    this.counts.joinsVerified++;
  }
}

function position(seq: number, chain: number): string {
  return `${seq} ${chain}`;
}
