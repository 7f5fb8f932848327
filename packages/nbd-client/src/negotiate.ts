import type { Socket } from 'node:net';
import { AshlarError } from '@ashlar/words';
import {
  BASE_ALLOCATION, decodeUtf8, encodeUtf8, GREETING_BYTES, HandshakeFlag, Info, NBD_MAGIC, Option, OPTION_HEADER_BYTES, OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES, OPTION_REPLY_MAGIC, OptionReply, TransmissionFlag,
} from '@ashlar/nbd';
import type { ByteSource } from './byte-source.ts';
import { protocolError } from './errors.ts';

/** What the server says about an export. */
export interface ExportInfo {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly multiConnection: boolean;
  readonly canTrim: boolean;
  readonly canWriteZeroes: boolean;
  readonly canFastZero: boolean;
  readonly canFlush: boolean;
  readonly canFua: boolean;
  readonly canCache: boolean;
  readonly blockBytesMin: number;
  readonly blockBytesPreferred: number;
  readonly requestBytesMax: number;
  readonly structuredReplies: boolean;
  /** The server's number for base:allocation; null: no block status. */
  readonly allocationContext: number | null;
}

interface OptionAnswer {
  readonly type: number;
  readonly data: Buffer;
}

const OPTION_ANSWERS_MAX = 100_000;

/** Greeting and client flags. */
export async function greet(source: ByteSource, socket: Socket): Promise<void> {
  const greeting = await source.take(GREETING_BYTES);
  const magic = greeting.readUInt32BE(0) === NBD_MAGIC[0] && greeting.readUInt32BE(4) === NBD_MAGIC[1];
  const newstyle = greeting.readUInt32BE(8) === OPTION_MAGIC[0] && greeting.readUInt32BE(12) === OPTION_MAGIC[1];
  const flags = greeting.readUInt16BE(16);
  if (!magic || !newstyle || !(flags & HandshakeFlag.fixedNewstyle)) throw protocolError('does not speak fixed newstyle');
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(flags & (HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes));
  socket.write(answer);
}

export async function requestTls(source: ByteSource, socket: Socket): Promise<void> {
  const { final } = await ask(source, socket, Option.startTls, new Uint8Array(0));
  if (final.type !== OptionReply.ack) throw refused('STARTTLS', final);
}

/** Structured replies and block status as far as the server has them, then GO. */
export async function go(source: ByteSource, socket: Socket, exportName: string): Promise<ExportInfo> {
  const structured = (await ask(source, socket, Option.structuredReply, new Uint8Array(0))).final.type === OptionReply.ack;
  const context = structured ? await setContext(source, socket, exportName) : null;
  const { answers, final } = await ask(source, socket, Option.go, infoRequest(exportName, [Info.blockSize]));
  if (final.type !== OptionReply.ack) throw refused(`export "${exportName}"`, final);
  return readInfo(answers, structured, context);
}

export async function list(source: ByteSource, socket: Socket): Promise<readonly ListedExport[]> {
  const { answers, final } = await ask(source, socket, Option.list, new Uint8Array(0));
  if (final.type !== OptionReply.ack) throw refused('list of exports', final);
  return answers.filter(({ type }) => type === OptionReply.server).map(({ data }) => {
    const nameBytes = data.length >= 4 ? data.readUInt32BE(0) : Infinity;
    if (nameBytes > data.length - 4) throw protocolError('name beyond its list entry');
    return { name: decodeUtf8(data.subarray(4, 4 + nameBytes)), description: decodeUtf8(data.subarray(4 + nameBytes)) };
  });
}

export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

async function setContext(source: ByteSource, socket: Socket, exportName: string): Promise<number | null> {
  const name = encodeUtf8(exportName);
  const query = encodeUtf8(BASE_ALLOCATION);
  const data = Buffer.alloc(12 + name.length + query.length);
  data.writeUInt32BE(name.length, 0);
  data.set(name, 4);
  data.writeUInt32BE(1, 4 + name.length);
  data.writeUInt32BE(query.length, 8 + name.length);
  data.set(query, 12 + name.length);
  const { answers } = await ask(source, socket, Option.setMetaContext, data);
  const context = answers.find((answer) => answer.type === OptionReply.metaContext && answer.data.length >= 4);
  return context ? context.data.readUInt32BE(0) : null;
}

function infoRequest(exportName: string, infos: readonly number[]): Uint8Array {
  const name = encodeUtf8(exportName);
  const data = Buffer.alloc(6 + name.length + 2 * infos.length);
  data.writeUInt32BE(name.length, 0);
  data.set(name, 4);
  data.writeUInt16BE(infos.length, 4 + name.length);
  infos.forEach((info, i) => data.writeUInt16BE(info, 6 + name.length + 2 * i));
  return data;
}

function readInfo(answers: readonly OptionAnswer[], structuredReplies: boolean, allocationContext: number | null): ExportInfo {
  let sizeBytes = -1;
  let flags = 0;
  // What the protocol assumes where a server does not say.
  let sizes = { blockBytesMin: 1, blockBytesPreferred: 4096, requestBytesMax: 32 * 2 ** 20 };
  for (const { type, data } of answers) {
    if (type !== OptionReply.info || data.length < 2) continue;
    const info = data.readUInt16BE(0);
    if (info === Info.export && data.length === 12) {
      sizeBytes = Number(data.readBigUInt64BE(2));
      flags = data.readUInt16BE(10);
    }
    if (info === Info.blockSize && data.length === 14) sizes = { blockBytesMin: data.readUInt32BE(2), blockBytesPreferred: data.readUInt32BE(6), requestBytesMax: data.readUInt32BE(10) };
  }
  if (sizeBytes < 0 || !Number.isSafeInteger(sizeBytes)) throw protocolError('no usable size of the export');
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const T = TransmissionFlag;
  return {
    sizeBytes, ...sizes, structuredReplies, allocationContext,
    readOnly: has(T.readOnly), multiConnection: has(T.canMultiConn), canTrim: has(T.sendTrim), canWriteZeroes: has(T.sendWriteZeroes),
    canFastZero: has(T.sendFastZero), canFlush: has(T.sendFlush), canFua: has(T.sendFua), canCache: has(T.sendCache),
  };
}

/** Sends an option and collects its answers up to the final one. */
async function ask(source: ByteSource, socket: Socket, option: number, data: Uint8Array): Promise<{ readonly answers: readonly OptionAnswer[]; readonly final: OptionAnswer }> {
  const message = Buffer.alloc(OPTION_HEADER_BYTES + data.length);
  message.writeUInt32BE(OPTION_MAGIC[0], 0);
  message.writeUInt32BE(OPTION_MAGIC[1], 4);
  message.writeUInt32BE(option, 8);
  message.writeUInt32BE(data.length, 12);
  message.set(data, OPTION_HEADER_BYTES);
  socket.write(message);
  const answers: OptionAnswer[] = [];
  while (answers.length < OPTION_ANSWERS_MAX) {
    const header = await source.take(OPTION_REPLY_HEADER_BYTES);
    if (header.readUInt32BE(0) !== OPTION_REPLY_MAGIC[0] || header.readUInt32BE(4) !== OPTION_REPLY_MAGIC[1]) throw protocolError('option reply without its magic number');
    if (header.readUInt32BE(8) !== option) throw protocolError('answer to an option that was not sent');
    const answer = { type: header.readUInt32BE(12), data: await source.take(header.readUInt32BE(16)) };
    if (answer.type === OptionReply.ack || answer.type >= 0x80000000) return { answers, final: answer };
    answers.push(answer);
  }
  throw protocolError('answers without end');
}

function refused(what: string, final: OptionAnswer): AshlarError {
  const reason = decodeUtf8(final.data);
  const code = final.type === OptionReply.errUnknown ? 'not-found' : final.type === OptionReply.errShutdown ? 'unavailable' : 'protocol';
  return new AshlarError(code, `NBD server refuses ${what}${reason === '' ? '' : `: ${reason}`}`, { retry: 'later' });
}
