import { AshlarError, ERROR_CODES, type ErrorCode } from '@ashlar/words';
import { WebSocket } from 'ws';
import { messageText, type ApiError, type ApiRequest, type ApiResponse } from './api-messages.ts';
import type { ApiCommand, EventRecord } from './core/index.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onEvent: ((event: EventRecord) => void) | null;
}

/** A connection to the API of a site. */
export class ApiClient {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data) => this.#onMessage(JSON.parse(messageText(data)) as ApiResponse));
    socket.on('close', () => this.#onClose());
    socket.on('error', () => {});
  }

  /** `ca`: the cluster's authority, in PEM, for `wss://`. Rejects with `unauthorized` or `unavailable`. */
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

  call(command: ApiCommand): Promise<unknown> { return this.#request((id) => ({ id, command }), null); }

  /** Resolves when all were delivered; never, with `follow`, until the connection ends. */
  async events(query: { readonly after?: number; readonly subject?: string; readonly max?: number; readonly follow: boolean }, onEvent: (event: EventRecord) => void): Promise<void> {
    await this.#request((id) => ({ id, events: query }), onEvent);
  }

  close(): void { this.#socket.close(); }

  #request(make: (id: number) => ApiRequest, onEvent: Waiting['onEvent']): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#id;
      this.#waiting.set(id, { resolve, reject, onEvent });
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
    for (const waiting of this.#waiting.values()) waiting.reject(new AshlarError('unavailable', 'the site closed the connection', { retry: 'later' }));
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
  return new AshlarError(error.code in ERROR_CODES ? (error.code as ErrorCode) : 'internal', error.message);
}
