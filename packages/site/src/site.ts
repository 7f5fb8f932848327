import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ApiClient, type HostView, type ManagerView, type ServerView } from '@ashlar/client';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerNode, type Machine, type ServerPlace } from '@ashlar/control';
import { controlAt, NodeManager, siteLinksFile, type AttachOptions, type Volume } from '@ashlar/node-manager';
import { createLog, createRuntime, DirectoryLock, type Runtime } from '@ashlar/runtime';
import { AshlarError, hostId, serverId } from '@ashlar/words';
import { ChildProcesses } from './child-processes.ts';
import { siteLayout, type SiteLayout } from './layout.ts';
import { PooledWorkers } from './pooled-workers.ts';
import { linkTokenOf, operatorToken, replaceFile, saveSite, serverNames, siteFor } from './site-file.ts';
import { BLOCK_THREAD, HOST, SiteServers } from './site-servers.ts';
import type { Workers } from './workers.ts';

export interface SiteOptions {
  readonly directory: string;
  /** As before if it is left out; 3 in a new site. */
  readonly servers?: number;
  /** Directories per server; as before if it is left out, 1 in a new site. */
  readonly disks?: number;
  /** Racks and kinds of disk of the servers, in their order; as before where it is left out. */
  readonly places?: readonly ServerPlace[];
  /** Each server and the host in a process of its own. Default: all of them in one thread of this process. */
  readonly processes?: boolean;
  /** The node managers run inside this server's process. */
  readonly hostIn?: string | null;
  /** A process that answers nothing for so long is killed and replaced (default 30 s; 0: never). */
  readonly frozenKillAfterMs?: number;
  /** A copy that is away for so long is built elsewhere (default 30 s). */
  readonly rebuildDelayMs?: number;
  /** Of the API on loopback. Default, and 0: the one used before, or any. */
  readonly apiPort?: number;
  /** What the process of this name runs, asked at each of its starts: another build's module, while a site is upgraded. Default: this build's. */
  readonly module?: (name: string) => string;
  /** Figures for Prometheus on a port of their own on loopback; without it: on the API's only. 0: any free port. */
  readonly metricsPort?: number | undefined;
}

const DEFAULTS = { processes: false, hostIn: null, frozenKillAfterMs: 30_000, rebuildDelayMs: 30_000, apiPort: 0 } as const satisfies Partial<SiteOptions>;
type Settled = SiteOptions & Required<Pick<SiteOptions, keyof typeof DEFAULTS>>;

/** The node manager of the program in which the site runs. */
const PROGRAM = hostId('program');
const CHILD_MODULE = fileURLToPath(new URL('./child.ts', import.meta.url));
/** Opening 2,000 copies takes seconds; a start that takes longer than this will not end well. */
const READY_TIMEOUT_MS = 60_000;

/**
 * A whole site on this machine: the system manager in this thread, servers and hosts in the workers. All copies of a volume are on one machine
 * then, and share its power and its disk.
 */
export class Site {
  readonly endpoint: string;
  readonly token: string;
  readonly metricsUrl: string | null;
  readonly #manager: ManagerNode;
  readonly #runtime: Runtime;
  readonly #workers: Workers;
  readonly #lock: DirectoryLock;
  readonly #layout: SiteLayout;
  #nodeManager: Promise<NodeManager> | null = null;
  #client: Promise<ApiClient> | null = null;

  private constructor(manager: ManagerNode, token: string, runtime: Runtime, workers: Workers, lock: DirectoryLock, layout: SiteLayout) {
    this.endpoint = manager.endpoint;
    this.token = token;
    this.metricsUrl = manager.metricsUrl;
    this.#manager = manager;
    this.#runtime = runtime;
    this.#workers = workers;
    this.#lock = lock;
    this.#layout = layout;
  }

  /** Starts everything, and resolves when servers and host are up. Throws `directory-locked` and what directories refuse; nothing runs then. */
  static async start(options: SiteOptions): Promise<Site> {
    const lock = DirectoryLock.acquire(options.directory);
    try {
      return await Site.#start({ ...DEFAULTS, ...options }, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  static async #start(options: Settled, lock: DirectoryLock): Promise<Site> {
    const layout = siteLayout(options.directory);
    const site = siteFor(layout, options);
    const names = serverNames(site);
    if (options.hostIn !== null && !names.includes(options.hostIn)) throw new AshlarError('invalid-argument', `--host-in ${options.hostIn}: there is no such server`);
    saveSite(layout, site);
    const token = operatorToken(layout);
    const log = createLog({ name: MANAGER_PARTY, file: join(layout.log, 'manager.log') });
    const linkToken = linkTokenOf(layout);
    const runtime = createRuntime({ name: MANAGER_PARTY, log, token: linkToken });
    mkdirSync(layout.manager, { recursive: true, mode: 0o700 });
    let manager: ManagerNode | null = null;
    let workers: Workers | null = null;
    try {
      await runtime.links.listen({ path: layout.linkSocket(MANAGER_PARTY) });
      const processes = (): Workers => new ChildProcesses({
        module: options.module ?? (() => CHILD_MODULE), log, codeCache: layout.codeCache, frozenKillAfterMs: options.frozenKillAfterMs,
        onStarted: (name, pid) => manager?.tell({ kind: 'process-started', name, pid }),
        onEnded: (name, pid, signal, code) => manager?.tell({ kind: 'process-ended', name, pid, signal, code }),
        onRefused: (name, error) => log.error({ name, error }, 'a process refused to start'),
      });
      const started = options.processes ? processes() : new PooledWorkers({ runtime, linkToken, log: { file: join(layout.log, `${BLOCK_THREAD}.log`) } });
      workers = started;
      const apiPort = options.apiPort === 0 ? site.apiPort : options.apiPort;
      const servers = new SiteServers({ layout, site, workers: started, linkToken, processes: options.processes, hostIn: options.hostIn });
      const machine: Machine = {
        async addServer(place) {
          const name = await servers.add(place);
          if (manager !== null) await usable(manager, [name]);
          return name;
        },
        has: (name) => servers.names.includes(name),
        removeServer: (name) => servers.remove(name),
      };
      manager = await ManagerNode.start({ runtime, directory: layout.manager, token, apiPort, metricsPort: options.metricsPort, timings: { rebuildDelayMs: options.rebuildDelayMs, expected: names.map(serverId) }, processes: started, machine });
      servers.keepPort(Number(new URL(manager.endpoint).port));
      await servers.start();
      await usable(manager, names);
    } catch (error) {
      await manager?.stop();
      await workers?.stop();
      await runtime.shutdown();
      throw error;
    }
    replaceFile(layout.linksFile, siteLinksFile({ format: 1, linkToken, managerParty: MANAGER_PARTY, managerAddress: MANAGER_ADDRESS, managerPath: layout.linkSocket(MANAGER_PARTY) }));
    replaceFile(layout.endpointFile, `${manager.endpoint}\n`);
    void workers.prepare();
    return new Site(manager, token, runtime, workers, lock, layout);
  }

  /** A connection to the site's API, for this program; it ends with the site. */
  client(): Promise<ApiClient> {
    this.#client ??= ApiClient.connect(this.endpoint, this.token);
    return this.#client;
  }

  /** Attaches a volume in this process; see `NodeManager.attach`. */
  async attach(volumeId: string, options?: AttachOptions): Promise<Volume> {
    this.#nodeManager ??= NodeManager.embed({
      hostId: PROGRAM, directory: this.#layout.hostDirectory(PROGRAM), runtime: this.#runtime, managerAddress: MANAGER_ADDRESS, control: controlAt(() => this),
    }).catch((error: unknown) => {
      // The next attach tries again.
      this.#nodeManager = null;
      throw error;
    });
    return (await this.#nodeManager).attach(volumeId, options);
  }

  /**
   * Hosts first: what they still have is answered. Then the manager, or it would fail volumes over from one server to the next while they
   * end; then the servers, whose copies are closed cleanly.
   */
  async stop(): Promise<void> {
    // One that could not begin was told to whoever asked for it.
    await this.#nodeManager?.then((nodeManager) => nodeManager.close(), () => undefined);
    await this.#client?.then((client) => client.close(), () => undefined);
    await this.#workers.hold(HOST);
    await this.#manager.stop();
    await this.#workers.stop();
    await this.#runtime.shutdown();
    this.#lock.release();
  }
}

/** Every server is up and has said how much room it has, and so is the host: the first command finds what it needs. */
async function usable(manager: ManagerNode, names: readonly string[]): Promise<void> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const servers = await manager.ask<readonly ServerView[]>({ kind: 'server-list' });
    const hosts = await manager.ask<readonly HostView[]>({ kind: 'host-list' });
    const missing = names.filter((name) => !servers?.some((server) => server.serverId === name && (server.state === 'up' || server.state === 'draining') && server.capacityBytes > 0));
    if (!hosts?.some((host) => host.hostId === HOST && host.state === 'up')) missing.push(HOST);
    // It acts, or says why not for as long as nobody does something about it.
    const known = await manager.ask<ManagerView>({ kind: 'manager-describe' });
    if (missing.length === 0 && known?.state !== 'waiting') return;
    if (known?.state === 'waiting') missing.push(`the system manager (${known.reason})`);
    if (performance.now() >= deadlineMs) throw new AshlarError('timeout', `not up after ${READY_TIMEOUT_MS / 1000} s: ${missing.join(', ')}; see the logs`, { retry: 'later' });
    await delay(20);
  }
}
