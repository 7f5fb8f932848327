import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { AshlarError } from '@ashlar/words';
import { Command, CommandFlag, NbdError } from '@ashlar/nbd';
import { Connection, type DialOptions, listExportsAt } from './connection.ts';
import { NbdRequestError } from './errors.ts';
import type { ExportInfo, ListedExport } from './negotiate.ts';
import { describe, type Extent, type Request } from './request.ts';
import { type NbdTarget, parseNbdUri } from './uri.ts';

export interface NbdClientOptions {
  readonly tls?: TlsOptions;
  /** For one attempt, handshake included (default 10 s). */
  readonly connectTimeoutMs?: number;
  /**
   * How long a lost connection is tried for before the requests on it fail (default 60 s; 0: they fail at once; Infinity: for ever).
   * Requests that were not answered are sent again, in their order, before any later one.
   */
  readonly reconnectTimeoutMs?: number;
  readonly onDisconnected?: (cause: Error) => void;
  readonly onReconnected?: (info: ExportInfo) => void;
}

export interface RequestOptions {
  /** Gives the request up: its promise is rejected, whatever the server still does with it. */
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends RequestOptions {
  /** Answered only when it is on stable storage. */
  readonly fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  readonly noHole?: boolean;
  /** Fails with ENOTSUP rather than be slow. */
  readonly fastZero?: boolean;
}

const CONNECT_TIMEOUT_MS = 10_000;
const RECONNECT_TIMEOUT_MS = 60_000;
/** Waits between attempts: doubled from the first to the last. */
const RETRY_MS_MIN = 10;
const RETRY_MS_MAX = 500;

type State = 'connected' | 'reconnecting' | 'closing' | 'closed';

/** A client of one NBD export: any number of requests in flight, and a connection that comes back. */
export class NbdClient {
  readonly #target: NbdTarget;
  readonly #options: NbdClientOptions;
  #connection: Connection | null = null;
  #info: ExportInfo;
  #state: State = 'connected';
  /** Not on any connection, in the order in which they are to be sent. */
  #queue: Request[] = [];
  /** The server is shutting down: this connection gets no more requests. */
  #draining = false;
  #reconnections = 0;

  /** Connects once; the first connection is not retried. */
  static async connect(uri: string, options: NbdClientOptions = {}): Promise<NbdClient> {
    const target = parseNbdUri(uri);
    const opened: NbdClient[] = [];
    const connection = await Connection.open(target, dialOptions(options), (from, request) => {
      for (const client of opened) client.#answered(from, request);
    });
    const client = new NbdClient(target, options, connection);
    opened.push(client);
    return client;
  }

  private constructor(target: NbdTarget, options: NbdClientOptions, connection: Connection) {
    this.#target = target;
    this.#options = options;
    this.#info = connection.info;
    this.#use(connection);
  }

  /** As of the last handshake: a volume that grew shows it after a reconnection. */
  get info(): ExportInfo {
    return this.#info;
  }

  get sizeBytes(): number {
    return this.#info.sizeBytes;
  }

  get connected(): boolean {
    return this.#state === 'connected';
  }

  get reconnections(): number {
    return this.#reconnections;
  }

  async read(offsetBytes: number, lengthBytes: number, options: RequestOptions = {}): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes);
    await this.readInto(offsetBytes, into, options);
    return into;
  }

  /** Longer ones than the server takes are sent as several requests. */
  async readInto(offsetBytes: number, into: Uint8Array, options: RequestOptions = {}): Promise<void> {
    await allEnded(this.#pieces(into.length).map(([at, length]) =>
      this.#request({ command: Command.read, offsetBytes: offsetBytes + at, lengthBytes: length, into: into.subarray(at, at + length) }, options)));
  }

  /** `bytes` must not change before the answer. */
  async write(offsetBytes: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    await allEnded(this.#pieces(bytes.length).map(([at, length]) =>
      this.#request({ command: Command.write, flags: fuaFlag(options), offsetBytes: offsetBytes + at, lengthBytes: length, data: bytes.subarray(at, at + length) }, options)));
  }

  /** Everything that was answered before this call is on stable storage when it is answered. */
  async flush(options: RequestOptions = {}): Promise<void> {
    await this.#request({ command: Command.flush, offsetBytes: 0, lengthBytes: 0 }, options);
  }

  async trim(offsetBytes: number, lengthBytes: number, options: WriteOptions = {}): Promise<void> {
    await this.#request({ command: Command.trim, flags: fuaFlag(options), offsetBytes, lengthBytes }, options);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number, options: ZeroOptions = {}): Promise<void> {
    const flags = fuaFlag(options) | (options.noHole ? CommandFlag.noHole : 0) | (options.fastZero ? CommandFlag.fastZero : 0);
    await this.#request({ command: Command.writeZeroes, flags, offsetBytes, lengthBytes }, options);
  }

  async cache(offsetBytes: number, lengthBytes: number, options: RequestOptions = {}): Promise<void> {
    await this.#request({ command: Command.cache, offsetBytes, lengthBytes }, options);
  }

  /** From `offsetBytes` on; the server may stop short of the length asked for, or go beyond it. */
  async blockStatus(offsetBytes: number, lengthBytes: number, options: RequestOptions & { readonly one?: boolean } = {}): Promise<readonly Extent[]> {
    if (this.#info.allocationContext === null) throw new AshlarError('invalid-argument', 'the NBD server has no base:allocation');
    const request = await this.#request({ command: Command.blockStatus, flags: options.one ? CommandFlag.reqOne : 0, offsetBytes, lengthBytes }, options);
    return request.extents;
  }

  /** Orderly: everything in flight is answered first. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const connection = this.#connection;
    this.#state = 'closing';
    this.#fail(new AshlarError('unavailable', 'the NBD client was closed'));
    if (connection) {
      connection.disconnect();
      await connection.closed;
    }
    this.#state = 'closed';
  }

  /** Cuts the connection at once; what is in flight fails. */
  destroy(): void {
    this.#state = 'closed';
    this.#connection?.destroy();
    this.#fail(new AshlarError('unavailable', 'the NBD client was closed'));
  }

  /** Cuts the connection as a failing network would: the client reconnects. For tests and load runs. */
  breakConnection(): void {
    this.#connection?.destroy();
  }

  #pieces(length: number): readonly (readonly [number, number])[] {
    const most = this.#info.requestBytesMax;
    const pieces: (readonly [number, number])[] = [];
    for (let at = 0; at < length; at += most) pieces.push([at, Math.min(most, length - at)]);
    return pieces;
  }

  #request(wanted: Pick<Request, 'command' | 'offsetBytes' | 'lengthBytes'> & Partial<Pick<Request, 'flags' | 'data' | 'into'>>, { signal }: RequestOptions): Promise<Request> {
    if (this.#state === 'closing' || this.#state === 'closed') return Promise.reject(new AshlarError('unavailable', 'the NBD client is closed'));
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(abortError(signal));
      const onAbort = (): void => {
        request.settled = true;
        this.#queue = this.#queue.filter((queued) => queued !== request);
        reject(abortError(signal as AbortSignal));
      };
      const request: Request = {
        flags: 0, data: null, into: null, ...wanted, extents: [], receivedBytes: 0, error: 0, settled: false,
        done: (error) => {
          signal?.removeEventListener('abort', onAbort);
          if (error) reject(error);
          else resolve(request);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      if (this.#connection && !this.#draining) this.#connection.send(request);
      else this.#queue.push(request);
    });
  }

  #answered(connection: Connection, request: Request): void {
    // The server shuts down in an orderly way: the request was not carried out, and goes to its successor.
    const again = request.error === NbdError.shutdown && this.#reconnectTimeoutMs > 0 && !request.settled && this.#state === 'connected';
    if (again) {
      this.#queue.push(request);
      this.#draining = true;
    } else settle(request, request.error === 0 ? null : new NbdRequestError(describe(request), request.error));
    if (this.#draining && connection.unansweredCount === 0) connection.disconnect();
  }

  get #reconnectTimeoutMs(): number {
    return this.#options.reconnectTimeoutMs ?? RECONNECT_TIMEOUT_MS;
  }

  #use(connection: Connection): void {
    this.#connection = connection;
    this.#draining = false;
    this.#info = connection.info;
    const queue = this.#queue;
    this.#queue = [];
    for (const request of queue) connection.send(request);
    void connection.closed.then((cause) => this.#lost(connection, cause));
  }

  #lost(connection: Connection, cause: Error | null): void {
    this.#connection = null;
    // What was sent comes before what was not, in the order of sending.
    this.#queue = [...connection.takeUnanswered().filter(({ settled }) => !settled), ...this.#queue];
    if (this.#state !== 'connected') return this.#fail(new AshlarError('unavailable', 'the NBD client was closed'));
    const reason = cause ?? new AshlarError('unavailable', 'the NBD connection was cut', { retry: 'later' });
    this.#state = 'reconnecting';
    this.#options.onDisconnected?.(reason);
    void this.#reconnect(reason);
  }

  async #reconnect(cause: Error): Promise<void> {
    const deadline = performance.now() + this.#reconnectTimeoutMs;
    let waitMs = RETRY_MS_MIN;
    let reason = cause;
    while (this.#state === 'reconnecting' && performance.now() < deadline) {
      try {
        const connection = await Connection.open(this.#target, dialOptions(this.#options), (from, request) => this.#answered(from, request));
        if (this.#state !== 'reconnecting') return connection.destroy();
        this.#state = 'connected';
        this.#reconnections++;
        this.#use(connection);
        this.#options.onReconnected?.(connection.info);
        return;
      } catch (error) {
        reason = error as Error;
      }
      await delay(waitMs);
      waitMs = Math.min(waitMs * 2, RETRY_MS_MAX);
    }
    if (this.#state !== 'reconnecting') return;
    this.#state = 'closed';
    this.#fail(new AshlarError('unavailable', `no NBD connection within ${this.#reconnectTimeoutMs} ms`, { retry: 'later', cause: reason }));
  }

  /** What is on no connection is given up. */
  #fail(error: Error): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const request of queue) settle(request, error);
  }
}

/** The exports that a server tells of. The URI's export name does not matter. */
export function listExports(uri: string, options: Pick<NbdClientOptions, 'tls' | 'connectTimeoutMs'> = {}): Promise<readonly ListedExport[]> {
  return listExportsAt(parseNbdUri(uri), dialOptions(options));
}

/** Throws only when all have ended: until then the caller's memory is read from, or written to. */
async function allEnded(pieces: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(pieces)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

function settle(request: Request, error: Error | null): void {
  if (request.settled) return;
  request.settled = true;
  request.done(error);
}

function dialOptions(options: Pick<NbdClientOptions, 'tls' | 'connectTimeoutMs'>): DialOptions {
  return { tls: options.tls, connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS };
}

function fuaFlag(options: WriteOptions): number {
  return options.fua ? CommandFlag.fua : 0;
}

function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new AshlarError('timeout', 'the request was given up');
}
