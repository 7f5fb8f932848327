import { assert } from '@ashlar/words';
import { type Frame, Op, type PayloadLease, ReceiveWindow, type Slab, type SlabPool, Status } from '@ashlar/protocol';
import type { NbdReplies } from './backend.ts';
import { Command, CommandFlag, NbdError, REQUEST_HEADER_BYTES, REQUEST_MAGIC } from './constants.ts';
import type { ExportDirectory, NbdExport, Peer } from './export.ts';
import { type Agreement, Handshake, type TlsMode } from './handshake.ts';
import { SLAB_BYTES_FIRST, SLAB_BYTES_MAX, SLAB_BYTES_MIN, SOCKET_HOLDS_BYTES_MAX } from './limits.ts';
import { type ReplyMemory, ReplyWriter } from './reply-writer.ts';
import { RequestBatch } from './request-batch.ts';
import { heldBytes, isWriteCommand, opFlagsOf, opOf, refusal } from './requests.ts';
import { Slots } from './slots.ts';

/** What a session asks of the socket it lives on. */
export interface SessionPort {
  /** Sends the pieces in order, then releases the leases. False: the client takes its answers too slowly; `drained` follows. */
  write(pieces: readonly Uint8Array[], leases: readonly PayloadLease[]): boolean;
  /** Calls `turn` when what is going on now is over, and before anything new is read. */
  scheduleTurn(): void;
  /**
   * Reading may go on, after `mayRead` said no. `readThrough` follows, once for each call, when the socket has been looked at since.
   * Called again while reading goes on, it asks for another look.
   */
  resume(): void;
  /** Wraps the connection in TLS when what was written is on its way; `secured` follows. */
  startTls(): void;
  /** The handshake is over: its deadline does not count any more. */
  agreed(target: NbdExport): void;
  /** Closes when what was written is on its way; `closed` follows. */
  end(): void;
  /** Closes at once, for the client's fault; `closed` follows. */
  abort(reason: string): void;
}

type Phase =
  | 'handshake'
  /** STARTTLS was granted; what comes next is for the TLS layer. */
  | 'securing'
  | 'transmission'
  /** Nothing more is parsed; ends when everything is answered. */
  | 'finishing'
  | 'closed';

/** REQ_ONE beside the op in a slot's kind. */
const KIND_REQ_ONE = 0x100;

/**
 * One client's connection, from greeting to end, without a socket: bytes go in (`receiveTarget`, `received`), frames of requests go to the
 * backend, replies come back and leave through the port. Runs to completion; holds no timer.
 */
export class ServerSession implements NbdReplies, Peer {
  readonly #port: SessionPort;
  readonly #handshake: Handshake;
  #window: ReceiveWindow;
  #phase: Phase = 'handshake';
  #agreement: Agreement | null = null;
  readonly #batch = new RequestBatch();
  readonly #slots = new Slots();
  readonly #writer = new ReplyWriter();
  #leases: PayloadLease[] = [];
  /** Bytes of a refused write that are still to come. */
  #skip = 0;
  /** The client takes its answers too slowly. */
  #choked = false;
  /** Complete requests are held back until the export has room. */
  #waiting = false;
  #paused = false;
  caughtUp = true;
  receivedBytes = 0;
  /** Looks at the socket that have not ended. */
  #looks = 0;
  /** `receivedBytes` when the last look was asked for, and when reading went on. */
  #lookedAt = 0;
  #resumedAt = 0;
  /** Older connections that are to catch up before this one is served, and how much is then to be read of each; null: not looked yet. */
  #elders: Map<Peer, number> | null = null;
  #admittedOnce = false;
  #unsettled = false;
  #ended = false;
  #inTurn = false;
  #turnScheduled = false;
  #closing = false;

  constructor(port: SessionPort, exports: ExportDirectory, tls: TlsMode, pool: SlabPool) {
    this.#port = port;
    this.#window = new ReceiveWindow(pool, SLAB_BYTES_FIRST, SLAB_BYTES_MIN, SLAB_BYTES_MAX);
    this.#handshake = new Handshake(exports, tls, (bytes) => this.#send(bytes));
  }

  /** The export that is served, after the handshake. */
  get target(): NbdExport | null {
    return this.#agreement?.target ?? null;
  }

  get unanswered(): number {
    return this.#slots.used;
  }

  /** Greets the client. */
  open(): void {
    this.#send(this.#handshake.greeting());
  }

  /** Asked after each read. False: the socket is left unread until `resume`. */
  mayRead(): boolean {
    this.#paused = !this.#wantsBytes;
    if (this.#paused) this.caughtUp = false;
    return !this.#paused;
  }

  get #wantsBytes(): boolean {
    return (this.#phase === 'handshake' || this.#phase === 'transmission') && !this.#choked && !this.#waiting;
  }

  /** Where the next bytes of the socket go. */
  receiveTarget(): Uint8Array {
    return this.#window.target();
  }

  /** So many bytes were put where `receiveTarget` said. */
  received(bytes: number): void {
    if (this.#phase === 'closed' || this.#phase === 'finishing') return;
    if (this.#phase === 'securing') {
      // The rest of a chunk whose first part ended with STARTTLS.
      this.#abort(CLEAR_BYTES);
      return;
    }
    this.receivedBytes += bytes;
    this.#window.filled(bytes);
    this.turn();
  }

  /** Parses what may be parsed, and sends what there is to send. */
  turn(): void {
    this.#turnScheduled = false;
    if (this.#inTurn) return;
    this.#inTurn = true;
    this.#parse();
    this.#flush();
    this.#inTurn = false;
    if (!this.#paused || !this.#wantsBytes) return;
    this.#paused = false;
    this.#resumedAt = this.receivedBytes;
    this.#look();
  }

  #look(): void {
    this.#looks++;
    this.#lookedAt = this.receivedBytes;
    this.#port.resume();
  }

  /** The socket has been looked at. One look brings less than a socket may hold: what lay there has been read when a look brings nothing. */
  readThrough(): void {
    this.#looks--;
    // Paused again since, or begun before that: such a look says nothing.
    if (this.#looks > 0 || this.#paused || this.caughtUp) return;
    // A client that never stops sending is not looked at for ever.
    if (this.receivedBytes > this.#lookedAt && this.receivedBytes - this.#resumedAt < SOCKET_HOLDS_BYTES_MAX) return this.#look();
    this.caughtUp = true;
    this.target?.wake();
  }

  /** The client has closed its side. What was asked is still answered. */
  ended(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'finishing';
    this.#leave();
    this.turn();
  }

  /** The socket has taken what was written. */
  drained(): void {
    if (!this.#choked) return;
    this.#choked = false;
    this.turn();
  }

  secured(): void {
    // The connection may have been ended while TLS was on its way.
    if (this.#phase !== 'securing') return;
    this.#phase = 'handshake';
    this.#handshake.secured();
  }

  /** New requests are refused with ESHUTDOWN; the connection ends when all earlier ones are answered. */
  shutdown(): void {
    this.#closing = true;
    this.#handshake.closing = true;
    this.#scheduleTurn();
  }

  /** Nothing more is parsed; the connection ends when everything is answered. What was received and not yet looked at was never asked. */
  drain(): void {
    this.ended();
  }

  /** The socket is gone. Requests that are unanswered hold back the export's next connections. */
  closed(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#leave();
    this.#window.close();
    for (const lease of this.#leases) lease.release();
    this.#leases = [];
  }

  /** Nothing more will come from this client. What is unanswered holds back connections that follow. */
  #leave(): void {
    this.#waiting = false;
    const { target } = this;
    if (!target) return;
    target.leave(this);
    if (this.#slots.used > 0 && !this.#unsettled) {
      this.#unsettled = true;
      target.unsettle();
    }
    target.wake();
  }

  /** The export has room again, or has settled. */
  proceed(): void {
    this.#waiting = false;
    this.#scheduleTurn();
  }

  replied(reply: Frame): void {
    const { target } = this;
    assert(target !== null, 'only requests are answered');
    const { count, lease } = reply;
    const open = this.#phase !== 'closed';
    const memory: ReplyMemory | null = open && reply.payload.length > 0 ? { bytes: reply.payload, view: viewOf(reply.payload) } : null;
    for (let i = 0; i < count; i++) {
      const tag = reply.requestNumber(i);
      const kind = this.#slots.kind(tag);
      assert(kind !== 0 && (kind & 0xff) === reply.op(i), 'an answer is to a request that was made, and only one');
      if (open) this.#answer(reply, i, tag, kind, memory);
      target.give(heldBytes(reply.op(i), this.#slots.length(tag)));
      this.#slots.release(tag);
    }
    if (lease && open) this.#leases.push(lease);
    else lease?.release();
    if (this.#unsettled && this.#slots.used === 0) {
      this.#unsettled = false;
      target.settle();
    }
    target.wake();
    if (!open || this.#inTurn) return;
    // The last answer goes at once: nothing that could be sent with it is on its way.
    if (this.#slots.used === 0) this.turn();
    else this.#scheduleTurn();
  }

  #answer(reply: Frame, i: number, tag: number, kind: number, memory: ReplyMemory | null): void {
    const slots = this.#slots;
    const writer = this.#writer;
    const high = slots.cookieHigh(tag);
    const low = slots.cookieLow(tag);
    const op = reply.op(i);
    const error = errorOf(reply.status(i));
    const structured = this.#agreement?.structuredReplies === true;
    if (op !== Op.read && op !== Op.status) return writer.simple(high, low, error);
    if (error !== NbdError.none) return structured ? writer.errorChunk(high, low, error) : writer.simple(high, low, error);
    assert(memory !== null, 'bytes that were read are there');
    const at = reply.payloadAt(i);
    const length = reply.lengthBytes(i);
    if (op === Op.status) {
      const one = (kind & KIND_REQ_ONE) !== 0;
      return writer.blockStatus(high, low, memory, at, one ? 1 : Math.floor(length / 8), one ? slots.length(tag) : 0xffffffff);
    }
    assert(length === slots.length(tag), 'as much was read as was asked for');
    if (structured) writer.structuredRead(high, low, slots.offsetHigh(tag), slots.offsetLow(tag), memory, at, length);
    else writer.simpleRead(high, low, memory, at, length);
  }

  #parse(): void {
    while (this.#phase === 'handshake' && !this.#choked) if (!this.#negotiate()) break;
    if (this.#phase === 'transmission') this.#requests();
    if (this.#phase === 'finishing' && this.#slots.used === 0) this.#finish();
  }

  /** One item of the handshake. False: there is nothing more to do now. */
  #negotiate(): boolean {
    const window = this.#window;
    const step = this.#handshake.step(window.slab.bytes.subarray(window.start, window.end));
    switch (step.kind) {
      case 'more':
        window.needed = step.bytes;
        if (this.#closing && window.length === 0) this.#phase = 'finishing';
        return false;
      case 'took':
        this.#took(step.bytes);
        return true;
      case 'tls':
        this.#took(step.bytes);
        // Bytes in the clear behind STARTTLS would be taken for the client's, whoever put them there.
        if (window.length > 0) return this.#abort(CLEAR_BYTES);
        this.#phase = 'securing';
        this.#flush();
        this.#port.startTls();
        return false;
      case 'agreed':
        this.#took(step.bytes);
        this.#agreement = step.agreement;
        this.#phase = 'transmission';
        step.agreement.target.enter(this);
        this.#port.agreed(step.agreement.target);
        return false;
      case 'end':
        this.#phase = 'finishing';
        return false;
      case 'malformed':
        return this.#abort(step.reason);
    }
  }

  #took(bytes: number): void {
    this.#window.start += bytes;
    this.#window.needed = 0;
  }

  /** All complete requests, as far as there is room for them. */
  #requests(): void {
    const { target } = this.#agreement as Agreement;
    if (!this.#admitted(target)) {
      this.#waiting = true;
      target.wait(this);
      return;
    }
    const window = this.#window;
    while (this.#phase === 'transmission' && !this.#choked && !this.#waiting) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, window.length);
        this.#skip -= skipped;
        this.#took(skipped);
        if (this.#skip > 0) break;
      }
      if (!this.#request(target)) break;
    }
    this.#submit();
    if (!this.#waiting) target.leaveLine(this);
    if (this.#phase === 'transmission' && (this.#closing || target.closing) && this.#slots.used === 0 && !this.#waiting && window.length === 0) this.#phase = 'finishing';
  }

  /**
   * Nobody overtakes older requests: those of connections that have ended are answered first, and a connection that was left unread, whose
   * client may long be gone, is read first. Otherwise a request that a client sent again, and then overwrote, could be carried out last.
   */
  #admitted(target: NbdExport): boolean {
    if (this.#admittedOnce) return true;
    if (!target.settled) return false;
    const peers = [...target.peers];
    // In the order in which they came. Those that came after us wait for us: two that waited for each other would wait for ever.
    this.#elders ??= new Map(peers.slice(0, peers.indexOf(this)).filter((peer) => !peer.caughtUp).map((peer) => [peer, peer.receivedBytes + SOCKET_HOLDS_BYTES_MAX]));
    const present = new Set(peers);
    for (const [peer, bytes] of this.#elders) if (!present.has(peer) || peer.caughtUp || peer.receivedBytes >= bytes) this.#elders.delete(peer);
    this.#admittedOnce = this.#elders.size === 0;
    return this.#admittedOnce;
  }

  /** One request. False: it has not arrived in full, or must wait. */
  #request(target: NbdExport): boolean {
    const window = this.#window;
    const { start, slab: { view } } = window;
    if (window.length < REQUEST_HEADER_BYTES) {
      window.needed = REQUEST_HEADER_BYTES;
      return false;
    }
    if (view.getUint32(start) !== REQUEST_MAGIC) return this.#abort('request without its magic number');
    const flags = view.getUint16(start + 4);
    const command = view.getUint16(start + 6);
    const offsetHigh = view.getUint32(start + 16);
    const offsetLow = view.getUint32(start + 20);
    const length = view.getUint32(start + 24);
    if (command === Command.disconnect) {
      this.#submit();
      this.#phase = 'finishing';
      this.#leave();
      return false;
    }
    const offset = offsetHigh * 0x100000000 + offsetLow;
    const closing = this.#closing || target.closing;
    const error = closing ? NbdError.shutdown : refusal(command, flags, offset, length, this.#agreement as Agreement);
    if (error !== NbdError.none) return this.#refuse(command, error, view.getUint32(start + 8), view.getUint32(start + 12), length);
    const op = opOf(command) as Op;
    const total = REQUEST_HEADER_BYTES + (op === Op.write ? length : 0);
    if (window.length < total) {
      window.needed = total;
      return false;
    }
    const held = heldBytes(op, length);
    if (!target.hasRoom(held, this)) {
      this.#submit();
      // A backend that answers at once may have made room.
      if (!target.hasRoom(held, this)) {
        this.#waiting = true;
        target.standInLine(this, held);
        return false;
      }
    }
    const dataAt = start + REQUEST_HEADER_BYTES;
    if (!this.#batch.fits(op, length, dataAt)) this.#submit();
    const kind = flags & CommandFlag.reqOne ? op | KIND_REQ_ONE : op;
    const tag = this.#slots.take(kind, view.getUint32(start + 8), view.getUint32(start + 12), offsetHigh, offsetLow, length);
    target.take(held);
    const ranged = op !== Op.flush;
    this.#batch.add(tag, op, opFlagsOf(op, flags), ranged ? offset : 0, ranged ? length : 0, dataAt);
    this.#took(total);
    return true;
  }

  /** Answered here, without the backend. A refused write's bytes are skipped as they come. */
  #refuse(command: number, error: NbdError, cookieHigh: number, cookieLow: number, length: number): boolean {
    const structured = this.#agreement?.structuredReplies === true && (command === Command.read || command === Command.blockStatus);
    if (structured) this.#writer.errorChunk(cookieHigh, cookieLow, error);
    else this.#writer.simple(cookieHigh, cookieLow, error);
    this.#took(REQUEST_HEADER_BYTES);
    if (!isWriteCommand(command)) return true;
    // The batch ends here, so that no frame carries the bytes of a refused write.
    this.#submit();
    this.#skip = length;
    return true;
  }

  #submit(): void {
    if (this.#batch.count === 0) return;
    const { target } = this.#agreement as Agreement;
    const slab: Slab = this.#window.slab;
    const lease = this.#batch.dataStart < 0 ? NOTHING_LEASED : slab.lease();
    target.backend.submit(this.#batch.toFrame(slab.bytes, target.backend.checksums), this, lease);
  }

  #send(bytes: Uint8Array): void {
    if (!this.#port.write([bytes], [])) this.#choked = true;
  }

  #flush(): void {
    if (this.#writer.empty || this.#phase === 'closed') return;
    const leases = this.#leases;
    if (leases.length > 0) this.#leases = [];
    if (!this.#port.write(this.#writer.take(), leases)) this.#choked = true;
  }

  #scheduleTurn(): void {
    if (this.#turnScheduled || this.#phase === 'closed') return;
    this.#turnScheduled = true;
    this.#port.scheduleTurn();
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#flush();
    this.#port.end();
  }

  #abort(reason: string): false {
    this.#submit();
    this.#flush();
    this.#phase = 'finishing';
    this.#ended = true;
    this.#port.abort(reason);
    return false;
  }
}

const CLEAR_BYTES = 'data in the clear after STARTTLS';
const NOTHING_LEASED: PayloadLease = { release: () => undefined };

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function errorOf(status: Status): NbdError {
  switch (status) {
    case Status.ok: return NbdError.none;
    case Status.noSpace: return NbdError.noSpace;
    case Status.invalid: return NbdError.invalid;
    case Status.notSupported: return NbdError.notSupported;
    case Status.ioError:
    case Status.busy: return NbdError.io;
  }
}
