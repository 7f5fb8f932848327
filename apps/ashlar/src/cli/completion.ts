import type { ApiCommand } from '@ashlar/client';
import type { Command, Option } from 'commander';
import type { Cli } from './cli.ts';

type Shell = 'bash' | 'zsh' | 'fish';

/**
 * What each shell runs at a TAB. All of them ask the program itself (`ashlar __complete -- WORDS…`, the last word being the one that is typed): what
 * there is to complete is then always that of the installed version, and ids are those of the site. A line is a candidate, a tab and what it is.
 */
const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# ashlar completion for bash:  eval "$(ashlar completion bash)"
_ashlar() {
  # As they were typed: COMP_WORDS is cut at colons, of which addresses have some.
  local line words
  read -ra words <<<"\${COMP_LINE:0:COMP_POINT}"
  [[ \${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=('')
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("\${words[0]}" __complete -- "\${words[@]:1}" 2>/dev/null)
  # Nothing of ours: files, where a file may stand.
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == :files ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
  fi
}
complete -F _ashlar ashlar
`,
  zsh: `#compdef ashlar
# ashlar completion for zsh:  source <(ashlar completion zsh)
_ashlar() {
  local line
  local -a found
  while IFS= read -r line; do
    if [[ $line == :files* ]]; then _files; return; fi
    found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  _describe ashlar found
}
if [[ \${funcstack[1]} == _ashlar ]]; then _ashlar "$@"; else compdef _ashlar ashlar; fi
`,
  fish: `# ashlar completion for fish:  ashlar completion fish | source
function __ashlar_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    if string match -q ':files*' -- $line
      __fish_complete_path (commandline -ct)
    else
      echo $line
    end
  end
end
complete -c ashlar -f -a '(__ashlar_complete)'
`,
};

export interface Candidate {
  readonly text: string;
  readonly what: string;
}

/** Ids of one kind. */
export type IdKind = 'volume' | 'server' | 'host';
type Ids = (kind: IdKind) => Promise<readonly Candidate[]>;

const FILES: Candidate = { text: ':files', what: '' };

/** Values of options that are ids or files, by the name in their angle brackets. */
const ID_KINDS: Readonly<Record<string, IdKind>> = { volume: 'volume', volumes: 'volume', server: 'server', host: 'host', id: 'volume' };
const FILE_NAMES: ReadonlySet<string> = new Set(['directory', 'file', 'path']);

/** What may stand in the place of the last word. */
export async function complete(program: Command, words: readonly string[], ids: Ids): Promise<readonly Candidate[]> {
  const last = words.at(-1) ?? '';
  let command = program;
  /** The option whose value comes next. */
  let owed: Option | undefined;
  let given = 0;
  for (const word of words.slice(0, -1)) {
    if (owed !== undefined) {
      owed = undefined;
      continue;
    }
    if (word.startsWith('-')) {
      const option = command.options.find((known) => known.long === word || known.short === word);
      owed = option !== undefined && (option.required || option.optional) ? option : undefined;
      continue;
    }
    const child = given === 0 ? command.commands.find((known) => known.name() === word) : undefined;
    if (child === undefined) given++;
    else command = child;
  }
  const fits = (all: readonly Candidate[]): readonly Candidate[] => all.filter(({ text }) => text.startsWith(last) || text === FILES.text);
  if (owed !== undefined) return fits(await valuesOf(nameIn(owed.flags), owed.argChoices, ids));
  if (last.startsWith('-')) return fits(optionsOf(command));
  if (command.commands.length > 0 && given === 0) return fits(command.commands.filter((child) => !child.name().startsWith('_')).map((child) => ({ text: child.name(), what: child.description() })));
  const { registeredArguments } = command;
  const argument = registeredArguments[given] ?? registeredArguments.findLast((known) => known.variadic);
  return argument === undefined ? [] : fits(await valuesOf(argument.name(), argument.argChoices, ids));
}

/** `--to <server>`, `--tag <key=value...>`: server, key=value. */
function nameIn(flags: string): string { return /[<[]([^\]>.]+)/.exec(flags)?.[1] ?? ''; }

async function valuesOf(name: string, choices: readonly string[] | undefined, ids: Ids): Promise<readonly Candidate[]> {
  if (choices !== undefined) return choices.map((text) => ({ text, what: '' }));
  if (FILE_NAMES.has(name)) return [FILES];
  const kind = ID_KINDS[name];
  return kind === undefined ? [] : ids(kind);
}

function optionsOf(command: Command): readonly Candidate[] {
  const known = command.options.flatMap((option) => (option.long === undefined || option.long === null || option.hidden ? [] : [{ text: option.long, what: option.description }]));
  return [...known, { text: '--help', what: 'what there is' }];
}

const LISTS: Readonly<Record<IdKind, { readonly command: ApiCommand; readonly show: (entry: never) => Candidate }>> = {
  volume: { command: { kind: 'volume-list' }, show: ({ volumeId, health, tags }: { volumeId: string; health: string; tags: Readonly<Record<string, string>> }) => ({ text: volumeId, what: [health, ...Object.entries(tags).map(([key, value]) => `${key}=${value}`)].join(' ') }) },
  server: { command: { kind: 'server-list' }, show: ({ serverId, state }: { serverId: string; state: string }) => ({ text: serverId, what: state }) },
  host: { command: { kind: 'host-list' }, show: ({ hostId, state }: { hostId: string; state: string }) => ({ text: hostId, what: state }) },
};

/** Of the site that commands would go to. Nothing where there is none: a TAB is no place for errors. */
async function siteIds(cli: Cli, kind: IdKind): Promise<readonly Candidate[]> {
  const client = await cli.connect().catch(() => null);
  if (client === null) return [];
  try {
    const { command, show } = LISTS[kind];
    return ((await client.call(command)) as never[]).map(show);
  } catch {
    return [];
  } finally {
    client.close();
  }
}

export function addCompletion(program: Command, cli: Cli): void {
  program.command('completion').description('prints what makes a shell complete commands, options and ids').addArgument(program.createArgument('<shell>', 'which one').choices(['bash', 'zsh', 'fish']))
    .action((shell: Shell) => { process.stdout.write(SCRIPTS[shell]); });
  program.command('__complete', { hidden: true }).argument('[words...]').action(async (words: string[]) => {
    for (const name of ['endpoint', 'token', 'ca']) {
      const at = words.indexOf(`--${name}`);
      if (at >= 0 && at + 2 < words.length) program.setOptionValue(name, words[at + 1]);
    }
    // As a shell splits it, a word that was not begun yet is empty; without any words nothing was typed.
    const found = await complete(program, words.length === 0 ? [''] : words, (kind) => siteIds(cli, kind));
    process.stdout.write(found.map(({ text, what }) => `${text}\t${what.replaceAll(/[\t\n]/g, ' ')}\n`).join(''));
  });
}
