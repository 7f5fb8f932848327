import { Command } from '@ashlar/nbd';

/** A range of the device and what base:allocation says of it. */
export interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

/** One request, from call to answer, over as many connections as it takes. */
export interface Request {
  readonly command: number;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** What is written. Left alone by the client, and must be by the caller until the answer. */
  readonly data: Uint8Array | null;
  /** Where what is read goes. */
  readonly into: Uint8Array | null;
  extents: Extent[];
  /** Of `into`, filled on this connection. */
  receivedBytes: number;
  error: number;
  /** Carried to its end, or given up by the caller. */
  settled: boolean;
  readonly done: (error: Error | null) => void;
}

const NAMES: Readonly<Record<number, string>> = {
  [Command.read]: 'read', [Command.write]: 'write', [Command.flush]: 'flush', [Command.trim]: 'trim',
  [Command.cache]: 'cache', [Command.writeZeroes]: 'write zeroes', [Command.blockStatus]: 'block status',
};

export function describe(request: Request): string {
  return `${NAMES[request.command]} of ${request.lengthBytes} bytes at ${request.offsetBytes}`;
}
