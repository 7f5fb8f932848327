import { X509Certificate } from 'node:crypto';
import { execFile } from 'node:child_process';
import { closeSync, existsSync, fdatasyncSync, openSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { release, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { socketDirectoryOf } from '@ashlar/site/layout';
import type { CertificateFacts, DirectoryFacts, MachineFacts } from './machine.ts';

const execute = promisify(execFile);
const SYNCS = 21;
const COMMAND_MS = 3000;
const CONNECT_MS = 1000;
/** statfs(2). */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/;
const CERTIFICATE_DEPTH = 3;
const CERTIFICATE_BYTES_MAX = 1024 * 1024;

/** Looks at this machine; `root`: of the site, or of the machine's daemon, with its disks. Writes one file of 4 KiB into each directory, and removes it. */
export async function lookAtMachine(root: string, disks: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<MachineFacts> {
  const memory = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory)?.[1] ?? 0) * 1024;
  const limits = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '0';
  return {
    node: process.versions.node, kernel: release(), platform: process.platform, user: userInfo().uid, nowMs: Date.now(), clockSynchronized: await clockSynchronized(),
    openFilesMax: limits === 'unlimited' ? Infinity : Number(limits), memoryBytes: kib('MemTotal'), memoryAvailableBytes: kib('MemAvailable'),
    // Its names of servers and hosts may be 63 long; those of this site's own processes are not.
    socketPath: join(socketDirectoryOf(root), 'server-64.link'),
    directories: [...new Set([...directoriesOf(root), ...disks])].map(lookAtDirectory),
    certificates: [...certificateFiles(root), ...['ASHLAR_NBD_TLS_CERT', 'ASHLAR_NBD_TLS_CA'].flatMap((name) => env[name] ?? [])].flatMap(lookAtCertificate),
    apiPort: await apiPort(root),
  };
}

/** The site's own, and those of its servers' disks: they may be mounted on others. */
function directoriesOf(root: string): string[] {
  return [root, ...entriesOf(join(root, 'servers')).flatMap((server) => entriesOf(server))];
}

function entriesOf(path: string): string[] {
  return existsSync(path) ? readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name)) : [];
}

function lookAtDirectory(path: string): DirectoryFacts {
  if (!existsSync(path)) return { path, owner: null, mode: 0, inMemory: false, capacityBytes: 0, freeBytes: 0, syncMs: null, failure: null };
  const { uid, mode } = statSync(path);
  const { type, blocks, bavail, bsize } = statfsSync(path);
  const facts = { path, owner: uid, mode, inMemory: MEMORY_FILE_SYSTEMS.has(type), capacityBytes: blocks * bsize, freeBytes: bavail * bsize };
  try {
    return { ...facts, syncMs: syncMs(path), failure: null };
  } catch (error) {
    return { ...facts, syncMs: null, failure: error instanceof Error ? error.message : String(error) };
  }
}

/** The middle one of several. The name is of those that a server's directory may hold (`lock…`). */
function syncMs(path: string): number {
  const file = join(path, `lock-doctor-${process.pid}`);
  const fd = openSync(file, 'wx', 0o600);
  try {
    const block = Buffer.alloc(4096, 1);
    const took = Array.from({ length: SYNCS }, () => {
      const startMs = performance.now();
      writeSync(fd, block, 0, block.length, 0);
      fdatasyncSync(fd);
      return performance.now() - startMs;
    });
    return took.sort((a, b) => a - b)[(SYNCS - 1) / 2] as number;
  } finally {
    closeSync(fd);
    rmSync(file);
  }
}

/** By whoever keeps it; null where nobody answers (a container, a machine without systemd). */
async function clockSynchronized(): Promise<boolean | null> {
  try {
    const { stdout } = await execute('timedatectl', ['show', '--property=NTPSynchronized', '--value'], { timeout: COMMAND_MS });
    return stdout.trim() === 'yes' ? true : stdout.trim() === 'no' ? false : null;
  } catch {
    return null;
  }
}

/** Not among copies, of which there may be thousands. */
function certificateFiles(root: string, depth = 0): string[] {
  if (!existsSync(root) || depth > CERTIFICATE_DEPTH) return [];
  return readdirSync(root, { withFileTypes: true }).flatMap((entry) => {
    const path = join(root, entry.name);
    if (entry.isDirectory()) return entry.name === 'servers' ? [] : certificateFiles(path, depth + 1);
    return /\.(crt|pem|cert)$/.test(entry.name) ? [path] : [];
  });
}

function lookAtCertificate(path: string): CertificateFacts[] {
  try {
    // The first is the file's own; others are those that it is signed by.
    const [certificate] = CERTIFICATE.exec(statSync(path).size <= CERTIFICATE_BYTES_MAX ? readFileSync(path, 'utf8') : '') ?? [];
    if (certificate === undefined) return [];
    const { validFromDate, validToDate } = new X509Certificate(certificate);
    return [{ path, fromMs: validFromDate.getTime(), untilMs: validToDate.getTime() }];
  } catch {
    // Somebody else's, or a key in a file of such a name: not a certificate that can be judged.
    return [];
  }
}

/** `taken`: somebody accepts connections there and does not answer as the API does, which refuses plain HTTP with 426. */
async function apiPort(root: string): Promise<MachineFacts['apiPort']> {
  const file = join(root, 'endpoint');
  if (!existsSync(file)) return null;
  const endpoint = readFileSync(file, 'utf8').trim();
  // That of a cluster is on its own address, and proves itself by its certificate.
  if (!endpoint.startsWith('ws:') || !URL.canParse(endpoint)) return null;
  const port = Number(new URL(endpoint).port);
  if (!(await accepts(port))) return { port, taken: false };
  const status = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(CONNECT_MS) }).then((answer) => answer.status, () => 0);
  return { port, taken: status !== 426 };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: CONNECT_MS });
    const end = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false));
  });
}
