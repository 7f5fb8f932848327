import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';

/** What other people's NBD clients are to find in order on an export of ours, whatever stands behind it. */
export const MIB = 2 ** 20;
/** Size of the device that the cases are written for. */
export const DEVICE_BYTES = 64 * MIB;
const execute = promisify(execFile);
const RUN_MS = 150_000;

/** Commands that were run since they were last taken, each with its exit code. */
const ran: string[] = [];

export function takeCommands(): readonly string[] { return ran.splice(0); }

/** A script goes by the name it was given. */
function named(command: string, args: readonly string[]): string {
  return args[0] === '-c' && args[2] !== undefined && command.endsWith('sh') ? args[2] : basename(command);
}

/** Gives what a command said; throws if it ended with anything but 0. */
export async function run(command: string, ...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await execute(command, args, { timeout: RUN_MS, maxBuffer: 64 * MIB, env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } });
    ran.push(`${named(command, args)} 0`);
    return stdout;
  } catch (error) {
    ran.push(`${named(command, args)} ${String((error as { code?: unknown }).code)}`);
    throw error;
  }
}

/** What shows that a volume holds what it should. */
export interface Evidence {
  /** SHA-256 of what was read from the volume, and of the same done to something local. */
  readonly volume: string;
  readonly twin: string;
  /** What `fsck.ext4 -fn` said; it ended with 0. */
  readonly fsck?: string;
}

/** Its last line, with what it calls the disk left out. */
export function clean(fsck: string): string {
  return (fsck.trim().split('\n').at(-1) ?? '').replace(/^[^:]*:/, 'clean:');
}

function same(volume: string, twin: string, fsck?: string): Evidence {
  expect(volume).toBe(twin);
  return { volume, twin, ...(fsck === undefined ? {} : { fsck }) };
}

export async function deviceSum(uri: string): Promise<string> {
  return (await run('bash', '-c', 'set -o pipefail; nbdcopy "$1" - | sha256sum', 'nbdcopy', uri)).slice(0, 64);
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Random bytes with a hole of 16 MiB at 8 MiB, for what looks for holes. */
export function makeImage(path: string): void {
  const bytes = randomBytes(DEVICE_BYTES);
  bytes.fill(0, 8 * MIB, 24 * MIB);
  writeFileSync(path, bytes);
}

export async function nbdcopyBothWays(to: string, from: string, image: string, back: string): Promise<Evidence> {
  await run('nbdcopy', image, to);
  await run('nbdcopy', from, back);
  return same(await sha256(back), await sha256(image));
}

export async function qemuImg(uri: string, image: string): Promise<Evidence> {
  await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, uri);
  await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri);
  const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', uri)) as { start: number; length: number; zero: boolean }[];
  const zeros = map.filter(({ zero }) => zero);
  expect([zeros[0]?.start, zeros.reduce((sum, { length }) => sum + length, 0)]).toEqual([8 * MIB, 16 * MIB]);
  return same(await deviceSum(uri), await sha256(image));
}

/** The same requests to the volume and to a local file; `twin` is where that file may lie. */
export async function qemuIo(uri: string, twin: string): Promise<Evidence> {
  const commands = [
    'write -P 7 4k 128k', 'read -P 7 4k 128k', 'write -z 8k 4k', 'read -P 0 8k 4k', 'read -P 7 12k 4k', 'write -f -P 3 1M 31M', 'read -P 3 1M 31M',
    'discard 2M 1M', 'read -P 0 2M 1M', 'write -z -u 4M 1M', 'read -P 0 4M 1M', 'write -P 5 512 512', 'write -P 6 1024 512', 'read -P 5 512 512', 'read -P 6 1024 512',
    'aio_write -P 9 40M 2M', 'aio_flush', 'read -P 9 40M 2M', 'flush',
  ];
  writeFileSync(twin, '');
  truncateSync(twin, DEVICE_BYTES);
  for (const disk of [uri, twin]) {
    const output = await run('qemu-io', '-f', 'raw', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), disk);
    expect(output).not.toMatch(/fail|error/i);
  }
  return same(await deviceSum(uri), await sha256(twin));
}

export function fio(uri: string, ...args: readonly string[]): Promise<string> {
  return run('fio', '--name=interop', '--ioengine=nbd', `--uri=${uri}`, '--bs=4k', '--iodepth=32', '--size=8m', '--rw=randwrite', '--verify=crc32c', '--verify_fatal=1', '--randrepeat=0', '--verify_state_save=0', ...args);
}

/** The same random blocks, half of all, of a new volume and of a local file, on four connections; then fio's own verification, on one and on four. */
export async function fioOnOneAndFour(uri: string, twin: string): Promise<Evidence> {
  const part = DEVICE_BYTES / 4;
  for (const engine of [['--ioengine=nbd', `--uri=${uri}`, '--iodepth=32'], ['--ioengine=psync', `--filename=${twin}`]]) {
    await run('fio', '--name=interop', '--rw=randwrite', '--bs=4k', `--filesize=${DEVICE_BYTES}`, `--size=${part}`, '--numjobs=4', `--offset_increment=${part}`, `--io_size=${part / 2}`, '--norandommap', '--randseed=7', '--buffer_pattern=0xa5c3', '--end_fsync=1', ...engine);
  }
  const evidence = same(await deviceSum(uri), await sha256(twin));
  await fio(uri);
  await fio(uri, '--numjobs=4', '--offset_increment=8m', '--bsrange=4k-128k');
  return evidence;
}

/** libnbd without structured replies, with and without zeroes in the old handshake. The Linux kernel's client asks for as little. */
export async function plainClients(uri: string): Promise<void> {
  const script = [
    'import nbd, sys', 'h = nbd.NBD()', 'h.set_request_structured_replies(False)', 'h.set_handshake_flags(int(sys.argv[2]))', 'h.connect_uri(sys.argv[1])',
    'h.pwrite(b"a" * 8192, 4096)', 'assert h.pread(8192, 4096) == b"a" * 8192', 'b = nbd.Buffer(4096)', 'c = h.aio_pread(b, 4096)', 'd = h.aio_flush()',
    'while h.aio_in_flight(): h.poll(-1)', 'assert b.to_bytearray() == b"a" * 4096', 'h.shutdown()',
  ].join('\n');
  for (const flags of ['1', '3']) await run('/usr/bin/python3', '-c', script, uri, flags);
}

const SUMS = 'cd "$1" && find tree -type f | sort | xargs sha256sum | sha256sum';

/** Unpacks a C source tree and builds it, without the path of the place in what comes out. */
const BUILD = 'mkdir -p "$1/tree/source" && cd "$1/tree/source" && tar -x -f "$2" --strip-components=1 && make -s CFLAGS="-O2 -w" >/dev/null';

/**
 * An ext4 of the kernel over nbdfuse and loop: files copied, changed, deleted, trimmed, and a source tree unpacked and built if
 * there is one; equal to a local twin, and clean.
 */
export async function fileSystem(uri: string, deviceBytes: number, folder: string, source: string, tarball?: string): Promise<Evidence> {
  const disk = join(folder, 'disk');
  writeFileSync(disk, '');
  const fuse = spawn('nbdfuse', [disk, uri], { stdio: 'ignore' });
  const undo: (() => Promise<unknown>)[] = [async () => {
    fuse.kill();
    if (fuse.exitCode === null && fuse.signalCode === null) await once(fuse, 'exit');
  }];
  try {
    await expect.poll(async () => (await run('stat', '-c', '%s', disk)).trim(), { timeout: 10_000 }).toBe(String(deviceBytes));
    const loop = (await run('losetup', '-f', '--show', disk)).trim();
    undo.push(() => run('losetup', '-d', loop));
    await run('mkfs.ext4', '-q', loop);
    const mount = join(folder, 'mount');
    const twin = join(folder, 'twin');
    for (const made of [mount, twin]) mkdirSync(made);
    await run('mount', loop, mount);
    let mounted = true;
    undo.push(async () => (mounted ? run('umount', mount) : ''));
    for (const to of [mount, twin]) {
      await run('sh', '-c', 'mkdir "$2/tree" && cd "$1" && tar -c --exclude=node_modules . | tar -x -C "$2/tree"', 'copy', source, to);
      await run('sh', '-c', 'cd "$1/tree" && find . -name "*.test.ts" -delete && find . -name "index.ts" | while read f; do cat "$f" "$f" >"$f.twice"; done', 'change', to);
    }
    if (tarball !== undefined) for (const to of [mount, twin]) await run('sh', '-c', BUILD, 'build', to, tarball);
    await run('fstrim', mount);
    await run('umount', mount);
    mounted = false;
    const fsck = await run('fsck.ext4', '-fn', loop);
    await run('mount', loop, mount);
    mounted = true;
    const [found, wanted] = [await run('sh', '-c', SUMS, 'sums', mount), await run('sh', '-c', SUMS, 'sums', twin)];
    return same(found.slice(0, 64), wanted.slice(0, 64), clean(fsck));
  } finally {
    for (const step of undo.reverse()) await step();
  }
}
