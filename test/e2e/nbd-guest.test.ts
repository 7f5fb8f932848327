// needs: qemu-system-x86_64, busybox, cpio, depmod, mkfs.ext4, root
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGuest, diskThroughQemu, guest, guestFileSystem, guestSums } from './support/guest.ts';

/** A Linux guest on our NBD server: with the kernel's own client, and with QEMU's as its disk. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'ashlar-guest-'));
const servers: ChildProcess[] = [];

beforeAll(() => buildGuest(folder), 120_000);

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

describe('a Linux guest', () => {
  it('has a file system on the kernel’s NBD client', async () => {
    const { port } = await serve();
    const { twin, volume } = guestSums(await guest(folder, `set -e; nbd-client 10.0.2.2 ${port} /dev/nbd0 -N vol; ${guestFileSystem('/dev/nbd0')}; nbd-client -d /dev/nbd0`));
    expect(twin).toMatch(/^[0-9a-f]{64}$/);
    expect(volume).toBe(twin);
  });

  it('has a disk through QEMU, whose client comes back each time it is cut off', async () => {
    const { socket, server } = await serve();
    let cuts = 0;
    const busy = 'i=0; while [ $i -lt 8 ]; do i=$((i+1)); echo cut; dd if=/dev/urandom of=/dev/vda bs=64k count=64 seek=$((i*64)) conv=fsync 2>/dev/null; done';
    const console = await guest(folder, `set -e; ${busy}; ${guestFileSystem('/dev/vda')}`, diskThroughQemu(socket, 'vol'), (line) => {
      if (!line.startsWith('cut')) return;
      cuts++;
      server.kill('SIGHUP');
    });
    const { twin, volume } = guestSums(console);
    expect(twin).toMatch(/^[0-9a-f]{64}$/);
    expect(volume).toBe(twin);
    expect(cuts).toBe(8);
  });
});
