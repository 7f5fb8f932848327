import { readFileSync } from 'node:fs';
import { ApiClient, type ApiCommand } from '@ashlar/client';
import { AshlarError, ERROR_CODES, errorCode } from '@ashlar/words';
import type { Command } from 'commander';
import { defaultSite } from '@ashlar/site/layout';

export interface GlobalOptions {
  readonly json?: boolean;
  readonly endpoint?: string;
  readonly token?: string;
  readonly ca?: string;
}

/** A file in PEM. */
function authorityOf(path: string | undefined): string | undefined {
  if (path === undefined || path === '') return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AshlarError('invalid-argument', `the authority ${path} (ASHLAR_CA) cannot be read: ${(cause as Error).message}`, { path, cause });
  }
}

/** Where a command's output goes, and which site it is about. */
export class Cli {
  readonly #program: Command;
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(program: Command, env: Readonly<Record<string, string | undefined>>) {
    this.#program = program;
    this.#env = env;
  }

  /** By SIGINT: what fails from then on is not an error. */
  interrupted = false;
  /** Of a command that did what it was asked, and found something wrong. */
  exitCode = 0;

  get options(): GlobalOptions { return this.#program.opts<GlobalOptions>(); }

  /** Which site commands go to. An endpoint of '' is none. */
  get site(): { readonly endpoint: string; readonly token: string; readonly ca: string | undefined } {
    const known = defaultSite(this.#env);
    const endpoint = this.options.endpoint ?? this.#env['ASHLAR_ENDPOINT'] ?? known?.endpoint;
    const token = this.options.token ?? this.#env['ASHLAR_TOKEN'] ?? (endpoint === known?.endpoint ? known?.token : undefined);
    return { endpoint: endpoint ?? '', token: token ?? '', ca: authorityOf(this.options.ca ?? this.#env['ASHLAR_CA']) };
  }

  async connect(): Promise<ApiClient> {
    const { endpoint, token, ca } = this.site;
    if (endpoint === '') throw new AshlarError('invalid-argument', 'say which site: ASHLAR_ENDPOINT and ASHLAR_TOKEN as `ashlar up` prints them, or --endpoint and --token');
    return ApiClient.connect(endpoint, token, ca);
  }

  /** Calls the API and prints its answer: JSON, or what `show` makes of it. */
  async call(command: ApiCommand, show: (value: unknown) => string): Promise<void> {
    this.print(await this.ask(command), show);
  }

  async ask(command: ApiCommand): Promise<unknown> {
    const client = await this.connect();
    try {
      return await client.call(command);
    } finally {
      client.close();
    }
  }

  print<T>(value: T, show: (value: T) => string): void {
    process.stdout.write(`${this.options.json === true ? JSON.stringify(value) : show(value)}\n`);
  }

  printError(error: unknown): void {
    const code = errorCode(error);
    process.stdout.write(`${JSON.stringify({ error: { code, message: error instanceof Error ? error.message : String(error), ...ERROR_CODES[code] } })}\n`);
  }

  /** What happened, what it means for the data, what to do. The exit code is 1; 2 for bad arguments. */
  fail(error: unknown): number {
    const code = errorCode(error);
    const message = error instanceof Error ? error.message : String(error);
    if (this.options.json === true) this.printError(error);
    else process.stderr.write(`${error instanceof AshlarError ? `ashlar: ${error.explain()}` : `ashlar: ${message}`}\n`);
    return code === 'invalid-argument' ? 2 : 1;
  }
}
