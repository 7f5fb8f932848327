import type { X509Certificate } from 'node:crypto';
import { partyOf, type Address, type Message, type Party, type SendOutcome } from '@ashlar/actor';
import type { Slab } from '@ashlar/protocol';
import type { LinkView } from './api.ts';
import type { LinkEnd } from './links.ts';
import { HANDSHAKE_MS, HELLO_BYTES_MAX, LINK_BATCH_BYTES_MAX, LINK_BUFFERED_BYTES_MAX, LINK_QUIET_MS, LINK_SILENT_MS, LINK_WATCH_MS, PARTIES_MAX } from './limits.ts';
import { WS_HEADER_BYTES_MAX } from './websocket/framing.ts';
import type { LinkSocket, LinkSocketEvents } from './websocket/link-socket.ts';
import { GrowingBatch, WireDecoder, WireEncoder } from './wire/envelope.ts';
import { sinceVersion } from './wire/messages.ts';
import { Malformed } from './wire/shape.ts';
import { commonVersion, WIRE_VERSIONS, type WireRange } from './wire/versions.ts';

interface LinkOwner {
  parties(former: readonly Party[], now: readonly Party[]): void;
  closed(reason: string): void;
  /** Why the other end may not host these, or null. */
  refusal(parties: readonly Party[]): string | null;
  /** Nothing was heard for seconds, not even an answer to a ping; said again each second. Or something is heard after all. */
  quiet(isQuiet: boolean): void;
}

/** The first message of each side, as text, and again whenever its parties change. */
interface Hello {
  readonly ashlar: 'link';
  readonly versions: WireRange;
  readonly parties: readonly Party[];
}

const PARTY = /^[a-z0-9-]{1,63}$/;
/** Why a link is closed whose other side speaks only wire versions that this one does not. */
export const NO_COMMON_VERSION = 'no common wire version';
/**
 * Memory of batches that one link keeps for reuse. By bytes: while a copy is filled, dozens of batches wait for the socket. With four kept, about half of
 * the processor time of a server that fills another was garbage collection, which batches' memory brings on long before the heap has grown.
 */
const SPARE_BYTES_MAX = 8 * 2 ** 20;

/** One WebSocket between two processes. Everything that one turn sends goes out as one message. */
export class Link implements LinkSocketEvents {
  readonly incarnation: number;
  readonly #socket: LinkSocket;
  readonly #end: LinkEnd;
  readonly #owner: LinkOwner;
  readonly #encoder = new WireEncoder();
  readonly #decoder: WireDecoder;
  readonly #spare: GrowingBatch[] = [];
  #spareBytes = 0;
  #parties = new Set<Party>();
  /** Of the wire: the highest that both sides speak. 0 until the other side has introduced itself. */
  #version = 0;
  #batch: GrowingBatch | null = null;
  #introduced = false;
  #closed = false;
  #silence: NodeJS.Timeout;
  #heard = true;
  /** How often it was looked since something was heard. */
  #unheard = 0;
  /** At the last look. */
  #moved = { received: 0, queued: 0 };
  #greeted = false;
  #sentMessages = 0;
  #sentBytes = 0;
  #receivedMessages = 0;
  #receivedBytes = 0;
  #refusedBusy = 0;

  constructor(socket: LinkSocket, incarnation: number, end: LinkEnd, owner: LinkOwner) {
    this.#socket = socket;
    this.incarnation = incarnation;
    this.#end = end;
    this.#owner = owner;
    this.#decoder = new WireDecoder((address) => this.#parties.has(partyOf(address)));
    socket.events = this;
    if (socket.open) this.introduce(end.parties());
    this.#silence = setTimeout(() => this.close('no hello in time'), HANDSHAKE_MS);
  }

  /** Settled when its socket is gone. */
  get gone(): Promise<void> { return this.#socket.gone; }
  get up(): boolean { return this.#introduced; }
  /** Our hello is on its way: the other side may prefer it to an older link by now. */
  get greeted(): boolean { return this.#greeted; }
  /** The other end has made it. */
  get accepted(): boolean { return this.#socket.side === 'server'; }
  get remote(): string { return this.#socket.remote; }
  get certificate(): X509Certificate | undefined { return this.#socket.certificate; }
  get parties(): ReadonlySet<Party> { return this.#parties; }

  introduce(parties: readonly Party[]): void {
    if (!this.#socket.open) return;
    const hello: Hello = { ashlar: 'link', versions: WIRE_VERSIONS, parties };
    this.#flush();
    this.#greeted = true;
    this.#socket.sendText(JSON.stringify(hello));
  }

  /** That party is reached over a newer link now. */
  forget(party: Party): void { this.#parties.delete(party); }

  send(to: Address, from: Address, message: Message): SendOutcome {
    if (this.#closed || !this.#socket.open) return 'unreachable';
    // Nobody is there who knows it: whoever sends what is new must do without an answer to it.
    if (this.#version < WIRE_VERSIONS[1] && sinceVersion(message.kind) > this.#version) return 'unreachable';
    if (this.#socket.bufferedBytes + (this.#batch?.length ?? 0) > LINK_BUFFERED_BYTES_MAX) {
      this.#refusedBusy++;
      return 'busy';
    }
    if (this.#batch === null) {
      this.#batch = this.#takeSpare() ?? new GrowingBatch(16 * 1024, WS_HEADER_BYTES_MAX);
      this.#end.atOutput(() => this.#flush());
    }
    this.#encoder.encode(to, from, message, this.#batch);
    this.#sentMessages++;
    if (this.#batch.length >= LINK_BATCH_BYTES_MAX) this.#flush();
    return 'ok';
  }

  #flush(): void {
    const batch = this.#batch;
    if (!batch || this.#closed) return;
    this.#batch = null;
    this.#sentBytes += batch.length;
    this.#socket.sendBinary(batch.bytes, batch.view, batch.at, () => {
      batch.clear();
      if (this.#spareBytes + batch.bytes.length > SPARE_BYTES_MAX) return;
      this.#spareBytes += batch.bytes.length;
      this.#spare.push(batch);
    });
  }

  /** The last one that was used: it is in the processor's cache. */
  #takeSpare(): GrowingBatch | undefined {
    const batch = this.#spare.pop();
    if (batch) this.#spareBytes -= batch.bytes.length;
    return batch;
  }

  // ---- LinkSocketEvents

  opened(): void { this.introduce(this.#end.parties()); }
  pong(): void { this.#hear(); }
  text(bytes: Uint8Array): void { this.#received(() => this.#onHello(bytes)); }
  binary(bytes: Uint8Array, memory: Slab): void { this.#received(() => this.#onBatch(bytes, memory)); }

  malformed(reason: string): void {
    if (this.#closed) return;
    this.#end.log.warn({ incarnation: this.incarnation, parties: [...this.#parties], error: reason }, 'a link sent something malformed and is closed');
    this.close('malformed');
  }

  closed(error: string | null): void {
    if (error !== null) this.#end.log.debug({ incarnation: this.incarnation, error }, 'link error');
    this.#onClose('the other side closed it');
  }

  #received(take: () => void): void {
    if (this.#closed) return;
    this.#hear();
    try {
      take();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.malformed(error.message);
    }
  }

  #onBatch(data: Uint8Array, memory: Slab): void {
    if (!this.#introduced) throw new Malformed('messages before the hello');
    // They are reached over a newer one: what was still under way on this one is lost.
    if (this.#parties.size === 0) return this.close('replaced');
    this.#receivedBytes += data.length;
    this.#end.turn(() => {
      this.#decoder.decode(data, (to, from, message) => {
        this.#receivedMessages++;
        if (!this.#end.receive(to, from, message)) this.#refusedBusy++;
      }, memory);
    });
  }

  #onHello(data: Uint8Array): void {
    if (data.length > HELLO_BYTES_MAX) throw new Malformed(`a hello of ${data.length} bytes`);
    const hello = parseHello(new TextDecoder().decode(data));
    const version = commonVersion(WIRE_VERSIONS, hello.versions);
    if (version === null) return this.#refuseVersions(hello);
    const ours = new Set(this.#end.parties());
    const clash = hello.parties.find((party) => ours.has(party));
    if (clash !== undefined) throw new Malformed(`it claims to host ${clash}, which is hosted here`);
    const refused = this.#owner.refusal(hello.parties);
    if (refused !== null) return this.close(refused);
    const former = [...this.#parties];
    this.#parties = new Set(hello.parties);
    if (!this.#introduced) {
      this.#introduced = true;
      this.#version = version;
      clearTimeout(this.#silence);
      this.#silence = setInterval(() => this.#watchSilence(), LINK_WATCH_MS);
    }
    this.#owner.parties(former, hello.parties);
  }

  /** The other side comes to the same, by our hello: it is on its way before the end. */
  #refuseVersions({ versions, parties }: Hello): void {
    this.#end.log.warn({ parties, theirs: versions, ours: WIRE_VERSIONS }, `a link is refused: the other side speaks the wire versions ${versions.join(' to ')}, this one ${WIRE_VERSIONS.join(' to ')}; the older of the two must be upgraded first`);
    this.close(NO_COMMON_VERSION);
  }

  #hear(): void {
    this.#heard = true;
    if (this.#unheard === 0) return;
    const wasQuiet = this.#isQuiet();
    this.#unheard = 0;
    if (wasQuiet) this.#owner.quiet(false);
  }

  /** A peer whose machine is gone sends nothing, not even an end. */
  #watchSilence(): void {
    if (this.#moves()) this.#hear();
    if (this.#heard) {
      this.#heard = false;
      return;
    }
    this.#unheard++;
    if (this.#unheard * LINK_WATCH_MS >= LINK_SILENT_MS) return this.close('silent');
    this.#socket.ping();
    if (this.#isQuiet()) this.#owner.quiet(true);
  }

  /** A part of a large message has come, or gone: on a slow way it takes seconds, and neither word nor ping overtakes it. */
  #moves(): boolean {
    const { received, queued } = this.#moved;
    this.#moved = { received: this.#socket.receivedBytes, queued: this.#socket.queuedBytes };
    return this.#moved.received !== received || this.#moved.queued < queued;
  }

  #isQuiet(): boolean { return this.#unheard * LINK_WATCH_MS >= LINK_QUIET_MS; }

  close(reason: string): void {
    if (this.#closed) return;
    this.#flush();
    if (reason === 'shutdown' || reason === 'disconnected' || reason === NO_COMMON_VERSION) this.#socket.close();
    else this.#socket.terminate();
    this.#onClose(reason);
  }

  #onClose(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#silence);
    clearInterval(this.#silence);
    this.#owner.closed(reason);
  }

  inspect(): LinkView {
    return {
      parties: [...this.#parties], incarnation: this.incarnation, side: this.#socket.side, version: this.#version, sentMessages: this.#sentMessages, sentBytes: this.#sentBytes,
      receivedMessages: this.#receivedMessages, receivedBytes: this.#receivedBytes, bufferedBytes: this.#socket.bufferedBytes, refusedBusy: this.#refusedBusy,
    };
  }
}

function parseHello(text: string): Hello {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Malformed('a hello that is no JSON', { cause });
  }
  const { ashlar, versions, parties } = (value ?? {}) as Partial<Hello>;
  if (ashlar !== 'link' || !Array.isArray(versions) || versions.length !== 2 || !versions.every(Number.isSafeInteger) || versions[0] > versions[1]) throw new Malformed('not a hello');
  if (!Array.isArray(parties) || parties.length > PARTIES_MAX || !parties.every((party) => typeof party === 'string' && PARTY.test(party))) throw new Malformed('a hello without parties');
  return { ashlar, versions: versions as unknown as WireRange, parties };
}
