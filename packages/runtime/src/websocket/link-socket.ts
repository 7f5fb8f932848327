import { randomBytes, type X509Certificate } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { ReceiveWindow, type Slab, type SlabPool } from '@ashlar/protocol';
import { adopt } from '../adopt.ts';
import { writeAtOnce } from '../write-at-once.ts';
import type { Credentials, LinkAddress } from '../api.ts';
import { CLOSE_MS, HANDSHAKE_MS, LINK_MESSAGE_BYTES_MAX, LINK_SLAB_BYTES_FIRST, LINK_SLAB_BYTES_MAX, LINK_SLAB_BYTES_MIN } from '../limits.ts';
import { Opcode, readHeader, unmask, writeHeader, WS_HEADER_BYTES_MAX } from './framing.ts';
import { answerFault, HEAD_BYTES_MAX, headEnd, parseHead, upgradeAnswer, upgradeKey, upgradeRequest, type HttpHead } from './upgrade.ts';

/** What Node itself asks to tell a slow connection from one on which nothing moves; TLS has its own, above that of the connection. */
interface SocketHandle {
  readonly writeQueueSize?: number;
  readonly _parent?: SocketHandle;
}

export interface LinkSocketEvents {
  /** The other side has agreed to be a WebSocket. Of a client only. */
  opened(): void;
  text(bytes: Uint8Array): void;
  /** A binary message, where the socket read put it: it is gone when the call returns, but for what is leased of `memory`. */
  binary(bytes: Uint8Array, memory: Slab): void;
  /** The answer to a ping. */
  pong(): void;
  malformed(reason: string): void;
  /** Once, last of all. `error`: why, if the socket says so. */
  closed(error: string | null): void;
}

/** Somebody asks for a WebSocket: the status with which he is refused, or null. */
export type Decide = (head: HttpHead) => string | null;

/** How a link that is dialled says who it is: by the token of its machine, or by certificates, each end of which is looked at. */
export type DialAs =
  | { readonly token: string }
  | { readonly credentials: Credentials; /** Why that end is not the one that is wanted, or null. */ readonly refusal: (certificate: X509Certificate | undefined, fault: string | null) => string | null; /** It does not want this end. */ readonly refused: (reason: string) => void };

/** `open` after the handshake; `closing` when nothing more is sent, or wanted. */
type Phase = 'upgrade' | 'open' | 'closing' | 'closed';

/**
 * One WebSocket, from its handshake on. The general ones allocate a buffer for every socket read and join what a message is spread over, which is a
 * fifth of all time in garbage collection where a message is a batch of blocks; here the socket reads into memory that is used again, messages
 * are parsed where they lie, and a header is written into the room before a batch.
 */
export class LinkSocket {
  readonly side: 'client' | 'server';
  /** Set by whoever gets it from `dial` or `accept`, at once. */
  events: LinkSocketEvents = NOBODY;
  /** Settled when nothing of it is left. */
  readonly gone: Promise<void>;
  readonly #gone = Promise.withResolvers<void>();
  readonly #window: ReceiveWindow;
  #socket: Socket;
  #phase: Phase = 'upgrade';
  #error: string | null = null;
  readonly #upgrade: (head: HttpHead) => void;
  #timer: NodeJS.Timeout | null = null;

  private constructor(side: 'client' | 'server', pool: SlabPool, makeSocket: (link: LinkSocket) => Socket, upgrade: (link: LinkSocket, head: HttpHead) => void) {
    this.side = side;
    this.gone = this.#gone.promise;
    this.#window = new ReceiveWindow(pool, LINK_SLAB_BYTES_FIRST, LINK_SLAB_BYTES_MIN, LINK_SLAB_BYTES_MAX);
    this.#upgrade = (head) => upgrade(this, head);
    this.#socket = makeSocket(this);
    this.#listen(this.#socket);
  }

  static dial(address: LinkAddress, as: DialAs, pool: SlabPool): LinkSocket {
    const key = randomBytes(16).toString('base64');
    const host = 'path' in address ? 'localhost' : address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
    const link = new LinkSocket('client', pool, (made) => {
      const onread = { buffer: () => made.#window.target(), callback: (bytes: number) => made.#received(bytes) };
      if ('path' in address) return connect({ path: address.path, onread });
      const { host: name, port } = address;
      if ('token' in as) return connect({ host: name, port, onread });
      // Whose certificate it is, is looked at by `refusal`, so that every kind of stranger gets its own words.
      return connectTls({ host: name, port, ...as.credentials, ...TLS, rejectUnauthorized: false, checkServerIdentity: () => undefined, ...{ onread } });
    }, (opened, head) => {
      const fault = answerFault(head, key);
      if (fault !== null) {
        if ('refused' in as) as.refused(fault);
        return opened.#refused(fault);
      }
      opened.#phase = 'open';
      opened.events.opened();
    });
    const socket = link.#socket;
    if ('token' in as || !(socket instanceof TLSSocket)) {
      socket.write(upgradeRequest(host, key, 'token' in as ? as.token : null));
      return link;
    }
    socket.once('secureConnect', () => {
      const refused = as.refusal(socket.getPeerX509Certificate(), faultOf(socket));
      if (refused !== null) return link.#refused(refused);
      socket.write(upgradeRequest(host, key, null));
    });
    return link;
  }

  /** Of a socket that was accepted paused. `begin` is called when it has become a WebSocket; `gone` if it does not. */
  static accept(accepted: Socket, pool: SlabPool, decide: Decide, begin: (link: LinkSocket) => void, gone: (link: LinkSocket) => void): LinkSocket {
    let begun = false;
    const link = new LinkSocket('server', pool, (made) => {
      const adopted = accepted instanceof TLSSocket ? null : adopt(accepted, { buffer: () => made.#window.target(), callback: (bytes) => made.#received(bytes) });
      // The server counts what it has accepted; what is left of it is empty now.
      if (adopted) accepted.destroy();
      else accepted.on('data', (chunk: Buffer) => made.#copied(chunk)).resume();
      return adopted ?? accepted;
    }, (asked, head) => {
      const asks = upgradeKey(head);
      const refused = 'refused' in asks ? asks.refused : decide(head);
      if (refused !== null || 'refused' in asks) {
        asked.#socket.write(`HTTP/1.1 ${refused}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
        return asked.#end();
      }
      asked.#stopTimer();
      asked.#socket.write(upgradeAnswer(asks.key));
      asked.#phase = 'open';
      begun = true;
      begin(asked);
    });
    link.events = { ...NOBODY, closed: () => { if (!begun) gone(link); } };
    link.#timer = setTimeout(() => link.terminate(), HANDSHAKE_MS);
    return link;
  }

  get open(): boolean { return this.#phase === 'open' && this.#socket.writable; }
  /** Bytes that wait for the other side to read. */
  get bufferedBytes(): number { return this.#socket.writableLength; }
  get receivedBytes(): number { return this.#socket.bytesRead; }
  /** Of what was written, the bytes that the kernel has not taken yet. */
  get queuedBytes(): number {
    const handle = (this.#socket as unknown as { readonly _handle?: SocketHandle | null })._handle;
    return (handle?._parent ?? handle)?.writeQueueSize ?? 0;
  }
  get remote(): string { return this.#socket.remoteAddress ?? 'unix'; }
  /** Of the other end, where the link is TLS. */
  get certificate(): X509Certificate | undefined { return this.#socket instanceof TLSSocket ? this.#socket.getPeerX509Certificate() : undefined; }

  /** A binary message: bytes[WS_HEADER_BYTES_MAX, end). They may change again when `sent` is called, which it also is if they are lost. */
  sendBinary(bytes: Uint8Array, view: DataView, end: number, sent: () => void): void {
    const start = writeHeader(view, WS_HEADER_BYTES_MAX, Opcode.binary, end - WS_HEADER_BYTES_MAX, this.side === 'client');
    // TLS completes no write in its own call.
    if (this.#socket instanceof TLSSocket) this.#socket.write(bytes.subarray(start, end), sent);
    else writeAtOnce(this.#socket, bytes.subarray(start, end), sent);
  }

  sendText(text: string): void { this.#send(Opcode.text, Buffer.from(text)); }
  ping(): void { this.#send(Opcode.ping, new Uint8Array(0)); }

  #send(opcode: Opcode, payload: Uint8Array): void {
    const message = Buffer.allocUnsafeSlow(WS_HEADER_BYTES_MAX + payload.length);
    message.set(payload, WS_HEADER_BYTES_MAX);
    const start = writeHeader(new DataView(message.buffer), WS_HEADER_BYTES_MAX, opcode, payload.length, this.side === 'client');
    if (this.#socket.writable) this.#socket.write(message.subarray(start));
  }

  /** In order: what was sent before it arrives. */
  close(): void {
    if (this.#phase === 'open') this.#send(Opcode.close, Uint8Array.of(0x03, 0xe8)); // 1000: normal
    this.#end();
  }

  terminate(): void { this.#socket.destroy(); }

  #end(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closing';
    this.#socket.end();
    this.#stopTimer();
    // One that takes nothing any more is not waited for.
    this.#timer = setTimeout(() => this.#socket.destroy(), CLOSE_MS);
  }

  #listen(socket: Socket): void {
    socket.setNoDelay(true);
    socket.on('error', (error: Error) => { this.#error ??= error.message; });
    socket.on('end', () => socket.destroy());
    socket.on('close', () => this.#closed());
  }

  #closed(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#stopTimer();
    this.#window.close();
    this.events.closed(this.#error);
    this.#gone.resolve();
  }

  #stopTimer(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #refused(reason: string): void {
    this.#error ??= reason;
    this.#socket.destroy();
  }

  #copied(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      const target = this.#window.target();
      const bytes = Math.min(target.length, chunk.length - at);
      target.set(chunk.subarray(at, at + bytes));
      at += bytes;
      this.#received(bytes);
    }
  }

  #received(bytes: number): boolean {
    const window = this.#window;
    window.filled(bytes);
    if (this.#phase === 'upgrade') this.#receivedHead();
    while (this.#phase === 'open' && window.length > 0) if (!this.#receivedFrame()) break;
    if (this.#phase === 'closing') window.start = window.end;
    return true;
  }

  #receivedHead(): void {
    const window = this.#window;
    const { bytes } = window.slab;
    const end = headEnd(bytes, window.start, window.end);
    if (end < 0) {
      if (window.length > HEAD_BYTES_MAX) this.#refused('an HTTP head that does not end');
      return;
    }
    const head = parseHead(Buffer.from(bytes.buffer, bytes.byteOffset + window.start, end - window.start).toString('latin1'));
    window.start = end;
    this.#upgrade(head);
  }

  /** The next message, if all of it is there. */
  #receivedFrame(): boolean {
    const window = this.#window;
    const { slab, start, end } = window;
    const header = readHeader(slab.bytes, start, end, this.side === 'server');
    window.needed = 0;
    if (header === null) return false;
    if ('malformed' in header) return this.#malformed(header.malformed);
    const { opcode, headerBytes, payloadBytes } = header;
    if (payloadBytes > LINK_MESSAGE_BYTES_MAX) return this.#malformed(`a message of ${payloadBytes} bytes`);
    const from = start + headerBytes;
    const to = from + payloadBytes;
    if (to > end) {
      window.needed = headerBytes + payloadBytes;
      return false;
    }
    // Before it is handed over: what follows must not be parsed twice, whatever becomes of this.
    window.start = to;
    const payload = slab.bytes.subarray(from, to);
    unmask(payload, header.mask);
    switch (opcode) {
      case Opcode.binary:
        this.events.binary(payload, slab);
        return true;
      case Opcode.text:
        this.events.text(payload);
        return true;
      case Opcode.ping:
        this.#send(Opcode.pong, payload);
        return true;
      case Opcode.pong:
        this.events.pong();
        return true;
      case Opcode.close:
        this.close();
        return false;
    }
  }

  #malformed(reason: string): boolean {
    this.events.malformed(reason);
    return false;
  }
}

/** Both ends are ours: no older version is spoken. */
export const TLS = { minVersion: 'TLSv1.3' } as const;

/** What TLS found wrong with the other end's certificate, or null. */
export function faultOf(socket: TLSSocket): string | null {
  // A resumed session is as old as its ticket: its certificate was looked at then. None of ours asks for it.
  if (socket.isSessionReused()) return 'a resumed session';
  if (socket.authorized) return null;
  // Typed as an error; it is the name of OpenSSL's code.
  const fault: unknown = socket.authorizationError;
  return typeof fault === 'string' ? fault : fault instanceof Error ? fault.message : 'not authorized';
}

const NOBODY: LinkSocketEvents = { opened: () => undefined, text: () => undefined, binary: () => undefined, pong: () => undefined, malformed: () => undefined, closed: () => undefined };
