/** Frames of RFC 6455, section 5, as far as links use them: whole messages, each in one frame. */

export const Opcode = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

/** The longest header: two bytes, a length of eight, a mask of four. Batches leave so much room before their first byte. */
export const WS_HEADER_BYTES_MAX = 14;

const FIN = 0x80;
const MASKED = 0x80;
const CONTROL_BYTES_MAX = 125;

export interface WsHeader {
  readonly opcode: Opcode;
  readonly headerBytes: number;
  readonly payloadBytes: number;
  /** The client's mask; 0 changes nothing. */
  readonly mask: number;
}

/**
 * The header at the beginning of bytes[at, end); null if not all of it is there. Fragments, extensions and a mask on the wrong side are faults:
 * nobody who opened a link sends them.
 */
export function readHeader(bytes: Uint8Array, at: number, end: number, fromClient: boolean): WsHeader | null | { readonly malformed: string } {
  if (end - at < 2) return null;
  const first = bytes[at] as number;
  const second = bytes[at + 1] as number;
  if ((first & 0xf0) !== FIN) return { malformed: 'a WebSocket message in fragments or of an extension' };
  const opcode = first & 0x0f;
  if (!isOpcode(opcode)) return { malformed: `WebSocket opcode ${opcode}` };
  const masked = (second & MASKED) !== 0;
  if (masked !== fromClient) return { malformed: 'a WebSocket mask on the wrong side' };
  const short = second & 0x7f;
  if (opcode >= Opcode.close && short > CONTROL_BYTES_MAX) return { malformed: 'a long WebSocket control frame' };
  const lengthBytes = short === 127 ? 8 : short === 126 ? 2 : 0;
  const headerBytes = 2 + lengthBytes + (fromClient ? 4 : 0);
  if (end - at < headerBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, headerBytes);
  const payloadBytes = lengthBytes === 0 ? short : lengthBytes === 2 ? view.getUint16(2) : view.getUint32(2) * 2 ** 32 + view.getUint32(6);
  return { opcode, headerBytes, payloadBytes, mask: fromClient ? view.getUint32(2 + lengthBytes) : 0 };
}

/**
 * Writes a header so that it ends at `end`, and returns where it begins. A client's mask is 0: it need not be applied, and hides nothing
 * inside an authenticated link anyway.
 */
export function writeHeader(view: DataView, end: number, opcode: Opcode, payloadBytes: number, fromClient: boolean): number {
  const lengthBytes = payloadBytes > 0xffff ? 8 : payloadBytes > CONTROL_BYTES_MAX ? 2 : 0;
  const at = end - 2 - lengthBytes - (fromClient ? 4 : 0);
  view.setUint8(at, FIN | opcode);
  const short = lengthBytes === 8 ? 127 : lengthBytes === 2 ? 126 : payloadBytes;
  view.setUint8(at + 1, fromClient ? MASKED | short : short);
  if (lengthBytes === 2) view.setUint16(at + 2, payloadBytes);
  if (lengthBytes === 8) {
    view.setUint32(at + 2, 0);
    view.setUint32(at + 6, payloadBytes);
  }
  if (fromClient) view.setUint32(end - 4, 0);
  return at;
}

/** In place. */
export function unmask(bytes: Uint8Array, mask: number): void {
  if (mask === 0) return;
  for (let i = 0; i < bytes.length; i++) bytes[i] = (bytes[i] as number) ^ ((mask >>> (24 - 8 * (i & 3))) & 0xff);
}

function isOpcode(opcode: number): opcode is Opcode {
  return opcode === Opcode.text || opcode === Opcode.binary || (opcode >= Opcode.close && opcode <= Opcode.pong);
}
