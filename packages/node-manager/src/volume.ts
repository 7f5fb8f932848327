import { Op, OpFlag } from '@ashlar/protocol';
import { AshlarError, SECTOR_BYTES, type VolumeId } from '@ashlar/words';
import { PIECE_BYTES_MAX, RANGE_BYTES_MAX } from './limits.ts';
import type { Request } from './request.ts';
import { RequestQueue, type RequestQueuePort } from './request-queue.ts';

export interface RequestOptions {
  /**
   * Gives the request up: its promise is rejected with the signal's reason at once. One that still waits is never sent; one under way may be
   * carried out or not, always before anything that is asked for later, and keeps its room until it is answered.
   */
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends RequestOptions {
  /** Answered only when it is on stable storage, on every in-sync copy. */
  readonly fua?: boolean;
}

export interface VolumePort extends RequestQueuePort {
  /** Detaches it from this host. */
  detach(): Promise<void>;
}

type Asked = Pick<Request, 'op'> & Partial<Pick<Request, 'flags' | 'bytes' | 'into'>>;

/**
 * A volume that is attached in this process. Offsets and lengths are in bytes, multiples of 512 (of 4096 for speed), inside the volume.
 *
 * Requests are carried out in the order in which they were asked for, any number at a time; each 4 KiB block changes as a whole. An answered
 * write is in the journal of every in-sync copy; an answered flush has put every write answered before it on stable storage. A failover is a
 * slower request.
 *
 * **Backpressure.** Up to 1024 requests and 32 MiB are under way. What is asked for beyond that waits, up to 16,384 requests; one more is
 * rejected with `busy`. A program that awaits its requests never sees that.
 *
 * **Bytes.** Those of a write must not change, and the buffer of a read must not be used, until the promise is settled.
 *
 * **Errors** are `AshlarError`s: `invalid-argument` (nothing was sent; or the buffer was given away), `io-error`, `no-space`, `timeout` (the volume's I/O timeout; the
 * outcome is not known), `fenced` (another attachment writes now), `not-found` (deleted), `not-attached` (closed, or detached by somebody),
 * `unavailable` (the attachment ended with the request under way), `quarantined`, `busy`.
 */
export class Volume {
  readonly volumeId: VolumeId;
  readonly readOnly: boolean;
  readonly #port: VolumePort;
  readonly #queue: RequestQueue;
  #sizeBytes: number;
  #closing: Promise<void> | null = null;

  /** @internal Made by `NodeManager.attach`. */
  constructor(volumeId: VolumeId, readOnly: boolean, port: VolumePort) {
    this.volumeId = volumeId;
    this.readOnly = readOnly;
    this.#port = port;
    this.#queue = new RequestQueue(port);
    this.#sizeBytes = port.attachment()?.device().sizeBytes ?? 0;
  }

  /** Grows when the volume does. */
  get sizeBytes(): number {
    this.#sizeBytes = this.#port.attachment()?.device().sizeBytes ?? this.#sizeBytes;
    return this.#sizeBytes;
  }

  /** @internal What requests go to: for measurements. */
  get port(): RequestQueuePort { return this.#port; }

  /** Requests that are under way or waiting. */
  get unanswered(): number { return this.#queue.unanswered; }

  /** So many bytes, or as many as the buffer holds; resolves with them. */
  read(offsetBytes: number, into: number | Uint8Array, options: RequestOptions = {}): Promise<Uint8Array> {
    let buffer: Uint8Array;
    try {
      const lengthBytes = typeof into === 'number' ? into : checkedBytes(into).length;
      this.#check(offsetBytes, lengthBytes, false);
      buffer = typeof into === 'number' ? new Uint8Array(into) : into;
    } catch (error) {
      return Promise.reject(error as Error);
    }
    const ask = (at: number, length: number): Promise<Uint8Array> =>
      this.#ask({ op: Op.read, into: length === buffer.length ? buffer : buffer.subarray(at, at + length) }, offsetBytes + at, length, options, buffer);
    if (buffer.length <= PIECE_BYTES_MAX) return ask(0, buffer.length);
    return inPieces(buffer.length, PIECE_BYTES_MAX, ask).then(() => buffer);
  }

  write(offsetBytes: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    const flags = fuaOf(options);
    try {
      checkedBytes(bytes);
    } catch (error) {
      return Promise.reject(error as Error);
    }
    return this.#change(offsetBytes, bytes.length, PIECE_BYTES_MAX, options, (at, length) => ({ op: Op.write, flags, bytes: length === bytes.length ? bytes : bytes.subarray(at, at + length) }));
  }

  /** The range reads as zeros from now on; its room is kept. */
  writeZeroes(offsetBytes: number, lengthBytes: number, options: WriteOptions = {}): Promise<void> {
    const flags = fuaOf(options) | OpFlag.noHole;
    return this.#change(offsetBytes, lengthBytes, RANGE_BYTES_MAX, options, () => ({ op: Op.zero, flags }));
  }

  /** The range reads as zeros from now on; its room is given back. */
  trim(offsetBytes: number, lengthBytes: number, options: WriteOptions = {}): Promise<void> {
    const flags = fuaOf(options);
    return this.#change(offsetBytes, lengthBytes, RANGE_BYTES_MAX, options, () => ({ op: Op.trim, flags }));
  }

  /** Every write that was answered before this call is on stable storage, on every in-sync copy, when it resolves. */
  flush(options: RequestOptions = {}): Promise<void> {
    if (this.#closing !== null) return Promise.reject(this.#closed());
    return this.#ask({ op: Op.flush }, 0, 0, options, undefined);
  }

  /**
   * Takes no more requests, waits for those that were asked for, and detaches the volume. Rejects with what the system manager says or
   * `unavailable`; the volume then stays attached to this host, and can be attached here again.
   */
  close(): Promise<void> {
    this.#closing ??= this.#queue.drained().then(() => this.#port.detach());
    return this.#closing;
  }

  /** @internal Of the node manager: takes no more requests; resolves when those asked for are answered. */
  quiesce(): Promise<void> {
    this.#closing ??= Promise.resolve();
    return this.#queue.drained();
  }

  /** @internal Of the node manager: what is under way will not be answered. */
  lifeEnded(): void { this.#queue.lifeEnded(); }

  #change(offsetBytes: number, lengthBytes: number, pieceBytes: number, options: RequestOptions, make: (at: number, length: number) => Asked): Promise<void> {
    try {
      this.#check(offsetBytes, lengthBytes, true);
    } catch (error) {
      return Promise.reject(error as Error);
    }
    const ask = (at: number, length: number): Promise<void> => this.#ask(make(at, length), offsetBytes + at, length, options, undefined);
    return lengthBytes <= pieceBytes ? ask(0, lengthBytes) : inPieces(lengthBytes, pieceBytes, ask);
  }

  #check(offsetBytes: number, lengthBytes: number, changes: boolean): void {
    if (this.#closing !== null) throw this.#closed();
    if (changes && this.readOnly) throw new AshlarError('invalid-argument', `${this.volumeId} is attached read-only`);
    if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0 || offsetBytes % SECTOR_BYTES !== 0) throw new AshlarError('invalid-argument', `the offset ${offsetBytes} is not a multiple of ${SECTOR_BYTES}`);
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0 || lengthBytes % SECTOR_BYTES !== 0) throw new AshlarError('invalid-argument', `the length ${lengthBytes} is not a multiple of ${SECTOR_BYTES} above 0`);
    if (offsetBytes + lengthBytes > this.#sizeBytes && offsetBytes + lengthBytes > this.sizeBytes) throw new AshlarError('invalid-argument', `${lengthBytes} bytes at ${offsetBytes} reach beyond the ${this.#sizeBytes} bytes of ${this.volumeId}`);
  }

  #closed(): AshlarError { return new AshlarError('not-attached', `${this.volumeId} was closed`); }

  #ask<T>({ op, flags = 0, bytes = null, into = null }: Asked, offsetBytes: number, lengthBytes: number, { signal }: RequestOptions, value: T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal === undefined) {
        this.#queue.push({ op, flags, offsetBytes, lengthBytes, bytes, into, resolve: () => resolve(value), reject, settled: false });
        return;
      }
      if (signal.aborted) return reject(signal.reason as Error);
      const onAbort = (): void => {
        request.settled = true;
        reject(signal.reason as Error);
      };
      const listenNoMore = (): void => signal.removeEventListener('abort', onAbort);
      const request: Request = {
        op, flags, offsetBytes, lengthBytes, bytes, into, settled: false,
        resolve: () => { listenNoMore(); resolve(value); },
        reject: (error) => { listenNoMore(); reject(error as Error); },
      };
      this.#queue.push(request);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

function fuaOf({ fua }: WriteOptions): number { return fua === true ? OpFlag.fua : 0; }

/** What is copied element by element later must be bytes: larger numbers would be cut, a string become zeros. Not by `instanceof`: some test runners have globals of their own. */
function checkedBytes(buffer: Uint8Array): Uint8Array {
  if (ArrayBuffer.isView(buffer) && buffer.BYTES_PER_ELEMENT === 1) return buffer;
  throw new AshlarError('invalid-argument', 'bytes are a Uint8Array (a Buffer is one)');
}

/** In order. Settled when all are, because until then the program's bytes are in use. */
async function inPieces(lengthBytes: number, pieceBytes: number, ask: (at: number, length: number) => Promise<unknown>): Promise<void> {
  const pieces: Promise<unknown>[] = [];
  for (let at = 0; at < lengthBytes; at += pieceBytes) pieces.push(ask(at, Math.min(pieceBytes, lengthBytes - at)));
  for (const outcome of await Promise.allSettled(pieces)) if (outcome.status === 'rejected') throw outcome.reason;
}
