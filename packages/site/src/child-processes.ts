import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setPriority } from 'node:os';
import type { ActorLog } from '@ashlar/actor';
import { AshlarError } from '@ashlar/words';
import { COMPILE_ONLY, type ChildArgument, type ClusterArgument, type ToChild, type ToParent } from './child-messages.ts';
import type { Workers } from './workers.ts';

export interface ChildProcessesOptions {
  /** The module that a child of this name runs; asked at each start. */
  readonly module: (name: string) => string;
  /** What runs it, if not the program that runs this. */
  readonly execPath?: string;
  readonly log: ActorLog;
  /** Where compiled code is kept for the next start, which then takes half a second less; nobody else may write there. */
  readonly codeCache?: string;
  /** A frozen child (alive, but answering nothing) is killed after so long; 0: never. */
  readonly frozenKillAfterMs: number;
  /** A child runs; `ready` was answered. */
  readonly onStarted: (name: string, pid: number) => void;
  /** The kernel has reaped it: nothing of it can act any more. */
  readonly onEnded: (name: string, pid: number, signal: string | null, code: number | null) => void;
  /** A child refused to start for a reason that a restart does not change. */
  readonly onRefused: (name: string, error: AshlarError) => void;
}

const PING_MS = 1000;
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 5000;
/** A child that ran for so long is restarted without delay. */
const SETTLED_MS = 10_000;
const STOP_MS = 25_000;
/** Opening many copies keeps a starting child from answering. */
const START_MS = 60_000;
/** A child that ends so often before it is ready will not become it. */
const FAILURES_MAX = 5;
/** The lowest there is: compiling takes 0.7 s of a processor, and what children serve goes first. */
const COMPILE_NICE = 19;
const COMPILE_MS_MAX = 10_000;

interface Child {
  /** Its name is that under which its end is reported: `server-1`, `host-1`. */
  spec: ChildArgument;
  process: ChildProcess | null;
  startedMs: number;
  backoffMs: number;
  /** Pings of ours, one a second, that it has not answered. Counted in turns of our own loop, so that a machine that slept kills nobody. */
  missed: number;
  ready: PromiseWithResolvers<void>;
  /** This process of it has said that it is ready. */
  isReady: boolean;
  /** Ends before it was ever ready. */
  failures: number;
  restart: NodeJS.Timeout | null;
  /** Stopped on the operator's word: not started again until told so. */
  held: boolean;
}

/**
 * The processes of one machine, each restarted when it ends. They end with this one: the channel between them is closed by the kernel
 * when this process is gone, however that happened, and a child without its channel exits.
 */
export class ChildProcesses implements Workers {
  readonly #options: ChildProcessesOptions;
  readonly #children = new Map<string, Child>();
  readonly #ping: NodeJS.Timeout;
  #preparing: Promise<void> | null = null;
  #compiling: ChildProcess | null = null;
  #stopping = false;

  constructor(options: ChildProcessesOptions) {
    this.#options = options;
    this.#ping = setInterval(() => this.#pingAll(), PING_MS);
  }

  /** Resolves when the child says that it is ready; it is restarted from then on until `stop`. */
  start(spec: ChildArgument): Promise<void> {
    const child: Child = { spec, process: null, startedMs: 0, backoffMs: BACKOFF_FIRST_MS, missed: 0, ready: Promise.withResolvers<void>(), isReady: false, failures: 0, restart: null, held: false };
    this.#children.set(spec.name, child);
    this.#spawn(child);
    return child.ready.promise;
  }

  /** A newer roster or certificate: for those that run, and for those that are started from now on. */
  tellCluster(cluster: ClusterArgument): void {
    for (const child of this.#children.values()) {
      child.spec = { ...child.spec, cluster };
      this.#send(child, { kind: 'cluster', cluster });
    }
  }

  pid(name: string): number | null {
    return this.#children.get(name)?.process?.pid ?? null;
  }

  has(name: string): boolean { return this.#children.has(name); }

  /**
   * Has what children run compiled and kept for the next start, which then takes a third of the processor time; a process that is killed keeps nothing. In vain if
   * nobody leaves it the time.
   */
  prepare(): Promise<void> {
    this.#preparing ??= this.#compile().finally(() => { this.#preparing = null; });
    return this.#preparing;
  }

  async #compile(): Promise<void> {
    const { codeCache, module, execPath, log } = this.#options;
    if (codeCache === undefined || this.#stopping) return;
    try {
      const compiling = fork(module(COMPILE_ONLY), [COMPILE_ONLY], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'], env: this.#environment(), timeout: COMPILE_MS_MAX, killSignal: 'SIGKILL', ...(execPath === undefined ? {} : { execPath }) });
      this.#compiling = compiling;
      const ended = once(compiling, 'exit');
      this.#lower(compiling.pid);
      // It is told nothing, and whatever it runs does not wait for it.
      if (compiling.connected) compiling.disconnect();
      const [code, signal] = (await ended) as [number | null, string | null];
      if (code !== 0 && !this.#stopping) log.warn({ code, signal }, 'what processes run could not be compiled beforehand; they take longer to start');
    } catch (error) {
      log.warn({ error }, 'what processes run could not be compiled beforehand; they take longer to start');
    } finally {
      this.#compiling = null;
    }
  }

  #lower(pid: number | undefined): void {
    try {
      if (pid !== undefined) setPriority(pid, COMPILE_NICE);
    } catch (error) {
      this.#options.log.warn({ error }, 'the priority of a process could not be lowered; it takes its share beside those that serve');
    }
  }

  /** Ends this one, in order or by SIGKILL, and leaves it down until `resume`. */
  async hold(name: string, kill = false): Promise<void> {
    const child = this.#children.get(name);
    if (!child) return;
    child.held = true;
    if (child.restart) clearTimeout(child.restart);
    child.restart = null;
    await this.#end(child, kill);
  }

  async remove(name: string): Promise<void> {
    await this.hold(name);
    this.#children.delete(name);
  }

  /** Starts one that was held; resolves when it is ready. */
  resume(name: string): Promise<void> {
    const child = this.#children.get(name);
    if (!child?.held) return Promise.resolve();
    if (this.#stopping) return Promise.reject(new AshlarError('unavailable', `${name} is not started: its machine is being stopped`));
    child.held = false;
    child.ready = Promise.withResolvers<void>();
    if (!child.process) this.#spawn(child);
    return child.ready.promise;
  }

  /** Ends every child in order, hosts first: what they still write is then answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#ping);
    this.#compiling?.kill('SIGKILL');
    for (const child of [...this.#children.values()].reverse()) {
      if (child.restart) clearTimeout(child.restart);
      await this.#end(child);
    }
  }

  #spawn(child: Child): void {
    child.restart = null;
    child.missed = 0;
    child.isReady = false;
    child.startedMs = performance.now();
    const process = this.#fork(child);
    child.process = process;
    if (process === null) return this.#restartLater(child, 'it could not be started');
    const { pid } = process;
    process.on('error', (error) => {
      this.#options.log.error({ name: child.spec.name, error }, 'a process could not be started or reached');
      // One that the kernel refused to start (no room for another) never exits: this is the only word of it.
      if (pid !== undefined || child.process !== process) return;
      child.process = null;
      this.#restartLater(child, error.message);
    });
    process.on('message', (message) => {
      // What a process said just before its end may be read after its successor was started.
      if (child.process === null || child.process === process) this.#onMessage(child, process, message as ToParent);
    });
    process.once('exit', (code, signal) => this.#onExit(child, pid ?? 0, code, signal));
    this.#send(child, { kind: 'start', argument: child.spec });
  }

  /** Null if there is no memory for it: Node throws then, and for nothing else that passes by itself. */
  #fork(child: Child): ChildProcess | null {
    const { module, execPath, log } = this.#options;
    try {
      return fork(module(child.spec.name), [child.spec.name], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'advanced', env: this.#environment(), ...(execPath === undefined ? {} : { execPath }) });
    } catch (error) {
      log.error({ name: child.spec.name, error }, 'a process could not be started');
      return null;
    }
  }

  #environment(): NodeJS.ProcessEnv {
    const { codeCache } = this.#options;
    return codeCache === undefined ? globalThis.process.env : { ...globalThis.process.env, NODE_COMPILE_CACHE: codeCache };
  }

  #send(child: Child, message: ToChild): void {
    // The exit of a child that can no longer be written to is reported by its own event.
    if (child.process?.connected) child.process.send(message, () => {});
  }

  #onMessage(child: Child, process: ChildProcess, message: ToParent): void {
    child.missed = 0;
    switch (message.kind) {
      case 'pong': return;
      case 'ready':
        // Already ended: its end has been told, and it is not to be called started after that.
        if (child.process !== process) return;
        this.#options.onStarted(child.spec.name, process.pid ?? 0);
        child.failures = 0;
        child.isReady = true;
        return child.ready.resolve();
      case 'refused': {
        const error = new AshlarError(message.code, message.message);
        this.#options.onRefused(child.spec.name, error);
        return child.ready.reject(error);
      }
    }
  }

  #onExit(child: Child, pid: number, code: number | null, signal: string | null): void {
    child.process = null;
    this.#options.log.warn({ name: child.spec.name, pid, code, signal }, 'a process ended');
    this.#options.onEnded(child.spec.name, pid, signal, code);
    this.#restartLater(child, signal ?? `exit code ${code ?? 'unknown'}`);
  }

  #restartLater(child: Child, why: string): void {
    if (this.#stopping || child.held) return;
    // Whoever waits for the first start is told; nothing happens to a child that was ready once.
    if (++child.failures >= FAILURES_MAX) child.ready.reject(new AshlarError('unavailable', `${child.spec.name} ended ${child.failures} times before it was ready (${why}); see its log`));
    const settled = performance.now() - child.startedMs >= SETTLED_MS;
    child.backoffMs = settled ? BACKOFF_FIRST_MS : Math.min(child.backoffMs * 2, BACKOFF_MAX_MS);
    child.restart = setTimeout(() => this.#spawn(child), child.backoffMs);
  }

  #pingAll(): void {
    const { frozenKillAfterMs, log } = this.#options;
    for (const child of this.#children.values()) {
      if (!child.process) continue;
      const patienceMs = child.isReady ? frozenKillAfterMs : Math.max(frozenKillAfterMs, START_MS);
      if (frozenKillAfterMs > 0 && child.missed * PING_MS >= patienceMs) {
        log.warn({ name: child.spec.name, pid: child.process.pid, missed: child.missed }, 'a process has not answered for too long; it is killed and replaced');
        child.process.kill('SIGKILL');
        child.missed = 0;
        continue;
      }
      child.missed++;
      this.#send(child, { kind: 'ping' });
    }
  }

  async #end(child: Child, kill = false): Promise<void> {
    const { process } = child;
    if (!process) return;
    const ended = new Promise<void>((resolve) => process.once('exit', () => resolve()));
    const late = setTimeout(() => process.kill('SIGKILL'), STOP_MS);
    // A frozen child cannot be asked.
    if (kill || child.missed > 2) process.kill('SIGKILL');
    else this.#send(child, { kind: 'stop' });
    await ended;
    clearTimeout(late);
  }
}
