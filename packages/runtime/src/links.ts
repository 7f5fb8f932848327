import { randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { ActorLog, Address, DownReason, Message, Party, SendOutcome } from '@ashlar/actor';
import { SlabPool } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';
import type { LinkAddress, LinkNotice, Links, LinkView, PeerTrust } from './api.ts';
import { ARRIVALS_MAX, CLOSE_MS, HANDSHAKE_MS, HANDSHAKES_MAX, LINK_AFRESH_MS, RECONNECT_MS_MAX, RECONNECT_MS_MIN, VERSION_RETRY_MS } from './limits.ts';
import { Link, NO_COMMON_VERSION } from './link.ts';
import { RefusalLog } from './refusal-log.ts';
import { faultOf, LinkSocket, TLS, type DialAs } from './websocket/link-socket.ts';

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
  /** Tried while nothing comes over the link: whichever is heard first stays. */
  afresh: { readonly link: Link; readonly beganMs: number } | null;
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
  /** Accepted, but not through with TLS yet; by address and port of the other end, oldest first. */
  readonly #handshakes = new Map<string, Socket>();
  readonly #trust: PeerTrust | null;
  readonly #refusals: RefusalLog;
  #closed = false;

  constructor(token: string, end: LinkEnd, trust: PeerTrust | null) {
    this.#token = token;
    this.#end = end;
    this.#trust = trust;
    this.#refusals = new RefusalLog(end.log);
    trust?.onChange(() => this.#judgeAgain());
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
    const server = this.#trust === null || 'path' in address ? this.#plainServer() : this.#tlsServer(this.#trust);
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

  #plainServer(): Server {
    // Accepted sockets are left unread, so that their first read already goes into our memory.
    const server = createServer({ pauseOnConnect: true });
    server.on('connection', (socket) => this.#accept(socket, false));
    return server;
  }

  #tlsServer(trust: PeerTrust): Server {
    const server = createTlsServer({ ...trust.credentials(), ...TLS, requestCert: true, rejectUnauthorized: false, handshakeTimeout: HANDSHAKE_MS });
    trust.onChange(() => server.setSecureContext({ ...trust.credentials(), ...TLS }));
    server.on('connection', (socket: Socket) => this.#shakeHands(socket));
    server.on('tlsClientError', (error, socket) => {
      // One that goes away is no stranger yet: it may have been a look whether somebody listens.
      if (!('code' in error) || error.code !== 'ECONNRESET') this.#refusals.refuse(socket.remoteAddress ?? 'unknown', `the TLS handshake failed: ${error.message.trim()}`);
    });
    server.on('secureConnection', (socket) => {
      this.#handshakes.delete(endOf(socket));
      const judged = trust.judge(socket.getPeerX509Certificate(), faultOf(socket));
      if ('refused' in judged) this.#sendAway(socket, judged.refused);
      else this.#accept(socket, true);
    });
    return server;
  }

  /** A flood of connections that never finish their handshake shuts nobody out who does. */
  #shakeHands(socket: Socket): void {
    for (const [end, oldest] of this.#handshakes) {
      if (this.#handshakes.size < ARRIVALS_MAX) break;
      this.#handshakes.delete(end);
      oldest.destroy();
    }
    const end = endOf(socket);
    this.#handshakes.set(end, socket);
    socket.once('close', () => this.#handshakes.delete(end));
  }

  /** It is told why: a machine that was removed finds it in its own log. */
  #sendAway(socket: TLSSocket, reason: string): void {
    this.#refusals.refuse(socket.remoteAddress ?? 'unknown', reason);
    socket.on('error', () => undefined);
    // However much it still sends: the socket's own timeout begins anew with each byte, and the end of the server waits for the socket.
    const late = setTimeout(() => socket.destroy(), CLOSE_MS);
    socket.once('close', () => clearTimeout(late));
    socket.end(`HTTP/1.1 403 ${reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  }

  #accept(socket: Socket, certified: boolean): void {
    for (const oldest of this.#arrivals) {
      if (this.#arrivals.size < ARRIVALS_MAX) break;
      this.#arrivals.delete(oldest);
      oldest.terminate();
    }
    const arrival = LinkSocket.accept(socket, this.#pool, (head) => this.#refusal(arrival, certified, head.headers.get('authorization')), (link) => {
      this.#arrivals.delete(link);
      this.#begin(link, null);
    }, (gone) => this.#arrivals.delete(gone));
    this.#arrivals.add(arrival);
  }

  #refusal(arrival: LinkSocket, certified: boolean, authorization: string | undefined): string | null {
    // Not those that this end dials: where many others are cut off, whoever is there must get in.
    const waiting = [...this.#open].filter((link) => link.accepted && !link.up).length;
    const refused = this.#closed || waiting >= HANDSHAKES_MAX ? '503 Service Unavailable' : certified || this.#knows(authorization) ? null : '401 Unauthorized';
    if (refused !== null) this.#refusals.refuse(arrival.remote, `a link without the token of this machine, or one too many (${refused})`);
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
    const dialled: Dialled = { party, address, link: null, afresh: null, retry: null, waitMs: RECONNECT_MS_MIN };
    this.#dialled.set(party, dialled);
    this.#dial(dialled);
  }

  #move(dialled: Dialled, address: LinkAddress): void {
    const same = 'path' in address ? 'path' in dialled.address && dialled.address.path === address.path
      : 'port' in dialled.address && dialled.address.host === address.host && dialled.address.port === address.port;
    if (same) return;
    dialled.address = address;
    dialled.waitMs = RECONNECT_MS_MIN;
    dialled.afresh?.link.close('moved');
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
    dialled.afresh?.link.close('disconnected');
  }

  #dial(dialled: Dialled): void {
    dialled.retry = null;
    dialled.link = this.#begin(LinkSocket.dial(dialled.address, this.#dialAs(dialled), this.#pool), dialled);
  }

  /**
   * What was lost on its way TCP sends again at intervals that double: a way that was cut for seconds is whole again for as long before anything comes over it. A new
   * connection is through within a second. The old one stays until then: the peer may only be frozen.
   */
  #dialAfresh(link: Link, dialled: Dialled): void {
    const nowMs = performance.now();
    const { afresh } = dialled;
    if (dialled.link !== link || 'path' in dialled.address || (afresh !== null && (afresh.link.greeted || nowMs - afresh.beganMs < LINK_AFRESH_MS))) return;
    afresh?.link.close('unanswered');
    dialled.afresh = { link: this.#begin(LinkSocket.dial(dialled.address, this.#dialAs(dialled), this.#pool), dialled), beganMs: nowMs };
  }

  #dialAs({ party, address }: Dialled): DialAs {
    const trust = this.#trust;
    if (trust === null || 'path' in address) return { token: this.#token };
    const there = `${address.host}:${address.port}`;
    return {
      credentials: trust.credentials(),
      refusal: (certificate, fault) => {
        const judged = trust.judge(certificate, fault);
        const refused = 'refused' in judged ? judged.refused : judged.parties.has(party) ? null : `its certificate is of ${[...judged.parties].join(', ')}`;
        if (refused !== null) this.#refusals.refuse(there, `what answers there for ${party}: ${refused}`);
        return refused;
      },
      refused: (reason) => this.#refusals.refuse(there, `this machine, by ${party}: it ${reason}`),
    };
  }

  /** Somebody was removed, or has joined. What is open is held against it as well. */
  #judgeAgain(): void {
    for (const link of this.#open) {
      const refused = this.#mayHost(link, [...link.parties]);
      if (refused !== null) link.close(refused);
    }
  }

  /** Why the other end of a link may not speak for these, or null. A certificate that has run out since the link was made ends no link. */
  #mayHost(link: Link, parties: readonly Party[]): string | null {
    const { certificate } = link;
    if (this.#trust === null || certificate === undefined) return null;
    const judged = this.#trust.judge(certificate, null);
    const foreign = 'refused' in judged ? undefined : parties.find((party) => !judged.parties.has(party));
    if (!('refused' in judged) && foreign === undefined) return null;
    const refused = 'refused' in judged ? judged.refused : `it says that it is ${foreign ?? ''}, its certificate is of ${[...judged.parties].join(', ')}`;
    this.#refusals.refuse(link.remote, refused);
    return refused;
  }

  #begin(socket: LinkSocket, dialled: Dialled | null): Link {
    const link: Link = new Link(socket, this.#end.nextIncarnation(), this.#end, {
      parties: (former, now) => this.#onParties(link, former, now, dialled),
      closed: (reason) => this.#onClosed(link, dialled, reason),
      refusal: (parties) => this.#mayHost(link, parties),
      quiet: (isQuiet) => {
        if (dialled === null) return;
        if (isQuiet) this.#dialAfresh(link, dialled);
        else if (dialled.link === link && dialled.afresh?.link.greeted === false) dialled.afresh.link.close('not needed');
      },
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
    if (dialled?.afresh?.link !== link) return;
    const older = dialled.link;
    dialled.link = link;
    dialled.afresh = null;
    older?.close('replaced');
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
    if (dialled?.afresh?.link === link) {
      dialled.afresh = null;
      // The other side may have taken it for the newer one, and expect nothing over the older any more.
      if (link.greeted) dialled.link?.close('its successor is lost');
    }
    if (!dialled || dialled.link !== link || this.#closed || this.#dialled.get(dialled.party) !== dialled) return;
    dialled.link = dialled.afresh?.link ?? null;
    dialled.afresh = null;
    if (dialled.link !== null) return;
    dialled.retry = setTimeout(() => this.#dial(dialled), reason === NO_COMMON_VERSION ? VERSION_RETRY_MS : dialled.waitMs);
    dialled.waitMs = Math.min(dialled.waitMs * 2, RECONNECT_MS_MAX);
  }

  dialled(): readonly Party[] { return [...this.#dialled.keys()]; }
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
    for (const socket of this.#handshakes.values()) socket.destroy();
    for (const { server, path } of this.#servers.splice(0)) {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (path !== null) rmSync(path, { force: true });
    }
    // What was sent last is on its way until then.
    await Promise.all(links.map((link) => link.gone));
  }
}

function endOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
}

/** A secret for the links of a new site. */
export function newLinkToken(): string {
  return randomBytes(24).toString('base64url');
}
