import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD_VERSION } from '@ashlar/words';
import { ROOT } from './command.ts';

/** A copy of the program that can be replaced by a newer version while it runs, as a package manager does it. */
export class ProgramTree {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
    for (const part of ['packages', 'apps', 'package.json']) cpSync(join(ROOT, part), join(directory, part), { recursive: true, verbatimSymlinks: true });
    symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  }

  get main(): string { return join(this.#directory, 'apps/ashlar/src/main.ts'); }

  /** Processes that start from now on are of the version that is returned. The code is the same: what is measured is the replacing. */
  replace(): string {
    const [major, minor, patch] = BUILD_VERSION.split('.').map(Number);
    const newer = `${major}.${minor}.${(patch ?? 0) + 1}`;
    const path = join(this.#directory, 'packages/words/src/build.ts');
    writeFileSync(path, readFileSync(path, 'utf8').replace(BUILD_VERSION, newer));
    return newer;
  }
}
