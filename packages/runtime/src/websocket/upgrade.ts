import { createHash } from 'node:crypto';

/** The HTTP of RFC 6455, section 4: one request, one answer, then frames. */

/** Appended to the client's key before it is hashed. */
const KEY_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** A request of ours has about 250 bytes; proxies add some. */
export const HEAD_BYTES_MAX = 8 * 1024;

export interface HttpHead {
  /** The first line. */
  readonly line: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
}

/** Where the head that begins at bytes[start] ends, its empty line included; -1 if it is not all there. */
export function headEnd(bytes: Uint8Array, start: number, end: number): number {
  for (let i = start + 3; i < end; i++) {
    if (bytes[i] === 10 && bytes[i - 1] === 13 && bytes[i - 2] === 10 && bytes[i - 3] === 13) return i + 1;
  }
  return -1;
}

export function parseHead(text: string): HttpHead {
  const [line = '', ...rest] = text.split('\r\n');
  const headers = new Map<string, string>();
  for (const header of rest) {
    const colon = header.indexOf(':');
    if (colon > 0) headers.set(header.slice(0, colon).trim().toLowerCase(), header.slice(colon + 1).trim());
  }
  return { line, headers };
}

/** `token`: null where a certificate says who asks. */
export function upgradeRequest(host: string, key: string, token: string | null): string {
  const authorization = token === null ? '' : `Authorization: Bearer ${token}\r\n`;
  return `GET /link HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n${authorization}\r\n`;
}

/** The client's key, or the status with which a request that opens no WebSocket is refused. */
export function upgradeKey(head: HttpHead): { readonly key: string } | { readonly refused: string } {
  const { line, headers } = head;
  if (!line.startsWith('GET ')) return { refused: '405 Method Not Allowed' };
  if (headers.get('upgrade')?.toLowerCase() !== 'websocket') return { refused: '426 Upgrade Required' };
  const key = headers.get('sec-websocket-key') ?? '';
  if (headers.get('sec-websocket-version') !== '13' || !/^[+/0-9A-Za-z]{22}==$/.test(key)) return { refused: '400 Bad Request' };
  return { key };
}

export function upgradeAnswer(key: string): string {
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptOf(key)}\r\n\r\n`;
}

/** What is wrong with the server's answer, or null. */
export function answerFault(head: HttpHead, key: string): string | null {
  const { line, headers } = head;
  if (!line.startsWith('HTTP/1.1 101')) return `answered ${line.slice(0, 100)}`;
  return headers.get('sec-websocket-accept') === acceptOf(key) ? null : 'a wrong Sec-WebSocket-Accept';
}

function acceptOf(key: string): string {
  return createHash('sha1').update(key + KEY_GUID).digest('base64');
}
