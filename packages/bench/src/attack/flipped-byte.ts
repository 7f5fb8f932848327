import { closeSync, fstatSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** A block whose newest bytes are still in the journal hides what its place in the extents holds; of so many blocks far apart not all are. */
const PLACES = 16;

/** Changes one byte in each of a few blocks, far apart, of the files of data below a folder; returns what it changed. */
export function flipBytes(folder: string): string {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /data/.test(entry.name)).map((entry) => join(entry.parentPath, entry.name));
  let flipped = 0;
  for (const path of files) {
    const file = openSync(path, 'r+');
    try {
      const { size } = fstatSync(file);
      for (let place = 0; place < PLACES; place++) {
        const offset = firstWritten(file, Math.floor((size * place) / PLACES / 4096) * 4096);
        if (offset !== null && flip(file, offset)) flipped++;
      }
    } finally {
      closeSync(file);
    }
  }
  if (flipped === 0) throw new Error(`no data under ${folder}`);
  return `one byte in each of ${flipped} blocks`;
}

function flip(file: number, offset: number): boolean {
  const byte = new Uint8Array(1);
  readSync(file, byte, 0, 1, offset);
  byte[0] = (byte[0] as number) ^ 0x10;
  return writeSync(file, byte, 0, 1, offset) === 1;
}

function firstWritten(file: number, from: number): number | null {
  const chunk = new Uint8Array(2 ** 20);
  for (let offset = from; offset < fstatSync(file).size; offset += chunk.length) {
    const length = readSync(file, chunk, 0, chunk.length, offset);
    for (let i = 2048; i < length; i += 4096) if (chunk[i] !== 0) return offset + i;
  }
  return null;
}
