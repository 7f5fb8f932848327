import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import type { ActorLog } from '@ashlar/actor';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerNode } from '@ashlar/control';
import { createLog, createRuntime, DirectoryLock, newLinkToken, type Runtime } from '@ashlar/runtime';
import { AshlarError } from '@ashlar/words';
import type { ChildArgument } from './child-messages.ts';
import { ChildProcesses } from './child-processes.ts';
import { siteLayout, type SiteLayout } from './layout.ts';
import { place, type PartiesArgument } from './parties.ts';

export interface SiteOptions {
  readonly directory: string;
  readonly servers: number;
  /** Directories per server. */
  readonly disks: number;
  /** Each server and the host in a process of its own. */
  readonly processes: boolean;
  /** The node managers run inside this server's process. */
  readonly hostIn: string | null;
  readonly frozenKillAfterMs: number;
  readonly rebuildDelayMs?: number;
  readonly apiPort: number;
}

const HOST = 'host-1';
const CHILD_MODULE = fileURLToPath(new URL('./child.ts', import.meta.url));

/** Kept in the site's directory: what a later start must repeat. */
interface SiteFile {
  readonly format: 1;
  readonly servers: number;
  readonly disks: number;
}

/** A whole site on this machine. */
export class Site {
  readonly endpoint: string;
  readonly token: string;
  readonly #manager: ManagerNode;
  readonly #runtime: Runtime;
  readonly #children: ChildProcesses | null;
  readonly #lock: DirectoryLock;

  private constructor(manager: ManagerNode, token: string, runtime: Runtime, children: ChildProcesses | null, lock: DirectoryLock) {
    this.endpoint = manager.endpoint;
    this.token = token;
    this.#manager = manager;
    this.#runtime = runtime;
    this.#children = children;
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
    checkSiteFile(layout, options);
    const token = tokenOf(layout);
    mkdirSync(layout.log, { recursive: true, mode: 0o700 });
    const log = createLog({ name: MANAGER_PARTY, file: join(layout.log, 'manager.log') });
    const linkToken = newLinkToken();
    const runtime = createRuntime({ name: MANAGER_PARTY, log, token: linkToken });
    mkdirSync(layout.manager, { recursive: true, mode: 0o700 });
    const timings = options.rebuildDelayMs === undefined ? {} : { rebuildDelayMs: options.rebuildDelayMs };
    const manager = await ManagerNode.start({ runtime, directory: layout.manager, token, apiPort: options.apiPort, timings });
    let children: ChildProcesses | null = null;
    try {
      if (options.processes) children = await startProcesses(layout, options, runtime, manager, log, linkToken);
      else await place(runtime, embedded(layout, options));
    } catch (error) {
      await children?.stop();
      await manager.stop();
      await runtime.shutdown();
      throw error;
    }
    return new Site(manager, token, runtime, children, lock);
  }

  pid(name: string): number | null { return this.#children?.pid(name) ?? null; }

  /** Hosts first, then servers, the manager last: what is still written is answered. */
  async stop(): Promise<void> {
    await this.#children?.stop();
    await this.#manager.stop();
    await this.#runtime.shutdown();
    this.#lock.release();
  }
}

function serverNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `server-${i + 1}`);
}

/** Servers and host in this thread. */
function embedded(layout: SiteLayout, options: SiteOptions): PartiesArgument {
  return {
    managerAddress: MANAGER_ADDRESS, listen: null, connect: [],
    servers: serverNames(options.servers).map((serverId) => ({ serverId, directories: layout.serverDirectories(serverId, options.disks), address: 'in-process' })),
    hosts: [{ hostId: HOST, directory: layout.hostDirectory(HOST), socketDirectory: layout.sockets }],
  };
}

/** A server links to those before it, the host to all servers, everybody to the manager. */
async function startProcesses(layout: SiteLayout, options: SiteOptions, runtime: Runtime, manager: ManagerNode, log: ActorLog, linkToken: string): Promise<ChildProcesses> {
  await runtime.links.listen({ path: layout.linkSocket(MANAGER_PARTY) });
  const children = new ChildProcesses({
    module: CHILD_MODULE, log, frozenKillAfterMs: options.frozenKillAfterMs,
    onStarted: (name, pid) => manager.tell({ kind: 'process-started', name, pid }),
    onEnded: (name, pid, signal, code) => manager.tell({ kind: 'process-ended', name, pid, signal, code }),
    onRefused: (name, error) => log.error({ name, error }, 'a process refused to start'),
  });
  const names = serverNames(options.servers);
  const host = { hostId: HOST, directory: layout.hostDirectory(HOST), socketDirectory: layout.sockets };
  const link = (party: string) => ({ party, address: { path: layout.linkSocket(party) } });
  const argument = (name: string, parts: Pick<PartiesArgument, 'servers' | 'hosts'>, linkedTo: readonly string[]): ChildArgument => ({
    managerAddress: MANAGER_ADDRESS, listen: link(name).address, connect: [MANAGER_PARTY, ...linkedTo].map(link), ...parts, linkToken, logFile: join(layout.log, `${name}.log`),
  });
  const started: Promise<void>[] = [];
  names.forEach((serverId, i) => {
    const inside = options.hostIn === serverId;
    const servers = [{ serverId, directories: layout.serverDirectories(serverId, options.disks), address: layout.linkSocket(serverId) }];
    // A host inside links to all servers, so that those before need not link to it; those after it link to this process anyway.
    started.push(children.start({ name: serverId, argument: argument(serverId, { servers, hosts: inside ? [host] : [] }, names.slice(0, i)) }));
  });
  if (options.hostIn === null) started.push(children.start({ name: HOST, argument: argument(HOST, { servers: [], hosts: [host] }, names) }));
  try {
    await Promise.all(started);
    await Promise.all([...names, HOST].map((party) => runtime.links.waitUntilUp(party, 20_000)));
  } catch (error) {
    await children.stop();
    throw error;
  }
  return children;
}

function checkSiteFile(layout: SiteLayout, options: SiteOptions): void {
  const path = join(layout.root, 'site.json');
  if (options.hostIn !== null && !serverNames(options.servers).includes(options.hostIn)) throw new AshlarError('invalid-argument', `--host-in ${options.hostIn}: there is no such server`);
  if (!existsSync(path)) {
    const file: SiteFile = { format: 1, servers: options.servers, disks: options.disks };
    writeFileSync(path, `${JSON.stringify(file)}\n`, { mode: 0o600, flush: true });
    return;
  }
  const known = JSON.parse(readFileSync(path, 'utf8')) as SiteFile;
  if (known.format !== 1) throw new AshlarError('format-unsupported', `${path} has format ${String(known.format)}`, { path });
  if (known.disks !== options.disks) throw new AshlarError('invalid-argument', `this site was made with --disks ${known.disks}`);
  if (options.servers < known.servers) throw new AshlarError('invalid-argument', `this site has ${known.servers} servers; start it with at least as many`);
  if (options.servers > known.servers) writeFileSync(path, `${JSON.stringify({ ...known, servers: options.servers })}\n`, { mode: 0o600, flush: true });
}

function tokenOf(layout: SiteLayout): string {
  if (existsSync(layout.tokenFile)) return readFileSync(layout.tokenFile, 'utf8').trim();
  const token = randomBytes(24).toString('base64url');
  writeFileSync(layout.tokenFile, `${token}\n`, { mode: 0o600, flush: true });
  return token;
}
