import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ApiClient, type ApiCommand, type ClusterStatus, type EventRecord, type HostView, type ProcessView, type ServerView, type VolumeView } from '@ashlar/client';
import { volumeId as volumeIdOf } from '@ashlar/words';
import { MAIN, runAshlar } from './command.ts';
import { endProcess } from './process.ts';

export { ROOT } from './command.ts';

export interface SiteOptions {
  readonly directory: string;
  readonly servers: number;
  readonly processes: boolean;
  readonly hostIn?: string;
  /** Further options of `ashlar up`, as on the command line. */
  readonly more?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** `main.ts` of the program, if it is not that of this tree. */
  readonly program?: string;
}

interface Ready {
  readonly endpoint: string;
  readonly token: string;
}

const READY_TIMEOUT_MS = 60_000;
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
    const child = spawn(process.execPath, [options.program ?? MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
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

  /** Runs `ashlar …args --json` and gives its one JSON document. */
  run<T>(...args: readonly string[]): Promise<T> {
    return runAshlar<T>(this.#env, args);
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

  async processes(): Promise<readonly ProcessView[]> {
    return ((await this.#client.call({ kind: 'cluster-status' })) as ClusterStatus).processes;
  }

  async events(subject: string): Promise<readonly EventRecord[]> {
    const all: EventRecord[] = [];
    await this.#client.events({ subject, max: 10_000, follow: false }, (event) => all.push(event));
    return all;
  }

  /** The number of the newest event, of everybody. */
  async lastSequence(): Promise<number> {
    let last = 0;
    await this.#client.events({ max: 1, follow: false }, ({ sequence }) => { last = sequence; });
    return last;
  }

  /** Those of everybody, from now on until the signal. */
  async followEvents(onEvent: (event: EventRecord) => void, signal: AbortSignal): Promise<void> {
    try {
      await this.#client.events({ max: 1, follow: true }, onEvent, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
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

/** What an attack needs of a site, however it runs. */
export type DrivenSite = Pick<Site, 'run' | 'describe' | 'servers' | 'hosts' | 'events' | 'createVolume' | 'attach' | 'stop'>;

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
