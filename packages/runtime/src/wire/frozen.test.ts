import type protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import { COLD_MESSAGES, sinceVersion } from './messages.ts';
import type { Example } from './shape.ts';
import version1 from './testdata/version-1.json' with { type: 'json' };

interface FrozenMessage {
  readonly code: number;
  /** In the order of their numbers: name, and type. */
  readonly fields: readonly string[];
  readonly words: Readonly<Record<string, readonly string[]>>;
}

interface Described { readonly code: number; readonly body: { readonly nested: protobuf.Type; readonly example: Example } }

/** What of a message two builds must agree on. */
function described({ code, body }: Described): FrozenMessage {
  return { code, fields: fieldsOf(body.nested, ''), words: Object.fromEntries(wordsOf(body.example, '')) };
}

function fieldsOf(type: protobuf.Type, path: string): string[] {
  return [...type.fieldsArray].sort((a, b) => a.id - b.id).flatMap((field) => {
    const name = `${path}${field.id} ${field.name}: ${field.repeated ? 'repeated ' : ''}${field.type}`;
    const nested = field.resolve().resolvedType as protobuf.Type | null;
    return [name, ...(nested === null ? [] : fieldsOf(nested, `${path}${field.id}.`))];
  });
}

function wordsOf(example: Example, path: string): [string, readonly string[]][] {
  switch (example.of) {
    case 'choice': return [[path, example.choices]];
    case 'nullable':
    case 'list':
      return wordsOf(example.item, path);
    case 'record': return Object.entries(example.fields).flatMap(([field, inner]) => wordsOf(inner, `${path}/${field}`));
    default: return [];
  }
}

/** `2.1 volumeId: …` is number 1 of the record in field 2. */
function numberOf(field: string): { readonly record: string; readonly id: number } {
  const [, record = '', id = ''] = /^((?:\d+\.)*)(\d+) /.exec(field) ?? [];
  return { record, id: Number(id) };
}

/** Written from that version's own table, and never again. */
const FROZEN: Readonly<Record<string, FrozenMessage>> = version1;

describe('messages that a peer of wire version 1 knows', () => {
  const now = COLD_MESSAGES as unknown as Readonly<Record<string, Described | undefined>>;

  test.each(Object.entries(FROZEN))('%s: only fields at its end were added, and no words', (kind, then) => {
    const message = now[kind];
    expect(message).toBeDefined();
    const { code, fields, words } = described(message as Described);
    expect(code).toBe(then.code);
    expect(fields).toEqual(expect.arrayContaining([...then.fields]));
    for (const [path, known] of Object.entries(then.words)) expect([path, words[path]]).toEqual([path, known]);
    // A number that is not above all that were there would have been somebody else's, or left out for a reason.
    const added = fields.filter((field) => !then.fields.includes(field)).map(numberOf);
    const before = then.fields.map(numberOf);
    expect(added.filter(({ record, id }) => before.some((field) => field.record === record && field.id >= id))).toEqual([]);
  });

  test('no other is sent to it', () => {
    const later = Object.keys(now).filter((kind) => !(kind in FROZEN));
    expect(later.length).toBeGreaterThan(0);
    expect(later.filter((kind) => sinceVersion(kind) < 2)).toEqual([]);
  });
});
