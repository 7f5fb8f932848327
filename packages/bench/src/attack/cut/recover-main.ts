import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { RecoveryView, VolumeView } from '@ashlar/client';
import { parseSizeBytes } from '@ashlar/words';
import { compareCopies } from '../../site/compare.ts';
import { primaryServer, ROOT } from '../../site/site.ts';
import { runDescription } from '../describe-run.ts';
import { flipBytes } from '../flipped-byte.ts';
import { Rig } from '../rig.ts';
import { runInNetwork } from './in-network.ts';
import { MACHINES, MANAGER, Machines, SERVERS } from './machines.ts';
import type { Network } from './network.ts';

const USAGE = `pnpm recover-run [--volumes 20] [--size 256MiB] [--rate 1500] [--seed N] [--results DIR]
  Machines in network namespaces. The metadata store is deleted, and in a second run replaced by an older one, under a verified load; then it is rebuilt. Root.`;

const { values } = parseArgs({
  options: {
    volumes: { type: 'string', default: '20' }, size: { type: 'string', default: '256MiB' }, rate: { type: 'string', default: '1500' },
    seed: { type: 'string' }, results: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});
const HEAL_MS = 180_000;
const STORE = ['metadata.sqlite', 'metadata.sqlite-wal', 'metadata.sqlite-shm'];
const KINDS = ['deleted', 'replaced by an older one'] as const;
type Kind = (typeof KINDS)[number];

/** What one run shows, each line with what was seen; a line that is not as it should be begins with WRONG. */
interface Shown { readonly what: string; readonly seen: string; readonly right: boolean }

function copyStore(from: string, to: string): void {
  for (const name of STORE) {
    rmSync(join(to, name), { force: true });
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
  }
}

/** Volumes as a user knows them: what must be the same after the recovery. */
function known(volumes: readonly VolumeView[]): string {
  return JSON.stringify(volumes.map(({ volumeId, sizeBytes, tags, limits, minCopies, durability, copies, attachments }) => ({
    volumeId, sizeBytes, tags, limits, minCopies, durability, copies: copies.map(({ serverId, role }) => `${serverId} ${role}`).sort(), attachments: attachments.map(({ host }) => host),
  })).sort((a, b) => (a.volumeId < b.volumeId ? -1 : 1)));
}

async function one(network: Network, kind: Kind, seed: number): Promise<readonly Shown[]> {
  const directory = mkdtempSync(join(tmpdir(), 'ashlar-recover-'));
  const shown: Shown[] = [];
  const show = (what: string, seen: string, right: boolean): void => {
    shown.push({ what, seen, right });
    process.stderr.write(`${kind}: ${what}: ${right ? '' : 'WRONG: '}${seen}\n`);
  };
  const machines = await Machines.start(directory, network);
  let right = false;
  try {
    const rig = await Rig.on(machines, {
      mirrors: 1, sizeBytes: parseSizeBytes(values.size),
      load: { readPercent: 50, bytesMin: 4096, bytesMax: 65_536, depth: 32, rate: Number(values.rate), flushEvery: 100, seed, reconnectTimeoutMs: 300_000 },
    });
    const { load } = rig;
    for (let i = 1; i < Number(values.volumes); i++) await machines.createVolume(parseSizeBytes('64MiB'), '--mirrors', String(i % 3), '--tag', `n=${i}`);
    const gone = await machines.createVolume(parseSizeBytes('64MiB'));
    await rig.healthy(HEAL_MS);

    const store = join(machines.home(MANAGER), 'manager');
    const backup = join(directory, 'backup');
    mkdirSync(backup);
    await machines.kill(MANAGER);
    copyStore(store, backup);
    await machines.boot(MANAGER);
    // After the backup: a deletion, a new volume, a failover of the volume in use.
    await machines.run('volume', 'delete', gone);
    const made = await machines.createVolume(parseSizeBytes('64MiB'), '--tag', 'made=after');
    await machines.run('volume', 'failover', rig.volumeId);
    const before = await rig.healthy(HEAL_MS);
    const volumes = await machines.run<readonly VolumeView[]>('volume', 'list');

    await machines.kill(MANAGER);
    const refusedAtMs = performance.now();
    if (kind === 'deleted') for (const name of STORE) rmSync(join(store, name), { force: true });
    else copyStore(backup, store);
    await machines.boot(MANAGER);
    const refusals: string[] = [];
    for (const command of [['volume', 'list'], ['volume', 'describe', rig.volumeId], ['volume', 'create', '--size', '1GiB'], ['volume', 'delete', made], ['volume', 'failover', rig.volumeId], ['volume', 'detach', rig.volumeId]]) {
      refusals.push(await machines.run(...command).then(() => 'carried out', (error: unknown) => /"code":"([a-z-]+)"/.exec(String(error))?.[1] ?? String(error)));
    }
    show('six commands to a manager with that store', [...new Set(refusals)].join(', '), refusals.every((code) => code === 'store-behind'));
    const answered = (): number => { const { read, write } = load.latencies(); return read.summary().count + write.summary().count; };
    const atFirst = answered();
    await untilMore(answered, atFirst + 2000);
    show('requests answered after that, without a manager that acts', String(answered() - atFirst), true);

    // A machine is lost while the manager does not act: the volume waits for it or for the recovery, and nobody is promoted on old knowledge.
    const primary = primaryServer(before) as string;
    await machines.kill(primary);
    const dry = await machines.run<RecoveryView>('recover', '--dry-run');
    show(`a recovery while ${primary}, whose copy leads, is dead`, dry.blocked.join('; ') || 'not blocked', dry.blocked.length > 0 && !dry.applied);
    await machines.boot(primary);
    const beganMs = performance.now();
    const recovery = await untilRecovered(machines);
    show('`ashlar recover`', `${recovery.volumes.filter(({ outcome }) => outcome === 'restored').length} volumes restored, ${(performance.now() - beganMs).toFixed(0)} ms after ${primary} was started again`, recovery.applied);
    const after = await rig.healthy(HEAL_MS);
    const stall = load.longestStallMsBetween(refusedAtMs, performance.now());
    show('longest silence of the volume in use, the killed primary in it', `${stall.toFixed(0)} ms`, true);
    show('its epoch', `${before.epoch} before, ${after.epoch} after`, after.epoch >= before.epoch);
    const found = await machines.run<readonly VolumeView[]>('volume', 'list');
    const same = known(found.filter(({ volumeId }) => volumeId !== rig.volumeId)) === known(volumes.filter(({ volumeId }) => volumeId !== rig.volumeId));
    show('volumes, with their copies, tags, limits', `${found.length} of ${volumes.length}, ${same ? 'each the same' : 'not the same'}; the deleted one ${found.some(({ volumeId }) => volumeId === gone) ? 'is back' : 'stays deleted'}`, same && found.length === volumes.length);

    const killed = primaryServer(after) as string;
    await machines.kill(killed);
    const promoted = await rig.until((volume) => volume.epoch > after.epoch && primaryServer(volume) !== killed, 'a failover after the recovery', HEAL_MS);
    await machines.boot(killed);
    show('a failover after it', `epoch ${promoted.epoch}, ${primaryServer(promoted)}`, true);
    await machines.run('volume', 'delete', made);
    const { load: result, difference, volume } = await rig.settle(HEAL_MS);
    show('requests; failed', `${result.requests}; ${result.errorCount}`, result.errorCount === 0);
    show('blocks read and checked; wrong', `${result.checkedBlocks}; ${result.violationCount}`, result.violationCount === 0 && result.checkedBlocks > 0);
    show('the copies, each alone', difference ?? 'equal', difference === null);
    const machine = volume.copies[0]?.serverId ?? '';
    await machines.kill(machine);
    const flipped = flipBytes(machines.home(machine));
    await machines.boot(machine);
    const seen = (await compareCopies(machines, await rig.healthy(HEAL_MS))) !== null;
    show(`the comparison, after ${flipped} of ${machine} was changed`, seen ? 'sees it' : 'does not see it', seen);
    right = shown.every((line) => line.right);
    return shown;
  } finally {
    await machines.stop();
    if (right) rmSync(directory, { recursive: true, force: true });
  }
}

async function untilMore(count: () => number, wanted: number): Promise<void> {
  for (const giveUpMs = performance.now() + HEAL_MS; count() < wanted;) {
    if (performance.now() > giveUpMs) throw new Error(`no ${wanted} requests after ${HEAL_MS / 1000} s`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

/** As soon as nothing is missing any more. */
async function untilRecovered(machines: Machines): Promise<RecoveryView> {
  for (const giveUpMs = performance.now() + HEAL_MS; ;) {
    const view = await machines.run<RecoveryView>('recover', '--dry-run');
    if (view.blocked.length === 0) return machines.run<RecoveryView>('recover');
    if (performance.now() > giveUpMs) throw new Error(`still blocked: ${view.blocked.join('; ')}`);
  }
}

async function recoverRun(network: Network): Promise<boolean> {
  const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed);
  const runs: (readonly Shown[])[] = [];
  for (const kind of KINDS) runs.push(await one(network, kind, seed));
  const right = runs.flat().every((line) => line.right);
  const text = [
    `# A metadata store that was deleted, and one that was set back: ${right ? 'passed' : 'FAILED'}`, '',
    ...runDescription('recover-run', seed),
    `- Machines: ${MANAGER}, ${SERVERS.join(', ')} (storage), a host, each a daemon in a network namespace of its own, mutual TLS; ${values.volumes} volumes of one to three copies, one of them (${values.size}, two copies) under a verified load of ${values.rate} requests a second through NBD`, '',
    ...KINDS.flatMap((kind, i) => [`## The store is ${kind}`, '', '| what | seen |', '|---|---|', ...(runs[i] ?? []).map((line) => `| ${line.what} | ${line.right ? '' : 'WRONG: '}${line.seen} |`), '']),
  ].join('\n');
  writeFileSync(join(values.results ?? join(ROOT, 'docs/results'), 'recover-run.md'), text);
  process.stdout.write(`${text}\n`);
  return right;
}

if (values.help) process.stdout.write(`${USAGE}\n`);
else process.exitCode = await runInNetwork(import.meta.filename, MACHINES, recoverRun);
