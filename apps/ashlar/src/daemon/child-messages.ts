import type { ErrorCode } from '@ashlar/words';

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
