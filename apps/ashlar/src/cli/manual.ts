import { BUILD } from '@ashlar/runtime/build';
import type { Command } from 'commander';

/** The manual page, from the commands themselves: man(7). */
function manual(program: Command): string {
  const lines = [
    `.TH ASHLAR 1 "" "ashlar ${text(BUILD)}" "Ashlar"`, '.SH NAME', `ashlar, ashlard \\- ${text(program.description())}`,
    '.SH SYNOPSIS', '.B ashlar', '.RI [ option "...] " command " [" argument ...]', '.SH OPTIONS', ...optionsOf(program), '.SH COMMANDS', ...commandsOf(program, 'ashlar'),
    '.SH EXIT STATUS', '0: done. 1: refused or failed, or something was found wrong. 2: usage. 130: interrupted.',
    '.SH FILES', '.I /etc/ashlar', '(configuration),', '.I /var/lib/ashlar', '(data),', '.I /run/ashlar', '(sockets),', '.I /usr/share/doc/ashlar/operating.md', '(the operating manual).',
  ];
  return `${lines.join('\n')}\n`;
}

function commandsOf(command: Command, path: string): string[] {
  return command.commands.filter((child) => !child.name().startsWith('_')).flatMap((child) => {
    const name = `${path} ${child.name()}`;
    if (child.commands.length > 0) return commandsOf(child, name);
    const given = child.registeredArguments.map((argument) => (argument.required ? `<${argument.name()}>` : `[${argument.name()}]`) + (argument.variadic ? '...' : '')).join(' ');
    return [`.SS "${text(`${name} ${given}`.trim())}"`, text(child.description()), ...optionsOf(child)];
  });
}

/** Without those that every command takes. */
function optionsOf(command: Command): string[] {
  const common = command.parent === null ? new Set<string>() : new Set(['--json', '--endpoint <url>', '--token <token>']);
  return command.options.filter((option) => !common.has(option.flags)).flatMap((option) => [
    '.TP', `.B "${text(option.flags)}"`, text(`${option.description}${option.defaultValue === undefined ? '' : ` (default: ${String(option.defaultValue)})`}`),
  ]);
}

/** A line that begins with a dot or an apostrophe would be taken for a request, and a plain hyphen for a dash. */
function text(plain: string): string {
  const escaped = plain.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('"', '\\(dq');
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

export function addManual(program: Command): void {
  program.command('__manual', { hidden: true }).action(() => { process.stdout.write(manual(program)); });
}
