import { expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';
import type { Report } from '@ashlar/protocol';

it('the report sums up usage by volume, server and owner, and says what is not as it should be', () => {
  const world = new ModelWorld(4, { rebuildDelayMs: 600_000 });
  world.servers.forEach((server, i) => { server.rack = ['a', 'b', 'b', 'b'][i]!; world.kill(server); world.revive(server); });
  world.run(500);
  const id = world.create(1);
  world.create(0);
  world.ask({ kind: 'volume-attach', volumeId: id, readOnly: false, tcp: false });
  const usage = { readBytes: 4096, writeBytes: 8192, readRequests: 1, writeRequests: 2, flushRequests: 1, failedRequests: 0, longestStallMs: 7 };
  world.manager.receive(world.nowMs, { kind: 'from-host', from: world.host, message: { kind: 'usage', volumeId: id, usage } }, world);
  const report = (): Report => (world.ask({ kind: 'report' }) as { value: Report }).value;
  const before = report();
  expect(before.volumes.find((volume) => volume.volumeId === id)).toMatchObject({ owner: 'operator', health: 'healthy', copiesInSync: 2, copiesWanted: 2, readBytes: 4096, writeBytes: 8192, requests: 4, longestStallMs: 7, remarks: [] });
  expect(before.owners).toEqual([{ owner: 'operator', volumes: 2, sizeBytes: 2 ** 31, unhealthy: 0, readBytes: 4096, writeBytes: 8192, requests: 4, failedRequests: 0 }]);
  expect(before.servers.map((server) => server.copies).reduce((sum, copies) => sum + copies, 0)).toBe(3);
  expect(before.servers.reduce((sum, server) => sum + server.primaries, 0)).toBe(2);
  expect(before.rebuilds).toEqual({ running: 0, waiting: 0, budget: { bytesPerSecond: 0, atOnce: 4 } });

  // The only server of rack a is lost: its copy is built beside another of rack b.
  const lost = world.servers[0]!;
  expect(lost.copies.has(id)).toBe(true);
  world.kill(lost);
  world.ask({ kind: 'server-lost', serverId: lost.id });
  expect(world.until(() => report().volumes.every((volume) => volume.health === 'healthy'), 20_000)).toBe(true);
  expect(report().volumes.find((volume) => volume.volumeId === id)?.remarks).toEqual([expect.stringMatching(/^the copies on server-\d and server-\d share the rack b$/)]);
  expect(report().servers[0]).toMatchObject({ serverId: 'server-1', state: 'down' });
});
