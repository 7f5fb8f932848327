import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Authority, MEMBERS_MAX, newRequest, parseJoinSecret, type Member, type Roster } from '@ashlar/identity';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cluster } from './cluster.ts';
import { MemoryStore, type Put, type StoreSnapshot } from './core/index.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-cluster-'));
let authority: Authority;
let store: MemoryStore;
let published: Roster[];
let cluster: Cluster;

function founding(): Roster {
  const member: Member = { machine: 'm', joining: 1, roles: ['manager'], parties: [{ party: 'm-daemon', role: 'daemon', address: null }, { party: 'manager', role: 'manager', address: { host: '10.0.0.1', port: 7400 } }] };
  return { clusterId: authority.clusterId, number: 1, members: [member], removed: [] };
}

function start(roster: Roster): Promise<Cluster> {
  return Cluster.start({ authority, store, roster, lifetimeMs: 60_000, publish: (one) => published.push(one), isLinked: () => true });
}

beforeAll(async () => {
  authority = await Authority.open(directory);
  return () => rmSync(directory, { recursive: true });
});

beforeEach(async () => {
  store = new MemoryStore();
  published = [];
  cluster = await start(founding());
});
afterEach(() => { vi.useRealTimers(); });

/** What a joining machine sends. */
async function asking(secretText: string, machine: string, change: object = {}): Promise<Record<string, unknown>> {
  const { inviteId, secret } = parseJoinSecret(secretText);
  const { request } = await newRequest(machine);
  const parties = [{ party: `${machine}-daemon`, role: 'daemon', address: null }, { party: machine, role: 'storage', address: { host: '10.0.0.9', port: 7402 } }];
  return { inviteId, secret, machine, roles: ['storage'], parties, request, ...change };
}

async function invited(change: object = {}): Promise<string> {
  return (await cluster.invite({ roles: ['storage'], ttlMs: 60_000, uses: 1, ...change })).secret;
}

const refusedFor = (message: RegExp, code = 'untrusted') => expect.objectContaining({ code, message: expect.stringMatching(message) as string });

describe('joining', () => {
  test('puts the machine into the roster of all, once its secret has bought it a certificate', async () => {
    const { certificate, roster } = await cluster.join(await asking(await invited(), 's1'));
    expect(certificate).toContain('BEGIN CERTIFICATE');
    expect(roster.members.map(({ machine }) => machine)).toEqual(['m', 's1']);
    expect(published.at(-1)).toEqual(roster);
  });

  test('gives a certificate for no address: nobody passes for the manager by saying that he listens where it does', async () => {
    const { certificate } = await cluster.join(await asking(await invited(), 's1', { parties: [{ party: 's1', role: 'storage', address: { host: '10.0.0.1', port: 7401 } }] }));
    const { subjectAltName } = new X509Certificate(certificate);
    expect(subjectAltName).toBe(`URI:ashlar://${authority.clusterId}/machine/s1/1`);
  });

  test('takes a secret once, for its roles, for its time, and only as it was given', async () => {
    const secret = await invited();
    await cluster.join(await asking(secret, 's1'));
    await expect(cluster.join(await asking(secret, 's2'))).rejects.toEqual(refusedFor(/has been used/));
    const another = await invited();
    await expect(cluster.join(await asking(another, 's2', { secret: 'x'.repeat(32) }))).rejects.toEqual(refusedFor(/not known/));
    await expect(cluster.join(await asking(another, 's2', { inviteId: '0'.repeat(16) }))).rejects.toEqual(refusedFor(/not known/));
    await expect(cluster.join(await asking(another, 's2', { roles: ['storage', 'host'] }))).rejects.toEqual(refusedFor(/not for host/));
    await expect(cluster.join(await asking(another, 's2', { parties: [{ party: 'manager', role: 'manager', address: { host: 'a', port: 1 } }] }))).rejects.toEqual(refusedFor(/was not invited for/));
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] });
    await expect(cluster.join(await asking(another, 's2'))).rejects.toEqual(refusedFor(/has expired/));
    expect(cluster.roster.members.map(({ machine }) => machine)).toEqual(['m', 's1']);
  });

  test('at the same time with one secret lets one in', async () => {
    const secret = await invited();
    const all = await Promise.allSettled([cluster.join(await asking(secret, 's1')), cluster.join(await asking(secret, 's2'))]);
    expect(all.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    const [one, other] = [await invited(), await invited()];
    const sameName = await Promise.allSettled([cluster.join(await asking(one, 's3')), cluster.join(await asking(other, 's3'))]);
    expect(sameName.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  test('is answered again to whoever lost the answer', async () => {
    const asked = await asking(await invited(), 's1');
    await cluster.join(asked);
    expect((await cluster.join(asked)).roster.members.map(({ machine, joining }) => [machine, joining])).toEqual([['m', 1], ['s1', 1]]);
    await expect(cluster.join({ ...asked, request: (await newRequest('s1')).request })).rejects.toEqual(refusedFor(/has been used/));
  });

  test('is not answered again when the secret has expired: whoever has the disk of a member has both', async () => {
    const asked = await asking(await invited(), 's1');
    await cluster.join(asked);
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] });
    await expect(cluster.join(asked)).rejects.toEqual(refusedFor(/has expired/));
  });

  test('takes nobody else\'s name, and lets a member come again when that is meant', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    await expect(cluster.join(await asking(await invited(), 's1'))).rejects.toEqual(refusedFor(/there is a machine s1/, 'already-exists'));
    const taken = await asking(await invited(), 's2', { parties: [{ party: 's1', role: 'storage', address: { host: 'a', port: 1 } }] });
    await expect(cluster.join(taken)).rejects.toEqual(refusedFor(/has s1 already/, 'already-exists'));
    const bound = await invited({ machine: 's1' });
    await expect(cluster.join(await asking(bound, 's2'))).rejects.toEqual(refusedFor(/is for machine s1/));
    const { roster } = await cluster.join(await asking(bound, 's1'));
    expect([roster.members.map(({ machine, joining }) => [machine, joining]), roster.removed]).toEqual([[['m', 1], ['s1', 2]], [{ machine: 's1', joining: 1 }]]);
  });

  test('lets nobody make the roster too large to be told', async () => {
    const many = Array.from({ length: 3 }, (_, i) => ({ party: `s1-${i}`, role: 'daemon', address: null }));
    await expect(cluster.join(await asking(await invited(), 's1', { parties: many }))).rejects.toEqual(refusedFor(/one party of each role/, 'invalid-argument'));
    const members = Array.from({ length: MEMBERS_MAX }, (_, i): Member => ({ machine: `x${i}`, joining: 1, roles: ['storage'], parties: [] }));
    cluster = await start({ ...founding(), number: cluster.roster.number + 1, members });
    await expect(cluster.join(await asking(await invited(), 's1'))).rejects.toEqual(refusedFor(/at most 1024 machines/, 'invalid-argument'));
    await cluster.remove('x7');
    expect((await cluster.join(await asking(await invited(), 's1'))).roster.members).toHaveLength(MEMBERS_MAX);
  });

  test('refuses what no machine sends', async () => {
    const good = await asking(await invited(), 's1');
    for (const wrong of [null, {}, { ...good, machine: '../x' }, { ...good, request: 'x' }, { ...good, parties: 'all' }, { ...good, roles: ['king'] }]) {
      await expect(cluster.join(wrong)).rejects.toMatchObject({ code: 'invalid-argument' });
    }
    for (const wrong of [{ roles: [] }, { roles: ['manager'] }, { roles: ['king'] }, { ttlMs: 0 }, { uses: 0 }, { uses: 1.5 }]) await expect(invited(wrong)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(invited({ machine: 'nobody' })).rejects.toMatchObject({ code: 'not-found' });
    await expect(invited({ machine: 'm' })).rejects.toEqual(refusedFor(/is the machine of the system manager/, 'in-use'));
  });
});

describe('a member', () => {
  test('that is removed is in no roster; its name may join again as another', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    await cluster.remove('s1');
    expect([published.at(-1)?.members.map(({ machine }) => machine), published.at(-1)?.removed]).toEqual([['m'], [{ machine: 's1', joining: 1 }]]);
    await expect(cluster.remove('s1')).rejects.toMatchObject({ code: 'not-found' });
    await expect(cluster.remove('m')).rejects.toMatchObject({ code: 'in-use' });
    const { roster } = await cluster.join(await asking(await invited(), 's1'));
    expect(roster.members.find(({ machine }) => machine === 's1')?.joining).toBe(2);
    expect(cluster.list().map(({ machine, state }) => [machine, state])).toEqual([['m', 'linked'], ['s1', 'removed'], ['s1', 'linked']]);
  });

  test('is given no new certificate from when it is removed, not even if it asked before', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    const member = cluster.roster.members.find(({ machine }) => machine === 's1') as Member;
    const { request } = await newRequest('s1');
    expect((await cluster.renew(member, { request })).certificate).toContain('BEGIN CERTIFICATE');
    await cluster.remove('s1');
    await expect(cluster.renew(member, { request })).rejects.toEqual(refusedFor(/machine s1 was removed/));
    await cluster.join(await asking(await invited(), 's1'));
    await expect(cluster.renew(member, { request })).rejects.toEqual(refusedFor(/machine s1 was removed/));
  });

  test('that has moved is where it says, as long as its roles allow it', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    const member = cluster.roster.members.find(({ machine }) => machine === 's1') as Member;
    await cluster.moved(member, [{ party: 's1', role: 'storage', address: { host: '10.0.0.8', port: 7402 } }]);
    expect(published.at(-1)?.members[1]?.parties[0]?.address?.host).toBe('10.0.0.8');
    await expect(cluster.moved(member, [{ party: 's1-host', role: 'host', address: null }])).rejects.toEqual(refusedFor(/was not invited for/));
  });
});

describe('a manager that starts again', () => {
  test('has the same roster', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    const before = cluster.roster;
    cluster = await start(before);
    expect(cluster.roster).toEqual(before);
  });

  test('on a store that was lost or set back goes by what its machine has published', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    await cluster.join(await asking(await invited(), 's2'));
    await cluster.remove('s2');
    const before = cluster.roster;
    store = new MemoryStore();
    cluster = await start(before);
    expect(cluster.roster).toEqual({ ...before, number: cluster.roster.number });
    expect(cluster.roster.number).toBeGreaterThan(before.number);
  });

  test('on a store that was set back takes no secret a second time', async () => {
    const secret = await invited({ uses: 2 });
    const backup = await new Promise<StoreSnapshot>((resolve) => store.load((snapshot) => resolve(snapshot as StoreSnapshot)));
    await cluster.join(await asking(secret, 's1'));
    await cluster.join(await asking(secret, 's2'));
    const before = cluster.roster;
    store = new MemoryStore();
    store.apply({ conditions: [], puts: backup.records as readonly Put[], deletes: [], events: [] });
    cluster = await start(before);
    await expect(cluster.join(await asking(secret, 's3'))).rejects.toEqual(refusedFor(/has been used/));
    expect(cluster.roster.members.map(({ machine }) => machine).toSorted()).toEqual(['m', 's1', 's2']);
  });

  test('on a machine that missed a change goes by the store', async () => {
    await cluster.join(await asking(await invited(), 's1'));
    const { roster } = cluster;
    cluster = await start(founding());
    expect([cluster.roster, published.at(-1)]).toEqual([roster, roster]);
  });
});
