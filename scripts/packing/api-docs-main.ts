/**
 * `pnpm api-docs`: the API of the packages that programs embed, as Markdown. Each is packed with its package too (API.md), and so never older than it.
 *
 *     pnpm api-docs [--out DIRECTORY]     default: dist/api
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { apiText } from './api-text.ts';
import { closure, EMBEDDED, emit, ROOT } from './emit.ts';

const { values: { out } } = parseArgs({ options: { out: { type: 'string', default: join(ROOT, 'dist/api') } } });
const work = mkdtempSync(join(tmpdir(), 'ashlar-api-'));
try {
  const emitted = await emit(closure(Object.keys(EMBEDDED)), work);
  mkdirSync(out, { recursive: true });
  for (const name of Object.keys(EMBEDDED)) {
    const path = join(out, `${name}.md`);
    writeFileSync(path, apiText(name, emitted));
    console.log(path);
  }
} finally {
  rmSync(work, { recursive: true });
}
