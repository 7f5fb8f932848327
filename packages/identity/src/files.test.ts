import type * as Fs from 'node:fs';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { replaceFile } from './files.ts';

const steps = vi.hoisted((): string[] => []);

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>();
  return {
    ...fs,
    renameSync(from: string, to: string): void {
      fs.renameSync(from, to);
      steps.push(`rename ${basename(to)}`);
    },
    fsyncSync(fd: number): void {
      fs.fsyncSync(fd);
      steps.push(`sync ${basename(fs.readlinkSync(`/proc/self/fd/${fd}`))}`);
    },
  };
});

test('a file that was replaced is there to stay: its name is synced as well', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ashlar-files-'));
  const path = join(directory, 'identity', 'joining.json');
  replaceFile(path, 'one');
  replaceFile(path, 'two');
  expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual(['two', 0o600]);
  expect(steps).toEqual(['rename joining.json', 'sync identity', 'rename joining.json', 'sync identity']);
  rmSync(directory, { recursive: true });
});
