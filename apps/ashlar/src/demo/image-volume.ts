import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, open, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import type { DemoVolume } from './demo-volume.ts';
import { sumOf, sumsOf, type Written } from './files.ts';
import { tool } from './tools.ts';

const IMAGE_BYTES = 128 * 2 ** 20;
const PIECE_BYTES = 192 * 1024;
const READ_BYTES = 2 ** 20;

/**
 * Where nothing may be mounted: an ext4 image with files on it is made beside the volume and written to it with our own NBD client, and
 * more pieces behind it. Read back, the image must be the same and its file system clean.
 */
export class ImageVolume implements DemoVolume {
  readonly client = 'our own NBD client, in TypeScript';
  readonly #nbd: string;
  readonly #directory: string;
  readonly #source: string;
  readonly #ext4: boolean;
  /** SHA-256 of each piece behind the image. */
  readonly #pieces: string[] = [];
  #imageSum = '';
  #files = 0;
  #stopping = false;
  #running: Promise<void> = Promise.resolve();
  #failed: unknown = null;
  #gaps: number[] = [];
  #first = 0;

  constructor(nbd: string, directory: string, source: string, ext4: boolean) {
    this.#nbd = nbd;
    this.#directory = directory;
    this.#source = source;
    this.#ext4 = ext4;
  }

  get written(): number { return this.#pieces.length - this.#first; }

  async fill(): Promise<number> {
    const image = join(this.#directory, 'image');
    const folder = join(this.#directory, 'sources');
    await mkdir(folder, { recursive: true });
    for (const part of ['apps', 'packages', 'docs']) await cp(join(this.#source, part), join(folder, part), { recursive: true, filter: (path) => !path.includes('node_modules') });
    this.#files = (await sumsOf(folder)).size;
    if (this.#ext4) {
      await writeFile(image, '');
      await truncate(image, IMAGE_BYTES);
      await tool('mkfs.ext4', '-q', '-F', '-d', folder, image);
    } else {
      // No file system can be made here: bytes that could be one.
      await writeFile(image, randomBytes(IMAGE_BYTES / 4));
      await truncate(image, IMAGE_BYTES);
    }
    this.#imageSum = await sumOf(image);
    const client = await NbdClient.connect(this.#nbd);
    const file = await open(image);
    const zeros = Buffer.alloc(READ_BYTES);
    for (let at = 0; at < IMAGE_BYTES; at += READ_BYTES) {
      const bytes = Buffer.alloc(READ_BYTES);
      await file.read(bytes, 0, READ_BYTES, at);
      if (!bytes.equals(zeros)) await client.write(at, bytes);
    }
    await client.flush();
    await client.close();
    await file.close();
    return this.#files;
  }

  startWriting(): void {
    this.#stopping = false;
    this.#first = this.#pieces.length;
    this.#gaps = [];
    this.#running = this.#write().catch((error: unknown) => { this.#failed = error; });
  }

  async #write(): Promise<void> {
    const client = await NbdClient.connect(this.#nbd);
    const room = Math.floor((client.sizeBytes - IMAGE_BYTES) / PIECE_BYTES);
    while (!this.#stopping && this.#pieces.length < room) {
      const bytes = randomBytes(PIECE_BYTES);
      const startedMs = performance.now();
      await client.write(IMAGE_BYTES + this.#pieces.length * PIECE_BYTES, bytes);
      await client.flush();
      this.#gaps.push(performance.now() - startedMs);
      this.#pieces.push(createHash('sha256').update(bytes).digest('hex'));
    }
    await client.close();
  }

  async stopWriting(): Promise<Written> {
    this.#stopping = true;
    await this.#running;
    if (this.#failed !== null) throw this.#failed;
    const sorted = [...this.#gaps].sort((a, b) => a - b);
    return { sums: new Map(), bytes: this.written * PIECE_BYTES, longestGapMs: sorted.at(-1) ?? 0, usualGapMs: sorted[sorted.length >> 1] ?? 0 };
  }

  async check(): Promise<number> {
    const client = await NbdClient.connect(this.#nbd);
    const copy = join(this.#directory, 'image-read-back');
    const file = await open(copy, 'w');
    for (let at = 0; at < IMAGE_BYTES; at += READ_BYTES) await file.write(await client.read(at, READ_BYTES), 0, READ_BYTES, at);
    await file.close();
    if (await sumOf(copy) !== this.#imageSum) throw new Error('the image is not what was written');
    if (this.#ext4) await tool('e2fsck', '-f', '-n', copy);
    for (const [i, sum] of this.#pieces.entries()) {
      const found = createHash('sha256').update(await client.read(IMAGE_BYTES + i * PIECE_BYTES, PIECE_BYTES)).digest('hex');
      if (found !== sum) throw new Error(`piece ${i} is not what was written`);
    }
    await client.close();
    await rm(copy);
    return this.#files + this.#pieces.length;
  }

  async close(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }
}
