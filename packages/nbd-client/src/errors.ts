import { AshlarError, type ErrorCode } from '@ashlar/words';
import { NbdError } from '@ashlar/nbd';

const CODES: Readonly<Record<number, { readonly name: string; readonly code: ErrorCode }>> = {
  [NbdError.perm]: { name: 'EPERM', code: 'unauthorized' },
  [NbdError.io]: { name: 'EIO', code: 'io-error' },
  [NbdError.noMemory]: { name: 'ENOMEM', code: 'busy' },
  [NbdError.invalid]: { name: 'EINVAL', code: 'invalid-argument' },
  [NbdError.noSpace]: { name: 'ENOSPC', code: 'no-space' },
  [NbdError.overflow]: { name: 'EOVERFLOW', code: 'invalid-argument' },
  [NbdError.notSupported]: { name: 'ENOTSUP', code: 'invalid-argument' },
  [NbdError.shutdown]: { name: 'ESHUTDOWN', code: 'unavailable' },
};

/** The server answered a request with an error. */
export class NbdRequestError extends AshlarError {
  /** `EIO`, `ENOSPC`, … or `E` and the number. */
  readonly errno: string;

  constructor(request: string, error: number) {
    const known = CODES[error];
    super(known?.code ?? 'io-error', `${request}: ${known?.name ?? `error ${error}`}`);
    this.errno = known?.name ?? `E${error}`;
  }
}

export function protocolError(message: string): AshlarError {
  return new AshlarError('protocol', `NBD server: ${message}`);
}
