import { showSize } from '../cli/sizes.ts';
import type { Finding } from './finding.ts';

/** A directory in which volumes, or what is known of them, lie. */
export interface DirectoryFacts {
  readonly path: string;
  /** Null: it is not there. */
  readonly owner: number | null;
  readonly mode: number;
  /** tmpfs, ramfs. */
  readonly inMemory: boolean;
  readonly capacityBytes: number;
  readonly freeBytes: number;
  /** Of a 4 KiB write and its `fdatasync`, middle of several, in milliseconds; null: it could not be tried. */
  readonly syncMs: number | null;
  /** Why it could not. */
  readonly failure: string | null;
}

export interface CertificateFacts {
  readonly path: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** What was seen on this machine. */
export interface MachineFacts {
  /** Of this program: `26.10.0`. */
  readonly node: string;
  /** `6.1.0-18-amd64`. */
  readonly kernel: string;
  readonly platform: string;
  readonly user: number;
  readonly nowMs: number;
  /** Null: nobody here knows. */
  readonly clockSynchronized: boolean | null;
  readonly openFilesMax: number;
  readonly memoryBytes: number;
  readonly memoryAvailableBytes: number;
  /** The longest path of a unix socket that a site in the directory would use. */
  readonly socketPath: string;
  readonly directories: readonly DirectoryFacts[];
  readonly certificates: readonly CertificateFacts[];
  /** The port that the site's API was last on, and whether something else has it. */
  readonly apiPort: { readonly port: number; readonly taken: boolean } | null;
}

const NODE_MAJOR = 26;
/** The oldest that anything was run on. */
const KERNEL_MIN = [5, 10] as const;
/** A server holds some ten descriptors for each copy that is in use. */
const OPEN_FILES_MIN = 65_536;
const MEMORY_AVAILABLE_MIN = 512 * 2 ** 20;
/** linux/un.h: sun_path has 108 bytes, one of them the end. */
const SOCKET_PATH_MAX = 107;
const FREE_LOW = 0.15;
const FREE_VERY_LOW = 0.05;
/** No disk makes 4 KiB stable in less: the fastest with a protected cache take about 15 µs behind the system call. */
const SYNC_MS_MIN = 0.01;
/** A primary's answers to FLUSH wait for it; beyond it programs feel every one. */
const SYNC_MS_MAX = 100;
/** Renewal comes at a third; with less than a tenth left it has failed for long. */
const CERTIFICATE_PART_MIN = 0.1;

/** Judges a machine by what was seen. Nothing is looked at here. */
export function judgeMachine(facts: MachineFacts): readonly Finding[] {
  return [...program(facts), ...resources(facts), ...facts.directories.flatMap((directory) => judgeDirectory(directory, facts.user)), ...facts.certificates.flatMap((certificate) => judgeCertificate(certificate, facts.nowMs))];
}

function program({ node, kernel, platform, clockSynchronized, socketPath, apiPort }: MachineFacts): Finding[] {
  const found: Finding[] = [];
  if (Number(node.split('.')[0]) < NODE_MAJOR) {
    found.push({ severity: 'error', check: 'node', subject: `Node ${node}`, message: `this is run by Node ${node}`, effect: 'Nothing is known of how it would run; it probably does not start.', action: `Run it with Node ${NODE_MAJOR}; the Debian package and the checkout bring theirs.` });
  }
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  if (platform !== 'linux' || major < KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor < KERNEL_MIN[1])) {
    found.push({ severity: 'warning', check: 'kernel', subject: `${platform} ${kernel}`, message: `the kernel is ${platform} ${kernel}`, effect: 'What is promised after a failed or lost write was proved on Linux 5.10 and later only.', action: 'Run servers on a later kernel.' });
  }
  if (clockSynchronized === false) {
    found.push({ severity: 'warning', check: 'clock', subject: 'clock', message: 'the clock is not synchronized', effect: 'No data is at risk: nothing is decided by the time of day. Times of events are wrong, and certificates are taken for expired or not yet valid.', action: 'Run a time service: systemd-timesyncd or chrony.' });
  }
  if (Buffer.byteLength(socketPath) > SOCKET_PATH_MAX) {
    found.push({ severity: 'error', check: 'sockets', subject: socketPath, message: `the path of a socket would have ${Buffer.byteLength(socketPath)} bytes, of ${SOCKET_PATH_MAX} that there may be`, effect: 'Hosts cannot show volumes.', action: 'Let TMPDIR name a folder with a shorter path.' });
  }
  if (apiPort?.taken === true) {
    found.push({ severity: 'warning', check: 'ports', subject: `port ${apiPort.port}`, message: `port ${apiPort.port}, which the API of this site has, is held by something that does not answer as one`, effect: 'The data is not touched. Clients that know the port reach something else.', action: `See who holds it (\`ss -ltnp 'sport = :${apiPort.port}'\`), end that, or start the site with another --port.` });
  }
  return found;
}

function resources({ openFilesMax, memoryBytes, memoryAvailableBytes }: MachineFacts): Finding[] {
  const found: Finding[] = [];
  if (openFilesMax < OPEN_FILES_MIN) {
    found.push({ severity: 'warning', check: 'open-files', subject: 'open files', message: `a process may open ${openFilesMax} files`, effect: 'With some thousand volumes copies cannot be opened and count as faulted until there is room.', action: `Raise it to ${OPEN_FILES_MIN} or more: \`ulimit -n\`, LimitNOFILE= of the unit.` });
  }
  if (memoryAvailableBytes < MEMORY_AVAILABLE_MIN) {
    found.push({ severity: 'warning', check: 'memory', subject: 'memory', message: `${showSize(memoryAvailableBytes)} of ${showSize(memoryBytes)} of memory are available`, effect: 'Servers that swap, or are killed for memory, are taken for silent: their volumes fail over. What was answered is safe on the others.', action: 'End other programs, or move volumes to other machines.' });
  }
  return found;
}

function judgeDirectory({ path, owner, mode, inMemory, capacityBytes, freeBytes, syncMs, failure }: DirectoryFacts, user: number): Finding[] {
  const found: Finding[] = [];
  if (owner === null) return [{ severity: 'error', check: 'directory', subject: path, message: 'it is not there', effect: 'Whatever was in it cannot be served from here.', action: 'Mount its disk, or see docs/runbooks/disk-lost.md.' }];
  // The superuser opens everybody's.
  if (owner !== user && user !== 0) found.push({ severity: 'warning', check: 'ownership', subject: path, message: `it belongs to user ${owner}; this is user ${user}`, effect: 'A site that is started by this user cannot open it; nothing is changed.', action: 'Start the site, or run this, as the user to whom it belongs.' });
  if ((mode & 0o077) !== 0) found.push({ severity: 'error', check: 'permissions', subject: path, message: `others may enter it (mode ${(mode & 0o777).toString(8)})`, effect: 'Other users of this machine can read volumes, or the secrets of the site.', action: `chmod 700 ${path}` });
  if (inMemory) found.push({ severity: 'error', check: 'in-memory', subject: path, message: 'it lies in memory', effect: 'All copies here are gone when the machine restarts.', action: 'Give a directory on a disk.' });
  const free = freeBytes / capacityBytes;
  if (free < FREE_LOW) {
    found.push({ severity: free < FREE_VERY_LOW ? 'error' : 'warning', check: 'space', subject: path, message: `${showSize(freeBytes)} of ${showSize(capacityBytes)} are free`, effect: 'When it is full, writes of its volumes wait and then fail; what was answered is safe.', action: 'Make room, or see docs/runbooks/server-full.md.' });
  }
  if (failure !== null) found.push({ severity: owner === user || user === 0 ? 'error' : 'note', check: 'sync', subject: path, message: `nothing could be written and synced there: ${failure}`, effect: owner === user || user === 0 ? 'Copies here take no writes and leave the set in sync.' : 'It is not known how its disk does.', action: owner === user || user === 0 ? 'See docs/runbooks/disk-lost.md.' : 'Run this as the user to whom it belongs.' });
  else if (syncMs !== null && !inMemory) found.push(...judgeSync(path, syncMs));
  return found;
}

function judgeSync(path: string, syncMs: number): Finding[] {
  if (syncMs < SYNC_MS_MIN) return [{ severity: 'error', check: 'sync', subject: path, message: `a write is called stable after ${(syncMs * 1000).toFixed(1)} µs`, effect: 'Its disk, or what stands for it, does not keep what it confirms: a loss of power may lose flushed writes on this machine.', action: 'Turn off whatever ignores syncs (nobarrier, eatmydata, a cache mode of the virtual machine), or use another disk.' }];
  if (syncMs > SYNC_MS_MAX) return [{ severity: 'warning', check: 'sync', subject: path, message: `a write takes ${syncMs.toFixed(0)} ms to become stable`, effect: 'The data is safe. Flushes of programs wait for it, and volumes with one copy in sync wait with every write.', action: 'Look for other load on the disk and at its health (`smartctl -a`); move volumes away.' }];
  return [];
}

function judgeCertificate({ path, fromMs, untilMs }: CertificateFacts, nowMs: number): Finding[] {
  const until = new Date(untilMs).toISOString();
  const action = 'See that its machine reaches the system manager and that the clocks are right; renew it.';
  if (nowMs >= untilMs) return [{ severity: 'error', check: 'certificates', subject: path, message: `it expired at ${until}`, effect: 'No data is lost. The links that show it are refused.', action }];
  if (nowMs < fromMs) return [{ severity: 'error', check: 'certificates', subject: path, message: `it is valid from ${new Date(fromMs).toISOString()} on`, effect: 'No data is lost. The links that show it are refused until then.', action: 'Set the clock of this machine.' }];
  if ((untilMs - nowMs) / (untilMs - fromMs) >= CERTIFICATE_PART_MIN) return [];
  return [{ severity: 'warning', check: 'certificates', subject: path, message: `it expires at ${until}, and was not renewed`, effect: 'No data is at risk. From then on the links that show it are refused.', action }];
}
