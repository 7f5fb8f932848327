import { afterEach, describe, expect, it, vi } from 'vitest';
import { NbdError, SIMPLE_REPLY_BYTES } from './constants.ts';
import { CONTROL_BYTES } from './limits.ts';
import { ReplyWriter } from './reply-writer.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('replies of one turn', () => {
  it('are built without being copied, however many they are', () => {
    // `set` belongs to all typed arrays.
    const set = vi.spyOn(Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array, 'set');
    const writer = new ReplyWriter();
    const count = 3 * CONTROL_BYTES / SIMPLE_REPLY_BYTES + 5;
    for (let i = 0; i < count; i++) writer.simple(0, i, NbdError.invalid);
    const pieces = writer.take();
    expect(set.mock.calls.reduce((sum, [bytes]) => sum + bytes.length, 0)).toBe(0);
    expect(writer.empty).toBe(true);
    const sent = Buffer.concat(pieces);
    expect(sent.length).toBe(count * SIMPLE_REPLY_BYTES);
    const cookies = new Set(Array.from({ length: count }, (_, i) => sent.readUInt32BE(i * SIMPLE_REPLY_BYTES + 12)));
    expect(cookies.size).toBe(count);
  });
});
