import { CHUNK_HEADER_BYTES, Command, ReplyFlag, REPLY_TYPE_ERROR_BIT, ReplyType, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from '@ashlar/nbd';
import { protocolError } from './errors.ts';
import type { Request } from './request.ts';

/** Longest block status or error that is collected; anything longer ends the connection. */
const COLLECTED_BYTES_MAX = 1024 * 1024;

type Expecting = 'header' | 'chunk-header' | 'data-offset' | 'data' | 'collected';

/** Takes the stream of replies apart: bytes read go straight to where they are wanted. */
export class ReplyReader {
  readonly #find: (cookie: number) => Request | undefined;
  readonly #finished: (cookie: number, request: Request) => void;
  readonly #allocationContext: number | null;
  readonly #structured: boolean;
  #expecting: Expecting = 'header';
  readonly #scratch = Buffer.alloc(CHUNK_HEADER_BYTES);
  #held = 0;
  #wanted = 4;
  #cookie = 0;
  #request: Request | null = null;
  #done = false;
  #type = 0;
  #length = 0;
  /** Where in `into` the next bytes go. */
  #at = 0;
  #collected: Buffer = Buffer.alloc(0);

  constructor(options: {
    readonly structuredReplies: boolean;
    readonly allocationContext: number | null;
    readonly find: (cookie: number) => Request | undefined;
    readonly finished: (cookie: number, request: Request) => void;
  }) {
    this.#find = options.find;
    this.#finished = options.finished;
    this.#allocationContext = options.allocationContext;
    this.#structured = options.structuredReplies;
  }

  /** Throws where the server breaks the protocol. */
  read(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) at += this.#take(chunk, at);
  }

  #take(chunk: Uint8Array, at: number): number {
    const bytes = Math.min(chunk.length - at, this.#wanted - this.#held);
    const piece = chunk.subarray(at, at + bytes);
    if (this.#expecting === 'data') memoryOf(this.#request)?.set(piece, this.#at + this.#held);
    else if (this.#expecting === 'collected') this.#collected.set(piece, this.#held);
    else this.#scratch.set(piece, this.#held);
    this.#held += bytes;
    if (this.#held === this.#wanted) this.#complete();
    return bytes;
  }

  #complete(): void {
    switch (this.#expecting) {
      case 'header': return this.#header();
      case 'chunk-header': return this.#chunkHeader();
      case 'data-offset': return this.#dataOffset();
      case 'data': {
        const request = this.#request as Request;
        request.receivedBytes += this.#wanted;
        return this.#chunkDone(request);
      }
      case 'collected': return this.#collectedDone(this.#request as Request);
    }
  }

  #expect(what: Expecting, bytes: number, held = 0): void {
    this.#expecting = what;
    this.#wanted = bytes;
    this.#held = held;
  }

  #header(): void {
    const magic = this.#scratch.readUInt32BE(0);
    if (magic === STRUCTURED_REPLY_MAGIC && this.#structured) {
      if (this.#held < CHUNK_HEADER_BYTES) return this.#expect('chunk-header', CHUNK_HEADER_BYTES, this.#held);
    } else if (magic !== SIMPLE_REPLY_MAGIC) throw protocolError('reply without its magic number');
    if (this.#held < SIMPLE_REPLY_BYTES) return this.#expect('header', SIMPLE_REPLY_BYTES, this.#held);
    this.#simple(this.#scratch.readUInt32BE(4));
  }

  #simple(error: number): void {
    const request = this.#lookUp();
    this.#done = true;
    request.error = error;
    if (request.command !== Command.read && request.command !== Command.blockStatus) return this.#chunkDone(request);
    if (error !== 0) return this.#chunkDone(request);
    if (this.#structured || request.command === Command.blockStatus) throw protocolError('simple reply where a structured one is due');
    this.#at = 0;
    this.#expect('data', request.lengthBytes);
  }

  #lookUp(): Request {
    if (this.#scratch.readUInt32BE(8) !== 0) throw protocolError('reply to a request that was not made');
    this.#cookie = this.#scratch.readUInt32BE(12);
    const request = this.#find(this.#cookie);
    if (!request) throw protocolError('reply to a request that was not made');
    this.#request = request;
    return request;
  }

  #chunkHeader(): void {
    const request = this.#lookUp();
    this.#done = (this.#scratch.readUInt16BE(4) & ReplyFlag.done) !== 0;
    this.#type = this.#scratch.readUInt16BE(6);
    this.#length = this.#scratch.readUInt32BE(16);
    if (this.#type === ReplyType.offsetData && request.command === Command.read) {
      if (this.#length <= 8) throw protocolError('data chunk without data');
      return this.#expect('data-offset', 8);
    }
    if (this.#length > COLLECTED_BYTES_MAX) throw protocolError(`chunk of ${this.#length} bytes`);
    if (this.#length === 0) return this.#noPayload(request);
    this.#collected = Buffer.alloc(this.#length);
    this.#expect('collected', this.#length);
  }

  #noPayload(request: Request): void {
    if (this.#type !== ReplyType.none || !this.#done) throw protocolError('empty chunk that is not the last');
    this.#chunkDone(request);
  }

  #dataOffset(): void {
    const request = this.#request as Request;
    const offset = Number(this.#scratch.readBigUInt64BE(0)) - request.offsetBytes;
    const length = this.#length - 8;
    if (offset < 0 || offset + length > request.lengthBytes) throw protocolError('data outside of what was asked for');
    this.#at = offset;
    this.#expect('data', length);
  }

  #collectedDone(request: Request): void {
    const payload = this.#collected;
    if (this.#type & REPLY_TYPE_ERROR_BIT) {
      if (payload.length < 6) throw protocolError('error chunk that is too short');
      request.error ||= payload.readUInt32BE(0) || 5;
    } else if (this.#type === ReplyType.offsetHole && request.command === Command.read && payload.length === 12) this.#hole(request, payload);
    else if (this.#type === ReplyType.blockStatus && request.command === Command.blockStatus && payload.length >= 12 && payload.length % 8 === 4) this.#status(request, payload);
    else throw protocolError(`unexpected chunk of type ${this.#type}`);
    this.#chunkDone(request);
  }

  #hole(request: Request, payload: Buffer): void {
    const offset = Number(payload.readBigUInt64BE(0)) - request.offsetBytes;
    const length = payload.readUInt32BE(8);
    if (offset < 0 || offset + length > request.lengthBytes) throw protocolError('hole outside of what was asked for');
    memoryOf(request)?.fill(0, offset, offset + length);
    request.receivedBytes += length;
  }

  #status(request: Request, payload: Buffer): void {
    if (payload.readUInt32BE(0) !== this.#allocationContext) throw protocolError('block status of a context that was not asked for');
    let offsetBytes = request.offsetBytes;
    for (let at = 4; at < payload.length; at += 8) {
      const lengthBytes = payload.readUInt32BE(at);
      const flags = payload.readUInt32BE(at + 4);
      if (lengthBytes === 0) throw protocolError('empty extent');
      request.extents.push({ offsetBytes, lengthBytes, hole: (flags & 1) !== 0, zero: (flags & 2) !== 0 });
      offsetBytes += lengthBytes;
    }
  }

  #chunkDone(request: Request): void {
    this.#expect('header', 4);
    this.#request = null;
    if (!this.#done) return;
    if (request.error === 0 && request.into && request.receivedBytes !== request.lengthBytes) throw protocolError('fewer bytes than were asked for');
    if (request.error === 0 && request.command === Command.blockStatus && request.extents.length === 0) throw protocolError('no block status');
    this.#finished(this.#cookie, request);
  }
}

/** Where what is read goes; nowhere once the caller has given the request up, whose memory is its own again. */
function memoryOf(request: Request | null): Uint8Array | null {
  return request === null || request.settled ? null : request.into;
}
