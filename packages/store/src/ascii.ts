import { assert } from '@ashlar/words';

/** JSON in ASCII (other characters escaped), so that a core needs no text encoder. */
export function encodeJson(value: unknown): Uint8Array {
  const text = JSON.stringify(value).replace(/[\u0080-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Characters made in one call: arguments of a call are bounded. */
const CHARACTERS_MAX = 4096;

export function decodeJson(bytes: Uint8Array): unknown {
  let text = '';
  for (let at = 0; at < bytes.length; at += CHARACTERS_MAX) text += String.fromCharCode(...bytes.subarray(at, at + CHARACTERS_MAX));
  for (const byte of bytes) assert(byte < 0x80, 'JSON on disk is ASCII');
  return JSON.parse(text);
}
