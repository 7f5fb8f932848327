import { Worker } from 'node:worker_threads';
import type { ActorLog } from '@ashlar/actor';
import { AshlarError } from '@ashlar/words';
import type { ChildArgument, ToChild, ToParent } from './child-messages.ts';
import type { Workers } from './workers.ts';

export interface ChildThreadsOptions {
  readonly module: URL;
  readonly log: ActorLog;
}

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 5000;
const SETTLED_MS = 10_000;
const STOP_MS = 25_000;

/** Threads of this process, each replaced when it dies: its parties then start anew from their directories, as after the end of a process. */
export class ChildThreads implements Workers {
  readonly #options: ChildThreadsOptions;
  readonly #threads = new Map<string, Worker>();
  #stopping = false;

  constructor(options: ChildThreadsOptions) {
    this.#options = options;
  }

  start(argument: ChildArgument): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#spawn(argument, BACKOFF_FIRST_MS, resolve, reject);
    return promise;
  }

  has(): boolean { return false; }
  hold(): Promise<void> { return Promise.resolve(); }
  resume(): Promise<void> { return Promise.resolve(); }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const thread of [...this.#threads.values()].reverse()) await this.#end(thread);
  }

  #spawn(argument: ChildArgument, backoffMs: number, ready: () => void, refused: (error: AshlarError) => void): void {
    const { log, module } = this.#options;
    const startedMs = performance.now();
    const thread = new Worker(module, { workerData: argument, name: argument.name });
    this.#threads.set(argument.name, thread);
    thread.on('message', (message: ToParent) => {
      if (message.kind === 'ready') ready();
      if (message.kind === 'refused') refused(new AshlarError(message.code, message.message));
    });
    thread.on('error', (error) => log.error({ name: argument.name, error }, 'a defect outside of every actor; the thread ends'));
    thread.once('exit', (code) => {
      this.#threads.delete(argument.name);
      if (this.#stopping) return;
      log.warn({ name: argument.name, code }, 'a thread ended; it is replaced');
      const next = performance.now() - startedMs >= SETTLED_MS ? BACKOFF_FIRST_MS : Math.min(backoffMs * 2, BACKOFF_MAX_MS);
      setTimeout(() => { if (!this.#stopping) this.#spawn(argument, next, ready, refused); }, next);
    });
  }

  async #end(thread: Worker): Promise<void> {
    const ended = new Promise<void>((resolve) => thread.once('exit', () => resolve()));
    thread.postMessage({ kind: 'stop' } satisfies ToChild);
    const late = setTimeout(() => void thread.terminate(), STOP_MS);
    await ended;
    clearTimeout(late);
  }
}
