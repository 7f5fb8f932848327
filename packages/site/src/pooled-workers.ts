import { createThreadPool, type LogOptions, type Runtime, type ThreadPool } from '@ashlar/runtime';
import type { ChildArgument } from './child-messages.ts';
import type { Workers } from './workers.ts';

export interface PooledWorkersOptions {
  /** Of the system manager: it and the parties in the pool reach each other over rings. */
  readonly runtime: Runtime;
  readonly log: Omit<LogOptions, 'name'>;
  readonly linkToken: string;
}

/** What talks on the block path: servers and hosts of an embedded site share one thread (adr/0007). */
const BLOCK_PATH = 'block path';
const PARTIES_MODULE = new URL('./parties.ts', import.meta.url).href;

/** Threads of this process. One that dies is replaced, and its parties start anew from their directories, as after the end of a process. */
export class PooledWorkers implements Workers {
  readonly #pool: ThreadPool;

  constructor({ runtime, log, linkToken }: PooledWorkersOptions) {
    this.#pool = createThreadPool({ name: 'block', threads: 1, runtime, log, token: linkToken });
  }

  start({ name, logFile: _logFile, linkToken: _linkToken, ...parties }: ChildArgument): Promise<void> {
    const names = [...parties.servers.map((server) => server.serverId), ...parties.hosts.map((host) => host.hostId)];
    return this.#pool.place({ id: name, module: PARTIES_MODULE, argument: parties, parties: names, affinity: BLOCK_PATH });
  }

  has(): boolean { return false; }
  prepare(): Promise<void> { return Promise.resolve(); }
  hold(): Promise<void> { return Promise.resolve(); }
  resume(): Promise<void> { return Promise.resolve(); }
  /** One that shares its group with others holds nothing, is not spoken to any more, and ends with them. */
  remove(name: string): Promise<void> { return this.#pool.remove(name); }
  stop(): Promise<void> { return this.#pool.shutdown(); }
}
