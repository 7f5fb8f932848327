import type { Actor, ActorContext } from './actor.ts';
import type { Address } from './address.ts';

/**
 * OTP's words: `permanent` is always restarted, `transient` only after a crash, `temporary` never.
 * https://www.erlang.org/doc/apps/stdlib/supervisor.html
 */
export type Restart = 'permanent' | 'transient' | 'temporary';

/** Which siblings share the fate of a child that ended: none, all, or those started after it. */
export type Strategy = 'one_for_one' | 'one_for_all' | 'rest_for_one';

/** One actor, as its supervisor starts it. */
export interface ActorSpec {
  readonly kind: 'actor';
  /** Unique among its siblings. */
  readonly id: string;
  readonly address: Address;
  /** Makes a new life of the actor. An exception counts as a crash. Sending is allowed; the answers come after it returned. */
  readonly start: (context: ActorContext) => Actor;
  readonly restart: Restart;
  /** How long an orderly stop may take before the actor is given up. */
  readonly shutdownMs: number;
  /** Messages that may wait; beyond it senders get `busy`. Default MAILBOX_MAX. */
  readonly mailboxMax?: number;
}

/** A supervisor and what it starts, in this order; stopped in reverse order. */
export interface SupervisorSpec {
  readonly kind: 'supervisor';
  readonly id: string;
  readonly strategy: Strategy;
  /** More than `intensity` restarts within `periodMs` are too many. */
  readonly intensity: number;
  readonly periodMs: number;
  /**
   * What too many restarts mean: `escalate` (OTP: this supervisor ends, its own supervisor acts), or `fault`: the children stay down,
   * `onFault` is called, and the parent never hears of it. A volume's supervisor uses `fault`, so that a copy takes nobody else with it.
   */
  readonly pastIntensity: 'escalate' | 'fault';
  readonly onFault?: (fault: SupervisorFault) => void;
  /** Called at every crash of a child, before anything is restarted. */
  readonly onCrash?: (crash: ChildCrash) => void;
  /** As a child of its own supervisor. Default permanent. */
  readonly restart?: Restart;
  readonly children: readonly ChildSpec[];
}

export type ChildSpec = ActorSpec | SupervisorSpec;

export interface SupervisorFault {
  readonly supervisorId: string;
  /** The child whose restart was one too many. */
  readonly childId: string;
  readonly error: unknown;
}

export interface ChildCrash {
  readonly supervisorId: string;
  readonly childId: string;
  readonly error: unknown;
}
