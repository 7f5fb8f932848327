import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads';
import { assert, Defect } from '@ashlar/words';

/** Bytes of shared memory to be read or written. `table`: three numbers a piece: where it lies in memory, its length, its position in the file. */
export interface BackgroundJob {
  readonly id: number;
  readonly kind: 'read' | 'write';
  readonly fd: number;
  readonly memory: Uint8Array;
  readonly table: Float64Array;
}

export interface BackgroundFailure {
  readonly code: string;
  readonly message: string;
}

export interface BackgroundResult {
  readonly id: number;
  readonly error: BackgroundFailure | null;
}

export interface BackgroundStart {
  readonly port: MessagePort;
  /** Counts the jobs that have ended. */
  readonly ended: Int32Array;
}

export type BackgroundDone = (error: BackgroundFailure | null) => void;

/** A disk that takes longer than this for one job would have held up a blocking call as long; after it the thread is taken for dead. */
const SETTLE_MS = 120_000;

interface Waiting {
  readonly owner: object;
  readonly done: BackgroundDone;
}

/**
 * A second thread for what destaging does in bulk, so that thousands of small writes to the extents do not hold up requests. One for all copies of a
 * thread, begun with the first job. Jobs are carried out one after another.
 */
export class Background {
  static #ofThread: Background | null = null;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #ended = new Int32Array(new SharedArrayBuffer(4));
  readonly #waiting = new Map<number, Waiting>();
  /** Results that came while somebody else's were waited for, and those of jobs that could not begin; some may have been delivered meanwhile. */
  readonly #late: BackgroundResult[] = [];
  #nextId = 1;
  #dead: BackgroundFailure | null = null;

  static get ofThread(): Background {
    return (Background.#ofThread ??= new Background());
  }

  private constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: BackgroundStart = { port: port2, ended: this.#ended };
    this.#worker = new Worker(new URL('./background-main.ts', import.meta.url), { name: 'destaging', workerData: start, transferList: [port2] });
    // It ends with the thread that it works for, and keeps nobody alive.
    this.#worker.unref();
    this.#worker.on('error', (error) => this.#died(String(error)));
    this.#worker.on('exit', () => this.#died('the thread has ended'));
    port1.on('message', (result: BackgroundResult) => this.#deliver(result));
    port1.unref();
  }

  /** `done` is called later, in this thread. */
  begin(owner: object, job: Omit<BackgroundJob, 'id'>, done: BackgroundDone): void {
    if (this.#dead !== null) {
      const failure = this.#dead;
      setImmediate(() => done(failure));
      return;
    }
    assert(job.memory.buffer instanceof SharedArrayBuffer, 'what another thread reads or writes is shared memory');
    const id = this.#wait(owner, done);
    this.#port.postMessage({ id, ...job } satisfies BackgroundJob, [job.table.buffer as ArrayBuffer]);
  }

  /** For a job that could not even begin: `done` is called later all the same, and `settle` knows of it. */
  fail(owner: object, error: BackgroundFailure, done: BackgroundDone): void {
    this.#deliverLater({ id: this.#wait(owner, done), error });
  }

  #wait(owner: object, done: BackgroundDone): number {
    const id = this.#nextId++;
    if (this.#waiting.size === 0) this.#port.ref();
    this.#waiting.set(id, { owner, done });
    return id;
  }

  /** Blocks until all jobs of this owner are over, and calls what waits for them. Others hear of theirs a turn later. */
  settle(owner: object): void {
    const deadlineMs = performance.now() + SETTLE_MS;
    while ([...this.#waiting.values()].some((waiting) => waiting.owner === owner)) {
      const ended = Atomics.load(this.#ended, 0);
      for (let next = receiveMessageOnPort(this.#port); next !== undefined; next = receiveMessageOnPort(this.#port)) this.#deliverLater(next.message as BackgroundResult);
      // Whoever was settled before in this turn may have taken ours from the port.
      const ours = this.#late.filter(({ id }) => this.#waiting.get(id)?.owner === owner);
      for (const result of ours) this.#deliver(result);
      if (ours.length > 0) continue;
      if (performance.now() > deadlineMs) throw new Defect('the destaging thread has ended, or its disk does not answer');
      Atomics.wait(this.#ended, 0, ended, 1000);
    }
  }

  /** One at a time: if what waits for it settles, `settle` must find the others. */
  #deliverLater(result: BackgroundResult): void {
    this.#late.push(result);
    setImmediate(() => this.#deliver(this.#late.shift() as BackgroundResult));
  }

  #deliver(result: BackgroundResult): void {
    const waiting = this.#waiting.get(result.id);
    // Its owner was settled while this was on its way.
    if (waiting === undefined) return;
    this.#waiting.delete(result.id);
    if (this.#waiting.size === 0) this.#port.unref();
    waiting.done(result.error);
  }

  #died(message: string): void {
    this.#dead ??= { code: 'EIO', message };
    const failure = this.#dead;
    for (const id of [...this.#waiting.keys()]) this.#deliver({ id, error: failure });
    assert(this.#waiting.size === 0, 'nobody waits for a dead thread');
    if (Background.#ofThread === this) Background.#ofThread = null;
  }
}
