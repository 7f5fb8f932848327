// needs: script, zsh, fish
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from './nbd-clients.ts';
import { Site } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-completion-'));
const MAIN = join(import.meta.dirname, '../../apps/ashlar/src/main.ts');
const PATH = `${directory}:${process.env['PATH'] ?? ''}`;

let site: Site;
let volumeId = '';
beforeAll(async () => {
  const program = join(directory, 'ashlar');
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(program, 0o755);
  site = await Site.up(join(directory, 'site'), '--servers', '2');
  ({ volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '16MiB', '--tag', 'purpose=test'));
});
afterAll(async () => {
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

const environment = (): NodeJS.ProcessEnv => ({ HOME: directory, PATH, TERM: 'dumb', ASHLAR_ENDPOINT: site.endpoint, ASHLAR_TOKEN: site.token });

/** A shell at a terminal, and somebody who types and waits for what he sees. */
class Terminal {
  readonly #child: ChildProcessWithoutNullStreams;
  #seen = '';
  #told: () => void = () => undefined;

  constructor(shell: string) {
    this.#child = spawn('script', ['-qec', shell, '/dev/null'], { env: environment() });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#seen += text;
      this.#told();
    });
  }

  type(text: string): void { this.#child.stdin.write(text); }

  /** What was seen up to the text, which is not seen again. */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.#seen.indexOf(text);
      if (at >= 0) {
        const before = this.#seen.slice(0, at);
        this.#seen = this.#seen.slice(at + text.length);
        return before;
      }
      if (this.#child.exitCode !== null) throw new Error(`the shell has ended: ${this.#seen}`);
      await new Promise<void>((resolve) => { this.#told = resolve; });
    }
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin.end('exit\n');
    await ended;
  }
}

/** Types a command with a TAB in each word, and sees what the command then answers. */
async function describedIn(shell: string): Promise<void> {
  const terminal = new Terminal(shell);
  // The words are not in what is typed, so that the echo is not taken for the answer.
  terminal.type(`source ${join(directory, 'setup')}; echo re''ady\n`);
  await terminal.until('ready');
  terminal.type('ashlar vol\tdesc\tvol-\t--js\t; echo do\'\'ne\n');
  const answer = await terminal.until('done');
  expect(answer).toContain(`{"volumeId":"${volumeId}"`);
  await terminal.end();
}

describe('completion at a terminal', () => {
  it('in bash', async () => {
    writeFileSync(join(directory, 'setup'), 'eval "$(ashlar completion bash)"\n');
    await describedIn('bash --norc --noprofile -i');
  });

  it('in zsh', async () => {
    writeFileSync(join(directory, 'setup'), 'PROMPT="> "; autoload -Uz compinit; compinit -u; source <(ashlar completion zsh)\n');
    await describedIn('zsh -f -i');
  });

  it('in fish, with what each candidate is', async () => {
    const answers = async (line: string): Promise<string[]> => (await run('env', '-i', ...Object.entries(environment()).map(([name, value]) => `${name}=${value ?? ''}`), 'fish', '--no-config', '-c', `ashlar completion fish | source; complete -C '${line}'`)).trim().split('\n');
    expect(await answers('ashlar volume describe vol-')).toEqual([`${volumeId}\thealthy purpose=test`]);
    expect(await answers('ashlar server sto')).toEqual(['stop\tend its process and leave it down; its volumes go on elsewhere']);
  });

  it('does nothing where no site answers', async () => {
    const outcome = await run('env', 'ASHLAR_ENDPOINT=ws://127.0.0.1:1', 'ASHLAR_TOKEN=x', join(directory, 'ashlar'), '__complete', '--', 'volume', 'describe', '');
    expect(outcome).toBe('');
  });
});
