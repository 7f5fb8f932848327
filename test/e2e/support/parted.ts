import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { newLinkToken } from '@ashlar/runtime';
import { Site } from './site.ts';

const CHILD = join(import.meta.dirname, '../../../packages/site/src/child.ts');
const MANAGER = join(import.meta.dirname, 'manager-main.ts');

/** A site whose system manager is a process like the others: it may end, and come back with another store, while I/O goes on. */
export class PartedSite {
  readonly managerDirectory: string;
  readonly #root: string;
  readonly #servers: readonly string[];
  readonly #linkToken = newLinkToken();
  readonly #children = new Map<string, ChildProcess>();
  #manager: Site | null = null;

  private constructor(root: string, servers: number) {
    this.#root = root;
    this.managerDirectory = join(root, 'manager');
    this.#servers = Array.from({ length: servers }, (_, i) => `server-${i + 1}`);
    mkdirSync(root, { recursive: true });
  }

  static async start(root: string, servers: number): Promise<PartedSite> {
    const site = new PartedSite(root, servers);
    await site.startManager();
    for (const name of [...site.#servers, 'host-1']) await site.startChild(name);
    return site;
  }

  /** What a user asks. */
  get manager(): Site {
    if (this.#manager === null) throw new Error('the system manager does not run');
    return this.#manager;
  }

  async startManager(): Promise<void> {
    const child = spawn(process.execPath, [MANAGER, this.managerDirectory, this.#socket('manager'), this.#linkToken, 'the-token', this.#servers.join(',')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const { endpoint, token } = JSON.parse(line) as { endpoint: string; token: string };
    this.#manager = Site.of(child, endpoint, token);
  }

  async endManager(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#manager?.end(signal);
    this.#manager = null;
  }

  async startChild(name: string): Promise<void> {
    const child = fork(CHILD, [name], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'advanced' });
    this.#children.set(name, child);
    const isHost = name === 'host-1';
    const before = isHost ? this.#servers : this.#servers.slice(0, this.#servers.indexOf(name));
    child.send({
      kind: 'start',
      argument: {
        name, logFile: join(this.#root, `${name}.log`), linkToken: this.#linkToken, managerAddress: 'manager/manager', listen: isHost ? null : { path: this.#socket(name) },
        connect: ['manager', ...before].map((party) => ({ party, address: { path: this.#socket(party) } })),
        servers: isHost ? [] : [{ serverId: name, directories: [join(this.#root, name)], address: 'here' }],
        hosts: isHost ? [{ hostId: name, directory: join(this.#root, name), socketDirectory: this.#root }] : [],
      },
    });
    const [message] = (await once(child, 'message')) as [{ readonly kind: string }];
    if (message.kind !== 'ready') throw new Error(`${name}: ${JSON.stringify(message)}`);
  }

  async kill(name: string): Promise<void> {
    const child = this.#children.get(name);
    if (child === undefined) return;
    this.#children.delete(name);
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    await this.endManager('SIGTERM');
    for (const name of [...this.#children.keys()]) await this.kill(name);
  }

  #socket(name: string): string { return join(this.#root, `${name}.link`); }
}
