/**
 * Finds the modules that a TypeScript source names: static and dynamic imports, re-exports, `new URL('./x.ts', import.meta.url)`.
 * Types count as well: a layer that knows the types of the one above it is not below it. Reads tokens, so that what
 * stands in comments, strings and templates does not count. (TypeScript 7 has no JS API to ask.)
 */
export function importsOf(source: string): readonly string[] {
  const tokens = tokenize(source);
  const found: string[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const text = tokens[i] as string;
    if (text === 'import' && tokens[i - 1] !== '.') collect(found, importedAt(tokens, i));
    if (text === 'export') collect(found, reExportedAt(tokens, i));
    if (text === 'URL' && tokens[i + 1] === '(') collect(found, literal(tokens[i + 2]));
    if (text === 'require' && tokens[i + 1] === '(') collect(found, literal(tokens[i + 2]));
  }
  return found;
}

function collect(found: string[], name: string | null): void {
  if (name !== null) found.push(name);
}

/** `import 'x'`, `import('x')`, `import … from 'x'`; nothing for `import.meta`. */
function importedAt(tokens: readonly string[], at: number): string | null {
  const next = tokens[at + 1];
  if (next === '(') return literal(tokens[at + 2]);
  if (next === '.') return null;
  return literal(next) ?? fromClause(tokens, at + 1);
}

/** `export … from 'x'`: only `*` and `{` can begin one, after an optional `type`. */
function reExportedAt(tokens: readonly string[], at: number): string | null {
  const start = tokens[at + 1] === 'type' ? at + 2 : at + 1;
  return tokens[start] === '*' || tokens[start] === '{' ? fromClause(tokens, start) : null;
}

/** The literal after the next `from`, if nothing comes between that cannot stand in an import clause. */
function fromClause(tokens: readonly string[], start: number): string | null {
  for (let i = start; i < tokens.length; i++) {
    const text = tokens[i] as string;
    const after = tokens[i + 1];
    // A binding may itself be called `from`: only one that a literal follows ends the clause.
    if (text === 'from' && after !== undefined && literal(after) !== null) return literal(after);
    if (!/^([\w$]+|[{},*])$/.test(text) && literal(text) === null) return null;
  }
  return null;
}

function literal(token: string | undefined): string | null {
  return token !== undefined && /^['"]/.test(token) ? token.slice(1, -1) : null;
}

const WORD = /[\w$]+/y;
const REGEX = /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/y;
/** After one of these a slash divides; anywhere else it begins a regular expression. */
const OPERAND_END = /^(?:[\w$]+|\)|\]|\}|['"`].*)$/s;
const KEYWORD_BEFORE_REGEX = /^(?:return|typeof|case|in|of|void|delete|throw|new|else|do)$/;

function tokenize(source: string): readonly string[] {
  const tokens: string[] = [];
  let at = 0;
  /** How many `{` are open in each template substitution that is being read. */
  const substitutions: number[] = [];
  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0] ?? null;
  };
  while (at < source.length) {
    const char = source[at] as string;
    if (source.startsWith('//', at)) { at = endOf(source, '\n', at); continue; }
    if (source.startsWith('/*', at)) { at = endOf(source, '*/', at + 2); continue; }
    if (/\s/.test(char)) { at++; continue; }
    const depth = substitutions.at(-1);
    if (char === '}' && depth === 0) {
      substitutions.pop();
      at = template(source, at + 1, substitutions);
      continue;
    }
    if (depth !== undefined && char === '{') substitutions[substitutions.length - 1] = depth + 1;
    if (depth !== undefined && char === '}') substitutions[substitutions.length - 1] = depth - 1;
    if (char === '`') { tokens.push('``'); at = template(source, at + 1, substitutions); continue; }
    const last = tokens.at(-1) ?? ';';
    const dividing = OPERAND_END.test(last) && !KEYWORD_BEFORE_REGEX.test(last);
    const token = char === "'" || char === '"' ? quoted(source, at) : ((char === '/' && !dividing ? match(REGEX) : match(WORD)) ?? char);
    tokens.push(token);
    at += token.length;
  }
  return tokens;
}

/** The position after `end`, searched from `from`. */
function endOf(source: string, end: string, from: number): number {
  const at = source.indexOf(end, from);
  return at === -1 ? source.length : at + end.length;
}

function quoted(source: string, start: number): string {
  let at = start + 1;
  while (at < source.length && source[at] !== source[start]) at += source[at] === '\\' ? 2 : 1;
  return source.slice(start, at + 1);
}

/** Reads a template's text up to its end, or into its next substitution; returns where to go on. */
function template(source: string, start: number, substitutions: number[]): number {
  let at = start;
  while (at < source.length) {
    if (source[at] === '`') return at + 1;
    if (source.startsWith('${', at)) {
      substitutions.push(0);
      return at + 2;
    }
    at += source[at] === '\\' ? 2 : 1;
  }
  return at;
}
