import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { differences, sumOf, sumsOf, Writer, type Sums, type Written } from './files.ts';
import { MountedVolume } from './mounted-volume.ts';

/** What the demo does with its volume, however the volume is reached. */
export interface DemoVolume {
  /** How it is reached, for people. */
  readonly client: string;
  /** Puts files on it; resolves with how many. */
  fill(): Promise<number>;
  startWriting(): void;
  /** Pieces written and synced so far. */
  readonly written: number;
  stopWriting(): Promise<Written>;
  /** Reads everything back through new connections; resolves with how many files are right, throws if one is not. */
  check(): Promise<number>;
  close(): Promise<void>;
}

/** A real ext4 in the kernel, with this source tree on it. */
export class KernelVolume implements DemoVolume {
  readonly client = 'nbdfuse, a loop device and the kernel’s ext4';
  readonly #nbd: string;
  readonly #directory: string;
  readonly #source: string;
  readonly #wanted = new Map<string, Sums>();
  #mounted: MountedVolume | null = null;
  #writer: Writer | null = null;
  #runs = 0;

  constructor(nbd: string, directory: string, source: string) {
    this.#nbd = nbd;
    this.#directory = directory;
    this.#source = source;
  }

  get written(): number { return this.#writer?.count ?? 0; }

  async fill(): Promise<number> {
    const { folder } = await this.#mount(true);
    const copied = join(folder, 'sources');
    await mkdir(copied);
    for (const part of ['apps', 'packages', 'docs', 'scripts', 'test']) {
      await cp(join(this.#source, part), join(copied, part), { recursive: true, filter: (path) => !path.includes('node_modules') });
    }
    const sums = await sumsOf(copied);
    // What the originals are, so that a file that went wrong on its way in is noticed as well.
    for (const [path, sum] of sums) if (await sumOf(join(this.#source, path)) !== sum) throw new Error(`${path} is not what was copied`);
    this.#wanted.set('sources', sums);
    return sums.size;
  }

  startWriting(): void {
    if (!this.#mounted) throw new Error('not mounted');
    const name = `written-${++this.#runs}`;
    this.#writer = new Writer(join(this.#mounted.folder, name));
    this.#writer.start();
  }

  async stopWriting(): Promise<Written> {
    if (!this.#writer) throw new Error('nothing is being written');
    const written = await this.#writer.stop();
    this.#wanted.set(`written-${this.#runs}`, written.sums);
    return written;
  }

  async check(): Promise<number> {
    await this.#mounted?.unmount();
    this.#mounted = null;
    const { folder } = await this.#mount(false);
    let right = 0;
    for (const [name, wanted] of this.#wanted) {
      const wrong = differences(wanted, await sumsOf(join(folder, name)));
      if (wrong.length > 0) throw new Error(`${wrong.length} files of ${name} are not what was written: ${wrong.slice(0, 5).join(', ')}`);
      right += wanted.size;
    }
    return right;
  }

  async close(): Promise<void> {
    const mounted = this.#mounted;
    this.#mounted = null;
    if (!mounted) return;
    await mounted.unmount().catch(async (error: unknown) => {
      await mounted.abandon();
      throw error;
    });
  }

  async #mount(format: boolean): Promise<MountedVolume> {
    this.#mounted = await MountedVolume.mount(this.#nbd, this.#directory, format);
    return this.#mounted;
  }
}
