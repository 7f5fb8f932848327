import { primaryOf, Status, volumeTag, type AttachmentSpec, type Configuration, type Frame, type SessionReply, type Usage, type VolumeLimits, type VolumeTag } from '@ashlar/protocol';
import { assert, unreachable, type ServerId } from '@ashlar/words';
import { Figures, toClient } from './answers.ts';
import type { AttachmentClient, AttachmentEffects, AttachmentInput, PayloadLease, Reservation } from './effects.ts';
import { Fifo } from './fifo.ts';
import { FlightPool, type Flight } from './flight.ts';
import {
  ASK_MS, BUSY_RETRY_MS, LATE_MS, PROBE_MS, PROBE_SLOWER, REOPEN_MS_MAX, REOPEN_MS_MIN, REPEAT_MS, REQUESTS_PER_RESTART, RESEND_MS_MAX, RESEND_MS_MIN, SESSIONS_RESERVED,
  SILENT_MS, SILENT_REPEAT_MS,
} from './limits.ts';
import { RateLimit } from './rate-limit.ts';

/**
 * - `waiting`: no session; one is opened again at a set time, or when the link or a configuration comes.
 * - `opening`: asked for.
 * - `open`: requests go out at once.
 * - `ended`: detached, taken over by another attach, or the volume is gone. Everything fails.
 */
export type AttachmentPhase = 'waiting' | 'opening' | 'open' | 'ended';

export interface AttachmentView {
  readonly phase: AttachmentPhase;
  readonly epoch: number;
  readonly server: ServerId;
  readonly sizeBytes: number;
  readonly sessionCount: number;
  /** Frames sent in this session and not answered, waiting for a session, and held back by a rate limit. */
  readonly inFlight: number;
  readonly queued: number;
  readonly held: number;
  readonly sessions: number;
  readonly resentFrames: number;
  readonly timedOutRequests: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly usage: Usage;
}

const NEVER = Number.POSITIVE_INFINITY;

/**
 * The node manager's part in one attachment: numbers the requests of all its clients, sends them in a session to the primary of the newest
 * configuration, and carries what is unanswered over to the next session. Deterministic; does no I/O.
 *
 * What makes a retry safe: request numbers of an attachment never come again and rise in the order in which they were submitted; in every new
 * session all that is unanswered is sent in that order before anything new; so a primary that has applied number n has applied, or will
 * never be sent, every lower one. A request that was given up (`io-timeout`) has an unknown outcome: it is not sent again, and what an older
 * session may still do of it is fenced off before anything newer is done.
 */
export class AttachmentCore {
  readonly #spec: AttachmentSpec;
  readonly #tag: VolumeTag;
  readonly #figures = new Figures();
  readonly #pool = new FlightPool();
  #configuration: Configuration;
  #limits: VolumeLimits;
  #rate: RateLimit | null;
  #reservation: Reservation;
  #fx: AttachmentEffects = undefined as unknown as AttachmentEffects;
  #nowMs = 0;
  #running = false;
  readonly #inbox: AttachmentInput[] = [];

  #phase: AttachmentPhase = 'waiting';
  #sizeBytes: number;
  /** Operations numbered in this restartCount. */
  #numbered: number;
  #sessionCount: number;
  /** Epoch of the present session. */
  #epoch = 0;
  #server: ServerId;
  #nextFrame = 1;
  /** By frame number in the present session; in the order of sending. */
  readonly #inFlight = new Map<number, Flight>();
  /** To be sent as soon as the session allows, in this order. */
  #queue = new Fifo<Flight>();
  /** Held back by the rate limit. */
  readonly #held = new Fifo<Flight>();

  #wakeAtMs = NEVER;
  #reopenAtMs = 0;
  /** Sessions since the last progress. */
  #attempts = 0;
  #openSentMs = 0;
  #probeSentMs = 0;
  #heardMs = 0;
  /** Since when the primary owes us an answer. */
  #owesSinceMs = NEVER;
  #silentToldMs = -NEVER;
  #askedMs = -NEVER;
  #submittedMs = 0;
  #resendAfterMs = RESEND_MS_MIN;
  #sessions = 0;
  #resentFrames = 0;
  #timedOutRequests = 0;
  readonly #refusals: Record<string, number> = {};

  /** `reservation`: from `nextReservation`, stable before this. `numbered`: tests begin near the end of a reservation. */
  constructor(spec: AttachmentSpec, configuration: Configuration, reservation: Reservation, numbered = 0) {
    assert(reservation.restartCount >= 1 && reservation.sessionCount >= SESSIONS_RESERVED, 'a reservation was made for this life');
    assert(spec.volumeId === configuration.volumeId, 'the configuration is of this volume');
    this.#spec = spec;
    this.#tag = volumeTag(spec.volumeId);
    this.#configuration = configuration;
    this.#limits = spec.limits;
    this.#rate = null;
    this.#numbered = numbered;
    this.#reservation = reservation;
    this.#sessionCount = reservation.sessionCount - SESSIONS_RESERVED;
    this.#sizeBytes = configuration.sizeBytes;
    this.#server = this.#target();
  }

  get phase(): AttachmentPhase { return this.#phase; }
  get configuration(): Configuration { return this.#configuration; }
  /** Grows; never shrinks. */
  get sizeBytes(): number { return this.#sizeBytes; }
  get usage(): Usage { return this.#figures.usage(); }
  get idle(): boolean { return this.#inFlight.size === 0 && this.#queue.length === 0 && this.#held.length === 0; }

  view(): AttachmentView {
    return {
      phase: this.#phase, epoch: this.#epoch, server: this.#server, sizeBytes: this.#sizeBytes, sessionCount: this.#sessionCount, inFlight: this.#inFlight.size,
      queued: this.#queue.length, held: this.#held.length, sessions: this.#sessions, resentFrames: this.#resentFrames, timedOutRequests: this.#timedOutRequests,
      refusals: { ...this.#refusals }, usage: this.usage,
    };
  }

  receive(nowMs: number, input: AttachmentInput, effects: AttachmentEffects): void {
    if (this.#running) {
      this.#inbox.push(input);
      return;
    }
    this.#running = true;
    this.#nowMs = nowMs;
    this.#fx = effects;
    try {
      this.#dispatch(input);
      for (let i = 0; i < this.#inbox.length; i++) this.#dispatch(this.#inbox[i]);
    } finally {
      if (this.#inbox.length > 0) this.#inbox.length = 0;
      this.#running = false;
    }
  }

  #dispatch(input: AttachmentInput): void {
    switch (input.kind) {
      case 'submit': return this.#onSubmit(input.frame, input.client, input.lease);
      case 'session': return this.#onReply(input.from, input.message);
      case 'timer': return this.#onTimer();
      case 'configuration': return this.#onConfiguration(input.configuration);
      case 'limits': return this.#onLimits(input.limits);
      case 'link': return this.#onLink(input.serverId, input.up);
      case 'start': return this.#onStart();
      case 'detach': return this.#end('detached');
      default: return unreachable(input);
    }
  }

  // ---- requests

  #onSubmit(frame: Frame, client: AttachmentClient, lease: PayloadLease): void {
    const { count } = frame;
    if (count === 0) return lease.release();
    if (this.#numbered + count >= REQUESTS_PER_RESTART) this.#reserve({ ...this.#reservation, restartCount: this.#reservation.restartCount + 1 });
    const flight = this.#pool.take(frame, client, lease, this.#reservation.restartCount * REQUESTS_PER_RESTART + this.#numbered + 1);
    this.#numbered += count;
    this.#stamp(flight);
    this.#submittedMs = this.#nowMs;
    if (this.#phase === 'ended') return this.#fail(flight);
    // The next tick may be seconds away on an idle attachment.
    this.#wakeBy(this.#nowMs + PROBE_MS);
    if (this.#rate === null) return this.#admit(flight);
    this.#held.push(flight);
    this.#releaseHeld();
  }

  #admit(flight: Flight): void {
    flight.startMs = this.#nowMs;
    if (this.#phase === 'open' && this.#queue.length === 0 && this.#send(flight)) return;
    this.#queue.push(flight);
  }

  /** False: it was not sent, and must wait in the queue. */
  #send(flight: Flight): boolean {
    const { frame } = flight;
    frame.epoch = this.#epoch;
    frame.sessionCount = this.#sessionCount;
    frame.number = this.#nextFrame;
    frame.seal();
    const outcome = this.#fx.send(this.#server, { kind: 'requests', sessionId: this.#sessionCount, frame });
    if (outcome === 'ok') {
      flight.sent = true;
      flight.sentMs = this.#nowMs;
      this.#inFlight.set(this.#nextFrame++, flight);
      if (this.#owesSinceMs === NEVER) this.#owesSinceMs = this.#nowMs;
      return true;
    }
    if (outcome === 'busy') this.#wakeBy(this.#nowMs + BUSY_RETRY_MS);
    else this.#lost('unreachable');
    return false;
  }

  #sendQueued(): void {
    for (let next = this.#queue.first; next !== undefined && this.#phase === 'open'; next = this.#queue.first) {
      if (next.sent) {
        next.prepareAgain();
        this.#stamp(next);
        this.#resentFrames++;
      }
      if (!this.#send(next)) return;
      this.#queue.shift();
    }
  }

  #stamp({ frame, firstNumber }: Flight): void {
    frame.setVolumeTag(this.#tag);
    frame.attachNumber = this.#spec.attachNumber;
    frame.traceId = firstNumber;
  }

  #releaseHeld(): void {
    for (let next = this.#held.first; next !== undefined; next = this.#held.first) {
      const waitMs = this.#rate?.waitMs(this.#nowMs) ?? 0;
      if (waitMs > 0) return this.#wakeBy(this.#nowMs + waitMs);
      this.#held.shift();
      this.#rate?.spend(next.count, next.bytes());
      this.#admit(next);
    }
  }

  #onReplies(frame: Frame): void {
    if (frame.epoch !== this.#epoch || frame.sessionCount !== this.#sessionCount) return;
    this.#heard();
    const flight = this.#inFlight.get(frame.number);
    if (flight === undefined) return;
    const { client, startMs } = flight;
    const reply = toClient(frame, flight, this.#figures, this.#spec.copy !== null);
    if (reply === null) return;
    const stallMs = this.#nowMs - startMs;
    if (stallMs > this.#figures.longestStallMs) this.#figures.longestStallMs = stallMs;
    if (flight.left === 0) {
      this.#inFlight.delete(frame.number);
      this.#finish(flight);
      this.#attempts = 0;
      this.#resendAfterMs = RESEND_MS_MIN;
    }
    if (this.#inFlight.size === 0) this.#owesSinceMs = NEVER;
    client.replied(reply);
  }

  /** A learner may still have to journal what everybody else has. */
  #finish(flight: Flight): void {
    if (flight.clean && (!flight.sent || this.#configuration.learners.length === 0)) flight.lease.release();
    this.#pool.give(flight);
  }

  /** Answers what is left of it with an I/O error. */
  #fail(flight: Flight): void {
    const { client } = flight;
    const reply = flight.failAll(Status.ioError);
    if (flight.sent) flight.clean = false;
    this.#finish(flight);
    if (reply === null) return;
    this.#figures.failedRequests += reply.count;
    client.replied(reply);
  }

  // ---- session

  #target(): ServerId { return this.#spec.copy ?? primaryOf(this.#configuration); }

  #onStart(): void {
    this.#rate = RateLimit.of(this.#limits, this.#nowMs);
    this.#heardMs = this.#nowMs;
    this.#submittedMs = this.#nowMs;
    if (!this.#fenced(this.#configuration)) this.#open();
  }

  /** Another attach has the right to write now. */
  #fenced(configuration: Configuration): boolean {
    if (this.#spec.readOnly || configuration.attachNumber <= this.#spec.attachNumber) return false;
    this.#end('taken-over');
    return true;
  }

  #open(): void {
    if (this.#sessionCount === this.#reservation.sessionCount) {
      this.#reserve({ ...this.#reservation, sessionCount: this.#reservation.sessionCount + SESSIONS_RESERVED });
    }
    this.#sessionCount++;
    this.#sessions++;
    this.#server = this.#target();
    this.#epoch = this.#spec.copy === null ? this.#configuration.epoch : 0;
    this.#phase = 'opening';
    if (this.#owesSinceMs === NEVER) this.#owesSinceMs = this.#nowMs;
    this.#sendOpen();
  }

  #sendOpen(): void {
    this.#openSentMs = this.#nowMs;
    const generation = { attachNumber: this.#spec.attachNumber, count: this.#sessionCount };
    const outcome = this.#fx.send(this.#server, { kind: 'open', sessionId: this.#sessionCount, epoch: this.#epoch, generation, readOnly: this.#spec.readOnly });
    if (outcome === 'unreachable') return this.#lost('unreachable');
    if (outcome === 'busy') this.#openSentMs += BUSY_RETRY_MS - REPEAT_MS;
    this.#wakeBy(this.#openSentMs + REPEAT_MS);
  }

  /** The session is over; another is opened after a wait that grows until there is progress. What was under way comes first in it. */
  #lost(reason: string): void {
    const opened = this.#phase === 'open';
    this.#phase = 'waiting';
    if (this.#inFlight.size > 0) {
      this.#queue = new Fifo([...this.#inFlight.values(), ...this.#queue]);
      this.#inFlight.clear();
    }
    const waitMs = this.#attempts === 0 ? 0 : Math.min(REOPEN_MS_MAX, REOPEN_MS_MIN * 2 ** (this.#attempts - 1));
    this.#attempts = Math.min(this.#attempts + 1, 16);
    this.#reopenAtMs = this.#nowMs + waitMs;
    this.#wakeBy(this.#reopenAtMs);
    if (opened) this.#fx.event('session-lost', { reason, epoch: this.#epoch, server: this.#server, unanswered: this.#queue.length });
  }

  #onConfiguration(configuration: Configuration): void {
    if (this.#phase === 'ended' || configuration.epoch <= this.#configuration.epoch) return;
    this.#configuration = configuration;
    this.#grown(configuration.sizeBytes);
    if (this.#fenced(configuration) || this.#spec.copy !== null) return;
    this.#lost('new-epoch');
    this.#attempts = 0;
    this.#owesSinceMs = this.#nowMs;
    this.#silentToldMs = -NEVER;
    this.#open();
  }

  #onLink(serverId: ServerId, up: boolean): void {
    if (serverId !== this.#target() || this.#phase === 'ended') return;
    if (!up && this.#phase !== 'waiting') this.#lost('link-down');
    if (!up || this.#phase !== 'waiting') return;
    this.#attempts = 0;
    this.#open();
  }

  #onReply(from: ServerId, message: SessionReply): void {
    if (message.sessionId !== this.#sessionCount || from !== this.#server || (this.#phase !== 'open' && this.#phase !== 'opening')) return;
    switch (message.kind) {
      case 'replies': return this.#onReplies(message.frame);
      case 'opened': return this.#onOpened(message);
      case 'refused': return this.#onRefused(message);
      case 'resized':
        this.#heard();
        return this.#grown(message.sizeBytes);
      case 'alive':
        if (message.epoch === this.#epoch) this.#heard();
        return;
      default: return unreachable(message);
    }
  }

  #heard(): void {
    this.#heardMs = this.#nowMs;
    if (this.#phase === 'open' && this.#inFlight.size === 0) this.#owesSinceMs = NEVER;
    else this.#owesSinceMs = this.#nowMs;
  }

  #onOpened(message: SessionReply & { readonly kind: 'opened' }): void {
    if (this.#phase !== 'opening' || message.epoch !== this.#epoch || message.generation.count !== this.#sessionCount) return;
    // Somebody used our numbers (a host's directory was lost): whatever we send would be taken for done.
    if (message.appliedThrough > this.#reservation.restartCount * REQUESTS_PER_RESTART + this.#numbered) return this.#end('numbers-used');
    const oldest = this.#queue.first;
    this.#phase = 'open';
    this.#nextFrame = 1;
    this.#heard();
    this.#grown(message.sizeBytes);
    this.#fx.event('session-opened', {
      epoch: this.#epoch, server: this.#server, resent: this.#queue.length, stalledMs: oldest === undefined ? 0 : Math.round(this.#nowMs - oldest.startMs),
    });
    this.#sendQueued();
  }

  #onRefused(message: SessionReply & { readonly kind: 'refused' }): void {
    const { reason } = message;
    this.#refusals[reason] = (this.#refusals[reason] ?? 0) + 1;
    this.#heard();
    switch (reason) {
      case 'old-attach': return this.#end('taken-over');
      case 'deleted': return this.#end('deleted');
      case 'not-primary':
      case 'not-serving':
        this.#ask();
        break;
      case 'gap':
      case 'old-session':
        break;
      default: unreachable(reason);
    }
    this.#lost(reason);
  }

  #grown(sizeBytes: number): void {
    if (sizeBytes <= this.#sizeBytes) return;
    this.#sizeBytes = sizeBytes;
    this.#fx.event('grown', { sizeBytes });
  }

  #end(reason: 'detached' | 'taken-over' | 'deleted' | 'numbers-used'): void {
    if (this.#phase === 'ended') return;
    if (this.#phase === 'open' || this.#phase === 'opening') this.#fx.send(this.#server, { kind: 'close', sessionId: this.#sessionCount });
    this.#phase = 'ended';
    this.#wakeAtMs = NEVER;
    const unanswered = [...this.#inFlight.values(), ...this.#queue, ...this.#held];
    this.#inFlight.clear();
    this.#queue = new Fifo();
    while (this.#held.shift() !== undefined);
    this.#fx.event('ended', { reason, unanswered: unanswered.length });
    for (const flight of unanswered) this.#fail(flight);
  }

  #onLimits(limits: VolumeLimits): void {
    this.#limits = limits;
    this.#rate = RateLimit.of(limits, this.#nowMs);
    this.#releaseHeld();
  }

  #reserve(reservation: Reservation): void {
    this.#fx.reserve(reservation);
    if (reservation.restartCount > this.#reservation.restartCount) this.#numbered = 0;
    this.#reservation = reservation;
  }

  // ---- time

  #wakeBy(atMs: number): void {
    if (atMs >= this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    this.#fx.setTimer(atMs);
  }

  #onTimer(): void {
    if (this.#phase === 'ended') return;
    const lateMs = this.#nowMs - this.#wakeAtMs;
    // Whoever was frozen, or starved of its processor, has not heard: that says nothing about the primary.
    if (lateMs > LATE_MS && this.#owesSinceMs !== NEVER) this.#owesSinceMs = Math.min(this.#nowMs, this.#owesSinceMs + lateMs);
    this.#wakeAtMs = NEVER;
    this.#giveUpOld();
    this.#releaseHeld();
    this.#tickSession();
    this.#tellSilence();
    this.#setNextTimer();
  }

  #tickSession(): void {
    switch (this.#phase) {
      case 'waiting':
        if (this.#nowMs >= this.#reopenAtMs) this.#open();
        return;
      case 'opening':
        if (this.#nowMs - this.#openSentMs < REPEAT_MS) return;
        this.#sendOpen();
        if (this.#phase === 'opening') this.#probe();
        return;
      case 'open':
        if (this.#resendDue()) {
          this.#resendAfterMs = Math.min(RESEND_MS_MAX, this.#resendAfterMs * 2);
          return this.#lost('unanswered');
        }
        this.#sendQueued();
        if (this.#phase === 'open' && this.#nowMs >= this.#probeDueMs()) this.#probe();
        return;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
  }

  #resendDue(): boolean {
    for (const flight of this.#inFlight.values()) return this.#nowMs - flight.sentMs >= this.#resendAfterMs;
    return false;
  }

  #probeDueMs(): number {
    const last = Math.max(this.#heardMs, this.#probeSentMs);
    if (this.#inFlight.size > 0 || this.#owesSinceMs !== NEVER) return last + PROBE_MS;
    const idleMs = this.#nowMs - this.#submittedMs;
    for (const slower of PROBE_SLOWER) if (idleMs >= slower.idleMs) return last + slower.everyMs;
    return last + PROBE_MS;
  }

  #probe(): void {
    this.#probeSentMs = this.#nowMs;
    const outcome = this.#fx.send(this.#server, { kind: 'probe', sessionId: this.#sessionCount, epoch: this.#epoch, sentAtMs: this.#nowMs });
    if (outcome === 'unreachable') return this.#lost('unreachable');
    if (this.#owesSinceMs === NEVER) this.#owesSinceMs = this.#nowMs;
  }

  #tellSilence(): void {
    const silentMs = this.#nowMs - this.#owesSinceMs;
    if (silentMs < SILENT_MS || this.#nowMs - this.#silentToldMs < SILENT_REPEAT_MS || this.#spec.copy !== null) return;
    if (this.#silentToldMs === -NEVER) this.#fx.event('primary-silent', { epoch: this.#configuration.epoch, server: this.#server, silentMs: Math.round(silentMs) });
    this.#silentToldMs = this.#nowMs;
    const { volumeId } = this.#spec;
    this.#fx.tell({ kind: 'primary-silent', volumeId, epoch: this.#configuration.epoch, serverId: this.#server, silentMs });
    this.#ask();
  }

  #ask(): void {
    if (this.#nowMs - this.#askedMs < ASK_MS || this.#spec.copy !== null) return;
    this.#askedMs = this.#nowMs;
    this.#fx.tell({ kind: 'ask-configuration', volumeId: this.#spec.volumeId, epoch: this.#configuration.epoch });
  }

  /** Requests are in the order of their start, over all lists. */
  #giveUpOld(): void {
    const { ioTimeoutMs } = this.#limits;
    if (ioTimeoutMs === 0) return;
    const untilMs = this.#nowMs - ioTimeoutMs;
    let requests = 0;
    for (const [number, flight] of this.#inFlight) {
      if (flight.startMs > untilMs) break;
      this.#inFlight.delete(number);
      requests += this.#giveUp(flight);
    }
    for (let next = this.#queue.first; next !== undefined && next.startMs <= untilMs; next = this.#queue.first) {
      this.#queue.shift();
      requests += this.#giveUp(next);
    }
    if (requests === 0) return;
    this.#timedOutRequests += requests;
    this.#fx.event('requests-timed-out', { requests, ioTimeoutMs, phase: this.#phase, epoch: this.#epoch, server: this.#server });
  }

  #giveUp(flight: Flight): number {
    const { left } = flight;
    this.#figures.longestStallMs = Math.max(this.#figures.longestStallMs, this.#nowMs - flight.startMs);
    this.#fail(flight);
    return left;
  }

  #setNextTimer(): void {
    switch (this.#phase) {
      case 'waiting':
        this.#wakeBy(this.#reopenAtMs);
        break;
      case 'opening':
        this.#wakeBy(this.#openSentMs + REPEAT_MS);
        break;
      case 'open':
        this.#wakeBy(this.#inFlight.size > 0 || this.#queue.length > 0 ? this.#nowMs + PROBE_MS : this.#probeDueMs());
        break;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
    if (this.#owesSinceMs !== NEVER) this.#wakeBy(Math.max(this.#owesSinceMs + SILENT_MS, this.#silentToldMs + SILENT_REPEAT_MS, this.#nowMs + 1));
  }
}
