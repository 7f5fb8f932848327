import type { Configuration, Frame, HostMessage, PayloadLease, SessionMessage, SessionReply, VolumeLimits } from '@ashlar/protocol';
import type { ServerId } from '@ashlar/words';

/** Why requests were failed here, without a copy's answer. */
export type LocalFailure =
  /** Longer under way than the volume's I/O timeout: what has become of it is not known. */
  | 'timed-out'
  /** It ended two copies. */
  | 'quarantined'
  | AttachmentEnd;

/**
 * Why an attachment ended: told to; another attach has the right to write; the volume is gone; its numbers were used by somebody else (the host's
 * directory was lost).
 */
export type AttachmentEnd = 'detached' | 'taken-over' | 'deleted' | 'numbers-used';

/** Whoever sent requests: one NBD connection, or a program in this process. Stays valid after it has ended. */
export interface AttachmentClient {
  /** Answers, under the tags of the requests. The frame and its lease are the client's from now on. `failure`: all of them failed here, for this reason. */
  replied(reply: Frame, failure?: LocalFailure): void;
}

export type AttachmentInput =
  /** First of all, once. */
  | { readonly kind: 'start' }
  /**
   * A frame of requests (operations, checksums, payload); requestNumber(i) is a tag of the client's below 2^32. The frame is the core's
   * from now on. Every operation is answered exactly once.
   */
  | { readonly kind: 'submit'; readonly frame: Frame; readonly client: AttachmentClient; readonly lease: PayloadLease }
  | { readonly kind: 'session'; readonly from: ServerId; readonly message: SessionReply }
  /** From the system manager: perhaps late, perhaps repeated. */
  | { readonly kind: 'configuration'; readonly configuration: Configuration }
  | { readonly kind: 'limits'; readonly limits: VolumeLimits }
  /** Up: messages can be sent. Down: what was under way is lost (the link broke, or the copy's actor ended; `crashed`: by an exception). */
  | { readonly kind: 'link'; readonly serverId: ServerId; readonly up: boolean; readonly crashed?: boolean }
  | { readonly kind: 'timer' }
  /** Detached: the session is closed, whatever is unanswered fails. Nothing is done after it. */
  | { readonly kind: 'detach' };

/**
 * - `ok`: on its way. Messages to one server arrive in order, or a `link` down follows.
 * - `busy`: nothing was queued; try again.
 * - `unreachable`: nothing was queued; there is no link.
 */
export type SendOutcome = 'ok' | 'busy' | 'unreachable';

/** What the core asks for, carried out at once, in the order asked. Inputs that an effect causes are taken after the present one. */
export interface AttachmentEffects {
  /** To the copy of this volume on that server. Request frames are sealed. A frame is not changed after it was sent `ok`. */
  send(to: ServerId, message: SessionMessage): SendOutcome;
  tell(message: HostMessage): void;
  /** Delivers `timer` at or after this time. One timer; setting it again moves it. */
  setTimer(atMs: number): void;
  /** Must be stable when it returns: no later life of this attachment may use what it covers. Rare. */
  reserve(reservation: Reservation): void;
  event(name: string, detail: Readonly<Record<string, string | number | boolean>>): void;
}

/**
 * What lives of one attachment have used up at most: request numbers below (restartCount + 1) * 2^32, and session counts up to
 * sessionCount. Numbers that came again would be taken for retries, and the new request for done.
 */
export interface Reservation {
  readonly restartCount: number;
  readonly sessionCount: number;
}
