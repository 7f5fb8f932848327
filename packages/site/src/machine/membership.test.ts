import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Authority, MachineIdentity, type Roster } from '@ashlar/identity';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from './config.ts';
import { membershipOf } from './membership.ts';

const unwritten = (error: unknown): void => { throw error as Error; };
let directory: string;
let identity: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ashlar-membership-'));
  identity = join(directory, 'identity');
});
afterEach(() => { rmSync(directory, { recursive: true }); });

const started = (sections = 'manager: {}') => membershipOf(parseConfig(`name: m\ndirectory: ${directory}\nlisten: 10.0.0.1\n${sections}\n`, '/etc/ashlard.yaml'));

/** The machine of the manager, of a cluster that s1 has joined and s2 has left. */
async function withMembers(): Promise<Roster> {
  const { identity: founded } = await started();
  const { roster } = founded;
  const more: Roster = {
    ...roster, number: roster.number + 5, removed: [{ machine: 's2', joining: 1 }],
    members: [...roster.members, { machine: 's1', joining: 3, roles: ['storage'], parties: [{ party: 's1', role: 'storage', address: { host: '10.0.0.2', port: 7402 } }] }],
  };
  founded.learn(more, unwritten);
  return more;
}

describe('the machine of the manager', () => {
  test('is in the same cluster when it starts again, with a new certificate', async () => {
    const roster = await withMembers();
    const before = readFileSync(join(identity, 'machine.pem'), 'utf8');
    expect((await started()).identity.roster).toEqual(roster);
    expect(readFileSync(join(identity, 'machine.pem'), 'utf8')).not.toBe(before);
  });

  test('without the key of its authority founds no other cluster: what it has stays until the key is put back', async () => {
    const roster = await withMembers();
    const before = readFileSync(join(identity, 'machine.pem'), 'utf8');
    renameSync(join(identity, 'authority-key.pem'), join(directory, 'kept'));
    await expect(started()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringMatching(new RegExp(`this machine belongs to cluster ${roster.clusterId}; put back a copy`)) as string });
    await Authority.open(identity);
    await expect(started()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringMatching(/it is of cluster/) as string });
    expect(readFileSync(join(identity, 'machine.pem'), 'utf8')).toBe(before);
    renameSync(join(directory, 'kept'), join(identity, 'authority-key.pem'));
    expect((await started()).identity.roster).toEqual(roster);
  });

  test('without its certificate makes another one, and all members stay; it has then the roles of its configuration', async () => {
    const roster = await withMembers();
    rmSync(join(identity, 'machine.pem'));
    const { identity: again } = await started('manager: {}\nstorage: {}');
    const own = { ...roster.members[0], roles: ['manager', 'storage'], parties: [...(roster.members[0]?.parties ?? []), { party: 'm', role: 'storage', address: { host: '10.0.0.1', port: 7402 } }] };
    expect(again.roster).toEqual({ ...roster, number: again.roster.number, members: [own, roster.members[1]] });
    expect(again.roster.number).toBeGreaterThan(roster.number);
    expect(MachineIdentity.open(identity)?.name).toMatchObject({ clusterId: roster.clusterId, machine: 'm', joining: 1 });
  });
});
