import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { manifests, read, ROOT, treeFiles, type Manifest } from './tree.ts';

const LINES_MAX = 700;
const TEXT = /\.(ts|js|mjs|json|md|yaml|yml|sh|py|proto|patch)$|(^|\/)(run|LICENSE)$/;

const files = treeFiles();
const packages = manifests().filter(({ path }) => /^(packages|apps)\//.test(path));

/** All dependencies of a package that come from outside the workspace, with the version asked for. */
function outside(manifest: Manifest): readonly (readonly [string, string])[] {
  return [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies]
    .flatMap((list) => Object.entries(list ?? {}))
    .filter(([, version]) => !version.startsWith('workspace:'));
}

describe('the tree', () => {
  it('is seen at all', () => {
    expect(files.length).toBeGreaterThan(40);
    expect(packages.length).toBeGreaterThan(10);
  });

  it(`has no source file over ${LINES_MAX} lines`, () => {
    const long = files.filter((path) => path.endsWith('.ts')).map((path) => [path, read(path).split('\n').length - 1] as const);
    expect(long.filter(([, lines]) => lines > LINES_MAX)).toEqual([]);
  });

  it('names no folder of the machine it was written on, and no registry', () => {
    // Written so that this file does not match itself.
    const banned = [/\.\.\/share[d]\b/, /(?<![\w.$}{])\/wor[k]\//, /(?<![\w.])\/roo[t]\//, /(?<![\w.])\/home\/[a-z]/, /registry\.[a-z.]+\.(?:org|com|net|io)/i];
    const found = files.filter((path) => TEXT.test(path)).flatMap((path) => {
      const text = read(path);
      return banned.filter((pattern) => pattern.test(text)).map((pattern) => `${path}: ${pattern.exec(text)?.[0]}`);
    });
    expect(found).toEqual([]);
  });

  it('leaves nothing for later in a comment, and skips no test', () => {
    const banned = [/\b(?:TODO|FIXME|XXX|HACK)\b/, /\b(?:it|test|describe)\.(?:skip|todo|only)\b/, /@ts-(?:ignore|expect-error|nocheck)/, /(?:eslint|oxlint)-disable(?!-next-line )/];
    const found = files.filter((path) => path.endsWith('.ts') && path !== 'test/arch/tidy.test.ts').flatMap((path) => {
      const text = read(path);
      return banned.filter((pattern) => pattern.test(text)).map((pattern) => `${path}: ${pattern.exec(text)?.[0]}`);
    });
    expect(found).toEqual([]);
  });

  it('turns a lint rule off only for one line, with a reason', () => {
    const found = files.filter((path) => path.endsWith('.ts') && path !== 'test/arch/tidy.test.ts').flatMap((path) =>
      read(path).split('\n').filter((line) => /(?:eslint|oxlint)-disable/.test(line) && !/-disable-next-line \S.* -- \S/.test(line)).map((line) => `${path}: ${line.trim()}`));
    expect(found).toEqual([]);
  });
});

describe('packages', () => {
  it('have a README, the licence and an index', () => {
    const missing = packages.flatMap(({ path, manifest }) => {
      const folder = dirname(path);
      const wanted = manifest.name === '@ashlar/ashlar' ? ['README.md'] : ['README.md', 'src/index.ts'];
      return [
        ...wanted.filter((name) => !existsSync(join(ROOT, folder, name))).map((name) => `${folder}/${name} is missing`),
        ...(manifest.license === 'Apache-2.0' ? [] : [`${path}: licence is not Apache-2.0`]),
      ];
    });
    expect(missing).toEqual([]);
  });

  it('pin what they depend on, each with a line in docs/DEPENDENCIES.md', () => {
    const listed = read('docs/DEPENDENCIES.md');
    const found = manifests().flatMap(({ path, manifest }) => outside(manifest).flatMap(([name, version]) => [
      ...(/^(npm:.+@)?\d+\.\d+\.\d+([-.+][\w.]+)?$/.test(version) ? [] : [`${path}: ${name}@${version} is not pinned`]),
      ...(listed.includes(`| \`${name}\` |`) ? [] : [`docs/DEPENDENCIES.md has no line for ${name} (${path})`]),
    ]));
    expect(found).toEqual([]);
  });

  it('use one version of a dependency', () => {
    const versions = new Map<string, Set<string>>();
    for (const { manifest } of manifests()) {
      for (const [name, version] of outside(manifest)) versions.set(name, (versions.get(name) ?? new Set()).add(version));
    }
    expect([...versions].filter(([, seen]) => seen.size > 1).map(([name]) => name)).toEqual([]);
  });
});

describe('the README', () => {
  it('names only commands that exist', () => {
    const scripts = Object.keys(manifests().find(({ path }) => path === 'package.json')?.manifest.scripts ?? {});
    const named = [...read('README.md').matchAll(/^(?:npx -y pnpm@12|pnpm) ([a-z][a-z-]*)/gm)].map((match) => match[1] as string);
    expect(named.length).toBeGreaterThan(1);
    expect(named.filter((name) => name !== 'install' && !scripts.includes(name))).toEqual([]);
  });
});
