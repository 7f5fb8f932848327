import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Patch } from './patch.ts';

function git(parameters: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('git', parameters, { encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`git ${parameters.join(' ')}: ${stderr}`);
  return stdout.trim();
}

export function commitOf(revision: string): string {
  return git(['rev-parse', '--short=12', `${revision}^{commit}`]);
}

/** Names the code that a trial runs: a result counts for as long as neither it nor the patch changes. */
export function codeHash(commit: string): string {
  const hash = createHash('sha256');
  for (const line of git(['ls-tree', '-r', '--format=%(path) %(objectname)', commit, '--', 'packages']).split('\n')) {
    const path = line.split(' ')[0];
    if (/^packages\/[a-z-]+\/src\//.test(path) && !path.endsWith('.test.ts') && !path.includes('/bench/') && !path.includes('/planted/')) hash.update(`${line}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}

export function patchHash(patch: Patch): string {
  return createHash('sha256').update(patch.text).digest('hex').slice(0, 16);
}

/** There while a bug is planted: a tree in which it is found was left in the middle. */
const PLANTED = '.planted';

/** A copy of the tree as it was committed; what it depends on is shared. `kept`: one that an earlier slice has left there serves again. */
export function makeTree(commit: string, kept: string | null): string {
  const tree = kept ?? mkdtempSync(join(tmpdir(), 'ashlar-planted-'));
  if (kept !== null) {
    if (existsSync(join(kept, 'package.json')) && !existsSync(join(kept, PLANTED))) return kept;
    rmSync(kept, { recursive: true, force: true });
    mkdirSync(kept, { recursive: true });
    writeFileSync(join(kept, PLANTED), '');
  }
  const root = process.cwd();
  const unpacked = spawnSync('sh', ['-c', 'git archive "$1" | tar x -C "$2"', 'sh', commit, tree]);
  if (unpacked.status !== 0) throw new Error(`cannot unpack ${commit}: ${unpacked.stderr.toString()}`);
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  for (const part of ['test', ...readdirSync(join(tree, 'packages')).map((name) => `packages/${name}`), ...readdirSync(join(tree, 'apps')).map((name) => `apps/${name}`)]) {
    cpSync(join(root, part, 'node_modules'), join(tree, part, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  }
  rmSync(join(tree, PLANTED), { force: true });
  return tree;
}

export function removeTree(tree: string): void {
  rmSync(tree, { recursive: true, force: true });
}

export function applies(tree: string, patch: Patch): boolean {
  return spawnSync('git', ['apply', '--check', patch.path], { cwd: tree }).status === 0;
}

export function apply(tree: string, patch: Patch, how: 'plant' | 'take out'): boolean {
  writeFileSync(join(tree, PLANTED), patch.name);
  const { status } = spawnSync('git', ['apply', ...(how === 'plant' ? [] : ['--reverse']), patch.path], { cwd: tree });
  if (status === 0 && how === 'take out') rmSync(join(tree, PLANTED));
  return status === 0;
}
