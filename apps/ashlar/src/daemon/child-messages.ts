import type { ErrorCode } from '@ashlar/words';
import type { PartiesArgument } from './parties.ts';

/** What a child process is told at its start. */
export interface ChildArgument extends PartiesArgument {
  readonly logFile: string;
  /** Both ends of every link of the site must have it. */
  readonly linkToken: string;
}

/** Parent → child process. */
export type ToChild =
  | { readonly kind: 'start'; readonly argument: unknown }
  | { readonly kind: 'ping' }
  /** Close everything in order, then exit. */
  | { readonly kind: 'stop' };

/** Child process → parent. */
export type ToParent =
  | { readonly kind: 'ready' }
  | { readonly kind: 'pong' }
  /** It cannot start, and trying again would change nothing. */
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string };
