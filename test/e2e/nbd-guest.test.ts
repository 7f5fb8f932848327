// needs: qemu-system-x86_64, busybox, cpio, depmod, mkfs.ext4, root
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Site } from './support/site.ts';

/** A Linux guest on our NBD server: with the kernel's own client, and with QEMU's as its disk. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;
const GUEST = new URL('guest/guest.sh', import.meta.url).pathname;
const execute = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'ashlar-guest-'));
const servers: ChildProcess[] = [];

beforeAll(async () => {
  await execute('bash', [GUEST, 'build', folder], { timeout: 120_000 });
}, 120_000);

afterAll(() => {
  for (const server of servers) server.kill();
  rmSync(folder, { recursive: true, force: true });
});

async function serve(): Promise<{ readonly socket: string; readonly port: string; readonly server: ChildProcess }> {
  const socket = join(folder, `s${servers.length}`);
  const server = spawn(process.execPath, [MAIN, '--size', '128MiB', '--name', 'vol', '--socket', socket, '--port', '0', '--checksums'], { stdio: ['ignore', 'pipe', 'ignore'] });
  servers.push(server);
  for await (const line of createInterface({ input: server.stdout as NonNullable<typeof server.stdout> })) {
    const port = /^nbd:\/\/127\.0\.0\.1:(\d+)\//.exec(line)?.[1];
    if (port !== undefined) return { socket, port, server };
  }
  throw new Error('the server said no port');
}

/** Boots, runs, and gives the console; throws if the commands failed. `onLine` sees the console as it comes. */
async function guest(commands: string, options: readonly string[] = [], onLine: (line: string) => void = () => undefined): Promise<string> {
  const child = spawn('bash', [GUEST, 'run', folder, commands, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line.replaceAll('\r', ''));
    onLine(line);
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`guest ended with ${code}:\n${lines.join('\n')}`);
  return lines.join('\n');
}

const SUMS = 'find bin modules -type f | sort | xargs sha256sum | sha256sum';

/** A file system with files on it; sums of them from memory and, caches dropped, from the disk; the clean disk in the end. */
function fileSystem(disk: string): string {
  return [
    `mkfs.ext4 -q ${disk}; mount ${disk} /mnt`, 'cp -r /bin /modules /mnt/', `cd /; echo twin $(${SUMS})`, 'sync; echo 3 >/proc/sys/vm/drop_caches', `cd /mnt; echo disk $(${SUMS})`,
    'rm -r /mnt/bin; cd /; sync; umount /mnt', `e2fsck -fn ${disk}`,
  ].join('; ');
}

function sums(console: string): readonly (string | undefined)[] {
  return [/^twin ([0-9a-f]{64})/m.exec(console)?.[1], /^disk ([0-9a-f]{64})/m.exec(console)?.[1]];
}

describe('a Linux guest', () => {
  it('has a file system on the kernel’s NBD client', async () => {
    const { port } = await serve();
    const [twin, disk] = sums(await guest(`set -e; nbd-client 10.0.2.2 ${port} /dev/nbd0 -N vol; ${fileSystem('/dev/nbd0')}; nbd-client -d /dev/nbd0`));
    expect(twin).toMatch(/^[0-9a-f]{64}$/);
    expect(disk).toBe(twin);
  });

  it('has a disk through QEMU, whose client comes back each time it is cut off', async () => {
    const { socket, server } = await serve();
    let cuts = 0;
    const options = ['-blockdev', `driver=nbd,node-name=d,server.type=unix,server.path=${socket},export=vol,reconnect-delay=60`, '-device', 'virtio-blk,drive=d'];
    const busy = 'i=0; while [ $i -lt 8 ]; do i=$((i+1)); echo cut; dd if=/dev/urandom of=/dev/vda bs=64k count=64 seek=$((i*64)) conv=fsync 2>/dev/null; done';
    const console = await guest(`set -e; ${busy}; ${fileSystem('/dev/vda')}`, options, (line) => {
      if (!line.startsWith('cut')) return;
      cuts++;
      server.kill('SIGHUP');
    });
    const [twin, disk] = sums(console);
    expect(disk).toBe(twin);
    expect(cuts).toBe(8);
  });

  it('has mirrored volumes as its disks, by both clients', async () => {
    const site = await Site.up(join(folder, 'site'), '--processes');
    try {
      const attach = async (...how: readonly string[]): Promise<URL> => {
        const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '128MiB');
        return new URL((await site.ask<{ nbd: string }>('volume', 'attach', volumeId, ...how)).nbd);
      };
      const [tcp, unix] = [await attach('--tcp'), await attach()];
      const name = (uri: URL): string => uri.pathname.slice(1);
      const options = ['-blockdev', `driver=nbd,node-name=d,server.type=unix,server.path=${unix.searchParams.get('socket')},export=${name(unix)},reconnect-delay=60`, '-device', 'virtio-blk,drive=d'];
      const console = await guest(`set -e; nbd-client 10.0.2.2 ${tcp.port} /dev/nbd0 -N ${name(tcp)}; ${fileSystem('/dev/nbd0')}; nbd-client -d /dev/nbd0; ${fileSystem('/dev/vda')}`, options);
      const all = [...console.matchAll(/^(?:twin|disk) ([0-9a-f]{64})/gm)].map(([, sum]) => sum);
      expect(all.length).toBe(4);
      expect(new Set(all).size).toBe(1);
    } finally {
      expect(await site.end()).toBe(0);
    }
  });
});
