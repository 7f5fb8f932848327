import { randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { ActorLog, Address, DownReason, Message, Party, SendOutcome } from '@ashlar/actor';
import { SlabPool } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';
import type { LinkAddress, LinkNotice, Links, LinkView } from './api.ts';
import { ARRIVALS_MAX, HANDSHAKES_MAX, RECONNECT_MS_MAX, RECONNECT_MS_MIN, VERSION_RETRY_MS } from './limits.ts';
import { Link, NO_COMMON_VERSION } from './link.ts';
import { LinkSocket } from './websocket/link-socket.ts';

/** What the links need of the runtime that they belong to. */
export interface LinkEnd {
  parties(): readonly Party[];
  /** False: the receiver's mailbox was full, the message is lost. */
  receive(to: Address, from: Address, message: Message): boolean;
  turn(work: () => void): void;
  atOutput(callback: () => void): void;
  /** `reason`: what monitors of actors there are told when it is down. Default `unreachable`. */
  notice(notice: LinkNotice, reason?: DownReason): void;
  /** Numbers every link of this thread, of whatever kind. */
  nextIncarnation(): number;
  readonly log: ActorLog;
}

interface Dialled {
  readonly party: Party;
  address: LinkAddress;
  link: Link | null;
  retry: NodeJS.Timeout | null;
  waitMs: number;
}

/** All links of one thread, and which of them leads to whom. */
export class WebSocketLinks implements Links {
  readonly #token: string;
  readonly #end: LinkEnd;
  readonly #dialled = new Map<Party, Dialled>();
  readonly #open = new Set<Link>();
  readonly #byParty = new Map<Party, Link>();
  readonly #servers: { readonly server: Server; readonly path: string | null }[] = [];
  /** Accepted, but not asked for a link yet; oldest first. */
  readonly #arrivals = new Set<LinkSocket>();
  readonly #pool = new SlabPool();
  #closed = false;

  constructor(token: string, end: LinkEnd) {
    this.#token = token;
    this.#end = end;
  }

  send(party: Party, to: Address, from: Address, message: Message): SendOutcome {
    const link = this.#byParty.get(party);
    return link ? link.send(to, from, message) : 'unreachable';
  }

  incarnationOf(party: Party): number | null {
    return this.#byParty.get(party)?.incarnation ?? null;
  }

  /** Tells everybody which parties live here now. */
  announce(): void {
    for (const link of this.#open) link.introduce(this.#end.parties());
  }

  async listen(address: LinkAddress): Promise<LinkAddress> {
    // Accepted sockets are left unread, so that their first read already goes into our memory.
    const server = createServer({ pauseOnConnect: true });
    server.on('connection', (socket) => this.#accept(socket));
    const path = 'path' in address ? address.path : null;
    // Whoever holds the directory's lock owns the socket; one that is left over is of a process that has ended.
    if (path !== null) rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(new AshlarError('io-error', `cannot listen on ${JSON.stringify(address)}`, { cause: error })));
      server.listen(path === null ? { host: (address as { host: string }).host, port: (address as { port: number }).port } : { path }, resolve);
    });
    if (path !== null) chmodSync(path, 0o600);
    this.#servers.push({ server, path });
    const bound = server.address();
    return typeof bound === 'object' && bound !== null ? { host: bound.address, port: bound.port } : address;
  }

  #accept(socket: Socket): void {
    for (const oldest of this.#arrivals) {
      if (this.#arrivals.size < ARRIVALS_MAX) break;
      this.#arrivals.delete(oldest);
      oldest.terminate();
    }
    const arrival = LinkSocket.accept(socket, this.#pool, (head) => this.#refusal(arrival, head.headers.get('authorization')), (link) => {
      this.#arrivals.delete(link);
      this.#begin(link, null);
    }, (gone) => this.#arrivals.delete(gone));
    this.#arrivals.add(arrival);
  }

  #refusal(arrival: LinkSocket, authorization: string | undefined): string | null {
    const waiting = [...this.#open].filter((link) => !link.up).length;
    const refused = this.#closed || waiting >= HANDSHAKES_MAX ? '503 Service Unavailable' : this.#knows(authorization) ? null : '401 Unauthorized';
    if (refused !== null) this.#end.log.warn({ remote: arrival.remote, refused }, 'a link was refused');
    return refused;
  }

  /** In constant time, so that nobody can guess it byte by byte. */
  #knows(header: string | undefined): boolean {
    const expected = Buffer.from(`Bearer ${this.#token}`);
    const given = Buffer.from(header ?? '');
    return given.length === expected.length && timingSafeEqual(given, expected);
  }

  connect(party: Party, address: LinkAddress): void {
    const known = this.#dialled.get(party);
    if (known) return this.#move(known, address);
    const dialled: Dialled = { party, address, link: null, retry: null, waitMs: RECONNECT_MS_MIN };
    this.#dialled.set(party, dialled);
    this.#dial(dialled);
  }

  #move(dialled: Dialled, address: LinkAddress): void {
    const same = 'path' in address ? 'path' in dialled.address && dialled.address.path === address.path
      : 'port' in dialled.address && dialled.address.host === address.host && dialled.address.port === address.port;
    if (same) return;
    dialled.address = address;
    dialled.waitMs = RECONNECT_MS_MIN;
    // It is dialled again by `#onClosed`, or now if it was waiting for its next try.
    if (dialled.link) return dialled.link.close('moved');
    if (dialled.retry) clearTimeout(dialled.retry);
    this.#dial(dialled);
  }

  disconnect(party: Party): void {
    const dialled = this.#dialled.get(party);
    if (!dialled) return;
    this.#dialled.delete(party);
    if (dialled.retry) clearTimeout(dialled.retry);
    dialled.link?.close('disconnected');
  }

  #dial(dialled: Dialled): void {
    dialled.retry = null;
    dialled.link = this.#begin(LinkSocket.dial(dialled.address, this.#token, this.#pool), dialled);
  }

  #begin(socket: LinkSocket, dialled: Dialled | null): Link {
    const link: Link = new Link(socket, this.#end.nextIncarnation(), this.#end, {
      parties: (former, now) => this.#onParties(link, former, now, dialled),
      closed: (reason) => this.#onClosed(link, dialled, reason),
    });
    this.#open.add(link);
    return link;
  }

  #onParties(link: Link, former: readonly Party[], now: readonly Party[], dialled: Dialled | null): void {
    if (dialled) dialled.waitMs = RECONNECT_MS_MIN;
    for (const party of former) if (!now.includes(party) && this.#byParty.get(party) === link) this.#lose(party, link);
    for (const party of now) {
      const other = this.#byParty.get(party);
      if (other === link) continue;
      // The newer link counts. Nothing of the older is delivered after this.
      if (other) {
        this.#lose(party, other);
        other.forget(party);
      }
      this.#byParty.set(party, link);
      this.#end.log.info({ party, incarnation: link.incarnation }, 'link up');
      this.#end.notice({ kind: 'link-up', party, incarnation: link.incarnation });
    }
  }

  #lose(party: Party, link: Link): void {
    this.#byParty.delete(party);
    this.#end.notice({ kind: 'link-down', party, incarnation: link.incarnation });
  }

  #onClosed(link: Link, dialled: Dialled | null, reason: string): void {
    this.#open.delete(link);
    for (const [party, other] of this.#byParty) {
      if (other !== link) continue;
      this.#end.log.info({ party, incarnation: link.incarnation, reason }, 'link down');
      this.#lose(party, link);
    }
    if (!dialled || this.#closed || this.#dialled.get(dialled.party) !== dialled) return;
    dialled.link = null;
    dialled.retry = setTimeout(() => this.#dial(dialled), reason === NO_COMMON_VERSION ? VERSION_RETRY_MS : dialled.waitMs);
    dialled.waitMs = Math.min(dialled.waitMs * 2, RECONNECT_MS_MAX);
  }

  up(): readonly Party[] { return [...this.#byParty.keys()]; }

  waitUntilUp(party: Party, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const endMs = performance.now() + timeoutMs;
      const look = (): void => {
        if (this.#byParty.has(party)) return resolve();
        if (performance.now() >= endMs) return reject(new AshlarError('timeout', `no link to ${party} after ${timeoutMs} ms`, { retry: 'later', peer: party }));
        setTimeout(look, 5);
      };
      look();
    });
  }

  inspect(): readonly LinkView[] { return [...this.#open].map((link) => link.inspect()); }

  async close(): Promise<void> {
    this.#closed = true;
    for (const party of this.#dialled.keys()) this.disconnect(party);
    const links = [...this.#open];
    for (const link of links) link.close('shutdown');
    for (const arrival of this.#arrivals) arrival.terminate();
    for (const { server, path } of this.#servers.splice(0)) {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (path !== null) rmSync(path, { force: true });
    }
    // What was sent last is on its way until then.
    await Promise.all(links.map((link) => link.gone));
  }
}

/** A secret for the links of a new site. */
export function newLinkToken(): string {
  return randomBytes(24).toString('base64url');
}
