import type { ApiCall, ApiError, ApiRequest, ApiResponse, ApiResult, EventRecord } from '@ashlar/protocol';
import { AshlarError, ERROR_CODES } from '@ashlar/words';
import { WebSocket } from 'ws';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onEvent: ((event: EventRecord) => void) | null;
}

export interface CallOptions {
  /** Gives the answer up: the promise is rejected with the signal's reason, whatever the system manager still does. */
  readonly signal?: AbortSignal;
}

export interface EventQuery {
  /** Only events after this one, by its `sequence`. */
  readonly after?: number;
  /** Only those of this volume, server or host. */
  readonly subject?: string;
  /** The newest so many. */
  readonly max?: number;
  /** Goes on with what happens from now on. */
  readonly follow: boolean;
}

/**
 * A connection to the API of a site or cluster. Answers come to calls in any order; a connection that is lost rejects everything that waits
 * for an answer, and is not made again: connect anew.
 */
export class ApiClient {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    // A Buffer, since `binaryType` is left as it is.
    socket.on('message', (data) => this.#onMessage(JSON.parse((data as Buffer).toString()) as ApiResponse));
    socket.on('close', () => this.#onClose());
    socket.on('error', () => {});
  }

  /** `endpoint`: `ws://host:port`; of a cluster `wss://host:port`, with its authority in PEM as `ca`. Rejects with `unauthorized`, `untrusted` (another authority), `unavailable` or `invalid-argument`. */
  static connect(endpoint: string, token: string, ca?: string): Promise<ApiClient> {
    return new Promise((resolve, reject) => {
      let socket: WebSocket;
      try {
        socket = new WebSocket(endpoint, { headers: { authorization: `Bearer ${token}` }, handshakeTimeout: 10_000, perMessageDeflate: false, ...(ca === undefined ? {} : { ca }) });
      } catch (cause) {
        return reject(new AshlarError('invalid-argument', `"${endpoint}" is not an endpoint (ws://host:port, or wss://host:port of a cluster)`, { cause }));
      }
      socket.once('open', () => resolve(new ApiClient(socket)));
      socket.once('unexpected-response', (_request, response) => {
        socket.terminate();
        reject(response.statusCode === 401 ? new AshlarError('unauthorized', 'the site does not know this token') : new AshlarError('unavailable', `${endpoint} answered ${response.statusCode ?? 'nothing'}`));
      });
      socket.once('error', (cause) => reject(connectError(endpoint, cause)));
    });
  }

  /** Carries out one command. Rejects with the code that the system manager gave, or `unavailable` when the connection is lost: the outcome is then not known. */
  call<C extends ApiCall>(command: C, { signal }: CallOptions = {}): Promise<ApiResult<C>> {
    return this.#request((id) => ({ id, command }), null, signal) as Promise<ApiResult<C>>;
  }

  /** Resolves when all were delivered; never, with `follow`: it ends by the signal, or with the connection. */
  async events(query: EventQuery, onEvent: (event: EventRecord) => void, { signal }: CallOptions = {}): Promise<void> {
    await this.#request((id) => ({ id, events: query }), onEvent, signal);
  }

  /** What waits for an answer is rejected with `unavailable`. */
  close(): void { this.#socket.close(); }

  #request(make: (id: number) => ApiRequest, onEvent: Waiting['onEvent'], signal: AbortSignal | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const id = ++this.#id;
      const onAbort = (): void => {
        this.#waiting.delete(id);
        reject(signal?.reason as Error);
      };
      const settle = <T>(way: (value: T) => void) => (value: T): void => {
        signal?.removeEventListener('abort', onAbort);
        way(value);
      };
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject), onEvent });
      signal?.addEventListener('abort', onAbort, { once: true });
      if (this.#socket.readyState !== this.#socket.OPEN) return this.#onClose();
      this.#socket.send(JSON.stringify(make(id)));
    });
  }

  #onMessage(response: ApiResponse): void {
    const waiting = this.#waiting.get(response.id);
    if (!waiting) return;
    if ('event' in response) return waiting.onEvent?.(response.event);
    this.#waiting.delete(response.id);
    if (response.ok) waiting.resolve(response.value);
    else waiting.reject(errorOf(response.error));
  }

  #onClose(): void {
    for (const waiting of this.#waiting.values()) waiting.reject(new AshlarError('unavailable', 'the connection to the site is closed', { retry: 'later' }));
    this.#waiting.clear();
  }
}

function connectError(endpoint: string, cause: Error): AshlarError {
  const { code } = cause as { code?: unknown };
  const untrusted = typeof code === 'string' && /CERT|SIGNATURE|ISSUER|ALTNAME/.test(code);
  if (!untrusted) return new AshlarError('unavailable', `no site answers at ${endpoint}`, { retry: 'later', cause });
  return new AshlarError('untrusted', `what answers at ${endpoint} is not the cluster of this authority (${code})`, { cause });
}

function errorOf(error: ApiError): AshlarError {
  return new AshlarError(error.code in ERROR_CODES ? error.code : 'internal', error.message);
}
