import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readModules, violations } from './import-rules.ts';
import { importsOf } from './import-scanner.ts';

const ROOT = join(import.meta.dirname, '../..');

describe('import rules', () => {
  it('hold in the tree', () => {
    const modules = readModules(ROOT);
    expect(modules.length).toBeGreaterThan(20);
    expect(violations(modules)).toEqual([]);
  });

  it('are broken by a tree without modules', () => {
    expect(violations([])).toHaveLength(1);
  });
});

describe('a violation planted in a copy of the tree', () => {
  const copy = mkdtempSync(join(tmpdir(), 'ashlar-arch-'));
  afterAll(() => rmSync(copy, { recursive: true }));
  const filter = (source: string): boolean => !source.includes('node_modules');
  cpSync(join(ROOT, 'packages/words'), join(copy, 'packages/words'), { recursive: true, filter });
  cpSync(join(ROOT, 'packages/protocol'), join(copy, 'packages/protocol'), { recursive: true, filter });

  it.each([
    ['packages/replication/src/planted.ts', "import { checksum } from '@ashlar/store';", 'do not see each other'],
    ['packages/replication/src/planted.ts', "import type { Disk } from '@ashlar/store';", 'do not see each other'],
    ['packages/words/src/planted.ts', "export * from '@ashlar/protocol';", 'in a circle'],
    ['packages/store/src/planted.ts', "const later = import('@ashlar/runtime');", 'does not see layer 3'],
    ['packages/store/src/planted.ts', "import { readFileSync } from 'node:fs';", 'no input or output'],
    ['packages/store/src/planted.ts', "import fs from 'fs';", 'no input or output'],
    ['packages/control/src/core/planted.ts', "import { createHash } from 'node:crypto';", 'no input or output'],
    ['packages/control/src/core/planted.ts', "import { open } from '../store/sqlite.ts';", 'wired around it'],
    ['packages/control/src/core/planted.ts', "import { Runtime } from '@ashlar/runtime';", 'does not see layer 3'],
    ['packages/storage/src/planted.ts', "import { up } from '@ashlar/ashlar';", 'nobody imports an app'],
    ['packages/storage/src/planted.ts', "import { Attachment } from '@ashlar/host';", 'do not see each other'],
    ['packages/storage/src/planted.ts', "import { World } from '@ashlar/simulator';", 'development package'],
    ['packages/storage/src/planted.ts', "import { x } from '../../words/src/ids.ts';", 'stays inside its package'],
    ['packages/storage/src/planted.ts', "import { x } from '@ashlar/words/src/ids.ts';", 'by their name alone'],
    ['packages/storage/src/planted.ts', "import { BUILD } from '@ashlar/runtime/build';", 'by their name alone'],
    ['packages/unheard-of/src/planted.ts', "import { x } from '@ashlar/words';", 'in no layer'],
  ])('is found: %s: %s', (path, text, breach) => {
    const planted = join(copy, path);
    mkdirSync(dirname(planted), { recursive: true });
    expect(violations(readModules(copy))).toEqual([]);
    writeFileSync(planted, `${text}\n`);
    const found = violations(readModules(copy));
    rmSync(planted);
    expect(found.join('\n')).toContain(breach);
  });
});

describe('the import scanner', () => {
  it.each<readonly [string, readonly string[]]>([
    ["import { a, type B as C } from 'x'", ['x']],
    ["import d, * as all from \"x\"", ['x']],
    ["import 'x'; import type { T } from 'y'", ['x', 'y']],
    ["import {\n  from,\n} from 'x'", ['x']],
    ["export * as n from 'x'; export type { T } from 'y'; export { a }", ['x', 'y']],
    ["export const from = 'x'", []],
    ["new Worker(new URL('./worker.ts', import.meta.url))", ['./worker.ts']],
    ["const m = await import('x')", ['x']],
    ["// import 'x'\n/* import 'y' */ const s = \"import 'z'\"", []],
    ["const t = `${a ? `import 'x'` : import('y')} import 'z'`", ['y']],
    ["const r = /import 'x'[/'\"]/; import 'y'", ['y']],
    ["const q = a / b; import 'y'; const r = c / d", ['y']],
    ["const p = import.meta.dirname", []],
  ])('%s', (source, names) => {
    expect(importsOf(source)).toEqual(names);
  });
});
