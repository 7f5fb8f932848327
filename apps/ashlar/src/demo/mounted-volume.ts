import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { background, tool } from './tools.ts';

const WAIT_MS = 10_000;

/** A volume as a mounted ext4 file system: nbdfuse makes a file of it, a loop device a disk of the file. */
export class MountedVolume {
  readonly folder: string;
  readonly #fuse: string;
  readonly #client: ChildProcess;
  readonly #device: string;

  private constructor(folder: string, fuse: string, client: ChildProcess, device: string) {
    this.folder = folder;
    this.#fuse = fuse;
    this.#client = client;
    this.#device = device;
  }

  /** `format`: make the file system first. */
  static async mount(nbd: string, directory: string, format: boolean): Promise<MountedVolume> {
    const fuse = join(directory, 'fuse');
    const folder = join(directory, 'files');
    for (const path of [fuse, folder]) mkdirSync(path, { recursive: true });
    const disk = join(fuse, 'disk');
    const client = background('nbdfuse', disk, nbd);
    try {
      await until(() => existsSync(disk) && statSync(disk).size > 0, `nbdfuse does not show ${nbd}`);
      const device = await tool('losetup', '--find', '--show', disk);
      if (format) await tool('mkfs.ext4', '-q', '-E', 'nodiscard', device);
      await tool('mount', '-t', 'ext4', device, folder);
      return new MountedVolume(folder, fuse, client, device);
    } catch (error) {
      client.kill('SIGKILL');
      throw error;
    }
  }

  /** Takes everything down in order, so that nothing is left in a cache of this machine; the file system is checked on the way. */
  async unmount(): Promise<void> {
    await tool('umount', this.folder);
    await tool('e2fsck', '-f', '-n', this.#device);
    await tool('losetup', '--detach', this.#device);
    const ended = new Promise<void>((resolve) => this.#client.once('exit', () => resolve()));
    await tool('fusermount3', '-u', this.#fuse);
    await ended;
  }

  /** After a failure: whatever is left goes. */
  async abandon(): Promise<void> {
    for (const [name, ...args] of [['umount', '-l', this.folder], ['losetup', '--detach', this.#device], ['fusermount3', '-u', '-z', this.#fuse]] as const) {
      // Each may be gone already; the failure that brought us here is the one to be told.
      await tool(name, ...args).catch(() => '');
    }
    this.#client.kill('SIGKILL');
  }
}

async function until(condition: () => boolean, complaint: string): Promise<void> {
  for (const endMs = performance.now() + WAIT_MS; !condition();) {
    if (performance.now() >= endMs) throw new Error(complaint);
    await delay(50);
  }
}
