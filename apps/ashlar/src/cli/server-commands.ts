import type { ClusterStatus, HostView, ManagerView, Report, ServerView } from '@ashlar/client';
import { ERROR_CODES, serverId } from '@ashlar/words';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showCluster, showHosts, showReport, showServers } from './output.ts';
import { parseCount, parseDiskKind, parseSize, showSize } from './sizes.ts';

export function addServerCommands(program: Command, cli: Cli): void {
  const server = program.command('server').description('storage servers');
  server.command('list').description('all of them')
    .action(async () => {
      await cli.call({ kind: 'server-list' }, (value) => showServers(value as ServerView[]));
      await warn(cli);
    });
  server.command('stop').description('end its process and leave it down; its volumes go on elsewhere').argument('<server>')
    .option('--kill', 'by SIGKILL instead of in order')
    .action(async (id: string, options: { kill?: boolean }) => cli.call({ kind: 'server-stop', serverId: serverId(id), kill: options.kill === true }, () => `${id} is down until \`ashlar server start ${id}\``));
  server.command('start').description('start one that was stopped').argument('<server>')
    .action(async (id: string) => cli.call({ kind: 'server-start', serverId: serverId(id) }, () => `${id} is started`));
  server.command('restart').description('end its process in order, others taking over before, and start it again with the code that is installed now').argument('<server>')
    .option('--anyway', 'also while it has the only copy in sync of a volume')
    .action(async (id: string, options: { anyway?: boolean }) => cli.call({ kind: 'server-restart', serverId: serverId(id), anyway: options.anyway === true }, () => `${id} runs again; \`ashlar cluster status\` says when its copies have caught up`));
  server.command('lost').description('its disks are gone for good: build its copies anew at once, without waiting for it').argument('<server>')
    .action(async (id: string) => cli.call({ kind: 'server-lost', serverId: serverId(id) }, (value) => `${id} is given up; ${(value as { volumes: number }).volumes} volumes are built anew elsewhere`));
  server.command('add').description('one more server on this machine').option('--rack <name>', 'where it stands').option('--disk <kind>', 'nvme, ssd, hdd or unknown, whatever the kernel says')
    .action(async (options: { rack?: string; disk?: string }) => cli.call({ kind: 'server-add', ...(options.rack === undefined ? {} : { rack: options.rack }), ...(options.disk === undefined ? {} : { disk: parseDiskKind(options.disk) }) }, (value) => `${(value as { serverId: string }).serverId} is up`));
  server.command('drain').description('move all its copies to other servers while they are in use, and give it none').argument('<server>')
    .option('--cancel', 'it keeps what it still has, and may be given more')
    .action(async (id: string, options: { cancel?: boolean }) => cli.call({ kind: 'server-drain', serverId: serverId(id), cancel: options.cancel === true }, (value) => `${id}: ${(value as ServerView).copies} copies ${options.cancel === true ? 'stay' : 'to move; `ashlar server list` shows how many are left'}`));
  server.command('remove').description('forget a server that holds no copies any more').argument('<server>')
    .action(async (id: string) => cli.call({ kind: 'server-remove', serverId: serverId(id) }, () => `${id} is removed; its directory is left as it is`));
  const cluster = program.commands.find((command) => command.name() === 'cluster') ?? program.command('cluster').description('what holds for all servers');
  cluster.command('modify').description('change what building copies may take of all servers together')
    .option('--rebuild-budget <size>', 'bytes a second over all servers; 0: as much as they can')
    .option('--rebuilds-at-once <n>', 'copies being built at a time')
    .action(async (options: { rebuildBudget?: string; rebuildsAtOnce?: string }) => cli.call({
      kind: 'cluster-modify', ...(options.rebuildBudget === undefined ? {} : { rebuildBudgetBytes: parseSize(options.rebuildBudget) }),
      ...(options.rebuildsAtOnce === undefined ? {} : { rebuildsAtOnce: parseCount(options.rebuildsAtOnce, '--rebuilds-at-once', 1, 1000) }),
    }, (value) => {
      const { bytesPerSecond, atOnce } = (value as { rebuilds: { bytesPerSecond: number; atOnce: number } }).rebuilds;
      return `${atOnce} copies are built at a time, with ${bytesPerSecond === 0 ? 'no limit of bytes' : `${showSize(bytesPerSecond)} a second`}`;
    }));
  program.command('report').description('usage and health: of every volume, server and owner').action(async () => cli.call({ kind: 'report' }, (value) => showReport(value as Report)));
  cluster.command('status').description('all processes with versions and states, and whether an upgrade is unfinished')
    .action(async () => cli.call({ kind: 'cluster-status' }, (value) => showCluster(value as ClusterStatus)));
  program.command('host').description('machines whose node managers attach volumes').command('list').description('all of them')
    .action(async () => cli.call({ kind: 'host-list' }, (value) => showHosts(value as HostView[])));
}

/** Beside the servers: whether the system manager does anything with them. */
async function warn(cli: Cli): Promise<void> {
  const { state, reason } = (await cli.ask({ kind: 'manager-describe' })) as ManagerView;
  if (state === 'acting') return;
  const { effect, action } = ERROR_CODES[state === 'refusing' ? 'store-behind' : 'busy'];
  process.stderr.write(`ashlar: ${reason}. ${effect} ${action}\n`);
}
