import { connect as connectSocket, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls';
import { once } from 'node:events';
import { AshlarError } from '@ashlar/words';
import { Command, REQUEST_HEADER_BYTES, REQUEST_MAGIC } from '@ashlar/nbd';
import { ByteSource } from './byte-source.ts';
import { type ExportInfo, go, greet, list, type ListedExport, requestTls } from './negotiate.ts';
import { ReplyReader } from './reply-reader.ts';
import type { Request } from './request.ts';
import type { NbdTarget } from './uri.ts';

export interface DialOptions {
  readonly tls?: TlsOptions;
  /** Connection and handshake together. */
  readonly connectTimeoutMs: number;
}

interface Dialled<T> {
  readonly socket: Socket;
  readonly source: ByteSource;
  readonly result: T;
}

/** Received bytes are taken at once, so one piece of memory per connection does. */
const RECEIVE_BYTES = 256 * 1024;

function connectPlain(target: NbdTarget, source: ByteSource): Socket {
  const address = 'path' in target.address ? { path: target.address.path } : { ...target.address, noDelay: true };
  // TLS reads the socket in its own way.
  if (target.tls) return connectSocket(address).on('data', (chunk: Buffer) => source.push(chunk));
  const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  const callback = (bytes: number): boolean => {
    source.push(buffer.subarray(0, bytes));
    return true;
  };
  return connectSocket({ ...address, onread: { buffer, callback } });
}

/** Connects and negotiates, or throws; nothing is left open then. */
async function dial<T>(target: NbdTarget, options: DialOptions, negotiate: (source: ByteSource, socket: Socket) => Promise<T>): Promise<Dialled<T>> {
  let source = new ByteSource();
  let socket = connectPlain(target, source);
  source.watch(socket);
  const timer = setTimeout(() => socket.destroy(new AshlarError('timeout', 'no NBD connection in time', { retry: 'later' })), options.connectTimeoutMs);
  try {
    await greet(source, socket);
    if (target.tls) {
      await requestTls(source, socket);
      if (source.rest > 0) throw new AshlarError('protocol', 'NBD server: data in the clear after STARTTLS');
      socket.removeAllListeners('data');
      const secured = connectTls({ socket, servername: 'host' in target.address ? target.address.host : undefined, ...options.tls });
      await once(secured, 'secureConnect');
      socket = secured;
      const inside = new ByteSource();
      source = inside;
      source.watch(socket);
      socket.on('data', (chunk: Buffer) => inside.push(chunk));
    }
    return { socket, source, result: await negotiate(source, socket) };
  } catch (error) {
    socket.once('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

export async function listExportsAt(target: NbdTarget, options: DialOptions): Promise<readonly ListedExport[]> {
  const { socket, result } = await dial(target, options, list);
  socket.destroy();
  return result;
}

/** One connection in transmission. Cookies are its own; requests outlive it. */
export class Connection {
  readonly info: ExportInfo;
  readonly #socket: Socket;
  readonly #unanswered = new Map<number, Request>();
  readonly #onAnswer: (connection: Connection, request: Request) => void;
  #cookie = 0;
  #error: Error | null = null;
  /** Settles when the connection is gone; the value says why, null if it was asked to. */
  readonly closed: Promise<Error | null>;

  static async open(target: NbdTarget, options: DialOptions, onAnswer: (connection: Connection, request: Request) => void): Promise<Connection> {
    const { socket, result, source } = await dial(target, options, (from, over) => go(from, over, target.exportName));
    return new Connection(socket, result, source, onAnswer);
  }

  private constructor(socket: Socket, info: ExportInfo, source: ByteSource, onAnswer: (connection: Connection, request: Request) => void) {
    this.info = info;
    this.#socket = socket;
    this.#onAnswer = onAnswer;
    const reader = new ReplyReader({
      structuredReplies: info.structuredReplies, allocationContext: info.allocationContext,
      find: (cookie) => this.#unanswered.get(cookie), finished: (cookie, request) => this.#answered(cookie, request),
    });
    this.closed = new Promise((resolve) => socket.once('close', () => resolve(this.#error)));
    socket.on('error', (error) => this.#failed(error));
    socket.on('end', () => this.#failed(new AshlarError('unavailable', 'the NBD server closed the connection', { retry: 'later' })));
    source.passTo((chunk) => {
      try {
        reader.read(chunk);
      } catch (error) {
        this.#failed(error as Error);
      }
    });
  }

  get unansweredCount(): number {
    return this.#unanswered.size;
  }

  /** Requests that were sent and not answered, in the order in which they were sent. */
  takeUnanswered(): readonly Request[] {
    const requests = [...this.#unanswered.values()];
    this.#unanswered.clear();
    return requests;
  }

  send(request: Request): void {
    const cookie = this.#cookie++ % 2 ** 32;
    request.receivedBytes = 0;
    request.error = 0;
    request.extents = [];
    this.#unanswered.set(cookie, request);
    const header = Buffer.alloc(REQUEST_HEADER_BYTES);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(request.flags, 4);
    header.writeUInt16BE(request.command, 6);
    header.writeUInt32BE(cookie, 12);
    header.writeBigUInt64BE(BigInt(request.offsetBytes), 16);
    header.writeUInt32BE(request.lengthBytes, 24);
    if (!request.data) {
      this.#socket.write(header);
      return;
    }
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(request.data);
    this.#socket.uncork();
  }

  /** Says goodbye; the server answers what it has first. */
  disconnect(): void {
    // Said once: a second goodbye would be an error of the socket, and cut off what is in flight.
    if (this.#socket.writableEnded) return;
    const header = Buffer.alloc(REQUEST_HEADER_BYTES);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(Command.disconnect, 6);
    this.#socket.end(header);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #answered(cookie: number, request: Request): void {
    this.#unanswered.delete(cookie);
    this.#onAnswer(this, request);
  }

  #failed(error: Error): void {
    this.#error ??= error;
    this.#socket.destroy();
  }
}
