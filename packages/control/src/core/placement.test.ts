import { serverId } from '@ashlar/words';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { place, PLACEMENT_RESERVE_BYTES, type PlacementServer } from './placement.ts';

const GIB = 2 ** 30;
const server = (n: number, change: Partial<PlacementServer> = {}): PlacementServer => ({
  serverId: serverId(`server-${n}`), state: 'up', siteId: 'site-1', rack: '', capacityBytes: 100 * GIB, usedBytes: 10 * GIB, copies: 0, primaries: 0, ...change,
});
const request = (count: number, exclude: readonly number[] = []) => ({ siteId: 'site-1', count, exclude: exclude.map((n) => serverId(`server-${n}`)) });

const anyServer = (n: number): fc.Arbitrary<PlacementServer> => fc.record({
  serverId: fc.constant(serverId(`server-${n}`)), state: fc.constantFrom('up' as const, 'up' as const, 'down' as const, 'suspect' as const, 'draining' as const),
  siteId: fc.constantFrom('site-1', 'site-1', 'site-2'), rack: fc.constant(''), capacityBytes: fc.constant(100 * GIB), usedBytes: fc.integer({ min: 0, max: 100 }).map((n) => n * GIB),
  copies: fc.nat(20), primaries: fc.nat(10),
});
const anyServers = fc.nat(8).chain((count) => fc.tuple(...Array.from({ length: count }, (_, i) => anyServer(i + 1))));

describe('place', () => {
  it('gives distinct servers that are up, in the site, with room, and not excluded; or refuses when there are too few', () => {
    fc.assert(fc.property(anyServers, fc.integer({ min: 1, max: 4 }), fc.array(fc.integer({ min: 1, max: 8 })), (servers, count, exclude) => {
      const asked = request(count, exclude);
      const able = servers.filter((one) => one.state === 'up' && one.siteId === 'site-1' && !asked.exclude.includes(one.serverId) && one.capacityBytes - one.usedBytes >= PLACEMENT_RESERVE_BYTES);
      if (able.length < count) {
        expect(() => place(asked, servers)).toThrow();
        return;
      }
      const chosen = place(asked, servers);
      expect(new Set(chosen).size).toBe(count);
      expect(chosen.every((id) => able.some((one) => one.serverId === id))).toBe(true);
    }));
  });

  it('does not depend on the order in which servers are known', () => {
    fc.assert(fc.property(anyServers, (servers) => {
      const outcome = (list: readonly PlacementServer[]): unknown => {
        try { return place(request(2), list); } catch (error) { return (error as { code: string }).code; }
      };
      expect(outcome([...servers].reverse())).toEqual(outcome(servers));
    }));
  });

  it('prefers servers with few copies, and puts the primary where few primaries are', () => {
    expect(place(request(2), [server(1, { copies: 5 }), server(2, { copies: 1, primaries: 1 }), server(3, { copies: 2 })])).toEqual(['server-3', 'server-2']);
  });

  it('says why it cannot', () => {
    expect(() => place(request(2), [server(1), server(2, { state: 'down' })])).toThrow(/2 distinct servers are needed; 1 of 2/);
    expect(() => place(request(1), [server(1, { usedBytes: 100 * GIB })])).toThrow(/256 MiB free/);
  });
});
