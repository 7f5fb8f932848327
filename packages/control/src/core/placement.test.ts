import { serverId } from '@ashlar/words';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { place, PLACEMENT_RESERVE_BYTES, weigh, type PlacementRequest, type PlacementServer } from './placement.ts';

const GIB = 2 ** 30;
const server = (n: number, change: Partial<PlacementServer> = {}): PlacementServer => ({
  serverId: serverId(`server-${n}`), state: 'up', siteId: 'site-1', rack: '', disk: 'unknown', capacityBytes: 100 * GIB, usedBytes: 10 * GIB, copies: 0, primaries: 0, requestsPerSecond: 0, diskFailed: false, ...change,
});
const request = (count: number, exclude: readonly number[] = [], change: Partial<PlacementRequest> = {}): PlacementRequest => ({
  siteId: 'site-1', count, exclude: exclude.map((n) => serverId(`server-${n}`)), apartFrom: [], disk: null, ...change,
});

const anyServer = (n: number): fc.Arbitrary<PlacementServer> => fc.record({
  serverId: fc.constant(serverId(`server-${n}`)), state: fc.constantFrom('up' as const, 'up' as const, 'down' as const, 'suspect' as const, 'draining' as const),
  siteId: fc.constantFrom('site-1', 'site-1', 'site-2'), rack: fc.constantFrom('', 'a', 'b', 'c'), disk: fc.constantFrom('ssd' as const, 'ssd' as const, 'hdd' as const, 'unknown' as const),
  capacityBytes: fc.constant(100 * GIB), usedBytes: fc.integer({ min: 0, max: 100 }).map((n) => n * GIB), copies: fc.nat(20), primaries: fc.nat(10), requestsPerSecond: fc.nat(20_000), diskFailed: fc.constantFrom(false, false, false, true),
});
const anyServers = fc.nat(8).chain((count) => fc.tuple(...Array.from({ length: count }, (_, i) => anyServer(i + 1))));
const anyRequest = fc.record({ count: fc.integer({ min: 1, max: 4 }), exclude: fc.array(fc.integer({ min: 1, max: 8 })), apartFrom: fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 2 }), disk: fc.constantFrom(null, 'ssd' as const) })
  .map(({ count, exclude, apartFrom, disk }) => request(count, [...exclude, ...apartFrom], { apartFrom: apartFrom.map((n) => serverId(`server-${n}`)), disk }));

/** The largest number of servers that may be chosen together: one of each known rack, and all whose rack is unknown. */
function mostThatCan(asked: PlacementRequest, servers: readonly PlacementServer[]): number {
  const rackOf = (id: string): string => servers.find((one) => one.serverId === id)?.rack ?? '';
  const taken = new Set(asked.apartFrom.map(rackOf).filter((rack) => rack !== ''));
  const able = servers.filter((one) => one.state === 'up' && !one.diskFailed && one.siteId === asked.siteId && !asked.exclude.includes(one.serverId) && (asked.disk === null || one.disk === asked.disk)
    && one.capacityBytes - one.usedBytes >= PLACEMENT_RESERVE_BYTES && !taken.has(one.rack));
  return able.filter((one) => one.rack === '').length + new Set(able.map((one) => one.rack).filter((rack) => rack !== '')).size;
}

describe('weigh', () => {
  it('takes a server that has not told its size for the last choice, and not for a full one', () => {
    const servers = [server(1, { capacityBytes: 0, usedBytes: 0 }), server(2), server(3, { usedBytes: 100 * GIB })];
    expect(place(request(1), servers)).toEqual(['server-2']);
    expect([...place(request(2), servers)].sort()).toEqual(['server-1', 'server-2']);
    expect(() => place(request(3), servers)).toThrow(/server-3: it has less than 256 MiB free/);
  });

  it('chooses as many as can be: distinct, up, at the site, on the disk asked for, with room, each in a rack of its own', () => {
    fc.assert(fc.property(anyServers, anyRequest, (servers, asked) => {
      const { chosen } = weigh(asked, servers);
      expect(chosen).toHaveLength(Math.min(asked.count, mostThatCan(asked, servers)));
      const racks = [...chosen, ...asked.apartFrom.filter((id) => servers.some((one) => one.serverId === id))].map((id) => servers.find((one) => one.serverId === id)?.rack as string);
      const taken = new Set(asked.apartFrom.map((id) => servers.find((one) => one.serverId === id)?.rack));
      const known = racks.slice(0, chosen.length).filter((rack) => rack !== '');
      expect(new Set(known).size).toBe(known.length);
      expect(known.some((rack) => taken.has(rack))).toBe(false);
      for (const id of chosen) {
        const one = servers.find((other) => other.serverId === id) as PlacementServer;
        expect([one.state, one.siteId, asked.exclude.includes(id), asked.disk === null || one.disk === asked.disk]).toEqual(['up', 'site-1', false, true]);
      }
    }));
  });

  it('says of every server once why it was or was not chosen', () => {
    fc.assert(fc.property(anyServers, anyRequest, (servers, asked) => {
      const { chosen, verdicts } = weigh(asked, servers);
      expect(verdicts.map((verdict) => verdict.serverId).sort()).toEqual(servers.map((one) => one.serverId).sort());
      expect(verdicts.filter((verdict) => verdict.chosen).map((verdict) => verdict.serverId).sort()).toEqual([...chosen].sort());
      expect(verdicts.every((verdict) => verdict.why !== '')).toBe(true);
    }));
  });

  it('does not depend on the order in which servers are known', () => {
    fc.assert(fc.property(anyServers, anyRequest, (servers, asked) => { expect(weigh(asked, [...servers].reverse())).toEqual(weigh(asked, servers)); }));
  });

  it('never passes over a server that is better in something and worse in nothing', () => {
    fc.assert(fc.property(anyServers, (servers) => {
      const free = servers.map((one) => ({ ...one, rack: '' }));
      const { chosen } = weigh(request(1), free);
      const one = free.find((other) => other.serverId === chosen[0]);
      const better = (a: PlacementServer, b: PlacementServer): boolean => a.copies <= b.copies && a.requestsPerSecond <= b.requestsPerSecond && a.usedBytes <= b.usedBytes
        && (a.copies < b.copies || a.requestsPerSecond < b.requestsPerSecond || a.usedBytes < b.usedBytes);
      const able = free.filter((other) => other.state === 'up' && !other.diskFailed && other.siteId === 'site-1' && other.usedBytes < other.capacityBytes);
      if (one !== undefined) expect(able.filter((other) => better(other, one)).map((other) => other.serverId)).toEqual([]);
    }));
  });

  it('explains', () => {
    const servers = [
      server(1, { rack: 'a', disk: 'ssd' }), server(2, { rack: 'a', disk: 'ssd' }), server(3, { rack: 'b', disk: 'hdd' }), server(4, { rack: 'b', disk: 'ssd', state: 'draining' }), server(5, { rack: 'c', disk: 'ssd', copies: 3 }),
      server(6, { rack: 'd', disk: 'ssd', copies: 9, requestsPerSecond: 500 }), server(7, { state: 'suspect' }), server(8, { rack: 'e', disk: 'ssd', usedBytes: 100 * GIB }), server(9, { siteId: 'site-2' }), server(10, { diskFailed: true }),
    ];
    expect(weigh(request(2, [], { disk: 'ssd' }), servers).verdicts.map(({ serverId: id, chosen, why }) => `${id} ${chosen ? '*' : '-'} ${why}`)).toEqual([
      'server-1 * the least loaded: 10 % full, 0 copies, 0 requests a second',
      'server-5 * the least loaded of those left: 10 % full, 3 copies, 0 requests a second',
      'server-10 - a disk of it has failed',
      'server-2 - its rack a has a copy already, on server-1',
      'server-3 - its disk is hdd, not ssd',
      'server-4 - it is being drained',
      'server-7 - it is suspect',
      'server-9 - it is at another site, site-2',
      'server-6 - more loaded than those chosen: 10 % full, 9 copies, 500 requests a second',
      'server-8 - it has less than 256 MiB free',
    ]);
  });
});

describe('place', () => {
  it('prefers servers with few copies, and puts the primary where few primaries are', () => {
    expect(place(request(2), [server(1, { copies: 5 }), server(2, { copies: 1, primaries: 1 }), server(3, { copies: 2 })])).toEqual(['server-3', 'server-2']);
  });

  it('prefers the one that has less to do, and the one with more room', () => {
    expect(place(request(1), [server(1, { requestsPerSecond: 900 }), server(2)])).toEqual(['server-2']);
    expect(place(request(1), [server(1, { usedBytes: 50 * GIB }), server(2)])).toEqual(['server-2']);
    expect(place(request(1), [server(1, { usedBytes: 95 * GIB }), server(2, { copies: 20, requestsPerSecond: 20_000 })])).toEqual(['server-2']);
  });

  it('says why it cannot', () => {
    expect(() => place(request(2), [server(1), server(2, { state: 'down' })])).toThrow(/2 distinct servers are needed; 1 of 2 .*server-2: it is down/);
    expect(() => place(request(2), [server(1, { rack: 'a' }), server(2, { rack: 'a' })])).toThrow(expect.objectContaining({ code: 'too-few-servers' }));
    expect(() => place(request(1), [server(1, { usedBytes: 100 * GIB })])).toThrow(expect.objectContaining({ code: 'no-space', message: expect.stringMatching(/256 MiB free/) as string }));
  });
});
