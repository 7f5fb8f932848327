/** UTF-8 without the platform's encoder, which a core does not have. For names: short, and rarely anything but ASCII. */
export function encodeUtf8(text: string): Uint8Array {
  const escaped = encodeURIComponent(text.toWellFormed());
  const bytes: number[] = [];
  for (let i = 0; i < escaped.length; i++) {
    if (escaped[i] === '%') {
      bytes.push(parseInt(escaped.slice(i + 1, i + 3), 16));
      i += 2;
    } else bytes.push(escaped.charCodeAt(i));
  }
  return Uint8Array.from(bytes);
}

/** Bytes that are not UTF-8 become one character each: a name that nothing is called by. */
export function decodeUtf8(bytes: Uint8Array): string {
  let escaped = '';
  let plain = '';
  for (const byte of bytes) {
    escaped += `%${byte.toString(16).padStart(2, '0')}`;
    plain += String.fromCharCode(byte);
  }
  try {
    return decodeURIComponent(escaped);
  } catch {
    return plain;
  }
}
