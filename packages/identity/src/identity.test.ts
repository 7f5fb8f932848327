import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { X509Certificate } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Authority, newRequest, requestKeyId } from './authority.ts';
import { ClusterTrust } from './cluster-trust.ts';
import { hashSecret, matchesSecret, newJoinSecret, parseJoinSecret, showJoinSecret } from './join-secret.ts';
import { MachineIdentity } from './machine-identity.ts';
import { certifiedName } from './names.ts';
import { parseRoster, type Member, type Roster } from './roster.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-identity-'));
const HOUR_MS = 3_600_000;
let authority: Authority;
let other: Authority;

beforeAll(async () => {
  authority = await Authority.open(join(directory, 'ours'));
  other = await Authority.open(join(directory, 'theirs'));
});
afterAll(() => rmSync(directory, { recursive: true }));

async function certificateOf(machine: string, by = authority, joining = 1): Promise<X509Certificate> {
  const { request } = await newRequest(machine);
  return new X509Certificate(await by.issue(request, { machine, joining, hosts: ['127.0.0.1', 'm.example'], lifetimeMs: HOUR_MS }));
}

function rosterOf(number: number, machines: readonly string[], removed: Roster['removed'] = []): Roster {
  const members = machines.map((machine): Member => ({ machine, joining: 1, roles: ['storage'], parties: [{ party: `${machine}-daemon`, role: 'daemon', address: null }, { party: machine, role: 'storage', address: { host: '127.0.0.1', port: 7402 } }] }));
  return { clusterId: authority.clusterId, number, members, removed };
}

describe('an authority', () => {
  test('is the same when it is opened again, and another one elsewhere', async () => {
    const again = await Authority.open(join(directory, 'ours'));
    expect([again.clusterId, again.fingerprint]).toEqual([authority.clusterId, authority.fingerprint]);
    expect(other.clusterId).not.toBe(authority.clusterId);
    expect(statSync(join(directory, 'ours', 'authority-key.pem')).mode & 0o777).toBe(0o600);
  });

  test('issues for the key that signed the request, and names the machine', async () => {
    const { request } = await newRequest('s1');
    const certificate = new X509Certificate(await authority.issue(request, { machine: 's1', joining: 3, hosts: ['127.0.0.1'], lifetimeMs: HOUR_MS }));
    expect(certificate.verify(new X509Certificate(authority.pem).publicKey)).toBe(true);
    expect(certificate.verify(new X509Certificate(other.pem).publicKey)).toBe(false);
    expect(certifiedName(certificate)).toEqual({ clusterId: authority.clusterId, machine: 's1', joining: 3 });
    expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1');
    expect(await requestKeyId(request)).toBe(await requestKeyId(request));
  });

  test('takes no request that its key has not signed', async () => {
    const { request } = await newRequest('s1');
    const body = Buffer.from(request.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
    body[body.length - 1] = (body[body.length - 1] as number) ^ 1;
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${body.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    const asked = { machine: 's1', joining: 1, hosts: [], lifetimeMs: HOUR_MS };
    for (const text of [forged, 'nonsense', '']) await expect(authority.issue(text, asked)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('that is damaged says so, and is not replaced by another', async () => {
    const folder = join(directory, 'damaged');
    await Authority.open(folder);
    writeFileSync(join(folder, 'authority-key.pem'), 'gone');
    await expect(Authority.open(folder)).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('a cluster believes', () => {
  const NO_CREDENTIALS = { key: '', cert: '', ca: '' };
  let roster: Roster;
  let trust: ClusterTrust;
  beforeAll(() => {
    roster = rosterOf(10, ['s1', 's2'], [{ machine: 's3', joining: 1 }]);
    trust = new ClusterTrust(NO_CREDENTIALS, roster);
  });

  test('a member, for its own parties', async () => {
    expect(trust.judge(await certificateOf('s1'), null)).toEqual({ parties: new Set(['s1-daemon', 's1']) });
  });

  test('no stranger, and says why', async () => {
    const why = async (certificate: X509Certificate | undefined, fault: string | null = null): Promise<string> => {
      const judged = trust.judge(certificate, fault);
      return 'refused' in judged ? judged.refused : 'believed';
    };
    expect(await why(undefined)).toBe('it showed no certificate');
    expect(await why(await certificateOf('s1'), 'CERT_HAS_EXPIRED')).toMatch(/^the certificate of machine s1 has expired \(/);
    expect(await why(await certificateOf('s1', other), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')).toBe('the certificate of machine s1 is not of this cluster');
    expect(await why(await certificateOf('s1', other))).toBe('the certificate of machine s1 is not of this cluster');
    expect(await why(await certificateOf('s3'))).toBe('machine s3 was removed from the cluster');
    expect(await why(await certificateOf('s1', authority, 2))).toBe('machine s1 (joining 2) is not in the roster of the cluster');
    expect(await why(new X509Certificate(authority.pem))).toBe('its certificate, which names no machine, is not of this cluster');
  });

  test('the newest roster, whatever arrives late', async () => {
    const certificate = await certificateOf('s2');
    const changing = new ClusterTrust(NO_CREDENTIALS, roster);
    let changes = 0;
    changing.onChange(() => { changes++; });
    changing.update(NO_CREDENTIALS, rosterOf(12, ['s1'], [{ machine: 's2', joining: 1 }]));
    changing.update(NO_CREDENTIALS, rosterOf(11, ['s1', 's2']));
    expect(changing.judge(certificate, null)).toEqual({ refused: 'machine s2 was removed from the cluster' });
    expect(changes).toBe(2);
  });
});

describe('a join secret', () => {
  test('is read as it was shown', () => {
    const secret = newJoinSecret(authority.fingerprint);
    expect(parseJoinSecret(`${showJoinSecret(secret)}\n`)).toEqual(secret);
    expect(matchesSecret(secret.secret, hashSecret(secret.secret))).toBe(true);
    expect(matchesSecret(newJoinSecret('').secret, hashSecret(secret.secret))).toBe(false);
    for (const text of ['', 'secret', showJoinSecret(secret).slice(0, -1), showJoinSecret(secret).replace('-1.', '-2.')]) expect(() => parseJoinSecret(text)).toThrow(/not a join secret/);
  });
});

describe('a machine', () => {
  test('is who it was, with the newest roster and certificate', async () => {
    const folder = join(directory, 'machine');
    expect(MachineIdentity.open(folder)).toBeNull();
    const credentialsOf = async (): Promise<{ key: string; cert: string; ca: string }> => {
      const { key, request } = await newRequest('s1');
      return { key, cert: await authority.issue(request, { machine: 's1', joining: 1, hosts: [], lifetimeMs: HOUR_MS }), ca: authority.pem };
    };
    const identity = MachineIdentity.create(folder, await credentialsOf(), rosterOf(5, ['s1']));
    const renewed = await credentialsOf();
    identity.renew(renewed);
    const unwritten: unknown[] = [];
    const learn = (roster: Roster): boolean => identity.learn(roster, (error) => { unwritten.push(error); });
    expect(learn(rosterOf(6, ['s1', 's2']))).toBe(true);
    expect(learn(rosterOf(5, ['s1']))).toBe(false);
    expect(learn({ ...rosterOf(7, []), clusterId: other.clusterId })).toBe(false);
    expect(unwritten).toEqual([]);
    const again = MachineIdentity.open(folder);
    expect([again?.credentials, again?.roster, again?.name.machine]).toEqual([renewed, rosterOf(6, ['s1', 's2']), 's1']);
    expect((again?.expiresAtMs ?? 0) - (again?.renewAtMs ?? 0)).toBe(HOUR_MS / 2);
    writeFileSync(join(folder, 'roster.json'), '{}');
    expect(() => MachineIdentity.open(folder)).toThrow(/does not say any more who belongs/);
  });
});

test('a machine whose disk takes nothing goes by a newer roster all the same, and by its former certificate', async () => {
  const folder = join(directory, 'full');
  const { key, request } = await newRequest('s1');
  const credentials = { key, cert: await authority.issue(request, { machine: 's1', joining: 1, hosts: [], lifetimeMs: HOUR_MS }), ca: authority.pem };
  const identity = MachineIdentity.create(folder, credentials, rosterOf(5, ['s1', 's2']));
  // Where a file is to be written, a directory is in the way.
  for (const name of ['machine.pem', 'roster.json']) mkdirSync(join(folder, `${name}.new`));
  const unwritten: unknown[] = [];
  expect(identity.learn(rosterOf(6, ['s1']), (error) => { unwritten.push(error); })).toBe(true);
  expect([identity.roster, unwritten.length]).toEqual([rosterOf(6, ['s1']), 1]);
  expect(() => identity.renew({ ...credentials, key: 'another' })).toThrow(/EISDIR/);
  expect(identity.credentials).toEqual(credentials);
  expect(MachineIdentity.open(folder)?.roster).toEqual(rosterOf(5, ['s1', 's2']));
});

test('a roster is checked field by field', () => {
  const roster = rosterOf(1, ['s1']);
  expect(parseRoster(JSON.parse(JSON.stringify(roster)))).toEqual(roster);
  const [member] = roster.members as [Member];
  for (const wrong of [null, [], {}, { ...roster, number: 0 }, { ...roster, clusterId: '../x' }, { ...roster, members: {} }, { ...roster, members: [{ ...member, machine: 'S1' }] },
    { ...roster, members: [{ ...member, roles: ['king'] }] }, { ...roster, members: [{ ...member, parties: [{ party: 'a/b', role: 'host', address: null }] }] },
    { ...roster, members: [{ ...member, parties: [{ party: 'a', role: 'host', address: { host: 'a', port: 70_000 } }] }] }, { ...roster, removed: [{ machine: 's1' }] }]) {
    expect(() => parseRoster(wrong)).toThrow(/not a roster/);
  }
});
