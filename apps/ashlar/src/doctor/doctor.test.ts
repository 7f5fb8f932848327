import type { CopyView, HostView, ServerView, VolumeView } from '@ashlar/client';
import { hostId, serverId, volumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { isSick, worstFirst, type Finding } from './finding.ts';
import { judgeMachine, type DirectoryFacts, type MachineFacts } from './machine.ts';
import { judgeSite, type SiteFacts } from './site.ts';

const GIB = 2 ** 30;
const DAY = 86_400_000;
const NOW = Date.UTC(2026, 5, 1);
const DIRECTORY: DirectoryFacts = { path: '/var/lib/ashlar', owner: 998, mode: 0o40700, inMemory: false, capacityBytes: 100 * GIB, freeBytes: 50 * GIB, syncMs: 1, failure: null };
const MACHINE: MachineFacts = {
  node: '26.10.0', kernel: '6.1.0-18-amd64', platform: 'linux', user: 998, nowMs: NOW, clockSynchronized: true, openFilesMax: 524_288, memoryBytes: 8 * GIB, memoryAvailableBytes: 4 * GIB,
  socketPath: '/run/ashlar/x/server-64.link', directories: [DIRECTORY], certificates: [], apiPort: { port: 1, taken: false },
};

const short = (findings: readonly Finding[]): string[] => findings.map(({ severity, check, subject }) => `${severity} ${check} ${subject}`);
const machine = (facts: Partial<MachineFacts>): string[] => short(judgeMachine({ ...MACHINE, ...facts }));
const directory = (facts: Partial<DirectoryFacts>, more: Partial<MachineFacts> = {}): string[] => machine({ ...more, directories: [{ ...DIRECTORY, ...facts }] });

describe('a machine', () => {
  it('as it should be has no findings', () => expect(machine({})).toEqual([]));

  it('of another make is found out', () => {
    expect(machine({ node: '20.11.1' })).toEqual(['error node Node 20.11.1']);
    expect(machine({ kernel: '4.19.0' })).toEqual(['warning kernel linux 4.19.0']);
    expect(machine({ kernel: '5.10.0-21-arm64' })).toEqual([]);
    expect(machine({ clockSynchronized: false })).toEqual(['warning clock clock']);
    expect(machine({ clockSynchronized: null })).toEqual([]);
    expect(machine({ openFilesMax: 1024 })).toEqual(['warning open-files open files']);
    expect(machine({ memoryAvailableBytes: 100 })).toEqual(['warning memory memory']);
    expect(machine({ socketPath: `/${'x'.repeat(107)}` })).toHaveLength(1);
    expect(machine({ socketPath: `/${'x'.repeat(106)}` })).toEqual([]);
    expect(machine({ apiPort: { port: 8000, taken: true } })).toEqual(['warning ports port 8000']);
  });

  it('is judged by its directories', () => {
    expect(directory({ owner: null })).toEqual(['error directory /var/lib/ashlar']);
    expect(directory({ owner: 1000 })).toEqual(['warning ownership /var/lib/ashlar']);
    expect(directory({ owner: 1000 }, { user: 0 })).toEqual([]);
    expect(directory({ mode: 0o40750 })).toEqual(['error permissions /var/lib/ashlar']);
    expect(directory({ inMemory: true, syncMs: 0.001 })).toEqual(['error in-memory /var/lib/ashlar']);
    expect(directory({ freeBytes: 14 * GIB })).toEqual(['warning space /var/lib/ashlar']);
    expect(directory({ freeBytes: 4 * GIB })).toEqual(['error space /var/lib/ashlar']);
    expect(directory({ syncMs: 0.002 })).toEqual(['error sync /var/lib/ashlar']);
    expect(directory({ syncMs: 0.02 })).toEqual([]);
    expect(directory({ syncMs: 400 })).toEqual(['warning sync /var/lib/ashlar']);
    expect(directory({ syncMs: null, failure: 'EIO: i/o error, write' })).toEqual(['error sync /var/lib/ashlar']);
    expect(directory({ syncMs: null, failure: 'EACCES', owner: 0 }, { user: 1000 })).toEqual(['warning ownership /var/lib/ashlar', 'note sync /var/lib/ashlar']);
  });

  it('is judged by its certificates', () => {
    const certificate = (fromDays: number, untilDays: number): string[] => machine({ certificates: [{ path: 'c.crt', fromMs: NOW + fromDays * DAY, untilMs: NOW + untilDays * DAY }] });
    expect(certificate(-10, 80)).toEqual([]);
    expect(certificate(-85, 5)).toEqual(['warning certificates c.crt']);
    expect(certificate(-90, -0.5)).toEqual(['error certificates c.crt']);
    expect(certificate(0.5, 90)).toEqual(['error certificates c.crt']);
  });
});

const VOLUME = volumeId('vol-0123456789abcdef0');
const copy = (name: string, role: CopyView['role'], state: CopyView['state']): CopyView => ({ serverId: serverId(name), role, state, movedBytes: 0, remainingBytes: 0 });
const HEALTHY: VolumeView = {
  volumeId: VOLUME, state: 'in-use', health: 'healthy', sizeBytes: GIB, epoch: 1, lineage: 1, mirrors: 1, minCopies: 1, durability: 'normal', owner: '', tags: {}, createdAt: '', limits: { ioTimeoutMs: 1, iops: 0, bandwidthBytes: 0, priority: 5 }, disk: null, move: null,
  copies: [copy('server-1', 'primary', 'in-sync'), copy('server-2', 'mirror', 'in-sync')], attachments: [],
  io: { readBytes: 0, writeBytes: 0, readRequests: 0, writeRequests: 0, flushRequests: 0, failedRequests: 0, longestStallMs: 0, attachments: 1 },
};
const SERVER: ServerView = { serverId: serverId('server-1'), state: 'up', pid: 1, address: '10.0.0.1:9000', site: 'site-1', rack: '', draining: false, disk: 'unknown', requestsPerSecond: 0, directories: [], capacityBytes: 100 * GIB, usedBytes: 10 * GIB, copies: 3 };
const HOST: HostView = { hostId: hostId('host-1'), state: 'up', pid: 1, attachments: 1 };
const SITE: SiteFacts = { servers: [SERVER], hosts: [HOST], volumes: [HEALTHY], lags: [], version: '0.1.0', ownVersion: '0.1.0' };
const site = (facts: Partial<SiteFacts>): string[] => short(judgeSite({ ...SITE, ...facts }));
const volume = (view: Partial<VolumeView>): string[] => site({ volumes: [{ ...HEALTHY, ...view }] });

describe('a site', () => {
  it('as it should be has no findings', () => expect(site({})).toEqual([]));

  it('is judged by its servers and hosts', () => {
    expect(site({ servers: [{ ...SERVER, state: 'suspect' }] })).toEqual(['error servers server-1']);
    expect(site({ servers: [{ ...SERVER, state: 'down', copies: 0 }] })).toEqual(['warning servers server-1']);
    expect(site({ servers: [{ ...SERVER, state: 'draining' }] })).toEqual([]);
    expect(site({ servers: [{ ...SERVER, usedBytes: 86 * GIB }] })).toEqual(['warning space server-1']);
    expect(site({ servers: [{ ...SERVER, usedBytes: 96 * GIB }] })).toEqual(['error space server-1']);
    expect(site({ servers: [{ ...SERVER, capacityBytes: 0, usedBytes: 0 }] })).toEqual([]);
    const disk = { path: '/srv/ashlar/disk-1', health: 'ok', ioErrors: 0, mismatches: 0, syncMs: 1 } as const;
    expect(site({ servers: [{ ...SERVER, directories: [disk, { ...disk, health: 'suspect' }, { ...disk, health: 'failed' }] }] })).toEqual(['warning disks server-1: /srv/ashlar/disk-1', 'error disks server-1: /srv/ashlar/disk-1']);
    expect(site({ hosts: [{ ...HOST, state: 'down' }] })).toEqual(['warning hosts host-1']);
    expect(site({ hosts: [{ ...HOST, state: 'down', attachments: 0 }] })).toEqual(['note hosts host-1']);
  });

  it('is judged by its volumes', () => {
    expect(volume({ health: 'faulted', copies: [copy('server-1', 'primary', 'offline')] })).toEqual([`error volumes ${VOLUME}`]);
    expect(volume({ health: 'unknown' })).toEqual([`warning volumes ${VOLUME}`]);
    expect(volume({ health: 'degraded', copies: [copy('server-1', 'primary', 'in-sync'), copy('server-2', 'learner', 'rebuilding')] })).toEqual([`error one-copy ${VOLUME}`]);
    expect(volume({ health: 'degraded', mirrors: 2 })).toEqual([`warning volumes ${VOLUME}`]);
    expect(volume({ mirrors: 0, copies: [copy('server-1', 'primary', 'in-sync')] })).toEqual([`note one-copy ${VOLUME}`]);
    expect(volume({ state: 'deleting', health: 'faulted' })).toEqual([]);
    expect(volume({ health: 'degraded', copies: [copy('server-1', 'primary', 'in-sync'), copy('server-2', 'mirror', 'faulted')] })).toEqual([`error one-copy ${VOLUME}`, `error copies ${VOLUME} on server-2`]);
  });

  it('is judged by how far mirrors are behind, where its servers are, and its version', () => {
    expect(site({ lags: [{ server: 'server-1', mirror: 'server-2', seconds: 1 }, { server: 'server-2', mirror: 'server-1', seconds: 3 }] })).toEqual(['warning lag server-2 → server-1']);
    expect(site({ servers: [SERVER, SERVER].map((server) => ({ ...server, address: '/run/x.link' })) })).toEqual(['note one-machine servers']);
    expect(site({ version: '0.0.9' })).toEqual(['warning versions system manager']);
    expect(site({ version: null })).toEqual([]);
  });

  it('does not fill pages with one kind of trouble', () => {
    const found = judgeSite({ ...SITE, volumes: Array.from({ length: 500 }, () => ({ ...HEALTHY, health: 'unknown' as const })) });
    expect(found).toHaveLength(21);
    expect(found.at(-1)).toMatchObject({ subject: '480 more', severity: 'warning' });
  });
});

describe('findings', () => {
  const finding = (severity: Finding['severity']): Finding => ({ severity, check: '', subject: severity, message: '', effect: '', action: '' });

  it('come worst first, and notes are no illness', () => {
    expect(worstFirst([finding('note'), finding('error'), finding('warning')]).map(({ severity }) => severity)).toEqual(['error', 'warning', 'note']);
    expect([isSick([]), isSick([finding('note')]), isSick([finding('note'), finding('warning')])]).toEqual([false, false, true]);
  });

  it('all say what happened, what it means and what to do', () => {
    const all = [
      ...judgeMachine({ ...MACHINE, node: '1', kernel: '1', clockSynchronized: false, openFilesMax: 0, memoryAvailableBytes: 0, socketPath: 'x'.repeat(200), apiPort: { port: 1, taken: true }, directories: [{ ...DIRECTORY, owner: 1, mode: 0o777, freeBytes: 0, syncMs: 0 }] }),
      ...judgeSite({ ...SITE, servers: [{ ...SERVER, state: 'down', usedBytes: 100 * GIB }], hosts: [{ ...HOST, state: 'down' }], version: 'x', volumes: [{ ...HEALTHY, health: 'faulted' }] }),
    ];
    expect(all.length).toBeGreaterThan(12);
    expect(all.filter(({ message, effect, action }) => message === '' || !effect.endsWith('.') || action === '')).toEqual([]);
  });
});
