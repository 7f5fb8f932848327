import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { unpack } from './packed.ts';

const ROOT = join(import.meta.dirname, '../../..');
/** What a process of a site runs, in each build. */
const CHILD = 'packages/site/src/child.ts';

export const THIS_BUILD = join(ROOT, CHILD);

/**
 * Unpacks the sources of an earlier version (fixtures/make-build-main.ts), and answers with what its processes run. Packages from outside are those of
 * this tree.
 */
export function earlierBuild(name: string, into: string): string {
  unpack(join(import.meta.dirname, `../fixtures/build-${name}.tar.br`), into);
  const packages = join(into, 'packages');
  for (const each of readdirSync(packages)) {
    const { dependencies = {} } = JSON.parse(readFileSync(join(packages, each, 'package.json'), 'utf8')) as { dependencies?: Readonly<Record<string, string>> };
    for (const dependency of Object.keys(dependencies)) {
      const link = join(packages, each, 'node_modules', dependency);
      const own = dependency.startsWith('@ashlar/') ? join(packages, dependency.slice('@ashlar/'.length)) : outside(each, dependency);
      if (!existsSync(own)) continue; // nothing that a site's processes load
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(own, link);
    }
  }
  return join(into, CHILD);
}

function outside(user: string, dependency: string): string {
  return realpathSync(join(ROOT, 'packages', user, 'node_modules', dependency));
}
