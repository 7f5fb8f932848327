import type { ClusterStatus, HostView, ServerView } from '@ashlar/control';
import { serverId } from '@ashlar/words';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showCluster, showHosts, showServers } from './output.ts';

export function addServerCommands(program: Command, cli: Cli): void {
  const server = program.command('server').description('storage servers');
  server.command('list').description('all of them')
    .action(async () => cli.call({ kind: 'server-list' }, (value) => showServers(value as ServerView[])));
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
  program.command('cluster').description('all processes of the site').command('status').description('versions and states, and whether an upgrade is unfinished')
    .action(async () => cli.call({ kind: 'cluster-status' }, (value) => showCluster(value as ClusterStatus)));
  program.command('host').description('machines whose node managers attach volumes').command('list').description('all of them')
    .action(async () => cli.call({ kind: 'host-list' }, (value) => showHosts(value as HostView[])));
}
