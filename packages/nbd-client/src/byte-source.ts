import type { Socket } from 'node:net';
import { AshlarError } from '@ashlar/words';
import { protocolError } from './errors.ts';

/** Longest item of a handshake that is waited for. */
const ITEM_BYTES_MAX = 64 * 1024;

/** Reads a socket by items of known length, for the handshake. */
export class ByteSource {
  readonly #socket: Socket;
  #held: Buffer = Buffer.alloc(0);
  #wake: (() => void) | null = null;
  #ended: Error | null = null;
  readonly #onData = (chunk: Buffer): void => {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#wake?.();
  };
  readonly #onEnd = (): void => this.#end(new AshlarError('unavailable', 'the NBD server closed the connection', { retry: 'later' }));
  readonly #onError = (error: Error): void => this.#end(error);

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onEnd).on('error', this.#onError);
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

  /** Stops reading; what has arrived and was not taken is the caller's. */
  release(): Buffer {
    this.#socket.pause();
    this.#socket.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd).off('error', this.#onError);
    return this.#held;
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#wake?.();
  }
}
