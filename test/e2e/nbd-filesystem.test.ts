// needs: nbdfuse, mkfs.ext4, losetup, /dev/fuse, root
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { fileSystem, MIB } from './nbd-clients.ts';

/** A file system of the kernel on our NBD server: nbdfuse makes a file of the export, loop a disk of the file. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;

describe('a file system on the NBD server', () => {
  it('holds every file, and is clean afterwards', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ashlar-filesystem-'));
    const socket = join(folder, 's');
    const server = spawn(process.execPath, [MAIN, '--size', '128MiB', '--socket', socket, '--checksums'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(createInterface({ input: server.stdout }), 'line');
      await fileSystem(`nbd+unix:///?socket=${socket}`, 128 * MIB, folder, new URL('../../packages', import.meta.url).pathname);
    } finally {
      server.kill();
      await once(server, 'exit');
      rmSync(folder, { recursive: true, force: true });
    }
    expect(server.exitCode).toBe(0);
  });
});
