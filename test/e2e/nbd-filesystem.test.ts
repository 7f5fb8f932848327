// needs: nbdfuse, mkfs.ext4, losetup, /dev/fuse, root
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';

/** A file system of the kernel on our NBD server: nbdfuse makes a file of the export, loop a disk of the file. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;
const execute = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'ashlar-filesystem-'));
const undo: (() => Promise<unknown> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];

afterAll(async () => {
  // Whatever was reached is taken back in reverse, also what fails because the test already did it.
  for (const step of undo.reverse()) await Promise.resolve(step()).catch(() => undefined);
});

async function run(command: string, ...args: readonly string[]): Promise<string> {
  return (await execute(command, args, { timeout: 60_000, env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } })).stdout.trim();
}

const SUMS = 'cd "$1" && find tree -type f | sort | xargs sha256sum | sha256sum';

describe('a file system on the NBD server', () => {
  it('holds every file, and is clean afterwards', async () => {
    const socket = join(folder, 's');
    const server = spawn(process.execPath, [MAIN, '--size', '128MiB', '--socket', socket, '--checksums'], { stdio: ['ignore', 'pipe', 'inherit'] });
    undo.push(() => void server.kill());
    await once(createInterface({ input: server.stdout }), 'line');
    const disk = join(folder, 'disk');
    writeFileSync(disk, '');
    const fuse = spawn('nbdfuse', [disk, `nbd+unix:///?socket=${socket}`], { stdio: 'inherit' });
    undo.push(async () => {
      fuse.kill();
      await once(fuse, 'exit');
    });
    await expect.poll(() => run('stat', '-c', '%s', disk), { timeout: 10_000 }).toBe(String(128 * 2 ** 20));
    const loop = await run('losetup', '-f', '--show', disk);
    undo.push(() => run('losetup', '-d', loop));
    await run('mkfs.ext4', '-q', loop);
    const mount = join(folder, 'mount');
    mkdirSync(mount);
    await run('mount', loop, mount);
    undo.push(() => run('umount', mount));
    const source = new URL('../../packages', import.meta.url).pathname;
    const twin = join(folder, 'twin');
    mkdirSync(twin);
    for (const to of [mount, twin]) await run('sh', '-c', 'mkdir "$2/tree" && cd "$1" && tar -c --exclude=node_modules . | tar -x -C "$2/tree"', 'copy', source, to);
    // Changed and deleted files too, and trimmed blocks.
    for (const to of [mount, twin]) await run('sh', '-c', 'cd "$1/tree" && find . -name "*.test.ts" -delete && find . -name "index.ts" | while read f; do cat "$f" "$f" >"$f.twice"; done', 'change', to);
    await run('fstrim', mount);
    await run('umount', mount);
    await run('fsck.ext4', '-fn', loop);
    await run('mount', loop, mount);
    expect(await run('sh', '-c', SUMS, 'sums', mount)).toBe(await run('sh', '-c', SUMS, 'sums', twin));
  });
});
