import { isAddress, type Address, type Message } from '@ashlar/actor';
import type { Frame, Slab } from '@ashlar/protocol';
import { Defect } from '@ashlar/words';
import protobuf from 'protobufjs';
import { COLD_BYTES_MAX, COLD_FIELDS_MAX, LINK_ADDRESSES_MAX, LINK_MESSAGE_BYTES_MAX } from '../limits.ts';
import { decodeHot, encodeHot, HOT_CODES, hotBytes, isHot, type HotMessage } from './frame.ts';
import { COLD_MESSAGES, type ColdKind } from './messages.ts';
import { decodePlain, encodePlain } from './plain.ts';
import { Malformed, type RecordShape } from './shape.ts';

/**
 * A batch is envelopes one after the other, as one WebSocket message (or one entry of a ring). Little-endian:
 *
 *   0 u32 length of the body | 4 u16 code | 6 u16 to | 8 u16 from | 10 u16 zero | 12 body
 *
 * `to` and `from` are numbers of addresses, which the sender gives out: code ADDRESS says what number `to` means from now on.
 * The numbers live as long as the link.
 */
export const ENVELOPE_BYTES = 12;
const { Reader, Type } = protobuf;
type Reader = protobuf.Reader;
type Type = protobuf.Type;

const ADDRESS_CODE = 1;
const PLAIN_CODE = 2;
/** What the kernel itself delivers: nobody may send it as a message of his own. */
const SIGNALS: ReadonlySet<string> = new Set(['timer', 'down', 'link-up', 'link-down']);

interface ColdEntry {
  readonly kind: ColdKind;
  readonly code: number;
  readonly body: RecordShape<object>;
  readonly type: Type;
}

const COLD_ENTRIES: readonly ColdEntry[] = Object.entries(COLD_MESSAGES).map(([kind, { code, body }]) => {
  const shape = body as unknown as RecordShape<object>;
  return { kind: kind as ColdKind, code, body: shape, type: shape.nested };
});
// Nested types are looked up by name the first time; countFields needs them before.
COLD_ENTRIES[0]?.type.root.resolveAll();
const COLD_BY_KIND: ReadonlyMap<string, ColdEntry> = new Map(COLD_ENTRIES.map((entry) => [entry.kind, entry]));
const COLD_BY_CODE: ReadonlyMap<number, ColdEntry> = new Map(COLD_ENTRIES.map((entry) => [entry.code, entry]));

function isReserved(kind: string): boolean {
  return isHot(kind) || COLD_BY_KIND.has(kind) || SIGNALS.has(kind);
}

/** Where a batch is built. `reserve` may replace `bytes` and `view`. */
export interface BatchTarget {
  bytes: Uint8Array;
  view: DataView;
  /** Where the next envelope goes. */
  at: number;
  /** Makes room for this many bytes after `at`. */
  reserve(length: number): void;
}

/** One direction of a link, at the sending end. Copies everything it is given: the caller's buffers are free when it returns. */
export class WireEncoder {
  readonly #numbers = new Map<string, number>();
  readonly #addressOf: (string | undefined)[] = [];
  #next = 0;

  /**
   * Appends the message's envelope to the target. The lease of a reply's payload is released: it was copied. (Sending large ones from where they lie
   * was slower: memory that is free again at once is used again while it is in the processor's cache.)
   */
  encode(to: Address, from: Address, message: Message, target: BatchTarget): void {
    let toNumber = this.#numbers.get(to) ?? this.#introduce(to, target);
    const fromNumber = this.#numbers.get(from) ?? this.#introduce(from, target);
    // The sender may just have been given the receiver's number, if that was the oldest.
    if (this.#addressOf[toNumber] !== to) toNumber = this.#introduce(to, target);
    if (isHot(message.kind)) {
      const hot = message as HotMessage;
      const length = hotBytes(hot);
      this.#header(target, HOT_CODES[hot.kind], toNumber, fromNumber, length);
      encodeHot(hot, target.bytes, target.view, target.at);
      target.at += length;
      if (hot.kind === 'replies') release(hot.frame);
      return;
    }
    const entry = COLD_BY_KIND.get(message.kind);
    if (entry === undefined) return this.#body(target, PLAIN_CODE, toNumber, fromNumber, encodePlain(message));
    const body = entry.type.encode(entry.body.toWire(message) as Record<string, unknown>).finish();
    if (body.length > COLD_BYTES_MAX) throw new Defect(`a ${message.kind} message of ${body.length} bytes`);
    this.#body(target, entry.code, toNumber, fromNumber, body);
  }

  #body(target: BatchTarget, code: number, to: number, from: number, body: Uint8Array): void {
    this.#header(target, code, to, from, body.length);
    target.bytes.set(body, target.at);
    target.at += body.length;
  }

  #header(target: BatchTarget, code: number, to: number, from: number, length: number): void {
    target.reserve(ENVELOPE_BYTES + length);
    const { view, at } = target;
    view.setUint32(at, length, true);
    view.setUint16(at + 4, code, true);
    view.setUint16(at + 6, to, true);
    view.setUint16(at + 8, from, true);
    view.setUint16(at + 10, 0, true);
    target.at = at + ENVELOPE_BYTES;
  }

  #introduce(address: Address, target: BatchTarget): number {
    const number = this.#next;
    this.#next = (this.#next + 1) % LINK_ADDRESSES_MAX;
    const former = this.#addressOf[number];
    if (former !== undefined) this.#numbers.delete(former);
    this.#addressOf[number] = address;
    this.#numbers.set(address, number);
    this.#header(target, ADDRESS_CODE, number, 0, address.length);
    for (let i = 0; i < address.length; i++) target.bytes[target.at + i] = address.charCodeAt(i);
    target.at += address.length;
    return number;
  }
}

/** It was copied. */
function release(frame: Frame): void {
  frame.lease?.release();
  frame.lease = null;
}

export type Receive = (to: Address, from: Address, message: Message) => void;

/** One direction of a link, at the receiving end. */
export class WireDecoder {
  readonly #addresses: (Address | undefined)[] = [];
  /** Refuses senders that the peer may not speak for. */
  readonly #mayBeFrom: (address: Address) => boolean;

  constructor(mayBeFrom: (address: Address) => boolean = () => true) {
    this.#mayBeFrom = mayBeFrom;
  }

  /**
   * Hands over each message of a batch. Throws Malformed at the first thing that is wrong; what came before it has been handed over. Frames are
   * views of the bytes: those must not be used again, unless they lie in `memory`, of which each frame's payload is then leased.
   */
  decode(bytes: Uint8Array, receive: Receive, memory: Slab | null = null): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    while (at < bytes.length) {
      if (bytes.length - at < ENVELOPE_BYTES) throw new Malformed('a cut envelope');
      const body = at + ENVELOPE_BYTES;
      const end = body + view.getUint32(at, true);
      if (end > bytes.length) throw new Malformed('an envelope beyond its batch');
      const code = view.getUint16(at + 4, true);
      const to = view.getUint16(at + 6, true);
      if (code === ADDRESS_CODE) this.#learn(to, bytes, body, end);
      else receive(this.#known(to), this.#sender(view.getUint16(at + 8, true)), this.#message(code, bytes, view, body, end, memory));
      at = end;
    }
  }

  #message(code: number, bytes: Uint8Array, view: DataView, at: number, end: number, memory: Slab | null): Message {
    if (code === PLAIN_CODE) return decodePlain(bytes.subarray(at, end), isReserved);
    const hot = decodeHot(code, bytes, view, at, end, memory);
    if (hot !== undefined) return hot;
    const entry = COLD_BY_CODE.get(code);
    if (entry === undefined) throw new Malformed(`unknown code ${code}`);
    if (end - at > COLD_BYTES_MAX) throw new Malformed(`a ${entry.kind} message of ${end - at} bytes`);
    return { kind: entry.kind, ...entry.body.fromWire(parseProtobuf(entry.type, memory === null ? bytes.subarray(at, end) : bytes.slice(at, end))) };
  }

  #learn(number: number, bytes: Uint8Array, at: number, end: number): void {
    if (end - at > 256) throw new Malformed('an address that is too long');
    const text = String.fromCharCode(...bytes.subarray(at, end));
    if (!isAddress(text)) throw new Malformed('an address that is none');
    this.#addresses[number] = text;
  }

  #known(number: number): Address {
    const address = this.#addresses[number];
    if (address === undefined) throw new Malformed(`unknown address number ${number}`);
    return address;
  }

  #sender(number: number): Address {
    const address = this.#known(number);
    if (!this.#mayBeFrom(address)) throw new Malformed(`a message from ${address}, which the peer does not host`);
    return address;
  }
}

/** protobufjs reports bad bytes by exceptions of many kinds; to us they are all one. */
function parseProtobuf(type: Type, bytes: Uint8Array): object {
  try {
    // A field takes two bytes at least: only a large body can hold too many.
    if (bytes.length > 2 * COLD_FIELDS_MAX) countFields(type, Reader.create(bytes), bytes.length, COLD_FIELDS_MAX);
    return type.decode(bytes);
  } catch (cause) {
    throw new Malformed(`${type.name} cannot be decoded`, { cause });
  }
}

/** Two bytes can become an object of a hundred. Returns how many fields may still follow. */
function countFields(type: Type, reader: Reader, end: number, fieldsMax: number): number {
  let left = fieldsMax;
  while (reader.pos < end) {
    if (left-- === 0) throw new Malformed('too many fields');
    const tag = reader.uint32();
    const nested = type.fieldsById[tag >>> 3]?.resolvedType;
    if ((tag & 7) === 2 && nested instanceof Type) {
      const length = reader.uint32();
      left = countFields(nested, reader, reader.pos + length, left);
    } else reader.skipType(tag & 7);
  }
  return left;
}

/** A batch in memory of its own. `room`: bytes before its first, for whoever sends it. */
export class GrowingBatch implements BatchTarget {
  bytes: Uint8Array;
  view: DataView;
  at: number;
  readonly #room: number;

  constructor(capacity = 4096, room = 0) {
    this.#room = room;
    this.at = room;
    this.bytes = unfilled(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  reserve(length: number): void {
    const needed = this.at + length;
    if (needed <= this.bytes.length) return;
    if (needed > 2 * LINK_MESSAGE_BYTES_MAX) throw new Defect(`a batch of ${needed} bytes`);
    const grown = unfilled(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  get length(): number { return this.at - this.#room; }
  clear(): void { this.at = this.#room; }
  written(): Uint8Array { return this.bytes.subarray(this.#room, this.at); }
}

/** Memory with whatever was in it: every byte that is sent is written first, and filling a batch of 256 KiB with zeros takes 10 µs. */
export function unfilled(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}
