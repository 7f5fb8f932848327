import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Authority, ClusterTrust, Roster } from '@ashlar/identity';
import type { ApiAnswer, ApiCommand, DiskKind, ServerView, SupervisorMessage } from '@ashlar/protocol';
import { BUILD, thisBuild, type Runtime } from '@ashlar/runtime';
import { AshlarError, errorCode, serverId, type ServerId } from '@ashlar/words';
import { ApiServer } from './api-server.ts';
import { ClusterActor, CLUSTER_ADDRESS } from './cluster-actor.ts';
import { Cluster } from './cluster.ts';
import { FiguresCollector } from './figures-collector.ts';
import { authorize, MANAGER_DEFAULTS, type ManagerOptions, type Principal } from './core/index.ts';
import { JoinServer } from './join-server.ts';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerActor, type CommandMessage } from './manager-actor.ts';
import { MetricsServer } from './metrics.ts';
import { METADATA_FORMAT, SqliteStore } from './sqlite-store.ts';

/** What can be asked of the supervisor of this machine's processes. */
interface ProcessControl {
  has(name: string): boolean;
  /** Has ready what the next start needs, while others go first. Never rejects. */
  prepare(): Promise<void>;
  /** Ends it, in order or by force, and leaves it down. */
  hold(name: string, kill?: boolean): Promise<void>;
  resume(name: string): Promise<void>;
}

/** Where a server stands, and what its directories lie on. */
export interface ServerPlace {
  readonly rack?: string;
  /** Left out: what the kernel says. */
  readonly disk?: DiskKind;
}

/** What can be asked of a machine that starts servers for its site. */
export interface Machine {
  /** Resolves with its name when it is up. */
  addServer(place: ServerPlace): Promise<string>;
  has(name: string): boolean;
  removeServer(name: string): Promise<void>;
}

export interface ManagerNodeOptions {
  readonly runtime: Runtime;
  /** Holds `metadata.sqlite`. Its lock is held by the caller. */
  readonly directory: string;
  /** Who has it may do everything. */
  readonly token: string;
  /** 0: any free port. */
  readonly apiPort: number;
  /** Figures for Prometheus on a port of their own; without it: on the API's only. 0: any free port. */
  readonly metricsPort?: number | undefined;
  readonly timings?: Partial<ManagerOptions>;
  readonly processes?: ProcessControl;
  readonly machine?: Machine;
  /** Many machines; without it the API is on loopback, and there is nobody to join. */
  readonly cluster?: ManagerClusterOptions;
}

export interface ManagerClusterOptions {
  readonly authority: Authority;
  readonly trust: ClusterTrust;
  /** Of certificates. */
  readonly lifetimeMs: number;
  /** Where the API listens. */
  readonly host: string;
  /** A new roster, which is durable in the store: this machine's own processes go by it from now on. */
  readonly learn: (roster: Roster) => void;
}

const SHUTDOWN_MS = 5000;
/** A server that is ready says hello at once; longer than a busy machine takes. */
const HEARD_MS = 30_000;
const HEARD_LOOK_MS = 20;

/** The system manager of a site: its store, its actor and its API. */
export class ManagerNode {
  readonly endpoint: string;
  /** Where figures have a port of their own. */
  readonly metricsUrl: string | null;
  readonly #runtime: Runtime;
  readonly #api: ApiServer;
  readonly #store: SqliteStore;
  readonly #figures: FiguresCollector;
  readonly #metrics: MetricsServer | null;

  private constructor(runtime: Runtime, api: ApiServer, store: SqliteStore, figures: FiguresCollector, metrics: MetricsServer | null, endpoint: string) {
    this.#runtime = runtime;
    this.#api = api;
    this.#store = store;
    this.#figures = figures;
    this.#metrics = metrics;
    this.metricsUrl = metrics?.url ?? null;
    this.endpoint = endpoint;
  }

  static async start(options: ManagerNodeOptions): Promise<ManagerNode> {
    const { runtime } = options;
    const store = SqliteStore.open({ path: join(options.directory, 'metadata.sqlite'), log: runtime.log });
    runtime.addParty(MANAGER_PARTY);
    const self = { name: MANAGER_PARTY, pid: process.pid, build: thisBuild({ metadata: METADATA_FORMAT }) };
    const trust = options.cluster?.trust;
    const outcome = runtime.start({
      kind: 'actor', id: 'manager', address: MANAGER_ADDRESS, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => new ManagerActor(context, store, { ...MANAGER_DEFAULTS, expected: serversOf(options.cluster), ...options.timings, self }, randomInt(2 ** 47), (party, role) => trust === undefined || trust.roleOf(party) === role),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the system manager could not be started');
    const cluster = options.cluster && (await startCluster(runtime, store, options.cluster));
    const figures: FiguresCollector = new FiguresCollector({
      runtime, store, version: BUILD, refused: () => api.refused,
      ask: (command) => askOwn(runtime, command),
    });
    const api: ApiServer = new ApiServer({
      token: options.token, store, log: runtime.log, figures: () => figures.text(), ...(options.cluster && cluster ? { network: networkOf(runtime, options.cluster, cluster) } : {}),
      carryOut: (principal, command, answer) => {
        const { processes, machine } = options;
        if (cluster && isOfCluster(command)) {
          if (authorize(principal, command.kind, undefined)) void carryOutOfCluster(runtime, cluster, command, answer);
          else answer({ ok: false, code: 'unauthorized', message: 'this needs the token of the cluster' });
          return;
        }
        if (machine !== undefined && (command.kind === 'server-add' || (command.kind === 'server-remove' && machine.has(command.serverId))) && authorize(principal, command.kind, undefined)) {
          return void changeServers(runtime, machine, principal, command, answer);
        }
        if (!isAboutProcess(command) || !authorize(principal, command.kind, undefined)) return toActor(runtime, principal, command, answer);
        // Refused there, with the reason.
        if (processes?.has(command.serverId) !== true) return toActor(runtime, principal, { kind: 'server-start', serverId: command.serverId }, answer);
        if (command.kind !== 'server-restart') return void control(answer, command.serverId, () => (command.kind === 'server-stop' ? processes.hold(command.serverId, command.kill) : processes.resume(command.serverId)));
        // First whether that may be done, and again when everything is ready for it.
        const ask = (then: () => void): void => toActor(runtime, principal, command, (may) => (may.ok ? then() : answer(may)));
        ask(() => void processes.prepare().then(() => ask(() => void restart(runtime, processes, command.serverId, answer))));
      },
    });
    const metrics = options.metricsPort === undefined ? null : await MetricsServer.listen(options.metricsPort, api.metrics);
    const endpoint = await api.listen(options.apiPort).catch(async (error: unknown) => {
      await metrics?.close();
      throw error;
    });
    return new ManagerNode(runtime, api, store, figures, metrics, endpoint);
  }

  /** The daemon says what became of a process. */
  tell(message: SupervisorMessage): void {
    toManager(this.#runtime, message);
  }

  /** A command of the daemon's own. Null: refused. */
  ask<T>(command: ApiCommand): Promise<T | null> {
    return askOwn(this.#runtime, command);
  }

  async stop(): Promise<void> {
    await this.#metrics?.close();
    await this.#api.close();
    await this.#runtime.stop('cluster');
    await this.#figures.close();
    await this.#runtime.stop('manager');
    this.#store.close();
  }
}

const toManager = (runtime: Runtime, message: SupervisorMessage): void => { runtime.send(MANAGER_ADDRESS, message, `${MANAGER_PARTY}/supervisor`); };

/** An empty store of a cluster that has these servers is one that was lost. */
function serversOf(cluster: ManagerClusterOptions | undefined): ServerId[] {
  return (cluster?.trust.roster.members ?? []).flatMap(({ parties }) => parties.filter(({ role }) => role === 'storage').map(({ party }) => serverId(party)));
}

async function startCluster(runtime: Runtime, store: SqliteStore, { authority, trust, lifetimeMs, learn }: ManagerClusterOptions): Promise<Cluster> {
  let actor: ClusterActor | null = null;
  const cluster = await Cluster.start({
    authority, store, lifetimeMs, roster: trust.roster,
    publish: (roster) => {
      // To the others while the links to those who leave are still there: they hear why.
      actor?.push();
      learn(roster);
    },
    isLinked: ({ parties }) => parties.some(({ party }) => runtime.hosts(party) || runtime.links.up().includes(party)),
  });
  const outcome = runtime.start({
    kind: 'actor', id: 'cluster', address: CLUSTER_ADDRESS, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
    start: (context) => (actor = new ClusterActor(context, cluster, (message) => toManager(runtime, message))),
  });
  if (outcome !== 'started') throw new AshlarError('internal', 'the actor of the cluster could not be started');
  return cluster;
}

function networkOf(runtime: Runtime, { trust, host }: ManagerClusterOptions, cluster: Cluster): ConstructorParameters<typeof ApiServer>[0]['network'] {
  const joins = new JoinServer(cluster, trust, runtime.log);
  return { host, trust, answer: (request, response) => joins.answer(request, response) };
}

type ClusterCommand = Extract<ApiCommand, { readonly kind: 'cluster-invite' | 'machine-list' | 'machine-remove' }>;

function isOfCluster(command: ApiCommand): command is ClusterCommand {
  return command.kind === 'cluster-invite' || command.kind === 'machine-list' || command.kind === 'machine-remove';
}

async function carryOutOfCluster(runtime: Runtime, cluster: Cluster, command: ClusterCommand, answer: (answer: ApiAnswer) => void): Promise<void> {
  try {
    switch (command.kind) {
      case 'cluster-invite': return answer({ ok: true, value: await cluster.invite(command) });
      case 'machine-list': return answer({ ok: true, value: cluster.list() });
      case 'machine-remove': return answer({ ok: true, value: await removeMachine(runtime, cluster, command) });
    }
  } catch (error) {
    answer({ ok: false, code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
  }
}

/** Copies on it are lost with it: they are built anew elsewhere at once, if the operator has said that this is meant. */
async function removeMachine(runtime: Runtime, cluster: Cluster, { machine, force }: Extract<ClusterCommand, { readonly kind: 'machine-remove' }>): Promise<unknown> {
  const ask = (command: ApiCommand): Promise<ApiAnswer> => new Promise((resolve) => toActor(runtime, { kind: 'operator' }, command, resolve));
  const listed = await ask({ kind: 'server-list' });
  if (!listed.ok) throw new AshlarError(listed.code, listed.message);
  const servers = (listed.value as readonly ServerView[]).filter(({ serverId }) => cluster.partiesOf(machine).some(({ party }) => party === serverId));
  const holding = servers.find(({ copies }) => copies > 0);
  if (holding && !force) throw new AshlarError('in-use', `${holding.serverId} on ${machine} has copies of ${holding.copies} volumes; drain it first, or say --force: they are then built anew elsewhere`);
  const parties = await cluster.remove(machine);
  for (const { serverId } of servers) await ask({ kind: 'server-lost', serverId });
  return { machine, parties: parties.map(({ party }) => party) };
}

function askOwn<T>(runtime: Runtime, command: ApiCommand): Promise<T | null> {
  return new Promise((resolve) => toActor(runtime, { kind: 'operator' }, command, (answer) => resolve(answer.ok ? (answer.value as T) : null)));
}

function toActor(runtime: Runtime, principal: Principal, command: ApiCommand, answer: (answer: ApiAnswer) => void): void {
  const message: CommandMessage = { kind: 'command', principal, command, answer };
  if (runtime.send(MANAGER_ADDRESS, message) !== 'ok') answer({ ok: false, code: 'busy', message: 'the system manager is overloaded or restarting' });
}

type AboutProcess = Extract<ApiCommand, { readonly kind: 'server-stop' | 'server-start' | 'server-restart' }>;

function isAboutProcess(command: ApiCommand): command is AboutProcess {
  return command.kind === 'server-stop' || command.kind === 'server-start' || command.kind === 'server-restart';
}

async function control(answer: (answer: ApiAnswer) => void, serverId: ServerId, carryOut: () => Promise<void>): Promise<void> {
  try {
    await carryOut();
    answer({ ok: true, value: { serverId } });
  } catch (error) {
    answer({ ok: false, code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
  }
}

/** Answered when its new life is known to the system manager: what is asked next must not be about the former one. */
function restart(runtime: Runtime, processes: ProcessControl, serverId: ServerId, answer: (answer: ApiAnswer) => void): Promise<void> {
  const view = async (): Promise<ServerView | undefined> => (await askOwn<readonly ServerView[]>(runtime, { kind: 'server-list' }))?.find((server) => server.serverId === serverId);
  return control(answer, serverId, async () => {
    const former = await view();
    await processes.hold(serverId);
    await processes.resume(serverId);
    for (const deadlineMs = performance.now() + HEARD_MS; ;) {
      const now = await view();
      if (now !== undefined && now.pid !== former?.pid && (now.state === 'up' || now.state === 'draining')) return;
      if (performance.now() >= deadlineMs) throw new AshlarError('timeout', `${serverId} was started again, and the system manager has not heard from it after ${HEARD_MS / 1000} s; see its log`, { retry: 'later' });
      await delay(HEARD_LOOK_MS);
    }
  });
}

type ServersCommand = Extract<ApiCommand, { readonly kind: 'server-add' | 'server-remove' }>;

/** A server that may go is first ended and left out by its machine, then forgotten here: one whose removal was cut short in between is down, and is removed by asking again. */
async function changeServers(runtime: Runtime, machine: Machine, principal: Principal, command: ServersCommand, answer: (answer: ApiAnswer) => void): Promise<void> {
  const ask = (asked: ApiCommand): Promise<ApiAnswer> => new Promise((resolve) => toActor(runtime, principal, asked, resolve));
  try {
    if (command.kind === 'server-add') return answer({ ok: true, value: { serverId: await machine.addServer({ ...(command.rack === undefined ? {} : { rack: command.rack }), ...(command.disk === undefined ? {} : { disk: command.disk }) }) } });
    const mayGo = await ask({ ...command, check: true });
    if (!mayGo.ok || command.check === true) return answer(mayGo);
    await machine.removeServer(command.serverId);
    answer(await ask(command));
  } catch (error) {
    answer({ ok: false, code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
  }
}
