import { primaryOf, volumeTag, type AttachmentSpec, type Configuration, type Frame, type PayloadLease, type SessionReply, type Usage, type VolumeLimits } from '@ashlar/protocol';
import { assert, unreachable, type ServerId } from '@ashlar/words';
import { Delivery, type DeliveryPort, type Line } from './delivery.ts';
import type { AttachmentClient, AttachmentEffects, AttachmentEnd, AttachmentInput, Reservation, SendOutcome } from './effects.ts';
import { ASK_MS, BUSY_RETRY_MS, LATE_MS, PROBE_MS, REOPEN_MS_MAX, REOPEN_MS_MIN, REOPEN_SOON_FOR_MS, REOPEN_SOON_MS, REPEAT_MS, RESEND_MS_MAX, RESEND_MS_MIN } from './limits.ts';
import { Numbers } from './numbers.ts';
import { NEVER, PrimaryWatch } from './primary-watch.ts';
import { RateLimit } from './rate-limit.ts';
import { RequestTotals } from './totals.ts';

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
export class AttachmentCore implements DeliveryPort {
  readonly #spec: AttachmentSpec;
  readonly #numbers: Numbers;
  readonly #delivery: Delivery;
  readonly #totals: RequestTotals;
  readonly #watch = new PrimaryWatch();
  /** Of the present session. */
  readonly #line: Line;
  #configuration: Configuration;
  #limits: VolumeLimits;
  #fx: AttachmentEffects = undefined as unknown as AttachmentEffects;
  #nowMs = 0;
  #running = false;
  readonly #inbox: AttachmentInput[] = [];

  #phase: AttachmentPhase = 'waiting';
  /** Why, in the phase `ended`. */
  #endedBy: AttachmentEnd | null = null;
  #sizeBytes: number;
  #wakeAtMs = NEVER;
  #wasLate = false;
  #reopenAtMs = 0;
  /** Sessions since the last progress. */
  #attempts = 0;
  #openSentMs = 0;
  #configuredMs = -NEVER;
  #askedMs = -NEVER;
  #resendAfterMs = RESEND_MS_MIN;
  #sessions = 0;
  readonly #refusals: Record<string, number> = {};

  /** `reservation`: from `nextReservation`, stable before this. `totals`: those of its host. `numbered`: tests begin near the end of a reservation. */
  constructor(spec: AttachmentSpec, configuration: Configuration, reservation: Reservation, totals: RequestTotals = new RequestTotals(), numbered = 0) {
    assert(spec.volumeId === configuration.volumeId, 'the configuration is of this volume');
    this.#spec = spec;
    this.#configuration = configuration;
    this.#limits = spec.limits;
    this.#sizeBytes = configuration.sizeBytes;
    this.#numbers = new Numbers(reservation, numbered);
    this.#line = { server: this.#target(), epoch: 0, sessionCount: this.#numbers.sessionCount, nextFrame: 1, open: false };
    this.#totals = totals;
    this.#delivery = new Delivery(spec, volumeTag(spec.volumeId), this.#line, this, totals);
  }

  get phase(): AttachmentPhase { return this.#phase; }
  get configuration(): Configuration { return this.#configuration; }
  /** Grows; never shrinks. */
  get sizeBytes(): number { return this.#sizeBytes; }
  get usage(): Usage { return this.#delivery.usage; }
  get idle(): boolean { return this.#delivery.outbox.idle; }

  view(): AttachmentView {
    const { outbox, resentFrames, timedOutRequests, quarantinedRequests, usage } = this.#delivery;
    const { epoch, server, sessionCount } = this.#line;
    return {
      phase: this.#phase, epoch, server, sizeBytes: this.#sizeBytes, sessionCount, inFlight: outbox.inFlight.size, queued: outbox.queued, held: outbox.held,
      sessions: this.#sessions, resentFrames, timedOutRequests, quarantinedRequests, refusals: { ...this.#refusals }, usage,
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
    const firstNumber = this.#numbers.requests(count, this.#reserve);
    this.#watch.submitted(this.#nowMs);
    // The next tick may be seconds away on an idle attachment.
    if (this.#endedBy === null) this.#wakeBy(this.#nowMs + PROBE_MS);
    this.#delivery.submit(frame, client, lease, firstNumber, this.#endedBy, this.#nowMs);
  }

  #onReplies(frame: Frame): void {
    const line = this.#line;
    if (frame.epoch !== line.epoch || frame.sessionCount !== line.sessionCount) return;
    const answer = this.#delivery.replies(frame, this.#nowMs);
    this.#heard();
    if (answer === null) return;
    if (answer.done) {
      this.#attempts = 0;
      this.#resendAfterMs = RESEND_MS_MIN;
    }
    answer.client.replied(answer.reply);
    const { outbox } = this.#delivery;
    if (outbox.inFlight.size === 0 && outbox.queued > 0) this.#delivery.sendQueued(this.#nowMs);
  }

  readonly #reserve = (reservation: Reservation): void => this.#fx.reserve(reservation);

  // ---- DeliveryPort

  sendFrame(frame: Frame): SendOutcome {
    const outcome = this.#fx.send(this.#line.server, { kind: 'requests', sessionId: this.#line.sessionCount, frame });
    if (outcome === 'ok') this.#watch.asked(this.#nowMs);
    else if (outcome === 'busy') this.#wakeBy(this.#nowMs + BUSY_RETRY_MS);
    else this.#lost('unreachable');
    return outcome;
  }

  waitFor(ms: number): void { this.#wakeBy(this.#nowMs + ms); }

  /** A learner may still have to journal what everybody else has. */
  settledEverywhere(): boolean { return this.#configuration.learners.length === 0; }

  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void { this.#fx.event(name, detail); }

  // ---- session

  #target(): ServerId { return this.#spec.copy ?? primaryOf(this.#configuration); }

  #onStart(): void {
    this.#delivery.limit(RateLimit.of(this.#limits, this.#nowMs), this.#nowMs);
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
    const line = this.#line;
    line.sessionCount = this.#numbers.nextSession(this.#reserve);
    line.server = this.#target();
    line.epoch = this.#spec.copy === null ? this.#configuration.epoch : 0;
    this.#sessions++;
    this.#phase = 'opening';
    this.#watch.asked(this.#nowMs);
    this.#sendOpen();
  }

  #sendOpen(): void {
    this.#openSentMs = this.#nowMs;
    const { server, epoch, sessionCount } = this.#line;
    const generation = { attachNumber: this.#spec.attachNumber, count: sessionCount };
    const outcome = this.#fx.send(server, { kind: 'open', sessionId: sessionCount, epoch, generation, readOnly: this.#spec.readOnly });
    if (outcome === 'unreachable') return this.#lost('unreachable');
    if (outcome === 'busy') this.#openSentMs += BUSY_RETRY_MS - REPEAT_MS;
    this.#wakeBy(this.#openSentMs + REPEAT_MS);
  }

  /** The session is over; another is opened after a wait that grows until there is progress. What was under way comes first in it. */
  #lost(reason: string): void {
    const { server, epoch, open } = this.#line;
    this.#phase = 'waiting';
    this.#line.open = false;
    this.#delivery.outbox.recall();
    const most = this.#nowMs - this.#configuredMs < REOPEN_SOON_FOR_MS ? REOPEN_SOON_MS : REOPEN_MS_MAX;
    const waitMs = this.#attempts === 0 ? 0 : Math.min(most, REOPEN_MS_MIN * 2 ** (this.#attempts - 1));
    this.#attempts = Math.min(this.#attempts + 1, 16);
    this.#reopenAtMs = this.#nowMs + waitMs;
    this.#wakeBy(this.#reopenAtMs);
    if (open) this.#fx.event('session-lost', { reason, epoch, server, unanswered: this.#delivery.outbox.queued });
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
    if (crashed) this.#delivery.suspectAll();
    if (!up && this.#phase !== 'waiting') this.#lost(crashed ? 'crashed' : 'link-down');
    if (!up || this.#phase !== 'waiting') return;
    this.#attempts = 0;
    this.#open();
  }

  #onReply(from: ServerId, message: SessionReply): void {
    if (message.sessionId !== this.#line.sessionCount || from !== this.#line.server || (this.#phase !== 'open' && this.#phase !== 'opening')) return;
    switch (message.kind) {
      case 'replies': return this.#onReplies(message.frame);
      case 'opened': return this.#onOpened(message);
      case 'refused': return this.#onRefused(message);
      case 'resized':
        this.#heard();
        return this.#grown(message.sizeBytes);
      case 'alive':
        if (message.epoch === this.#line.epoch) this.#heard();
        return;
      default: return unreachable(message);
    }
  }

  #heard(): void {
    this.#watch.heard(this.#nowMs, this.#phase !== 'open' || this.#delivery.outbox.inFlight.size > 0);
  }

  #onOpened(message: SessionReply & { readonly kind: 'opened' }): void {
    const line = this.#line;
    if (this.#phase !== 'opening' || message.epoch !== line.epoch || message.generation.count !== line.sessionCount) return;
    // Somebody used our numbers (a host's directory was lost): whatever we send would be taken for done.
    if (message.appliedThrough > this.#numbers.highest) return this.#end('numbers-used');
    const { outbox } = this.#delivery;
    const oldest = outbox.first;
    this.#phase = 'open';
    line.open = true;
    line.nextFrame = 1;
    this.#heard();
    this.#grown(message.sizeBytes);
    const stalledMs = oldest === undefined ? 0 : Math.round(this.#nowMs - oldest.startMs);
    this.#fx.event('session-opened', { epoch: line.epoch, server: line.server, resent: outbox.queued, stalledMs });
    this.#delivery.sendQueued(this.#nowMs);
  }

  #onRefused(message: SessionReply & { readonly kind: 'refused' }): void {
    const { reason } = message;
    this.#refusals[reason] = (this.#refusals[reason] ?? 0) + 1;
    this.#totals.refused(reason);
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

  #end(reason: AttachmentEnd): void {
    if (this.#phase === 'ended') return;
    const { server, sessionCount } = this.#line;
    if (this.#phase === 'open' || this.#phase === 'opening') this.#fx.send(server, { kind: 'close', sessionId: sessionCount });
    this.#phase = 'ended';
    this.#endedBy = reason;
    this.#line.open = false;
    this.#wakeAtMs = NEVER;
    this.#fx.event('ended', { reason });
    this.#delivery.failEverything(reason);
  }

  #onLimits(limits: VolumeLimits): void {
    this.#limits = limits;
    this.#delivery.limit(RateLimit.of(limits, this.#nowMs), this.#nowMs);
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
    this.#wakeAtMs = NEVER;
    this.#watch.late(this.#nowMs, lateMs);
    // Who comes late may have answers waiting: they are taken before anything is given up. Not twice, or a busy machine would make requests hang.
    const late = lateMs > LATE_MS && !this.#wasLate;
    this.#wasLate = late;
    if (!late && this.#limits.ioTimeoutMs > 0) this.#delivery.giveUpOlder(this.#nowMs - this.#limits.ioTimeoutMs, this.#nowMs);
    this.#delivery.releaseHeld(this.#nowMs);
    this.#tickSession(late);
    this.#tellSilence();
    this.#setNextTimer();
  }

  #tickSession(late: boolean): void {
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
        if (!late && this.#resendDue()) {
          this.#resendAfterMs = Math.min(RESEND_MS_MAX, this.#resendAfterMs * 2);
          return this.#lost('unanswered');
        }
        this.#delivery.sendQueued(this.#nowMs);
        if (this.#phase === 'open' && this.#nowMs >= this.#watch.probeDueMs(this.#nowMs)) this.#probe();
        return;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
  }

  #resendDue(): boolean {
    for (const flight of this.#delivery.outbox.inFlight.values()) return this.#nowMs - flight.sentMs >= this.#resendAfterMs;
    return false;
  }

  #probe(): void {
    const { server, epoch, sessionCount } = this.#line;
    this.#watch.probed(this.#nowMs);
    const outcome = this.#fx.send(server, { kind: 'probe', sessionId: sessionCount, epoch, sentAtMs: this.#nowMs });
    if (outcome === 'unreachable') this.#lost('unreachable');
  }

  #tellSilence(): void {
    if (this.#spec.copy !== null) return;
    const complaint = this.#watch.complains(this.#nowMs);
    if (complaint === 'no') return;
    const silentMs = this.#watch.silentMs(this.#nowMs);
    const { epoch } = this.#configuration;
    const { server } = this.#line;
    if (complaint === 'first') this.#fx.event('primary-silent', { epoch, server, silentMs: Math.round(silentMs) });
    this.#fx.tell({ kind: 'primary-silent', volumeId: this.#spec.volumeId, epoch, serverId: server, silentMs });
    this.#ask();
  }

  #ask(): void {
    if (this.#nowMs - this.#askedMs < ASK_MS || this.#spec.copy !== null) return;
    this.#askedMs = this.#nowMs;
    this.#fx.tell({ kind: 'ask-configuration', volumeId: this.#spec.volumeId, epoch: this.#configuration.epoch });
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
        this.#wakeBy(this.#delivery.outbox.idle ? this.#watch.probeDueMs(this.#nowMs) : this.#nowMs + PROBE_MS);
        break;
      case 'ended': return;
      default: unreachable(this.#phase);
    }
    this.#wakeBy(this.#watch.nextMs(this.#nowMs));
  }
}
