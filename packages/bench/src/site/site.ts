import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiClient, type ApiCommand, type EventRecord, type HostView, type ServerView, type VolumeView } from '@ashlar/client';
import { volumeId as volumeIdOf } from '@ashlar/words';
import { endProcess } from './process.ts';

/** The tree this file is part of. */
export const ROOT = join(import.meta.dirname, '../../../..');
const MAIN = join(ROOT, 'apps/ashlar/src/main.ts');

export interface SiteOptions {
  readonly directory: string;
  readonly servers: number;
  readonly processes: boolean;
  readonly hostIn?: string;
  /** Further options of `ashlar up`, as on the command line. */
  readonly more?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

interface Ready {
  readonly endpoint: string;
  readonly token: string;
}

const READY_TIMEOUT_MS = 60_000;
const BUSY_TIMEOUT_MS = 60_000;
const BUSY_PAUSE_MS = 200;
const COMMAND_TIMEOUT_MS = 120_000;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** A site started with `ashlar up`. Changed through the command line, as a user's script would; watched through its API, which costs the machine less. */
export class Site {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #env: NodeJS.ProcessEnv;
  readonly #client: ApiClient;
  readonly #errors: string[];

  private constructor(child: ChildProcess, client: ApiClient, ready: Ready, errors: string[]) {
    this.#child = child;
    this.#client = client;
    this.#errors = errors;
    this.pid = child.pid as number;
    this.#env = { ...process.env, ASHLAR_ENDPOINT: ready.endpoint, ASHLAR_TOKEN: ready.token };
  }

  static async up(options: SiteOptions): Promise<Site> {
    const args = ['up', '--json', '--servers', String(options.servers), '--dir', options.directory,
      ...(options.processes ? ['--processes'] : []), ...(options.hostIn === undefined ? [] : ['--host-in', options.hostIn]), ...(options.more ?? [])];
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
    endWithUs(child);
    const errors: string[] = [];
    createInterface({ input: child.stderr }).on('line', (line) => {
      errors.push(line);
      if (errors.length > 200) errors.shift();
    });
    const lines = createInterface({ input: child.stdout });
    const ready = await new Promise<Ready>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`the site was not ready after ${READY_TIMEOUT_MS / 1000} s: ${errors.slice(-20).join('\n')}`));
      }, READY_TIMEOUT_MS);
      lines.once('line', (line) => {
        clearTimeout(timer);
        resolve(JSON.parse(line) as Ready);
      });
      child.once('error', reject);
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`ashlar up ended with ${code ?? 'a signal'}: ${errors.slice(-20).join('\n')}`));
      });
    });
    return new Site(child, await ApiClient.connect(ready.endpoint, ready.token), ready, errors);
  }

  /** What the site said on stderr lately. */
  get messages(): readonly string[] {
    return this.#errors;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Runs `ashlar …args --json` and gives its one JSON document; again after a while as long as it says `busy`, as the error asks for. */
  async run<T>(...args: readonly string[]): Promise<T> {
    const giveUpMs = performance.now() + BUSY_TIMEOUT_MS;
    for (;;) {
      const { code, output, errors } = await this.#command(args);
      if (code === 0) return (output.trim() === '' ? null : JSON.parse(output)) as T;
      if (!`${output}${errors}`.includes('"code":"busy"') || performance.now() > giveUpMs) throw new Error(`ashlar ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors.trim() || output.trim()}`);
      await delay(BUSY_PAUSE_MS);
    }
  }

  async #command(args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string; readonly errors: string }> {
    const child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'], env: this.#env, timeout: COMMAND_TIMEOUT_MS });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return { code, output, errors };
  }

  async describe(volumeId: string): Promise<VolumeView> {
    return (await this.#client.call({ kind: 'volume-describe', volumeId: volumeIdOf(volumeId) })) as VolumeView;
  }

  /** Through the API: a thousand command lines would take a quarter of an hour. */
  call(command: ApiCommand): Promise<unknown> {
    return this.#client.call(command);
  }

  async servers(): Promise<readonly ServerView[]> {
    return (await this.#client.call({ kind: 'server-list' })) as readonly ServerView[];
  }

  async hosts(): Promise<readonly HostView[]> {
    return (await this.#client.call({ kind: 'host-list' })) as readonly HostView[];
  }

  async events(subject: string): Promise<readonly EventRecord[]> {
    const all: EventRecord[] = [];
    await this.#client.events({ subject, max: 10_000, follow: false }, (event) => all.push(event));
    return all;
  }

  /** The newest ones, of everybody. */
  async allEvents(max: number): Promise<readonly EventRecord[]> {
    const all: EventRecord[] = [];
    await this.#client.events({ max, follow: false }, (event) => all.push(event));
    return all;
  }

  async createVolume(sizeBytes: number, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly volumeId: string }>('volume', 'create', '--size', `${sizeBytes}B`, ...more)).volumeId;
  }

  async attach(volumeId: string, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly nbd: string }>('volume', 'attach', volumeId, ...more)).nbd;
  }

  /** Ends the site in an orderly way. */
  stop(): Promise<void> {
    this.#client.close();
    return endProcess(this.#child);
  }
}

const running = new Set<ChildProcess>();

/** A run that is cut off leaves no site behind. */
function endWithUs(child: ChildProcess): void {
  if (running.size === 0) for (const signal of SIGNALS) process.on(signal, cutOff);
  running.add(child);
  child.once('exit', () => {
    running.delete(child);
    if (running.size === 0) for (const signal of SIGNALS) process.off(signal, cutOff);
  });
}

function cutOff(): never {
  for (const child of running) child.kill('SIGTERM');
  process.exit(130);
}

/** The server that holds the primary, by what the system manager says. */
export function primaryServer(volume: VolumeView): string | undefined {
  return volume.copies.find((copy) => copy.role === 'primary')?.serverId;
}
