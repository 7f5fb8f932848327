import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { SupervisorMessage } from '@ashlar/protocol';
import { thisBuild, type Runtime } from '@ashlar/runtime';
import { AshlarError, errorCode, type ServerId } from '@ashlar/words';
import { ApiServer } from './api-server.ts';
import { authorize, MANAGER_DEFAULTS, type ApiAnswer, type ApiCommand, type ManagerOptions, type Principal, type ServerView } from './core/index.ts';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerActor, type CommandMessage } from './manager-actor.ts';
import { METADATA_FORMAT, SqliteStore } from './sqlite-store.ts';

/** What can be asked of the supervisor of this machine's processes. */
interface ProcessControl {
  has(name: string): boolean;
  /** Ends it, in order or by force, and leaves it down. */
  hold(name: string, kill?: boolean): Promise<void>;
  resume(name: string): Promise<void>;
}

export interface ManagerNodeOptions {
  readonly runtime: Runtime;
  /** Holds `metadata.sqlite`. Its lock is held by the caller. */
  readonly directory: string;
  /** Who has it may do everything. */
  readonly token: string;
  /** 0: any free port. */
  readonly apiPort: number;
  readonly timings?: Partial<ManagerOptions>;
  readonly processes?: ProcessControl;
}

const SHUTDOWN_MS = 5000;
/** A server that is ready says hello at once; longer than a busy machine takes. */
const HEARD_MS = 30_000;
const HEARD_LOOK_MS = 20;

/** The system manager of a site: its store, its actor and its API. */
export class ManagerNode {
  readonly endpoint: string;
  readonly #runtime: Runtime;
  readonly #api: ApiServer;
  readonly #store: SqliteStore;

  private constructor(runtime: Runtime, api: ApiServer, store: SqliteStore, endpoint: string) {
    this.#runtime = runtime;
    this.#api = api;
    this.#store = store;
    this.endpoint = endpoint;
  }

  static async start(options: ManagerNodeOptions): Promise<ManagerNode> {
    const { runtime } = options;
    const store = SqliteStore.open({ path: join(options.directory, 'metadata.sqlite'), log: runtime.log });
    runtime.addParty(MANAGER_PARTY);
    const self = { name: MANAGER_PARTY, pid: process.pid, build: thisBuild({ metadata: METADATA_FORMAT }) };
    const outcome = runtime.start({
      kind: 'actor', id: 'manager', address: MANAGER_ADDRESS, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => new ManagerActor(context, store, { ...MANAGER_DEFAULTS, ...options.timings, self }, randomInt(2 ** 47)),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the system manager could not be started');
    const api = new ApiServer({
      token: options.token, store, log: runtime.log,
      carryOut: (principal, command, answer) => {
        const { processes } = options;
        if (!isAboutProcess(command) || !authorize(principal, command.kind, undefined)) return toActor(runtime, principal, command, answer);
        // Refused there, with the reason.
        if (processes?.has(command.serverId) !== true) return toActor(runtime, principal, { kind: 'server-start', serverId: command.serverId }, answer);
        if (command.kind !== 'server-restart') return void control(answer, command.serverId, () => (command.kind === 'server-stop' ? processes.hold(command.serverId, command.kill) : processes.resume(command.serverId)));
        // First whether that may be done now.
        toActor(runtime, principal, command, (may) => (may.ok ? void restart(runtime, processes, command.serverId, answer) : answer(may)));
      },
    });
    const endpoint = await api.listen(options.apiPort);
    return new ManagerNode(runtime, api, store, endpoint);
  }

  /** The daemon says what became of a process. */
  tell(message: SupervisorMessage): void {
    this.#runtime.send(MANAGER_ADDRESS, message, `${MANAGER_PARTY}/supervisor`);
  }

  /** A command of the daemon's own. Null: refused. */
  ask<T>(command: ApiCommand): Promise<T | null> { return ask<T>(this.#runtime, command); }

  async stop(): Promise<void> {
    await this.#api.close();
    await this.#runtime.stop('manager');
    this.#store.close();
  }
}

function ask<T>(runtime: Runtime, command: ApiCommand): Promise<T | null> {
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
  const view = async (): Promise<ServerView | undefined> => (await ask<readonly ServerView[]>(runtime, { kind: 'server-list' }))?.find((server) => server.serverId === serverId);
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
