import { Status, type AttachmentSpec, type Frame, type PayloadLease, type Usage, type VolumeTag } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';
import { Figures, toClient } from './answers.ts';
import type { AttachmentClient, AttachmentEnd, LocalFailure, SendOutcome } from './effects.ts';
import { FlightPool, type Flight } from './flight.ts';
import { Outbox } from './outbox.ts';
import type { RateLimit } from './rate-limit.ts';
import type { RequestTotals } from './totals.ts';

/** The present session, or the last one: where frames go and what they bear. */
export interface Line {
  server: ServerId;
  epoch: number;
  sessionCount: number;
  nextFrame: number;
  open: boolean;
}

/** What the delivery of requests asks of the core. */
export interface DeliveryPort {
  /** In the present session. `unreachable` has closed it when this returns. */
  sendFrame(frame: Frame): SendOutcome;
  /** The next frame must wait so long. */
  waitFor(ms: number): void;
  /** True: nobody but those who have answered can still read what was sent. */
  settledEverywhere(): boolean;
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void;
}

/** How often requests that timed out are told of. */
const TIMED_OUT_EVERY_MS = 1000;

/** From a client's frame to its answers: sends in order, sends again in order, answers each operation once. */
export class Delivery {
  readonly outbox = new Outbox();
  readonly #figures = new Figures();
  readonly #pool = new FlightPool();
  readonly #spec: AttachmentSpec;
  readonly #tag: VolumeTag;
  readonly #line: Line;
  readonly #port: DeliveryPort;
  readonly #totals: RequestTotals;
  #rate: RateLimit | null = null;
  /** Flights that are sent alone, operation by operation. They come before all others. */
  #suspects = 0;
  #timedOutUntold = 0;
  #timedOutToldMs = Number.NEGATIVE_INFINITY;
  resentFrames = 0;
  timedOutRequests = 0;
  quarantinedRequests = 0;

  constructor(spec: AttachmentSpec, tag: VolumeTag, line: Line, port: DeliveryPort, totals: RequestTotals) {
    this.#spec = spec;
    this.#tag = tag;
    this.#line = line;
    this.#port = port;
    this.#totals = totals;
  }

  get usage(): Usage { return this.#figures.usage(); }

  limit(rate: RateLimit | null, nowMs: number): void {
    this.#rate = rate;
    this.releaseHeld(nowMs);
  }

  /** `firstNumber`: of its operations. `ended`: it fails at once. */
  submit(frame: Frame, client: AttachmentClient, lease: PayloadLease, firstNumber: number, ended: AttachmentEnd | null, nowMs: number): void {
    const flight = this.#pool.take(frame, client, lease, firstNumber);
    if (ended !== null) return this.#fail(flight, ended);
    if (this.#rate === null) return this.#admit(flight, nowMs);
    this.outbox.hold(flight);
    this.releaseHeld(nowMs);
  }

  #admit(flight: Flight, nowMs: number): void {
    flight.startMs = nowMs;
    if (this.#line.open && this.outbox.queued === 0 && this.#suspects === 0 && this.#send(flight, flight.frame, nowMs)) return;
    this.outbox.push(flight);
  }

  /** False: it was not sent, and must wait in the queue. */
  #send(flight: Flight, frame: Frame, nowMs: number): boolean {
    const line = this.#line;
    frame.setVolumeTag(this.#tag);
    frame.attachNumber = this.#spec.attachNumber;
    frame.traceId = flight.firstNumber;
    frame.epoch = line.epoch;
    frame.sessionCount = line.sessionCount;
    frame.number = line.nextFrame;
    frame.seal();
    if (this.#port.sendFrame(frame) !== 'ok') return false;
    flight.sent = true;
    flight.sentMs = nowMs;
    this.outbox.inFlight.set(line.nextFrame++, flight);
    return true;
  }

  /** What waits, as far as the session takes it. */
  sendQueued(nowMs: number): void {
    const { outbox } = this;
    for (let next = outbox.first; next !== undefined && this.#line.open; next = outbox.first) {
      if (this.#suspects > 0 && outbox.inFlight.size > 0) return; // alone, so that a crash shows who it was
      if (!next.sent) {
        if (!this.#send(next, next.frame, nowMs)) return;
      } else {
        next.clean = false;
        if (!this.#send(next, next.again(), nowMs)) return;
        this.resentFrames++;
        this.#totals.resentFrames++;
      }
      outbox.shift();
    }
  }

  releaseHeld(nowMs: number): void {
    for (let next = this.outbox.release(this.#rate, nowMs); next !== 0; next = this.outbox.release(this.#rate, nowMs)) {
      if (typeof next === 'number') return this.#port.waitFor(next);
      this.#admit(next, nowMs);
    }
  }

  /** What the client is to be told, and whether a whole frame is answered now. Null: nobody waits for it. */
  replies(frame: Frame, nowMs: number): { readonly client: AttachmentClient; readonly reply: Frame; readonly done: boolean } | null {
    const { number } = frame;
    const flight = this.outbox.inFlight.get(number);
    if (flight === undefined) return null;
    const tookMs = nowMs - flight.startMs;
    const reply = toClient(frame, flight, this.#figures, this.#totals, tookMs / 1000, this.#spec.copy !== null);
    if (reply === null) return null;
    this.#stalled(tookMs);
    const { client } = flight;
    const done = flight.left === 0;
    if (done) {
      this.outbox.inFlight.delete(number);
      this.#finish(flight);
    } else if (flight.suspect) this.outbox.recallOne(number, flight);
    return { client, reply, done };
  }

  #finish(flight: Flight): void {
    if (flight.clean && (!flight.sent || this.#port.settledEverywhere())) flight.lease.release();
    if (flight.suspect) this.#suspects--;
    this.#pool.give(flight);
  }

  #stalled(ms: number): void {
    if (ms > this.#figures.longestStallMs) this.#figures.longestStallMs = ms;
  }

  /** Answers what is left of it with an I/O error. */
  #fail(flight: Flight, failure: LocalFailure): void {
    const { client } = flight;
    const reply = flight.fail(Status.ioError);
    if (flight.sent) flight.clean = false;
    this.#finish(flight);
    if (reply === null) return;
    this.#figures.failedRequests += reply.count;
    this.#totals.failedRequests += reply.count;
    client.replied(reply, failure);
  }

  failEverything(ended: AttachmentEnd): void {
    for (const flight of this.outbox.takeAll()) this.#fail(flight, ended);
  }

  /**
   * A request that began before this time is answered with an I/O error. What has become of it is not known; it is never sent again, and what an
   * older session may still do of it comes before anything newer.
   */
  giveUpOlder(untilMs: number, nowMs: number): void {
    for (const flight of this.outbox.takeOlder(untilMs)) {
      this.timedOutRequests += flight.left;
      this.#totals.timedOutRequests += flight.left;
      this.#timedOutUntold += flight.left;
      this.#stalled(nowMs - flight.startMs);
      this.#fail(flight, 'timed-out');
    }
    if (this.#timedOutUntold === 0 || nowMs - this.#timedOutToldMs < TIMED_OUT_EVERY_MS) return;
    const { epoch, server, open } = this.#line;
    this.#port.event('requests-timed-out', { requests: this.#timedOutUntold, epoch, server, sessionOpen: open });
    this.#timedOutUntold = 0;
    this.#timedOutToldMs = nowMs;
  }

  /**
   * The copy crashed with these in hand. Each is sent alone in the next session; one that was alone has ended two copies, and is refused for
   * good rather than sent to a third.
   */
  suspectAll(): void {
    for (const [number, flight] of this.outbox.inFlight) {
      if (flight.suspect) this.#quarantine(number, flight);
      else {
        flight.suspect = true;
        this.#suspects++;
      }
    }
  }

  #quarantine(number: number, flight: Flight): void {
    const reply = flight.fail(Status.ioError, 1);
    if (reply === null) return;
    this.#figures.failedRequests++;
    this.#totals.failedRequests++;
    this.quarantinedRequests++;
    const { epoch, server } = this.#line;
    this.#port.event('request-quarantined', { op: reply.op(0), offsetBytes: reply.offsetBytes(0), lengthBytes: reply.lengthBytes(0), epoch, server });
    const { client } = flight;
    flight.clean = false;
    if (flight.left === 0) {
      this.outbox.inFlight.delete(number);
      this.#finish(flight);
    }
    client.replied(reply, 'quarantined');
  }
}
