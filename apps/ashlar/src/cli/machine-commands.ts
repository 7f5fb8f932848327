import type { InviteView, MachineView } from '@ashlar/client';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showMachines } from './output.ts';
import { parseCount, parseDuration } from './sizes.ts';

export function addMachineCommands(program: Command, cli: Cli): void {
  const cluster = program.commands.find((command) => command.name() === 'cluster') ?? program.command('cluster').description('what holds for all servers');
  cluster.command('invite').description('print a join secret: whoever has it may join with these roles')
    .requiredOption('--roles <roles>', 'what the machine may do: storage, host, or both with a comma')
    .option('--ttl <duration>', 'how long the secret is good for', '15m')
    .option('--uses <n>', 'how many machines may join with it', '1')
    .option('--machine <name>', 'lets that member join again under its name, for example after its certificate has expired')
    .action(async (options: { roles: string; ttl: string; uses: string; machine?: string }) => cli.call({
      kind: 'cluster-invite', roles: options.roles.split(',').map((role) => role.trim()), ttlMs: parseDuration(options.ttl), uses: parseCount(options.uses, '--uses', 1, 1000),
      ...(options.machine === undefined ? {} : { machine: options.machine }),
    }, (value) => (value as InviteView).secret));
  const machine = program.command('machine').description('machines of the cluster');
  machine.command('list').description('all of them')
    .action(async () => cli.call({ kind: 'machine-list' }, (value) => showMachines(value as MachineView[])));
  machine.command('remove').description('its certificate counts nowhere from then on').argument('<machine>')
    .option('--force', 'although its storage server has copies of volumes: they are built anew elsewhere')
    .action(async (name: string, options: { force?: boolean }) => cli.call({ kind: 'machine-remove', machine: name, force: options.force === true }, () => `${name} is removed`));
}
