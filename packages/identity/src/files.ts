import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { AshlarError } from '@ashlar/words';

/** Whole or not at all, also if the machine stops in the middle, and there to stay when it returns; readable by its owner alone. */
export function replaceFile(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
  // Others go by it from now on: a key that is forgotten after its joining was answered would cost the machine its secret.
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

export function readIfThere(path: string): string | null {
  return existsSync(path) ? readFileSync(path, 'utf8') : null;
}

/** The blocks of a PEM file with this label, in their order. */
export function pemBlocks(text: string, label: string): readonly string[] {
  return [...text.matchAll(new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----`, 'g'))].map(([block]) => `${block}\n`);
}

export function damaged(path: string, what: string): AshlarError {
  return new AshlarError('corrupt', `${path} is damaged: ${what}`, { path });
}
