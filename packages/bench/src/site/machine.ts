import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';

/** Kernel clock ticks a second, in which /proc counts processor time (USER_HZ: 100 on every Linux we run on). */
const TICKS_PER_SECOND = 100;

interface CpuTimes {
  readonly total: number;
  readonly busy: number;
  readonly steal: number;
}

/** Ticks of all processors since boot; user, nice, system, idle, iowait, irq, softirq, steal. Guest time is inside user. */
export function cpuTimes(): CpuTimes {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] as string).trim().split(/\s+/).slice(1, 9).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  return { total: fields.reduce((sum, value) => sum + value, 0), busy: user + nice + system + irq + softirq, steal };
}

/** Share of processor time that the hypervisor gave to others, in percent. */
export function stealPercent(before: CpuTimes, after: CpuTimes): number {
  const total = after.total - before.total;
  return total === 0 ? 0 : (100 * (after.steal - before.steal)) / total;
}

/** Share of processor time that others than the ones we know of used, in percent. */
export function othersPercent(before: CpuTimes, after: CpuTimes, knownSeconds: number): number {
  const total = after.total - before.total;
  return total === 0 ? 0 : Math.max(0, (100 * (after.busy - before.busy - knownSeconds * TICKS_PER_SECOND)) / total);
}

interface ProcessStat {
  readonly parent: number;
  readonly ticks: number;
}

/** Fields of /proc/PID/stat; the command's name, in parentheses, may hold anything, blanks included. Null if the process is gone. */
function processStat(pid: number): ProcessStat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

/** Processor seconds used by these processes, all their threads included. One that is gone counts as nothing. */
export function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (processStat(pid)?.ticks ?? 0), 0) / TICKS_PER_SECOND;
}

/** A process and everything that descends from it. */
export function processTree(root: number): readonly number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = processStat(Number(name))?.parent;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: number[] = [];
  const waiting = [root];
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    found.push(pid);
    waiting.push(...(children.get(pid) ?? []));
  }
  return found;
}

/**
 * Keeps idle processors awake until the returned function is called: one that sleeps takes 20 to 80 µs to wake in a virtual
 * machine, which is more than a request takes. Null where the kernel does not offer it.
 */
export function holdProcessorsAwake(): (() => void) | null {
  let file: number;
  try {
    file = openSync('/dev/cpu_dma_latency', 'w');
  } catch {
    return null;
  }
  writeSync(file, new Uint8Array(new Int32Array([0]).buffer));
  return () => closeSync(file);
}

function firstLine(command: string, args: readonly string[]): string {
  try {
    return (execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0] as string).trim();
  } catch {
    return 'not installed';
  }
}

export interface MachineReport {
  readonly processor: string;
  readonly processors: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly versions: Readonly<Record<string, string>>;
}

export function machineReport(): MachineReport {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    processors: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    versions: { node: process.version, fio: firstLine('fio', ['--version']), nbdkit: firstLine('nbdkit', ['--version']), qemu: firstLine('qemu-nbd', ['--version']) },
  };
}

interface TreeState {
  readonly commit: string;
  /** Identifies the code that was measured: the files of the packages and apps that serve volumes, as they are; tests and what is only for development left out. */
  readonly code: string;
}

/** Files whose code is not in what is measured: a new test must not make hours of rounds worthless. */
const NOT_MEASURED = /^packages\/(?:simulator|bench|load|nbd-client)\/|^apps\/ashlar\/src\/(?:demo|scale)\/|\.test\.ts$|\/(?:testing|bench|testdata)\/|\.md$|\/package\.json$/;

export function treeState(root: string): TreeState {
  const git = (...args: string[]): string => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' }).trim();
  const committed = git('ls-tree', '-r', 'HEAD', 'packages/', 'apps/').split('\n').filter((line) => !NOT_MEASURED.test(line.slice(line.indexOf('\t') + 1)));
  const paths = [git('diff', '--name-only', 'HEAD', '--', 'packages', 'apps'), git('ls-files', '--others', '--exclude-standard', '--', 'packages', 'apps')];
  const changed = paths.join('\n').split('\n').filter((path) => path !== '' && !NOT_MEASURED.test(path)).sort().map((path) => `${path} ${contentHash(join(root, path))}`);
  const code = crypto.hash('sha256', [...committed, ...changed].join('\n')).slice(0, 12);
  return { commit: git('rev-parse', '--short=12', 'HEAD'), code: `${code}${changed.length > 0 ? ' with changes that are not committed' : ''}` };
}

function contentHash(path: string): string {
  return existsSync(path) ? crypto.hash('sha256', readFileSync(path)) : 'deleted';
}
