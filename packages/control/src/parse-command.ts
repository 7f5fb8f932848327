import { AshlarError, hostId, serverId, volumeId } from '@ashlar/words';
import { type ApiCommand, DISK_KINDS, type DiskKind, type VolumeLimits } from '@ashlar/protocol';

type Raw = Readonly<Record<string, unknown>>;

/** A command as it came over the API, checked field by field. What a number may be is decided where the command is carried out. */
export function parseCommand(raw: unknown): ApiCommand {
  const c = raw as Raw;
  switch (c['kind']) {
    case 'volume-create': {
      const clientToken = optional(c, 'clientToken', text);
      return {
        kind: 'volume-create', sizeBytes: number(c, 'sizeBytes'), mirrors: optional(c, 'mirrors', number) ?? 1, minCopies: optional(c, 'minCopies', number) ?? 1,
        durability: durability(c) ?? 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5, ...limits(c) }, tags: tags(c) ?? {},
        ...(clientToken === undefined ? {} : { clientToken }), ...diskOf(c), ...(flag(c, 'explain') ? { explain: true } : {}), ...(flag(c, 'dryRun') ? { dryRun: true } : {}),
      };
    }
    case 'volume-list':
    case 'server-list':
    case 'host-list':
    case 'manager-describe':
    case 'report':
    case 'cluster-status':
      return { kind: c['kind'] };
    case 'recover': return { kind: 'recover', dryRun: flag(c, 'dryRun'), without: (optional(c, 'without', texts) ?? []).map(serverId) };
    case 'volume-describe':
    case 'volume-delete':
    case 'volume-scrub':
      return { kind: c['kind'], volumeId: aVolume(c) };
    case 'volume-modify': {
      const minCopies = optional(c, 'minCopies', number);
      const mirrors = optional(c, 'mirrors', number);
      const durable = durability(c);
      const some = tags(c);
      return {
        kind: 'volume-modify', volumeId: aVolume(c), limits: limits(c), ...(minCopies === undefined ? {} : { minCopies }), ...(mirrors === undefined ? {} : { mirrors }),
        ...(durable === undefined ? {} : { durability: durable }), ...(some === undefined ? {} : { tags: some }),
      };
    }
    case 'volume-grow': return { kind: 'volume-grow', volumeId: aVolume(c), sizeBytes: number(c, 'sizeBytes') };
    case 'volume-attach': return { kind: 'volume-attach', volumeId: aVolume(c), readOnly: flag(c, 'readOnly'), tcp: flag(c, 'tcp'), ...aHost(c), ...aServer(c, 'copy') };
    case 'volume-detach': return { kind: 'volume-detach', volumeId: aVolume(c), ...aHost(c), ...aServer(c, 'copy'), force: flag(c, 'force') };
    case 'volume-failover': return { kind: 'volume-failover', volumeId: aVolume(c), ...aServer(c, 'to'), ...aServer(c, 'giveUp') };
    case 'volume-move': return { kind: 'volume-move', volumeId: aVolume(c), from: serverId(text(c, 'from')), ...aServer(c, 'to') };
    case 'server-add': {
      const rack = optional(c, 'rack', text);
      return { kind: 'server-add', ...(rack === undefined ? {} : { rack }), ...diskOf(c) };
    }
    case 'server-drain': return { kind: 'server-drain', serverId: serverId(text(c, 'serverId')), cancel: flag(c, 'cancel') };
    case 'server-remove': return { kind: 'server-remove', serverId: serverId(text(c, 'serverId')), check: flag(c, 'check') };
    case 'cluster-modify': {
      const rebuildBudgetBytes = optional(c, 'rebuildBudgetBytes', number);
      const rebuildsAtOnce = optional(c, 'rebuildsAtOnce', number);
      return { kind: 'cluster-modify', ...(rebuildBudgetBytes === undefined ? {} : { rebuildBudgetBytes }), ...(rebuildsAtOnce === undefined ? {} : { rebuildsAtOnce }) };
    }
    case 'server-lost':
    case 'server-start':
      return { kind: c['kind'], serverId: serverId(text(c, 'serverId')) };
    case 'server-stop': return { kind: 'server-stop', serverId: serverId(text(c, 'serverId')), kill: flag(c, 'kill') };
    case 'cluster-invite': {
      const machine = optional(c, 'machine', text);
      return { kind: 'cluster-invite', roles: texts(c, 'roles'), ttlMs: number(c, 'ttlMs'), uses: number(c, 'uses'), ...(machine === undefined ? {} : { machine }) };
    }
    case 'machine-list': return { kind: 'machine-list' };
    case 'machine-remove': return { kind: 'machine-remove', machine: text(c, 'machine'), force: flag(c, 'force') };
    case 'server-restart': return { kind: 'server-restart', serverId: serverId(text(c, 'serverId')), anyway: flag(c, 'anyway') };
    default: throw new AshlarError('invalid-argument', 'there is no such command');
  }
}

function text(raw: Raw, name: string): string {
  const value = raw[name];
  if (typeof value !== 'string' || value.length > 1000) throw new AshlarError('invalid-argument', `${name} must be text`);
  return value;
}

function texts(raw: Raw, name: string): readonly string[] {
  const value = raw[name];
  if (!Array.isArray(value) || value.length > 1000 || value.some((one) => typeof one !== 'string')) throw new AshlarError('invalid-argument', `${name} must be a list of texts`);
  return value as readonly string[];
}

function number(raw: Raw, name: string): number {
  const value = raw[name];
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new AshlarError('invalid-argument', `${name} must be a number`);
  return value;
}

function flag(raw: Raw, name: string): boolean {
  const value = raw[name] ?? false;
  if (typeof value !== 'boolean') throw new AshlarError('invalid-argument', `${name} must be true or false`);
  return value;
}

function optional<T>(raw: Raw, name: string, parse: (raw: Raw, name: string) => T): T | undefined {
  return raw[name] === undefined || raw[name] === null ? undefined : parse(raw, name);
}

function aVolume(raw: Raw): ReturnType<typeof volumeId> { return volumeId(text(raw, 'volumeId')); }

function aHost(raw: Raw): { hostId?: ReturnType<typeof hostId> } {
  const name = optional(raw, 'hostId', text);
  return name === undefined ? {} : { hostId: hostId(name) };
}

function aServer<K extends 'copy' | 'to' | 'giveUp'>(raw: Raw, key: K): { [P in K]?: ReturnType<typeof serverId> } {
  const name = optional(raw, key, text);
  return (name === undefined ? {} : { [key]: serverId(name) }) as { [P in K]?: ReturnType<typeof serverId> };
}

function diskOf(raw: Raw): { disk?: DiskKind } {
  const given = optional(raw, 'disk', text);
  if (given === undefined) return {};
  const disk = DISK_KINDS.find((kind) => kind === given);
  if (disk === undefined) throw new AshlarError('invalid-argument', `a disk is ${DISK_KINDS.join(', ')}`);
  return { disk };
}

function durability(raw: Raw): 'normal' | 'strict' | undefined {
  const value = optional(raw, 'durability', text);
  if (value !== undefined && value !== 'normal' && value !== 'strict') throw new AshlarError('invalid-argument', 'the durability is normal or strict');
  return value;
}

function limits(raw: Raw): Partial<VolumeLimits> {
  const given = raw['limits'];
  if (given === undefined || given === null) return {};
  if (typeof given !== 'object') throw new AshlarError('invalid-argument', 'limits must be an object');
  const found: Record<string, number> = {};
  for (const name of ['ioTimeoutMs', 'iops', 'bandwidthBytes', 'priority']) {
    const value = optional(given as Raw, name, number);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

function tags(raw: Raw): Readonly<Record<string, string>> | undefined {
  const given = raw['tags'];
  if (given === undefined || given === null) return undefined;
  if (typeof given !== 'object' || Object.values(given).some((value) => typeof value !== 'string')) throw new AshlarError('invalid-argument', 'tags must be an object of texts');
  return Object.fromEntries(Object.entries(given as Record<string, string>));
}
