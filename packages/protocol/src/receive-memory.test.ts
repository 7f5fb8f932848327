import { describe, expect, it } from 'vitest';
import { Prng } from '@ashlar/words';
import { ReceiveWindow, SlabPool } from './receive-memory.ts';

function fill(window: ReceiveWindow, bytes: readonly number[]): void {
  window.target().set(bytes);
  window.filled(bytes.length);
}

describe('receive memory', () => {
  it('is begun anew when everything is parsed and released', () => {
    const window = new ReceiveWindow(new SlabPool(), 1024, 1024, 1024);
    fill(window, [1, 2, 3]);
    window.start = 3;
    window.target();
    expect([window.start, window.end]).toEqual([0, 0]);
  });

  it('is left alone while a frame over it is leased', () => {
    const pool = new SlabPool();
    const window = new ReceiveWindow(pool, 64, 64, 64);
    const { slab } = window;
    fill(window, Array.from({ length: 60 }, (_, i) => i));
    const lease = slab.lease();
    window.start = 58;
    fill(window, [60, 61]);
    expect(window.slab).not.toBe(slab);
    expect([...window.slab.bytes.subarray(window.start, window.end)]).toEqual([58, 59, 60, 61]);
    expect(slab.bytes[10]).toBe(10);
    expect(pool.take(64)).not.toBe(slab); // still leased
    lease.release();
    expect(pool.take(64)).toBe(slab);
    expect(() => lease.release()).toThrow();
  });

  it('makes room for a request larger than itself', () => {
    const window = new ReceiveWindow(new SlabPool(), 64, 64, 64);
    fill(window, [9]);
    window.needed = 5000;
    expect(window.target().length).toBeGreaterThanOrEqual(4999);
    expect(window.slab.bytes[window.start]).toBe(9);
  });

  it('passes on every byte in order, whatever is leased, parsed and read', () => {
    const prng = new Prng(3);
    const window = new ReceiveWindow(new SlabPool(), 64, 256, 1024);
    const leases: { lease: { release(): void }; bytes: Uint8Array; copy: Uint8Array }[] = [];
    let sent = 0;
    let parsed = 0;
    for (let round = 0; round < 5000; round++) {
      const target = window.target();
      const bytes = prng.between(1, target.length);
      for (let i = 0; i < bytes; i++) target[i] = sent++ & 0xff;
      window.filled(bytes);
      const take = prng.below(window.length + 1);
      const region = window.slab.bytes.subarray(window.start, window.start + take);
      if (prng.chance(0.3)) leases.push({ lease: window.slab.lease(), bytes: region, copy: region.slice() });
      expect(region.every((byte) => byte === (parsed++ & 0xff))).toBe(true);
      window.start += take;
      while (leases.length > prng.below(8)) {
        const [first] = leases.splice(prng.below(leases.length), 1);
        expect(first?.bytes).toEqual(first?.copy);
        first?.lease.release();
      }
    }
  });
});
