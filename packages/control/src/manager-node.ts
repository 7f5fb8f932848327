import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import type { SupervisorMessage } from '@ashlar/protocol';
import type { Runtime } from '@ashlar/runtime';
import { AshlarError } from '@ashlar/words';
import { ApiServer } from './api-server.ts';
import { MANAGER_DEFAULTS, type ManagerOptions } from './core/index.ts';
import { MANAGER_ADDRESS, MANAGER_PARTY, ManagerActor, type CommandMessage } from './manager-actor.ts';
import { SqliteStore } from './sqlite-store.ts';

export interface ManagerNodeOptions {
  readonly runtime: Runtime;
  /** Holds `metadata.sqlite`. Its lock is held by the caller. */
  readonly directory: string;
  /** Who has it may do everything. */
  readonly token: string;
  /** 0: any free port. */
  readonly apiPort: number;
  readonly timings?: Partial<ManagerOptions>;
}

const SHUTDOWN_MS = 5000;

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
    const outcome = runtime.start({
      kind: 'actor', id: 'manager', address: MANAGER_ADDRESS, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => new ManagerActor(context, store, { ...MANAGER_DEFAULTS, ...options.timings }, randomInt(2 ** 47)),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the system manager could not be started');
    const api = new ApiServer({
      token: options.token, store, log: runtime.log,
      carryOut: (principal, command, answer) => {
        const message: CommandMessage = { kind: 'command', principal, command, answer };
        if (runtime.send(MANAGER_ADDRESS, message) !== 'ok') answer({ ok: false, code: 'busy', message: 'the system manager is overloaded or restarting' });
      },
    });
    const endpoint = await api.listen(options.apiPort);
    return new ManagerNode(runtime, api, store, endpoint);
  }

  /** The daemon says what became of a process. */
  tell(message: SupervisorMessage): void {
    this.#runtime.send(MANAGER_ADDRESS, message, `${MANAGER_PARTY}/supervisor`);
  }

  async stop(): Promise<void> {
    await this.#api.close();
    await this.#runtime.stop('manager');
    this.#store.close();
  }
}
