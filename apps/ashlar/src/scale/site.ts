import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { HostView, VolumeView } from '@ashlar/client';
import { errorCode, type VolumeId } from '@ashlar/words';
import { DemoSite } from '../demo/demo-site.ts';

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
export const TIB = 2 ** 40;
/** USER_HZ: 100 on every Linux that we run on. */
const TICKS_PER_SECOND = 100;

const BUSY_MS = 30_000;

/** Sites that run; ended whatever happens. */
const running = new Set<DemoSite>();

export async function start(directory: string, ...more: readonly string[]): Promise<DemoSite> {
  const site = await DemoSite.start(directory, ...more);
  running.add(site);
  return site;
}

export async function end(site: DemoSite): Promise<void> {
  await site.stop();
  running.delete(site);
}

export async function endAll(): Promise<void> {
  for (const site of running) await end(site);
}

export async function inParallel<T>(width: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < items.length) await work(items[next++] as T);
  }));
}

export const secondsSince = (sinceMs: number): number => (performance.now() - sinceMs) / 1000;

export function create(site: DemoSite, sizeBytes: number): Promise<VolumeView> {
  return patiently(() => site.ask<VolumeView>({ kind: 'volume-create', sizeBytes, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} }));
}

export async function attach(site: DemoSite, volumeId: VolumeId): Promise<string> {
  return (await patiently(() => site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: false, tcp: false }))).nbd;
}

/** What passes by itself, on a machine with other work. */
const PASSING: ReadonlySet<string> = new Set(['busy', 'too-few-servers', 'timeout']);

async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (const endMs = performance.now() + BUSY_MS; ;) {
    try {
      return await ask();
    } catch (error) {
      if (!PASSING.has(errorCode(error)) || performance.now() >= endMs) throw error;
      await delay(100);
    }
  }
}

export interface SiteProcess {
  readonly name: string;
  readonly pid: number;
}

/** Servers first, then hosts, then the system manager. */
export async function processesOf(site: DemoSite): Promise<readonly SiteProcess[]> {
  const servers = (await site.servers()).map(({ serverId, pid }) => ({ name: serverId as string, pid }));
  const hosts = (await site.ask<readonly HostView[]>({ kind: 'host-list' })).map(({ hostId, pid }) => ({ name: hostId as string, pid }));
  return [...servers, ...hosts, { name: 'manager', pid: site.pid }];
}

/** Resident memory now, and the most that it ever was. */
export function memoryMiB(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { now: field('VmRSS'), peak: field('VmHWM') };
}

/** Seconds of processor time that a process has used. */
export function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Bytes that a process has asked the kernel for by read calls, files and pipes alike. */
export function readBytes(pid: number): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? 0);
}

/** So that what comes next reads from the disk, as after a restart of the machine. What came of it, in words: only root may. */
export function dropPageCache(): string {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3\n');
    return 'emptied';
  } catch (error) {
    return `as it was (${(error as { code?: string }).code ?? String(error)})`;
  }
}
