import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import type { ApiAnswer, ApiCommand, DiskKind, SupervisorMessage } from '@ashlar/protocol';
import { BUILD, type Runtime } from '@ashlar/runtime';
import { AshlarError, errorCode } from '@ashlar/words';
import { ApiServer } from './api-server.ts';
import { FiguresCollector } from './figures-collector.ts';
import { authorize, MANAGER_DEFAULTS, type ManagerOptions, type Principal } from './core/index.ts';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerActor, type CommandMessage } from './manager-actor.ts';
import { MetricsServer } from './metrics.ts';
import { SqliteStore } from './sqlite-store.ts';

/** What can be asked of the supervisor of this machine's processes. */
interface ProcessControl {
  has(name: string): boolean;
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
}

const SHUTDOWN_MS = 5000;

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
    const outcome = runtime.start({
      kind: 'actor', id: 'manager', address: MANAGER_ADDRESS, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => new ManagerActor(context, store, { ...MANAGER_DEFAULTS, ...options.timings }, randomInt(2 ** 47)),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the system manager could not be started');
    const figures: FiguresCollector = new FiguresCollector({
      runtime, store, version: BUILD, refused: () => api.refused,
      ask: (command) => askOwn(runtime, command),
    });
    const api: ApiServer = new ApiServer({
      token: options.token, store, log: runtime.log, figures: () => figures.text(),
      carryOut: (principal, command, answer) => {
        const { processes, machine } = options;
        if (machine !== undefined && (command.kind === 'server-add' || (command.kind === 'server-remove' && machine.has(command.serverId))) && authorize(principal, command.kind, undefined)) {
          return void changeServers(runtime, machine, principal, command, answer);
        }
        const aboutProcess = (command.kind === 'server-stop' || command.kind === 'server-start') && processes?.has(command.serverId) === true;
        if (aboutProcess && authorize(principal, command.kind, undefined)) void control(processes, command, answer);
        else toActor(runtime, principal, command, answer);
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
    this.#runtime.send(MANAGER_ADDRESS, message, `${MANAGER_PARTY}/supervisor`);
  }

  /** A command of the daemon's own. Null: refused. */
  ask<T>(command: ApiCommand): Promise<T | null> {
    return askOwn(this.#runtime, command);
  }

  async stop(): Promise<void> {
    await this.#metrics?.close();
    await this.#api.close();
    await this.#figures.close();
    await this.#runtime.stop('manager');
    this.#store.close();
  }
}

function askOwn<T>(runtime: Runtime, command: ApiCommand): Promise<T | null> {
  return new Promise((resolve) => toActor(runtime, { kind: 'operator' }, command, (answer) => resolve(answer.ok ? (answer.value as T) : null)));
}

function toActor(runtime: Runtime, principal: Principal, command: ApiCommand, answer: (answer: ApiAnswer) => void): void {
  const message: CommandMessage = { kind: 'command', principal, command, answer };
  if (runtime.send(MANAGER_ADDRESS, message) !== 'ok') answer({ ok: false, code: 'busy', message: 'the system manager is overloaded or restarting' });
}

async function control(processes: ProcessControl, command: Extract<ApiCommand, { readonly kind: 'server-stop' | 'server-start' }>, answer: (answer: ApiAnswer) => void): Promise<void> {
  const { serverId } = command;
  try {
    await (command.kind === 'server-stop' ? processes.hold(serverId, command.kill) : processes.resume(serverId));
    answer({ ok: true, value: { serverId } });
  } catch (error) {
    answer({ ok: false, code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
  }
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
