import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerNode, type HostView, type ManagerView, type ServerView } from '@ashlar/control';
import { createLog, createRuntime, DirectoryLock, newLinkToken, type Runtime } from '@ashlar/runtime';
import { AshlarError, serverId } from '@ashlar/words';
import type { ChildArgument } from './child-messages.ts';
import { ChildProcesses } from './child-processes.ts';
import { siteLayout, type SiteLayout } from './layout.ts';
import type { PartiesArgument } from './parties.ts';
import { PooledWorkers } from './pooled-workers.ts';
import { operatorToken, replaceFile, saveSite, siteFor, type SiteFile } from './site-file.ts';
import type { Workers } from './workers.ts';

export interface SiteOptions {
  readonly directory: string;
  /** As before if it is left out; 3 in a new site. */
  readonly servers?: number;
  /** Directories per server; as before if it is left out, 1 in a new site. */
  readonly disks?: number;
  /** Each server and the host in a process of its own; else all of them in one thread of this process. */
  readonly processes: boolean;
  /** The node managers run inside this server's process. */
  readonly hostIn: string | null;
  readonly frozenKillAfterMs: number;
  readonly rebuildDelayMs: number;
  /** Of the API on loopback; 0: the one used before, or any. */
  readonly apiPort: number;
}

const HOST = 'host-1';
const BLOCK_THREAD = 'block';
const CHILD_MODULE = fileURLToPath(new URL('./child.ts', import.meta.url));
/** Opening 2,000 copies takes seconds; a start that takes longer than this will not end well. */
const READY_TIMEOUT_MS = 60_000;

/** A whole site on this machine: the system manager in this thread, servers and hosts in the workers. */
export class Site {
  readonly endpoint: string;
  readonly token: string;
  readonly #manager: ManagerNode;
  readonly #runtime: Runtime;
  readonly #workers: Workers;
  readonly #lock: DirectoryLock;

  private constructor(manager: ManagerNode, token: string, runtime: Runtime, workers: Workers, lock: DirectoryLock) {
    this.endpoint = manager.endpoint;
    this.token = token;
    this.#manager = manager;
    this.#runtime = runtime;
    this.#workers = workers;
    this.#lock = lock;
  }

  /** Starts everything, and resolves when servers and host are up. Throws `directory-locked` and what directories refuse; nothing runs then. */
  static async start(options: SiteOptions): Promise<Site> {
    const lock = DirectoryLock.acquire(options.directory);
    try {
      return await Site.#start(options, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  static async #start(options: SiteOptions, lock: DirectoryLock): Promise<Site> {
    const layout = siteLayout(options.directory);
    const site = siteFor(layout, options);
    const names = serverNames(site.servers);
    if (options.hostIn !== null && !names.includes(options.hostIn)) throw new AshlarError('invalid-argument', `--host-in ${options.hostIn}: there is no such server`);
    saveSite(layout, site);
    const token = operatorToken(layout);
    const log = createLog({ name: MANAGER_PARTY, file: join(layout.log, 'manager.log') });
    const linkToken = newLinkToken();
    const runtime = createRuntime({ name: MANAGER_PARTY, log, token: linkToken });
    mkdirSync(layout.manager, { recursive: true, mode: 0o700 });
    let manager: ManagerNode | null = null;
    let workers: Workers | null = null;
    try {
      await runtime.links.listen({ path: layout.linkSocket(MANAGER_PARTY) });
      const processes = (): Workers => new ChildProcesses({
        module: CHILD_MODULE, log, codeCache: layout.codeCache, frozenKillAfterMs: options.frozenKillAfterMs,
        onStarted: (name, pid) => manager?.tell({ kind: 'process-started', name, pid }),
        onEnded: (name, pid, signal, code) => manager?.tell({ kind: 'process-ended', name, pid, signal, code }),
        onRefused: (name, error) => log.error({ name, error }, 'a process refused to start'),
      });
      const started = options.processes ? processes() : new PooledWorkers({ runtime, linkToken, log: { file: join(layout.log, `${BLOCK_THREAD}.log`) } });
      workers = started;
      const apiPort = options.apiPort === 0 ? site.apiPort : options.apiPort;
      manager = await ManagerNode.start({ runtime, directory: layout.manager, token, apiPort, timings: { rebuildDelayMs: options.rebuildDelayMs, expected: names.map(serverId) }, processes: started });
      saveSite(layout, { ...site, apiPort: Number(new URL(manager.endpoint).port) });
      await Promise.all(argumentsOf(layout, site, options, linkToken).map((argument) => started.start(argument)));
      await usable(manager, names);
    } catch (error) {
      await manager?.stop();
      await workers?.stop();
      await runtime.shutdown();
      throw error;
    }
    replaceFile(layout.endpointFile, `${manager.endpoint}\n`);
    return new Site(manager, token, runtime, workers, lock);
  }

  /**
   * Hosts first: what they still have is answered. Then the manager, or it would fail volumes over from one server to the next while they
   * end; then the servers, whose copies are closed cleanly.
   */
  async stop(): Promise<void> {
    await this.#workers.hold(HOST);
    await this.#manager.stop();
    await this.#workers.stop();
    await this.#runtime.shutdown();
    this.#lock.release();
  }
}

function serverNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `server-${i + 1}`);
}

/** Each process links to the manager, a server to those before it, the host to all servers. What is in threads has the pool's rings. */
function argumentsOf(layout: SiteLayout, site: SiteFile, { processes, hostIn }: SiteOptions, linkToken: string): ChildArgument[] {
  const names = serverNames(site.servers);
  const hosts = [{ hostId: HOST, directory: layout.hostDirectory(HOST), socketDirectory: layout.sockets }];
  const link = (party: string) => ({ party, address: { path: layout.linkSocket(party) } });
  const server = (serverId: string) => ({ serverId, directories: layout.serverDirectories(serverId, site.disks), address: processes ? layout.linkSocket(serverId) : 'in-process' });
  const argument = (name: string, listens: boolean, linkedTo: readonly string[], parts: Pick<PartiesArgument, 'servers' | 'hosts'>): ChildArgument => ({
    name, managerAddress: MANAGER_ADDRESS, listen: listens ? link(name).address : null, connect: linkedTo.map(link), ...parts, linkToken,
    logFile: join(layout.log, `${name}.log`),
  });
  if (!processes) return [argument(BLOCK_THREAD, false, [], { servers: names.map(server), hosts })];
  // A link is for all parties of both ends: a host inside a server's process needs no links of its own.
  const children = names.map((name, i) => argument(name, true, [MANAGER_PARTY, ...names.slice(0, i)], { servers: [server(name)], hosts: hostIn === name ? hosts : [] }));
  return hostIn === null ? [...children, argument(HOST, false, [MANAGER_PARTY, ...names], { servers: [], hosts })] : children;
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
