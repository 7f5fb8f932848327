import type { LocalFailure, OpenAttachment } from '@ashlar/host';
import { RequestBatch } from '@ashlar/nbd';
import { SlabPool, Status, type Frame, type PayloadLease } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';
import { failureOf, failureOfBuffer } from './failures.ts';
import { WAITING_MAX } from './limits.ts';
import { heldBytes, type Request } from './request.ts';

export interface RequestQueuePort {
  /** What requests are submitted to; undefined: there is none now. */
  attachment(): OpenAttachment | undefined;
  /** As one turn of the runtime, so that what it causes leaves together. */
  turn(work: () => void): void;
  /** For messages. */
  readonly name: string;
}

/** What was sent is kept in the line's array up to here, so that it is not moved for each frame. */
const LINE_KEPT_MAX = 1024;
const NOTHING = new Uint8Array(0);
const NO_LEASE: PayloadLease = { release: () => undefined };

/** Memory of all volumes of this thread: bytes of writes are copied into it, and it is used again when nobody reads them any more. */
const slabs = new SlabPool();

/**
 * The requests of one volume, in the order in which they were asked for. Everything that is asked for in one turn of the event loop goes out
 * as one frame (as far as frames reach), and nothing waits for more to come. What finds no room waits in line.
 */
export class RequestQueue {
  readonly #port: RequestQueuePort;
  readonly #batch = new RequestBatch();
  /** Waiting; those before #head have been sent, and are let go: each holds a buffer of the program's. */
  #line: (Request | undefined)[] = [];
  #head = 0;
  /** Under way, by tag. */
  readonly #sent: (Request | undefined)[] = [];
  readonly #freeTags: number[] = [];
  #sentCount = 0;
  #sentBytes = 0;
  #pumpAsked = false;
  /** Answers of an older life of the attachment mean nothing. */
  #life = 0;
  #onDrained: (() => void)[] = [];

  constructor(port: RequestQueuePort) {
    this.#port = port;
  }

  get unanswered(): number { return this.#sentCount + this.#line.length - this.#head; }

  /** Throws `busy`. */
  push(request: Request): void {
    if (this.#line.length - this.#head >= WAITING_MAX) throw new AshlarError('busy', `${WAITING_MAX} requests to ${this.#port.name} are waiting; wait for answers before asking for more`, { retry: 'later' });
    this.#line.push(request);
    this.#askPump();
  }

  /** Resolves when nothing is unanswered. */
  drained(): Promise<void> {
    if (this.unanswered === 0) return Promise.resolve();
    return new Promise((resolve) => { this.#onDrained.push(resolve); });
  }

  /** The attachment's life is over: what was under way is not answered by it any more. */
  lifeEnded(): void {
    this.#life++;
    const lost = this.#sent.filter((request) => request !== undefined);
    this.#sent.length = 0;
    this.#freeTags.length = 0;
    this.#sentCount = 0;
    this.#sentBytes = 0;
    const error = new AshlarError('unavailable', `the attachment of ${this.#port.name} ended before the request was answered; whether it was carried out is not known`, { retry: 'later' });
    for (const request of lost) settle(request, error);
    this.#askPump();
  }

  /** After the promise callbacks that run now, so that what they ask for goes along. */
  #askPump(): void {
    if (this.#pumpAsked) return;
    this.#pumpAsked = true;
    process.nextTick(this.#pump);
  }

  readonly #pump = (): void => {
    this.#pumpAsked = false;
    this.#port.turn(() => {
      while (this.#head < this.#line.length) if (!this.#sendSome()) break;
    });
    this.#forgetSent();
    if (this.unanswered === 0) for (const tell of this.#onDrained.splice(0)) tell();
  };

  #forgetSent(): void {
    if (this.#head < this.#line.length && this.#head < LINE_KEPT_MAX) return;
    this.#line = this.#line.slice(this.#head);
    this.#head = 0;
  }

  /** One frame. False: there is no room. */
  #sendSome(): boolean {
    const attachment = this.#port.attachment();
    if (attachment === undefined) {
      this.#refuseAll();
      return false;
    }
    const batch = this.#batch;
    const writes: Request[] = [];
    let bytes = 0;
    for (let request = this.#line[this.#head]; request !== undefined; request = this.#line[this.#head]) {
      if (!request.settled && isGone(request.bytes, request)) settle(request, failureOfBuffer(this.#port.name, request));
      if (request.settled) {
        this.#shift();
        continue;
      }
      if (!this.#hasRoom(request, attachment) || !batch.fits(request.op, request.lengthBytes, bytes)) break;
      this.#shift();
      batch.add(this.#take(request), request.op, request.flags, request.offsetBytes, request.lengthBytes, bytes);
      if (request.bytes === null) continue;
      writes.push(request);
      bytes += request.lengthBytes;
    }
    if (batch.count === 0) return false;
    const { memory, lease } = copied(writes, bytes);
    attachment.submit(batch.toFrame(memory, true), this.#client(), lease);
    return true;
  }

  #shift(): void { this.#line[this.#head++] = undefined; }

  #hasRoom(request: Request, { limits }: OpenAttachment): boolean {
    if (this.#sentCount === 0) return true;
    return this.#sentCount < limits.requestsMax && this.#sentBytes + heldBytes(request) <= limits.bytesMax;
  }

  #take(request: Request): number {
    const tag = this.#freeTags.pop() ?? this.#sent.length;
    this.#sent[tag] = request;
    this.#sentCount++;
    this.#sentBytes += heldBytes(request);
    return tag;
  }

  #clientOfLife = -1;
  #lifeClient: { replied(reply: Frame, failure?: LocalFailure): void } = { replied: () => undefined };

  #client(): { replied(reply: Frame, failure?: LocalFailure): void } {
    if (this.#clientOfLife !== this.#life) {
      const life = this.#life;
      this.#clientOfLife = life;
      this.#lifeClient = {
        replied: (reply, failure) => {
          if (life === this.#life) this.#replied(reply, failure);
          reply.lease?.release();
        },
      };
    }
    return this.#lifeClient;
  }

  #replied(reply: Frame, failure: LocalFailure | undefined): void {
    for (let k = 0; k < reply.count; k++) {
      const tag = reply.requestNumber(k);
      const request = this.#sent[tag];
      if (request === undefined) continue;
      this.#sent[tag] = undefined;
      this.#freeTags.push(tag);
      this.#sentCount--;
      this.#sentBytes -= heldBytes(request);
      this.#answer(request, reply, k, failure);
    }
    if (this.#head < this.#line.length || this.#onDrained.length > 0) this.#askPump();
  }

  #answer(request: Request, reply: Frame, k: number, failure: LocalFailure | undefined): void {
    if (request.settled) return;
    const status = reply.status(k);
    if (failure !== undefined || status !== Status.ok) return settle(request, failureOf(this.#port.name, request, status, failure));
    if (isGone(request.into, request)) return settle(request, failureOfBuffer(this.#port.name, request));
    request.into?.set(reply.bytes(k));
    settle(request, null);
  }

  #refuseAll(): void {
    const error = new AshlarError('not-attached', `${this.#port.name} is not attached here any more`);
    for (let request = this.#line[this.#head]; request !== undefined; request = this.#line[this.#head]) {
      this.#shift();
      settle(request, error);
    }
  }
}

/** The program gave the memory away (transferred, or resized it) while we used it. Nobody else's request may suffer for that. */
function isGone(buffer: Uint8Array | null, { lengthBytes }: Request): boolean { return buffer !== null && buffer.length !== lengthBytes; }

/** The bytes of writes, one after the other, where nobody changes them. */
function copied(writes: readonly Request[], bytes: number): { readonly memory: Uint8Array; readonly lease: PayloadLease } {
  if (bytes === 0) return { memory: NOTHING, lease: NO_LEASE };
  const slab = slabs.take(bytes);
  let at = 0;
  for (const { bytes: from } of writes) {
    slab.bytes.set(from as Uint8Array, at);
    at += (from as Uint8Array).length;
  }
  const lease = slab.lease();
  slab.retire();
  return { memory: slab.bytes, lease };
}

function settle(request: Request, error: unknown): void {
  if (request.settled) return;
  request.settled = true;
  if (error === null) request.resolve();
  else request.reject(error);
}
