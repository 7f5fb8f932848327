import { once } from 'node:events';
import { unlinkSync } from 'node:fs';
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { AshlarError } from '@ashlar/words';
import { type ExportDirectory, type NbdBackend, NbdExport } from '@ashlar/nbd';
import { SlabPool } from '@ashlar/protocol';
import { Connection, type NbdTls } from './connection.ts';
import { BACKLOG, CONNECTIONS_MAX, HANDSHAKES_MAX, SHUTDOWN_GRACE_MS } from './limits.ts';

export interface NbdServerOptions {
  readonly tls?: NbdTls;
  /** Names are told to clients that ask (default); otherwise they must know the name. */
  readonly listExports?: boolean;
  readonly connectionsMax?: number;
  readonly handshakesMax?: number;
  readonly handshakeDeadlineMs?: number;
  /** Receive memory; shared memory if frames are to pass to other threads. */
  readonly allocate?: (bytes: number) => Uint8Array;
  /** What a client did wrong, or that one was turned away: for the log. */
  readonly onFault?: (message: string) => void;
}

export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Serves exports over any number of unix and TCP sockets, in the thread that it was made in. */
export class NbdServer implements ExportDirectory {
  readonly #options: NbdServerOptions;
  readonly #exports = new Map<string, NbdExport>();
  readonly #connections = new Set<Connection>();
  /** Those of them that have not agreed on an export yet, oldest first. */
  readonly #handshakes = new Set<Connection>();
  readonly #listeners = new Set<Server>();
  readonly #pool: SlabPool;
  #changed: (() => void)[] = [];

  constructor(options: NbdServerOptions = {}) {
    this.#options = options;
    this.#pool = new SlabPool(options.allocate);
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /** An export that two servers show is made by the one and given to the other: its connections then share its bounds and their order. */
  addExport(name: string, behind: NbdBackend | NbdExport): NbdExport {
    if (this.#exports.has(name)) throw new AshlarError('already-exists', `export "${name}" exists`);
    const added = behind instanceof NbdExport ? behind : new NbdExport(name, behind);
    this.#exports.set(name, added);
    return added;
  }

  /**
   * The export is gone for good: refuses new requests (ESHUTDOWN), lets unanswered ones be answered for a while, and closes the export's
   * connections. Without a grace they are cut at once, and nobody gets an error: a client that reconnects asks again.
   */
  async removeExport(name: string, graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    const target = this.#exports.get(name);
    if (!target) return;
    target.closing = true;
    this.#exports.delete(name);
    await this.#finish((connection) => connection.session.target === target, (connection) => connection.shutdown(), graceMs);
  }

  /** The empty name is the only export's, if there is one. */
  find(name: string): NbdExport | undefined {
    const found = this.#exports.get(name);
    if (found || name !== '' || this.#exports.size !== 1) return found;
    return this.#exports.values().next().value;
  }

  list(): Iterable<NbdExport> {
    return this.#options.listExports === false ? [] : this.#exports.values();
  }

  /** Port 0: any free one; the answer says which. A unix socket that nobody listens on is replaced. */
  async listen(address: NbdAddress): Promise<NbdAddress> {
    if ('path' in address) await removeDeadSocket(address.path);
    // Accepted sockets are left unread, so that their first read already goes into our memory.
    const listener = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    const options: ListenOptions = 'path' in address ? { path: address.path } : { host: address.host, port: address.port };
    listener.listen({ ...options, backlog: BACKLOG });
    await once(listener, 'listening');
    listener.on('connection', (socket) => this.#accept(socket));
    listener.on('error', (error) => this.#fault(`listener: ${error.message}`));
    this.#listeners.add(listener);
    const bound = listener.address();
    return typeof bound === 'object' && bound !== null ? { host: bound.address, port: bound.port } : address;
  }

  /**
   * The server ends, and may come back: no new connections, nothing more is read, what was asked is answered, then connections close; after
   * the grace the rest is cut. No request is refused: a client that reconnects sends again what was not answered.
   */
  async close(graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    await this.#finish(() => true, (connection) => connection.drain(), graceMs);
  }

  /** Cuts every connection, as a failing network would. For tests of clients that reconnect. */
  cutConnections(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  async #finish(concerns: (connection: Connection) => boolean, finish: (connection: Connection) => void, graceMs: number): Promise<void> {
    const left = (): Connection[] => [...this.#connections].filter(concerns);
    for (const connection of left()) {
      if (graceMs === 0) connection.destroy();
      else finish(connection);
    }
    let cut = false;
    const timer = setTimeout(() => {
      cut = true;
      for (const connection of left()) connection.destroy();
    }, graceMs);
    while (left().length > 0) await new Promise<void>((resolve) => this.#changed.push(resolve));
    clearTimeout(timer);
    if (cut) this.#fault('connections with unanswered requests were cut at shutdown');
  }

  #accept(socket: Socket): void {
    if (this.#connections.size - this.#handshakes.size >= (this.#options.connectionsMax ?? CONNECTIONS_MAX)) {
      this.#fault('too many connections');
      socket.destroy();
      return;
    }
    if (this.#handshakes.size >= (this.#options.handshakesMax ?? HANDSHAKES_MAX)) this.#dropOldestHandshake();
    const connection = new Connection(socket, {
      exports: this, pool: this.#pool, tls: this.#options.tls ?? null, handshakeDeadlineMs: this.#options.handshakeDeadlineMs,
      onAgreed: (agreed) => this.#handshakes.delete(agreed),
      onClosed: (closed, fault) => this.#gone(closed, fault),
    });
    this.#connections.add(connection);
    this.#handshakes.add(connection);
  }

  #dropOldestHandshake(): void {
    for (const oldest of this.#handshakes) {
      this.#handshakes.delete(oldest);
      oldest.destroy('too many handshakes at a time');
      return;
    }
  }

  #gone(connection: Connection, fault: string | null): void {
    this.#connections.delete(connection);
    this.#handshakes.delete(connection);
    if (fault !== null) this.#fault(fault);
    const changed = this.#changed;
    this.#changed = [];
    for (const resolve of changed) resolve();
  }

  #fault(message: string): void {
    this.#options.onFault?.(message);
  }
}

/** A process that was killed leaves its socket's name behind; one that lives answers on it. */
async function removeDeadSocket(path: string): Promise<void> {
  const code = await new Promise<string>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve('alive');
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'));
  });
  if (code === 'alive') throw new AshlarError('in-use', `somebody listens on ${path}`, { path });
  if (code === 'ECONNREFUSED') unlinkSync(path);
}
