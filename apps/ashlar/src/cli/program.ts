import type { EventRecord, ServerView } from '@ashlar/control';
import { Command, CommanderError } from 'commander';
import { Cli } from './cli.ts';
import { addLoad } from './load.ts';
import { showEvent, showServers } from './output.ts';
import { parseCount } from './sizes.ts';
import { addUp } from './up.ts';
import { addVolumeCommands } from './volume-commands.ts';

/** Runs one command line; resolves with the exit code. */
export async function run(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const program = new Command('ashlar').description('block storage that loses nothing')
    .option('--json', 'one JSON document instead of text; one a line for up and events --follow')
    .option('--endpoint <url>', 'which site (default: ASHLAR_ENDPOINT)')
    .option('--token <token>', 'its token (default: ASHLAR_TOKEN)')
    .exitOverride();
  const cli = new Cli(program, env);
  addUp(program, cli);
  addVolumeCommands(program, cli);
  addLoad(program, cli);
  program.command('server').description('storage servers').command('list').description('all of them')
    .action(async () => cli.call({ kind: 'server-list' }, (value) => showServers(value as ServerView[])));
  program.command('events').description('what happened to whom, when, why')
    .option('--follow', 'go on as things happen')
    .option('--subject <id>', 'only about this volume or server')
    .option('--max <n>', 'at most so many old ones', '1000')
    .action((options: { follow?: boolean; subject?: string; max: string }) => events(cli, options));
  acceptEverywhere(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return cli.fail(error);
  }
}

/** `--json` and the site's options may stand behind the command as well. */
function acceptEverywhere(program: Command): void {
  const visit = (command: Command): void => {
    for (const child of command.commands) {
      child.exitOverride();
      child.option('--json', 'one JSON document instead of text').option('--endpoint <url>', 'which site').option('--token <token>', 'its token');
      child.on('option:json', () => program.setOptionValue('json', true));
      child.on('option:endpoint', (value: string) => program.setOptionValue('endpoint', value));
      child.on('option:token', (value: string) => program.setOptionValue('token', value));
      visit(child);
    }
  };
  visit(program);
}

async function events(cli: Cli, options: { follow?: boolean; subject?: string; max: string }): Promise<void> {
  const client = await cli.connect();
  const follow = options.follow === true;
  const seen: EventRecord[] = [];
  const emit = (event: EventRecord): void => {
    if (follow) cli.print(event, showEvent);
    else seen.push(event);
  };
  process.once('SIGINT', () => client.close());
  try {
    await client.events({ follow, max: parseCount(options.max, '--max', 1, 10_000), ...(options.subject === undefined ? {} : { subject: options.subject }) }, emit);
    cli.print(seen, (all) => all.map(showEvent).join('\n'));
  } finally {
    client.close();
  }
}
