import { checksum } from '@ashlar/words';

/**
 * Small files of ours that hold one JSON object: `{…,"checksum":"89abcdef"}` and a line feed. The checksum (CRC-32, eight hexadecimal digits) is of
 * the object without it, as JSON.stringify writes it, in UTF-8.
 */
export function sealJson(value: object): string {
  return `${JSON.stringify({ ...value, checksum: sumOf(value) })}\n`;
}

/**
 * The object of such a file, without its checksum; null if a byte of it is not what was written. One that has no checksum (of the first versions) counts if it has just the
 * keys that are `known`.
 */
export function unsealJson(text: string, known: readonly string[]): Readonly<Record<string, unknown>> | null {
  const parsed = parse(text);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return null;
  const { checksum: sum, ...value } = parsed as Record<string, unknown>;
  if (sum === undefined) return Object.keys(value).length === known.length && known.every((key) => key in value) ? value : null;
  return sum === sumOf(value) ? value : null;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // What cannot be parsed is answered as what does not match its checksum.
    return null;
  }
}

function sumOf(value: object): string {
  return checksum(new TextEncoder().encode(JSON.stringify(value))).toString(16).padStart(8, '0');
}
