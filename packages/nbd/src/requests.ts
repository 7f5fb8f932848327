import { REQUEST_BYTES_MAX } from '@ashlar/words';
import { Op, OpFlag } from '@ashlar/protocol';
import type { NbdDevice } from './backend.ts';
import { Command, CommandFlag, NbdError } from './constants.ts';
import { BLOCK_BYTES_MIN } from './limits.ts';

/** What each command may carry, and what it becomes. FUA is accepted everywhere, and means something where data changes. */
interface CommandRule {
  readonly op: Op;
  readonly flags: number;
  readonly changes: boolean;
  /** Answered for a range beyond the end of the device. */
  readonly beyond: NbdError;
  /** Bounded by the largest request: bytes travel. */
  readonly carriesBytes: boolean;
}

const RULES: readonly (CommandRule | null)[] = [
  /* read */ { op: Op.read, flags: CommandFlag.fua | CommandFlag.df, changes: false, beyond: NbdError.invalid, carriesBytes: true },
  /* write */ { op: Op.write, flags: CommandFlag.fua, changes: true, beyond: NbdError.noSpace, carriesBytes: true },
  /* disconnect */ null,
  /* flush */ { op: Op.flush, flags: CommandFlag.fua, changes: false, beyond: NbdError.invalid, carriesBytes: false },
  /* trim */ { op: Op.trim, flags: CommandFlag.fua, changes: true, beyond: NbdError.invalid, carriesBytes: false },
  /* cache */ { op: Op.cache, flags: CommandFlag.fua, changes: false, beyond: NbdError.invalid, carriesBytes: false },
  /* write zeroes */ { op: Op.zero, flags: CommandFlag.fua | CommandFlag.noHole | CommandFlag.fastZero, changes: true, beyond: NbdError.noSpace, carriesBytes: false },
  /* block status */ { op: Op.status, flags: CommandFlag.fua | CommandFlag.reqOne, changes: false, beyond: NbdError.invalid, carriesBytes: false },
];

/** What the client and the server agreed on that decides which requests are allowed. */
export interface Rules {
  readonly device: NbdDevice;
  readonly structuredReplies: boolean;
  readonly blockStatus: boolean;
}

export function opOf(command: number): Op | null {
  return RULES[command]?.op ?? null;
}

/** Why a request is refused without asking the backend; `none` if it is not. */
export function refusal(command: number, flags: number, offsetBytes: number, lengthBytes: number, rules: Rules): NbdError {
  const rule = RULES[command];
  if (!rule || flags & ~rule.flags) return NbdError.invalid;
  if (rule.op === Op.flush) return NbdError.none;
  if (rule.changes && rules.device.readOnly) return NbdError.perm;
  if (rule.op === Op.status && !rules.blockStatus) return NbdError.invalid;
  if (flags & CommandFlag.df && !rules.structuredReplies) return NbdError.invalid;
  if (lengthBytes === 0 || lengthBytes % BLOCK_BYTES_MIN !== 0 || offsetBytes % BLOCK_BYTES_MIN !== 0) return NbdError.invalid;
  if (rule.carriesBytes && lengthBytes > REQUEST_BYTES_MAX) return NbdError.invalid;
  if (offsetBytes + lengthBytes > rules.device.sizeBytes) return rule.beyond;
  return NbdError.none;
}

export function opFlagsOf(op: Op, flags: number): number {
  let result = 0;
  if (flags & CommandFlag.fua && (op === Op.write || op === Op.zero || op === Op.trim)) result |= OpFlag.fua;
  if (flags & CommandFlag.noHole) result |= OpFlag.noHole;
  if (flags & CommandFlag.fastZero) result |= OpFlag.fastZero;
  return result;
}

/** Bytes of memory that a request holds until it is answered. */
export function heldBytes(op: Op, lengthBytes: number): number {
  return op === Op.read || op === Op.write ? lengthBytes : 0;
}

export function isWriteCommand(command: number): boolean {
  return command === Command.write;
}
