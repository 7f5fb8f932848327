import { AshlarError } from '@ashlar/words';
import type { Command } from 'commander';
import { defaultRoot } from '@ashlar/site/layout';
import type { Cli } from './cli.ts';
import type { DiskKind } from '@ashlar/protocol';
import { tellReady } from './service.ts';
import { parseCount, parseDiskKind, parseDuration } from './sizes.ts';

interface UpOptions {
  readonly servers?: string;
  readonly disks?: string;
  readonly racks?: string;
  readonly diskKinds?: string;
  readonly dir?: string;
  readonly processes?: boolean;
  readonly hostIn?: string;
  readonly frozenKillAfter: string;
  readonly rebuildDelay: string;
  readonly port: string;
  readonly metricsPort?: string;
}

export function addUp(program: Command, cli: Cli): void {
  program.command('up').description('a whole site on this machine, in the foreground')
    .option('--servers <n>', 'storage servers (default: as before, 3 in a new site)')
    .option('--disks <n>', 'directories per server (default: as before, 1 in a new site)')
    .option('--racks <names>', 'of the servers, in their order, with commas (default: as before, none in a new site)')
    .option('--disk-kinds <kinds>', 'nvme, ssd, hdd or unknown, of the servers in their order, with commas (default: as before, what the kernel says in a new site)')
    .option('--dir <directory>', 'where everything lies (default: $XDG_DATA_HOME/ashlar)')
    .option('--processes', 'each storage server and the host as a process of its own')
    .option('--host-in <server>', "the node managers run inside that server's process")
    .option('--frozen-kill-after <duration>', 'a process that answers nothing for so long is killed and replaced; 0: never', '30s')
    .option('--rebuild-delay <duration>', 'a copy that is away for so long is built elsewhere', '30s')
    .option('--port <n>', 'of the API on loopback; 0: any', '0')
    .option('--metrics-port <n>', "figures for Prometheus on a port of loopback of their own, at /metrics; 0: any (the API's port answers them too)")
    .action((options: UpOptions) => up(cli, options));
}

async function up(cli: Cli, options: UpOptions): Promise<void> {
  if (options.hostIn !== undefined && options.processes !== true) throw new AshlarError('invalid-argument', '--host-in goes with --processes');
  // Not before: every other command is a question to a site, and starts in a third of the time without one of its own.
  const { Site } = await import('@ashlar/site');
  const site = await Site.start({
    directory: options.dir ?? defaultRoot(), ...counts(options), ...places(options),
    processes: options.processes === true, hostIn: options.hostIn ?? null, frozenKillAfterMs: parseDuration(options.frozenKillAfter),
    rebuildDelayMs: parseDuration(options.rebuildDelay), apiPort: parseCount(options.port, '--port', 0, 65_535),
    metricsPort: options.metricsPort === undefined ? undefined : parseCount(options.metricsPort, '--metrics-port', 0, 65_535),
  });
  const ended = new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  cli.print({ endpoint: site.endpoint, token: site.token, metrics: site.metricsUrl }, ({ endpoint, token, metrics }) => [
    'The site is up. In another terminal:', '', `  export ASHLAR_ENDPOINT=${endpoint}`, `  export ASHLAR_TOKEN=${token}`, '  pnpm ashlar volume create --size 1GiB', '', ...(metrics === null ? [] : [`Figures for Prometheus are at ${metrics}, with that token.`, '']), 'Ctrl-C ends it; everything is kept. All copies are on this machine and share its power: for trying things out, and for tests.',
  ].join('\n'));
  await tellReady(`a site with its API at ${site.endpoint}`);
  await ended;
  await site.stop();
}

function counts({ servers, disks }: UpOptions): { servers?: number; disks?: number } {
  return {
    ...(servers === undefined ? {} : { servers: parseCount(servers, '--servers', 1, 64) }),
    ...(disks === undefined ? {} : { disks: parseCount(disks, '--disks', 1, 64) }),
  };
}

/** What stands at the same place of both lists belongs to one server. */
function places({ racks, diskKinds }: UpOptions): { places?: readonly { rack?: string; disk?: DiskKind }[] } {
  if (racks === undefined && diskKinds === undefined) return {};
  const rackOf = racks?.split(',') ?? [];
  const diskOf = diskKinds?.split(',').map(parseDiskKind) ?? [];
  return { places: Array.from({ length: Math.max(rackOf.length, diskOf.length) }, (_, i) => ({ ...(rackOf[i] === undefined ? {} : { rack: rackOf[i] }), ...(diskOf[i] === undefined ? {} : { disk: diskOf[i] }) })) };
}
