import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
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

/** A copy of the tree as it was committed; what it depends on is shared. */
export function makeTree(commit: string): string {
  const tree = mkdtempSync(join(tmpdir(), 'ashlar-planted-'));
  const root = process.cwd();
  const unpacked = spawnSync('sh', ['-c', 'git archive "$1" | tar x -C "$2"', 'sh', commit, tree]);
  if (unpacked.status !== 0) throw new Error(`cannot unpack ${commit}: ${unpacked.stderr.toString()}`);
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  for (const part of ['test', ...readdirSync(join(tree, 'packages')).map((name) => `packages/${name}`), ...readdirSync(join(tree, 'apps')).map((name) => `apps/${name}`)]) {
    cpSync(join(root, part, 'node_modules'), join(tree, part, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  }
  return tree;
}

export function removeTree(tree: string): void {
  rmSync(tree, { recursive: true, force: true });
}

export function applies(tree: string, patch: Patch): boolean {
  return spawnSync('git', ['apply', '--check', patch.path], { cwd: tree }).status === 0;
}

export function apply(tree: string, patch: Patch, how: 'plant' | 'take out'): boolean {
  return spawnSync('git', ['apply', ...(how === 'plant' ? [] : ['--reverse']), patch.path], { cwd: tree }).status === 0;
}
