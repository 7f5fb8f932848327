import { workerData, type MessagePort } from 'node:worker_threads';
import { AshlarError } from '@ashlar/words';
import type { PlacedActors, Runtime, RuntimeView } from '../api.ts';
import { createLog } from '../log.ts';
import { ThreadRuntime } from '../runtime.ts';
import { serveControl } from './control-call.ts';
import { GroupRuntime } from './group-runtime.ts';
import { CONTROL_METHODS, type ThreadControl, type ThreadStart } from './thread-control.ts';
import type { ThreadChannel } from './thread-link.ts';

/** A thread of the pool: a runtime, and the calls by which the pool tells it what to run. */
class PooledThread implements ThreadControl {
  readonly #runtime: ThreadRuntime;
  readonly #groups = new Map<string, GroupRuntime>();
  readonly #control: MessagePort;

  constructor({ name, log, token, control }: ThreadStart) {
    this.#runtime = new ThreadRuntime({ name, log: createLog({ ...log, name }), token });
    this.#control = control;
  }

  async place(group: PlacedActors): Promise<void> {
    if (this.#groups.has(group.id)) return;
    const runtime = new GroupRuntime(this.#runtime, group.parties);
    this.#groups.set(group.id, runtime);
    try {
      const place = placeOf(await import(group.module), group.module);
      await place(runtime, group.argument);
    } catch (error) {
      this.#groups.delete(group.id);
      await runtime.shutdown();
      throw error;
    }
  }

  async remove(id: string): Promise<void> {
    const runtime = this.#groups.get(id);
    this.#groups.delete(id);
    await runtime?.shutdown();
  }

  inspect(): RuntimeView { return this.#runtime.inspect(); }
  join(channel: ThreadChannel): void { this.#runtime.threads.join(channel); }

  async shutdown(): Promise<void> {
    for (const id of [...this.#groups.keys()].reverse()) await this.remove(id);
    await this.#runtime.shutdown();
    // With its last port closed the thread has nothing left to wait for; the answer goes out before.
    setImmediate(() => this.#control.close());
  }
}

function placeOf(module: unknown, url: string): (runtime: Runtime, argument: unknown) => void | Promise<void> {
  const place: unknown = (module as { place?: unknown }).place;
  if (typeof place !== 'function') throw new AshlarError('invalid-argument', `${url} exports no function "place"`);
  return place as (runtime: Runtime, argument: unknown) => void | Promise<void>;
}

const start = workerData as ThreadStart;
serveControl<ThreadControl>(start.control, new PooledThread(start), CONTROL_METHODS);
