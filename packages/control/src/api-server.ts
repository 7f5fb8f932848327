import { randomUUID, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ActorLog } from '@ashlar/actor';
import type { ApiAnswer, ApiCommand, ApiRequest, ApiResponse, EventRecord } from '@ashlar/protocol';
import { RefusalLog, type PeerTrust } from '@ashlar/runtime';
import { AshlarError, ERROR_CODES, errorCode, type ErrorCode } from '@ashlar/words';
import { WebSocketServer, type WebSocket } from 'ws';
import { authorize, type MetadataStore, type Principal } from './core/index.ts';
import { answerMetrics, type MetricsSource } from './metrics.ts';
import { parseCommand } from './parse-command.ts';

export interface ApiServerOptions {
  readonly token: string;
  readonly store: MetadataStore;
  readonly log: ActorLog;
  /** For a cluster: not on loopback only, over TLS, and what is answered besides the WebSocket. */
  readonly network?: { readonly host: string; readonly trust: PeerTrust; readonly answer: (request: IncomingMessage, response: ServerResponse) => void };
  readonly carryOut: (principal: Principal, command: ApiCommand, answer: (answer: ApiAnswer) => void) => void;
  /** Figures for Prometheus, as text. */
  readonly figures: () => Promise<string>;
}

const MESSAGE_BYTES_MAX = 1024 * 1024;
const CONNECTIONS_MAX = 1000;
/** For a handshake, and for all of a request to arrive, from whoever it is. */
const REQUEST_MS = 10_000;
/** Connections that are no WebSocket (yet). One more, and the oldest is dropped: a flood of silent ones shuts nobody out who asks at once. */
const ARRIVALS_MAX = 256;
/** How long clients may take to answer the end of their connection: a frozen one must not keep us from ending. */
const CLOSE_MS = 1000;
const EVENTS_AT_ONCE_MAX = 10_000;
/** What may wait for a client that follows events, and does not read: 10,000 events at once are about 4 MiB. */
const UNREAD_BYTES_MAX = 8 * 2 ** 20;

/** The system manager's API: on loopback, or for a cluster over TLS. */
export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #http: Server;
  readonly #refusals: RefusalLog;
  readonly #refused = new Map<string, number>();
  /** By address and port of the other end, oldest first. */
  readonly #arrivals = new Map<string, Socket>();
  readonly #acceptor = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false });

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#refusals = new RefusalLog(options.log);
    const otherwise = options.network?.answer ?? ((_request, response) => void response.writeHead(426).end('this is a WebSocket\n'));
    const answer = (request: IncomingMessage, response: ServerResponse): void => {
      if (request.url === '/metrics') return void answerMetrics(this.metrics, request, response);
      otherwise(request, response);
    };
    this.#http = options.network === undefined ? createServer(answer) : this.#overTls(options.network.trust, answer);
    this.#http.on('connection', (socket: Socket) => this.#arrived(socket));
    this.#http.on('upgrade', (request, socket, head) => this.#accept(request, socket, head));
  }

  /** Operators show no certificate but their token; machines show theirs. */
  #overTls(trust: PeerTrust, answer: (request: IncomingMessage, response: ServerResponse) => void): Server {
    const options = (): object => ({ ...trust.credentials(), minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: false });
    const server = createHttpsServer({ ...options(), handshakeTimeout: REQUEST_MS, requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, answer);
    trust.onChange(() => server.setSecureContext(options()));
    server.on('tlsClientError', (error, socket) => {
      if (!('code' in error) || error.code !== 'ECONNRESET') this.#refusals.refuse(socket.remoteAddress ?? 'unknown', `the TLS handshake failed: ${error.message.trim()}`);
    });
    return server;
  }

  /** For another listener of figures, with the same credentials. */
  get metrics(): MetricsSource {
    const { figures, log } = this.#options;
    return { knows: (authorization) => this.#knows(authorization), text: figures, log };
  }

  /** Requests that were refused, by code. */
  get refused(): ReadonlyMap<string, number> { return this.#refused; }

  /** Resolves with the endpoint: `ws://127.0.0.1:port`, or `wss://…` of a cluster. */
  async listen(port: number): Promise<string> {
    try {
      await this.#listen(port);
    } catch (error) {
      // Somebody else has the port that was ours before: clients must be told of another one anyway.
      if (port === 0 || this.#options.network !== undefined || (error as { code?: unknown }).code !== 'EADDRINUSE') throw new AshlarError('io-error', `cannot listen on port ${port}: ${(error as Error).message}`, { cause: error });
      this.#options.log.warn({ port }, 'the port of the API is taken; another one is used');
      await this.#listen(0);
    }
    const address = this.#http.address();
    const used = typeof address === 'object' && address !== null ? address.port : port;
    const { network } = this.#options;
    return network === undefined ? `ws://127.0.0.1:${used}` : `wss://${network.host.includes(':') ? `[${network.host}]` : network.host}:${used}`;
  }

  #listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen({ host: this.#options.network?.host ?? '127.0.0.1', port }, () => {
        this.#http.off('error', reject);
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => { this.#http.close(() => resolve()); });
    const clients = [...this.#acceptor.clients];
    for (const client of clients) client.close(1001, 'shutting down');
    this.#acceptor.close();
    // Also those that are in the middle of their handshake, of which `closeAllConnections` does not know.
    for (const socket of this.#arrivals.values()) socket.destroy();
    const late = setTimeout(() => clients.forEach((client) => client.terminate()), CLOSE_MS);
    await closed;
    clearTimeout(late);
  }

  #arrived(socket: Socket): void {
    for (const [end, oldest] of this.#arrivals) {
      if (this.#arrivals.size < ARRIVALS_MAX) break;
      this.#arrivals.delete(end);
      oldest.destroy();
    }
    const end = endOf(socket);
    this.#arrivals.set(end, socket);
    socket.once('close', () => this.#arrivals.delete(end));
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // From here on Node leaves the socket to us: a refused client that resets its connection must not end this process, nor stay half open.
    socket.on('error', (error) => this.#options.log.debug({ error: error.message }, 'an API connection failed'));
    const busy = this.#acceptor.clients.size >= CONNECTIONS_MAX;
    if (busy || !this.#knows(request.headers.authorization)) {
      this.#count(busy ? 'busy' : 'unauthorized');
      this.#refusals.refuse(request.socket.remoteAddress ?? 'unknown', busy ? 'a connection to the API: there are too many' : 'a request to the API without the token');
      return refuse(socket, busy ? '503 Service Unavailable' : '401 Unauthorized');
    }
    // A browser sends an origin; pages of other sites may not drive this API with a user's rights.
    const { origin } = request.headers;
    const scheme = this.#options.network === undefined ? 'http' : 'https';
    if (origin !== undefined && origin !== `${scheme}://${request.headers.host ?? ''}`) {
      this.#count('unauthorized');
      return refuse(socket, '403 Forbidden');
    }
    this.#acceptor.handleUpgrade(request, socket, head, (client) => {
      this.#arrivals.delete(endOf(request.socket));
      this.#serve(client);
    });
  }

  #count(code: ErrorCode): void { this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1); }

  #knows(header: string | undefined): boolean {
    const expected = Buffer.from(`Bearer ${this.#options.token}`);
    const given = Buffer.from(header ?? '');
    return given.length === expected.length && timingSafeEqual(given, expected);
  }

  #serve(client: WebSocket): void {
    const principal: Principal = { kind: 'operator' };
    const ends: (() => void)[] = [];
    client.on('error', (error) => this.#options.log.debug({ error: error.message }, 'an API connection failed'));
    client.on('close', () => ends.forEach((end) => end()));
    // A Buffer, since `binaryType` is left as it is.
    client.on('message', (data) => {
      const requestId = randomUUID();
      let id = 0;
      const send = (response: ApiResponse): void => { if (client.readyState === client.OPEN) client.send(JSON.stringify(response)); };
      const fail = (error: unknown): void => {
        const code = errorCode(error);
        this.#count(code);
        const message = error instanceof AshlarError ? error.message : 'something went wrong inside';
        if (code === 'internal') this.#options.log.error({ requestId, error }, 'an API request failed');
        send({ id, ok: false, error: { code, message, ...ERROR_CODES[code], requestId } });
      };
      try {
        const request = parseRequest((data as Buffer).toString());
        id = request.id;
        if ('events' in request) return this.#events(principal, request, client, send, ends);
        const command = parseCommand(request.command);
        this.#options.carryOut(principal, command, (answer) => {
          if (answer.ok) send({ id, ok: true, value: answer.value });
          else fail(new AshlarError(answer.code, answer.message));
        });
      } catch (error) {
        fail(error);
      }
    });
  }

  #events(principal: Principal, { id, events }: Extract<ApiRequest, { readonly events: unknown }>, client: WebSocket, send: (response: ApiResponse) => void, ends: (() => void)[]): void {
    if (!authorize(principal, 'events', undefined)) throw new AshlarError('unauthorized', 'this needs the token of the site');
    const { subject } = events;
    let last = events.after ?? 0;
    const emit = (event: EventRecord): void => {
      if (event.sequence <= last || (subject !== undefined && event.subject !== subject)) return;
      last = event.sequence;
      send({ id, event });
    };
    const query = { after: last, max: Math.min(events.max ?? EVENTS_AT_ONCE_MAX, EVENTS_AT_ONCE_MAX), newest: true, ...(subject === undefined ? {} : { subject }) };
    this.#options.store.events(query, (found) => {
      for (const event of found ?? []) emit(event);
      if (!events.follow) return send({ id, ok: true, value: null });
      ends.push(this.#options.store.watch((change) => {
        change.events.forEach(emit);
        if (client.bufferedAmount > UNREAD_BYTES_MAX) client.terminate();
      }));
    });
  }
}

function endOf({ remoteAddress = '', remotePort = 0 }: Socket): string { return `${remoteAddress} ${remotePort}`; }

function refuse(socket: Duplex, status: string): void {
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function parseRequest(text: string): ApiRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AshlarError('protocol', 'not a JSON document', { cause });
  }
  const { id, command, events } = (value ?? {}) as { id?: unknown; command?: unknown; events?: unknown };
  if (typeof id !== 'number' || !Number.isSafeInteger(id)) throw new AshlarError('protocol', 'a request needs a whole number as its id');
  if (typeof command === 'object' && command !== null) return { id, command: command as ApiCommand };
  if (typeof events !== 'object' || events === null) throw new AshlarError('protocol', 'a request has a command or asks for events');
  const { after, subject, max, follow } = events as { after?: unknown; subject?: unknown; max?: unknown; follow?: unknown };
  return {
    id,
    events: {
      follow: follow === true,
      ...(typeof after === 'number' ? { after } : {}), ...(typeof subject === 'string' ? { subject } : {}), ...(typeof max === 'number' && max > 0 ? { max: Math.floor(max) } : {}),
    },
  };
}
