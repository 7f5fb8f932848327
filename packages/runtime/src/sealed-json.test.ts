import { expect, it } from 'vitest';
import { sealJson, unsealJson } from './sealed-json.ts';

const VALUE = { format: 1, serverId: 'server-1', count: 3, text: 'ä "quoted"' };
const KEYS = Object.keys(VALUE);

it('gives back what was sealed, and notices every flipped bit', () => {
  const bytes = new TextEncoder().encode(sealJson(VALUE));
  const read = (flipped: Uint8Array): unknown => unsealJson(new TextDecoder().decode(flipped), KEYS);
  expect(read(bytes)).toEqual(VALUE);
  for (let at = 0; at < bytes.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] as number) ^ (1 << bit);
      const found = read(flipped);
      // White space behind the object may become other white space.
      if (found !== null) expect([at, found]).toEqual([bytes.length - 1, VALUE]);
    }
  }
});

it('takes an object without a checksum only if it has the keys that are known', () => {
  expect(unsealJson(JSON.stringify(VALUE), KEYS)).toEqual(VALUE);
  expect(unsealJson(JSON.stringify({ ...VALUE, chdcksum: '00000000' }), KEYS)).toBeNull();
  for (const text of ['', 'null', '[]', '7', '"x"', '{', '{"format":1}']) expect(unsealJson(text, KEYS)).toBeNull();
});
