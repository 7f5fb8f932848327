import type { Credentials, Roster } from '@ashlar/identity';
import type { ErrorCode } from '@ashlar/words';
import type { PartiesArgument } from './parties.ts';

/** The name of a process that only has what children run compiled, and ends. */
export const COMPILE_ONLY = 'compile-only';

/**
 * What a child process or thread is told at its start. While a site is upgraded parent and child are of adjacent builds, either may be the later one: what is
 * added here is optional, and what is here keeps its meaning (test/e2e/wire-versions.test.ts).
 */
export interface ChildArgument extends PartiesArgument {
  readonly name: string;
  readonly logFile: string;
  /** Both ends of every link of the site must have it. */
  readonly linkToken: string;
  /** Where the machine is one of a cluster: who it is, and who belongs to it. */
  readonly cluster?: ClusterArgument;
}

export interface ClusterArgument {
  readonly machine: string;
  readonly credentials: Credentials;
  readonly roster: Roster;
  /** Paths of the unix sockets of this machine's own parties. */
  readonly local: Readonly<Record<string, string>>;
}

/** Parent → child. */
export type ToChild =
  | { readonly kind: 'start'; readonly argument: ChildArgument }
  | { readonly kind: 'ping' }
  /** The certificate was renewed, or the roster has changed. */
  | { readonly kind: 'cluster'; readonly cluster: ClusterArgument }
  /** Close everything in order, then exit. */
  | { readonly kind: 'stop' };

/** Child → parent. */
export type ToParent =
  | { readonly kind: 'ready' }
  | { readonly kind: 'pong' }
  /** It cannot start, and trying again would change nothing. */
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string };
