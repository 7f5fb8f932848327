import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ActorLog } from '@ashlar/actor';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerNode } from '@ashlar/control';
import { ClusterTrust, replaceFile, type Roster } from '@ashlar/identity';
import type { SupervisorMessage } from '@ashlar/protocol';
import { createLog, createRuntime, DirectoryLock, newLinkToken, type Runtime } from '@ashlar/runtime';
import { AshlarError } from '@ashlar/words';
import type { ChildArgument, ClusterArgument } from '../child-messages.ts';
import { ChildProcesses } from '../child-processes.ts';
import { linkToCluster } from '../cluster-links.ts';
import { siteLayout, type SiteLayout } from '../layout.ts';
import { operatorToken } from '../site-file.ts';
import { daemonParty, partiesOf, type MachineConfig } from './config.ts';
import { DaemonActor } from './daemon-actor.ts';
import { membershipOf, unwrittenRoster, type Membership } from './membership.ts';
import { Renewal } from './renewal.ts';

const CHILD_MODULE = fileURLToPath(new URL('../child.ts', import.meta.url));
const SHUTDOWN_MS = 5000;

/** One machine of a cluster: the system manager in this process if it has it, its storage server and its host in processes of their own. */
export class Machine {
  readonly #config: MachineConfig;
  readonly #layout: SiteLayout;
  readonly #membership: Membership;
  readonly #trust: ClusterTrust;
  readonly #log: ActorLog;
  readonly #runtime: Runtime;
  readonly #children: ChildProcesses;
  readonly #linkToken = newLinkToken();
  readonly #lock: DirectoryLock;
  #renewal: Renewal | null = null;
  #daemon: DaemonActor | null = null;
  #manager: ManagerNode | null = null;

  private constructor(config: MachineConfig, layout: SiteLayout, membership: Membership, lock: DirectoryLock) {
    const { identity } = membership;
    this.#config = config;
    this.#layout = layout;
    this.#membership = membership;
    this.#lock = lock;
    this.#log = createLog({ name: daemonParty(config), file: join(layout.log, 'daemon.log') });
    this.#trust = new ClusterTrust(identity.credentials, identity.roster);
    this.#runtime = createRuntime({ name: daemonParty(config), log: this.#log, token: this.#linkToken, trust: this.#trust, parties: [daemonParty(config)] });
    this.#children = new ChildProcesses({
      module: () => CHILD_MODULE, log: this.#log, codeCache: layout.codeCache, frozenKillAfterMs: config.frozenKillAfterMs,
      onStarted: (name, pid) => this.#tell({ kind: 'process-started', name, pid }),
      onEnded: (name, pid, signal, code) => this.#tell({ kind: 'process-ended', name, pid, signal, code }),
      onRefused: (name, error) => this.#log.error({ name, error }, 'a process refused to start'),
    });
  }

  /** Founds or joins the cluster if this machine is in none yet. Resolves when its processes are ready, whether or not the manager can be reached. */
  static async start(config: MachineConfig): Promise<Machine> {
    const layout = siteLayout(config.directory);
    const lock = DirectoryLock.acquire(layout.root);
    let machine: Machine | null = null;
    try {
      machine = new Machine(config, layout, await membershipOf(config), lock);
      await machine.#start();
      return machine;
    } catch (error) {
      await machine?.stop();
      lock.release();
      throw error;
    }
  }

  /** Of the API, on the manager's machine. */
  get endpoint(): string | null { return this.#manager?.endpoint ?? null; }
  get tokenFile(): string { return this.#layout.tokenFile; }
  get authorityFile(): string { return join(this.#layout.root, 'authority.pem'); }

  async #start(): Promise<void> {
    const { identity } = this.#membership;
    replaceFile(this.authorityFile, identity.credentials.ca);
    if (this.#config.manager !== null) await this.#startManager(this.#config.manager);
    const outcome = this.#runtime.start({
      kind: 'actor', id: 'daemon', address: `${daemonParty(this.#config)}/daemon`, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => (this.#daemon = new DaemonActor(context, partiesOf(this.#config), () => identity.roster, (roster) => this.#learn(roster))),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the actor of the daemon could not be started');
    linkToCluster(this.#runtime, this.#cluster());
    this.#renewal = new Renewal(identity, this.#membership.renewed, this.#log, (credentials) => {
      identity.renew(credentials);
      this.#apply();
    });
    await Promise.all(this.#arguments().map((argument) => this.#children.start(argument)));
    void this.#children.prepare();
  }

  async #startManager({ port, apiPort, metricsPort, certificateLifetimeMs, rebuildDelayMs }: NonNullable<MachineConfig['manager']>): Promise<void> {
    const { authority } = this.#membership;
    if (authority === null) throw new AshlarError('internal', 'a manager without an authority');
    mkdirSync(this.#layout.manager, { recursive: true, mode: 0o700 });
    await this.#runtime.links.listen({ path: this.#layout.linkSocket(MANAGER_PARTY) });
    await this.#runtime.links.listen({ host: this.#config.listen, port });
    this.#manager = await ManagerNode.start({
      runtime: this.#runtime, directory: this.#layout.manager, token: operatorToken(this.#layout), apiPort, metricsPort, timings: { rebuildDelayMs }, processes: this.#children,
      cluster: { authority, trust: this.#trust, lifetimeMs: certificateLifetimeMs, host: this.#config.listen, learn: (roster) => this.#learn(roster) },
    });
    replaceFile(this.#layout.endpointFile, `${this.#manager.endpoint}\n`);
  }

  /** What runs here ends first: it says goodbye, and what it led is led elsewhere before the manager goes. */
  async stop(): Promise<void> {
    this.#renewal?.stop();
    await this.#children.stop();
    await this.#manager?.stop();
    await this.#runtime.shutdown();
    this.#lock.release();
  }

  #tell(message: SupervisorMessage): void {
    if (this.#manager) this.#manager.tell(message);
    else this.#daemon?.tell(message);
  }

  #learn(roster: Roster): void {
    if (this.#membership.identity.learn(roster, unwrittenRoster(this.#log))) this.#apply();
  }

  /** Everybody on this machine goes by the newest certificate and roster. */
  #apply(): void {
    const { credentials, roster } = this.#membership.identity;
    this.#trust.update(credentials, roster);
    linkToCluster(this.#runtime, this.#cluster());
    this.#children.tellCluster(this.#cluster());
  }

  #cluster(): ClusterArgument {
    const { name, manager, storage } = this.#config;
    const { credentials, roster } = this.#membership.identity;
    const local = { ...(manager ? { [MANAGER_PARTY]: this.#layout.linkSocket(MANAGER_PARTY) } : {}), ...(storage ? { [storage.id]: this.#layout.linkSocket(storage.id) } : {}) };
    return { machine: name, credentials, roster, local };
  }

  #arguments(): readonly ChildArgument[] {
    const { storage, host, listen } = this.#config;
    const argument = (name: string, parts: Pick<ChildArgument, 'listen' | 'alsoListen' | 'servers' | 'hosts'>): ChildArgument => ({
      name, managerAddress: MANAGER_ADDRESS, connect: [], linkToken: this.#linkToken, logFile: join(this.#layout.log, `${name}.log`), cluster: this.#cluster(), ...parts,
    });
    return [
      ...(storage ? [argument(storage.id, {
        listen: { path: this.#layout.linkSocket(storage.id) }, alsoListen: [{ host: listen, port: storage.port }],
        servers: [{ serverId: storage.id, directories: storage.directories, address: `${listen}:${storage.port}` }], hosts: [],
      })] : []),
      ...(host ? [argument(host.id, { listen: null, servers: [], hosts: [{ hostId: host.id, directory: host.directory, socketDirectory: host.sockets ?? this.#layout.sockets }] })] : []),
    ];
  }
}
