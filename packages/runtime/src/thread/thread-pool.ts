import { MessageChannel, Worker } from 'node:worker_threads';
import type { ActorLog, Address, Message, SendOutcome } from '@ashlar/actor';
import { AshlarError, assert } from '@ashlar/words';
import type { PlacedActors, PlacementPolicy, RuntimeView, ThreadPool, ThreadPoolOptions, ThreadView } from '../api.ts';
import { RING_BYTES, THREAD_BACKOFF_MS_MAX, THREAD_BACKOFF_MS_MIN, THREAD_SETTLED_MS, THREAD_STOP_MS } from '../limits.ts';
import { ThreadRuntime } from '../runtime.ts';
import { ControlClient } from './control-call.ts';
import { placeByAffinity } from './placement.ts';
import { createRing } from './ring.ts';
import type { ThreadControl, ThreadStart } from './thread-control.ts';
import type { ThreadChannel } from './thread-link.ts';

interface Thread {
  readonly index: number;
  readonly control: ControlClient<ThreadControl>;
  readonly groups: Map<string, PlacedActors>;
  life: number;
  worker: Worker | null;
  startedMs: number;
  backoffMs: number;
  respawn: NodeJS.Timeout | null;
  /** Why it ends, known before it has. */
  error: unknown;
}

/** Starts the threads; each is ready when what is placed on it has been. */
export function createThreadPool(options: ThreadPoolOptions): ThreadPool {
  return new WorkerThreadPool(options);
}

class WorkerThreadPool implements ThreadPool {
  readonly #options: ThreadPoolOptions;
  readonly #log: ActorLog;
  readonly #hub: ThreadRuntime;
  readonly #policy: PlacementPolicy;
  readonly #threads: Thread[] = [];
  readonly #listeners: ((thread: ThreadView, error: unknown) => void)[] = [];
  #stopping = false;

  constructor(options: ThreadPoolOptions) {
    assert(options.threads >= 1, 'a pool has threads');
    assert(options.runtime instanceof ThreadRuntime, 'the runtime was made by createRuntime');
    this.#options = options;
    this.#hub = options.runtime;
    this.#log = options.runtime.log;
    this.#policy = options.policy ?? placeByAffinity((id) => this.#find(id)?.group.affinity);
    for (let index = 0; index < options.threads; index++) {
      this.#threads.push({
        index, life: 0, worker: null, startedMs: 0, backoffMs: THREAD_BACKOFF_MS_MIN, respawn: null, error: null, groups: new Map(),
        control: new ControlClient<ThreadControl>({ name: `${options.name}/${index}`, idempotent: ['inspect'] }),
      });
    }
    for (const thread of this.#threads) this.#spawn(thread);
  }

  // ---- threads

  #spawn(thread: Thread): void {
    const { port1, port2 } = new MessageChannel();
    const start: ThreadStart = { name: `${this.#options.name}/${thread.index}`, log: this.#options.log, token: this.#options.token, control: port2 };
    const worker = new Worker(new URL('./thread-main.ts', import.meta.url), { name: start.name, workerData: start, transferList: [port2] });
    thread.worker = worker;
    thread.respawn = null;
    thread.error = null;
    thread.startedMs = performance.now();
    worker.on('error', (error) => { thread.error = error; });
    worker.once('exit', (code) => this.#onExit(thread, code));
    thread.control.attach(port1);
    this.#connect(thread, null);
    for (const other of this.#threads) if (other !== thread && other.worker) this.#connect(thread, other);
  }

  /** A ring in each direction to another thread, or to this one (null). The calls wait in the port until the thread listens. */
  #connect(thread: Thread, other: Thread | null): void {
    const { port1, port2 } = new MessageChannel();
    const [there, back] = [createRing(RING_BYTES), createRing(RING_BYTES)];
    const spinUs = this.#options.spinUs ?? 0;
    this.#join(thread, { port: port1, outgoing: there, incoming: back, spinUs });
    const channel: ThreadChannel = { port: port2, outgoing: back, incoming: there, spinUs };
    if (other) this.#join(other, channel);
    // This thread is the one with the sockets of the process: it never spins.
    else this.#hub.threads.join({ ...channel, spinUs: 0 });
  }

  #join(thread: Thread, channel: ThreadChannel): void {
    thread.control.call('join', [channel], [channel.port]).catch((error: unknown) => {
      if (!this.#stopping) this.#log.warn({ thread: thread.index, error }, 'a thread was not connected; its end will follow');
    });
  }

  #onExit(thread: Thread, code: number): void {
    thread.worker = null;
    const error = thread.error ?? new AshlarError('internal', `the thread ended with code ${code}`);
    thread.control.detach(error instanceof Error ? error.message : 'it threw what is no error');
    if (this.#stopping) return;
    this.#log.error({ thread: thread.index, life: thread.life, code, error }, 'a thread ended; it is replaced');
    const view = viewOf(thread);
    thread.life++;
    const settled = performance.now() - thread.startedMs >= THREAD_SETTLED_MS;
    if (settled) thread.backoffMs = THREAD_BACKOFF_MS_MIN;
    thread.respawn = setTimeout(() => this.#replace(thread), thread.backoffMs);
    thread.backoffMs = Math.min(thread.backoffMs * 2, THREAD_BACKOFF_MS_MAX);
    for (const listener of this.#listeners) listener(view, error);
  }

  #replace(thread: Thread): void {
    this.#spawn(thread);
    for (const group of thread.groups.values()) this.#placeAgain(thread, group, thread.life, THREAD_BACKOFF_MS_MIN);
  }

  /** Until it succeeds, or this life of the thread is over as well. */
  #placeAgain(thread: Thread, group: PlacedActors, life: number, waitMs: number): void {
    thread.control.call('place', [group]).catch((error: unknown) => {
      if (this.#stopping || thread.life !== life || thread.groups.get(group.id) !== group) return;
      this.#log.error({ thread: thread.index, group: group.id, error }, 'a group could not be placed again; it is tried later');
      setTimeout(() => {
        if (!this.#stopping && thread.life === life && thread.groups.get(group.id) === group) this.#placeAgain(thread, group, life, Math.min(waitMs * 2, THREAD_BACKOFF_MS_MAX));
      }, waitMs);
    });
  }

  // ---- groups

  async place(group: PlacedActors): Promise<void> {
    if (this.#stopping) throw new AshlarError('unavailable', 'the thread pool was shut down');
    if (this.#find(group.id)) throw new AshlarError('already-exists', `the group ${group.id} is placed already`);
    const index = this.#policy(group, this.threads());
    const thread = this.#threads[index];
    assert(thread !== undefined, 'a placement policy names a thread');
    thread.groups.set(group.id, group);
    try {
      await thread.control.call('place', [group]);
      await this.#untilReachable(thread, group);
    } catch (error) {
      thread.groups.delete(group.id);
      throw error;
    }
  }

  /** The answer to the call and the announcement of the parties come by different ways. */
  async #untilReachable(thread: Thread, group: PlacedActors): Promise<void> {
    const { life } = thread;
    while (group.parties.some((party) => this.#hub.threads.of(party) === undefined)) {
      if (this.#stopping || thread.life !== life) throw new AshlarError('unavailable', `the thread of ${group.id} ended while it was placed`, { retry: 'later' });
      await new Promise<void>((resolve) => { setImmediate(resolve); });
    }
  }

  async remove(id: string): Promise<void> {
    const found = this.#find(id);
    if (!found) return;
    found.thread.groups.delete(id);
    await found.thread.control.call('remove', [id]);
  }

  #find(id: string): { readonly thread: Thread; readonly group: PlacedActors } | null {
    for (const thread of this.#threads) {
      const group = thread.groups.get(id);
      if (group) return { thread, group };
    }
    return null;
  }

  threads(): readonly ThreadView[] { return this.#threads.map(viewOf); }
  inspect(): Promise<readonly RuntimeView[]> { return Promise.all(this.#threads.map((thread) => thread.control.call('inspect', []))); }
  send(to: Address, message: Message, from?: Address): SendOutcome { return this.#hub.send(to, message, from); }
  onThreadEnded(listener: (thread: ThreadView, error: unknown) => void): void { this.#listeners.push(listener); }

  async shutdown(): Promise<void> {
    this.#stopping = true;
    for (const thread of [...this.#threads].reverse()) await this.#end(thread);
  }

  async #end(thread: Thread): Promise<void> {
    if (thread.respawn) clearTimeout(thread.respawn);
    const { worker } = thread;
    if (!worker) return thread.control.close();
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    const late = setTimeout(() => {
      this.#log.error({ thread: thread.index }, 'a thread did not end in time and is ended');
      void worker.terminate();
    }, THREAD_STOP_MS);
    thread.control.call('shutdown', []).catch((error: unknown) => {
      this.#log.warn({ thread: thread.index, error }, 'a thread did not shut down in order and is ended');
      void worker.terminate();
    });
    await ended;
    clearTimeout(late);
    thread.control.close();
  }
}

function viewOf(thread: Thread): ThreadView {
  return { index: thread.index, life: thread.life, groups: [...thread.groups.keys()] };
}
