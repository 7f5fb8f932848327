/** `pnpm scale`: many volumes on few processes, and a mirror that was away. Prints what it measures; with `--save` keeps it in docs/results. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { HostView, VolumeView } from '@ashlar/control';
import { NbdClient } from '@ashlar/nbd-client';
import type { VolumeId } from '@ashlar/words';
import { DemoSite } from '../demo/demo-site.ts';

const MIB = 2 ** 20;
const TIB = 2 ** 40;
/** Commands under way at a time. */
const WIDTH = 8;
/** Sites that run; ended whatever happens. */
const running = new Set<DemoSite>();

async function start(directory: string, ...more: readonly string[]): Promise<DemoSite> {
  const site = await DemoSite.start(directory, ...more);
  running.add(site);
  return site;
}

async function end(site: DemoSite): Promise<void> {
  running.delete(site);
  await site.stop();
}

/** What one volume holds, at places far apart. */
const HELD_BYTES = 4 * MIB;
const IDLE_MS = 10_000;
const AWAY_MS = 10_000;
/** USER_HZ: 100 on every Linux that we run on. */
const TICKS_PER_SECOND = 100;

const { values: options } = parseArgs({ options: { volumes: { type: 'string', default: '2000' }, held: { type: 'string', default: '4' }, only: { type: 'string', default: 'many,away' }, save: { type: 'boolean', default: false } } });
const lines: string[] = [];
function say(text: string): void {
  lines.push(text);
  process.stdout.write(`${text}\n`);
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: WIDTH }, async () => {
    while (next < items.length) await work(items[next++] as T);
  }));
}

const seconds = (sinceMs: number): string => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;

function create(site: DemoSite, sizeBytes: number): Promise<VolumeView> {
  return site.ask<VolumeView>({ kind: 'volume-create', sizeBytes, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} });
}

async function attach(site: DemoSite, volumeId: VolumeId): Promise<string> {
  return (await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: false, tcp: false })).nbd;
}

async function pids(site: DemoSite): Promise<readonly { readonly name: string; readonly pid: number }[]> {
  const servers = (await site.servers()).map(({ serverId, pid }) => ({ name: serverId as string, pid }));
  const hosts = (await site.ask<readonly HostView[]>({ kind: 'host-list' })).map(({ hostId, pid }) => ({ name: hostId as string, pid }));
  return [...servers, ...hosts, { name: 'manager', pid: site.pid }];
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

function ticks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

async function many(directory: string, count: number, heldBytes: number): Promise<void> {
  let site = await start(directory, '--servers', '2');
  let sinceMs = performance.now();
  const volumes: { readonly volumeId: VolumeId; nbd: string }[] = [];
  await inParallel(Array.from({ length: count }, (_, i) => i), async () => {
    const { volumeId } = await create(site, TIB);
    volumes.push({ volumeId, nbd: await attach(site, volumeId) });
  });
  say(`${count} mirrored volumes of 1 TiB made and attached in ${seconds(sinceMs)}`);
  sinceMs = performance.now();
  const bytes = randomBytes(Math.min(heldBytes, 128 * 1024));
  await inParallel(volumes, async ({ nbd }) => {
    const client = await NbdClient.connect(nbd);
    for (let at = 0; at < heldBytes; at += bytes.length) await client.write(Math.floor((at / heldBytes) * 1023) * 2 ** 30, bytes);
    await client.close();
  });
  say(`${heldBytes / MIB} MiB written to each, in ${seconds(sinceMs)}`);
  sinceMs = performance.now();
  await end(site);
  say(`ended in order in ${seconds(sinceMs)}`);

  const startedMs = performance.now();
  site = await start(directory);
  say(`started again, ready in ${seconds(startedMs)} (2 servers of ${count} copies each, host, manager)`);
  let latestMs = 0;
  await inParallel(volumes, async ({ nbd }) => {
    const client = await NbdClient.connect(nbd);
    const found = await client.read(0, 4096);
    if (Buffer.compare(found, bytes.subarray(0, 4096)) !== 0) throw new Error(`${nbd} holds something else`);
    await client.write(2 ** 35, bytes.subarray(0, 4096));
    await client.close();
    latestMs = Math.max(latestMs, performance.now() - startedMs);
  });
  say(`every volume had answered a read and a write ${(latestMs / 1000).toFixed(1)} s after the start`);
  const processes = await pids(site);
  say(`resident: ${processes.map(({ name, pid }) => `${name} ${residentMiB(pid).toFixed(0)} MiB`).join(', ')}`);
  await delay(IDLE_MS);
  const before = processes.map(({ pid }) => ticks(pid));
  await delay(IDLE_MS);
  const used = processes.map(({ name, pid }, i) => ({ name, percent: (ticks(pid) - (before[i] as number)) / TICKS_PER_SECOND / (IDLE_MS / 1000) * 100 }));
  say(`all idle: ${used.reduce((sum, { percent }) => sum + percent, 0).toFixed(1)} % of a core in all (${used.map(({ name, percent }) => `${name} ${percent.toFixed(1)}`).join(', ')})`);
  await end(site);
}

async function away(directory: string): Promise<void> {
  const site = await start(directory, '--servers', '2', '--rebuild-delay', '600s');
  const { volumeId } = await create(site, 2 ** 31);
  const nbd = await attach(site, volumeId);
  const client = await NbdClient.connect(nbd);
  const mirror = (await site.volume(volumeId)).copies.find((copy) => copy.role === 'mirror')?.serverId;
  if (!mirror) throw new Error('there is no mirror');
  await site.ask({ kind: 'server-stop', serverId: mirror, kill: true });
  const bytes = randomBytes(4096);
  const endMs = performance.now() + AWAY_MS;
  let written = 0;
  await Promise.all(Array.from({ length: 32 }, async () => {
    for (let block = written; performance.now() < endMs; block = (block * 1_103_515_245 + 12_345) % (2 ** 31 / 4096)) {
      await client.write(block * 4096, bytes);
      written++;
    }
  }));
  const sinceMs = performance.now();
  await site.ask({ kind: 'server-start', serverId: mirror });
  const startedIn = seconds(sinceMs);
  const healthy = await site.untilHealthy(volumeId, 60_000);
  const moved = healthy.copies.reduce((sum, copy) => sum + copy.movedBytes, 0);
  say(`a mirror killed and kept away for ${AWAY_MS / 1000} s while ${written} writes of 4 KiB were answered (${(written * 4096 / MIB).toFixed(0)} MiB): in sync ${seconds(sinceMs)} after the writes stopped, of which its process took ${startedIn} to start; bytes compared or filled outside of the journal: ${moved}`);
  await client.close();
  await end(site);
}

const parts = new Set(options.only.split(','));
const root = mkdtempSync(join(tmpdir(), 'ashlar-scale-'));
try {
  if (parts.has('many')) await many(join(root, 'many'), Number(options.volumes), Math.round(Number(options.held) * MIB) || HELD_BYTES);
  if (parts.has('away')) await away(join(root, 'away'));
  if (options.save) {
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    const machine = `commit ${commit}; ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}; load average ${loadavg().map((load) => load.toFixed(0)).join(', ')} (other work on the same cores)`;
    writeFileSync('docs/results/scale.md', `# Scale\n\n\`pnpm scale --volumes ${options.volumes} --held ${options.held} --only ${options.only}\`, ${machine}.\n\n${lines.map((line) => `- ${line}`).join('\n')}\n`);
  }
} finally {
  for (const site of running) await end(site);
  rmSync(root, { recursive: true, force: true });
}
