import type { ApiCommand, PlacementView, VolumeView } from '@ashlar/client';
import { AshlarError, hostId, serverId, volumeId } from '@ashlar/words';
import type { VolumeLimits } from '@ashlar/protocol';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showPlacement, showVolume, showVolumes } from './output.ts';
import { parseCount, parseDiskKind, parseDuration, parseSize } from './sizes.ts';

interface LimitOptions {
  readonly ioTimeout?: string;
  readonly iops?: string;
  readonly bandwidth?: string;
  readonly priority?: string;
}

function limitsOf(options: LimitOptions): Partial<VolumeLimits> {
  return {
    ...(options.ioTimeout === undefined ? {} : { ioTimeoutMs: parseDuration(options.ioTimeout) }),
    ...(options.iops === undefined ? {} : { iops: parseCount(options.iops, '--iops', 0, 1e9) }),
    ...(options.bandwidth === undefined ? {} : { bandwidthBytes: parseSize(options.bandwidth) }),
    ...(options.priority === undefined ? {} : { priority: parseCount(options.priority, '--priority', 0, 9) }),
  };
}

function durabilityOf(text: string | undefined): 'normal' | 'strict' | undefined {
  if (text !== undefined && text !== 'normal' && text !== 'strict') throw new AshlarError('invalid-argument', `--durability is normal or strict; got "${text}"`);
  return text;
}

function tagsOf(given: readonly string[] | undefined): Record<string, string> | undefined {
  if (given === undefined) return undefined;
  return Object.fromEntries(given.map((tag) => {
    const at = tag.indexOf('=');
    if (at < 1) throw new AshlarError('invalid-argument', `--tag key=value; got "${tag}"`);
    return [tag.slice(0, at), tag.slice(at + 1)];
  }));
}

function withLimits(command: Command): Command {
  return command
    .option('--io-timeout <duration>', 'how long a request may stall before it fails; 0: for ever')
    .option('--iops <n>', 'requests a second; 0: no limit')
    .option('--bandwidth <size>', 'bytes a second; 0: no limit')
    .option('--priority <n>', '0 (first) to 9 (last)');
}

export function addVolumeCommands(program: Command, cli: Cli): void {
  const volume = program.command('volume').description('volumes: create, look at, attach, grow, delete');

  withLimits(volume.command('create').description('a new, empty volume; waits until it is available'))
    .requiredOption('--size <size>', 'for example 4GiB')
    .option('--mirrors <n>', 'copies besides the primary', '1')
    .option('--min-copies <n>', 'below it, nothing is answered', '1')
    .option('--durability <kind>', 'normal: answered when every copy has it; strict: when every disk has it', 'normal')
    .option('--tag <key=value...>', 'tags')
    .option('--client-token <text>', 'the same token again gives the same volume')
    .option('--disk <kind>', 'its copies lie on this kind only: nvme, ssd, hdd')
    .option('--explain', 'say of every server why it was chosen, or was not')
    .option('--dry-run', 'only explain, and create nothing')
    .action(async (options: LimitOptions & { size: string; mirrors: string; minCopies: string; durability: string; tag?: string[]; clientToken?: string; disk?: string; explain?: boolean; dryRun?: boolean }) => {
      const command: ApiCommand = {
        kind: 'volume-create', sizeBytes: parseSize(options.size), mirrors: parseCount(options.mirrors, '--mirrors', 0, 1000), minCopies: parseCount(options.minCopies, '--min-copies', 0, 1000),
        durability: durabilityOf(options.durability) ?? 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5, ...limitsOf(options) }, tags: tagsOf(options.tag) ?? {},
        ...(options.clientToken === undefined ? {} : { clientToken: options.clientToken }), ...(options.disk === undefined ? {} : { disk: parseDiskKind(options.disk) }),
        ...(options.explain === true ? { explain: true } : {}), ...(options.dryRun === true ? { dryRun: true } : {}),
      };
      await cli.call(command, (value) => (options.dryRun === true ? showPlacement(value as PlacementView) : showVolume(value as VolumeView)));
    });

  withLimits(volume.command('modify').description('change what can be changed while it is in use').argument('<volume>'))
    .option('--min-copies <n>', 'below it, nothing is answered')
    .option('--mirrors <n>', 'copies besides the primary')
    .option('--durability <kind>', 'normal or strict')
    .option('--tag <key=value...>', 'all tags anew')
    .action(async (id: string, options: LimitOptions & { minCopies?: string; mirrors?: string; durability?: string; tag?: string[] }) => {
      const durability = durabilityOf(options.durability);
      const tags = tagsOf(options.tag);
      await cli.call({
        kind: 'volume-modify', volumeId: volumeId(id), limits: limitsOf(options), ...(options.minCopies === undefined ? {} : { minCopies: parseCount(options.minCopies, '--min-copies', 0, 1000) }),
        ...(options.mirrors === undefined ? {} : { mirrors: parseCount(options.mirrors, '--mirrors', 0, 1000) }), ...(durability === undefined ? {} : { durability }), ...(tags === undefined ? {} : { tags }),
      }, (value) => showVolume(value as VolumeView));
    });

  volume.command('list').description('all volumes').action(async () => cli.call({ kind: 'volume-list' }, (value) => showVolumes(value as VolumeView[])));
  volume.command('describe').description('one volume').argument('<volume>')
    .action(async (id: string) => cli.call({ kind: 'volume-describe', volumeId: volumeId(id) }, (value) => showVolume(value as VolumeView)));

  volume.command('attach').description('show it as a block device; prints its NBD address').argument('<volume>')
    .option('--read-only', 'a reader; there may be several')
    .option('--tcp', 'on loopback TCP as well as on the unix socket')
    .option('--host <host>', 'where')
    .option('--copy <server>', "one copy's own files alone, without repair from others, for comparing; with --read-only")
    .action(async (id: string, options: { readOnly?: boolean; tcp?: boolean; host?: string; copy?: string }) => {
      await cli.call({
        kind: 'volume-attach', volumeId: volumeId(id), readOnly: options.readOnly ?? false, tcp: options.tcp ?? false,
        ...(options.host === undefined ? {} : { hostId: hostId(options.host) }), ...(options.copy === undefined ? {} : { copy: serverId(options.copy) }),
      }, (value) => (value as { nbd: string }).nbd);
    });

  volume.command('detach').description('end an attachment: the writer, or all readers').argument('<volume>')
    .option('--host <host>', 'only there')
    .option('--copy <server>', 'the attachment of this copy alone')
    .option('--force', 'where the host is gone and does not answer: what it still sends is refused')
    .action(async (id: string, options: { host?: string; copy?: string; force?: boolean }) => {
      await cli.call({ kind: 'volume-detach', volumeId: volumeId(id), force: options.force ?? false, ...(options.host === undefined ? {} : { hostId: hostId(options.host) }), ...(options.copy === undefined ? {} : { copy: serverId(options.copy) }) }, () => `${id} is detached`);
    });

  volume.command('delete').description('remove it and all its copies').argument('<volume>')
    .action(async (id: string) => cli.call({ kind: 'volume-delete', volumeId: volumeId(id) }, () => `${id} is deleted`));
  volume.command('grow').description('make it larger').argument('<volume>').requiredOption('--size <size>', 'the new size')
    .action(async (id: string, options: { size: string }) => cli.call({ kind: 'volume-grow', volumeId: volumeId(id), sizeBytes: parseSize(options.size) }, (value) => showVolume(value as VolumeView)));
  volume.command('scrub').description('check every block of every copy, and repair').argument('<volume>')
    .action(async (id: string) => cli.call({ kind: 'volume-scrub', volumeId: volumeId(id) }, () => `${id} is being checked; see the events`));
  volume.command('move').description('move one of its copies to another server, while it is in use').argument('<volume>')
    .requiredOption('--copy <server>', 'where it is')
    .option('--to <server>', 'where it is to be')
    .option('--cancel', 'end a move that is under way')
    .action(async (id: string, options: { copy: string; to?: string; cancel?: boolean }) => {
      if ((options.to === undefined) === (options.cancel !== true)) throw new AshlarError('invalid-argument', 'say --to a server, or --cancel');
      await cli.call({ kind: 'volume-move', volumeId: volumeId(id), from: serverId(options.copy), ...(options.to === undefined ? {} : { to: serverId(options.to) }) }, (value) => showVolume(value as VolumeView));
    });
  volume.command('failover').description('make a mirror primary').argument('<volume>')
    .option('--to <server>', 'which one')
    .option('--give-up <server>', 'after every copy lost its cache or is faulted: recover without this one')
    .action(async (id: string, options: { to?: string; giveUp?: string }) => {
      await cli.call({ kind: 'volume-failover', volumeId: volumeId(id), ...(options.to === undefined ? {} : { to: serverId(options.to) }), ...(options.giveUp === undefined ? {} : { giveUp: serverId(options.giveUp) }) },
        (value) => ('volumeId' in (value as object) && 'copies' in (value as object) ? showVolume(value as VolumeView) : JSON.stringify(value)));
    });
}
