import type { Socket } from 'node:net';
import { AshlarError } from '@ashlar/words';
import { protocolError } from './errors.ts';

/** Longest item of a handshake that is waited for. */
const ITEM_BYTES_MAX = 64 * 1024;

/** What a socket receives: items of known length for the handshake, then whatever comes for somebody else. */
export class ByteSource {
  #held: Buffer = Buffer.alloc(0);
  #wake: (() => void) | null = null;
  #ended: Error | null = null;
  #sink: ((chunk: Uint8Array) => void) | null = null;

  /** The socket's end and failure are told to whoever waits. */
  watch(socket: Socket): void {
    const end = (): void => this.#end(new AshlarError('unavailable', 'the NBD server closed the connection', { retry: 'later' }));
    socket.on('end', end).on('close', end).on('error', (error: Error) => this.#end(error));
  }

  /** Takes what has been received; the chunk's memory may be used again when this returns. */
  push(chunk: Uint8Array): void {
    if (this.#sink) return this.#sink(chunk);
    this.#held = Buffer.concat([this.#held, chunk]);
    this.#wake?.();
  }

  async take(bytes: number): Promise<Buffer> {
    if (bytes > ITEM_BYTES_MAX) throw protocolError(`item of ${bytes} bytes in the handshake`);
    while (this.#held.length < bytes) {
      if (this.#ended) throw this.#ended;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#held.subarray(0, bytes);
    this.#held = this.#held.subarray(bytes);
    return taken;
  }

  /** Bytes that were not taken. */
  get rest(): number {
    return this.#held.length;
  }

  /** Everything that was not taken, and all that comes, goes there. */
  passTo(sink: (chunk: Uint8Array) => void): void {
    this.#sink = sink;
    const held = this.#held;
    this.#held = Buffer.alloc(0);
    if (held.length > 0) sink(held);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#wake?.();
  }
}
