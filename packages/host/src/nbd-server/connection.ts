import type { Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { type ExportDirectory, type NbdExport, ServerSession, type SessionPort, type TlsMode } from '@ashlar/nbd';
import type { PayloadLease, SlabPool } from '@ashlar/protocol';
import { adopt, writeAtOnce } from '@ashlar/runtime';
import { HANDSHAKE_DEADLINE_MS, KEEPALIVE_MS, LINGER_MS, WRITE_QUEUE_BYTES_MAX } from './limits.ts';

/** Certificates as PEM text. */
export interface NbdTls {
  readonly key: string;
  readonly cert: string;
  /** Given: clients must show a certificate that this authority signed. */
  readonly ca?: string;
  /** Without TLS a client gets no further than STARTTLS. */
  readonly required: boolean;
}

export interface ConnectionOptions {
  readonly exports: ExportDirectory;
  readonly pool: SlabPool;
  readonly tls: NbdTls | null;
  readonly handshakeDeadlineMs?: number;
  /** Told when the handshake is over. */
  readonly onAgreed: (connection: Connection) => void;
  /** Told once, when the connection is gone and why, if the client was at fault. */
  readonly onClosed: (connection: Connection, fault: string | null) => void;
}

const EMPTY = new Uint8Array(0);

/** The client is gone without a word: it may, at any time. */
const LEFT = new Set(['EPIPE', 'ECONNRESET']);

/** One client's socket: reads into the session's memory, writes what the session has to say. */
export class Connection implements SessionPort {
  readonly session: ServerSession;
  readonly #options: ConnectionOptions;
  #socket: Socket;
  #timer: NodeJS.Timeout | null;
  #fault: string | null = null;
  #open = true;
  readonly #turn = (): void => this.session.turn();

  /** The socket was accepted paused. */
  constructor(accepted: Socket, options: ConnectionOptions) {
    this.#options = options;
    this.session = new ServerSession(this, options.exports, tlsMode(options.tls), options.pool);
    // With TLS on offer the socket may have to be wrapped, which reading in place would stand in the way of.
    const adopted = options.tls ? null : adopt(accepted, { buffer: () => this.session.receiveTarget(), callback: (bytes) => this.#received(bytes) });
    this.#socket = adopted ?? accepted;
    this.#listen(this.#socket);
    if (!adopted) this.#readByCopy(accepted);
    this.#timer = setTimeout(() => this.abort('handshake took too long'), options.handshakeDeadlineMs ?? HANDSHAKE_DEADLINE_MS);
    this.session.open();
  }

  /** Requests are refused from now on, and the connection ends when the earlier ones are answered. */
  shutdown(): void {
    this.session.shutdown();
  }

  /** Nothing more is read; the connection ends when everything is answered. */
  drain(): void {
    this.session.drain();
  }

  destroy(fault: string | null = null): void {
    this.#fault ??= fault;
    this.#socket.destroy();
  }

  write(pieces: readonly Uint8Array[], leases: readonly PayloadLease[]): boolean {
    const socket = this.#socket;
    const sent = leases.length === 0 ? undefined : () => releaseAll(leases);
    if (!socket.writable) {
      sent?.();
      return true;
    }
    if (pieces.length > 1) this.#writeMany(pieces, sent);
    else if (sent) writeAtOnce(socket, pieces[0] as Uint8Array, sent);
    else socket.write(pieces[0] as Uint8Array);
    return socket.writableLength <= WRITE_QUEUE_BYTES_MAX;
  }

  /** One system call for all pieces. */
  #writeMany(pieces: readonly Uint8Array[], sent: (() => void) | undefined): void {
    const socket = this.#socket;
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    if (sent) socket.write(EMPTY, sent);
    socket.uncork();
  }

  scheduleTurn(): void {
    process.nextTick(this.#turn);
  }

  resume(): void {
    this.#socket.resume();
    // The second one: by then the loop has asked for what can be read since reading went on.
    setImmediate(() => setImmediate(() => this.session.readThrough()));
  }

  agreed(_target: NbdExport): void {
    this.#clearTimer();
    this.#options.onAgreed(this);
  }

  end(): void {
    this.#clearTimer();
    this.#socket.destroySoon();
    // A client that does not take its last bytes is not waited for longer than this.
    this.#timer = setTimeout(() => this.#socket.destroy(), LINGER_MS);
  }

  abort(reason: string): void {
    this.#fault ??= reason;
    this.end();
  }

  startTls(): void {
    const { tls } = this.#options;
    const plain = this.#socket;
    plain.pause();
    plain.removeAllListeners('data');
    // The answer to STARTTLS leaves in the clear; only then is the socket wrapped.
    plain.write(EMPTY, () => {
      if (!tls || plain.destroyed) return;
      const server = createTlsServer({ key: tls.key, cert: tls.cert, ca: tls.ca, requestCert: tls.ca !== undefined, rejectUnauthorized: tls.ca !== undefined });
      server.once('secureConnection', (secured) => this.#secured(secured));
      server.once('tlsClientError', (error) => {
        this.#fault ??= `TLS: ${error.message}`;
        plain.destroy();
      });
      server.emit('connection', plain);
    });
  }

  #secured(secured: TLSSocket): void {
    this.#socket = secured;
    secured.allowHalfOpen = true;
    this.#listen(secured);
    this.session.secured();
    this.#readByCopy(secured);
  }

  #listen(socket: Socket): void {
    socket.setNoDelay(true);
    // A client whose machine is gone says nothing: its connection ends some minutes later.
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on('drain', () => this.session.drained());
    socket.on('end', () => this.session.ended());
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (!LEFT.has(error.code ?? '')) this.#fault ??= error.message;
    });
    socket.on('close', () => this.#closed());
  }

  #received(bytes: number): boolean {
    this.session.received(bytes);
    return this.session.mayRead();
  }

  #readByCopy(socket: Socket): void {
    socket.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length;) {
        const target = this.session.receiveTarget();
        const bytes = Math.min(target.length, chunk.length - at);
        target.set(chunk.subarray(at, at + bytes));
        at += bytes;
        this.session.received(bytes);
      }
      if (!this.session.mayRead()) socket.pause();
    });
    socket.resume();
  }

  #closed(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#clearTimer();
    this.session.closed();
    this.#options.onClosed(this, this.#fault);
  }

  #clearTimer(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function tlsMode(tls: NbdTls | null): TlsMode {
  if (!tls) return 'off';
  return tls.required ? 'required' : 'offered';
}

function releaseAll(leases: readonly PayloadLease[]): void {
  for (const lease of leases) lease.release();
}
