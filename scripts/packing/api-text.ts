import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EMBEDDED } from './emit.ts';

interface Declaration {
  readonly kind: string;
  /** Of the comment before it. */
  readonly comment: string;
  readonly code: string;
}

/** What a package exports, as Markdown, out of the declarations that the compiler made of it: each name with its comment and its declaration. */
export function apiText(name: string, emitted: string): string {
  const index = join(emitted, name, 'dist/index.d.ts');
  // What is hidden is exported for other packages of ours.
  const exported = [...exportsOf(index, emitted)].filter(([, { comment }]) => !comment.includes('@hidden')).sort(([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));
  const parts = exported.map(([as, { kind, comment, code }]) => [`## ${as}`, '', `*${kind}*`, '', ...(comment === '' ? [] : [comment, '']), '```ts', code, '```', ''].join('\n'));
  return [`# @ashlar/${name}`, '', `${EMBEDDED[name] ?? ''}. Made from the declarations of the package.`, '', ...exported.map(([as, { kind }]) => `- [${as}](#${as.toLowerCase()}) (${kind})`), '', ...parts].join('\n');
}

/** Names with their declarations; those of other files and packages too, where they are exported again. */
function exportsOf(path: string, emitted: string): Map<string, Declaration> {
  const text = readFileSync(path, 'utf8');
  const found = declarationsOf(text);
  for (const [, star, list, from] of text.matchAll(/^export (?:type )?(?:(\*)|\{([^}]*)\}) from ['"]([^'"]+)['"];/gm)) {
    const inner = exportsOf(target(from as string, path, emitted), emitted);
    if (star !== undefined) for (const [name, declaration] of inner) found.set(name, declaration);
    for (const item of (list ?? '').split(',')) {
      const [name, as = name] = item.trim().replace(/^type /, '').split(' as ');
      if (name === undefined || name === '') continue;
      const declaration = inner.get(name);
      if (declaration === undefined) throw new Error(`${path} exports ${name} from ${from}, which has no such declaration`);
      found.set(as as string, declaration);
    }
  }
  return found;
}

function target(from: string, path: string, emitted: string): string {
  const file = from.startsWith('.') ? join(dirname(path), from.replace(/\.js$/, '.d.ts')) : join(emitted, from.replace('@ashlar/', ''), 'dist/index.d.ts');
  if (!existsSync(file)) throw new Error(`${path} exports from ${from}: ${readdirSync(dirname(file)).join(' ')} is all there is`);
  return file;
}

/** The compiler writes every declaration from the first column on, and its last line begins there too. */
function declarationsOf(text: string): Map<string, Declaration> {
  const found = new Map<string, Declaration>();
  const lines = text.split('\n');
  let comment: string[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string;
    if (line.startsWith('/**')) {
      const first = i;
      while (!(lines[i] as string).includes('*/')) i++;
      comment = lines.slice(first, i + 1);
      continue;
    }
    const [, kind, name] = /^export (?:declare )?(?:abstract )?(class|interface|type|const|function) (\w+)/.exec(line) ?? [];
    if (kind !== undefined && name !== undefined) {
      const first = i;
      while (!/[;}]$/.test(lines[i] as string) || (lines[i + 1] ?? '').startsWith(' ') || (lines[i + 1] ?? '').startsWith('}')) i++;
      const code = lines.slice(first, i + 1).filter((of) => !/^ +(?:#private|private constructor\(\));$/.test(of)).join('\n');
      found.set(name, { kind, comment: plain(comment), code: code.replace(/^export (declare )?/, '') });
    }
    comment = [];
  }
  return found;
}

function plain(comment: readonly string[]): string {
  return comment.map((line) => line.replace(/^\s*\/?\*{1,2}\/? ?/, '').replace(/ ?\*\/$/, '')).join('\n').trim();
}
