import { closeSync, fstatSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Changes one byte in the middle of the largest file of data below a folder, in a place that is not zero; returns what it changed. */
export function flipByte(folder: string): string {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /data/.test(entry.name)).map((entry) => join(entry.parentPath, entry.name));
  for (const path of files) {
    const file = openSync(path, 'r+');
    try {
      const offset = firstWritten(file);
      if (offset === null) continue;
      const byte = new Uint8Array(1);
      readSync(file, byte, 0, 1, offset);
      byte[0] = (byte[0] as number) ^ 0x10;
      writeSync(file, byte, 0, 1, offset);
      return `byte ${offset} of ${path.slice(folder.length + 1)}`;
    } finally {
      closeSync(file);
    }
  }
  throw new Error(`no data under ${folder}`);
}

function firstWritten(file: number): number | null {
  const chunk = new Uint8Array(2 ** 20);
  for (let offset = 0; offset < fstatSync(file).size; offset += chunk.length) {
    const length = readSync(file, chunk, 0, chunk.length, offset);
    for (let i = 2048; i < length; i += 4096) if (chunk[i] !== 0) return offset + i;
  }
  return null;
}
