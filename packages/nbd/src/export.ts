import { assert } from '@ashlar/words';
import type { NbdBackend } from './backend.ts';

/** A session as the others of its export see it. */
export interface Peer {
  /** There may be room now, or what was waited for may have happened; called once for each time that it waited. */
  proceed(): void;
  /** False while bytes that its client sent may lie unread in the socket, because it was left unread. */
  readonly caughtUp: boolean;
  readonly receivedBytes: number;
}

/** One export and what its connections share: the room for unanswered requests, and the order in which connections follow each other. */
export class NbdExport {
  readonly name: string;
  readonly backend: NbdBackend;
  /** Refuses new requests: the volume is being detached, or the server shuts down. */
  closing = false;
  #requests = 0;
  #bytes = 0;
  #unsettled = 0;
  /** Connections that older ones hold back. */
  readonly #waiting = new Set<Peer>();
  /** Connections whose next request found no room, and its bytes, in the order in which they began to wait. Nobody passes the first, or small requests would starve large ones. */
  readonly #line = new Map<Peer, number>();
  /** The first in line was told that there is room, and has not been served yet. */
  #called = false;
  readonly #peers = new Set<Peer>();

  constructor(name: string, backend: NbdBackend) {
    this.name = name;
    this.backend = backend;
  }

  get unansweredRequests(): number {
    return this.#requests;
  }

  get unansweredBytes(): number {
    return this.#bytes;
  }

  /** Whether a request of this session may be taken now; otherwise it has to stand in line. */
  hasRoom(bytes: number, session: Peer): boolean {
    if (this.#line.size > 0 && this.#first !== session) return false;
    return this.#fits(bytes);
  }

  get #first(): Peer | undefined {
    return this.#line.keys().next().value;
  }

  #fits(bytes: number): boolean {
    if (this.#requests === 0) return true;
    const { requestsMax, bytesMax } = this.backend.limits;
    return this.#requests < requestsMax && this.#bytes + bytes <= bytesMax;
  }

  take(bytes: number): void {
    this.#requests++;
    this.#bytes += bytes;
  }

  give(bytes: number): void {
    this.#requests--;
    this.#bytes -= bytes;
    assert(this.#requests >= 0 && this.#bytes >= 0, 'what is given back was taken');
  }

  /** False while requests of a connection that has ended are unanswered: nobody may overtake them. */
  get settled(): boolean {
    return this.#unsettled === 0;
  }

  /** A connection ended with requests unanswered. */
  unsettle(): void {
    this.#unsettled++;
  }

  settle(): void {
    this.#unsettled--;
    assert(this.#unsettled >= 0, 'a connection is settled once');
  }

  /** The sessions that serve this export now, in the order in which they began to. */
  get peers(): Iterable<Peer> {
    return this.#peers;
  }

  enter(session: Peer): void {
    this.#peers.add(session);
  }

  leave(session: Peer): void {
    this.#peers.delete(session);
    this.#waiting.delete(session);
    this.leaveLine(session);
  }

  /** To the end of the line, also from its front: who was served in part lets the others go first. */
  standInLine(session: Peer, bytes: number): void {
    this.leaveLine(session);
    this.#line.set(session, bytes);
  }

  /** Served, or gone: the next one's turn. */
  leaveLine(session: Peer): void {
    if (this.#line.size === 0) return;
    if (this.#first === session) this.#called = false;
    this.#line.delete(session);
    this.#call();
  }

  wait(session: Peer): void {
    this.#waiting.add(session);
  }

  /** Lets the first in line go on if its request fits, and everyone who is held back look again, in the order in which they began to wait. */
  wake(): void {
    this.#call();
    if (this.#waiting.size === 0 || !this.#fits(0)) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const session of waiting) session.proceed();
  }

  /** It keeps its place until it was served: what is free now would be gone by its turn. */
  #call(): void {
    if (this.#line.size === 0 || this.#called) return;
    const [session, bytes] = this.#line.entries().next().value as [Peer, number];
    if (!this.#fits(bytes)) return;
    this.#called = true;
    session.proceed();
  }
}

/** The exports of one server, as clients can name them. */
export interface ExportDirectory {
  find(name: string): NbdExport | undefined;
  /** What a client that asks is told; empty where exports are not listed. */
  list(): Iterable<NbdExport>;
}
