import { hashSecret, isMachineName, matchesSecret, MEMBERS_MAX, newJoinSecret, parseParties, parseRoles, requestKeyId, showJoinSecret, type Authority, type JoinAnswer, type JoinRequest, type Member, type MemberParty, type Role, type Roster } from '@ashlar/identity';
import type { InviteView, MachineView } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';
import type { InviteRecord, MachineRecord, MetadataStore, NewEvent, Put } from './core/index.ts';

export interface ClusterOptions {
  readonly authority: Authority;
  readonly store: MetadataStore;
  /** As this machine knows it: newer than the store's if that was lost, or put back from a copy. */
  readonly roster: Roster;
  readonly lifetimeMs: number;
  /** The roster has changed, durably. */
  readonly publish: (roster: Roster) => void;
  readonly isLinked: (member: Member) => boolean;
}

const TTL_MS_MAX = 7 * 86_400_000;
const USES_MAX = 1000;
/** Joinings that were ended, as far as machines are told of them. */
const REMOVED_MAX = 256;

/** Who belongs to the cluster: invitations, joinings, certificates, removals. The only writer of these records. */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #machines = new Map<string, MachineRecord>();
  readonly #invites = new Map<string, InviteRecord>();
  #number: number;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(options: ClusterOptions) {
    this.#options = options;
    this.#number = options.roster.number;
  }

  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    await cluster.#load();
    return cluster;
  }

  get roster(): Roster {
    const all = [...this.#machines.values()];
    return {
      clusterId: this.#options.authority.clusterId, number: this.#number,
      members: all.filter(isMember).map(({ machine, joining, roles, parties }) => ({ machine, joining, roles: roles as readonly Role[], parties: parties as readonly MemberParty[] })),
      removed: all.filter((known) => !isMember(known)).sort((a, b) => (b.removedAtMs ?? 0) - (a.removedAtMs ?? 0)).slice(0, REMOVED_MAX).map(({ machine, joining }) => ({ machine, joining })),
    };
  }

  async invite(asked: { readonly roles: readonly string[]; readonly ttlMs: number; readonly uses: number; readonly machine?: string }): Promise<InviteView> {
    const roles = rolesAsked(asked.roles);
    const { ttlMs, uses, machine = null } = asked;
    if (!(ttlMs >= 1000 && ttlMs <= TTL_MS_MAX)) throw bad('a join secret is good for 1s to 168h');
    if (!Number.isSafeInteger(uses) || uses < 1 || uses > USES_MAX) throw bad(`a join secret is for 1 to ${USES_MAX} machines`);
    const former = machine === null ? undefined : this.#member(machine);
    if (machine !== null && former === undefined) throw new AshlarError('not-found', `there is no machine ${machine} in the cluster`);
    // Whoever joined under its name would take its place, and the cluster would have no manager.
    if (former?.roles.includes('manager') === true) throw new AshlarError('in-use', `${former.machine} is the machine of the system manager: it makes its own certificate at every start`);
    if (machine !== null && uses !== 1) throw bad('a secret for one machine is used once');
    const secret = newJoinSecret(this.#options.authority.fingerprint);
    const expiresAtMs = Date.now() + ttlMs;
    const invite: InviteRecord = { inviteId: secret.inviteId, secretHash: hashSecret(secret.secret), roles, machine, expiresAtMs, usesLeft: uses };
    const old = [...this.#invites.values()].filter((known) => known.expiresAtMs + TTL_MS_MAX < Date.now());
    await this.#transact([{ kind: 'invite', id: invite.inviteId, value: invite }], event('invited', 'cluster', 'asked for', { invite: invite.inviteId, roles: roles.join(' '), uses }, 'operator'), old.map(({ inviteId }) => inviteId));
    for (const { inviteId } of old) this.#invites.delete(inviteId);
    this.#invites.set(invite.inviteId, invite);
    return { secret: showJoinSecret(secret), roles, expiresAt: new Date(expiresAtMs).toISOString(), uses };
  }

  /** Throws `untrusted` for a secret that does not count (any more), `already-exists` for a name or party that is taken. */
  join(raw: unknown): Promise<JoinAnswer> { return this.#inTurn(() => this.#join(parseJoin(raw))); }

  async #join(asked: JoinRequest): Promise<JoinAnswer> {
    const invite = this.#invites.get(asked.inviteId);
    if (invite === undefined || !matchesSecret(asked.secret, invite.secretHash)) throw refused('this join secret is not known here');
    // Also for whoever asks again: with its secret and its first key a disk that was stolen would otherwise be a member for ever.
    if (invite.expiresAtMs < Date.now()) throw refused(`this join secret has expired (${new Date(invite.expiresAtMs).toISOString()})`);
    const keyId = await requestKeyId(asked.request);
    const again = [...this.#machines.values()].find((known) => isMember(known) && known.inviteId === invite.inviteId && known.keyId === keyId && known.machine === asked.machine);
    if (again) return this.#answer(again, asked.request);
    if (invite.usesLeft < 1) throw refused('this join secret has been used');
    const beyond = asked.roles.find((role) => !invite.roles.includes(role));
    if (beyond !== undefined) throw refused(`this join secret is for ${invite.roles.join(', ')}, not for ${beyond}`);
    if (invite.machine !== null && invite.machine !== asked.machine) throw refused(`this join secret is for machine ${invite.machine}`);
    const former = this.#member(asked.machine);
    if (former && invite.machine === null) throw new AshlarError('already-exists', `there is a machine ${asked.machine} in the cluster; to let it join again: \`ashlar cluster invite --machine ${asked.machine}\``);
    this.#checkParties(asked.parties, asked.roles, former);
    if (former === undefined && this.roster.members.length >= MEMBERS_MAX) throw bad(`a cluster has at most ${MEMBERS_MAX} machines: \`ashlar machine remove\` those that are gone`);
    const joining = Math.max(0, ...[...this.#machines.values()].filter(({ machine }) => machine === asked.machine).map((known) => known.joining)) + 1;
    const record: MachineRecord = { machine: asked.machine, joining, roles: asked.roles, parties: asked.parties, keyId, inviteId: invite.inviteId, joinedAtMs: Date.now(), removedAtMs: null };
    const used: InviteRecord = { ...invite, usesLeft: invite.usesLeft - 1 };
    const ended = former === undefined ? [] : [{ ...former, removedAtMs: Date.now() }];
    await this.#change([record, ...ended], event('machine-joined', record.machine, former ? 'it joined again' : 'it joined', { joining, roles: record.roles.join(' '), invite: invite.inviteId }), [used]);
    return this.#answer(record, asked.request);
  }

  /** Of a member whose certificate has been looked at; it may have been removed while its request arrived. */
  async renew(member: Member, raw: unknown): Promise<Pick<JoinAnswer, 'certificate'>> {
    const { request } = (raw ?? {}) as { request?: unknown };
    if (typeof request !== 'string') throw bad('a renewal has a certificate request');
    if (this.#member(member.machine)?.joining !== member.joining) throw refused(`machine ${member.machine} was removed from the cluster`);
    return { certificate: await this.#issue(member, request) };
  }

  /** Where its parties listen now: a configuration may have changed since it joined. Roles come from an invitation alone. */
  moved(member: Member, parties: readonly MemberParty[]): Promise<void> { return this.#inTurn(() => this.#moved(member, parties)); }

  async #moved(member: Member, parties: readonly MemberParty[]): Promise<void> {
    const record = this.#member(member.machine);
    if (record === undefined || record.joining !== member.joining || JSON.stringify(record.parties) === JSON.stringify(parties)) return;
    this.#checkParties(parties, record.roles, record);
    await this.#change([{ ...record, parties }], event('machine-moved', record.machine, 'its configuration has changed', { addresses: addressesOf(parties).join(' ') }));
  }

  list(): readonly MachineView[] {
    const { members } = this.roster;
    return [...this.#machines.values()].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1)).map((record) => {
      const member = isMember(record) ? members.find(({ machine }) => machine === record.machine) : undefined;
      return {
        machine: record.machine, joining: record.joining, roles: record.roles, parties: record.parties.map(({ party }) => party), addresses: addressesOf(record.parties),
        state: member === undefined ? 'removed' as const : this.#options.isLinked(member) ? 'linked' as const : 'unlinked' as const, joinedAt: new Date(record.joinedAtMs).toISOString(),
      };
    });
  }

  /** The parties that it had. Throws `not-found`, `in-use` for the manager's own machine. */
  remove(machine: string): Promise<readonly MemberParty[]> { return this.#inTurn(() => this.#remove(machine)); }

  async #remove(machine: string): Promise<readonly MemberParty[]> {
    const record = this.#member(machine);
    if (record === undefined) throw new AshlarError('not-found', `there is no machine ${machine} in the cluster`);
    if (record.roles.includes('manager')) throw new AshlarError('in-use', `${machine} is the machine of the system manager`);
    await this.#change([{ ...record, removedAtMs: Date.now() }], event('machine-removed', machine, 'asked for', { joining: record.joining }, 'operator'));
    return record.parties as readonly MemberParty[];
  }

  partiesOf(machine: string): readonly MemberParty[] { return (this.#member(machine)?.parties ?? []) as readonly MemberParty[]; }

  // ---- parts

  /** What changes records is done one after the other: each is decided on what the one before has left. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    // The next begins in any case; whoever asked hears of the failure.
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #member(machine: string): MachineRecord | undefined { return [...this.#machines.values()].find((record) => record.machine === machine && isMember(record)); }

  #checkParties(parties: readonly MemberParty[], roles: readonly string[], former: MachineRecord | undefined): void {
    const beyond = parties.find(({ role }) => role !== 'daemon' && !roles.includes(role));
    if (beyond) throw refused(`${beyond.party} has the role ${beyond.role}, which this machine was not invited for`);
    const taken = parties.find(({ party }) => [...this.#machines.values()].some((known) => isMember(known) && known !== former && known.parties.some((other) => other.party === party)));
    if (taken) throw new AshlarError('already-exists', `another machine of the cluster has ${taken.party} already`);
    if (new Set(parties.map(({ party }) => party)).size < parties.length) throw bad('each party of a machine has a name of its own');
    // The roster is sent to everybody whenever it changes: what one machine says of itself must not make it too large for that.
    if (new Set(parties.map(({ role }) => role)).size < parties.length) throw bad('a machine has one party of each role');
  }

  async #answer(record: MachineRecord, request: string): Promise<JoinAnswer> {
    return { certificate: await this.#issue(record, request), roster: this.roster };
  }

  /** No addresses: whoever looks at those takes their holder for the manager, and a joiner says itself where it listens. */
  #issue({ machine, joining }: Pick<Member, 'machine' | 'joining'>, request: string): Promise<string> {
    return this.#options.authority.issue(request, { machine, joining, hosts: [], lifetimeMs: this.#options.lifetimeMs });
  }

  async #load(): Promise<void> {
    const snapshot = await new Promise<Parameters<Parameters<MetadataStore['load']>[0]>[0]>((resolve) => this.#options.store.load(resolve));
    if (snapshot === null) throw new AshlarError('io-error', 'the metadata store cannot be read');
    let known = 0;
    for (const stored of snapshot.records) {
      if (stored.kind === 'machine') this.#machines.set(stored.id, stored.value);
      if (stored.kind === 'invite') this.#invites.set(stored.id, stored.value);
      if (stored.kind === 'cluster') known = stored.value.rosterNumber;
    }
    const { roster } = this.#options;
    if (known === roster.number) return;
    if (known > roster.number) {
      this.#number = known;
      return this.#options.publish(this.roster);
    }
    // A new store, or one from before the last changes: what this machine has published is what the others go by.
    const nowMs = Date.now();
    const missing = roster.members.map((member): MachineRecord => ({ keyId: '', inviteId: '', joinedAtMs: nowMs, ...this.#machines.get(idOf(member)), ...member, removedAtMs: null }));
    const removed = roster.removed.map((one): MachineRecord => ({ keyId: '', inviteId: '', joinedAtMs: nowMs, roles: [], parties: [], removedAtMs: nowMs, ...this.#machines.get(idOf(one)), ...one }));
    const ended = [...this.#machines.values()].filter((record) => isMember(record) && !roster.members.some((member) => idOf(member) === idOf(record))).map((record) => ({ ...record, removedAtMs: nowMs }));
    // A secret that was used since would be good once more.
    const invites = [...this.#invites.values()].map((invite): InviteRecord => ({ ...invite, usesLeft: 0 }));
    await this.#change([...ended, ...removed.map((record) => ({ ...record, removedAtMs: record.removedAtMs ?? nowMs })), ...missing], event('roster-taken', 'cluster', 'the machine of the manager knew a newer one than the metadata store', { number: roster.number }), invites);
  }

  /** Durable first; then everybody is told. */
  async #change(records: readonly MachineRecord[], what: NewEvent, invites: readonly InviteRecord[] = []): Promise<void> {
    // Never below what any machine has seen, whatever became of the store.
    const number = Math.max(this.#number + 1, Date.now());
    const cluster: Put = { kind: 'cluster', id: 'cluster', value: { clusterId: this.#options.authority.clusterId, rosterNumber: number } };
    await this.#transact([cluster, ...records.map((value) => ({ kind: 'machine' as const, id: idOf(value), value })), ...invites.map((value) => ({ kind: 'invite' as const, id: value.inviteId, value }))], what);
    for (const record of records) this.#machines.set(idOf(record), record);
    for (const invite of invites) this.#invites.set(invite.inviteId, invite);
    this.#number = Math.max(this.#number, number);
    this.#options.publish(this.roster);
  }

  #transact(puts: readonly Put[], what: NewEvent, invitesGone: readonly string[] = []): Promise<void> {
    return new Promise((resolve, reject) => {
      const deletes = invitesGone.map((id) => ({ kind: 'invite' as const, id }));
      this.#options.store.transact({ conditions: [], puts, deletes, events: [what] }, ({ kind }) => (kind === 'applied' ? resolve() : reject(new AshlarError('timeout', 'the metadata store did not answer', { retry: 'later' }))));
    });
  }
}

function isMember(record: MachineRecord): boolean { return record.removedAtMs === null; }
function idOf({ machine, joining }: { readonly machine: string; readonly joining: number }): string { return `${machine}/${joining}`; }

function addressesOf(parties: MachineRecord['parties']): readonly string[] {
  return [...new Set(parties.flatMap(({ address }) => (address === null ? [] : [`${address.host}:${address.port}`])))];
}

function rolesAsked(raw: readonly string[]): readonly Role[] {
  const roles = fromOutside(() => parseRoles(raw));
  if (roles.length === 0) throw bad('say which roles: --roles storage,host');
  if (roles.includes('manager')) throw bad('a cluster has one system manager, on the machine that founded it');
  return roles;
}

function parseJoin(raw: unknown): JoinRequest {
  const { inviteId, secret, machine, roles, parties, request } = (raw ?? {}) as Partial<Record<keyof JoinRequest, unknown>>;
  if (typeof inviteId !== 'string' || typeof secret !== 'string' || typeof request !== 'string') throw bad('not a request to join');
  if (typeof machine !== 'string' || !isMachineName(machine)) throw bad('a machine has a name of a-z, 0-9 and -');
  return { inviteId, secret, machine, request, roles: fromOutside(() => parseRoles(roles)), parties: fromOutside(() => parseParties(parties)) };
}

/** What is wrong with what somebody sent is his fault, not the protocol's. */
function fromOutside<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof AshlarError ? bad(error.message) : error;
  }
}

function event(name: string, subject: string, reason: string, detail: NewEvent['detail'], source = 'manager'): NewEvent {
  return { atMs: Date.now(), name, subject, source, reason, detail };
}

function bad(message: string): AshlarError { return new AshlarError('invalid-argument', message); }
function refused(message: string): AshlarError { return new AshlarError('untrusted', message); }
