import { join } from 'node:path';
import type { Patch } from './patch.ts';
import { command } from './trial.ts';
import { apply, makeTree, removeTree } from './tree.ts';

/**
 * A bug that the compiler sees is none. As many patches as do not touch the same lines are planted at once: an error is in a file that one of
 * them changes. Returns the errors that the tree without them does not have.
 */
export async function typeErrorsOf(patches: readonly Patch[], commit: string): Promise<string[]> {
  const sound = makeTree(commit, null);
  const found: string[] = [];
  try {
    const known = new Set(await typeErrors(sound));
    for (let left = patches; left.length > 0;) {
      const tree = makeTree(commit, null);
      try {
        const rest = left.filter((patch) => !apply(tree, patch, 'plant'));
        if (rest.length === left.length) return [...found, ...rest.map((patch) => `${patch.name} does not apply`)];
        found.push(...(await typeErrors(tree)).filter((error) => !known.has(error)));
        left = rest;
      } finally {
        removeTree(tree);
      }
    }
  } finally {
    removeTree(sound);
  }
  return found;
}

async function typeErrors(tree: string): Promise<string[]> {
  const errors: string[] = [];
  for (const project of ['tsconfig.json', 'tsconfig.cores.json']) {
    const { status, output } = await command(tree, join(tree, 'node_modules/.bin/tsc'), ['-p', project, '--pretty', 'false'], 300);
    if (status === null) throw new Error(`types of ${project} took too long`);
    errors.push(...output.split('\n').filter((line) => line.includes('error TS')));
  }
  return errors;
}
