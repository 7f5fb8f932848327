import type { Address, Party } from './address.ts';
import type { ChildSpec } from './child-spec.ts';

/** Anything that is sent: told apart by `kind`. Frozen once sent; the receiver may get the same object. */
export interface Message {
  readonly kind: string;
}

/**
 * - `ok`: queued for the receiver, or handed to a link that is up. Not a promise that it arrives.
 * - `busy`: the mailbox, ring or link is full; nothing was queued. Try again after a while.
 * - `unreachable`: no such actor, or its party has no link now; the message was dropped.
 */
export type SendOutcome = 'ok' | 'busy' | 'unreachable';

/** `unreachable`: the link to its party went down, so that it may well be alive. */
export type DownReason = 'stopped' | 'crashed' | 'no-such-actor' | 'unreachable' | 'thread-ended';

/** What the kernel itself delivers to an actor, with `from` = KERNEL. */
export type Signal =
  | { readonly kind: 'timer'; readonly name: string }
  /** A monitored actor ended. Delivered once for each call of `monitor`. */
  | { readonly kind: 'down'; readonly address: Address; readonly reason: DownReason }
  /** The link to a watched party came up; `incarnation` grows with every link. Nothing of an older link is delivered after it. */
  | { readonly kind: 'link-up'; readonly party: Party; readonly incarnation: number }
  | { readonly kind: 'link-down'; readonly party: Party; readonly incarnation: number };

/**
 * Owns its state; handles one message at a time, to completion. No `await` in a handler: what takes time is asked of a driver,
 * which sends the completion as a message (through the context of the life that asked).
 */
export interface Actor<M extends Message = Message> {
  /** An exception kills this actor only; its supervisor decides what follows. */
  receive(message: M | Signal, from: Address): void;
  /** A snapshot of the state for people: plain JSON, small, cheap, without payload bytes or secrets. */
  inspect(): unknown;
  /**
   * Ends the actor in order. Return `'stopping'` if I/O must end first, and call `context.stopped()` then; messages still arrive
   * meanwhile. After the spec's `shutdownMs` it is given up. Also called after a crash, so that files and sockets are released.
   */
  stop?(reason: StopReason): 'stopping' | void;
}

export type StopReason = 'shutdown' | 'crashed';

/** One actor's view of the kernel, for one life of it: after the actor ended, `send` answers `unreachable` and the rest does nothing. */
export interface ActorContext {
  readonly self: Address;
  readonly log: ActorLog;
  /** Monotonic, in milliseconds with a fraction. The same clock in every thread and process of a machine. */
  nowMs(): number;
  /** Never blocks, never throws for a missing receiver. Also from a driver's callback, outside of `receive`. */
  send(to: Address, message: Message): SendOutcome;
  /** Delivers `{ kind: 'timer', name }` at or after this time. One timer a name; setting it again moves it. */
  setTimer(name: string, atMs: number): void;
  clearTimer(name: string): void;
  /** Delivers `down` when that actor ends, or at once if there is none. */
  monitor(address: Address): void;
  /** Delivers `link-up` and `link-down` of that party from now on, and `link-up` at once if its link is up. */
  watch(party: Party): void;
  /** Starts a child of this actor's own supervisor, after its siblings. */
  spawn(spec: ChildSpec): SpawnOutcome;
  /** Stops a sibling in order and forgets its spec. */
  stopChild(id: string): void;
  /**
   * Calls back once when every message that can be delivered now has been: the place to write one batch instead of many pieces.
   * `output` (socket writes) runs first: others wait for what it sends. `work` (destaging) runs when nothing else is left to do, and may send.
   */
  atTurnEnd(stage: TurnStage, callback: () => void): void;
  /** Ends an orderly stop that returned `'stopping'`. */
  stopped(): void;
  /** Ends this actor as crashed: for a defect found in a driver's callback, outside of `receive`. */
  crash(error: unknown): void;
}

export type TurnStage = 'work' | 'output';
export type SpawnOutcome = 'started' | 'already-started' | 'failed';

export type LogFields = Readonly<Record<string, unknown>>;

/** `requestId` and `traceId` are the fields that follow a request everywhere. */
export interface ActorLog {
  debug(fields: LogFields, text: string): void;
  info(fields: LogFields, text: string): void;
  warn(fields: LogFields, text: string): void;
  error(fields: LogFields, text: string): void;
}
