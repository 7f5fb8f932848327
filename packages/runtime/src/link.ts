import { partyOf, type Address, type Message, type Party, type SendOutcome } from '@ashlar/actor';
import type { WebSocket } from 'ws';
import type { LinkView } from './api.ts';
import type { LinkEnd } from './links.ts';
import { HANDSHAKE_MS, HELLO_BYTES_MAX, LINK_BATCH_BYTES_MAX, LINK_BUFFERED_BYTES_MAX, LINK_SILENT_MS, PARTIES_MAX, WIRE_VERSION } from './limits.ts';
import { GrowingBatch, WireDecoder, WireEncoder } from './wire/envelope.ts';
import { Malformed } from './wire/shape.ts';

interface LinkOwner {
  parties(former: readonly Party[], now: readonly Party[]): void;
  closed(reason: string): void;
}

/** The first message of each side, as text, and again whenever its parties change. */
interface Hello {
  readonly ashlar: 'link';
  /** Wire versions spoken, lowest and highest. */
  readonly versions: readonly [number, number];
  readonly parties: readonly Party[];
}

const PARTY = /^[a-z0-9-]{1,63}$/;
/** Batches kept for reuse by one link. */
const SPARE_MAX = 4;
const SPARE_BYTES_MAX = 2 * LINK_BATCH_BYTES_MAX;

/** One WebSocket between two processes. Everything that one turn sends goes out as one message. */
export class Link {
  readonly side: 'client' | 'server';
  readonly incarnation: number;
  readonly #socket: WebSocket;
  readonly #end: LinkEnd;
  readonly #owner: LinkOwner;
  readonly #encoder = new WireEncoder();
  readonly #decoder: WireDecoder;
  readonly #spare: GrowingBatch[] = [];
  #parties = new Set<Party>();
  #batch: GrowingBatch | null = null;
  #introduced = false;
  #closed = false;
  #silence: NodeJS.Timeout;
  #heard = true;
  #sentMessages = 0;
  #sentBytes = 0;
  #receivedMessages = 0;
  #receivedBytes = 0;
  #refusedBusy = 0;

  constructor(socket: WebSocket, side: 'client' | 'server', incarnation: number, end: LinkEnd, owner: LinkOwner) {
    this.#socket = socket;
    this.side = side;
    this.incarnation = incarnation;
    this.#end = end;
    this.#owner = owner;
    this.#decoder = new WireDecoder((address) => this.#parties.has(partyOf(address)));
    socket.on('error', (error: Error) => this.#end.log.debug({ incarnation, error: error.message }, 'link error'));
    socket.on('close', () => this.#onClose('the other side closed it'));
    socket.on('pong', () => { this.#heard = true; });
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#onMessage(data, isBinary));
    if (side === 'server') this.introduce(end.parties());
    else socket.on('open', () => this.introduce(end.parties()));
    this.#silence = setTimeout(() => this.close('no hello in time'), HANDSHAKE_MS);
  }

  get up(): boolean { return this.#introduced; }

  introduce(parties: readonly Party[]): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    const hello: Hello = { ashlar: 'link', versions: [WIRE_VERSION, WIRE_VERSION], parties };
    this.#flush();
    this.#socket.send(JSON.stringify(hello));
  }

  /** That party is reached over a newer link now. */
  forget(party: Party): void { this.#parties.delete(party); }

  send(to: Address, from: Address, message: Message): SendOutcome {
    if (this.#closed || this.#socket.readyState !== this.#socket.OPEN) return 'unreachable';
    if (this.#socket.bufferedAmount + (this.#batch?.at ?? 0) > LINK_BUFFERED_BYTES_MAX) {
      this.#refusedBusy++;
      return 'busy';
    }
    if (this.#batch === null) {
      this.#batch = this.#spare.pop() ?? new GrowingBatch(16 * 1024);
      this.#end.atOutput(() => this.#flush());
    }
    this.#encoder.encode(to, from, message, this.#batch);
    this.#sentMessages++;
    if (this.#batch.at >= LINK_BATCH_BYTES_MAX) this.#flush();
    return 'ok';
  }

  #flush(): void {
    const batch = this.#batch;
    if (!batch || this.#closed) return;
    this.#batch = null;
    this.#sentBytes += batch.at;
    this.#socket.send(batch.written(), { binary: true, compress: false }, () => {
      batch.at = 0;
      if (batch.bytes.length <= SPARE_BYTES_MAX && this.#spare.length < SPARE_MAX) this.#spare.push(batch);
    });
  }

  #onMessage(data: Buffer, isBinary: boolean): void {
    if (this.#closed) return;
    this.#heard = true;
    try {
      if (isBinary) this.#onBatch(data);
      else this.#onHello(data);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.#end.log.warn({ incarnation: this.incarnation, parties: [...this.#parties], error: error.message }, 'a link sent something malformed and is closed');
      this.close('malformed');
    }
  }

  #onBatch(data: Buffer): void {
    if (!this.#introduced) throw new Malformed('messages before the hello');
    this.#receivedBytes += data.length;
    this.#end.turn(() => {
      this.#decoder.decode(data, (to, from, message) => {
        this.#receivedMessages++;
        if (!this.#end.receive(to, from, message)) this.#refusedBusy++;
      });
    });
  }

  #onHello(data: Buffer): void {
    if (data.length > HELLO_BYTES_MAX) throw new Malformed(`a hello of ${data.length} bytes`);
    const hello = parseHello(data.toString('utf8'));
    if (hello.versions[0] > WIRE_VERSION || hello.versions[1] < WIRE_VERSION) throw new Malformed(`wire versions ${hello.versions.join(' to ')}, this side speaks ${WIRE_VERSION}`);
    const ours = new Set(this.#end.parties());
    const clash = hello.parties.find((party) => ours.has(party));
    if (clash !== undefined) throw new Malformed(`it claims to host ${clash}, which is hosted here`);
    const former = [...this.#parties];
    this.#parties = new Set(hello.parties);
    if (!this.#introduced) {
      this.#introduced = true;
      clearTimeout(this.#silence);
      this.#silence = setInterval(() => this.#watchSilence(), LINK_SILENT_MS / 2);
    }
    this.#owner.parties(former, hello.parties);
  }

  /** A peer whose machine is gone sends nothing, not even an end. */
  #watchSilence(): void {
    if (!this.#heard) return this.close('silent');
    this.#heard = false;
    this.#socket.ping();
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#flush();
    if (reason === 'shutdown' || reason === 'disconnected') this.#socket.close();
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
      parties: [...this.#parties], incarnation: this.incarnation, side: this.side, sentMessages: this.#sentMessages, sentBytes: this.#sentBytes,
      receivedMessages: this.#receivedMessages, receivedBytes: this.#receivedBytes, bufferedBytes: this.#socket.bufferedAmount, refusedBusy: this.#refusedBusy,
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
  if (ashlar !== 'link' || !Array.isArray(versions) || versions.length !== 2 || !versions.every(Number.isSafeInteger)) throw new Malformed('not a hello');
  if (!Array.isArray(parties) || parties.length > PARTIES_MAX || !parties.every((party) => typeof party === 'string' && PARTY.test(party))) throw new Malformed('a hello without parties');
  return { ashlar, versions: versions as unknown as [number, number], parties };
}
