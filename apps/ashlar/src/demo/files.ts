import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** SHA-256 by path, relative to the folder. */
export type Sums = ReadonlyMap<string, string>;

export async function sumsOf(folder: string): Promise<Sums> {
  const sums = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    sums.set(relative(folder, path), await sumOf(path));
  }
  return sums;
}

export async function sumOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Paths whose file is not there or is another one. */
export function differences(wanted: Sums, found: Sums): string[] {
  return [...wanted].filter(([path, sum]) => found.get(path) !== sum).map(([path]) => path);
}

export interface Written {
  readonly sums: Sums;
  readonly bytes: number;
  readonly longestGapMs: number;
  readonly usualGapMs: number;
}

const FILE_BYTES = 192 * 1024;

/** Writes files one after the other, each synced before the next, until it is told to stop; measures how long each took. */
export class Writer {
  readonly #folder: string;
  readonly #sums = new Map<string, string>();
  readonly #gaps: number[] = [];
  #stopping = false;
  #running: Promise<void> = Promise.resolve();
  #failed: unknown = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  start(): void {
    this.#running = this.#run().catch((error: unknown) => { this.#failed = error; });
  }

  get count(): number { return this.#sums.size; }

  async stop(): Promise<Written> {
    this.#stopping = true;
    await this.#running;
    if (this.#failed !== null) throw this.#failed;
    const sorted = [...this.#gaps].sort((a, b) => a - b);
    return { sums: this.#sums, bytes: this.#sums.size * FILE_BYTES, longestGapMs: sorted.at(-1) ?? 0, usualGapMs: sorted[sorted.length >> 1] ?? 0 };
  }

  async #run(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    for (let i = 0; !this.#stopping; i++) {
      const name = `file-${i}`;
      const bytes = randomBytes(FILE_BYTES);
      const startedMs = performance.now();
      const file = await open(join(this.#folder, name), 'wx');
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      this.#gaps.push(performance.now() - startedMs);
      this.#sums.set(name, createHash('sha256').update(bytes).digest('hex'));
    }
  }
}
