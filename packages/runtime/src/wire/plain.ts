import type { Message } from '@ashlar/actor';
import { Defect } from '@ashlar/words';
import { PLAIN_BYTES_MAX, PLAIN_DEPTH_MAX } from '../limits.ts';
import { Malformed } from './shape.ts';

/**
 * A role's private messages, which have no layout of their own: as JSON. Slow and untyped, so nothing that is sent often,
 * and nothing of the protocol between roles, may travel like this.
 */

const KIND = /^[a-z][a-z0-9-]{0,63}$/;
const text = new TextEncoder();

/** Throws a Defect for what JSON would silently change: bytes, functions, instances of classes, NaN. */
export function encodePlain(message: Message): Uint8Array {
  if (!KIND.test(message.kind)) throw new Defect(`"${message.kind}" cannot be the kind of a message that crosses a link`);
  assertPlain(message, message.kind, 0);
  const bytes = text.encode(JSON.stringify(message));
  if (bytes.length > PLAIN_BYTES_MAX) throw new Defect(`a ${message.kind} message of ${bytes.length} bytes`);
  return bytes;
}

function assertPlain(value: unknown, kind: string, depth: number): void {
  if (value === null || value === undefined || typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return;
  if (typeof value !== 'object' || depth >= PLAIN_DEPTH_MAX) throw new Defect(`a ${kind} message holds what cannot cross a link`);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) throw new Defect(`a ${kind} message holds what cannot cross a link`);
  for (const inner of Object.values(value)) assertPlain(inner, kind, depth + 1);
}

/** `isReserved`: kinds that have a layout of their own, or that only the kernel may send, do not come in as JSON. */
export function decodePlain(bytes: Uint8Array, isReserved: (kind: string) => boolean): Message {
  if (bytes.length > PLAIN_BYTES_MAX) throw new Malformed(`a plain message of ${bytes.length} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch (cause) {
    throw new Malformed('a plain message that is no JSON', { cause });
  }
  const kind = typeof value === 'object' && value !== null && Object.hasOwn(value, 'kind') ? (value as { kind: unknown }).kind : undefined;
  if (typeof kind !== 'string' || !KIND.test(kind) || isReserved(kind)) throw new Malformed('a plain message of no acceptable kind');
  return value as Message;
}
