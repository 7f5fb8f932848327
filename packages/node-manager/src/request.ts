import { Op } from '@ashlar/protocol';

/** What a program asked for, until it is answered. */
export interface Request {
  readonly op: Op;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Of a write. The program's own; copied when the request is sent. */
  readonly bytes: Uint8Array | null;
  /** Of a read. The program's own. */
  readonly into: Uint8Array | null;
  resolve(): void;
  reject(error: unknown): void;
  /** It is answered or given up: the program's bytes are not touched any more. */
  settled: boolean;
}

/** Bytes of memory that it takes while it is under way. */
export function heldBytes({ op, lengthBytes }: Request): number {
  return op === Op.read || op === Op.write ? lengthBytes : 0;
}
