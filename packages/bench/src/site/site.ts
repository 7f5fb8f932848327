import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
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

export interface CopyDescription {
  readonly serverId: string;
  readonly role: 'primary' | 'mirror' | 'learner';
  readonly state: string;
}

export interface VolumeDescription {
  readonly volumeId: string;
  readonly state: string;
  readonly health: string;
  readonly epoch: number;
  readonly sizeBytes: number;
  readonly copies: readonly CopyDescription[];
  readonly attachments: readonly { readonly host: string; readonly nbd: string }[];
  readonly io?: Readonly<Record<string, number>>;
}

export interface ServerDescription {
  readonly serverId: string;
  readonly state: string;
  readonly pid: number | null;
}

interface Ready {
  readonly endpoint: string;
  readonly token: string;
}

const READY_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 120_000;

/** A site started with `ashlar up`, and driven through the command line alone, as a user's script would. */
export class Site {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #env: NodeJS.ProcessEnv;
  #errors: string[];

  private constructor(child: ChildProcess, ready: Ready, errors: string[]) {
    this.#child = child;
    this.#errors = errors;
    this.pid = child.pid as number;
    this.#env = { ...process.env, ASHLAR_ENDPOINT: ready.endpoint, ASHLAR_TOKEN: ready.token };
  }

  static async up(options: SiteOptions): Promise<Site> {
    const args = ['up', '--json', '--servers', String(options.servers), '--dir', options.directory,
      ...(options.processes ? ['--processes'] : []), ...(options.hostIn === undefined ? [] : ['--host-in', options.hostIn]), ...(options.more ?? [])];
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
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
    return new Site(child, ready, errors);
  }

  /** What the site said on stderr lately. */
  get messages(): readonly string[] {
    return this.#errors;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Runs `ashlar …args --json` and gives its one JSON document. */
  async run<T>(...args: readonly string[]): Promise<T> {
    const child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'], env: this.#env, timeout: COMMAND_TIMEOUT_MS });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) throw new Error(`ashlar ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors.trim() || output.trim()}`);
    return (output.trim() === '' ? null : JSON.parse(output)) as T;
  }

  describe(volumeId: string): Promise<VolumeDescription> {
    return this.run<VolumeDescription>('volume', 'describe', volumeId);
  }

  servers(): Promise<readonly ServerDescription[]> {
    return this.run<readonly ServerDescription[]>('server', 'list');
  }

  async createVolume(sizeBytes: number, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly volumeId: string }>('volume', 'create', '--size', `${sizeBytes}B`, ...more)).volumeId;
  }

  async attach(volumeId: string, ...more: readonly string[]): Promise<string> {
    return (await this.run<{ readonly nbd: string }>('volume', 'attach', volumeId, ...more)).nbd;
  }

  /** Ends the site in an orderly way. */
  stop(): Promise<void> {
    return endProcess(this.#child);
  }
}

/** The server that holds the primary, by what the system manager says. */
export function primaryServer(volume: VolumeDescription): string | undefined {
  return volume.copies.find((copy) => copy.role === 'primary')?.serverId;
}

export function allInSync(volume: VolumeDescription, copies: number): boolean {
  return volume.copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length >= copies;
}
