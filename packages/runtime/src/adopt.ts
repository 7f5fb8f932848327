import { Socket, type SocketConstructorOpts } from 'node:net';

/** Where a socket puts what it reads, and what it calls then. */
export interface ReadInPlace {
  buffer(): Uint8Array;
  /** False pauses reading until `resume`. */
  callback(bytes: number): boolean;
}

/**
 * Takes over an accepted socket that has not read yet, so that reads go straight into our memory. Node has `onread` for outgoing
 * connections only; the handle of an accepted one is passed to a socket of our own. Null where this Node keeps it elsewhere: the
 * caller then reads in the ordinary way, with one more copy.
 */
export function adopt(accepted: Socket, read: ReadInPlace): Socket | null {
  const holder = accepted as unknown as { _handle?: unknown };
  const handle = holder._handle;
  if (typeof handle !== 'object' || handle === null || !('useUserBuffer' in handle)) return null;
  holder._handle = null;
  const onread = { buffer: () => read.buffer(), callback: (bytes: number) => read.callback(bytes) };
  const options: Omit<SocketConstructorOpts, 'handle'> & { handle: unknown } = { handle, allowHalfOpen: true, onread };
  return new Socket(options as SocketConstructorOpts);
}
