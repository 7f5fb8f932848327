import type { ActorContext, Message } from '@ashlar/actor';
import type { Member, Roster } from '@ashlar/identity';
import { AshlarError } from '@ashlar/words';
import { expect, test } from 'vitest';
import { ClusterActor } from './cluster-actor.ts';
import type { Cluster } from './cluster.ts';

test('what a machine says every second and the cluster cannot take is told once, until it was taken', async () => {
  const lines: string[] = [];
  const context = { log: { error: (_fields: object, text: string) => { lines.push(text); } }, send: () => undefined } as unknown as ActorContext;
  const member: Member = { machine: 's1', joining: 1, roles: ['storage'], parties: [{ party: 's1-daemon', role: 'daemon', address: null }] };
  const roster: Roster = { clusterId: '0123456789abcdef', number: 1, members: [member], removed: [] };
  let takes = false;
  let asked = 0;
  const cluster = { roster, moved: () => { asked++; return takes ? Promise.resolve() : Promise.reject(new AshlarError('untrusted', 's1-host has the role host')); } } as unknown as Cluster;
  const actor = new ClusterActor(context, cluster, () => undefined);
  const says = async (parties: unknown = member.parties): Promise<void> => {
    const before = asked;
    actor.receive({ kind: 'machine-hello', rosterNumber: 1, parties } as unknown as Parameters<typeof actor.receive>[0] & Message, 's1-daemon/daemon');
    if (Array.isArray(parties)) await expect.poll(() => asked).toBe(before + 1);
  };
  for (let i = 0; i < 5; i++) await says();
  await says('all');
  await says('all');
  expect(lines).toHaveLength(2);
  takes = true;
  await says();
  takes = false;
  await says();
  await expect.poll(() => lines.length).toBe(3);
});
