import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * What a test needs from outside the tree. A test file says so in a line of its own among its first lines:
 *
 *     // needs: fio, nbdinfo, python3:nbd, /dev/fuse, root
 *
 * A name is a command on the PATH, `python3:X` a module of Debian's own Python, a path must exist and be readable, `root` is
 * the superuser. `pnpm test` installs what is missing where it may, and elsewhere says which file cannot run and why.
 */
export interface TestFile {
  readonly path: string;
  readonly needs: readonly string[];
}

/** Debian's package for each name. */
const DEBIAN_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  'fio': ['fio'],
  'nbdkit': ['nbdkit', 'nbdkit-plugin-python'],
  'nbdinfo': ['libnbd-bin'],
  'nbdcopy': ['libnbd-bin'],
  'nbdfuse': ['libnbd-bin', 'fuse3'],
  'nbdsh': ['python3-libnbd', 'libnbd-bin'],
  'python3:nbd': ['python3-libnbd'],
  'qemu-img': ['qemu-utils'],
  'qemu-io': ['qemu-utils'],
  'qemu-nbd': ['qemu-utils'],
  'qemu-storage-daemon': ['qemu-system-common'],
  'qemu-system-x86_64': ['qemu-system-x86'],
  // What test/e2e/guest/guest.sh puts a guest together with; the libraries are those of the kernel's nbd-client.
  'busybox': ['busybox-static', 'libnl-genl-3-200'],
  'cpio': ['cpio'],
  'depmod': ['kmod'],
  'mkfs.ext4': ['e2fsprogs'],
  'debugfs': ['e2fsprogs'],
  'gcc': ['gcc', 'libc6-dev'],
  'make': ['make'],
  'losetup': ['mount'],
  'mount': ['mount'],
  'unshare': ['util-linux'],
  'strace': ['strace'],
  'openssl': ['openssl'],
  'nft': ['nftables'],
  'ip': ['iproute2'],
  'python3': ['python3'],
  'script': ['bsdutils'],
  'zsh': ['zsh'],
  'fish': ['fish'],
  'systemd-analyze': ['systemd'],
  '/lib/systemd/systemd': ['systemd'],
  'dbus-daemon': ['dbus'],
  'dpkg-deb': ['dpkg'],
  'nsenter': ['util-linux'],
  'curl': ['curl'],
  'man': ['man-db'],
  'tar': ['tar'],
};

/** Where Debian keeps what a plain user's PATH may lack (mkfs.ext4, losetup). */
const EXTRA_PATHS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export function onPath(command: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...EXTRA_PATHS];
  return folders.some((folder) => folder !== '' && existsSync(join(folder, command)));
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Null if the need is met, otherwise why it is not. */
export function missing(need: string): string | null {
  if (need === 'root') return isRoot() ? null : 'must be run as root';
  if (need.startsWith('/')) return readable(need) ? null : `${need} is not there`;
  if (need.startsWith('python3:')) {
    const module = need.slice('python3:'.length);
    // Debian's own Python: its modules are not seen by another one that stands first on the PATH.
    const found = spawnSync('/usr/bin/python3', ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0;
    return found ? null : `Python module ${module} is not installed`;
  }
  return onPath(need) ? null : `${need} is not installed`;
}

function readable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

export function needsOf(text: string): readonly string[] {
  const match = /^\/\/ needs: (.+)$/m.exec(text.slice(0, 2000));
  return match ? (match[1] as string).split(',').map((name) => name.trim()) : [];
}

export function testFiles(folder: string): readonly TestFile[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && !name.includes('node_modules'))
    .map((name) => join(folder, name))
    .sort()
    .map((path) => ({ path, needs: needsOf(readFileSync(path, 'utf8')) }));
}

export function debianPackagesFor(needs: Iterable<string>): readonly string[] {
  const packages = new Set<string>();
  for (const need of needs) {
    for (const name of DEBIAN_PACKAGES[need] ?? []) packages.add(name);
  }
  return [...packages].sort();
}

export function onDebian(): boolean {
  return existsSync('/etc/debian_version') && onPath('apt-get');
}
