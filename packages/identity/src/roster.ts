import { AshlarError } from '@ashlar/words';
import { MEMBERS_MAX } from './limits.ts';
import { isMachineName } from './names.ts';

export const ROLES = ['manager', 'storage', 'host'] as const;
export type Role = (typeof ROLES)[number];

/** Of what runs on a machine, one thing that others link to. `daemon`: the supervisor of the machine's processes. */
export interface MemberParty {
  readonly party: string;
  readonly role: Role | 'daemon';
  /** Where it listens; null: it links to others. */
  readonly address: { readonly host: string; readonly port: number } | null;
}

export interface Member {
  readonly machine: string;
  readonly joining: number;
  /** Bound by the secret with which it joined. */
  readonly roles: readonly Role[];
  readonly parties: readonly MemberParty[];
}

/** Who belongs to the cluster, published by the system manager to all of them. docs/formats/identity.md */
export interface Roster {
  readonly clusterId: string;
  /** Rises with every change. One that is older than what a machine has is not taken. */
  readonly number: number;
  readonly members: readonly Member[];
  /** The joinings that were ended on the operator's word, the last ones: only so that a machine is told the right reason. */
  readonly removed: readonly { readonly machine: string; readonly joining: number }[];
}

const PARTY = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HOST = /^[0-9A-Za-z:.-]{1,253}$/;

/** From the disk, a link or a joiner: checked field by field. Throws `protocol`. */
export function parseRoster(value: unknown): Roster {
  const { clusterId, number, members, removed } = fieldsOf(value);
  if (typeof clusterId !== 'string' || !/^[0-9a-f]{16}$/.test(clusterId) || !isCount(number)) throw bad('a roster without cluster or number');
  return {
    clusterId, number,
    members: listOf(members).map((member) => {
      const { machine, joining, roles, parties } = fieldsOf(member);
      return { ...joiningOf({ machine, joining }), roles: parseRoles(roles), parties: parseParties(parties) };
    }),
    removed: listOf(removed).map((one) => joiningOf(fieldsOf(one))),
  };
}

export function parseRoles(value: unknown): readonly Role[] {
  const roles = listOf(value);
  if (!roles.every((role): role is Role => ROLES.includes(role as Role))) throw bad(`a role is one of ${ROLES.join(', ')}`);
  return [...new Set(roles)];
}

export function parseParties(value: unknown): readonly MemberParty[] {
  return listOf(value).map((one) => {
    const { party, role, address } = fieldsOf(one);
    if (typeof party !== 'string' || !PARTY.test(party)) throw bad('a party without a name');
    if (role !== 'daemon' && !ROLES.includes(role as Role)) throw bad(`${party} has no role that is known`);
    return { party, role: role as MemberParty['role'], address: address === null ? null : parseAddress(address) };
  });
}

function parseAddress(value: unknown): { readonly host: string; readonly port: number } {
  const { host, port } = fieldsOf(value);
  if (typeof host !== 'string' || !HOST.test(host) || !isCount(port) || port > 65_535) throw bad('an address has a host and a port');
  return { host, port };
}

function joiningOf({ machine, joining }: Readonly<Record<string, unknown>>): { readonly machine: string; readonly joining: number } {
  if (typeof machine !== 'string' || !isMachineName(machine) || !isCount(joining)) throw bad('a machine without a name');
  return { machine, joining };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('an object is missing');
  return value as Readonly<Record<string, unknown>>;
}

function listOf(value: unknown): readonly unknown[] {
  if (!Array.isArray(value) || value.length > MEMBERS_MAX) throw bad('a list is missing, or too long');
  return value as readonly unknown[];
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
}

function bad(what: string): AshlarError { return new AshlarError('protocol', `not a roster of this version: ${what}`); }
