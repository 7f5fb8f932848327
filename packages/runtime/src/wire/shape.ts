import { assert, hostId, serverId, volumeId, type HostId, type ServerId, type VolumeId } from '@ashlar/words';
import protobuf from 'protobufjs';

/** Bytes from outside that are no valid message. Closes the link they came over. */
export class Malformed extends Error {
  override readonly name = 'Malformed';
}

/**
 * How one field of a message is laid out in protobuf, and how it is checked when it comes from outside. The table of messages
 * (messages.ts) is made of these; the compiler refuses it when a field of a message type has no shape.
 *
 * Whole numbers travel as `double`, which is exact for safe integers. protobufjs hands out 64-bit integers as Long objects, for
 * which `===` is false: that is a bug waiting in every comparison of epochs.
 */
export interface Shape<T> {
  readonly proto: string;
  readonly rule?: 'repeated';
  readonly optional?: boolean;
  readonly nested?: protobuf.Type;
  toWire(value: T): unknown;
  /** `undefined` when the sender left the field out (an older version). Throws Malformed. */
  fromWire(raw: unknown): T;
  /** What the property tests make of it. */
  readonly example: Example;
}

/** Describes the values of a shape, so that the round-trip tests can make any of them. */
export type Example =
  | { readonly of: 'whole' | 'u32' | 'real' | 'flag' | 'scalars' | 'volume-id' | 'name' | 'bytes' | 'text' }
  | { readonly of: 'choice'; readonly choices: readonly string[] }
  | { readonly of: 'nullable' | 'list'; readonly item: Example }
  | { readonly of: 'record'; readonly fields: Readonly<Record<string, Example>> };

function same<T>(value: T): unknown { return value; }

/** A safe integer of either sign: sequence numbers, epochs, sizes. -1 is in use as "nowhere". */
export const whole: Shape<number> = {
  proto: 'double', toWire: same, example: { of: 'whole' },
  fromWire(raw) {
    if (raw === undefined) return 0;
    if (!Number.isSafeInteger(raw)) throw new Malformed('not a whole number');
    // -0 and 0 are one number in a protocol.
    return (raw as number) + 0;
  },
};

export const u32: Shape<number> = {
  proto: 'uint32', toWire: same, example: { of: 'u32' },
  fromWire(raw) {
    if (raw === undefined) return 0;
    if (typeof raw !== 'number') throw new Malformed('not a number');
    return raw >>> 0;
  },
};

/** Times in milliseconds: finite, with a fraction. */
export const real: Shape<number> = {
  proto: 'double', toWire: same, example: { of: 'real' },
  fromWire(raw) {
    if (raw === undefined) return 0;
    if (!Number.isFinite(raw)) throw new Malformed('not a finite number');
    return raw as number;
  },
};

export const flag: Shape<boolean> = {
  proto: 'bool', toWire: same, example: { of: 'flag' },
  fromWire: (raw) => raw === true,
};

export function text(lengthMax: number): Shape<string> {
  return {
    proto: 'string', toWire: same, example: { of: 'text' },
    fromWire(raw) {
      if (raw === undefined) return '';
      if (typeof raw !== 'string' || raw.length > lengthMax) throw new Malformed(`text longer than ${lengthMax}`);
      return raw;
    },
  };
}

export function bytes(lengthMax: number): Shape<Uint8Array> {
  return {
    proto: 'bytes', toWire: same, example: { of: 'bytes' },
    fromWire(raw) {
      if (raw === undefined) return new Uint8Array(0);
      if (!(raw instanceof Uint8Array) || raw.length > lengthMax) throw new Malformed(`more than ${lengthMax} bytes`);
      return raw;
    },
  };
}

/** One of some words. Sent as text: a number whose meaning shifts between versions is the harder bug. */
export function choice<const T extends string>(...choices: readonly T[]): Shape<T> {
  return {
    proto: 'string', toWire: same, example: { of: 'choice', choices },
    fromWire(raw) {
      const found = choices.find((candidate) => candidate === raw);
      if (found === undefined) throw new Malformed('an unknown word');
      return found;
    },
  };
}

function parsed<T extends string>(parse: (value: string) => T, of: 'volume-id' | 'name'): Shape<T> {
  return {
    proto: 'string', toWire: same, example: { of },
    fromWire(raw) {
      try {
        return parse(typeof raw === 'string' ? raw : '');
      } catch (cause) {
        throw new Malformed('an id that is none', { cause });
      }
    },
  };
}

export const aVolumeId: Shape<VolumeId> = parsed(volumeId, 'volume-id');
export const aServerId: Shape<ServerId> = parsed(serverId, 'name');
export const aHostId: Shape<HostId> = parsed(hostId, 'name');

/** An absent field is null. */
export function nullable<T>(item: Shape<T>): Shape<T | null> {
  return {
    proto: item.proto, nested: item.nested, optional: true, example: { of: 'nullable', item: item.example },
    toWire: (value) => (value === null ? undefined : item.toWire(value)),
    fromWire: (raw) => (raw === undefined ? null : item.fromWire(raw)),
  };
}

export function list<T>(item: Shape<T>, countMax: number): Shape<readonly T[]> {
  assert(item.rule === undefined && item.optional !== true, 'protobuf has no lists of lists');
  return {
    proto: item.proto, nested: item.nested, rule: 'repeated', example: { of: 'list', item: item.example },
    toWire: (values) => values.map((value) => item.toWire(value)),
    fromWire(raw) {
      if (raw === undefined) return [];
      if (!Array.isArray(raw) || raw.length > countMax) throw new Malformed(`a list of more than ${countMax}`);
      return raw.map((value) => item.fromWire(value));
    },
  };
}

export type Fields<T> = { readonly [K in keyof T]-?: Shape<T[K]> };

/** A nested message, or the body of one. Field numbers are the order of the fields: append only. */
export interface RecordShape<T> extends Shape<T> {
  readonly nested: protobuf.Type;
}

export function record<T extends object>(name: string, fields: Fields<T>): RecordShape<T> {
  const type = new protobuf.Type(name);
  const entries = Object.entries(fields) as [string, Shape<unknown>][];
  const nestedNames = new Set<string>();
  entries.forEach(([field, shape], index) => {
    if (shape.nested && !nestedNames.has(shape.nested.name)) {
      nestedNames.add(shape.nested.name);
      if (shape.nested.parent === null) root.add(shape.nested);
    }
    type.add(new protobuf.Field(field, index + 1, shape.proto, shape.rule ?? 'optional'));
  });
  return {
    proto: name, nested: type, example: { of: 'record', fields: Object.fromEntries(entries.map(([field, shape]) => [field, shape.example])) },
    toWire(value) {
      const raw: Record<string, unknown> = {};
      for (const [field, shape] of entries) {
        const wire = shape.toWire((value as Record<string, unknown>)[field]);
        if (wire !== undefined) raw[field] = wire;
      }
      return raw;
    },
    fromWire(raw) {
      if (typeof raw !== 'object' || raw === null) throw new Malformed(`${name} is missing`);
      const value: Record<string, unknown> = {};
      for (const [field, shape] of entries) value[field] = shape.fromWire(ownField(raw, field));
      return value as T;
    },
  };
}

/** protobufjs puts default values on the prototype; only own fields were sent. */
function ownField(raw: object, field: string): unknown {
  return Object.hasOwn(raw, field) ? (raw as Record<string, unknown>)[field] : undefined;
}

const root = new protobuf.Root();

/** Puts a message's type where its nested types are found. */
export function register(shape: { readonly nested: protobuf.Type }): void {
  if (shape.nested.parent === null) root.add(shape.nested);
}

type Scalar = string | number | boolean;
interface ScalarEntry {
  readonly name: string;
  readonly text: string | null;
  readonly number: number | null;
  readonly flag: boolean | null;
}
const scalarEntry = record<ScalarEntry>('ScalarEntry', { name: text(100), text: nullable(text(10_000)), number: nullable(real), flag: nullable(flag) });
const scalarEntries = list(scalarEntry, 100);

/** The detail of an event: names with text, numbers and truth values. */
export const scalars: Shape<Readonly<Record<string, Scalar>>> = {
  proto: scalarEntries.proto, nested: scalarEntry.nested, rule: 'repeated', example: { of: 'scalars' },
  toWire(detail) {
    return scalarEntries.toWire(Object.entries(detail).map(([name, value]) => ({
      name,
      text: typeof value === 'string' ? value : null,
      number: typeof value === 'number' ? value : null,
      flag: typeof value === 'boolean' ? value : null,
    })));
  },
  fromWire(raw) {
    // fromEntries defines own properties, so that a name such as __proto__ from outside is a name and nothing more.
    return Object.fromEntries(scalarEntries.fromWire(raw).map((entry) => [entry.name, entry.text ?? entry.number ?? entry.flag ?? false]));
  },
};
