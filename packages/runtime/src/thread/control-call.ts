import type { MessagePort } from 'node:worker_threads';
import { AshlarError, ERROR_CODES, type ErrorCode, type Retry } from '@ashlar/words';
import { expose, transfer, wrap, type Endpoint, type Remote } from 'comlink';
import { CONTROL_CALL_MS } from '../limits.ts';

/**
 * Typed calls between threads, over comlink; for control only (30–180 µs a call). Comlink by itself loses `code` and `cause` of errors and
 * waits for ever when the other thread died. Here every outcome crosses as plain data, and every call ends.
 */
export type Methods<T> = { readonly [K in keyof T]: T[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never };
export type MethodName<T> = keyof T & string;

type Outcome = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: PlainError };

interface PlainError {
  readonly code: string | null;
  readonly retry: Retry;
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  readonly path: string | undefined;
  readonly peer: string | undefined;
  readonly cause: PlainError | null;
}

/** Causes of causes that cross. */
const CAUSES_MAX = 8;

interface Server {
  call(method: string, args: readonly unknown[]): Promise<Outcome>;
}

/** Answers the calls of a ControlClient with these methods. Only own and inherited methods named in `methods` can be called. */
export function serveControl<T extends object>(port: MessagePort, target: T, methods: readonly MethodName<T>[]): void {
  const server: Server = {
    async call(method, args) {
      try {
        const found = methods.find((name) => name === method);
        const body: unknown = found === undefined ? undefined : target[found];
        if (typeof body !== 'function') throw new AshlarError('invalid-argument', `there is no control call "${method}"`);
        return { ok: true, value: await (body.apply(target, args) as unknown) };
      } catch (error) {
        return { ok: false, error: toPlain(error, CAUSES_MAX) };
      }
    },
  };
  expose(server, endpointOf(port));
}

interface Pending {
  readonly method: string;
  readonly args: readonly unknown[];
  readonly transfers: readonly MessagePort[];
  readonly retried: boolean;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: AshlarError) => void;
  readonly late: NodeJS.Timeout;
}

export interface ControlClientOptions<T> {
  /** Who is called, for errors. */
  readonly name: string;
  /** Calls that may be carried out twice: they wait for the replacement when a thread dies. The others reject: they may or may not have been done. */
  readonly idempotent: readonly MethodName<T>[];
  readonly timeoutMs?: number;
}

/** Calls into a thread that may die and be replaced. Every call resolves, or rejects with an AshlarError. */
export class ControlClient<T extends object> {
  readonly #options: ControlClientOptions<T>;
  readonly #pending = new Set<Pending>();
  #life: { readonly remote: Remote<Server>; readonly port: MessagePort } | null = null;
  #ended: AshlarError | null = null;

  constructor(options: ControlClientOptions<T>) {
    this.#options = options;
  }

  /** The (new) thread listens at this port. What waited is called there. */
  attach(port: MessagePort): void {
    this.detach('it was replaced');
    this.#life = { remote: wrap<Server>(endpointOf(port)), port };
    for (const call of [...this.#pending]) this.#send(call);
  }

  /** The thread is gone. */
  detach(why: string): void {
    this.#life?.port.close();
    this.#life = null;
    for (const call of [...this.#pending]) if (!call.retried) this.#fail(call, new AshlarError('unavailable', `${this.#options.name} ended during ${call.method}: ${why}`, { retry: 'later', peer: this.#options.name }));
  }

  /** No thread will come any more. */
  close(): void {
    this.#ended = new AshlarError('unavailable', `${this.#options.name} was shut down`, { peer: this.#options.name });
    this.detach('it was shut down');
    for (const call of [...this.#pending]) this.#fail(call, this.#ended);
  }

  call<K extends MethodName<T>>(method: K, args: Parameters<Methods<T>[K]>, transfers: readonly MessagePort[] = []): ReturnType<Methods<T>[K]> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      const retried = this.#options.idempotent.includes(method) && transfers.length === 0;
      if (this.#life === null && !retried) return reject(new AshlarError('unavailable', `${this.#options.name} is not there for ${method}`, { retry: 'later', peer: this.#options.name }));
      const timeoutMs = this.#options.timeoutMs ?? CONTROL_CALL_MS;
      const late = setTimeout(() => this.#fail(call, new AshlarError('timeout', `${this.#options.name} did not answer ${method} within ${timeoutMs} ms`, { retry: 'later', peer: this.#options.name })), timeoutMs);
      const call: Pending = { method, args, transfers, retried, resolve, reject, late };
      this.#pending.add(call);
      this.#send(call);
    }) as ReturnType<Methods<T>[K]>;
  }

  #send(call: Pending): void {
    const life = this.#life;
    if (!life) return;
    const args = call.transfers.length > 0 ? transfer([...call.args], [...call.transfers]) : call.args;
    life.remote.call(call.method, args).then(
      (outcome) => { if (this.#life === life) this.#settle(call, outcome); },
      // What cannot be cloned rejects at once; an answer of a dead thread never comes, which `detach` takes care of.
      (error: unknown) => this.#fail(call, new AshlarError('internal', `${call.method} cannot be called`, { cause: error, peer: this.#options.name })),
    );
  }

  #settle(call: Pending, outcome: Outcome): void {
    if (!outcome.ok) return this.#fail(call, fromPlain(outcome.error, this.#options.name));
    if (!this.#pending.delete(call)) return;
    clearTimeout(call.late);
    call.resolve(outcome.value);
  }

  #fail(call: Pending, error: AshlarError): void {
    if (!this.#pending.delete(call)) return;
    clearTimeout(call.late);
    call.reject(error);
  }
}

function toPlain(error: unknown, causesLeft: number): PlainError {
  const known = (typeof error === 'object' && error !== null ? error : {}) as Partial<AshlarError>;
  const isError = error instanceof Error;
  return {
    code: typeof known.code === 'string' ? known.code : null, retry: known.retry ?? 'never', name: isError ? error.name : 'Error', message: isError ? error.message : String(error),
    stack: isError ? error.stack ?? '' : '', path: typeof known.path === 'string' ? known.path : undefined, peer: typeof known.peer === 'string' ? known.peer : undefined,
    cause: isError && error.cause !== undefined && causesLeft > 0 ? toPlain(error.cause, causesLeft - 1) : null,
  };
}

function fromPlain(plain: PlainError, peer: string): AshlarError {
  const known = plain.code !== null && Object.hasOwn(ERROR_CODES, plain.code);
  const made = new AshlarError(known ? (plain.code as ErrorCode) : 'internal', plain.message, { retry: plain.retry, path: plain.path, peer: plain.peer ?? peer, cause: plain.cause ? causeOf(plain.cause) : undefined });
  if (plain.stack !== '') made.stack = plain.stack;
  return made;
}

function causeOf(plain: PlainError): Error {
  const cause = new Error(plain.message, plain.cause ? { cause: causeOf(plain.cause) } : undefined);
  cause.name = plain.name;
  return Object.assign(cause, plain.code === null ? {} : { code: plain.code }, plain.path === undefined ? {} : { path: plain.path });
}

/** Comlink speaks to browser-like endpoints; its own adapter for Node has no types. */
function endpointOf(port: MessagePort): Endpoint {
  const listeners = new Map<object, (data: unknown) => void>();
  return {
    postMessage: (message: unknown, transfers?: readonly unknown[]) => port.postMessage(message, (transfers ?? []) as MessagePort[]),
    addEventListener: (_type, listener) => {
      const onMessage = (data: unknown): void => {
        const event = { data } as MessageEvent;
        if ('handleEvent' in listener) listener.handleEvent(event);
        else listener(event);
      };
      listeners.set(listener, onMessage);
      port.on('message', onMessage);
    },
    removeEventListener: (_type, listener) => {
      const onMessage = listeners.get(listener);
      if (!onMessage) return;
      listeners.delete(listener);
      port.off('message', onMessage);
    },
  };
}
