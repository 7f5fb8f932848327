import { Frame, Op } from '@ashlar/protocol';

const OP_NAMES: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(Op).map(([name, code]) => [code, name]));

/** A message as one short line of a trace. */
export function describe(message: unknown): string {
  if (message === null || message === undefined) return String(message);
  if (typeof message === 'number' || typeof message === 'bigint' || typeof message === 'boolean') return String(message);
  if (typeof message === 'string') return message;
  if (typeof message === 'function') return 'fn';
  if (message instanceof Frame) return describeFrame(message);
  if (message instanceof Uint8Array) return `${message.length} bytes`;
  if (Array.isArray(message)) return `[${message.slice(0, 12).map(describe).join(' ')}${message.length > 12 ? ` … ${message.length}` : ''}]`;
  if (message instanceof Map) return `{${[...message].map(([key, value]) => `${describe(key)}→${describe(value)}`).join(' ')}}`;
  if (message instanceof Set) return `{${[...message].map(describe).join(' ')}}`;
  const fields = Object.entries(message as Record<string, unknown>);
  const kind = fields.find(([name]) => name === 'kind');
  const rest = fields.filter(([name, value]) => name !== 'kind' && value !== undefined).map(([name, value]) => `${name}:${describe(value)}`);
  return kind ? `${String(kind[1])}${rest.length > 0 ? `(${rest.join(' ')})` : ''}` : `{${rest.join(' ')}}`;
}

export function describeFrame(frame: Frame): string {
  const operations: string[] = [];
  for (let i = 0; i < Math.min(frame.count, 6); i++) {
    operations.push(`${OP_NAMES[frame.op(i)] ?? '?'}#${shortNumber(frame.requestNumber(i))}@${frame.offsetBytes(i) / 4096}+${frame.lengthBytes(i) / 4096}${frame.opFlags(i) ? `f${frame.opFlags(i)}` : ''}${frame.status(i) ? `!${frame.status(i)}` : ''}`);
  }
  if (frame.count > 6) operations.push(`… ${frame.count}`);
  return `frame(k${frame.kind} e${frame.epoch} seq${frame.firstSeq}-${frame.lastSeq} sender${frame.senderEpoch} g${frame.attachNumber}.${frame.sessionCount} n${frame.number} chain${frame.chain.toString(16)} ${operations.join(' ')})`;
}

/** Request numbers are restart * 2^32 + counter. */
export function shortNumber(value: number): string {
  const high = Math.floor(value / 2 ** 32);
  return high === 0 ? String(value) : `${high}:${value % 2 ** 32}`;
}

const KIND_HASH = new Map<string, number>();

function stringHash(text: string): number {
  let hash = KIND_HASH.get(text);
  if (hash !== undefined) return hash;
  hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  if (KIND_HASH.size < 4096) KIND_HASH.set(text, hash);
  return hash;
}

/** A small digest of a message for the trace hash: its kind, its numbers, and its frame's head. */
export function digest(message: unknown): number {
  if (typeof message === 'string') return stringHash(message);
  if (typeof message === 'number') return Math.floor(message) | 0;
  if (message === null || typeof message !== 'object') return 0;
  let hash = 0x1234567;
  const fields = message as Record<string, unknown>;
  for (const name in fields) {
    const value = fields[name];
    if (typeof value === 'number') hash = Math.imul(hash ^ (Math.floor(value) | 0), 0x01000193);
    else if (typeof value === 'string') hash = Math.imul(hash ^ stringHash(value), 0x01000193);
    else if (value instanceof Frame) hash = Math.imul(hash ^ frameDigest(value), 0x01000193);
  }
  return hash;
}

function frameDigest(frame: Frame): number {
  return (frame.epoch * 31 + frame.firstSeq * 17 + frame.count) ^ frame.chain ^ (frame.number * 7);
}
