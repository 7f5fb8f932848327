import { primaryOf, Status, volumeTag, type AttachmentSpec, type Configuration, type Frame, type SessionReply, type Usage, type VolumeLimits, type VolumeTag } from '@ashlar/protocol';
import { assert, unreachable, type ServerId } from '@ashlar/words';
import { Figures, toClient } from './answers.ts';
import type { AttachmentClient, AttachmentEffects, AttachmentInput, PayloadLease, Reservation } from './effects.ts';
import { FlightPool, type Flight } from './flight.ts';
import {
  ASK_MS, BUSY_RETRY_MS, PROBE_MS, REOPEN_MS_MAX, REOPEN_MS_MIN, REOPEN_SOON_FOR_MS, REOPEN_SOON_MS, REPEAT_MS, REQUESTS_PER_RESTART, RESEND_MS_MAX, RESEND_MS_MIN,
  SESSIONS_RESERVED,
} from './limits.ts';
import { Outbox } from './outbox.ts';
import { NEVER, PrimaryWatch } from './primary-watch.ts';
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
  /** Frames on their way in this session, waiting for one, and held back by a rate limit. */
  readonly inFlight: number;
  readonly queued: number;
  readonly held: number;
  readonly sessions: number;
  readonly resentFrames: number;
  readonly timedOutRequests: number;
  readonly quarantinedRequests: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly usage: Usage;
}

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
  readonly #outbox = new Outbox();
  readonly #watch = new PrimaryWatch();

  #wakeAtMs = NEVER;
  #reopenAtMs = 0;
  /** Sessions since the last progress. */
  #attempts = 0;
  #openSentMs = 0;
  #configuredMs = -NEVER;
  #askedMs = -NEVER;
  #resendAfterMs = RESEND_MS_MIN;
  #sessions = 0;
  #resentFrames = 0;
  /** Flights that are sent alone, operation by operation. They come before all others. */
  #suspects = 0;
  #timedOutRequests = 0;
  #quarantinedRequests = 0;
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
  get idle(): boolean { return this.#outbox.idle; }

  view(): AttachmentView {
    return {
      phase: this.#phase, epoch: this.#epoch, server: this.#server, sizeBytes: this.#sizeBytes, sessionCount: this.#sessionCount, inFlight: this.#outbox.inFlight.size,
      queued: this.#outbox.queued, held: this.#outbox.held, sessions: this.#sessions, resentFrames: this.#resentFrames, timedOutRequests: this.#timedOutRequests,
      quarantinedRequests: this.#quarantinedRequests,
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
      case 'link': return this.#onLink(input.serverId, input.up, input.crashed === true);
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
    this.#watch.submitted(this.#nowMs);
    if (this.#phase === 'ended') return this.#fail(flight);
    // The next tick may be seconds away on an idle attachment.
    this.#wakeBy(this.#nowMs + PROBE_MS);
    if (this.#rate === null) return this.#admit(flight);
    this.#outbox.hold(flight);
    this.#releaseHeld();
  }

  #admit(flight: Flight): void {
    flight.startMs = this.#nowMs;
    if (this.#phase === 'open' && this.#outbox.queued === 0 && this.#suspects === 0 && this.#send(flight, flight.frame)) return;
    this.#outbox.push(flight);
  }

  /** False: it was not sent, and must wait in the queue. */
  #send(flight: Flight, frame: Frame): boolean {
    frame.setVolumeTag(this.#tag);
    frame.attachNumber = this.#spec.attachNumber;
    frame.traceId = flight.firstNumber;
    frame.epoch = this.#epoch;
    frame.sessionCount = this.#sessionCount;
    frame.number = this.#nextFrame;
    frame.seal();
    const outcome = this.#fx.send(this.#server, { kind: 'requests', sessionId: this.#sessionCount, frame });
    if (outcome === 'ok') {
      flight.sent = true;
      flight.sentMs = this.#nowMs;
      this.#outbox.inFlight.set(this.#nextFrame++, flight);
      this.#watch.asked(this.#nowMs);
      return true;
    }
    if (outcome === 'busy') this.#wakeBy(this.#nowMs + BUSY_RETRY_MS);
    else this.#lost('unreachable');
    return false;
  }

  #sendQueued(): void {
    for (let next = this.#outbox.first; next !== undefined && this.#phase === 'open'; next = this.#outbox.first) {
      if (this.#suspects > 0 && this.#outbox.inFlight.size > 0) return; // alone, so that a crash shows who it was
      if (!next.sent) {
        if (!this.#send(next, next.frame)) return;
      } else {
        next.clean = false;
        if (!this.#send(next, next.again())) return;
        this.#resentFrames++;
      }
      this.#outbox.shift();
    }
  }

  #releaseHeld(): void {
    for (let next = this.#outbox.release(this.#rate, this.#nowMs); next !== 0; next = this.#outbox.release(this.#rate, this.#nowMs)) {
      if (typeof next === 'number') return this.#wakeBy(this.#nowMs + next);
      this.#admit(next);
    }
  }

  #onReplies(frame: Frame): void {
    if (frame.epoch !== this.#epoch || frame.sessionCount !== this.#sessionCount) return;
    const { number } = frame;
    const { inFlight } = this.#outbox;
    const flight = inFlight.get(number);
    const reply = flight === undefined ? null : toClient(frame, flight, this.#figures, this.#spec.copy !== null);
    if (flight === undefined || reply === null) return this.#heard();
    const { client, startMs } = flight;
    const stallMs = this.#nowMs - startMs;
    if (stallMs > this.#figures.longestStallMs) this.#figures.longestStallMs = stallMs;
    if (flight.left === 0) {
      inFlight.delete(number);
      this.#finish(flight);
      this.#attempts = 0;
      this.#resendAfterMs = RESEND_MS_MIN;
    } else if (flight.suspect) this.#outbox.recallOne(number, flight);
    this.#heard();
    client.replied(reply);
    if (inFlight.size === 0 && this.#outbox.queued > 0) this.#sendQueued();
  }

  /** A learner may still have to journal what everybody else has. */
  #finish(flight: Flight): void {
    if (flight.clean && (!flight.sent || this.#configuration.learners.length === 0)) flight.lease.release();
    if (flight.suspect) this.#suspects--;
    this.#pool.give(flight);
  }

  /** Answers what is left of it with an I/O error. */
  #fail(flight: Flight): void {
    const { client } = flight;
    const reply = flight.fail(Status.ioError);
    if (flight.sent) flight.clean = false;
    this.#finish(flight);
    if (reply === null) return;
    this.#figures.failedRequests += reply.count;
    client.replied(reply);
  }

  /**
   * The copy crashed with these in hand. Each is sent alone in the next session; one that was alone has ended two copies, and is refused for
   * good rather than sent to a third.
   */
  #suspect(): void {
    for (const [number, flight] of this.#outbox.inFlight) {
      if (!flight.suspect) {
        flight.suspect = true;
        this.#suspects++;
        continue;
      }
      const reply = flight.fail(Status.ioError, 1);
      if (reply === null) continue;
      this.#figures.failedRequests++;
      this.#quarantinedRequests++;
      this.#fx.event('request-quarantined', { op: reply.op(0), offsetBytes: reply.offsetBytes(0), lengthBytes: reply.lengthBytes(0), epoch: this.#epoch, server: this.#server });
      const { client } = flight;
      if (flight.left === 0) {
        this.#outbox.inFlight.delete(number);
        flight.clean = false;
        this.#finish(flight);
      }
      client.replied(reply);
    }
  }

  // ---- session

  #target(): ServerId { return this.#spec.copy ?? primaryOf(this.#configuration); }

  #onStart(): void {
    this.#rate = RateLimit.of(this.#limits, this.#nowMs);
    this.#watch.begin(this.#nowMs);
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
    this.#watch.asked(this.#nowMs);
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
    this.#outbox.recall();
    const most = this.#nowMs - this.#configuredMs < REOPEN_SOON_FOR_MS ? REOPEN_SOON_MS : REOPEN_MS_MAX;
    const waitMs = this.#attempts === 0 ? 0 : Math.min(most, REOPEN_MS_MIN * 2 ** (this.#attempts - 1));
    this.#attempts = Math.min(this.#attempts + 1, 16);
    this.#reopenAtMs = this.#nowMs + waitMs;
    this.#wakeBy(this.#reopenAtMs);
    if (opened) this.#fx.event('session-lost', { reason, epoch: this.#epoch, server: this.#server, unanswered: this.#outbox.queued });
  }

  #onConfiguration(configuration: Configuration): void {
    if (this.#phase === 'ended' || configuration.epoch <= this.#configuration.epoch) return;
    this.#configuration = configuration;
    this.#grown(configuration.sizeBytes);
    if (this.#fenced(configuration) || this.#spec.copy !== null) return;
    this.#lost('new-epoch');
    this.#attempts = 0;
    this.#configuredMs = this.#nowMs;
    this.#watch.begin(this.#nowMs);
    this.#open();
  }

  #onLink(serverId: ServerId, up: boolean, crashed: boolean): void {
    if (serverId !== this.#target() || this.#phase === 'ended') return;
    if (crashed) this.#suspect();
    if (!up && this.#phase !== 'waiting') this.#lost(crashed ? 'crashed' : 'link-down');
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
    this.#watch.heard(this.#nowMs, this.#phase !== 'open' || this.#outbox.inFlight.size > 0);
  }

  #onOpened(message: SessionReply & { readonly kind: 'opened' }): void {
    if (this.#phase !== 'opening' || message.epoch !== this.#epoch || message.generation.count !== this.#sessionCount) return;
    // Somebody used our numbers (a host's directory was lost): whatever we send would be taken for done.
    if (message.appliedThrough > this.#reservation.restartCount * REQUESTS_PER_RESTART + this.#numbered) return this.#end('numbers-used');
    const oldest = this.#outbox.first;
    this.#phase = 'open';
    this.#nextFrame = 1;
    this.#heard();
    this.#grown(message.sizeBytes);
    this.#fx.event('session-opened', {
      epoch: this.#epoch, server: this.#server, resent: this.#outbox.queued, stalledMs: oldest === undefined ? 0 : Math.round(this.#nowMs - oldest.startMs),
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
    const unanswered = this.#outbox.takeAll();
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
    this.#watch.late(this.#nowMs, this.#nowMs - this.#wakeAtMs);
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
        if (this.#phase === 'open' && this.#nowMs >= this.#watch.probeDueMs(this.#nowMs)) this.#probe();
        return;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
  }

  #resendDue(): boolean {
    for (const flight of this.#outbox.inFlight.values()) return this.#nowMs - flight.sentMs >= this.#resendAfterMs;
    return false;
  }

  #probe(): void {
    this.#watch.probed(this.#nowMs);
    const outcome = this.#fx.send(this.#server, { kind: 'probe', sessionId: this.#sessionCount, epoch: this.#epoch, sentAtMs: this.#nowMs });
    if (outcome === 'unreachable') this.#lost('unreachable');
  }

  #tellSilence(): void {
    if (this.#spec.copy !== null) return;
    const complaint = this.#watch.complains(this.#nowMs);
    if (complaint === 'no') return;
    const silentMs = this.#watch.silentMs(this.#nowMs);
    const { epoch } = this.#configuration;
    if (complaint === 'first') this.#fx.event('primary-silent', { epoch, server: this.#server, silentMs: Math.round(silentMs) });
    this.#fx.tell({ kind: 'primary-silent', volumeId: this.#spec.volumeId, epoch, serverId: this.#server, silentMs });
    this.#ask();
  }

  #ask(): void {
    if (this.#nowMs - this.#askedMs < ASK_MS || this.#spec.copy !== null) return;
    this.#askedMs = this.#nowMs;
    this.#fx.tell({ kind: 'ask-configuration', volumeId: this.#spec.volumeId, epoch: this.#configuration.epoch });
  }

  #giveUpOld(): void {
    const { ioTimeoutMs } = this.#limits;
    if (ioTimeoutMs === 0) return;
    let requests = 0;
    for (const flight of this.#outbox.takeOlder(this.#nowMs - ioTimeoutMs)) {
      requests += flight.left;
      this.#figures.longestStallMs = Math.max(this.#figures.longestStallMs, this.#nowMs - flight.startMs);
      this.#fail(flight);
    }
    if (requests === 0) return;
    this.#timedOutRequests += requests;
    this.#fx.event('requests-timed-out', { requests, ioTimeoutMs, phase: this.#phase, epoch: this.#epoch, server: this.#server });
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
        this.#wakeBy(this.#outbox.idle ? this.#watch.probeDueMs(this.#nowMs) : this.#nowMs + PROBE_MS);
        break;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
    this.#wakeBy(this.#watch.nextMs(this.#nowMs));
  }
}
