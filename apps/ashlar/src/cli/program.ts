import type { EventRecord } from '@ashlar/client';
import { AshlarError } from '@ashlar/words';
import { BUILD } from '@ashlar/runtime/build';
import { Command, CommanderError } from 'commander';
import { Cli } from './cli.ts';
import { addCompletion } from './completion.ts';
import { addDoctor } from './doctor.ts';
import { addLoad } from './load.ts';
import { addManual } from './manual.ts';
import { showEvent } from './output.ts';
import { addMachineCommands } from './machine-commands.ts';
import { addRecover } from './recover.ts';
import { addServerCommands } from './server-commands.ts';
import { parseCount } from './sizes.ts';
import { addUp } from './up.ts';
import { addVolumeCommands } from './volume-commands.ts';

/** As shells report it: 128 + SIGINT. */
const INTERRUPTED = 130;

/** Every command there is. */
export function programOf(env: Readonly<Record<string, string | undefined>>): { readonly program: Command; readonly cli: Cli } {
  const program = new Command('ashlar').description('block storage that loses nothing')
    .version(BUILD, '--version', 'its number')
    .option('--json', 'one JSON document instead of text; one a line for up and events --follow')
    .option('--endpoint <url>', 'which site (default: ASHLAR_ENDPOINT, else the one in the default directory)')
    .option('--token <token>', 'its token (default: ASHLAR_TOKEN)')
    .option('--ca <file>', "the authority of a cluster, its authority.pem (default: ASHLAR_CA)")
    .exitOverride();
  const cli = new Cli(program, env);
  addUp(program, cli);
  addVolumeCommands(program, cli);
  addLoad(program, cli);
  addServerCommands(program, cli);
  addMachineCommands(program, cli);
  addRecover(program, cli);
  program.command('events').description('what happened to whom, when, why')
    .option('--follow', 'go on as things happen')
    .option('--subject <id>', 'only about this volume or server')
    .option('--max <n>', 'at most so many old ones', '1000')
    .action((options: { follow?: boolean; subject?: string; max: string }) => events(cli, options));
  addDoctor(program, cli);
  addCompletion(program, cli);
  addManual(program);
  acceptEverywhere(program);
  return { program, cli };
}

/** Runs one command line; resolves with the exit code. */
export async function run(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { program, cli } = programOf(env);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return cli.interrupted ? INTERRUPTED : cli.exitCode;
  } catch (error) {
    if (cli.interrupted) return INTERRUPTED;
    if (!(error instanceof CommanderError)) return cli.fail(error);
    if (error.exitCode === 0) return 0;
    // Commander has explained it on standard error.
    if (argv.includes('--json')) cli.printError(new AshlarError('invalid-argument', error.message.replace(/^error: /, '')));
    return 2;
  }
}

/** `--json` and the site's options may stand behind the command as well. */
function acceptEverywhere(program: Command): void {
  const visit = (command: Command): void => {
    for (const child of command.commands) {
      child.exitOverride();
      child.option('--json', 'one JSON document instead of text').option('--endpoint <url>', 'which site').option('--token <token>', 'its token').option('--ca <file>', 'the authority of a cluster');
      child.on('option:json', () => program.setOptionValue('json', true));
      child.on('option:endpoint', (value: string) => program.setOptionValue('endpoint', value));
      child.on('option:ca', (value: string) => program.setOptionValue('ca', value));
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
  process.once('SIGINT', () => {
    cli.interrupted = true;
    client.close();
  });
  try {
    await client.events({ follow, max: parseCount(options.max, '--max', 1, 10_000), ...(options.subject === undefined ? {} : { subject: options.subject }) }, emit);
    if (!follow) cli.print(seen, (all) => all.map(showEvent).join('\n'));
  } finally {
    client.close();
  }
}
