import type { LocalFailure } from '@ashlar/host';
import { Op, Status } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';
import type { Request } from './request.ts';

const NAMES: Readonly<Record<number, string>> = { [Op.read]: 'read', [Op.write]: 'write', [Op.zero]: 'write of zeroes', [Op.trim]: 'trim', [Op.flush]: 'flush' };

/** What a program is told of a request that failed: by a copy's status, or here, for a reason of our own. */
export function failureOf(volume: string, request: Request, status: Status, failure: LocalFailure | undefined): AshlarError {
  const what = describe(volume, request);
  switch (failure) {
    case 'timed-out': return new AshlarError('timeout', `${what}: no answer within the volume's I/O timeout; whether it was carried out is not known`, { retry: 'later' });
    case 'quarantined': return new AshlarError('quarantined', `${what}: two copies ended while they carried it out`);
    case 'taken-over': return new AshlarError('fenced', `${what}: another attachment has the right to write to this volume now`);
    case 'numbers-used': return new AshlarError('fenced', `${what}: somebody else has used this attachment's request numbers (was its directory lost or copied?)`);
    case 'deleted': return new AshlarError('not-found', `${what}: the volume was deleted`);
    case 'detached': return new AshlarError('unavailable', `${what}: the volume was detached before it was answered; whether it was carried out is not known`);
    case undefined: break;
  }
  switch (status) {
    case Status.noSpace: return new AshlarError('no-space', `${what}: no room on the servers`, { retry: 'later' });
    case Status.busy: return new AshlarError('busy', `${what}: the volume is busy`, { retry: 'later' });
    case Status.invalid:
    case Status.notSupported: return new AshlarError('invalid-argument', `${what}: the volume refuses it`);
    default: return new AshlarError('io-error', `${what}: no copy could carry it out`);
  }
}

/** The buffer of it is not what it was when it was asked for. */
export function failureOfBuffer(volume: string, request: Request): AshlarError {
  return new AshlarError('invalid-argument', `${describe(volume, request)}: its buffer was transferred or resized before it was answered`);
}

function describe(volume: string, { op, offsetBytes, lengthBytes }: Request): string {
  const name = NAMES[op] ?? 'request';
  return op === Op.flush ? `${name} of ${volume}` : `${name} of ${lengthBytes} bytes at ${offsetBytes} of ${volume}`;
}
