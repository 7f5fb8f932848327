import type { HostView, ManagerView, ServerView } from '@ashlar/control';
import { ERROR_CODES, serverId } from '@ashlar/words';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showHosts, showServers } from './output.ts';

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
  server.command('lost').description('its disks are gone for good: build its copies anew at once, without waiting for it').argument('<server>')
    .action(async (id: string) => cli.call({ kind: 'server-lost', serverId: serverId(id) }, (value) => `${id} is given up; ${(value as { volumes: number }).volumes} volumes are built anew elsewhere`));
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
