import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serverId, volumeId } from '@ashlar/words';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Directories } from './directories.ts';

const SERVER = serverId('server-a');
const VOLUME = volumeId('vol-0123456789abcdef0');
const OTHER = volumeId('vol-0123456789abcdef1');
let root = '';
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'ashlar-directories-')); });
afterEach(() => rmSync(root, { recursive: true, force: true }));

function opened(): Directories {
  return Directories.open(SERVER, [join(root, 'a'), join(root, 'b')], (what, error) => { throw new Error(what, { cause: error }); });
}

function namesIn(disk: string): readonly string[] { return readdirSync(join(root, disk, 'copies')); }

function fill(directories: Directories, id: typeof VOLUME): void {
  // Of several pieces, and one without blocks.
  for (const path of directories.copyPaths(id)) {
    writeFileSync(join(path, 'data-0000'), Buffer.alloc(9 * 2 ** 20, 1));
    writeFileSync(join(path, 'empty'), '');
  }
}

describe('a copy that is removed', () => {
  test('is gone at once, cannot come back when that is told, and leaves nothing', async () => {
    const directories = opened();
    fill(directories, VOLUME);
    fill(directories, OTHER);
    const told = new Promise<void>((resolve) => { directories.remove(VOLUME, resolve); });
    expect(directories.volumeIds()).toEqual([OTHER]);
    expect(directories.holds(VOLUME)).toBe(false);
    await told;
    await directories.emptied();
    expect([namesIn('a'), namesIn('b')]).toEqual([[OTHER], [OTHER]]);
    expect(readdirSync(join(root, 'a', 'copies', OTHER)).sort()).toEqual(['data-0000', 'empty']);
  });

  test('makes room for another of the same volume meanwhile', async () => {
    const directories = opened();
    fill(directories, VOLUME);
    directories.remove(VOLUME);
    fill(directories, VOLUME);
    await directories.emptied();
    expect(directories.volumeIds()).toEqual([VOLUME]);
    expect(existsSync(join(root, 'b', 'copies', VOLUME, 'data-0000'))).toBe(true);
  });

  test('is given back by the next process if this one ends before', async () => {
    opened();
    const left = join(root, 'b', 'copies', `gone-${VOLUME}-1`);
    mkdirSync(left);
    writeFileSync(join(left, 'data-0000'), 'x');
    const directories = opened();
    expect(directories.volumeIds()).toEqual([]);
    await directories.emptied();
    expect(namesIn('b')).toEqual([]);
  });

  test('one that is not there is told at once', async () => {
    const directories = opened();
    await new Promise<void>((resolve) => { directories.remove(VOLUME, resolve); });
    await directories.emptied();
    expect([namesIn('a'), namesIn('b')]).toEqual([[], []]);
  });
});
