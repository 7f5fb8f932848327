import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeManager, type Volume } from '@ashlar/node-manager';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatternWriter } from './support/pattern.ts';
import { Site } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-attached-'));
const SITE = join(directory, 'site');
const BLOCKS = 512;
/** A program of its own, which attaches a volume and says so. */
const PROGRAM = `import { NodeManager } from '@ashlar/node-manager';
const [site, directory, volumeId] = process.argv.slice(1);
const nodeManager = await NodeManager.start({ directory, site });
const volume = await nodeManager.attach(volumeId);
await volume.write(0, new Uint8Array(4096).fill(3));
console.log('attached');`;

let site: Site;
let nodeManager: NodeManager;
let volume: Volume;
let volumeId: string;
let writer: PatternWriter;
beforeAll(async () => {
  site = await Site.up(SITE, '--processes', '--servers', '3', '--rebuild-delay', '2s', '--frozen-kill-after', '3s');
  nodeManager = await NodeManager.start({ directory: join(directory, 'program'), site: SITE });
  ({ volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1', '--io-timeout', '10m'));
  volume = await nodeManager.attach(volumeId);
  writer = new PatternWriter(volume, BLOCKS);
});
afterAll(async () => {
  await nodeManager.close();
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

async function goesOn(): Promise<void> {
  const before = writer.written;
  await expect.poll(() => writer.written > before + 500, { timeout: 60_000, interval: 20 }).toBe(true);
}

describe('a volume attached inside a program', () => {
  it('keeps every answered write while its primaries are killed and frozen', async () => {
    writer.start(8);
    await goesOn();
    const killed = await site.primary(volumeId);
    process.kill(killed.pid, 'SIGKILL');
    await site.until(volumeId, (view) => view.copies[0]?.serverId !== killed.serverId, 30_000);
    await goesOn();
    await site.healthy(volumeId);
    const frozen = await site.primary(volumeId);
    process.kill(frozen.pid, 'SIGSTOP');
    await site.until(volumeId, (view) => view.copies[0]?.serverId !== frozen.serverId, 30_000);
    await goesOn();
    await site.healthy(volumeId);
    await writer.stop();
    expect(await writer.wrong()).toEqual([]);
    expect(volume.unanswered).toBe(0);
  });

  it('sees the volume grow', async () => {
    await site.ask('volume', 'grow', volumeId, '--size', '128MiB');
    await expect.poll(() => volume.sizeBytes, { timeout: 30_000, interval: 20 }).toBe(128 * 2 ** 20);
    await volume.write(127 * 2 ** 20, new Uint8Array(4096).fill(9));
    expect((await volume.read(127 * 2 ** 20, 4096)).every((byte) => byte === 9)).toBe(true);
  });

  it('goes on when the whole site was ended and started again', async () => {
    await site.end();
    const waiting = volume.write(0, new Uint8Array(4096).fill(1));
    site = await Site.up(SITE, '--processes');
    await waiting;
    expect((await volume.read(0, 4096)).every((byte) => byte === 1)).toBe(true);
    await volume.close();
    expect((await site.volume(volumeId)).attachments).toEqual([]);
  });

  it('is taken by force from a program that was killed', async () => {
    const program = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, SITE, join(directory, 'other'), volumeId], { cwd: join(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
    await Promise.race([once(program.stdout, 'data'), once(program, 'exit')]);
    program.kill('SIGKILL');
    await once(program, 'exit');
    await expect.poll(() => nodeManager.attach(volumeId).catch((error: Error) => error.message), { timeout: 30_000 }).toContain('--force');
    await site.ask('volume', 'detach', volumeId, '--force');
    volume = await nodeManager.attach(volumeId);
    expect((await volume.read(0, 4096)).every((byte) => byte === 3)).toBe(true);
    await volume.close();
    await site.ask('volume', 'delete', volumeId);
  });
});
