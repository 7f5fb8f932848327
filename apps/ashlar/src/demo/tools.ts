import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where Debian keeps what a plain user's PATH may lack. */
const PATHS = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'].filter((path) => path !== '');
const ENV = { ...process.env, PATH: PATHS.join(delimiter) };

const PACKAGES: Readonly<Record<string, string>> = { 'mkfs.ext4': 'e2fsprogs', 'e2fsck': 'e2fsprogs', 'nbdfuse': 'libnbd-bin', 'fusermount3': 'fuse3', 'losetup': 'mount' };

function has(tool: string): boolean {
  return PATHS.some((path) => existsSync(join(path, tool)));
}

export interface Means {
  /** The kernel mounts the volume: nbdfuse, a loop device, ext4. */
  readonly kernel: boolean;
  /** A file system can at least be made and checked. */
  readonly ext4: boolean;
  readonly why: string;
}

/** Finds out how real it can be made here. Installs Debian's packages where it may, and says so first. */
export function means(say: (text: string) => void): Means {
  const root = process.getuid?.() === 0;
  const missing = (): string[] => Object.keys(PACKAGES).filter((tool) => !has(tool));
  if (root && missing().length > 0 && existsSync('/etc/debian_version') && has('apt-get')) install([...new Set(missing().map((tool) => PACKAGES[tool] as string))], say);
  const ext4 = has('mkfs.ext4') && has('e2fsck');
  if (!root) return { kernel: false, ext4, why: 'only root may mount a file system here' };
  const left = missing();
  if (left.length > 0) return { kernel: false, ext4, why: `${left.join(', ')} cannot be had here` };
  const closed = ['/dev/fuse', '/dev/loop-control'].find((device) => !writable(device));
  if (closed !== undefined) return { kernel: false, ext4, why: `${closed} cannot be used here` };
  return { kernel: true, ext4, why: '' };
}

function install(packages: readonly string[], say: (text: string) => void): void {
  say(`Installing from Debian: ${packages.join(' ')}`);
  const apt = (...args: string[]): boolean => spawnSync('apt-get', ['-q', '-y', ...args], { env: { ...ENV, DEBIAN_FRONTEND: 'noninteractive' }, stdio: 'ignore', timeout: 120_000 }).status === 0;
  if (!apt('install', '--no-install-recommends', ...packages) && !(apt('update') && apt('install', '--no-install-recommends', ...packages))) say('… which did not succeed.');
}

function writable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs a tool to its end; resolves with what it printed, rejects with what it complained of. */
export function tool(name: string, ...args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, { env: ENV, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output.trim());
      else reject(new Error(`${name} ${args.join(' ')} ended with ${code ?? signal ?? 'nothing'}: ${errors.trim()}`));
    });
  });
}

export function background(name: string, ...args: readonly string[]): ReturnType<typeof spawn> {
  return spawn(name, args, { env: ENV, stdio: 'ignore' });
}
