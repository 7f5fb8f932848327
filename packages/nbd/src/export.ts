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
  readonly #waiting = new Set<Peer>();
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

  hasRoom(bytes: number): boolean {
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

  /** The sessions that serve this export now. */
  get peers(): Iterable<Peer> {
    return this.#peers;
  }

  enter(session: Peer): void {
    this.#peers.add(session);
  }

  leave(session: Peer): void {
    this.#peers.delete(session);
    this.#waiting.delete(session);
  }

  wait(session: Peer): void {
    this.#waiting.add(session);
  }

  /** Lets everyone who waits look again, in the order in which they began to. */
  wake(): void {
    if (this.#waiting.size === 0 || !this.hasRoom(0)) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const session of waiting) session.proceed();
  }
}

/** The exports of one server, as clients can name them. */
export interface ExportDirectory {
  find(name: string): NbdExport | undefined;
  /** What a client that asks is told; empty where exports are not listed. */
  list(): Iterable<NbdExport>;
}
