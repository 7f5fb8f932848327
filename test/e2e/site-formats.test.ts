// needs: tar
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NbdClient } from '@ashlar/nbd-client';
import { checksum } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import content from './fixtures/site-0.1.json' with { type: 'json' };
import { unpack } from './support/packed.ts';
import { PatternWriter } from './support/pattern.ts';
import { cli, Site } from './support/site.ts';

/** A site as version 0.1 left it, ended in order: docs/runbooks/upgrade.md. */
const FIXTURE = join(import.meta.dirname, 'fixtures/site-0.1.tar.br');
const { volumeId, deletedVolumeId, sizeBytes, sha256 } = content;
const BLOCKS = 256;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ashlar-formats-'));
  unpack(FIXTURE, directory);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function digest(nbd: string): Promise<string> {
  const client = await NbdClient.connect(nbd);
  const bytes = await client.read(0, sizeBytes);
  await client.close();
  return createHash('sha256').update(bytes).digest('hex');
}

async function copiesOf(site: Site): Promise<string[]> {
  const sums: string[] = [];
  for (const { serverId } of (await site.healthy(volumeId)).copies) {
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--copy', serverId, '--read-only');
    sums.push(await digest(nbd));
    await site.ask('volume', 'detach', volumeId, '--copy', serverId);
  }
  return sums;
}

/** Where its attachment is shown now: it was attached at another place. */
async function attachedAt(site: Site): Promise<string> {
  const { attachments } = await site.until(volumeId, (volume) => existsSync(socketOf(volume.attachments[0]?.nbd)), 30_000);
  return attachments[0]?.nbd as string;
}

function socketOf(nbd: string | null | undefined): string {
  return new URL(nbd ?? 'nbd+unix:///?socket=/nowhere').searchParams.get('socket') ?? '';
}

describe('a site that version 0.1 left', () => {
  it('is opened with all that it held, and goes on, here and by the next start', async () => {
    let site = await Site.up(directory, '--processes');
    try {
      expect((await site.servers()).map(({ serverId, state }) => `${serverId} ${state}`)).toEqual(['server-1 up', 'server-2 up', 'server-3 up']);
      expect(await site.volume(volumeId)).toMatchObject({ state: 'in-use', sizeBytes, tags: { purpose: 'fixture' } });
      expect(await site.refused('volume', 'describe', deletedVolumeId)).toEqual([1, 'not-found']);
      expect(await copiesOf(site)).toEqual([sha256, sha256]);
      const nbd = await attachedAt(site);
      expect(await digest(nbd)).toBe(sha256);
      const client = await NbdClient.connect(nbd);
      const writer = new PatternWriter(client, BLOCKS);
      writer.start(4);
      await expect.poll(() => writer.written >= 2 * BLOCKS, { timeout: 30_000, interval: 20 }).toBe(true);
      await writer.stop();
      expect(await writer.wrong()).toEqual([]);
      await client.close();
      const after = await digest(nbd);
      expect(after).not.toBe(sha256);
      expect(await site.end()).toBe(0);
      site = await Site.up(directory, '--processes');
      expect(await copiesOf(site)).toEqual([after, after]);
      expect(await digest(await attachedAt(site))).toBe(after);
    } finally {
      await site.end();
    }
  }, 300_000);
});

/** Every file with its bytes; but for the locks, which every start takes, and the logs. */
function filesOf(root: string): Readonly<Record<string, string>> {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const kept = files.filter((path) => !/\/(?:lock|lock-journal|[^/]*\.log)$/.test(path));
  return Object.fromEntries(kept.map((path) => [relative(root, path), createHash('sha256').update(readFileSync(path)).digest('hex')]));
}

function later(path: string): void {
  const { checksum: _sum, format, ...rest } = JSON.parse(readFileSync(path, 'utf8')) as { checksum: string; format: number };
  const value = { format: format + 1, ...rest };
  writeFileSync(path, `${JSON.stringify({ ...value, checksum: checksum(Buffer.from(JSON.stringify(value))).toString(16).padStart(8, '0') })}\n`);
}

function laterDatabase(path: string): void {
  const database = new DatabaseSync(path);
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  database.exec(`PRAGMA user_version = ${version + 1}`);
  database.close();
}

/** docs/formats/superblock.md: four slots, each with the checksum of what follows it. */
function laterSuperblock(path: string): void {
  const bytes = readFileSync(path);
  for (let at = 0; at < bytes.length; at += 64 * 1024) {
    bytes.writeUInt32LE(bytes.readUInt32LE(at + 8) + 1, at + 8);
    bytes.writeUInt32LE(checksum(bytes.subarray(at + 8, at + 32 + bytes.readUInt32LE(at + 12))), at + 4);
  }
  writeFileSync(path, bytes);
}

describe('what a later version has written', () => {
  /** Folder: whose files must stay as they are. */
  const cases: readonly (readonly [name: string, folder: string, file: string, change: (path: string) => void])[] = [
    ['site.json', '.', 'site.json', later],
    ['the metadata store', '.', 'manager/metadata.sqlite', laterDatabase],
    ["a server's directory", 'servers/server-2', 'servers/server-2/disk-1/server.json', later],
    ['a copy', 'servers/server-2', `servers/server-2/disk-1/copies/${volumeId}/superblock`, laterSuperblock],
    ["a host's state", 'hosts', 'hosts/host-1/host.sqlite', laterDatabase],
  ];

  it.each(cases)('%s: refused, and not touched', async (_name, folder, file, change) => {
    change(join(directory, file));
    const before = filesOf(join(directory, folder));
    expect(Object.keys(before).length).toBeGreaterThan(0);
    const { code, json } = await cli(['up', '--dir', directory, '--processes']);
    expect([code, json]).toMatchObject([1, { error: { code: 'format-unsupported' } }]);
    expect(filesOf(join(directory, folder))).toEqual(before);
  });
});
