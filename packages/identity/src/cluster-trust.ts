import type { X509Certificate } from 'node:crypto';
import { certifiedName } from './names.ts';
import type { Member, MemberParty, Roster } from './roster.ts';

/** In PEM. */
export interface Credentials {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

/** What OpenSSL calls it, and what it means here. */
const FAULTS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has expired',
  CERT_NOT_YET_VALID: 'is not valid yet: one of the two clocks is wrong',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'is not of this cluster',
  UNABLE_TO_GET_ISSUER_CERT: 'is not of this cluster',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'is not of this cluster',
  SELF_SIGNED_CERT_IN_CHAIN: 'is not of this cluster',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is not of this cluster',
  CERT_SIGNATURE_FAILURE: 'is not of this cluster',
};

/**
 * Who this machine is, and whom it believes: those who show a certificate of the cluster's authority for a joining that is in the roster, and only
 * for the parties that the roster gives it. (Satisfies the runtime's `PeerTrust`.)
 */
export class ClusterTrust {
  #credentials: Credentials;
  #roster: Roster;
  #roles: ReadonlyMap<string, MemberParty['role']>;
  readonly #listeners: (() => void)[] = [];

  constructor(credentials: Credentials, roster: Roster) {
    this.#credentials = credentials;
    this.#roster = roster;
    this.#roles = rolesIn(roster);
  }

  get roster(): Roster { return this.#roster; }

  credentials(): Credentials { return this.#credentials; }

  onChange(listener: () => void): void { this.#listeners.push(listener); }

  /** A renewed certificate, a newer roster, or both. An older roster is not taken: it may have been on its way for long. */
  update(credentials: Credentials, roster: Roster): void {
    this.#credentials = credentials;
    if (roster.number > this.#roster.number) {
      this.#roster = roster;
      this.#roles = rolesIn(roster);
    }
    for (const listener of this.#listeners) listener();
  }

  /** What this party is to the cluster: what a link is believed of a party is its name alone. */
  roleOf(party: string): MemberParty['role'] | undefined { return this.#roles.get(party); }

  member(certificate: X509Certificate): Member | null {
    const name = certifiedName(certificate);
    if (name?.clusterId !== this.#roster.clusterId) return null;
    return this.#roster.members.find(({ machine, joining }) => machine === name.machine && joining === name.joining) ?? null;
  }

  judge(certificate: X509Certificate | undefined, fault: string | null): { readonly parties: ReadonlySet<string> } | { readonly refused: string } {
    if (certificate === undefined) return { refused: 'it showed no certificate' };
    const name = certifiedName(certificate);
    const whose = name === null ? 'its certificate, which names no machine,' : `the certificate of machine ${name.machine}`;
    if (fault !== null) return { refused: `${whose} ${FAULTS[fault] ?? `is not accepted (${fault})`}${fault === 'CERT_HAS_EXPIRED' ? ` (${certificate.validTo})` : ''}` };
    if (name === null || name.clusterId !== this.#roster.clusterId) return { refused: `${whose} is not of this cluster` };
    const member = this.member(certificate);
    if (member !== null) return { parties: new Set(member.parties.map(({ party }) => party)) };
    const removed = this.#roster.removed.some(({ machine, joining }) => machine === name.machine && joining === name.joining);
    return { refused: removed ? `machine ${name.machine} was removed from the cluster` : `machine ${name.machine} (joining ${name.joining}) is not in the roster of the cluster` };
  }
}

function rolesIn({ members }: Roster): ReadonlyMap<string, MemberParty['role']> {
  return new Map(members.flatMap(({ parties }) => parties.map(({ party, role }) => [party, role])));
}
