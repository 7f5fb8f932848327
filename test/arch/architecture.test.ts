import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { read, ROOT } from './tree.ts';

/** `packages/x/src/y.ts` · `symbol`: how docs/ARCHITECTURE.md points into the code. */
const POINTER = /`((?:packages|apps|test|scripts)\/[\w./-]+\.ts)` · `([\w$.#]+)(?:\(\))?`/g;

interface Pointer {
  readonly file: string;
  readonly symbol: string;
}

function pointers(text: string): readonly Pointer[] {
  return [...text.matchAll(POINTER)].map((match) => ({ file: match[1] as string, symbol: match[2] as string }));
}

function section(text: string, heading: string): string {
  const start = text.indexOf(`\n## ${heading}\n`);
  const end = text.indexOf('\n## ', start + 1);
  return start === -1 ? '' : text.slice(start, end === -1 ? undefined : end);
}

/** Whether the file declares the symbol: a function, class, constant, type, or a member such as `Class.method`. */
function declares(source: string, symbol: string): boolean {
  return symbol.split('.').every((name) => {
    const escaped = name.replace('$', '\\$');
    const declared = new RegExp(`\\b(?:function\\*?|class|const|let|interface|type)\\s+${escaped}\\b`);
    const member = new RegExp(`^\\s+(?:(?:private|public|protected|static|readonly|override|async|get|set)\\s+)*${escaped}\\s*(?:[(<:=?]|$)`, 'm');
    return declared.test(source) || member.test(source);
  });
}

function broken(list: readonly Pointer[]): readonly string[] {
  return list
    .filter(({ file, symbol }) => !existsSync(join(ROOT, file)) || !declares(read(file), symbol))
    .map(({ file, symbol }) => `${file} does not declare ${symbol}`);
}

describe('docs/ARCHITECTURE.md', () => {
  const text = read('docs/ARCHITECTURE.md');

  it.each(['The path of a write', 'The path of a read'])('"%s" names file and symbol at each step', (heading) => {
    const steps = section(text, heading).split('\n').filter((line) => /^\d+\. /.test(line));
    expect(steps.length).toBeGreaterThanOrEqual(5);
    expect(steps.filter((step) => pointers(step).length === 0)).toEqual([]);
  });

  it('points at what exists', () => {
    expect(broken(pointers(text))).toEqual([]);
  });

  it('is checked by something that notices what does not exist', () => {
    expect(broken([
      { file: 'packages/words/src/assert.ts', symbol: 'assert' },
      { file: 'packages/protocol/src/frame.ts', symbol: 'Frame.seal' },
      { file: 'packages/words/src/assert.ts', symbol: 'asserted' },
      { file: 'packages/words/src/gone.ts', symbol: 'assert' },
    ])).toEqual(['packages/words/src/assert.ts does not declare asserted', 'packages/words/src/gone.ts does not declare assert']);
  });
});
