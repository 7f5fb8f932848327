import { join } from 'node:path';
import { MANAGER_ADDRESS, MANAGER_PARTY, type ServerPlace } from '@ashlar/control';
import type { ChildArgument } from './child-messages.ts';
import type { SiteLayout } from './layout.ts';
import type { PartiesArgument } from './parties.ts';
import { saveSite, serverNames, withoutServer, withServer, type SiteFile } from './site-file.ts';
import type { Workers } from './workers.ts';

export const HOST = 'host-1';
export const BLOCK_THREAD = 'block';

export interface SiteServersOptions {
  readonly layout: SiteLayout;
  readonly site: SiteFile;
  readonly workers: Workers;
  readonly linkToken: string;
  readonly processes: boolean;
  /** The node managers run inside this server's process. */
  readonly hostIn: string | null;
}

type Parts = Pick<PartiesArgument, 'servers' | 'hosts'>;

/** Which servers a site has, as its file says, and the processes or threads that they run in. */
export class SiteServers {
  readonly #options: SiteServersOptions;
  #site: SiteFile;

  constructor(options: SiteServersOptions) {
    this.#options = options;
    this.#site = options.site;
  }

  get names(): readonly string[] { return serverNames(this.#site); }

  /** All of them, and the host. */
  async start(): Promise<void> {
    const { workers, processes, hostIn, layout } = this.#options;
    const { names } = this;
    const hosts = [{ hostId: HOST, directory: layout.hostDirectory(HOST), socketDirectory: layout.sockets }];
    if (!processes) return workers.start(this.#argument(BLOCK_THREAD, [], { servers: names.map((name) => this.#server(name)), hosts }));
    // A link is for all parties of both ends: a host inside a server's process needs no links of its own.
    const children = names.map((name, i) => this.#argument(name, [MANAGER_PARTY, ...names.slice(0, i)], { servers: [this.#server(name)], hosts: hostIn === name ? hosts : [] }));
    const all = hostIn === null ? [...children, this.#argument(HOST, [MANAGER_PARTY, ...names], { servers: [], hosts })] : children;
    await Promise.all(all.map((argument) => workers.start(argument)));
  }

  /** One more. First in the file: what it is given to hold must be there after a restart. */
  async add(place: ServerPlace): Promise<string> {
    const { workers, hostIn } = this.#options;
    const before = this.names;
    const { site, name } = withServer(this.#site, place);
    this.#save(site);
    // Those that run already were not told of it, and it links to all of them.
    const linkedTo = [MANAGER_PARTY, ...before, ...(hostIn === null ? [HOST] : [])];
    try {
      await workers.start(this.#argument(name, linkedTo, { servers: [this.#server(name)], hosts: [] }));
    } catch (error) {
      await workers.remove(name);
      this.#save(withoutServer(this.#site, name));
      throw error;
    }
    return name;
  }

  /** It holds nothing any more: it ends, and is not started again. */
  async remove(name: string): Promise<void> {
    await this.#options.workers.remove(name);
    this.#save(withoutServer(this.#site, name));
  }

  /** Where the API was listened to is kept with it. */
  keepPort(apiPort: number): void { this.#save({ ...this.#site, apiPort }); }

  #save(site: SiteFile): void {
    saveSite(this.#options.layout, site);
    this.#site = site;
  }

  #server(serverId: string): PartiesArgument['servers'][number] {
    const { layout, processes } = this.#options;
    return { serverId, directories: layout.serverDirectories(serverId, this.#site.disks), address: layout.linkSocket(processes ? serverId : BLOCK_THREAD), ...this.#site.places?.[serverId] };
  }

  /** Each process links to the manager, a server to those before it, the host to all servers. What is in threads has the pool's rings, and a socket for programs in other processes. */
  #argument(name: string, linkedTo: readonly string[], parts: Parts): ChildArgument {
    const { layout, linkToken, processes } = this.#options;
    const link = (party: string) => ({ party, address: { path: layout.linkSocket(party) } });
    return {
      name, managerAddress: MANAGER_ADDRESS, listen: link(name).address, connect: processes ? linkedTo.map(link) : [], ...parts, linkToken, logFile: join(layout.log, `${name}.log`),
    };
  }
}
