import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { isMachineName, type MemberParty, type Role } from '@ashlar/identity';
import { AshlarError, hostId, parseDurationMs, serverId } from '@ashlar/words';
import { parse } from 'yaml';

/** One machine of a cluster, as `ashlard.yaml` says it. docs/formats/ashlard-yaml.md */
export interface MachineConfig {
  readonly name: string;
  /** Everything but volumes: identity, logs, the manager's store. */
  readonly directory: string;
  /** The address at which other machines reach this one. */
  readonly listen: string;
  readonly manager: ManagerConfig | null;
  readonly storage: { readonly id: string; readonly directories: readonly string[]; readonly port: number } | null;
  readonly host: { readonly id: string; readonly directory: string; /** Of the NBD socket; null: one in the temporary directory. */ readonly sockets: string | null } | null;
  /** Null on the manager's own machine. */
  readonly join: { readonly url: string; readonly secret: string | null; readonly secretFile: string | null } | null;
  readonly frozenKillAfterMs: number;
}

export interface ManagerConfig {
  readonly port: number;
  readonly apiPort: number;
  /** Figures for Prometheus on loopback; without it on the API's port only. */
  readonly metricsPort?: number | undefined;
  readonly certificateLifetimeMs: number;
  readonly rebuildDelayMs: number;
}

const PORTS = { manager: 7400, api: 7401, storage: 7402 } as const;
/** Long enough for a manager that is away over a long weekend, short enough that a stolen certificate is soon worth nothing. */
const LIFETIME = '168h';
const LIFETIME_MS_MIN = 2000;

export function readConfig(path: string): MachineConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AshlarError('invalid-argument', `${path} cannot be read: ${(cause as Error).message}`, { path, cause });
  }
  return parseConfig(text, path);
}

/** `path`: for errors, and for what lies relative to the file. */
export function parseConfig(text: string, path: string): MachineConfig {
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (cause) {
    // Without the lines of the file that follow: there may be a secret in them.
    throw new AshlarError('invalid-argument', `${path} is no YAML: ${(cause as Error).message.split('\n')[0] ?? ''}`, { path });
  }
  const top = new Section(raw, '', path, ['name', 'directory', 'listen', 'manager', 'storage', 'host', 'join', 'frozenKillAfter']);
  const name = top.text('name');
  if (!isMachineName(name)) throw top.bad('name', 'is 1 to 52 of a-z, 0-9 and -');
  const directory = top.path('directory', '/var/lib/ashlar');
  const listen = top.text('listen');
  if (isIP(listen) === 0 && !/^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$/.test(listen)) throw top.bad('listen', 'is an IP address or a name of this machine');
  // It goes into the roster: others would dial themselves.
  if (isIP(listen) !== 0 && /^[0:.]+$/.test(listen)) throw top.bad('listen', 'is the address at which other machines reach this one, not that of all its networks');
  const config: MachineConfig = {
    name, directory, listen,
    manager: managerOf(top.section('manager', ['port', 'apiPort', 'metricsPort', 'certificateLifetime', 'rebuildDelay'])),
    storage: storageOf(top.section('storage', ['id', 'directories', 'port']), name, directory),
    host: hostOf(top.section('host', ['id', 'directory', 'sockets']), name, directory),
    join: joinOf(top.section('join', ['url', 'secret', 'secretFile'])),
    frozenKillAfterMs: top.durationMs('frozenKillAfter', '30s'),
  };
  if (rolesOf(config).length === 0) throw top.bad('', 'has none of manager, storage and host: this machine would have nothing to do');
  if (config.manager === null && config.join === null) throw top.bad('join', 'is missing: a machine without the manager joins the cluster of one');
  if (config.manager !== null && config.join !== null) throw top.bad('join', 'is for machines without the manager: this one is where the others join');
  const ports = [config.manager?.port, config.manager?.apiPort, config.manager?.metricsPort, config.storage?.port].filter((port) => port !== undefined);
  if (new Set(ports).size < ports.length) throw top.bad('', `uses a port twice (${ports.join(', ')})`);
  const names = partiesOf(config).map(({ party }) => party);
  if (new Set(names).size < names.length) throw top.bad('', `uses a name twice (${names.join(', ')})`);
  return config;
}

export function rolesOf({ manager, storage, host }: MachineConfig): readonly Role[] {
  return [...(manager ? ['manager' as const] : []), ...(storage ? ['storage' as const] : []), ...(host ? ['host' as const] : [])];
}

export function daemonParty({ name }: MachineConfig): string { return `${name}-daemon`; }

/** What the roster says of this machine. */
export function partiesOf(config: MachineConfig): readonly MemberParty[] {
  const { manager, storage, host, listen } = config;
  const at = (port: number): MemberParty['address'] => ({ host: listen, port });
  return [
    { party: daemonParty(config), role: 'daemon', address: null },
    ...(manager ? [{ party: 'manager', role: 'manager' as const, address: at(manager.port) }] : []),
    ...(storage ? [{ party: storage.id, role: 'storage' as const, address: at(storage.port) }] : []),
    ...(host ? [{ party: host.id, role: 'host' as const, address: null }] : []),
  ];
}

function managerOf(section: Section | null): MachineConfig['manager'] {
  if (section === null) return null;
  const certificateLifetimeMs = section.durationMs('certificateLifetime', LIFETIME);
  if (certificateLifetimeMs < LIFETIME_MS_MIN) throw section.bad('certificateLifetime', `is at least ${LIFETIME_MS_MIN / 1000}s`);
  return { port: section.port('port', PORTS.manager), apiPort: section.port('apiPort', PORTS.api), certificateLifetimeMs, rebuildDelayMs: section.durationMs('rebuildDelay', '30s'), metricsPort: section.has('metricsPort') ? section.port('metricsPort', 0) : undefined };
}

function storageOf(section: Section | null, name: string, directory: string): MachineConfig['storage'] {
  if (section === null) return null;
  return { id: serverId(section.text('id', name)), directories: section.paths('directories', [join(directory, 'storage')]), port: section.port('port', PORTS.storage) };
}

function hostOf(section: Section | null, name: string, directory: string): MachineConfig['host'] {
  if (section === null) return null;
  const sockets = section.path('sockets', '');
  return { id: hostId(section.text('id', `${name}-host`)), directory: section.path('directory', join(directory, 'host')), sockets: sockets === '' ? null : sockets };
}

function joinOf(section: Section | null): MachineConfig['join'] {
  if (section === null) return null;
  const url = section.text('url');
  if (!URL.canParse(url) || new URL(url).protocol !== 'https:') throw section.bad('url', 'is the URL of the manager, such as https://10.0.0.1:7401');
  const secret = section.text('secret', '');
  const secretFile = section.path('secretFile', '');
  if (secret !== '' && secretFile !== '') throw section.bad('secret', 'and secretFile are not given together');
  return { url, secret: secret === '' ? null : secret, secretFile: secretFile === '' ? null : secretFile };
}

/** A mapping of the file: every key of it is known, or the file is refused. A section that is there but empty is all defaults. */
class Section {
  readonly #raw: Readonly<Record<string, unknown>>;
  readonly #at: string;
  readonly #path: string;

  constructor(raw: unknown, at: string, path: string, keys: readonly string[]) {
    this.#at = at;
    this.#path = path;
    if (raw !== null && raw !== undefined && (typeof raw !== 'object' || Array.isArray(raw))) throw this.bad('', 'is not a mapping of keys to values');
    this.#raw = (raw ?? {}) as Readonly<Record<string, unknown>>;
    const unknown = Object.keys(this.#raw).find((key) => !keys.includes(key));
    if (unknown !== undefined) throw new AshlarError('invalid-argument', `${path}: there is no key "${at === '' ? '' : `${at}.`}${unknown}"; known here: ${keys.join(', ')}`, { path });
  }

  section(key: string, keys: readonly string[]): Section | null {
    return key in this.#raw ? new Section(this.#raw[key], this.#name(key), this.#path, keys) : null;
  }

  /** Without a default it must be there. */
  text(key: string, standard?: string): string {
    const value = this.#raw[key] ?? standard;
    if (typeof value !== 'string' || (value === '' && standard === undefined)) throw this.bad(key, value === undefined ? 'is missing' : 'is not text');
    return value;
  }

  durationMs(key: string, standard: string): number {
    const value = this.#raw[key] ?? standard;
    try {
      // YAML reads a bare 0 as a number.
      return parseDurationMs(typeof value === 'number' ? value.toString() : this.text(key, standard));
    } catch (cause) {
      throw this.bad(key, (cause as Error).message);
    }
  }

  has(key: string): boolean { return key in this.#raw; }

  port(key: string, standard: number): number {
    const value = this.#raw[key] ?? standard;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > 65_535) throw this.bad(key, 'is a port from 1 to 65535');
    return value;
  }

  path(key: string, standard: string): string {
    const value = this.text(key, standard);
    return value === '' || isAbsolute(value) ? value : resolve(dirname(this.#path), value);
  }

  paths(key: string, standard: readonly string[]): readonly string[] {
    const value = this.#raw[key] ?? standard;
    if (!Array.isArray(value) || value.length === 0 || value.some((one) => typeof one !== 'string' || one === '')) throw this.bad(key, 'is a list of directories');
    const all = (value as readonly string[]).map((one) => resolve(dirname(this.#path), one));
    if (new Set(all).size < all.length) throw this.bad(key, 'names a directory twice');
    return all;
  }

  bad(key: string, what: string): AshlarError {
    const name = key === '' ? this.#at : this.#name(key);
    return new AshlarError('invalid-argument', `${this.#path}: ${name === '' ? 'it' : name} ${what}`, { path: this.#path });
  }

  #name(key: string): string { return this.#at === '' ? key : `${this.#at}.${key}`; }
}
