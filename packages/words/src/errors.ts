/**
 * Every error code a user can meet: what it means for their data, and what to do.
 * Matched by `code`, never by `instanceof`: errors cross threads and machines as plain fields.
 */
export const ERROR_CODES = {
  'invalid-argument': { effect: 'Nothing was changed.', action: 'Correct the argument and call again.' },
  'not-found': { effect: 'Nothing was changed.', action: 'Check the id with `ashlar volume list`.' },
  'already-exists': { effect: 'Nothing was changed.', action: 'Choose another name, or use what exists.' },
  'in-use': { effect: 'Nothing was changed.', action: 'Detach it first, then call again.' },
  'not-attached': { effect: 'Nothing was changed.', action: 'Attach it first.' },
  'unauthorized': { effect: 'Nothing was changed.', action: 'Set ASHLAR_TOKEN to the token that `ashlar up` printed.' },
  'untrusted': { effect: 'Nothing was changed.', action: 'A command: set ASHLAR_CA to the authority.pem of the cluster. A machine: `ashlar cluster invite` prints a new secret.' },
  'directory-locked': { effect: 'Nothing was changed.', action: 'Another process holds this directory; stop it or choose another directory.' },
  'directory-foreign': { effect: 'Nothing was changed.', action: 'This directory belongs to another server; give the right one.' },
  'format-unsupported': { effect: 'The files were not touched.', action: 'Open them with the version that wrote them.' },
  'too-few-servers': { effect: 'Nothing was changed.', action: 'Add storage servers, or ask for fewer mirrors.' },
  'no-space': { effect: 'What was answered is safe; the request was not carried out.', action: 'Free space on the servers or add one.' },
  'busy': { effect: 'Nothing was changed.', action: 'Try again shortly.' },
  'unavailable': { effect: 'What was answered is safe; the request waits or failed.', action: 'Check `ashlar server list` and `ashlar events`.' },
  'store-behind': { effect: 'Nothing was changed; attached volumes go on, but nothing is failed over or rebuilt.', action: 'Run `ashlar recover --dry-run`, then `ashlar recover`; see docs/runbooks/manager-disk-lost.md.' },
  'timeout': { effect: 'The outcome is not known; what was answered is safe.', action: 'Look at the state, then call again.' },
  'fenced': { effect: 'The request was refused; a newer session or epoch serves the volume.', action: 'Attach again if you still want the volume.' },
  'io-error': { effect: 'The request failed; no wrong bytes were returned.', action: 'See `ashlar events` for the copy and the cause.' },
  'corrupt': { effect: 'A checksum did not match; no wrong bytes were returned.', action: 'Run `ashlar volume scrub`; restore if no good copy is left.' },
  'quarantined': { effect: 'The request ended two copies and is refused from now on.', action: 'See `ashlar events`; report it with the event.' },
  'protocol': { effect: 'The connection was closed; nothing was changed.', action: 'Check the versions on both sides.' },
  'internal': { effect: 'The outcome is not known; what was answered is safe.', action: 'Report it with the log lines of this request id.' },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;
export type Retry = 'now' | 'later' | 'never';

export interface ErrorDetails {
  readonly retry?: Retry;
  readonly cause?: unknown;
  readonly path?: string;
  readonly peer?: string;
}

/** An expected failure that somebody outside must be told about. */
export class AshlarError extends Error {
  override readonly name = 'AshlarError';
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly path: string | undefined;
  readonly peer: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retry = details.retry ?? 'never';
    this.path = details.path;
    this.peer = details.peer;
  }

  /** What happened, what it means for the data, what to do: the three sentences of every error. */
  explain(): string {
    const { effect, action } = ERROR_CODES[this.code];
    return `${this.message}. ${effect} ${action}`;
  }
}

export function errorCode(error: unknown): ErrorCode {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && code in ERROR_CODES ? (code as ErrorCode) : 'internal';
}
