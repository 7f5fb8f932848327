import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import { KERNEL, partyOf, type Address, type Message, type Party, type SendOutcome } from '@ashlar/actor';
import type { LinkView } from '../api.ts';
import { LINK_BATCH_BYTES_MAX, RING_BATCHES_MAX, THREAD_BUFFERED_BYTES_MAX } from '../limits.ts';
import type { LinkEnd } from '../links.ts';
import { GrowingBatch, WireDecoder, WireEncoder } from '../wire/envelope.ts';
import { WIRE_VERSIONS } from '../wire/versions.ts';
import type { KernelMessage } from '../wire/messages.ts';
import { RecordKind, RingReader, RingWriter } from './ring.ts';

/** What two threads need to talk: a ring in each direction, and a port that wakes the other side and carries what no ring can take. */
export interface ThreadChannel {
  readonly port: MessagePort;
  readonly outgoing: SharedArrayBuffer;
  readonly incoming: SharedArrayBuffer;
  /** How long to look at an empty ring before going to sleep. Saves the wake-up (20–50 µs) and burns a core meanwhile. */
  readonly spinUs: number;
}

export interface ThreadLinkOwner {
  parties(former: readonly Party[], now: readonly Party[]): void;
  closed(): void;
}

const NOTHING = new Uint8Array(0);
const BATCH_BYTES = 16 * 2 ** 10;
/** Only wakes; any other message on the port is a batch. */
const DOORBELL = 0;

/** A pair of rings to another thread. Everything that one turn sends is one record, and rings at most once. */
export class ThreadLink {
  readonly incarnation: number;
  readonly #port: MessagePort;
  readonly #end: LinkEnd;
  readonly #owner: ThreadLinkOwner;
  readonly #writer: RingWriter;
  readonly #reader: RingReader;
  readonly #encoder = new WireEncoder();
  readonly #decoder = new WireDecoder();
  readonly #spinMs: number;
  #building = new GrowingBatch(BATCH_BYTES);
  #flushAsked = false;
  /** Batches for which the ring had no room, in order. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** Batches that came through the port before their record was read. */
  readonly #large: Uint8Array[] = [];
  #parties: readonly Party[] = [];
  /** Parties that another thread has taken over: what this one still had on its way from them is late. */
  readonly #forgotten = new Set<Party>();
  #pumping = false;
  #closed = false;
  readonly #counted = { sentMessages: 0, sentBytes: 0, receivedMessages: 0, receivedBytes: 0, refusedBusy: 0 };

  constructor(channel: ThreadChannel, end: LinkEnd, owner: ThreadLinkOwner) {
    this.incarnation = end.nextIncarnation();
    this.#port = channel.port;
    this.#end = end;
    this.#owner = owner;
    this.#writer = new RingWriter(channel.outgoing);
    this.#reader = new RingReader(channel.incoming);
    this.#spinMs = channel.spinUs / 1000;
    channel.port.on('message', (message: unknown) => {
      if (message instanceof Uint8Array) this.#large.push(message);
      this.#onDoorbell();
    });
    channel.port.on('close', () => this.close());
  }

  /** Introduces this side and takes what has been written meanwhile. */
  begin(): void {
    this.introduce(this.#end.parties());
    this.#onDoorbell();
  }

  introduce(parties: readonly Party[]): void {
    const message: KernelMessage = { kind: 'parties', parties };
    this.send(KERNEL, KERNEL, message);
  }

  forget(party: Party): void { this.#forgotten.add(party); }

  send(to: Address, from: Address, message: Message): SendOutcome {
    if (this.#closed) return 'unreachable';
    const batch = this.#building;
    if (this.#waitingBytes + batch.at > THREAD_BUFFERED_BYTES_MAX) {
      this.#counted.refusedBusy++;
      return 'busy';
    }
    if (!this.#flushAsked) {
      this.#flushAsked = true;
      this.#end.atOutput(() => {
        this.#flushAsked = false;
        this.#flush();
      });
    }
    this.#encoder.encode(to, from, message, batch);
    this.#counted.sentMessages++;
    if (batch.at >= LINK_BATCH_BYTES_MAX) this.#flush();
    return 'ok';
  }

  #flush(): void {
    const batch = this.#building;
    if (batch.at === 0 || this.#closed) return;
    this.#counted.sentBytes += batch.at;
    if (this.#waiting.length > 0 || !this.#write(batch.written())) {
      this.#waiting.push(batch.written().slice());
      this.#waitingBytes += batch.at;
      this.#flushWaiting();
    }
    batch.at = 0;
    // One that grew for a large frame is not kept.
    if (batch.bytes.length > 4 * LINK_BATCH_BYTES_MAX) this.#building = new GrowingBatch(BATCH_BYTES);
    this.#publish();
  }

  /** The record of a batch that fits into no ring says that it comes through the port, where it lies already when the record is seen. */
  #write(bytes: Uint8Array): boolean {
    if (bytes.length <= this.#writer.recordBytesMax) return this.#writer.write(RecordKind.batch, bytes);
    if (!this.#writer.write(RecordKind.onPort, NOTHING)) return false;
    const copy = bytes.slice();
    this.#port.postMessage(copy, [copy.buffer]);
    return true;
  }

  #flushWaiting(): void {
    for (const lastTry of [false, true]) {
      while (this.#waiting[0] && this.#write(this.#waiting[0])) this.#waitingBytes -= (this.#waiting.shift() as Uint8Array).length;
      if (this.#waiting.length === 0 || lastTry) return;
      // The reader sees the wish only when it gives room back after it: what it gave back before is found by the second try.
      this.#writer.wantRoom();
    }
  }

  #publish(): void { if (this.#writer.publish()) this.#port.postMessage(DOORBELL); }

  #onDoorbell(): void {
    if (this.#closed) return;
    if (this.#waiting.length > 0) {
      this.#flushWaiting();
      this.#publish();
    }
    if (!this.#pumping) this.#pump();
  }

  #pump(): void {
    this.#pumping = true;
    try {
      for (let turns = 0; !this.#closed; turns++) {
        this.#takeAll();
        if (this.#closed || this.#settle()) return;
        if (turns < 4) continue;
        // More keeps coming: sockets and timers are looked at in between.
        setImmediate(() => this.#pump());
        return;
      }
    } finally {
      // Pumping goes on by the setImmediate above if the reader is awake.
      this.#pumping = false;
    }
  }

  #takeAll(): void {
    if (this.#reader.empty) return;
    this.#end.turn(() => {
      for (let left = RING_BATCHES_MAX; left > 0 && !this.#closed; left--) {
        const record = this.#reader.read();
        if (!record) break;
        this.#take(record.kind === RecordKind.onPort ? this.#takeLarge() : record.bytes);
      }
      if (this.#reader.release()) this.#port.postMessage(DOORBELL);
    });
  }

  #takeLarge(): Uint8Array {
    for (;;) {
      const known = this.#large.shift();
      if (known) return known;
      const received: { message: unknown } | undefined = receiveMessageOnPort(this.#port);
      if (received?.message instanceof Uint8Array) this.#large.push(received.message);
      else if (received === undefined) {
        this.#end.log.error({ incarnation: this.incarnation }, 'a batch announced by a ring did not come through its port');
        this.close();
        return NOTHING;
      }
    }
  }

  /** The other thread runs the same code: what it sends malformed is a defect of ours, and the actors there are given up. */
  #take(bytes: Uint8Array): void {
    this.#counted.receivedBytes += bytes.length;
    try {
      this.#decoder.decode(bytes, (to, from, message) => {
        this.#counted.receivedMessages++;
        if (to === KERNEL) this.#introduced((message as KernelMessage & { kind: 'parties' }).parties);
        else if (this.#forgotten.size > 0 && this.#forgotten.has(partyOf(from))) return;
        else if (!this.#end.receive(to, from, message)) this.#counted.refusedBusy++;
      });
    } catch (error) {
      this.#end.log.error({ incarnation: this.incarnation, error }, 'a ring held something malformed and is closed');
      this.close();
    }
  }

  #introduced(parties: readonly Party[]): void {
    const former = this.#parties;
    this.#parties = parties;
    this.#forgotten.clear();
    this.#owner.parties(former, parties);
  }

  /** True when the other side has been asked to wake this one. */
  #settle(): boolean {
    if (this.#spinMs > 0) {
      const endMs = performance.now() + this.#spinMs;
      while (this.#reader.empty && performance.now() < endMs);
    }
    return this.#reader.sleep();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting = [];
    this.#port.close();
    this.#owner.closed();
  }

  inspect(): LinkView {
    return { parties: this.#parties, incarnation: this.incarnation, side: 'thread', version: WIRE_VERSIONS[1], ...this.#counted, bufferedBytes: this.#waitingBytes + this.#building.at };
  }
}
