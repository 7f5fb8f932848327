import { closeSync, constants, existsSync, fsync, fsyncSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Disk, DiskError, DiskFile } from '@ashlar/store';
import { assert } from '@ashlar/words';
import { Background } from './background.ts';
import { Descriptors } from './descriptors.ts';
import { attempt, diskError } from './disk-errors.ts';
import { Gauge } from './gauge.ts';
import { NodeFile, Space } from './node-file.ts';
import { StripedFile } from './striped-file.ts';

const STRIPED = /^data-/;

/** The directories (one a disk) of one copy, as the store sees them: one flat directory. Data files are striped over all by extent, the rest lies in the first. */
export class NodeDisk implements Disk {
  readonly #paths: readonly string[];
  readonly #space: Space[];
  readonly #gauges: readonly Gauge[];
  /** Opening a file has made missing parts of it: their names are not stable yet. */
  #namesUnsynced = false;
  /** Jobs in the background. */
  background = 0;

  /** `gauges`: of each directory, shared by all copies that lie there. */
  constructor(paths: readonly string[], gauges: readonly Gauge[] = paths.map((path) => new Gauge(path))) {
    assert(paths.length > 0, 'a copy has at least one directory');
    this.#paths = paths;
    this.#space = paths.map((path) => new Space(path));
    this.#gauges = gauges;
  }

  list(): readonly string[] {
    return [...new Set(this.#paths.flatMap((path) => (existsSync(path) ? readdirSync(path) : [])))].sort();
  }

  open(name: string): DiskFile | DiskError {
    // Parts that are missing although others are there were not made before a crash, or are lost: checksums tell which.
    const there = this.#indexesOf(name).map((at) => existsSync(join(this.#paths[at] as string, name)));
    if (!there.includes(true)) return { code: 'ENOENT', message: `${name} is not there` };
    if (there.includes(false)) this.#namesUnsynced = true;
    const file = this.#file(name, constants.O_RDWR | constants.O_CREAT);
    if ('code' in file || !this.#namesUnsynced) return file;
    // The store syncs directories for what it has created, not for what it opens: a power cut would take a part that was synced without its name.
    const error = this.syncDirectoryNow();
    this.#namesUnsynced = error !== null;
    if (error === null) return file;
    file.close();
    return error;
  }

  create(name: string): DiskFile | DiskError {
    return this.#file(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
  }

  #file(name: string, flags: number): DiskFile | DiskError {
    const parts: NodeFile[] = [];
    for (const at of this.#indexesOf(name)) {
      try {
        parts.push(new NodeFile(name, join(this.#paths[at] as string, name), flags, this.#space[at] as Space, this, this.#gauges[at] as Gauge));
      } catch (error) {
        for (const part of parts) part.close();
        const failed = diskError(error);
        // A file that is there already was made by an earlier life.
        if (failed.code !== 'EEXIST') this.#gauges[at]?.failed(failed);
        return failed;
      }
    }
    return parts.length === 1 ? (parts[0] as NodeFile) : new StripedFile(name, parts);
  }

  remove(name: string): DiskError | null {
    const errors = this.#indexesOf(name).map((at) => attempt(() => unlinkSync(join(this.#paths[at] as string, name))));
    const failed = errors.find((error) => error !== null && error.code !== 'ENOENT') ?? null;
    return failed ?? (errors.includes(null) ? null : (errors[0] as DiskError));
  }

  syncDirectory(done: (error: DiskError | null) => void): void {
    let left = this.#paths.length;
    let failed: DiskError | null = null;
    const one = (error: DiskError | null): void => {
      failed ??= error;
      left -= 1;
      if (left === 0) done(failed);
    };
    for (const path of this.#paths) syncPath(path, one);
  }

  syncDirectoryNow(): DiskError | null {
    for (const path of this.#paths) {
      const error = attempt(() => {
        const fd = Descriptors.ofThread.open(path, constants.O_RDONLY);
        try {
          fsyncSync(fd);
        } finally {
          closeSync(fd);
        }
      });
      if (error !== null) return error;
    }
    return null;
  }

  settle(): void {
    if (this.background > 0) Background.ofThread.settle(this);
    assert(this.background === 0, 'everything has ended');
  }

  #indexesOf(name: string): readonly number[] {
    return STRIPED.test(name) ? this.#paths.map((_, at) => at) : [0];
  }
}

function syncPath(path: string, done: (error: DiskError | null) => void): void {
  let fd: number;
  try {
    fd = Descriptors.ofThread.open(path, constants.O_RDONLY);
  } catch (error) {
    done(diskError(error));
    return;
  }
  fsync(fd, (error) => {
    closeSync(fd);
    done(error ? diskError(error) : null);
  });
}
