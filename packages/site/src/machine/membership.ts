import { readFileSync, rmSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import type { ActorLog } from '@ashlar/actor';
import { Authority, join, MachineIdentity, newRequest, parseJoinSecret, readIfThere, renew, replaceFile, type Credentials, type Roster } from '@ashlar/identity';
import { AshlarError } from '@ashlar/words';
import { partiesOf, rolesOf, type MachineConfig } from './config.ts';

const JOINING = 'joining.json';

export interface Membership {
  readonly identity: MachineIdentity;
  /** On the machine that founded the cluster. */
  readonly authority: Authority | null;
  /** Of the same name, for a new key. */
  readonly renewed: () => Promise<Credentials>;
}

/** This machine's place in its cluster: as its directory has it, else founded (with the manager) or joined. Throws what the cluster refuses. */
export async function membershipOf(config: MachineConfig): Promise<Membership> {
  const directory = joinPath(config.directory, 'identity');
  const known = MachineIdentity.open(directory);
  if (known !== null && known.name.machine !== config.name) throw new AshlarError('directory-foreign', `${directory} is of machine ${known.name.machine}, not of ${config.name}`, { path: directory });
  if (config.manager === null) {
    const identity = known ?? (await joined(config, directory));
    return { identity, authority: null, renewed: () => renew(config.join?.url ?? '', identity.credentials, config.name) };
  }
  // What is left of an identity is of a cluster that goes on, whichever part of it is missing: no other one is founded over it.
  const roster = known?.roster ?? MachineIdentity.rosterIn(directory);
  const authority = await Authority.open(directory, roster?.clusterId);
  const { certificateLifetimeMs } = config.manager;
  const joining = known?.name.joining ?? roster?.members.find(({ machine }) => machine === config.name)?.joining ?? 1;
  // Its own certificate needs nobody else: a cluster whose manager was away for long begins with it.
  const renewed = (): Promise<Credentials> => ownCertificate(config, certificateLifetimeMs, authority, joining);
  known?.renew(await renewed());
  return { identity: known ?? MachineIdentity.create(directory, await renewed(), founded(config, authority.clusterId, joining, roster)), authority, renewed };
}

/** The manager tells the roster again to a machine that starts with an older one. */
export function unwrittenRoster(log: ActorLog): (error: unknown) => void {
  return (error) => log.error({ error }, 'the roster of the cluster cannot be written to the disk; it counts all the same, until this machine starts again');
}

async function ownCertificate(config: MachineConfig, lifetimeMs: number, authority: Authority, joining: number): Promise<Credentials> {
  const { key, request } = await newRequest(config.name);
  return { key, cert: await authority.issue(request, { machine: config.name, joining, hosts: [config.listen], lifetimeMs }), ca: authority.pem };
}

/** The roster of a new cluster; or the former one, in which this machine is what its configuration says now. */
function founded(config: MachineConfig, clusterId: string, joining: number, former: Roster | null): Roster {
  const member = { machine: config.name, joining, roles: rolesOf(config), parties: partiesOf(config) };
  const others = former?.members.filter(({ machine, roles }) => machine !== config.name && !roles.includes('manager')) ?? [];
  return { clusterId, number: Math.max((former?.number ?? 0) + 1, Date.now()), members: [member, ...others], removed: former?.removed ?? [] };
}

async function joined(config: MachineConfig, directory: string): Promise<MachineIdentity> {
  const { url, secret, secretFile } = config.join ?? { url: '', secret: null, secretFile: null };
  const text = secret ?? (secretFile === null ? null : readSecret(secretFile));
  if (text === null) throw new AshlarError('invalid-argument', `this machine has not joined yet: ask for a secret by \`ashlar cluster invite --roles ${rolesOf(config).join(',')}\` and put it into join.secretFile`);
  const { credentials, roster } = await join(url, parseJoinSecret(text), { machine: config.name, roles: rolesOf(config), parties: partiesOf(config) }, await requestOf(config.name, directory));
  const identity = MachineIdentity.create(directory, credentials, roster);
  rmSync(joinPath(directory, JOINING), { force: true });
  return identity;
}

/** Kept until it has been answered: the same request, asked again, is given the same answer although the secret is used by then. */
async function requestOf(machine: string, directory: string): Promise<{ readonly key: string; readonly request: string }> {
  const path = joinPath(directory, JOINING);
  const known = readIfThere(path);
  if (known !== null) return JSON.parse(known) as { key: string; request: string };
  const made = await newRequest(machine);
  replaceFile(path, JSON.stringify(made));
  return made;
}

function readSecret(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AshlarError('invalid-argument', `the join secret ${path} cannot be read: ${(cause as Error).message}`, { path, cause });
  }
}
