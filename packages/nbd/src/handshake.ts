import { REQUEST_BYTES_MAX } from '@ashlar/words';
import type { NbdDevice } from './backend.ts';
import {
  BASE_ALLOCATION, BASE_ALLOCATION_ID, GREETING_BYTES, HandshakeFlag, Info, NBD_MAGIC, Option, OPTION_HEADER_BYTES, OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES, OPTION_REPLY_MAGIC, OptionReply, TransmissionFlag,
} from './constants.ts';
import type { ExportDirectory, NbdExport } from './export.ts';
import { BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, NAME_BYTES_MAX, OPTION_BYTES_MAX, OPTION_SKIP_BYTES_MAX, OPTIONS_MAX, QUERIES_MAX } from './limits.ts';
import { decodeUtf8, encodeUtf8 } from './text.ts';

/** `offered`: a client may use TLS. `required`: nothing but STARTTLS and ABORT is answered before it is in use. */
export type TlsMode = 'off' | 'offered' | 'required';

/** What a client has agreed to when its handshake ends. */
export interface Agreement {
  readonly target: NbdExport;
  readonly device: NbdDevice;
  readonly structuredReplies: boolean;
  readonly blockStatus: boolean;
}

export type HandshakeStep =
  /** The next item has not arrived in full; it needs so many bytes in all. */
  | { readonly kind: 'more'; readonly bytes: number }
  | { readonly kind: 'took'; readonly bytes: number }
  /** Took so many bytes; when the answer is on its way, the socket is wrapped in TLS. */
  | { readonly kind: 'tls'; readonly bytes: number }
  | { readonly kind: 'agreed'; readonly bytes: number; readonly agreement: Agreement }
  /** The client wants to end, and was told so. */
  | { readonly kind: 'end' }
  | { readonly kind: 'malformed'; readonly reason: string };

/** Fixed newstyle negotiation, server's side. Bytes in, steps and answers out. */
export class Handshake {
  readonly #exports: ExportDirectory;
  readonly #send: (bytes: Uint8Array) => void;
  #tls: TlsMode;
  #secure = false;
  #greeted = false;
  #noZeroes = false;
  #options = 0;
  #skip = 0;
  #structured = false;
  /** The export that meta contexts were set for; they hold for no other. */
  #contextOf: NbdExport | null = null;
  /** Set when the server shuts down: options are refused. */
  closing = false;

  constructor(exports: ExportDirectory, tls: TlsMode, send: (bytes: Uint8Array) => void) {
    this.#exports = exports;
    this.#tls = tls;
    this.#send = send;
  }

  greeting(): Uint8Array {
    const bytes = new Uint8Array(GREETING_BYTES);
    const view = new DataView(bytes.buffer);
    setPair(view, 0, NBD_MAGIC);
    setPair(view, 8, OPTION_MAGIC);
    view.setUint16(16, HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes);
    return bytes;
  }

  /** TLS is in use: whatever was agreed in the clear is forgotten. */
  secured(): void {
    this.#secure = true;
    this.#structured = false;
    this.#contextOf = null;
  }

  /** Looks at what has arrived, from its first byte. */
  step(bytes: Uint8Array): HandshakeStep {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, bytes.length);
      this.#skip -= skipped;
      return skipped === 0 ? { kind: 'more', bytes: 1 } : { kind: 'took', bytes: skipped };
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.#greeted ? this.#option(bytes, view) : this.#clientFlags(view);
  }

  #clientFlags(view: DataView): HandshakeStep {
    if (view.byteLength < 4) return { kind: 'more', bytes: 4 };
    const flags = view.getUint32(0);
    if (!(flags & HandshakeFlag.fixedNewstyle)) return { kind: 'malformed', reason: 'client does not speak fixed newstyle' };
    if (flags & ~(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes)) return { kind: 'malformed', reason: `unknown client flags ${flags}` };
    this.#greeted = true;
    this.#noZeroes = (flags & HandshakeFlag.noZeroes) !== 0;
    return { kind: 'took', bytes: 4 };
  }

  #option(bytes: Uint8Array, view: DataView): HandshakeStep {
    if (bytes.length < OPTION_HEADER_BYTES) return { kind: 'more', bytes: OPTION_HEADER_BYTES };
    if (view.getUint32(0) !== OPTION_MAGIC[0] || view.getUint32(4) !== OPTION_MAGIC[1]) return { kind: 'malformed', reason: 'option without its magic number' };
    const option = view.getUint32(8);
    const length = view.getUint32(12);
    if (length > OPTION_BYTES_MAX) return this.#tooLong(option, length);
    const total = OPTION_HEADER_BYTES + length;
    if (bytes.length < total) return { kind: 'more', bytes: total };
    if (++this.#options > OPTIONS_MAX) return { kind: 'malformed', reason: 'too many options' };
    return this.#answer(option, bytes.subarray(OPTION_HEADER_BYTES, total), total);
  }

  #tooLong(option: number, length: number): HandshakeStep {
    if (length > OPTION_SKIP_BYTES_MAX || option === Option.exportName) return { kind: 'malformed', reason: `option of ${length} bytes` };
    if (++this.#options > OPTIONS_MAX) return { kind: 'malformed', reason: 'too many options' };
    this.#skip = length;
    this.#reply(option, OptionReply.errTooBig, encodeUtf8(`at most ${OPTION_BYTES_MAX} bytes`));
    return { kind: 'took', bytes: OPTION_HEADER_BYTES };
  }

  #answer(option: number, data: Uint8Array, total: number): HandshakeStep {
    const took: HandshakeStep = { kind: 'took', bytes: total };
    if (option === Option.abort) {
      this.#reply(option, OptionReply.ack);
      return { kind: 'end' };
    }
    if (this.closing) return this.#refuse(option, OptionReply.errShutdown, 'the server is shutting down', took);
    if (option === Option.startTls) return this.#startTls(data, total);
    if (this.#tls === 'required' && !this.#secure) return this.#refuse(option, OptionReply.errTlsRequired, 'TLS is required', took);
    switch (option) {
      case Option.exportName: return this.#exportName(data, total);
      case Option.list: return this.#list(data, took);
      case Option.info:
      case Option.go: return this.#info(option, data, total);
      case Option.structuredReply: return this.#structuredReply(data, took);
      case Option.listMetaContext:
      case Option.setMetaContext: return this.#metaContext(option, data, took);
      default: return this.#refuse(option, OptionReply.errUnsupported, '', took);
    }
  }

  #startTls(data: Uint8Array, total: number): HandshakeStep {
    const took: HandshakeStep = { kind: 'took', bytes: total };
    if (data.length > 0 || this.#secure) return this.#refuse(Option.startTls, OptionReply.errInvalid, '', took);
    if (this.#tls === 'off') return this.#refuse(Option.startTls, OptionReply.errPolicy, 'this server has no certificate', took);
    this.#reply(Option.startTls, OptionReply.ack);
    return { kind: 'tls', bytes: total };
  }

  /** The old way in: it cannot be refused but by closing the connection. */
  #exportName(data: Uint8Array, total: number): HandshakeStep {
    const target = this.#find(decodeUtf8(data));
    if (!target) return { kind: 'malformed', reason: 'no such export' };
    const agreement = this.#agree(target);
    const answer = new Uint8Array(this.#noZeroes ? 10 : 134);
    writeExport(new DataView(answer.buffer), 0, agreement.device, this.#structured);
    this.#send(answer);
    return { kind: 'agreed', bytes: total, agreement };
  }

  #list(data: Uint8Array, took: HandshakeStep): HandshakeStep {
    if (data.length > 0) return this.#refuse(Option.list, OptionReply.errInvalid, '', took);
    for (const listed of this.#exports.list()) {
      const name = encodeUtf8(listed.name);
      const description = encodeUtf8(listed.backend.device().description);
      const entry = new Uint8Array(4 + name.length + description.length);
      new DataView(entry.buffer).setUint32(0, name.length);
      entry.set(name, 4);
      entry.set(description, 4 + name.length);
      this.#reply(Option.list, OptionReply.server, entry);
    }
    this.#reply(Option.list, OptionReply.ack);
    return took;
  }

  #info(option: number, data: Uint8Array, total: number): HandshakeStep {
    const took: HandshakeStep = { kind: 'took', bytes: total };
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const nameBytes = data.length >= 6 ? view.getUint32(0) : Number.MAX_SAFE_INTEGER;
    if (nameBytes > data.length - 6) return this.#refuse(option, OptionReply.errInvalid, 'name beyond the option', took);
    const count = view.getUint16(4 + nameBytes);
    if (6 + nameBytes + 2 * count !== data.length) return this.#refuse(option, OptionReply.errInvalid, 'wrong number of requests', took);
    const name = decodeUtf8(data.subarray(4, 4 + nameBytes));
    const target = this.#find(name);
    if (!target) return this.#refuse(option, OptionReply.errUnknown, 'no such export', took);
    const agreement = this.#agree(target);
    this.#sendExport(option, agreement.device);
    for (let i = 0; i < count; i++) {
      const wanted = view.getUint16(6 + nameBytes + 2 * i);
      if (wanted === Info.name) this.#sendText(option, Info.name, target.name);
      if (wanted === Info.description) this.#sendText(option, Info.description, agreement.device.description);
    }
    this.#sendBlockSizes(option);
    this.#reply(option, OptionReply.ack);
    return option === Option.go ? { kind: 'agreed', bytes: total, agreement } : took;
  }

  #sendExport(option: number, device: NbdDevice): void {
    const data = new Uint8Array(12);
    const view = new DataView(data.buffer);
    view.setUint16(0, Info.export);
    writeExport(view, 2, device, this.#structured);
    this.#reply(option, OptionReply.info, data);
  }

  #sendText(option: number, info: number, text: string): void {
    const encoded = encodeUtf8(text);
    const data = new Uint8Array(2 + encoded.length);
    new DataView(data.buffer).setUint16(0, info);
    data.set(encoded, 2);
    this.#reply(option, OptionReply.info, data);
  }

  #sendBlockSizes(option: number): void {
    const data = new Uint8Array(14);
    const view = new DataView(data.buffer);
    view.setUint16(0, Info.blockSize);
    view.setUint32(2, BLOCK_BYTES_MIN);
    view.setUint32(6, BLOCK_BYTES_PREFERRED);
    view.setUint32(10, REQUEST_BYTES_MAX);
    this.#reply(option, OptionReply.info, data);
  }

  #structuredReply(data: Uint8Array, took: HandshakeStep): HandshakeStep {
    if (data.length > 0) return this.#refuse(Option.structuredReply, OptionReply.errInvalid, '', took);
    this.#structured = true;
    this.#reply(Option.structuredReply, OptionReply.ack);
    return took;
  }

  #metaContext(option: number, data: Uint8Array, took: HandshakeStep): HandshakeStep {
    const setting = option === Option.setMetaContext;
    if (setting) this.#contextOf = null;
    if (!this.#structured) return this.#refuse(option, OptionReply.errInvalid, 'structured replies come first', took);
    const parsed = parseQueries(data);
    if (typeof parsed === 'string') return this.#refuse(option, OptionReply.errInvalid, parsed, took);
    const target = this.#find(parsed.name);
    if (!target) return this.#refuse(option, OptionReply.errUnknown, 'no such export', took);
    const matches = (query: string): boolean => query === BASE_ALLOCATION || (!setting && query === 'base:');
    if (parsed.queries.some(matches) || (!setting && parsed.queries.length === 0)) {
      if (setting) this.#contextOf = target;
      const name = encodeUtf8(BASE_ALLOCATION);
      const context = new Uint8Array(4 + name.length);
      // A list carries no id that could be used.
      new DataView(context.buffer).setUint32(0, setting ? BASE_ALLOCATION_ID : 0);
      context.set(name, 4);
      this.#reply(option, OptionReply.metaContext, context);
    }
    this.#reply(option, OptionReply.ack);
    return took;
  }

  #find(name: string): NbdExport | undefined {
    const target = this.#exports.find(name);
    return target?.closing ? undefined : target;
  }

  #agree(target: NbdExport): Agreement {
    return { target, device: target.backend.device(), structuredReplies: this.#structured, blockStatus: this.#contextOf === target };
  }

  #refuse(option: number, error: number, message: string, then: HandshakeStep): HandshakeStep {
    if (option === Option.exportName) return { kind: 'malformed', reason: `export name refused: ${message}` };
    this.#reply(option, error, encodeUtf8(message));
    return then;
  }

  #reply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): void {
    const bytes = new Uint8Array(OPTION_REPLY_HEADER_BYTES + data.length);
    const view = new DataView(bytes.buffer);
    setPair(view, 0, OPTION_REPLY_MAGIC);
    view.setUint32(8, option);
    view.setUint32(12, type);
    view.setUint32(16, data.length);
    bytes.set(data, OPTION_REPLY_HEADER_BYTES);
    this.#send(bytes);
  }
}

/** Size and flags, as EXPORT_NAME and INFO_EXPORT carry them. */
function writeExport(view: DataView, at: number, device: NbdDevice, structured: boolean): void {
  const T = TransmissionFlag;
  let flags = T.hasFlags | T.sendFlush | T.sendFua | T.sendCache;
  // A client without structured replies may not send DF.
  if (structured) flags |= T.sendDf;
  flags |= device.readOnly ? T.readOnly : T.sendTrim | T.sendWriteZeroes | T.sendFastZero;
  if (device.multiConnection) flags |= T.canMultiConn;
  view.setUint32(at, Math.floor(device.sizeBytes / 2 ** 32));
  view.setUint32(at + 4, device.sizeBytes % 2 ** 32);
  view.setUint16(at + 8, flags);
}

interface Queries {
  readonly name: string;
  readonly queries: readonly string[];
}

function parseQueries(data: Uint8Array): Queries | string {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameBytes = data.length >= 8 ? view.getUint32(0) : Number.MAX_SAFE_INTEGER;
  if (nameBytes > data.length - 8 || nameBytes > NAME_BYTES_MAX) return 'name beyond the option';
  let at = 4 + nameBytes;
  const count = view.getUint32(at);
  if (count > QUERIES_MAX) return 'too many queries';
  at += 4;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    if (data.length - at < 4) return 'query beyond the option';
    const length = view.getUint32(at);
    at += 4;
    if (length > data.length - at) return 'query beyond the option';
    queries.push(decodeUtf8(data.subarray(at, at + length)));
    at += length;
  }
  return at === data.length ? { name: decodeUtf8(data.subarray(4, 4 + nameBytes)), queries } : 'bytes after the last query';
}

function setPair(view: DataView, at: number, pair: readonly [number, number]): void {
  view.setUint32(at, pair[0]);
  view.setUint32(at + 4, pair[1]);
}
